"""DADVI: exact for a normal posterior, and its own error is right for others."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from scipy.optimize import minimize
from scipy.special import gammaln

from tests.compiled import driven
from tests.marks import slow
from vi_bench.contract import Problem
from vi_bench.errors import NotApplicable
from vi_bench.methods.batch_and_match import BatchAndMatch
from vi_bench.methods.dadvi import DADVI
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior

ROOT = np.random.default_rng(0).normal(size=(3, 3))
COVARIANCE = ROOT @ ROOT.T + 0.3 * np.eye(3)


def correlated(y):
    theta = numpyro.sample(
        "theta", dist.MultivariateNormal(jnp.arange(3.0), COVARIANCE)
    )
    numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def counts(y):
    """The log of the rate is normal, so that ADVI's optimum is in closed form."""
    log_rate = numpyro.sample("log_rate", dist.Normal(0.0, 2.0))
    numpyro.sample("y", dist.Poisson(jnp.exp(log_rate)).expand([len(y)]), obs=y)


@pytest.mark.parametrize("pairs", [2, slow(30)])
def test_a_normal_posterior_is_exact_however_few_draws(pairs):
    y = np.array([1.0, -2.0, 3.0])
    posterior = NumPyroPosterior.of(correlated, y)
    method = DADVI(pairs=pairs)
    draws = driven(method, posterior, 4, 500, seed=1)
    precision = np.linalg.inv(COVARIANCE) + np.eye(3)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.linalg.solve(COVARIANCE, np.arange(3.0)) + y)
    q = draws.variational
    np.testing.assert_allclose(q["location"], mean, atol=1e-6)
    np.testing.assert_allclose(q["covariance"], covariance, rtol=1e-6)
    assert float(draws.report.mean_error) < 1e-12
    assert method.outcome(jax.tree.map(np.asarray, draws)).converged
    # log p - log q is the evidence at every draw
    assert float(draws.report.bound_se) < 1e-8


Y = np.array([0, 1, 0, 2])


def optimum():
    """The best normal for `counts`: its mean and sd, from the ELBO in closed form."""

    def lost(at):
        m, v = at[0], np.exp(2 * at[1])
        rows = Y.sum() * m - len(Y) * np.exp(m + v / 2) - gammaln(Y + 1).sum()
        return -(rows - (m**2 + v) / 8 + at[1])

    m, log_sd = minimize(lost, [0.0, -1.0], tol=1e-12).x
    return m, np.exp(log_sd)


@pytest.mark.slow
def test_the_error_that_fixed_draws_leave_is_as_stated():
    """Over 200 sets of draws z-scores have variance 1, in the limit of many draws.

    Their gradients have heavy tails: it is 2.9 at 30 pairs, 1.8 at 200, 1.3 at 2000.
    The mean of 200 squares has sd 0.1: beyond 0.6 to 1.4 once in ten thousand.
    """
    posterior = NumPyroPosterior.of(counts, Y)
    method = DADVI(pairs=10_000, starts=1)
    mean, sd = optimum()

    @jax.jit
    def off(key):
        fit = method._fit(key, posterior)
        at = fit.peak.position
        return jnp.stack([at[0] - mean, at[1] - jnp.log(sd)]) / fit.error

    z = np.asarray(jax.lax.map(off, jax.random.split(jax.random.key(2), 200)))
    for column in z.T:
        assert 0.6 < np.mean(column**2) < 1.4
        assert abs(column.mean()) < 4 / np.sqrt(200)


@pytest.mark.slow
def test_few_draws_are_suspected():
    posterior = NumPyroPosterior.of(counts, Y)
    method = DADVI(pairs=3, covariance="mean-field")
    draws = jax.tree.map(np.asarray, driven(method, posterior, 4, 500))
    assert draws.variational["covariance"] == draws.variational["spread"] ** 2
    found = method.outcome(draws)
    assert found.status == "suspect"
    assert "raise pairs" in found.sentence


@pytest.mark.parametrize(
    ("method", "said"), [(DADVI(), "2 x 501"), (BatchAndMatch(), "501 parameters")]
)
def test_a_matrix_that_is_too_large_is_refused(method, said):
    def many(y):
        numpyro.sample("theta", dist.Normal(0, 1).expand([501]).to_event(1))
        numpyro.sample("y", dist.Normal(0, 1), obs=y)

    posterior = NumPyroPosterior.of(many, 0.0)
    with pytest.raises(NotApplicable, match=said):
        method.prepare(Problem(posterior, 4, 100), jax.random.key(0))
