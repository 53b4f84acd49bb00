"""Factors of q against NumPyro, quadrature and one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import kl_divergence

from vi_bench.factors import Dirichlet, Factor, Gamma, Gaussian, Normal, base


def gaussian(random, copies=2, size=3):
    root = random.normal(size=(copies, size, size))
    precision = root @ np.swapaxes(root, 1, 2) + np.eye(size)
    return Gaussian.of(
        jnp.asarray(random.normal(size=(copies, size))), jnp.asarray(precision)
    )


def made(kind, random):
    positive = jnp.asarray(random.gamma(2.0, size=(2, 3)) + 0.1)
    return {
        "gamma": lambda: Gamma(positive, positive[::-1]),
        "dirichlet": lambda: Dirichlet(positive),
        "normal": lambda: Normal(jnp.asarray(random.normal(size=(2, 3))), positive),
        "gaussian": lambda: gaussian(random),
    }[kind]()


@pytest.fixture(params=["gamma", "dirichlet", "normal", "gaussian"])
def pair(request, random):
    return made(request.param, random), made(request.param, random)


def test_entropy_and_divergence_are_numpyros(pair):
    one, other = pair
    assert isinstance(one, Factor)
    own, theirs = one.distribution(), other.distribution()
    np.testing.assert_allclose(one.entropy(), np.sum(own.entropy()), rtol=1e-10)
    expected = np.sum(kl_divergence(own, theirs))
    np.testing.assert_allclose(one.kl(other), expected, rtol=1e-8)
    np.testing.assert_allclose(one.kl(one), 0, atol=1e-10)
    np.testing.assert_allclose(one.mean(), own.mean, rtol=1e-10)


def test_natural_parameters_make_the_factor_again(pair):
    for factor in pair:
        again = type(factor).from_natural(*factor.natural())
        for a, b in zip(jax.tree.leaves(factor), jax.tree.leaves(again), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        shapes = [v.shape for v in factor.natural()]
        assert [v.shape for v in factor.scale()] == shapes
        assert all(np.all(np.asarray(v) > 0) for v in factor.scale())


def test_natural_parameters_are_those_of_an_exponential_family(pair):
    """The log ratio of two densities is linear in them, up to its constant.

    So of two factors, and the one in the middle of their natural parameters.
    """
    one, other = pair
    middle = jax.tree.map(lambda a, b: (a + b) / 2, one.natural(), other.natural())
    between = type(one).from_natural(*middle).distribution()
    x = one.distribution().sample(jax.random.key(0), (50,))
    logs = [f.log_prob(x) for f in (one.distribution(), other.distribution(), between)]
    apart = logs[2] - 0.5 * (logs[0] + logs[1])
    np.testing.assert_allclose(apart, apart[:1].repeat(50, 0), rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_expectations_of_logs_and_squares_are_those_of_draws(random):
    key = jax.random.key(3)
    for kind in ("gamma", "dirichlet"):
        factor = made(kind, random)
        logs = np.log(factor.distribution().sample(key, (100_000,)))
        error = logs.std(0) / len(logs) ** 0.5
        assert np.all(np.abs(logs.mean(0) - factor.mean_log()) < 5 * error)
    factor = gaussian(random)
    x = np.asarray(factor.distribution().sample(key, (100_000,)))
    second = np.einsum("nbi,nbj->nbij", x, x)
    error = second.std(0) / len(x) ** 0.5
    assert np.all(np.abs(second.mean(0) - factor.second()) < 5 * error)
    squares = np.diagonal(factor.second(), axis1=1, axis2=2)
    np.testing.assert_allclose(factor.square(), squares, rtol=1e-12)


def test_draws_of_q_and_their_density_go_by_site(random):
    q = {kind: made(kind, random) for kind in ("gamma", "dirichlet", "gaussian")}
    q["z"] = jnp.zeros(3)  # no factor: stands for what is local
    theta = base.draw(jax.random.key(0), q, (4, 5))
    assert {k: v.shape for k, v in theta.items()} == {
        "gamma": (4, 5, 2, 3),
        "dirichlet": (4, 5, 2, 3),
        "gaussian": (4, 5, 2, 3),
    }
    found = base.log_q(theta, q)
    expected = sum(
        np.sum(q[k].distribution().log_prob(theta[k]), axis=tuple(range(2, 4 - e)))
        for k, e in (("gamma", 0), ("dirichlet", 1), ("gaussian", 1))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_out_of_their_domain_factors_are_not_finite_rather_than_wrong(random):
    away = gaussian(random)
    shift, upper = away.natural()
    bad = Gaussian.from_natural(shift, -upper)
    assert not np.isfinite(bad.entropy())
