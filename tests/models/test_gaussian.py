import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.conjugate import kl_to_prior, log_density
from vi_bench.errors import InputError
from vi_bench.models.gaussian import Gaussian

FAMILIES = [
    Gaussian(),
    Gaussian(sigma=3.0, variance=0.2, mean=1.5),
    Gaussian(sigma=0.4, variance=7.0, mean=(-1.0, 2.0, 0.5)),
]


@pytest.fixture(params=FAMILIES, ids=str)
def family(request):
    return request.param.bind(np.zeros(3), jnp.float64)


@pytest.fixture
def lam(random):
    return jnp.asarray(np.c_[random.normal(size=(4, 3)), random.uniform(1, 50, size=4)])


def test_the_moments_are_the_gradient_of_the_log_normaliser(family, lam):
    gradient = jax.vmap(jax.grad(family.log_normaliser))(lam)
    np.testing.assert_allclose(gradient, family.moments(lam), rtol=1e-12)


def test_the_natural_form_is_the_normal_density(family, lam, random):
    from scipy.stats import norm

    q = family.describe(lam)
    mu = random.normal(size=(4, 3))
    expected = norm.logpdf(mu, q["m"], np.sqrt(q["s2"])[:, None]).sum(axis=1)
    actual = log_density(family, {"mu": jnp.asarray(mu)}, lam)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_the_likelihood_is_the_normal_density(family, random):
    from scipy.stats import norm

    x, mu = random.normal(size=(3, 6)), random.normal(size=(2, 3))
    logits = family.natural({"mu": jnp.asarray(mu)}) @ family.statistics(jnp.asarray(x))
    actual = logits + family.log_base(jnp.asarray(x))
    sd = np.sqrt(family.variance)
    expected = norm.logpdf(x.T[None], mu[:, None], sd).sum(axis=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_kl_equals_its_monte_carlo_estimate(family, lam):
    draws = 200_000
    theta = family.draw(jax.random.key(1), lam, (draws,))
    gap = log_density(family, theta, lam) - log_density(family, theta, family.prior())
    z = (gap.mean(0) - kl_to_prior(family, lam)) / (gap.std(0) / np.sqrt(draws))
    # four standard normal numbers a family, three families: false alarm 7e-6
    assert np.max(np.abs(z)) < 5


def test_kl_of_the_prior_to_itself_is_zero(family):
    assert abs(float(kl_to_prior(family, family.prior()[None])[0])) < 1e-12


def test_a_mean_of_the_wrong_length_is_refused():
    with pytest.raises(InputError, match="mean has 2 numbers, the data have 3"):
        Gaussian(mean=(0.0, 1.0)).check(3)
