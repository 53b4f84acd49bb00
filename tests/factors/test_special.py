"""The digamma function and its derivatives, held against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import polygamma, psi

from vi_bench.factors.special import digamma

X = np.concatenate([np.logspace(-290, 290, 5801), np.linspace(0.01, 20, 5000)])


def off(found, expected):
    return np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_is_scipys_to_ten_units_of_rounding(dtype):
    x = X if dtype is np.float64 else X[(X > 1e-30) & (X < 1e30)].astype(dtype)
    found = jax.jit(digamma)(x)
    assert found.dtype == dtype
    assert off(found, psi(x.astype(float))) < 10 * np.finfo(dtype).eps


@pytest.mark.parametrize("order", [1, 2])
def test_its_derivatives_are_polygammas(order):
    """Above the smallest numbers, whose own powers underflow or overflow."""
    x = X[(X > 1e-40) & (X < 1e40)]
    slope = jax.grad(digamma)
    derivative = jax.jit(jax.vmap(slope if order == 1 else jax.grad(slope)))
    expected = polygamma(order, x)
    assert np.max(np.abs(derivative(x) / expected - 1)) < 1e-11


def test_it_obeys_the_recurrence_across_the_shift():
    """psi(x + 1) = psi(x) + 1 / x; SciPy has no part in this."""
    x = jnp.linspace(0.5, 12, 2001)
    np.testing.assert_allclose(digamma(x + 1) - digamma(x), 1 / x, atol=2e-15)
