"""Exact posteriors of two components, rows on a lattice: a sum over statistics.

Where t(x) = (u, 1) and u_i = u_0 + h z_i with whole numbers z_i, as of counts or of
measurements with few decimals, a component's marginal depends on its rows only through
their number n and the sum s of their z. With W[n, s] the number of sets of n rows with
sum s, the coefficient of a^n b^s in prod_i (1 + a b^{z_i}),

    p(X) = sum_{n, s} W[n, s] m(n, s) m(N - n, S - s) / 2^N,     S = sum_i z_i:

2^N assignments summed in N^2 S steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import logsumexp
from jaxtyping import Array, Float, Int

from vi_bench.enumeration.marginals import ABSENT, log_block_marginals, log_constant
from vi_bench.enumeration.posterior import Posterior, pick_cell
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key

MOST = 990
"""Rows beyond which the numbers of sets, up to 2^N, leave double precision's range."""

WIDEST = 30_000_000
"""States (n, s) beyond which the law is not held in memory, at some 100 bytes each."""

SECONDS = 1.5e-9
"""Seconds per step of the recursion, on one core of an ordinary machine."""


class Grid(NamedTuple):
    """The lattice that the rows' statistics lie on.

    Attributes:
        spacing: h, in the statistic's unit.
        total: S = sum_i z_i, the sum of all rows' lattice coordinates.
    """

    spacing: float
    total: int


def find_grid(statistics: np.ndarray) -> Grid | None:
    """The coarsest lattice that statistics t(x_i) = (u_i, 1) lie on, to rounding.

    Spacings are integer multiples of a power of ten from 1000 down to 1e-6.

    Args:
        statistics: sufficient statistics of all rows (P, N).

    Returns:
        None where there is no such lattice, no row, or P is not 2.
    """
    if len(statistics) != 2 or not statistics.size:
        return None
    gaps = statistics[0] - statistics[0].min()
    for power in range(3, -7, -1):
        unit = 10.0**power
        places = np.rint(gaps / unit)
        if np.all(np.abs(gaps / unit - places) < 1e-6):
            common = max(math.gcd(*places.astype(int).tolist()), 1)
            return Grid(unit * common, int(places.sum()) // common)
    return None


def states(rows: int, grid: Grid) -> int:
    """The number of states (n, s)."""
    return (rows + 1) * (grid.total + 1)


def seconds(rows: int, grid: Grid) -> float:
    """Estimated seconds of the recursion: half of the states once for each row."""
    return SECONDS * rows * states(rows, grid) / 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticePosterior(Posterior):
    """The law of the number n of one component's rows and of the sum s of their z.

    State (n, s) is cell (n, s) of a table (N + 1, S + 1).
    """

    def of_others(self, block: Float[Array, "C c Q"]) -> Float[Array, "C c Q"]:
        """The value at the other component's state, (N - n, S - s)."""
        return block[::-1, ::-1]

    def drawn_statistics(self, key: Key, draws: int) -> Float[Array, "draws K P"]:
        """Independent draws by inverse distribution functions: n first, then s."""
        share = jnp.exp(self.log_weight)
        of_number = jnp.sum(share, axis=1)
        whole = self.outer[-1] + self.inner[-1]

        def one(level: Float[Array, ""]) -> Float[Array, "K P"]:
            n, s = pick_cell(level, share, of_number)
            first = self.outer[n] + self.inner[s]
            return jnp.stack([first, whole - first])

        found: Array = lax.map(one, jax.random.uniform(key, (draws,)))
        return found


def enumerate_lattice(mixture: Mixture, grid: Grid) -> LatticePosterior:
    """The exact posterior, by the recursion over sufficient statistics.

    Args:
        mixture: a mixture of two components that `marginals.check` accepts.
        grid: the lattice of its statistics, by `find_grid`.
    """
    u = mixture.statistics()[0]
    places = jnp.rint((u - jnp.min(u)) / grid.spacing).astype(jnp.int32)
    number = jnp.arange(mixture.rows + 1.0)
    along = jnp.arange(grid.total + 1.0) * grid.spacing
    outer = jnp.stack([number * jnp.min(u), number], axis=1)
    inner = jnp.stack([along, jnp.zeros_like(along)], axis=1)
    sets = count_sets(places, grid.total)
    log_block = log_block_marginals(mixture, outer, inner, sets > 0)
    log_sets = jnp.log(jnp.maximum(sets, 1.0))
    both = log_sets + log_block + log_block[::-1, ::-1]
    log_joint = jnp.where(sets > 0, both, ABSENT)
    total = logsumexp(log_joint)
    log_weight = jnp.where(sets > 0, log_joint - total, ABSENT)
    share = jnp.sum(jnp.exp(log_weight), axis=1)
    occupancy = jnp.stack([0.0, share[0] + share[-1], jnp.sum(share[1:-1])])
    evidence = total + log_constant(mixture)
    return LatticePosterior(mixture, outer, inner, log_weight, evidence, occupancy)


def count_sets(places: Int[Array, " N"], total: int) -> Float[Array, "N+1 sums"]:
    """The number of sets of n rows whose places sum to s, for all n and s.

    Rows are added one by one: a set contains the row or not. Only half of the n are
    computed: the complement of a set of n rows that sum to s has N - n rows that sum to
    S - s.
    """
    rows, width = len(places), total + 1
    half = rows // 2 + 1
    # (n, s) flattened, with room in front for a shift by one row of the table and one
    # place; no sum of places exceeds the width of a row
    room = 2 * width
    table = jnp.zeros(room + half * width).at[room].set(1.0)

    def add(table: Array, place: Int[Array, ""]) -> tuple[Array, None]:
        moved = lax.dynamic_slice(table, (width - place,), (half * width,))
        return table.at[room:].add(moved), None

    found = lax.scan(add, table, places)[0][room:].reshape(half, width)
    return jnp.concatenate([found, found[: rows + 1 - half][::-1, ::-1]])
