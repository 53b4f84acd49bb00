"""Batch and match: its step solves its equation, and a normal posterior is found."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

from tests.compiled import driven
from vi_bench.contract import Draws
from vi_bench.methods.batch_and_match import (
    BatchAndMatch,
    BatchAndMatchReport,
    divergence,
    matched,
)
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior


def spread(random, size):
    root = random.normal(size=(size, size))
    return root @ root.T + 0.3 * np.eye(size)


def test_a_step_solves_its_equation(random):
    """S' U S' + S' = V (Cai et al. 2024, equation 10), with U and V of their text."""
    size, number, strength = 3, 5, 2.5
    mean, covariance = random.normal(size=size), spread(random, size)
    draws = random.normal(size=(number, size))
    scores = random.normal(size=(number, size))
    found, new = matched(*map(jnp.asarray, (mean, covariance, draws, scores)), strength)
    z, g, share = draws.mean(0), scores.mean(0), strength / (1 + strength)
    c, gamma = np.cov(draws.T, bias=True), np.cov(scores.T, bias=True)
    u = strength * gamma + share * np.outer(g, g)
    v = covariance + strength * c + share * np.outer(mean - z, mean - z)
    np.testing.assert_allclose(new @ u @ new + new, v, atol=1e-10)
    np.testing.assert_allclose(found, (1 - share) * mean + share * (new @ g + z))


def test_a_step_of_no_strength_stays(random):
    mean, covariance = random.normal(size=2), spread(random, 2)
    draws, scores = random.normal(size=(2, 4, 2))
    found, new = matched(*map(jnp.asarray, (mean, covariance, draws, scores)), 0.0)
    np.testing.assert_allclose(found, mean)
    np.testing.assert_allclose(new, covariance, rtol=1e-12)


def test_the_divergence_is_numpyros(random):
    one, other = spread(random, 3), spread(random, 3)
    near, far = random.normal(size=(2, 3))
    p = dist.MultivariateNormal(near, one)
    wanted = dist.kl_divergence(p, dist.MultivariateNormal(far, other))
    found = divergence(*map(jnp.asarray, (near, one, far, other)))
    assert float(found) == pytest.approx(float(wanted))


def correlated(y, prior):
    shape = dist.MultivariateNormal(jnp.arange(3.0), prior)
    theta = numpyro.sample("theta", shape)
    numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def test_a_normal_posterior_is_found_exactly(random):
    """The scores of q can be those of the posterior, so that no noise is left."""
    y, prior = np.array([1.0, -2.0, 3.0]), spread(random, 3)
    posterior = NumPyroPosterior.of(correlated, y, prior)
    method = BatchAndMatch(steps=300)
    draws = jax.tree.map(np.asarray, driven(method, posterior, 4, 500, seed=1))
    covariance = np.linalg.inv(np.linalg.inv(prior) + np.eye(3))
    mean = covariance @ (np.linalg.solve(prior, np.arange(3.0)) + y)
    np.testing.assert_allclose(draws.variational["location"], mean, atol=1e-4)
    np.testing.assert_allclose(draws.variational["covariance"], covariance, atol=1e-4)
    assert method.outcome(draws).converged
    assert float(draws.report.bound_se) < 1e-4


def test_scores_of_heavy_tails_are_no_convergence():
    one = np.asarray(1.0)
    report = BatchAndMatchReport(
        bound=one,
        bound_se=one,
        iterations=one,
        apart=one,
        apart_se=one,
        refused=0 * one,
    )
    found = BatchAndMatch().outcome(Draws({}, {}, None, {}, report))
    assert found.status == "suspect"
    assert "too heavy tails" in found.sentence
