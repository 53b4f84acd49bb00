"""Regression with ARD: SciPy's densities, evidence in closed form and by quadrature."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from tests.models.response import responded
from tests.models.test_cavi_models import sweeps
from tests.zoo.models import linear_ard as zoo
from vi_bench.models.linear_regression import LinearRegression
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = LinearRegression(a=2.0, b=1.0, c=3.0, d=2.0)


def test_the_density_is_scipys(random):
    data = OWN.example(random, 15)
    x, y = data["x"], data["y"]
    w = random.normal(size=(100, 3))
    alpha, tau = random.gamma(2.0, size=(100, 3)), random.gamma(2.0, size=100)
    posterior = CAVIPosterior.bound(OWN, data)
    joint = jax.jit(jax.vmap(posterior.log_joint))({"w": w, "alpha": alpha, "tau": tau})
    expected = (
        stats.gamma.logpdf(alpha, 2.0).sum(1)
        + stats.norm.logpdf(w, 0, alpha**-0.5).sum(1)
        + stats.gamma.logpdf(tau, 3.0, scale=0.5)
        + stats.norm.logpdf(y, w @ x.T, tau[:, None] ** -0.5).sum(1)
    )
    np.testing.assert_allclose(joint, expected, rtol=1e-9)


def test_with_known_precisions_it_is_exact(random):
    """Priors of the precisions that are points, nearly; then p(y) is a Gaussian."""
    sure = 1e9
    own = LinearRegression(a=2 * sure, b=sure, c=3 * sure, d=sure)
    data = OWN.example(random, 12)
    x, y = data["x"], data["y"]
    bounds, q = sweeps(own, data, jax.random.key(0), 10)
    covariance = x @ x.T / 2 + np.eye(12) / 3
    exact = stats.multivariate_normal.logpdf(y, np.zeros(12), covariance)
    np.testing.assert_allclose(bounds[-1], exact, atol=1e-5)
    precision = 2 * np.eye(3) + 3 * x.T @ x
    np.testing.assert_allclose(
        q["w"].mean(), np.linalg.solve(precision, 3 * x.T @ y), rtol=1e-6
    )


def log_evidence(x, y):
    """One predictor: w integrated out, quadrature over log alpha and log tau."""
    grids = np.linspace(-9, 6, 301)
    alpha, tau = np.exp(grids)[:, None], np.exp(grids)[None, :]
    n, gram, cross = len(y), x @ x, x @ y
    precision = alpha + tau * gram
    value = stats.gamma.logpdf(alpha, OWN.a, scale=1 / OWN.b) + np.log(alpha)
    value = value + stats.gamma.logpdf(tau, OWN.c, scale=1 / OWN.d) + np.log(tau)
    value += 0.5 * n * np.log(tau / (2 * np.pi)) + 0.5 * np.log(alpha / precision)
    value += -0.5 * tau * (y @ y) + 0.5 * (tau * cross) ** 2 / precision
    return logsumexp(value) + 2 * np.log(grids[1] - grids[0])


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 9])
def test_the_bound_is_below_the_evidence(rows):
    gaps = []
    for seed in range(50):
        data = OWN.example(np.random.default_rng(seed), rows)
        x, y = data["x"][:, :1], data["y"]
        bounds, _ = sweeps(OWN, {"x": x, "y": y}, jax.random.key(seed), 60)
        exact = log_evidence(x[:, 0], y)
        assert bounds[-1] <= exact + 1e-6
        gaps.append(exact - bounds[-1])
    assert np.median(gaps) < 0.2  # it is no empty bound


@pytest.mark.slow
def test_it_ends_where_an_independent_fit_ends():
    data = zoo.data(1)
    fit = zoo.Right()(**data, seed=0)
    own = LinearRegression(a=zoo.C, b=zoo.D, c=zoo.A, d=zoo.B)
    x, y = data["X"], data["y"]
    bounds, q = sweeps(own, {"x": x, "y": y}, jax.random.key(0), 300)
    np.testing.assert_allclose(bounds[-1], fit["elbo"][-1], atol=1e-8)
    np.testing.assert_allclose(q["w"].mean(), fit["q"]["w"].mean, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_numbers_that_differ_in_size_and_equal_columns_are_no_trouble(random):
    x = random.normal(size=(30, 3)) * [1e-3, 1.0, 1e4]
    x = np.c_[x, x[:, 1]]
    y = x[:, 1] + 0.1 * random.normal(size=30)
    bounds, q = sweeps(OWN, {"x": x, "y": y}, jax.random.key(0), 200)
    bounds = np.asarray(bounds)
    assert np.all(np.diff(bounds) > -1e-9 * np.abs(bounds[1:]))
    half = np.asarray(q["w"].mean())
    np.testing.assert_allclose(half[1], half[3], rtol=1e-6)


@pytest.mark.slow
def test_linear_response_has_the_sds_of_quadrature():
    """Against the exact posterior of one predictor, by the grid of the evidence."""
    random = np.random.default_rng(4)
    x = random.normal(size=1000)
    y = 2 * x + random.normal(size=1000)
    _, sds, _ = responded(OWN, {"x": x[:, None], "y": y}, ("w", "log_tau", "log_alpha"))
    grids = np.linspace(-9, 6, 2001)
    alpha, tau = np.exp(grids)[:, None], np.exp(grids)[None, :]
    precision = alpha + tau * (x @ x)
    value = stats.gamma.logpdf(alpha, OWN.a, scale=1 / OWN.b) + np.log(alpha)
    value = value + stats.gamma.logpdf(tau, OWN.c, scale=1 / OWN.d) + np.log(tau)
    value += 500 * np.log(tau) + 0.5 * np.log(alpha / precision)
    value += -0.5 * tau * (y @ y) + 0.5 * (tau * (x @ y)) ** 2 / precision
    weight = np.exp(value - logsumexp(value))
    middle = tau * (x @ y) / precision
    mean = (weight * middle).sum()
    of_w = np.sqrt((weight * (1 / precision + (middle - mean) ** 2)).sum())
    np.testing.assert_allclose(sds["w[0]"], of_w, rtol=5e-3)
    for name, axis in (("log_alpha[0]", 1), ("log_tau[0]", 0)):
        marginal = weight.sum(axis=axis)
        middle = marginal @ grids
        sd = np.sqrt(marginal @ (grids - middle) ** 2)
        np.testing.assert_allclose(sds[name], sd, rtol=5e-3)
