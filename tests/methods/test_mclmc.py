"""MCLMC: moments of posteriors that are known, and what it refuses."""

import jax
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

import vi_bench as vb
from tests.compiled import driven
from tests.methods.test_dadvi import COVARIANCE, correlated
from tests.methods.test_nuts import drawn_moments, exact_moments
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Problem
from vi_bench.errors import NotApplicable
from vi_bench.methods.mclmc import MCLMC
from vi_bench.models.gaussian import Gaussian
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior


def test_moments_of_a_normal_posterior():
    """Six z-tests at 4.5 standard errors: false alarm 4e-5; ESS is checked first."""
    y = np.array([1.0, -2.0, 3.0])
    posterior = NumPyroPosterior.of(correlated, y)
    method = MCLMC(warmup=1000)
    draws = driven(method, posterior, 4, 2000, seed=1)
    covariance = np.linalg.inv(np.linalg.inv(COVARIANCE) + np.eye(3))
    mean = covariance @ (np.linalg.solve(COVARIANCE, np.arange(3.0)) + y)
    theta = np.asarray(draws.parameters["theta"])
    for i in range(3):
        found = summarise(theta[..., i])
        assert found.ess_bulk > 1000
        assert found.r_hat < 1.01
        assert abs(found.mean.value - mean[i]) < 4.5 * found.mean.se
        assert abs(found.sd.value - covariance[i, i] ** 0.5) < 4.5 * found.sd.se
    stats = draws.sample_stats
    assert 0.6 < float(np.mean(stats["acceptance_rate"])) < 0.97
    own = int(np.sum(stats["n_steps"]))
    mean_steps = own / (4 * 2000 * method.thinning)
    assert mean_steps == pytest.approx(method.mean_steps, rel=0.02)
    assert method.passes(draws) > own + 4 * 1000


@pytest.mark.slow
def test_it_equals_exact_enumeration():
    """Two z-tests at 4.5 standard errors: false alarm 1.4e-5; ESS is checked first."""
    x = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0])[:, None]
    result = vb.run(
        Gaussian(sigma=2.0, mean=0.0),
        x,
        {"mclmc": {}},
        components=2,
        draws=4000,
        repeats=1,
    )
    found = drawn_moments(result, "mclmc")
    for name, exact in exact_moments(x, 2, 2.0).items():
        summary = summarise(found[name])
        assert summary.ess_bulk > 1000, name
        assert summary.r_hat < 1.01, name
        assert abs(summary.mean.value - exact) < 4.5 * summary.mean.se, name


def one(y):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(m, 1.0), obs=y)


def test_one_parameter_is_refused():
    posterior = NumPyroPosterior.of(one, np.zeros(3))
    with pytest.raises(NotApplicable, match="the model has one parameter"):
        MCLMC().prepare(Problem(posterior, 2, 10), jax.random.key(0))
