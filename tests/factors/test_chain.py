"""The forward-backward algorithm against sums over all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.factors import chain
from vi_bench.factors.chain import forward_backward, log_normaliser


def parts(random, steps, states, spread=1.0):
    return (
        jnp.asarray(spread * random.normal(size=states)),
        jnp.asarray(spread * random.normal(size=(states, states))),
        jnp.asarray(spread * random.normal(size=(steps, states))),
    )


def by_enumeration(initial, transition, emission):
    initial, transition, emission = map(np.asarray, (initial, transition, emission))
    steps, states = emission.shape
    weights, marginals = [], np.zeros((steps, states))
    moves = np.zeros((states, states))
    paths = list(itertools.product(range(states), repeat=steps))
    for path in paths:
        weight = initial[path[0]] + sum(emission[t, k] for t, k in enumerate(path))
        weights.append(
            weight + sum(transition[a, b] for a, b in itertools.pairwise(path))
        )
    total = np.logaddexp.reduce(weights)
    for path, weight in zip(paths, np.exp(np.array(weights) - total), strict=True):
        for t, k in enumerate(path):
            marginals[t, k] += weight
        for a, b in itertools.pairwise(path):
            moves[a, b] += weight
    return total, marginals, moves


@pytest.mark.parametrize(("steps", "states"), [(1, 2), (2, 3), (8, 2), (5, 4)])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_it_is_the_sum_over_all_paths(steps, states, spread, random, monkeypatch):
    given = parts(random, steps, states, spread)
    expected = by_enumeration(*given)
    for way in (forward_backward, chain._in_logarithms):
        for a, b in zip(jax.jit(way)(*given), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr(chain, "SHORTEST", 2)  # several blocks
    path, sound = jax.jit(chain._in_blocks)(*given)
    assert sound
    for a, b in zip(path, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [31, 64, 65, 1000])
@pytest.mark.parametrize("states", [2, 5, 14])
def test_blocks_give_what_single_steps_give(steps, states, random):
    given = parts(random, steps, states, 2.0)
    one, sound = jax.jit(chain._in_blocks)(*given)
    assert sound
    other = jax.jit(chain._in_logarithms)(*given)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.sum(one.moves), steps - 1, rtol=1e-10)
    np.testing.assert_allclose(np.sum(one.marginals, 1), 1, rtol=1e-12)


def test_paths_that_underflow_are_summed_in_logarithms():
    """Every path has a weight of about exp(-2000)."""
    initial = jnp.array([0.0, -1000.0])
    transition = jnp.array([[0.0, -1000.0], [-1000.0, 0.0]])
    emission = jnp.array([[0.0, -5000.0], [-5000.0, 0.0], [0.0, -5000.0]])
    assert not chain._in_blocks(initial, transition, emission)[1]
    found = jax.jit(forward_backward)(initial, transition, emission)
    expected = by_enumeration(initial, transition, emission)
    np.testing.assert_allclose(found.log_normaliser, -2000.0, rtol=1e-12)
    np.testing.assert_allclose(found.moves, expected[2], atol=1e-12)


def test_derivatives_are_the_expectations(random):
    given = parts(random, 80, 3)
    path = forward_backward(*given)
    slopes = jax.grad(log_normaliser, argnums=(0, 1, 2))(*given)
    for slope, expected in zip(
        slopes, (path.marginals[0], path.moves, path.marginals), strict=True
    ):
        np.testing.assert_allclose(slope, expected, rtol=1e-12)
    step = 1e-6 * random.normal(size=given[1].shape)
    ends = [
        float(log_normaliser(given[0], given[1] + s * step, given[2])) for s in (1, -1)
    ]
    np.testing.assert_allclose(
        (ends[0] - ends[1]) / 2, np.sum(path.moves * step), rtol=1e-4
    )


def test_single_precision_keeps_long_paths(random):
    given = parts(random, 20_000, 3)
    exact = jax.jit(forward_backward)(*given)
    coarse = jax.jit(forward_backward)(*(v.astype(jnp.float32) for v in given))
    np.testing.assert_allclose(coarse.log_normaliser, exact.log_normaliser, rtol=1e-5)
    np.testing.assert_allclose(coarse.marginals, exact.marginals, atol=1e-4)


def test_derivatives_through_weights_that_a_program_computes_are_finite():
    """XLA may compute such weights twice, and round them differently."""
    y = np.random.default_rng(0).normal(size=30)
    initial, transition = np.log([0.3, 0.7]), np.log([[0.6, 0.4], [0.2, 0.8]])

    def total(parameters, own):
        mean, shape, rate = parameters
        squares = shape / rate * (y[:, None] - mean) ** 2
        emission = 0.5 * (jax.scipy.special.digamma(shape) - jnp.log(rate) - squares)
        path = own(jnp.asarray(initial), jnp.asarray(transition), emission)
        return path.log_normaliser + jnp.sum(path.marginals**2)

    at = jnp.asarray([[-1.1, 0.5], [7.7, 11.3], [4.6, 4.1]])
    slopes = [
        jax.jit(jax.grad(total), static_argnums=1)(at, own)
        for own in (forward_backward, chain._in_logarithms)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-10)
