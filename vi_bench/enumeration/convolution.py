"""Sums over all sets of rows, and over all pairs of disjoint sets.

A set of n rows is an integer under 2^n, bit i for row i; functions of sets are arrays
in that order.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

BITS = 10
"""Number of rows whose 3^BITS pairs of disjoint sets are processed at once, in cache.
"""


def subset_sums(t: Float[Array, "P n"]) -> Float[Array, "sets P"]:
    """Sums of the columns over all 2^n sets of them; bit i of a set is column i."""
    sums = jnp.zeros((1, t.shape[0]), t.dtype)
    for column in t.T:
        sums = jnp.concatenate([sums, sums + column[None]])
    return sums


def disjoint_pairs(bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All 3^bits pairs of disjoint sets: the first, the second, and their union.

    A pair's position in base 3 has one digit for each row, the highest row first: 0 in
    neither set, 1 in the first, 2 in the second.
    """
    first = second = np.zeros(1, int)
    for _ in range(bits):
        first = (2 * first[:, None] + [0, 1, 0]).ravel()
        second = (2 * second[:, None] + [0, 0, 1]).ravel()
    return first, second, first + second


def join_pairs(
    terms: Float[Array, "pairs *rest"], bits: int, join: Callable[[Array, Array], Array]
) -> Float[Array, "sets rest"]:
    """Reduce over the pairs that have the same union, in `disjoint_pairs`' order."""
    for done in range(bits):
        terms = terms.reshape(2**done, 3, -1)
        either = join(terms[:, 1:2], terms[:, 2:])
        terms = jnp.concatenate([terms[:, :1], either], axis=1)
    return terms.reshape(2**bits, -1)


def log_convolve(
    f: Float[Array, " sets"], g: Float[Array, " sets"]
) -> Float[Array, " sets"]:
    """Log of the subset convolution: ``logsumexp_{T in S} f(T) + g(S - T)``, all S.

    There are 3^N terms. Those that share the high rows' digits are summed at once,
    around their maximum; these groups follow one another, which limits memory.
    """
    N = f.size.bit_length() - 1
    low = min(N, BITS)
    first, second, union = disjoint_pairs(low)

    def group(f: Float[Array, " c"], g: Float[Array, " c"]) -> Float[Array, " c"]:
        terms = f[first] + g[second]
        top = join_pairs(lax.stop_gradient(terms), low, jnp.maximum)[:, 0]
        sums = join_pairs(jnp.exp(terms - top[union]), low, jnp.add)[:, 0]
        return top + jnp.log(sums)

    high = N - low
    f, g = f.reshape(2**high, -1), g.reshape(2**high, -1)
    of_f, of_g, _ = map(jnp.asarray, disjoint_pairs(high))
    groups = lax.map(lambda pair: group(f[pair[0]], g[pair[1]]), (of_f, of_g))
    return join_pairs(groups, high, jnp.logaddexp).ravel()
