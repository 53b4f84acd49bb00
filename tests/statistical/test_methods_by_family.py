"""Every method on every family, as a user runs them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.compiled import ascent
from tests.contract.cases import CASES
from vi_bench.mixture.mixture import bind

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

METHODS = {
    "cavi": {"restarts": 30},
    "mean-field": {"method": "svi", "guide": "mean-field", "steps": 2000},
    "full-rank": {"method": "svi", "guide": "full-rank", "steps": 2000},
    "same-family": {"method": "svi", "guide": "same-family", "steps": 12_000},
    "nuts": {"warmup": 300},
}


@pytest.mark.parametrize("name", CASES)
def test_every_method_finishes_and_the_bounds_rank(name):
    """Labels in q <= summed out; `same-family` is CAVI by gradients, so no higher.

    Five standard errors on each side: false alarms under 1e-5 in all.
    """
    case = CASES[name]
    x = case.rows(np.random.default_rng(9), 60)
    result = vb.run(
        case.family, x, METHODS, weights="dirichlet", components=2, repeats=1
    )
    for label, run in result.runs.items():
        good = ("converged", "sampled", "suspect", "iteration limit")
        assert run.outcome.status in good, (label, run.outcome, run.error)
    cavi, _ = result.runs["cavi"].bound()
    same, error = result.runs["same-family"].bound()
    assert same <= cavi + 5 * error
    # it follows one path, into an optimum, which may be a poor one: sweeps stay there
    logits = result.runs["same-family"].draws.variational["assignment_logits"]
    mixture = bind(result.family, x, 2, jnp.float64, result.spec.mixing())
    swept = ascent(mixture, jax.nn.softmax(logits), 500, 1e-10)
    assert abs(same - swept.bound) < 0.1 + 5 * error
    summed, summed_error = result.runs["cavi"].marginal_bound()
    assert cavi <= summed + 5 * summed_error
    found = result.comparison
    assert found is not None
    assert np.isfinite(found.min_ess("nuts"))
    tree = result.posterior["nuts"]["posterior"]
    for parameter, dims in result.family.dims.items():
        assert tree[parameter].dims == ("chain", "draw", *dims)
    np.testing.assert_allclose(tree["weight"].sum("component"), 1.0)
    assert np.all(np.isfinite(result.log_density("nuts", x[:5])))
    assert result.predict("cavi", 50).values.shape == (50, x.shape[1])
