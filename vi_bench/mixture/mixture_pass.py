"""One sweep over the data, which takes nearly all the time of every inference.

Every inference on a mixture of exponential families rests on one product: with rows
``t(x_i)`` of sufficient statistics and per component coefficients ``M_k``,

    mixture_pass(x, M) = ( sum_i logsumexp_k <t(x_i), M_k>,  R^T T ),

where R is the row-wise softmax. The second output is at once CAVI's expected
sufficient statistics and the gradient of the first, hence of the log density that NUTS
and SMC need. The (N, K) responsibilities are never held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vi_bench.mixture.blocks import Blocks, add_up, small
from vi_bench.mixture.fused import fits, softmax_product
from vi_bench.runtime.environment import backend

Statistics = Callable[[Float[Array, "d n"]], Float[Array, "P n"]]


LANES = 8
"""Partial sums that a small product over rows keeps side by side (SIMD)."""


def _block_pass(
    statistics: Statistics, x: Float[Array, "d B"], coefficients: Float[Array, "K P"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    t = statistics(x)
    if t.shape[1] and fits(len(coefficients), len(t), t.dtype):
        return _in_one_kernel(coefficients, t)
    return _in_steps(coefficients, t)


def _in_steps(
    coefficients: Float[Array, "K P"], t: Float[Array, "P B"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    logits = _logits(coefficients, t)
    top = lax.stop_gradient(jnp.max(logits, axis=0))
    unnormalised = _exp(logits - top[None])
    if small(*coefficients.shape):
        unnormalised = lax.optimization_barrier(unnormalised)
    total = jnp.sum(unnormalised, axis=0)
    # one division a row: not one for each of its statistics
    expected = _over_rows(unnormalised, t * (1 / total)[None])
    return jnp.sum(top) + _sum_of_logs(total, coefficients.shape[0]), expected


@jax.custom_jvp
def _in_one_kernel(
    coefficients: Float[Array, "K P"], t: Float[Array, "P B"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    return softmax_product(coefficients, t)


@_in_one_kernel.defjvp
def _slope_of_kernel(values: Any, along: Any) -> tuple[Any, Any]:
    return _in_one_kernel(*values), jax.jvp(_in_steps, values, along)[1]


def _logits(
    coefficients: Float[Array, "K P"], t: Float[Array, "P B"]
) -> Float[Array, "K B"]:
    """The product M t.

    On a CPU XLA's product of small matrices takes longer than all exponentials of the
    block, on all cores. The barriers keep XLA from recomputing terms and exponentials
    wherever they are used.
    """
    if small(*coefficients.shape):
        terms = [
            m[:, None] * row[None] for m, row in zip(coefficients.T, t, strict=True)
        ]
        return lax.optimization_barrier(sum(terms[1:], terms[0]))  # type: ignore[no-any-return]
    # HIGHEST: on accelerators the default would round the inputs of the product
    return jnp.matmul(coefficients, t, precision=lax.Precision.HIGHEST)


def _over_rows(r: Float[Array, "K B"], t: Float[Array, "P B"]) -> Float[Array, "K P"]:
    """The product r t^T; a small one as sums in lanes."""
    if small(len(r), len(t)) and r.shape[1] % LANES == 0:
        left, right = (v.reshape(len(v), -1, LANES) for v in (r, t))
        return jnp.sum(jnp.sum(left[:, None] * right[None], axis=2), axis=-1)
    return jnp.matmul(r, t.T, precision=lax.Precision.HIGHEST)


ROUNDED = {"float64": 1.5 * 2.0**52, "float32": 1.5 * 2.0**23}
"""A number whose unit in the last place is 1: adding it rounds to an integer."""

LOWEST = {"float64": -690.0, "float32": -80.0}
"""Smaller arguments are replaced by this one; e to this power is negligible."""

LOG_2 = {
    "float64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
    "float32": (0.693359375, -2.12194440e-4),
}
"""log 2 in two parts, the first with so few bits that n times it is exact."""

SERIES = {
    "float64": (
        2.511015364692893e-08, 2.763279054211718e-07, 2.7557240604663896e-06,
        2.4801485074105115e-05, 0.00019841269890340666, 0.0013888888952696516,
        0.00833333333331949, 0.04166666666648666, 0.1666666666666668,
        0.5000000000000019, 1.0, 1.0,
    ),
    "float32": (
        0.0013941213100006334, 0.008375210200870016, 0.04166635163844457,
        0.1666641450716956, 0.5000000047401394, 1.0000000379432992, 1.0,
    ),
}  # fmt: skip
"""Polynomials that interpolate exp at the Chebyshev points of [-log 2 / 2, log 2 / 2],
highest power first; off by less than a unit in the last place."""


@jax.custom_jvp
def _exp(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Exp of numbers that are not positive, twice as quick as XLA's on a CPU.

    exp(n log 2 + r) = 2^n p(r) with |r| <= log 2 / 2. The low bits of x / log 2 plus a
    large number are n, and shifted into the exponent's place they are 2^n. Neither
    overflow nor subnormal numbers can occur.
    """
    name = x.dtype.name
    if backend() != "cpu" or name not in SERIES:
        return jnp.exp(x)
    integer, bits = (jnp.int64, 52) if name == "float64" else (jnp.int32, 23)
    # a constant of x's own type: a Python number would be weakly typed as well
    large, low = (jnp.asarray(c[name], x.dtype) for c in (ROUNDED, LOWEST))
    head, rest = (jnp.asarray(part, x.dtype) for part in LOG_2[name])
    x = jnp.maximum(x, low)
    shifted = x * jnp.asarray(1 / np.log(2.0), x.dtype) + large
    n = shifted - large
    r = (x - n * head) - n * rest
    value = jnp.zeros_like(r)
    for coefficient in SERIES[name]:
        value = value * r + jnp.asarray(coefficient, x.dtype)
    one = lax.bitcast_convert_type(jnp.ones((), x.dtype), integer)
    exponent = (lax.bitcast_convert_type(shifted, integer) << bits) + one
    return value * lax.bitcast_convert_type(exponent, x.dtype)


