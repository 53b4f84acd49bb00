"""Tables of counts whose entries are shared out among components.

Entry x_ij is a sum over k of counts that are multinomial given x_ij, with probabilities
in proportion to exp(left_ik + right_jk): words of topics, events of factors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from vi_bench.contract import Key
from vi_bench.factors import Dirichlet

BLOCK = 1024
"""Entries that are worked on together, so that their shares stay in cache."""

ROUNDS, STILL = 50, 1e-3
"""Rounds at most in which the rows of a minibatch settle, and the mean change of a
concentration at which they have settled (Hoffman, Blei and Bach 2010 let it be 1e-5).
"""


class Multinomial(dist.MultinomialProbs):  # type: ignore[misc]
    """NumPyro's multinomial, with totals that may be traced.

    NumPyro draws each single count, for which the largest total has to be a constant;
    here one binomial follows the other.
    """

    pytree_data_fields = ("probs", "total_count")
    pytree_aux_fields = ("total_count_max",)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, as whole numbers of the default floating-point type."""
        total = jnp.asarray(self.total_count, float)
        shape = sample_shape + self.batch_shape
        found: Array = jax.random.multinomial(key, total, self.probs, shape=shape)
        return found


class Table(NamedTuple):
    """Entries of a table, in blocks; those added to fill the last block are 0.

    Attributes:
        row: row of each entry (blocks, size).
        column: its column (blocks, size).
        entry: its value (blocks, size).
        rows: sums of the rows (I,).
        columns: sums of the columns (J,).
        log_factorials: sum of log x_ij!.
    """

    row: Int[Array, "blocks size"]
    column: Int[Array, "blocks size"]
    entry: Float[Array, "blocks size"]
    rows: Float[Array, " I"]
    columns: Float[Array, " J"]
    log_factorials: Float[Array, ""]


class Rows(NamedTuple):
    """Entries row by row, of which some rows can be taken.

    Attributes:
        column: column of each entry (entries,).
        entry: its value (entries,).
        start: the first entry of each row (I,).
        length: number of entries of each row (I,).
        columns: sums of the columns (J,).
    """

    column: Int[Array, " entries"]
    entry: Float[Array, " entries"]
    start: Int[Array, " I"]
    length: Int[Array, " I"]
    columns: Float[Array, " J"]


class Shares(NamedTuple):
    """All entries shared out: expected sums, and what the bound has of them.

    Attributes:
        rows: sums over columns (I, K).
        columns: sums over rows (J, K).
        entropy: -sum_ijk x_ij phi_ijk log phi_ijk, nats.
    """

    rows: Float[Array, "I K"]
    columns: Float[Array, "J K"]
    entropy: Float[Array, ""]


def table_of(counts: Any, entries: int | None = None) -> Table:
    """The entries of counts (I, J).

    Args:
        counts: whole numbers, which may be traced.
        entries: how many of them are not 0; only these are taken. By default all are.
    """
    values = jnp.asarray(counts, float)
    flat, size = jnp.ravel(values), values.size
    if entries is None:
        place, entry = jnp.arange(size), flat
    else:
        size = entries
        place = jnp.nonzero(flat, size=size, fill_value=0)[0]
        # were there fewer, the first place would be taken for those that lack
        known = jnp.arange(size) < jnp.count_nonzero(flat)
        entry = jnp.where(known, flat[place], 0.0)
    sums = jnp.sum(values, axis=1), jnp.sum(values, axis=0)
    return _in_blocks(*jnp.divmod(place, values.shape[1]), entry, sums)


def rows_of(counts: Any, entries: int | None = None) -> Rows:
    """The entries of counts (I, J) row by row; see `table_of`."""
    table, (number, width) = table_of(counts, entries), counts.shape
    length = jnp.full(number, width)
    if entries is not None:
        length = jnp.count_nonzero(counts, axis=1)
    start = jnp.cumsum(length) - length
    column, entry = jnp.ravel(table.column), jnp.ravel(table.entry)
    return Rows(column, entry, start, length, table.columns)


