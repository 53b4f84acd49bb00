import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from tests.marks import slow
from vi_bench.comparison.measures import (
    distance,
    error_of_mean,
    split_half,
    summarise,
    wasserstein,
)


def autoregressive(random, phi, shape=(4, 1000)):
    noise = random.normal(size=shape)
    out = np.empty(shape)
    out[:, 0] = noise[:, 0]
    for t in range(1, shape[1]):
        out[:, t] = phi * out[:, t - 1] + np.sqrt(1 - phi**2) * noise[:, t]
    return out


def test_a_shift_and_a_scale_are_measured(random):
    reference = random.normal(size=(4, 2000))
    draws = 0.5 + 2 * random.normal(size=(4, 2000))
    d = distance(draws, summarise(draws), reference, summarise(reference))
    assert abs(d.mean_difference.value - 0.5) < 5 * d.mean_difference.se
    assert abs(d.sd_ratio.value - 2) < 5 * d.sd_ratio.se
    expected = wasserstein_distance(draws.ravel(), reference.ravel())
    assert d.w1.value == pytest.approx(expected / reference.std(ddof=1))
    assert d.w1_floor < 0.05 < d.w1.value


def test_units_do_not_matter(random):
    a, b = random.normal(size=(2, 4, 500))
    one = distance(a, summarise(a), b, summarise(b))
    x, y = 1e6 * a + 3e7, 1e6 * b + 3e7
    other = distance(x, summarise(x), y, summarise(y))
    for name in ("mean_difference", "sd_ratio", "w1"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.value == pytest.approx(right.value, rel=1e-6)
        assert left.se == pytest.approx(right.se, rel=1e-6)


def test_a_constant_is_known_exactly_and_compares_to_nothing():
    constant = np.full((2, 10), 3.0)
    summary = summarise(constant)
    assert (summary.mean.value, summary.mean.se) == (3.0, 0.0)
    d = distance(constant, summary, constant, summary)
    assert np.isnan(d.mean_difference.value)


@pytest.mark.parametrize(
    ("phi", "shift"), [(0.7, 1.0), slow(0.7, 0.3), slow(0.0, 1.0), slow(0.0, 0.3)]
)
def test_the_standard_errors_are_right(phi, shift, random):
    """Over repetitions the spread of each estimate equals its stated error.

    The sd of 150 values is known to 5.8 %; autocorrelated draws are allowed another
    10 % for the estimate of their ESS: false alarm under 1e-4 at the 30 % band.
    """
    found = {"mean_difference": [], "sd_ratio": [], "w1": []}
    for _ in range(150):
        a = shift + 1.5 * autoregressive(random, phi, (2, 400))
        b = autoregressive(random, phi, (2, 400))
        d = distance(a, summarise(a), b, summarise(b))
        for name in found:
            found[name].append(getattr(d, name))
    for name, estimates in found.items():
        spread = np.std([e.value for e in estimates])
        stated = np.sqrt(np.mean([e.se**2 for e in estimates]))
        assert spread / stated == pytest.approx(1, abs=0.3), name


def test_the_split_half_floor_is_the_noise_of_equal_samples(random):
    floors, noise = [], []
    for _ in range(60):
        a, b = random.normal(size=(2, 4, 250))
        floors.append(split_half(a))
        noise.append(wasserstein(a, b).value)
    assert np.mean(floors) == pytest.approx(np.mean(noise), rel=0.15)
    assert split_half(random.normal(size=(1, 1000))) > 0


def test_w1_of_draws_with_ties(random):
    """H, of which the error is made, is the integral of sign(F - G) up to a value."""
    a = random.integers(6, size=(2, 300)).astype(float)
    b = random.integers(8, size=(3, 200)).astype(float)
    found = wasserstein(a, b)
    assert found.value == pytest.approx(wasserstein_distance(a.flat, b.flat), rel=1e-12)
    below = [(v.ravel() <= np.arange(8)[:, None]).mean(axis=1) for v in (a, b)]
    influence = np.r_[0, np.cumsum(np.sign(below[0] - below[1]))[:-1]]
    errors = [error_of_mean(influence[v.astype(int)]) for v in (a, b)]
    assert found.se == pytest.approx(np.hypot(*errors), rel=1e-12)
    same = wasserstein(a, a[:, ::-1])
    assert (same.value, same.se) == (0, 0)


def test_a_quantile_among_copies_of_one_draw_has_an_error(random):
    """Resampling makes copies: here of the draw at the quantile, in all runs."""
    draws = random.normal(size=(16, 250))
    order = np.argsort(draws, axis=None)
    draws.flat[order[3750:3850]] = draws.flat[order[3800]]
    found = summarise(draws).tails[1]
    assert found.value == draws.flat[order[3800]]
    spread = np.quantile(draws, 0.95, axis=1).std(ddof=1) / 4
    assert found.se == pytest.approx(spread)
    # p (1 - p) / N f(x)^2, of as many independent draws
    true = np.sqrt(0.95 * 0.05 / 4000) / 0.1031
    assert 0.4 * true < found.se < 2.5 * true
    assert summarise(np.sign(draws)).tails[1].se == 0  # it is 1 in every run
