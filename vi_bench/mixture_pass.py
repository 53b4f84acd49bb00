"""The one hot loop of the project: one sweep over the data.

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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

BLOCK = 512
"""Rows a block: its statistics and (K, block) logits stay in a core's cache."""

Statistics = Callable[[Float[Array, "d n"]], Float[Array, "P n"]]


class Blocks(NamedTuple):
    """Rows of data, features first, cut into equal blocks and a shorter tail."""

    body: Float[Array, "blocks d B"]
    tail: Float[Array, "d r"]


def to_blocks(values: np.ndarray | Array, dtype: Any, size: int = BLOCK) -> Blocks:
    """Cut (N, d) values, which may be traced, into blocks.

    The tail needs no padding and no mask.
    """
    rows, features = values.shape
    full = rows // size
    body = values[: full * size].reshape(full, size, features).transpose(0, 2, 1)
    tail = values[full * size :].T
    if isinstance(values, np.ndarray):
        body, tail = np.ascontiguousarray(body), np.ascontiguousarray(tail)
    return Blocks(jnp.asarray(body, dtype), jnp.asarray(tail, dtype))


def from_blocks(blocks: Blocks) -> Float[Array, "d N"]:
    """All rows again, features first."""
    features = blocks.tail.shape[0]
    body = jnp.moveaxis(blocks.body, 1, 0).reshape(features, -1)
    return jnp.concatenate([body, blocks.tail], axis=1)


def _block_pass(
    statistics: Statistics, x: Float[Array, "d B"], coefficients: Float[Array, "K P"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    t = statistics(x)
    # HIGHEST: on accelerators the default would round the inputs of the product
    logits = jnp.matmul(coefficients, t, precision=lax.Precision.HIGHEST)
    top = lax.stop_gradient(jnp.max(logits, axis=0))
    unnormalised = jnp.exp(logits - top)
    total = jnp.sum(unnormalised, axis=0)
    expected = jnp.matmul(unnormalised, (t / total).T, precision=lax.Precision.HIGHEST)
    return jnp.sum(top + jnp.log(total)), expected


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

    def add(so_far: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(
            jnp.add, so_far, _block_pass(statistics, x, coefficients)
        ), None

    zero = (jnp.zeros((), coefficients.dtype), jnp.zeros_like(coefficients))
    total, _ = lax.scan(add, zero, blocks.body)
    return add(total, blocks.tail)[0]


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
