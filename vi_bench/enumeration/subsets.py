"""Exact posteriors of a few rows: a recursion over all 2^N sets of rows.

With m(T) the marginal of the rows T as one component, and g_b(S) the sum over
partitions of S into b non-empty blocks of the product of their m,

    g_b(S) = (1/b) sum_{T in S, not empty} m(T) g_{b-1}(S - T),
    f_k(S) = sum_b k! / (k - b)! g_b(S),        p(X) = f_K([N]) / K^N,

f_k being the sum over assignments of S to k components: K^N terms summed in 3^N steps.
All are positive and held as logarithms, so nothing cancels and nothing overflows.
Conditionals follow: w(T) = m(T) f_{K-1}([N] - T) / f_K([N]).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import logsumexp
from jaxtyping import Array, Bool, Float, Int

from vi_bench.enumeration.convolution import BITS, log_convolve, subset_sums
from vi_bench.enumeration.marginals import ABSENT, log_block_marginals, log_constant
from vi_bench.enumeration.posterior import Posterior, pick, pick_cell
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key

MOST = 18
"""Rows beyond which the recursion is refused: each further row triples its cost."""

MOST_OF_TWO = 22
"""The same limit with two components, where each row doubles cost and memory."""

TOGETHER = 4
"""Functions whose sums over components are carried through the recursion at once."""

SECONDS = 1e-8
"""Seconds per term, on one core of an ordinary machine."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SubsetPosterior(Posterior):
    """The law of the rows of one component; states are sets of rows.

    State (j, i) is the set whose bits are those of the integer c j + i; bit r is row r.

    Attributes:
        log_block: log m(T), the weights' factor included.
        log_partitions: log g_b(S) for b = 0, ..., min(K - 1, N).
    """

    log_block: Float[Array, " sets"]
    log_partitions: Float[Array, "B sets"]

    def co_clustering(self) -> Float[Array, "N N"]:
        """Co-clustering probabilities P(c_i = c_j | X)."""
        weight = self.mixture.components * jnp.exp(self.log_weight)
        first, second = members(len(self.inner)), members(len(self.outer))
        across = first.T @ weight.T @ second
        within = first.T * jnp.sum(weight, axis=0)[None] @ first
        beyond = second.T * jnp.sum(weight, axis=1)[None] @ second
        return jnp.block([[within, across], [across.T, beyond]])

    def of_others(self, block: Float[Array, "C c Q"]) -> Float[Array, "C c Q"]:
        """The derivative of log f_{K-1} where log m(T) is tilted by the function.

        f_{K-1}(S) is the normaliser of the law of the other components' rows, and its
        log a cumulant generating function.
        """
        K = self.mixture.components
        tilts = block.reshape(len(self.log_block), -1).T

        def log_others(log_block: Float[Array, " sets"]) -> Float[Array, " sets"]:
            partitions = log_partitions(log_block, K - 1)
            return log_assignments(partitions, K - 1, log_block[0])

        def along(tilt: Float[Array, " sets"]) -> Float[Array, " sets"]:
            slope: Array = jax.jvp(log_others, (self.log_block,), (tilt,))[1]
            return slope

        found: Array = lax.map(along, tilts, batch_size=min(TOGETHER, len(tilts)))
        return found[:, ::-1].T.reshape(block.shape)

    def drawn_statistics(self, key: Key, draws: int) -> Float[Array, "draws K P"]:
        """Summed statistics of independent draws of the assignments."""
        t = self.mixture.statistics()
        return self.assignments(key, draws).astype(t.dtype) @ t.T

    def assignments(self, key: Key, draws: int) -> Bool[Array, "draws K N"]:
        """Independent draws of the assignments given the data, as indicators c_i = k.

        The number of blocks is drawn, then one block after the other: each time the one
        of the last row left.
        """
        N, most = self.mixture.rows, min(self.mixture.rows, self.mixture.components)
        everything = jnp.asarray(2**N - 1, jnp.int32)
        # all draws begin with the same table for each number of blocks
        tables = [
            self._shares(everything, jnp.asarray(number), N - 1)
            for number in range(1, most + 1)
        ]
        first = jnp.stack(tables) if tables else jnp.zeros((0, 1, 1))
        sums = jnp.sum(first, axis=2)

        def one(key: Key) -> Bool[Array, "K N"]:
            return self._assignment(key, first, sums)

        found: Array = lax.map(one, jax.random.split(key, draws))
        return found

    def _assignment(
        self, key: Key, first: Float[Array, "B r c"], sums: Float[Array, "B r"]
    ) -> Bool[Array, "K N"]:
        N, K, most = self.mixture.rows, self.mixture.components, len(first)
        of_number, of_order, of_blocks = jax.random.split(key, 3)
        number, _ = pick(jax.random.uniform(of_number), self.occupancy)
        left = jnp.asarray(2**N - 1, jnp.int32)
        blocks = [jnp.zeros((), jnp.int32)] * (K - most)
        levels = jax.random.uniform(of_blocks, (most,))
        for found in range(most):
            if found == most - 1:
                block = left
            elif found == 0:
                beside = pick_cell(levels[0], first[number - 1], sums[number - 1])
                block = set_of(*beside, N - 1) | last_of(left)
            else:
                share = self._shares(left, number - found, N - 1 - found)
                beside = pick_cell(levels[found], share, jnp.sum(share, axis=1))
                block = set_of(*beside, N - 1 - found) | last_of(left)
                block = jnp.where(left > 0, block, 0)
            blocks.append(block)
            left = left ^ block
        shuffled = jax.random.permutation(of_order, jnp.stack(blocks))
        rows = jnp.arange(N, dtype=shuffled.dtype)
        return (shuffled[:, None] >> rows[None]) & 1 == 1

    def _shares(
        self, left: Int[Array, ""], number: Int[Array, ""], bits: int
    ) -> Float[Array, "r c"]:
        """Relative probabilities of the rows that join the last row of `left`.

        Args:
            left: set of rows to be divided into `number` blocks.
            number: number of blocks.
            bits: the other rows of `left` are among the first `bits` rows.

        Returns:
            The probability of each set of the first `bits` rows, up to a factor.
        """
        last = last_of(left)
        others = left & ~last
        rows, columns = jnp.indices((2 ** (bits - bits // 2), 2 ** (bits // 2)))
        sets = set_of(rows, columns, bits)
        beside = self.log_partitions[jnp.maximum(number - 1, 0)]
        log_share = jnp.where(
            sets & ~others == 0,
            self.log_block[sets | last] + beside[others & ~sets],
            ABSENT,
        )
        return jnp.exp(log_share - jnp.max(log_share))


def enumerate_subsets(mixture: Mixture) -> SubsetPosterior:
    """The exact posterior, by the recursion over sets of rows.

    Args:
        mixture: a mixture that `marginals.check` accepts, of at most `most_rows` rows.
    """
    N, K = mixture.rows, mixture.components
    t = mixture.statistics()
    inner, outer = subset_sums(t[:, : min(N, BITS)]), subset_sums(t[:, BITS:])
    possible = jnp.ones((len(outer), len(inner)), bool)
    log_block = log_block_marginals(mixture, outer, inner, possible).ravel()
    partitions = log_partitions(log_block, K - 1)
    beside = log_assignments(partitions, K - 1, log_block[0])[::-1]
    log_number = log_occupied(log_block, partitions, K)
    total = logsumexp(log_number)
    return SubsetPosterior(
        mixture=mixture,
        outer=outer,
        inner=inner,
        log_weight=(log_block + beside - total).reshape(len(outer), -1),
        log_evidence=total + log_constant(mixture),
        occupancy=jnp.exp(log_number - total),
        log_block=log_block,
        log_partitions=partitions,
    )


def members(sets: int) -> Float[Array, "sets n"]:
    """Whether each of 2^n sets contains each row, as 1 or 0."""
    rows = jnp.arange(sets.bit_length() - 1)
    return ((jnp.arange(sets)[:, None] >> rows[None]) & 1).astype(float)


def set_of(
    row: Int[Array, "*b"], column: Int[Array, "*b"], bits: int
) -> Int[Array, "*b"]:
    """The set in a cell of a table of all 2^bits sets, about as wide as it is high."""
    cell: Array = row * 2 ** (bits // 2) + column
    return cell.astype(jnp.int32)


def last_of(rows: Int[Array, ""]) -> Int[Array, ""]:
    """The set of the last row of a set; of the first row where that is empty."""
    return jnp.asarray(1, jnp.int32) << (31 - lax.clz(jnp.maximum(rows, 1)))


def log_partitions(log_block: Float[Array, " sets"], most: int) -> Float[Array, "B s"]:
    """Log g_b(S) for b = 0, ..., min(most, N) and every set S; ABSENT for 0."""
    N = log_block.size.bit_length() - 1
    most = min(most, N)
    nothing = jnp.full_like(log_block, ABSENT).at[0].set(0.0)
    filled = log_block.at[0].set(ABSENT)

    def add(before: Array, number: Array) -> tuple[Array, Array]:
        after = log_convolve(filled, before) - jnp.log(number)
        return after, after

    few = jnp.stack([nothing, filled])[: most + 1]
    if most < 2:
        return few
    more = lax.scan(add, filled, jnp.arange(2.0, most + 1))[1]
    return jnp.concatenate([few, more])


def log_orders(components: int, numbers: int) -> Float[Array, " numbers"]:
    """Log K! / (K - b)!, the ways to name b blocks, for b = 0, ..., numbers - 1."""
    return jnp.asarray([math.log(math.perm(components, b)) for b in range(numbers)])


def log_assignments(
    partitions: Float[Array, "B sets"], components: int, log_empty: Float[Array, ""]
) -> Float[Array, " sets"]:
    """Log f_k(S), over assignments of S to k components, from log g_b.

    `log_empty` is log m of the empty set: 0, but its derivative along a tilt is not.
    """
    left = components - jnp.arange(len(partitions), dtype=partitions.dtype)
    empty = left * log_empty
    named = log_orders(components, len(partitions)) + empty
    return logsumexp(partitions + named[:, None], axis=0)


def log_occupied(
    log_block: Float[Array, " sets"],
    partitions: Float[Array, "B sets"],
    components: int,
) -> Float[Array, " numbers"]:
    """Log sum over assignments of all rows that use b components, b = 0, ..., K."""
    filled = log_block.at[0].set(ABSENT)
    last = logsumexp(filled + partitions[-1, ::-1]) - jnp.log(len(partitions))
    whole = jnp.append(partitions[:, -1], last)
    found = whole + log_orders(components, len(whole))
    return jnp.pad(found, (0, components + 1 - len(found)), constant_values=ABSENT)


def most_rows(components: int) -> int:
    """The largest number of rows that the recursion accepts."""
    return MOST if components > 2 else MOST_OF_TWO


def log_seconds(rows: int, components: int) -> float:
    """Log of the estimated seconds of the recursion."""
    convolutions = min(components - 1, rows) - 1
    sets = rows * np.log(2.0)
    if convolutions < 1:
        return float(np.log(SECONDS) + sets)
    pairs = np.log(convolutions) + rows * np.log(3.0)
    return float(np.log(SECONDS) + np.logaddexp(sets, pairs))
