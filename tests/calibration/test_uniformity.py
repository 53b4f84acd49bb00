"""Uniform or not: against ArviZ, by hand, and the false-alarm rate."""

import numpy as np
import pytest
from arviz_stats.ecdf_utils import ecdf_pit
from scipy.stats import norm

from vi_bench.calibration.calibration import asymmetries
from vi_bench.calibration.uniformity import band, band_p, covered, ecdf, grid, judge


def test_the_band_is_arvizs(random):
    """Both are simulated: the pointwise level differs by that, the count by one."""
    u = random.random(150)
    points, theirs, low, high = ecdf_pit(u, 0.95, 2000)
    np.testing.assert_allclose(points[1:-1], grid(150))
    np.testing.assert_allclose(ecdf(u), theirs[1:-1])
    ours = band(150, 0.05)
    np.testing.assert_allclose(ours[0], low[1:-1], atol=1.5 / 150)
    np.testing.assert_allclose(ours[1], high[1:-1], atol=1.5 / 150)


def test_a_path_is_outside_the_band_where_its_p_value_is_small(random):
    for power in np.linspace(0.6, 1.4, 41):
        u = random.random(150) ** power
        low, high = band(150, 0.05)
        inside = np.all((ecdf(u) >= low) & (ecdf(u) <= high))
        if inside != (band_p(u) > 0.05):  # the band is made of whole counts
            assert 0.02 < band_p(u) < 0.11


def test_its_false_alarm_rate(random):
    """5 % of 2000 samples, within 4.5 standard errors."""
    p = np.array([band_p(random.random(100)) for _ in range(2000)])
    assert abs(np.mean(p <= 0.05) - 0.05) < 4.5 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("factor", "shift"), [(1.4, 0.0), (0.7, 0.0), (1.0, 0.3)])
def test_it_says_how_a_posterior_is_wrong(random, factor, shift):
    scores = factor * random.normal(size=2000) + shift
    row = judge({"x": norm.cdf(scores)}, 0.01)["x"]
    assert not row.uniform
    assert row.dispersion == pytest.approx(scores.std(ddof=1))
    assert abs(row.dispersion - factor) < 4.5 * row.dispersion_se
    assert row.dispersion_se == pytest.approx(factor / np.sqrt(4000), rel=0.15)
    assert abs(row.shift - shift) < 4.5 * row.shift_se


def test_coverage_by_hand():
    share = covered(np.array([0.01, 0.2, 0.26, 0.5, 0.74, 0.8]), 0.5)
    assert share.value == 0.5
    assert share.low == pytest.approx(0.1876, abs=1e-4)  # Wilson's, 3 of 6
    assert share.high == pytest.approx(0.8124, abs=1e-4)


def test_components_drawn_together_are_seen_by_their_rank(random):
    """q's components lie too close; labels are random, so pooled p are symmetric."""
    sims, gap = 400, 3.0
    truth = np.array([-gap, gap]) + random.normal(size=(sims, 2))
    q = 0.8 * np.array([-gap, gap]) + np.zeros((sims, 2))
    swapped = random.random(sims) < 0.5
    truth[swapped] = truth[swapped, ::-1]
    p = norm.cdf(truth[:, :, None] - q[:, None, :])[:, None]
    cost = (truth[:, :, None] - q[:, None, :]) ** 2
    found = asymmetries(p, q[:, None], cost, ["mu"], 0.01)
    assert found["mu 1"].shift < -0.1
    assert found["mu 2"].shift > 0.1
    assert not found["mu 1"].symmetric
    assert not found["mu 2"].symmetric
    np.testing.assert_allclose(
        np.sort(found["mu 1"].p), np.sort(norm.cdf(truth.min(axis=1) - q[:, 0]))
    )
