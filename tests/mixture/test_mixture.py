from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from tests.oracles import factors
from vi_bench.mixture.blocks import block_rows, from_blocks, to_blocks
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.mixture_pass import _exp, _sum_of_logs, log_marginal, mixture_pass
from vi_bench.models.gaussian import Gaussian

SHAPES = [
    (0, 1, 1),
    (1, 1, 1),
    (7, 2, 3),
    (511, 2, 5),
    (512, 1, 2),
    (1300, 3, 4),
    (1304, 8, 6),
]


whole_pass = jax.jit(partial(mixture_pass, Gaussian.statistics))


def naive(x, coefficients):
    t = np.c_[x, np.ones(len(x))]
    logits = t @ coefficients.T
    return logsumexp(logits, axis=1).sum(), softmax(logits, axis=1).T @ t


@pytest.mark.parametrize(("rows", "features", "components"), SHAPES)
def test_the_pass_equals_the_naive_form(rows, features, components, random):
    x = random.normal(size=(rows, features))
    coefficients = 3 * random.normal(size=(components, features + 1))
    blocks = to_blocks(x, jnp.float64)
    np.testing.assert_array_equal(from_blocks(blocks).T, x)
    total, expected = whole_pass(blocks, jnp.asarray(coefficients))
    value, gradient = naive(x, coefficients)
    np.testing.assert_allclose(total, value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(expected, gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rows", "features", "components"), SHAPES)
def test_the_second_output_is_the_gradient_by_autodiff(
    rows, features, components, random
):
    blocks = to_blocks(random.normal(size=(rows, features)), jnp.float64)
    coefficients = jnp.asarray(random.normal(size=(components, features + 1)))

    def plain(c):
        return mixture_pass(Gaussian.statistics, blocks, c)[0]

    def custom(c):
        return log_marginal(Gaussian.statistics, blocks, c)

    _, expected = whole_pass(blocks, coefficients)
    for function in (plain, custom):
        gradient = jax.jit(jax.grad(function))(coefficients)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_logits_of_thousands_neither_overflow_nor_vanish():
    blocks = to_blocks(np.array([[1000.0], [-1000.0]]), jnp.float64)
    coefficients = jnp.array([[50.0, 0.0], [-50.0, 0.0]])
    total, expected = whole_pass(blocks, coefficients)
    assert float(total) == 100_000.0
    np.testing.assert_array_equal(expected, [[1000.0, 1.0], [-1000.0, 1.0]])


def test_no_row_by_component_array_is_held(random):
    rows, components = 100_000, 50
    mixture = bind(
        Gaussian(sigma=1.0, mean=0.0),
        random.normal(size=(rows, 2)),
        components,
        jnp.float64,
    )
    program = jax.jit(lambda m, lam: m.step(lam))
    lam = factors(np.ones((components, 3)))
    memory = program.lower(mixture, lam).compile().memory_analysis()
    assert memory.temp_size_in_bytes < rows * components * 8 / 10


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_exponential_is_right_to_the_last_place(dtype, random):
    """XLA's own is off by up to 1.2 units."""
    x = np.r_[-np.linspace(0, 60, 200_001), -random.exponential(size=100_000), 0.0]
    x = x.astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    off = np.abs(np.asarray(jax.jit(_exp)(x)).astype(np.longdouble) / exact - 1)
    assert float(off.max()) < np.finfo(dtype).eps
    assert _exp(jnp.zeros((1,), dtype)) == 1


def test_the_exponential_far_out_and_of_no_number():
    edges = jnp.array([-1e5, -jnp.inf, jnp.nan])
    tiny, smallest, none = _exp(edges)
    assert 0 < float(tiny) < 1e-299
    assert smallest == tiny
    assert jnp.isnan(none)
    slope = jax.vmap(jax.grad(lambda v: _exp(v)))(jnp.array([-1.0, -3.5]))
    np.testing.assert_allclose(slope, np.exp([-1.0, -3.5]), rtol=1e-15)


@pytest.mark.parametrize(("rows", "most"), [(488, 5), (512, 1000), (7, 2), (0, 3)])
def test_sums_of_logs_neither_overflow_nor_lose(rows, most, random):
    values = random.uniform(1, most, size=rows)
    total = _sum_of_logs(jnp.asarray(values), most)
    np.testing.assert_allclose(total, np.log(values).sum(), rtol=1e-13, atol=1e-13)
    slope = jax.grad(lambda v: _sum_of_logs(v, most))(jnp.asarray(values))
    np.testing.assert_allclose(slope, 1 / values, rtol=1e-14)
    largest = jnp.full(512, float(most))
    assert jnp.isfinite(_sum_of_logs(largest, most))


def test_blocks_fit_a_cache_and_are_powers_of_two():
    sizes = [block_rows(K, 9, t) for K in (1, 5, 16, 64, 900) for t in ("f4", "f8")]
    assert all(256 <= size <= 2048 and size & (size - 1) == 0 for size in sizes)
    assert block_rows(16, 9, "f8") * 16 * 8 <= 2**17
    assert block_rows(5, 9, "f4") > block_rows(64, 9, "f4")


@pytest.mark.parametrize(
    ("rows", "components", "products"), [(1000, 5, 0), (1001, 5, 1), (1000, 20, 4)]
)
def test_a_small_pass_has_no_product_of_matrices(rows, components, products, random):
    """But for a tail that lanes do not divide; a larger one has two for each part."""
    size = block_rows(components, 3, np.float64)
    blocks = to_blocks(random.normal(size=(rows, 2)), np.float64, size)
    coefficients = random.normal(size=(components, 3))
    text = whole_pass.lower(blocks, coefficients).as_text()
    assert text.count("dot_general") == products
