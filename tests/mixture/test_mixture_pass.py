"""The kernel of a GPU, interpreted, against the pass in steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.marks import slow
from vi_bench.mixture import mixture_pass
from vi_bench.mixture.blocks import to_blocks
from vi_bench.mixture.fused import fits, softmax_product, tile_rows
from vi_bench.mixture.mixture_pass import _in_steps, log_marginal
from vi_bench.models.gaussian import Gaussian

SHAPES = [(1, 1, 1), (7, 2, 3), (128, 2, 5), (1300, 3, 4), (1025, 8, 16)]


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(mixture_pass, "fits", lambda *shape: tile_rows(*shape) > 0)


def problem(rows, features, components, random, dtype=jnp.float64):
    t = np.r_[random.normal(size=(features, rows)), np.ones((1, rows))]
    coefficients = 3 * random.normal(size=(components, features + 1))
    return jnp.asarray(coefficients, dtype), jnp.asarray(t, dtype)


@pytest.mark.parametrize(("rows", "features", "components"), SHAPES)
@pytest.mark.parametrize("dtype", ["float64", slow("float32")])
def test_one_kernel_gives_what_steps_give(rows, features, components, dtype, random):
    coefficients, t = problem(rows, features, components, random, dtype)
    value, sums = softmax_product(coefficients, t)
    exact, exact_sums = jax.jit(_in_steps)(
        *(v.astype("float64") for v in (coefficients, t))
    )
    eps = float(jnp.finfo(dtype).eps) * 8
    size = float(np.sum(np.max(np.abs(np.asarray(coefficients @ t)), axis=0)))
    assert value.dtype == sums.dtype == dtype
    np.testing.assert_allclose(value, exact, rtol=eps, atol=eps * size)
    np.testing.assert_allclose(sums, exact_sums, rtol=eps, atol=eps * rows)


def test_logits_far_apart_stay_finite():
    coefficients = jnp.array([[50.0, 0.0], [-50.0, 0.0]])
    t = jnp.array([[1000.0, -1000.0], [1.0, 1.0]])
    value, sums = softmax_product(coefficients, t)
    assert float(value) == 100_000.0
    np.testing.assert_array_equal(sums, [[1000.0, 1.0], [-1000.0, 1.0]])


def test_lanes_share_the_rows(random):
    _, t = problem(300, 2, 4, random)
    lanes = jnp.asarray(random.normal(size=(3, 4, 3)))
    together = jax.vmap(softmax_product, (0, None))(lanes, t)
    for lane, *found in zip(lanes, *together, strict=True):
        for a, b in zip(found, softmax_product(lane, t), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.usefixtures("on_gpu")
def test_its_slopes_are_those_of_the_steps(random, monkeypatch):
    coefficients, t = problem(40, 2, 3, random)
    along = jnp.asarray(random.normal(size=coefficients.shape))
    blocks = to_blocks(t[:-1].T, jnp.float64)

    def second(c):
        return jax.jvp(
            jax.grad(partial(log_marginal, Gaussian.statistics, blocks)), (c,), (along,)
        )

    def by_pass(c):
        value = partial(mixture_pass.mixture_pass, Gaussian.statistics, blocks)
        return jax.jacfwd(value)(c), jax.jacrev(value)(c)

    def both(c):
        return second(c), by_pass(c)

    kernel = jax.jit(both)(coefficients)
    monkeypatch.setattr(mixture_pass, "fits", lambda *shape: False)
    steps = jax.jit(lambda c: both(c))(coefficients)  # traced anew
    for a, b in zip(*map(jax.tree.leaves, (kernel, steps)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_a_tile_is_what_the_registers_hold():
    assert not fits(5, 3, "float64")  # this is no GPU
    assert tile_rows(5, 3, "float64") == 128
    assert tile_rows(16, 9, "float64") == 32
    assert tile_rows(16, 9, "float32") == 64
    assert tile_rows(10, 67, "float64") == 0
