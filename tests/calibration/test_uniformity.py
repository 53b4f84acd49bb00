"""Uniform or not: exactly, against ArviZ, by hand, and the false-alarm rate."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from arviz_stats.ecdf_utils import ecdf_pit
from scipy.stats import binom, norm

from tests.marks import slow
from vi_bench.calibration.band import (
    POWER,
    _critical,
    _inside,
    band,
    band_p,
    chance,
    ecdf,
    finds,
    grid,
    least_p,
    leaving,
)
from vi_bench.calibration.calibration import asymmetries
from vi_bench.calibration.uniformity import covered, decides, judge, kept


def test_the_band_is_arvizs(random):
    """Theirs is simulated: the pointwise level differs by that, the count by one."""
    u = random.random(150)
    points, theirs, low, high = ecdf_pit(u, 0.95, 2000)
    np.testing.assert_allclose(points[1:-1], grid(150))
    np.testing.assert_allclose(ecdf(u), theirs[1:-1])
    ours = band(150, 0.05)
    np.testing.assert_allclose(ours[0], low[1:-1], atol=1.5 / 150)
    np.testing.assert_allclose(ours[1], high[1:-1], atol=1.5 / 150)


def extremity(cells, points):
    """The least binomial tail of n numbers in cells, as a fraction."""
    n, least = len(cells), Fraction(1)
    for j in range(1, points):
        z, below = Fraction(j, points), sum(cell < j for cell in cells)
        mass = [comb(n, b) * z**b * (1 - z) ** (n - b) for b in range(n + 1)]
        least = min(least, sum(mass[: below + 1]), sum(mass[below:]))
    return least


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_p_is_that_of_all_ways_to_put_few_numbers_into_the_cells(n):
    points = len(grid(n)) + 1
    ways = list(itertools.product(range(points), repeat=n))
    known = [extremity(cells, points) for cells in ways]
    for cells, own in zip(ways, known, strict=True):
        u = (np.array(cells) + 0.5) / points
        exact = float(Fraction(sum(k <= own for k in known), len(known)))
        assert band_p(u) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("n", [100, 500])
def test_p_is_that_of_simulated_numbers(random, n, level):
    """10000 samples, within 4.5 standard errors."""
    low, high = _inside(n, _critical(n, level))
    out = 0
    for _ in range(10):
        cells = random.multinomial(n, np.full(len(low) + 1, 1 / (len(low) + 1)), 1000)
        below = np.cumsum(cells, axis=1)[:, :-1]
        out += np.sum(np.any((below < low) | (below > high), axis=1))
    p = chance(n, _critical(n, level))
    assert 0.9 * level < p <= level
    assert abs(out / 10_000 - p) < 4.5 * np.sqrt(p * (1 - p) / 10_000)


@pytest.mark.parametrize("level", [0.6, 0.05, 1e-6])
def test_what_stays_inside_is_the_rest(level):
    """By Binomial transitions from point to point, without the Poisson numbers."""
    n = 40
    low, high = _inside(n, _critical(n, level))
    before, mass = np.array([0]), np.ones(1)
    for j, (first, last) in enumerate(zip(low, high, strict=True)):
        after = np.arange(first, last + 1)
        left = len(low) + 1 - j
        steps = binom.pmf(after - before[:, None], n - before[:, None], 1 / left)
        before, mass = after, mass @ steps
    cells = np.full(len(low) + 1, 1 / (len(low) + 1))
    assert leaving(n, low, high, cells) + mass.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("at", [slow(0.0), 1.0])
def test_no_number_of_quantities_hides_a_truth_that_lies_outside(random, at):
    pits = {str(i): random.random(500) for i in range(300)} | {"lost": np.full(500, at)}
    assert band_p(pits["lost"]) < 1e-50
    rows = judge(pits, 0.001)
    assert [name for name, row in rows.items() if not row.uniform] == ["lost"]


def test_intervals_that_hold_the_truth_too_seldom_are_seen_in_many_quantities(random):
    """A dispersion of 1.6 in all of 101: 95 % intervals that hold 78 %."""
    pits = {str(i): norm.cdf(1.6 * random.normal(size=500)) for i in range(101)}
    rows = judge(pits, 0.001)
    assert np.mean([row.coverage[0.95].value for row in rows.values()]) < 0.8
    assert not any(row.uniform for row in rows.values())


@pytest.mark.parametrize("level", [0.05, 1e-9])
def test_a_path_is_outside_the_band_where_its_p_value_is_small(random, level):
    low, high = band(150, level)
    assert np.all((low >= 0) & (low < high) & (high <= 1))
    for power in np.linspace(0.4, 1.6, 121):
        u = random.random(150) ** power
        inside = np.all((ecdf(u) >= low) & (ecdf(u) <= high))
        assert inside == (band_p(u) > level)


def test_a_level_that_no_sample_reaches_has_no_band():
    assert least_p(2) == pytest.approx(0.5)
    low, high = band(2, 0.4)
    assert low.tolist() == [0.0]
    assert high.tolist() == [1.0]


def test_its_false_alarm_rate(random):
    """5 % of 2000 samples, within 4.5 standard errors."""
    p = np.array([band_p(random.random(100)) for _ in range(2000)])
    assert abs(np.mean(p <= 0.05) - 0.05) < 4.5 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
def test_the_dispersion_that_is_found_is_found_as_often(random):
    """2000 samples; it is rounded up by 1 %, so that the rate is POWER or more."""
    dispersion = finds(200, 0.01)
    scores = dispersion * random.normal(size=(2000, 200))
    found = np.mean([band_p(norm.cdf(s)) <= 0.01 for s in scores])
    error = np.sqrt(POWER * (1 - POWER) / 2000)
    assert POWER - 4.5 * error < found < POWER + 0.02 + 4.5 * error
    assert finds(50, 0.01) > dispersion > finds(800, 0.01) > 1
    assert finds(3, 1e-9) == np.inf


def test_what_is_no_number_passes_no_test():
    with pytest.raises(ValueError, match="x: a PIT is not a number from 0 to 1"):
        judge({"x": np.array([0.5] * 30 + [np.nan])}, 0.01)
    assert kept({"a": 0.5, "b": np.nan}, 0.01) == {"a": True, "b": False}


def test_a_test_decides_where_its_least_p_value_can_be_rejected():
    assert decides(0.001, 10, 0.01)
    assert not decides(0.001, 11, 0.01)


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
