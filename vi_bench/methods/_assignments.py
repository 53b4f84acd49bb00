"""Random assignments: their statistics by component, and random orders of labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vi_bench.mixture.log_beta import log_beta
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.weights import StickBreaking
from vi_bench.runtime.keys import Key


def assigned_statistics(
    key: Key, mixture: Mixture, coefficients: Float[Array, "K P"]
) -> Float[Array, "K P"]:
    """Sums of t(x_i) by component, each row's component drawn from its own softmax.

    Block by block, as `mixture_pass`: no (N, K) array is held.
    """
    statistics, blocks = mixture.family.statistics, mixture.blocks

    def of_block(key: Key, x: Float[Array, "d n"]) -> Float[Array, "K P"]:
        t = statistics(x)
        logits = jnp.matmul(coefficients, t, precision=lax.Precision.HIGHEST)
        share = jnp.exp(logits - jnp.max(logits, axis=0, keepdims=True))
        below = jnp.cumsum(share, axis=0)
        level = jax.random.uniform(key, x.shape[1:], x.dtype) * below[-1]
        # rounding may put the level at the very end, beyond the last component
        chosen = jnp.minimum(jnp.sum(below <= level[None], axis=0), below.shape[0] - 1)
        own = jax.nn.one_hot(chosen, below.shape[0], axis=0, dtype=t.dtype)
        return jnp.matmul(own, t.T, precision=lax.Precision.HIGHEST)

    def add(total: Array, packed: tuple[Key, Array]) -> tuple[Array, None]:
        return total + of_block(*packed), None

    body, tail = jax.random.split(key)
    keys = jax.random.split(body, blocks.body.shape[0])
    total, _ = lax.scan(add, jnp.zeros_like(coefficients), (keys, blocks.body))
    return total + of_block(tail, blocks.tail)


def new_order(
    key: Key, mixture: Mixture, counts: Float[Array, " K"]
) -> Int[Array, " K"]:
    """A random order of the labels that leaves p(c) invariant, sticks integrated out.

    Under exchangeable weights it is uniform. Otherwise K swaps of two labels are
    proposed, and accepted by the ratio of ``p(c) = prod_k B(a_k + n_k, b_k + n_{>k}) /
    B(a_k, b_k)``; as Papaspiliopoulos and Roberts (2008), section 3.4, but without the
    sticks.
    """
    size = mixture.components
    if exchangeable(mixture):
        return jax.random.permutation(key, size)

    def score(order: Array) -> Array:
        a, b = mixture.weights.update(counts[order])
        return jnp.sum(log_beta(a, b))

    def propose(order: Array, key: Key) -> tuple[Array, None]:
        of_pair, of_test = jax.random.split(key)
        i, j = jax.random.choice(of_pair, size, (2,), replace=False)
        swapped = order.at[i].set(order[j]).at[j].set(order[i])
        level = jnp.log(jax.random.uniform(of_test, (), counts.dtype))
        accepted = level < score(swapped) - score(order)
        return jnp.where(accepted, swapped, order), None

    return lax.scan(propose, jnp.arange(size), jax.random.split(key, size))[0]


def exchangeable(mixture: Mixture) -> bool:
    """Whether the prior is the same in every order of the components."""
    return not isinstance(mixture.weights, StickBreaking)