@_exp.defjvp
def _slope_of_exp(values: Any, along: Any) -> tuple[Array, Array]:
    value = _exp(values[0])
    return value, value * along[0]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_of_logs(values: Float[Array, " B"], most: int) -> Float[Array, ""]:
    """sum_i log values_i of numbers from 1 to `most`, as logs of products.

    A logarithm costs as much as several exponentials; a product of this many rows
    cannot overflow.
    """
    largest = np.log(float(jnp.finfo(values.dtype).max)) / np.log(max(most, 2) + 1)
    together = 1
    while 2 * together <= largest and values.shape[0] % (2 * together) == 0:
        together *= 2
    return jnp.sum(jnp.log(jnp.prod(values.reshape(together, -1), axis=0)))


@_sum_of_logs.defjvp
def _slope_of_logs(most: int, values: Any, along: Any) -> tuple[Array, Array]:
    return _sum_of_logs(values[0], most), jnp.sum(along[0] / values[0])


def mixture_pass(
    statistics: Statistics, blocks: Blocks, coefficients: Float[Array, "K P"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    """One sweep over the data.

    Args:
        statistics: the family's t, features first.
        blocks: the data, N rows in all.
        coefficients: M (K, P); row k is what component k multiplies t(x) with.

    Returns:
        ``sum_i logsumexp_k <t(x_i), M_k>`` and ``R^T T`` (K, P), its gradient in M.
    """
    of_block = partial(_block_pass, statistics)
    found: tuple[Array, Array] = add_up(of_block, blocks, coefficients)
    return found


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_marginal(
    statistics: Statistics, blocks: Blocks, coefficients: Float[Array, "K P"]
) -> Float[Array, ""]:
    """The first output of `mixture_pass`; its gradient costs no second sweep."""
    return mixture_pass(statistics, blocks, coefficients)[0]


def _forward(
    statistics: Statistics, blocks: Blocks, coefficients: Array
) -> tuple[Array, Array]:
    return mixture_pass(statistics, blocks, coefficients)


def _backward(statistics: Statistics, gradient: Array, g: Array) -> tuple[None, Array]:
    return None, g * gradient


log_marginal.defvjp(_forward, _backward)
