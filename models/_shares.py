"""Tables of counts whose entries are shared out among components.

Entry x_ij is a sum over k of counts that are multinomial given x_ij, with probabilities
in proportion to exp(left_ik + right_jk): words of topics, events of factors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import Dirichlet

CHUNK = 8
"""Entries of one row that are worked on together."""

BLOCK = 128
"""Chunks that are worked on together, so that what is made of them stays in cache."""

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


class Chunks(NamedTuple):
    """Entries row by row, each row in chunks; what fills up a row's last chunk is 0.

    A sum over a row is one over its chunks' sums, so that few numbers are added to a
    place that is looked up.

    Attributes:
        row: row of each chunk (chunks,).
        column: columns of its entries (chunks, CHUNK).
        entry: their values (chunks, CHUNK).
        start: the first chunk of each row (I,).
        number: number of chunks of each row (I,).
    """

    row: Int[Array, " chunks"]
    column: Int[Array, "chunks size"]
    entry: Float[Array, "chunks size"]
    start: Int[Array, " I"]
    number: Int[Array, " I"]


class Table(NamedTuple):
    """A table of counts.

    Attributes:
        by_row: its entries.
        by_column: those of the transposed table; None where only some rows are there.
        rows: sums of the rows (I,).
        columns: sums of the columns (J,), of all rows.
        log_factorials: sum of log x_ij!.
    """

    by_row: Chunks
    by_column: Chunks | None
    rows: Float[Array, " I"]
    columns: Float[Array, " J"]
    log_factorials: Float[Array, ""]


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
    halves = chunks_of(values, entries), chunks_of(values.T, entries)
    sums = jnp.sum(values, axis=1), jnp.sum(values, axis=0)
    return Table(*halves, *sums, jnp.sum(gammaln(halves[0].entry + 1)))


def chunks_of(values: Float[Array, "I J"], entries: int | None = None) -> Chunks:
    """The entries of a table in chunks; see `table_of`."""
    rows, columns = values.shape
    taken = jnp.full(values.shape, True) if entries is None else values != 0
    size = values.size if entries is None else entries
    length = jnp.sum(taken, axis=1)
    place = jnp.nonzero(jnp.ravel(taken), size=size, fill_value=0)[0]
    row, column = jnp.divmod(place, max(columns, 1))
    along = jnp.arange(size) - (jnp.cumsum(length) - length)[row]
    number = -(-length // CHUNK)
    start = jnp.cumsum(number) - number
    most = size // CHUNK + rows
    slot = CHUNK * (start[row] + along // CHUNK) + along % CHUNK
    # were there fewer than was said, the first place would be taken for those that lack
    slot = jnp.where(jnp.arange(size) < jnp.sum(length), slot, CHUNK * most)
    empty = jnp.zeros(CHUNK * most)
    entry = empty.at[slot].set(jnp.ravel(values)[place], mode="drop")
    column = empty.astype(jnp.int32).at[slot].set(column.astype(jnp.int32), mode="drop")
    each = jnp.arange(rows, dtype=jnp.int32)
    row = jnp.repeat(each, number, total_repeat_length=most)
    shape = most, CHUNK
    return Chunks(row, column.reshape(shape), entry.reshape(shape), start, number)


def some_rows(table: Table, chosen: Int[Array, " n"], longest: int) -> Table:
    """A table of the chosen rows, none of which has more entries than `longest`."""
    known = table.by_row
    place = known.start[chosen][:, None] + jnp.arange(-(-longest // CHUNK))
    inside = place < (known.start + known.number)[chosen][:, None]
    entry = known.entry.at[place].get(mode="fill", fill_value=0)
    entry = jnp.where(inside[..., None], entry, 0.0)
    column = known.column.at[place].get(mode="fill", fill_value=0)
    row = jnp.broadcast_to(jnp.arange(len(chosen))[:, None], place.shape)
    shape = place.size, CHUNK
    flat = jnp.ravel(row), column.reshape(shape), entry.reshape(shape)
    several = jnp.full(len(chosen), place.shape[1])
    chunks = Chunks(*flat, jnp.cumsum(several) - several, several)
    sums = jnp.sum(entry, axis=(1, 2)), table.columns
    return Table(chunks, None, *sums, jnp.sum(gammaln(entry + 1)))


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
    alone = table.by_column is None
    rows, normaliser, columns = _summed(table.by_row, log_a, log_b, alone)
    if table.by_column is not None:
        columns, _, _ = _summed(table.by_column, log_b, log_a, alone)
    # with what was taken off again: log phi = left + right - log normaliser
    entropy = normaliser - jnp.sum(rows * log_a) - jnp.sum(columns * log_b)
    return Shares(rows, columns, entropy)


def _summed(
    chunks: Chunks,
    log_a: Float[Array, "I K"],
    log_b: Float[Array, "J K"],
    alone: bool,
) -> tuple[Array, Array, Array]:
    """Sums (I, K) of the shares of each row, and of entries times log normalisers.

    Those of each column (J, K) are added entry by entry where the half is `alone`; else
    the other half sums them in chunks.
    """
    a, b = jnp.exp(log_a), jnp.exp(log_b)
    limits = jnp.finfo(a.dtype)
    least = a.shape[1] * limits.tiny / limits.eps

    def add(sums: Any, block: tuple[Array, Array, Array]) -> tuple[Any, None]:
        row, column, entry = block
        mine, theirs = a[row], b[column]
        total = jnp.einsum("cwk,ck->cw", theirs, mine)

        def quick() -> tuple[Array, Array, Array]:
            safe = jnp.where(total > least, total, 1.0)
            weight = entry / safe
            whole = mine * jnp.einsum("cw,cwk->ck", weight, theirs)
            return whole, jnp.log(safe), weight[..., None] * theirs * mine[:, None]

        def exact() -> tuple[Array, Array, Array]:
            logits = log_a[row][:, None] + log_b[column]
            each = jax.nn.softmax(logits) * entry[..., None]
            return jnp.sum(each, axis=1), jax.nn.logsumexp(logits, -1), each

        whole, log, each = lax.cond(jnp.all(total > least), quick, exact)
        rows, normaliser, columns = sums
        if alone:
            columns = columns.at[column].add(each)
        return (
            rows.at[row].add(whole),
            normaliser + jnp.sum(entry * log),
            columns,
        ), None

    nothing = jnp.zeros_like(a), jnp.zeros((), a.dtype), jnp.zeros_like(b)
    found, _ = lax.scan(add, nothing, _in_blocks(chunks))
    rows, normaliser, columns = found
    return rows, normaliser, columns


def _in_blocks(chunks: Chunks) -> tuple[Array, Array, Array]:
    """Rows, columns and entries of chunks (blocks, BLOCK, ...), filled up with 0."""
    number = len(chunks.row)
    size = max(min(BLOCK, number), 1)

    def cut(value: Array) -> Array:
        fill = [(0, -number % size)] + [(0, 0)] * (value.ndim - 1)
        return jnp.pad(value, fill).reshape(-1, size, *value.shape[1:])

    return cut(chunks.row), cut(chunks.column), cut(chunks.entry)


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
    known = table.by_row
    entry = jnp.zeros((len(left), len(right)), left.dtype)
    entry = entry.at[known.row[:, None], known.column].add(known.entry)
    return Multinomial(jax.nn.softmax(left[:, None] + right), entry)
