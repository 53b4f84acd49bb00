"""Normal rows: densities by SciPy, evidence and sds by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from tests.models.ascents import climbed
from tests.models.response import responded
from tests.models.test_cavi_models import sweeps
from tests.zoo.models import normal_gamma as zoo
from vi_bench.models.normal import NormalModel
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = NormalModel(mean=0.5, kappa=0.25, a=3.0, b=2.0)


def test_the_density_is_scipys(random):
    x = random.normal(size=20)
    posterior = CAVIPosterior.bound(OWN, {"x": x})
    mu, tau = random.normal(size=100), random.gamma(2.0, size=100)
    joint = jax.jit(jax.vmap(posterior.log_joint))({"mu": mu, "tau": tau})
    expected = (
        stats.norm.logpdf(mu, 0.5, 2.0)
        + stats.gamma.logpdf(tau, 3.0, scale=0.5)
        + stats.norm.logpdf(x[:, None], mu, tau**-0.5).sum(0)
    )
    np.testing.assert_allclose(joint, expected, rtol=1e-9)


def grid(x):
    """Log tau on a grid, and log p(x, log tau), mu integrated out; and its spacing."""
    log_tau = np.linspace(-12, 8, 8001)
    tau = np.exp(log_tau)
    n, mean = len(x), x.mean() if len(x) else 0.0
    precision = OWN.kappa + n * tau
    middle = (OWN.kappa * OWN.mean + n * tau * mean) / precision
    square = ((x - mean) ** 2).sum()
    value = stats.gamma.logpdf(tau, OWN.a, scale=1 / OWN.b) + log_tau
    value += 0.5 * n * (log_tau - np.log(2 * np.pi)) - 0.5 * tau * square
    value += 0.5 * (np.log(OWN.kappa) - np.log(precision))
    far = OWN.kappa * OWN.mean**2 + n * tau * mean**2 - precision * middle**2
    return log_tau, value - 0.5 * far, middle, precision


def log_evidence(x):
    log_tau, value, _, _ = grid(x)
    return logsumexp(value) + np.log(log_tau[1] - log_tau[0])


@pytest.mark.parametrize("rows", [1, 2, 12])
def test_the_bound_is_below_the_evidence(rows):
    for seed in range(50):
        data = OWN.example(np.random.default_rng(seed), rows)
        bounds, _ = sweeps(OWN, data, jax.random.key(seed), 40)
        exact = log_evidence(data["x"])
        assert exact - 0.3 < bounds[-1] <= exact + 1e-9 * abs(exact)


def test_no_rows_give_the_prior():
    bounds, q = sweeps(OWN, {"x": np.zeros(0)}, jax.random.key(0), 3)
    np.testing.assert_allclose(bounds[-1], 0, atol=1e-12)
    np.testing.assert_allclose(q["mu"].mean(), 0.5)
    np.testing.assert_allclose(q["tau"].mean(), 1.5)


def test_rows_far_from_zero_lose_nothing():
    x = np.random.default_rng(0).normal(size=25)
    near, far = (NormalModel(mean=m, kappa=0.25, a=3.0, b=2.0) for m in (0.0, 1e6))
    ends = [
        sweeps(own, {"x": x + own.mean}, jax.random.key(0), 60)[0][-1]
        for own in (near, far)
    ]
    np.testing.assert_allclose(*ends, atol=1e-7)


def test_it_ends_where_an_independent_fit_ends():
    data = zoo.data(2)
    fit = zoo.Right()(**data, seed=0)
    own = NormalModel(mean=zoo.M0, kappa=zoo.K0, a=zoo.A0, b=zoo.B0)
    bounds, q = sweeps(own, data, jax.random.key(0), 100)
    np.testing.assert_allclose(bounds[-1], fit["elbo"][-1], atol=1e-9)
    np.testing.assert_allclose(q["mu"].mean(), fit["q"]["mu"].mean, rtol=1e-6)
    np.testing.assert_allclose(q["tau"].rate, fit["q"]["tau"].rate, rtol=1e-6)


@pytest.mark.slow
def test_linear_response_has_the_sds_of_quadrature():
    """So has q: with many rows mean and precision are nearly independent."""
    x = np.random.default_rng(1).normal(1.0, 2.0, 1000)
    _, sds, own = responded(OWN, {"x": x}, ("mu", "log_tau"))
    log_tau, value, middle, precision = grid(x)
    weight = np.exp(value - logsumexp(value))
    mean = weight @ middle
    of_mu = np.sqrt(weight @ (1 / precision + (middle - mean) ** 2))
    of_log_tau = np.sqrt(weight @ (log_tau - weight @ log_tau) ** 2)
    np.testing.assert_allclose(sds["mu[0]"], of_mu, rtol=3e-3)
    np.testing.assert_allclose(sds["log_tau[0]"], of_log_tau, rtol=3e-3)
    assert own["mu[0]"] <= sds["mu[0]"] * (1 + 1e-9)


def test_single_precision_stays_single():
    with jax.enable_x64(False):
        x = jnp.ones(5, jnp.float32)
        _, q = sweeps(OWN, {"x": x}, jax.random.key(0), 3)
    assert q["mu"].shift.dtype == jnp.float32


def test_starts_reach_the_optimum_near_a_prior_mean_that_is_far():
    """Ten rows at 2000, prior mean 0 of sd 100: the wide one is 100 nats higher."""
    own = NormalModel(kappa=1e-4)
    data = {"x": 2000 + np.random.default_rng(1).normal(size=10)}
    bounds = [climbed(own, data, jax.random.key(k), 200)[1] for k in range(20)]
    assert max(bounds) == pytest.approx(-105.1008, abs=1e-3)
    assert min(bounds) < -200  # and the other one, too
