"""Permutations of the components, and q averaged over them."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import call, draw
from tests.contract.cases import CASES, WEIGHTS
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.symmetry import log_symmetric, permute, symmetric
from vi_bench.mixture.weights import Dirichlet

permuted = jax.jit(permute)


def bound(random, weights, K=3):
    case = CASES["gaussian"]
    return bind(case.family, case.rows(random, 9), K, jnp.float64, weights)


def q_and_draw(mixture, seed=0):
    phi = jax.random.dirichlet(
        jax.random.key(seed), jnp.ones(mixture.components), (mixture.rows,)
    )
    q = call(mixture, "from_responsibilities", phi)
    return q, draw(jax.random.key(seed + 1), mixture, q)


@pytest.mark.parametrize("name", ["uniform", "dirichlet", "sparse"])
def test_the_likelihood_does_not_see_the_order(name, random):
    mixture = bound(random, WEIGHTS[name])
    _, theta = q_and_draw(mixture)
    for order in permutations(range(3)):
        moved = permuted(mixture, theta, jnp.array(order))
        one, other = (call(mixture, "log_likelihood", t) for t in (moved, theta))
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_permuting_there_and_back_is_nothing(random):
    mixture = bound(random, Dirichlet(0.4))
    _, theta = q_and_draw(mixture)
    there = permuted(mixture, theta, jnp.array([2, 0, 1]))
    back = permuted(mixture, there, jnp.array([1, 2, 0]))
    for name, value in theta.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-10)


@pytest.mark.parametrize("weights", [WEIGHTS["uniform"], Dirichlet(0.7)])
def test_the_average_of_the_prior_is_the_prior(weights, random):
    """The prior is symmetric, so averaging changes nothing, Jacobians included."""
    mixture = bound(random, weights)
    _, theta = q_and_draw(mixture)
    average = jax.jit(lambda m, theta: log_symmetric(m, m.log_prior, theta))
    exact = call(mixture, "log_prior", theta)
    np.testing.assert_allclose(average(mixture, theta), exact, rtol=1e-11)


def test_the_average_is_the_density_of_permuted_draws(random):
    """E [q / average] = 1 over its own draws, at 4.5 errors: false alarm 7e-6.

    The ratio lies between 0 and K!, so its error can be trusted.
    """
    mixture = bound(random, Dirichlet(0.7), K=2)
    q, _ = q_and_draw(mixture)
    theta = draw(jax.random.key(3), mixture, q, (4000,))
    orders = jnp.array([[0, 1], [1, 0]])[random.integers(2, size=4000)]

    def ratio(theta, order):
        moved = permute(mixture, theta, order)
        log_q = lambda t: mixture.log_q(t, q)  # noqa: E731
        return jnp.exp(log_q(moved) - log_symmetric(mixture, log_q, moved))

    ratios = np.asarray(jax.jit(jax.vmap(ratio))(theta, orders))
    assert 0 <= ratios.min() < 1 < ratios.max() <= 2
    error = ratios.std() / np.sqrt(len(ratios))
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4.5 * error


def test_which_mixtures_can_be_averaged(random):
    assert symmetric(bound(random, WEIGHTS["uniform"]))
    assert not symmetric(bound(random, WEIGHTS["uniform"], K=1))
    assert not symmetric(bound(random, WEIGHTS["uniform"], K=7))
    assert not symmetric(bound(random, WEIGHTS["stick-breaking"]))
