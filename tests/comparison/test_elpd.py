import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.stats import norm

from vi_bench.comparison.elpd import difference, held_out, psis_loo

PRIOR = 10.0**2


def posterior(x):
    """Of the mean of N(mean, 1) rows under N(0, 100): mean and variance."""
    variance = 1 / (1 / PRIOR + len(x))
    return variance * x.sum(), variance


def leave_one_out(x):
    each = [posterior(np.delete(x, i)) for i in range(len(x))]
    return np.array(
        [norm.logpdf(y, m, np.sqrt(v + 1)) for y, (m, v) in zip(x, each, strict=True)]
    )


def case(random, scale=1.0, shape=(4, 1000)):
    """30 rows, draws of N(m, scale^2 v), and the posterior's density at each."""
    x = random.normal(size=30) + 1
    mean, variance = posterior(x)
    theta = mean + scale * np.sqrt(variance) * random.normal(size=shape)
    log_w = norm.logpdf(theta, mean, np.sqrt(variance)) - norm.logpdf(
        theta, mean, scale * np.sqrt(variance)
    )
    return x, norm.logpdf(x, theta[..., None], 1), log_w


def test_leave_one_out_is_that_of_the_conjugate_model(random):
    """Within 4.5 Monte-Carlo errors, 7e-6 a number; p_loo is about 1."""
    x, log_lik, _ = case(random)
    found = psis_loo(log_lik)
    truth = leave_one_out(x)
    assert found.mc_error < 0.05
    assert abs(found.total.value - truth.sum()) < 4.5 * found.mc_error
    np.testing.assert_allclose(found.points, truth, atol=4.5 * found.mc_error)
    assert found.total.se == pytest.approx(np.sqrt(30) * truth.std(ddof=1), rel=0.05)
    assert found.worst_khat < 0.5
    mean, variance = posterior(x)
    seen = norm.logpdf(x, mean, np.sqrt(variance + 1)).sum()
    assert found.p_loo == pytest.approx(seen - truth.sum(), abs=0.05)


def test_leave_one_out_is_arviz_s(random):
    """The same numbers, as draws of the posterior and as draws of a q."""
    _, log_lik, log_w = case(random, 0.9)
    axes = {"chain_axis": 0, "draw_axis": 1}
    points, khat, p_loo = array_stats.loo(log_lik, **axes)
    found = psis_loo(log_lik, np.zeros_like(log_w))
    np.testing.assert_allclose(found.points, points, rtol=1e-10)
    np.testing.assert_allclose(found.khat, khat, rtol=1e-8)
    assert found.p_loo == pytest.approx(p_loo.sum())
    each = np.broadcast_to(log_w[..., None], log_lik.shape)
    points, khat, _ = array_stats.loo_approximate_posterior(
        log_lik, each, np.zeros_like(log_lik), **axes
    )
    found = psis_loo(log_lik, log_w)
    np.testing.assert_allclose(found.points, points, rtol=1e-10)
    np.testing.assert_allclose(found.khat, khat, rtol=1e-8)


def test_draws_of_a_q_are_weighted_to_the_posterior(random):
    x, log_lik, log_w = case(random, 0.7, (4, 4000))
    truth = leave_one_out(x).sum()
    corrected = psis_loo(log_lik, log_w)
    assert corrected.worst_khat < 0.7
    assert corrected.mc_error < 0.03
    assert abs(corrected.total.value - truth) < 4.5 * corrected.mc_error
    w = np.exp(log_w)[..., None]
    seen = np.log((w * np.exp(log_lik)).sum((0, 1)) / w.sum()).sum()
    assert corrected.p_loo == pytest.approx(seen - corrected.total.value)
    plain = psis_loo(log_lik)
    assert plain.total.value - truth > 4.5 * plain.mc_error


def test_held_out_rows_have_the_predictive_density(random):
    x, log_lik, _ = case(random)
    mean, variance = posterior(x)
    truth = norm.logpdf(x, mean, np.sqrt(variance + 1))
    found = held_out(log_lik)
    assert found.mc_error < 0.02
    assert abs(found.total.value - truth.sum()) < 4.5 * found.mc_error
    assert found.khat is None
    assert np.isnan(found.worst_khat)
    assert found.total.se == pytest.approx(np.sqrt(30) * truth.std(ddof=1), rel=0.05)


@pytest.mark.slow
def test_monte_carlo_errors_are_the_spread_over_repetitions(random):
    """The sd of 150 values is known to 5.8 %: 4.5 of that, and the errors' own."""
    x = case(random)[0][:8]
    mean, variance = posterior(x)
    rows = []
    for _ in range(150):
        theta = mean + np.sqrt(variance) * random.normal(size=(2, 250, 1))
        log_lik = norm.logpdf(x, theta, 1)
        rows.append([psis_loo(log_lik), held_out(log_lik)])
    value = np.array([[e.total.value for e in row] for row in rows])
    stated = np.array([[e.mc_error for e in row] for row in rows])
    ratio = value.std(axis=0) / np.sqrt((stated**2).mean(axis=0))
    np.testing.assert_allclose(ratio, 1, atol=0.3)


def test_a_difference_is_paired(random):
    _, log_lik, _ = case(random)
    one, other = held_out(log_lik), held_out(log_lik - 0.1)
    found = difference(one, other)
    assert found.value == pytest.approx(3.0)
    assert found.se == pytest.approx(0, abs=1e-9)
    by_hand = difference(one, psis_loo(log_lik))
    apart = one.points - psis_loo(log_lik).points
    assert by_hand.se == pytest.approx(np.sqrt(30) * apart.std(ddof=1))
    with pytest.raises(ValueError, match="30 rows against 29"):
        difference(one, held_out(log_lik[..., 1:]))


def test_rows_that_theta_does_not_touch_and_rows_that_a_draw_rules_out(random):
    _, log_lik, _ = case(random)
    log_lik = log_lik[..., :3].copy()
    log_lik[..., 0] = -2.0
    found = psis_loo(log_lik)
    assert found.points[0] == pytest.approx(-2.0)
    assert np.isnan(found.khat[0])
    assert np.isfinite(found.worst_khat)
    log_lik[1, 5, 1] = -np.inf
    found = psis_loo(log_lik)
    assert np.isnan([found.points[1], found.total.value, found.mc_error]).all()
    assert np.isinf(found.worst_khat)
    assert np.isfinite(held_out(log_lik).total.value)
    log_lik[..., 1] = -np.inf
    never = held_out(log_lik)
    assert never.total.value == -np.inf
    assert np.isnan(never.mc_error)
    constant = psis_loo(np.full((2, 100, 2), -1.0))
    assert np.isnan(constant.worst_khat)
    assert constant.mc_error == 0
