import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from tests.oracles import factors
from vi_bench.mixture import bind
from vi_bench.mixture_pass import (
    from_blocks,
    log_marginal,
    mixture_pass,
    to_blocks,
)
from vi_bench.models.gaussian import Gaussian

SHAPES = [(0, 1, 1), (1, 1, 1), (7, 2, 3), (511, 2, 5), (512, 1, 2), (1300, 3, 4)]


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
    total, expected = mixture_pass(
        Gaussian.statistics, blocks, jnp.asarray(coefficients)
    )
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

    _, expected = mixture_pass(Gaussian.statistics, blocks, coefficients)
    for function in (plain, custom):
        gradient = jax.grad(function)(coefficients)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_logits_of_thousands_neither_overflow_nor_vanish():
    blocks = to_blocks(np.array([[1000.0], [-1000.0]]), jnp.float64)
    coefficients = jnp.array([[50.0, 0.0], [-50.0, 0.0]])
    total, expected = mixture_pass(Gaussian.statistics, blocks, coefficients)
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
