"""A table of rows, in memory or in its file, and the checks of its values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vi_bench.data.rows import Rows, pieces, take
from vi_bench.errors import SpecError

LARGEST = 1e70
"""Largest absolute value; its inverse is the smallest nonzero spread of a column."""

SAMPLE = 2**16
"""Rows that represent all of a streamed table in figures, starts and priors."""


def spaced(size: int, most: int) -> np.ndarray:
    """Up to `most` of `size` indices, evenly spaced."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))


@dataclass(frozen=True)
class Whole:
    """All rows of a streamed table, which stay in their file.

    Attributes:
        rows: all rows (N, d), read piece by piece.
        mean: mean of each feature (d,).
        spread: standard deviation of each feature (d,), ddof 0.
        sha256: hash of all values, as `Table.sha256`.
    """

    rows: Rows
    mean: np.ndarray
    spread: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Table:
    """Rows of numbers, with their names and origin.

    Attributes:
        name: short name, for titles and records.
        values: (N, d) float64; of a streamed table up to SAMPLE rows, evenly spaced.
        features: names of the d columns.
        note: what a reader should know; empty if nothing.
        source: where built-in numbers come from, and their licence.
        truth: of simulated rows "means" (K, d) and "labels" (N,); of others "labels",
            where they are known.
        where: gives the place in the file, in words, of a (row, column) from 0.
        whole: all rows of a streamed table; else None.
    """

    name: str
    values: np.ndarray
    features: tuple[str, ...]
    note: str = ""
    source: str = ""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    where: Callable[[int, int], str] | None = field(default=None, compare=False)
    whole: Whole | None = None

    def __len__(self) -> int:
        """N, whether all of them are in memory or not."""
        return len(self.values) if self.whole is None else self.whole.rows.shape[0]

    @property
    def numbers(self) -> np.ndarray:
        """Indices, from 0, of the rows in `values`."""
        return spaced(len(self), len(self.values))

    @property
    def mean(self) -> np.ndarray:
        """Mean of each feature over all rows (d,)."""
        if self.whole is not None:
            return self.whole.mean
        return np.asarray(self.values.mean(axis=0))

    def parts(self) -> Iterator[Table]:
        """All rows as tables in memory, one piece after the other."""
        if self.whole is None:
            yield self
            return
        rows = self.whole.rows
        for start, stop in pieces(rows):
            values = np.asarray(rows[start:stop], np.float64)

            def where(row: int, column: int, start: int = start) -> str:
                return self.at(start + row, column)

            yield Table(self.name, values, self.features, where=where)

    def at(self, row: int, column: int) -> str:
        """The place of a cell in the data source, in words; counted from 1."""
        if self.where is not None:
            return self.where(row, column)
        return f"row {row + 1}, column {column + 1}"

    def refuse(self, bad: np.ndarray, expected: str) -> None:
        """Raise InputError if any cell of `bad` (N, d) is true, naming the first."""
        places = np.argwhere(bad)
        if not len(places):
            return
        row, column = (int(i) for i in places[0])
        many = "s" if len(places) > 1 else ""
        raise SpecError(
            f"data {self.name!r}: {self.values[row, column]:g} at "
            f"{self.at(row, column)} ({len(places)} such value{many}); "
            f"expected {expected}"
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the float64 values in row order, little endian."""
        if self.whole is not None:
            return self.whole.sha256
        return hashlib.sha256(np.ascontiguousarray(self.values, "<f8")).hexdigest()

    def split(self, rows: int, seed: int) -> tuple[Table, Table]:
        """The table without `rows` rows chosen at random, and those rows, in order.

        Raises:
            InputError: the table is streamed.
        """
        if self.whole is not None:
            raise SpecError(
                f"held_out = {rows}: rows of streamed data {self.name!r} cannot be set "
                "aside; expected 0"
            )
        chosen = np.random.default_rng(seed).permutation(len(self.values))[:rows]
        out = np.isin(np.arange(len(self.values)), chosen)
        labels = {k: v for k, v in self.truth.items() if len(v) == len(self.values)}
        parts = []
        for keep, what in ((~out, f"{rows} rows held out"), (out, "held out")):
            note = "; ".join(filter(None, [self.note, what]))
            truth = self.truth | {k: v[keep] for k, v in labels.items()}
            values = self.values[keep]
            parts.append(
                Table(self.name, values, self.features, note, self.source, truth)
            )
        return parts[0], parts[1]

    def standardised(self) -> Table:
        """Each feature minus its mean, over its standard deviation (ddof 0).

        Raises:
            InputError: a column is constant.
        """
        whole = self.whole
        spread = self.values.std(axis=0) if whole is None else whole.spread
        if np.any(spread == 0):
            flat = self.features[int(np.argmin(spread))]
            raise SpecError(
                f"data {self.name!r}: column {flat!r} is constant, "
                "it cannot be standardised; drop it"
            )
        note = "; ".join(filter(None, [self.note, "standardised"]))
        if whole is not None:
            scaled = Scaled(whole.rows, whole.mean, spread)
            return survey(scaled, self.name, self.features, note)
        values = (self.values - self.values.mean(axis=0)) / spread

        def where(row: int, column: int) -> str:
            return f"{self.at(row, column)}, once standardised"

        truth = {k: v for k, v in self.truth.items() if k == "labels"}
        return Table(self.name, values, self.features, note, self.source, truth, where)


class Scaled:
    """Rows that are standardised as they are read."""

    def __init__(self, rows: Rows, mean: np.ndarray, spread: np.ndarray) -> None:
        self.rows, self.mean, self.spread = rows, mean, spread
        self.shape, self.dtype = rows.shape, np.dtype(np.float64)

    def __getitem__(self, place: slice) -> np.ndarray:
        values = np.asarray(self.rows[place], np.float64)
        return np.asarray((values - self.mean) / self.spread)


def survey(rows: Rows, name: str, features: Sequence[str], note: str = "") -> Table:
    """A table of rows that stay in their file, checked in one pass over all of them.

    Raises:
        InputError: names the first value that `from_array` refuses, and its place.
    """
    size, d = rows.shape
    sha, seen = hashlib.sha256(), 0
    mean, squares = np.zeros(d), np.zeros(d)
    for start, stop in pieces(rows):
        values = np.asarray(rows[start:stop], np.float64)

        def where(row: int, column: int, start: int = start) -> str:
            return f"row {start + row + 1}, column {column + 1}"

        check_finite(Table(name, values, tuple(features), where=where))
        sha.update(np.ascontiguousarray(values, "<f8"))
        # Chan, Golub and LeVeque (1983): moments of two parts together
        own, more = values.mean(axis=0), stop - start
        gap, both = own - mean, seen + more
        squares += values.var(axis=0) * more + gap**2 * (seen * more / both)
        mean, seen = mean + gap * (more / both), both
    spread = np.sqrt(squares / size)
    check_spread(name, features, spread)
    sample = np.asarray(take(rows, spaced(size, SAMPLE)), np.float64)
    whole = Whole(rows, mean, spread, sha.hexdigest())
    about = "; ".join(filter(None, [note, "read piece by piece from its file"]))
    return Table(name, sample, tuple(features), about, whole=whole)


def from_array(
    values: Any,
    name: str,
    features: Sequence[str] | None = None,
    where: Callable[[int, int], str] | None = None,
    copy: bool = True,
    **about: Any,
) -> Table:
    """A table from anything array-like, checked; 1-D data are read as N rows of one.

    Without `copy` an array of float64 is not copied, and must not be modified later.

    Raises:
        InputError: empty, masked, not numeric, more than 2-D, or not finite (with the
            row and column, counted from 1 as a reader of the file would).
    """
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        place = ", ".join(str(i + 1) for i in np.argwhere(values.mask)[0])
        many = int(values.mask.sum())
        raise SpecError(
            f"data {name!r}: has masked values, {many} in all, the first at ({place}) "
            "counted from 1; drop or fill them"
        )
    if hasattr(values, "toarray"):  # SciPy's; NumPy makes one object of it
        raise SpecError(f"data {name!r}: is sparse, expected a dense array (toarray)")
    try:
        raw = np.asarray(values)
    except ValueError:
        raise SpecError(f"data {name!r}: rows differ in length") from None
    if raw.dtype.kind not in "fiu":
        raise SpecError(
            f"data {name!r}: holds {raw.dtype} values, expected real numbers"
        )
    array = raw.astype(np.float64, copy=copy)
    if array.ndim == 1:
        array = array[:, None]
        about["note"] = "; ".join(
            filter(None, [about.get("note"), "1-D data, read as one feature"])
        )
    if array.ndim != 2:
        raise SpecError(
            f"data {name!r}: has {array.ndim} dimensions, expected rows x features"
        )
    if array.size == 0:
        raise SpecError(f"data {name!r}: is empty, shape {array.shape}")
    table = Table(
        name,
        array,
        tuple(features or feature_names(array.shape[1])),
        where=where,
        **about,
    )
    check_finite(table)
    check_spread(name, table.features, np.ptp(array, axis=0))
    return table


def check_finite(table: Table) -> None:
    """Refuse values whose fourth power overflows, as in linear response's Cov[x^2].

    Raises:
        InputError: a value is not finite (the first is named), or too large.
    """
    table.refuse(~np.isfinite(table.values), "finite numbers")
    if np.abs(table.values).max() > LARGEST:
        raise SpecError(
            f"data {table.name!r}: values over {LARGEST:g}, whose fourth powers "
            "overflow; give them in another unit"
        )


def check_spread(name: str, features: Sequence[str], spread: np.ndarray) -> None:
    """Refuse columns that vary by so little that fourth powers underflow to 0.

    Raises:
        InputError: names the first such column.
    """
    flat = (spread > 0) & (spread < 1 / LARGEST)
    if np.any(flat):
        first = features[int(np.argmax(flat))]
        raise SpecError(
            f"data {name!r}: column {first!r} varies by less than {1 / LARGEST:g}, "
            "whose fourth power underflows; give it in another unit"
        )


def feature_names(features: int) -> tuple[str, ...]:
    """Default column names: x0, x1, ..."""
    return tuple(f"x{i}" for i in range(features))