def some_rows(rows: Rows, chosen: Int[Array, " n"], longest: int) -> Table:
    """A table of the chosen rows alone, none of which has more entries than `longest`.

    Its sums of columns are those of all rows.
    """
    along = jnp.arange(longest)
    place = rows.start[chosen][:, None] + along
    known = along < rows.length[chosen][:, None]
    taken = rows.entry.at[place].get(mode="fill", fill_value=0)
    entry = jnp.where(known, taken, 0.0)
    column = rows.column.at[place].get(mode="fill", fill_value=0)
    row = jnp.broadcast_to(jnp.arange(len(chosen))[:, None], place.shape)
    sums = jnp.sum(entry, axis=1), rows.columns
    return _in_blocks(jnp.ravel(row), jnp.ravel(column), jnp.ravel(entry), sums)


def _in_blocks(
    row: Array, column: Array, entry: Array, sums: tuple[Array, Array]
) -> Table:
    """Entries in blocks, the last one filled with zeros."""
    size = entry.size
    width = max(min(BLOCK, size), 1)
    row, column, entry = (
        jnp.pad(v, (0, -size % width)).reshape(-1, width) for v in (row, column, entry)
    )
    return Table(row, column, entry, *sums, jnp.sum(gammaln(entry + 1)))


def share_out(
    table: Table, left: Float[Array, "I K"], right: Float[Array, "J K"]
) -> Shares:
    """Every entry in proportion to exp(left_ik + right_jk).

    Exponentials are taken of the two tables, less the largest of each row, and not of
    each entry. Where all products of an entry are so small that some may be lost, its
    block is done with logarithms: concentrations near 0 may need it between updates.
    """
    of_row, of_column = (lax.stop_gradient(jnp.max(v, axis=1)) for v in (left, right))
    log_a, log_b = left - of_row[:, None], right - of_column[:, None]
    a, b = jnp.exp(log_a), jnp.exp(log_b)
    limits = jnp.finfo(a.dtype)
    least = a.shape[1] * limits.tiny / limits.eps

    def add(sums: Any, block: tuple[Array, Array, Array]) -> tuple[Any, None]:
        row, column, entry = block
        product = a[row] * b[column]
        total = jnp.sum(product, axis=1)

        def quick() -> tuple[Array, Array]:
            safe = jnp.where(total > least, total, 1.0)
            return product * (entry / safe)[:, None], jnp.log(safe)

        def exact() -> tuple[Array, Array]:
            logits = log_a[row] + log_b[column]
            return jax.nn.softmax(logits) * entry[:, None], jax.nn.logsumexp(logits, 1)

        share, log = lax.cond(jnp.all(total > least), quick, exact)
        of_rows, of_columns, normaliser = sums
        return (
            of_rows.at[row].add(share),
            of_columns.at[column].add(share),
            normaliser + entry @ log,
        ), None

    nothing = jnp.zeros_like(a), jnp.zeros_like(b), jnp.zeros((), a.dtype)
    blocks = table.row, table.column, table.entry
    (rows, columns, normaliser), _ = lax.scan(add, nothing, blocks)
    # with what was taken off again: log phi = left + right - log normaliser
    entropy = normaliser - jnp.sum(rows * log_a) - jnp.sum(columns * log_b)
    return Shares(rows, columns, entropy)


def settled(
    table: Table,
    prior: float,
    concentration: Float[Array, "I K"],
    right: Float[Array, "J K"],
) -> Float[Array, "I K"]:
    """Dirichlet concentrations of the rows, given the columns' scores, from a start."""

    def onward(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, here, _ = state
        new = prior + share_out(table, Dirichlet(here).mean_log(), right).rows
        return number + 1, new, jnp.mean(jnp.abs(new - here))

    def going(state: tuple[Array, Array, Array]) -> Array:
        return (state[0] < ROUNDS) & (state[2] > STILL)

    none = jnp.zeros((), int), concentration, jnp.full((), jnp.inf)
    found: Array = lax.while_loop(going, onward, none)[1]
    return found


def shares_of(
    table: Table, left: Float[Array, "I K"], right: Float[Array, "J K"]
) -> Multinomial:
    """The distribution of each entry's shares (I, J), held in memory."""
    entry = jnp.zeros((len(left), len(right)), left.dtype)
    entry = entry.at[table.row, table.column].add(table.entry)
    return Multinomial(jax.nn.softmax(left[:, None] + right), entry)
