"""What the built-in experiments are there to show."""

from pathlib import Path

import numpy as np
import pytest

import vi_bench as vb
from benchmarks.designs import corners
from vi_bench.inference.restarts import occupied


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left"), [("faithful-sparse", 2), ("faithful-six", 6)]
)
def test_sparse_weights_leave_two_components_and_heavy_ones_six(name, left):
    """K = 6, unknown covariances: concentration 1e-3 and 10 on Old Faithful."""
    spec = vb.read(name, {"methods": ["cavi"], "draws": 20, "repeats": 1})
    run = vb.launch(spec).runs["cavi"]
    assert run.outcome.converged
    assert occupied(run.draws.report.counts) == left
    weight = run.posterior["weight"].mean(axis=(0, 1))
    assert np.sum(weight > 0.01) == left
    np.testing.assert_allclose(run.draws.report.counts.sum(), 272)


@pytest.mark.slow
def test_galaxies_come_in_three_groups():
    """Chib's (1995) priors; velocities around 10, 21 and 33 thousand km/s."""
    spec = vb.read("galaxies", {"methods": ["cavi"], "draws": 200, "repeats": 1})
    result = vb.launch(spec)
    run = result.runs["cavi"]
    mu = np.sort(run.posterior["mu"].mean(axis=(0, 1)).ravel())
    np.testing.assert_allclose(mu, [9.7, 21.4, 32.7], atol=0.5)
    found = result.summary["methods"]["cavi"]["restarts"]["optima"]
    # splits and merges lead every restart there, also those that began with two groups
    assert [(o["occupied"], o["restarts"]) for o in found] == [(3, 20)]


def test_the_corners_have_two_modes_of_known_probability():
    """Left and right, or top and bottom: 60.05 and 39.95 %, as the pages say."""
    spec = vb.read("corners", {})
    design = corners()
    settings = {"model": spec.model, "components": spec.components}
    assert settings == design.settings
    assert round(design.mass, 4) == 0.6005
    page = Path(__file__).parents[2].joinpath("docs/spec.md").read_text()
    assert f"{design.mass:.4f} that the two means" in page
    assert f"{1 - design.mass:.4f} that they are not" in page
