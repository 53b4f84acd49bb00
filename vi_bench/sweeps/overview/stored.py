"""A sweep that was read from its folder: a row for each cell and method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from vi_bench.data.load import simulation
from vi_bench.errors import ReportError
from vi_bench.results.summary_schema import Record, parse
from vi_bench.sweeps.index import query
from vi_bench.sweeps.status import Failure, status
from vi_bench.sweeps.store import Damaged, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTORS = (
    "sweep",
    "data",
    "separation",
    "overlap",
    "components",
    "rows",
    "features",
    "clusters",
    "model",
    "weights",
    "precision",
    "chains",
    "draws",
    "device",
)
"""Factors that may vary, besides the fields of a grid; seeds make repetitions."""

SIZES = ("rows", "features", "components")
"""Factors against which the growth of time is fitted."""

FEWEST = 3
"""Fewest levels of a size to which a slope is fitted."""


@dataclass(frozen=True)
class Measure:
    """A measure of how far a method is from the reference of its cell.

    Attributes:
        name: its column; that of its standard error is NAME_se.
        title: its title in figures.
        exact: its value for a method that is right.
        head: its column in tables.
        note: its meaning, below tables.
    """

    name: str
    title: str
    exact: float
    head: str
    note: str


MEASURES = (
    Measure(
        "log_sd",
        "|log ratio of sds|, mean",
        0.0,
        "log sd",
        "absolute logarithm of the ratio of sds to the reference's, mean over the "
        "quantities judged",
    ),
    Measure(
        "worst_sd",
        "factor between sds, largest",
        1.0,
        "worst sd",
        "the largest factor between sds, either way",
    ),
    Measure(
        "worst_mean",
        "|difference of means| / sd, largest",
        0.0,
        "worst mean",
        "difference of means over the reference's sd, the largest",
    ),
    Measure(
        "w1",
        "W1 / sd, mean",
        0.0,
        "W1",
        "Wasserstein distance over the reference's sd, mean over the quantities",
    ),
)
"""The measures, over the judged quantities; sds are the reference's."""

DIRECTION = Measure(
    "sd_ratio",
    "sd ratio, geometric mean",
    1.0,
    "sd ratio",
    "to the reference's, geometric mean: whether sds are too small or too large; no "
    "measure of error, as the two cancel",
)
"""The direction of errors of sds, which tables show beside the measures."""

SHOWN = (*MEASURES, DIRECTION)

LEVEL = 0.05
"""One minus the level of intervals, and the level of tests."""


@dataclass(frozen=True)
class StoredSweep:
    """The content of a sweep's folder.

    Attributes:
        folder: its path.
        table: a row for each finished cell and method: `key`, a column for each
            factor, `method`, `kind`, `outcome`, `verdict`, `block` (the data: cells of
            the same data are not independent), the measures with their errors and
            floors (nan where the method was not compared), seconds, diagnostics. A
            floor is what a measure does not exceed, with probability 1 - LEVEL at
            least, where the method's posterior is the reference's.
        factors: factor -> its levels in order, of those that vary, without the seed.
        plans: the sweeps that were asked for, with their cells.
        failures: cells that failed and are not finished.
        waiting: number of cells that are not finished and have not failed.
        example: the record of one cell.
    """

    folder: Path
    table: pd.DataFrame
    factors: Mapping[str, list[Any]]
    plans: Sequence[Mapping[str, Any]]
    failures: Sequence[Failure]
    waiting: int
    example: Record

    @property
    def name(self) -> str:
        """Name of the sweep; of all sweeps, if the folder holds several."""
        return ", ".join(dict.fromkeys(str(plan["name"]) for plan in self.plans))

    def ordered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows by the levels of the factors, then by method, then by seed."""
        levels = {**self.factors, "method": self.methods}
        places = {
            name: rows[name].map({level: i for i, level in enumerate(known)})
            for name, known in levels.items()
        }
        if "seed" in rows:
            places["seed"] = rows["seed"]
        return rows.loc[pd.DataFrame(places).sort_values(list(places)).index]

    @property
    def methods(self) -> list[str]:
        """Labels of the methods."""
        return list(dict.fromkeys(self.table["method"]))

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The rows of methods that were compared with a reliable reference.

        Distances from an unreliable one say nothing about the method.
        """
        unfit = self.table["verdict"] == "reference unreliable"
        return self.table[self.table["w1"].notna() & ~unfit]

    @property
    def sizes(self) -> list[str]:
        """Sizes with at least FEWEST levels."""
        return [s for s in SIZES if len(self.factors.get(s, ())) >= FEWEST]

    def place(self, row: Mapping[str, Any]) -> str:
        """A row's levels of all factors, in words."""
        return ", ".join(f"{name} = {row[name]}" for name in self.factors)

    def numeric(self) -> list[str]:
        """Numeric factors, which can be an axis, in the order of `factors`."""
        return [name for name, levels in self.factors.items() if _numbers(levels)]

    def slices(self, without: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Levels of the other factors, in words, and the compared rows at these."""
        rest = [name for name in self.factors if name not in without]
        if not rest:
            yield "", self.compared
            return
        places = {
            name: {level: i for i, level in enumerate(self.factors[name])}
            for name in rest
        }

        def place(group: tuple[tuple[Any, ...], pd.DataFrame]) -> list[int]:
            return [places[n].get(v, -1) for n, v in zip(rest, group[0], strict=True)]

        groups = self.compared.groupby(rest, sort=False, dropna=False)
        for levels, part in sorted(groups, key=place):
            named = zip(rest, levels, strict=True)
            yield ", ".join(f"{k} = {v}" for k, v in named if _known(v)), part


def wide(levels: Sequence[float]) -> bool:
    """Whether positive levels span a factor of over ten, for a logarithmic axis."""
    return min(levels) > 0 and max(levels) > 10 * min(levels)


def few(levels: Sequence[float]) -> bool:
    """Whether an axis has room for a tick at every level."""
    return len(levels) < 10


def averaged(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means over repetitions with their standard errors, a row for each group.

    The standard error is that between repetitions, which includes Monte-Carlo error; of
    a single repetition it is the Monte-Carlo error. Intervals are by Student's t, each
    at 1 - LEVEL by itself.

    Returns:
        Columns: `by`, `cells`, each measure, its error (`_se`) and half the width of
        its interval (`_half`), `differs` (cells), `run_s`, `ess_per_s` and `within_s`
        (medians).
    """
    found = []
    for levels, part in rows.groupby(list(by), sort=False, dropna=False):
        row: dict[str, Any] = dict(zip(by, levels, strict=True))
        row["cells"] = n = len(part)
        wide = stats.t.isf(LEVEL / 2, n - 1) if n > 1 else stats.norm.isf(LEVEL / 2)
        for measure in SHOWN:
            values = part[measure.name].to_numpy()
            row[measure.name] = float(values.mean())
            row[f"{measure.name}_se"] = se = (
                float(values.std(ddof=1) / np.sqrt(n))
                if n > 1
                else float(part[f"{measure.name}_se"].iloc[0])
            )
            row[f"{measure.name}_half"] = float(wide * se)
        row["differs"] = int((part["verdict"] == "differs").sum())
        for name in ("run_s", "ess_per_s", "within_s"):
            row[name] = float(pd.to_numeric(part[name]).median())
        found.append(row)
    return pd.DataFrame(found)


def open_sweep(folder: Path | str) -> StoredSweep:
    """Read a sweep's folder.

    Raises:
        InputError: it is not there or damaged, or no cell of it is finished.
    """
    store = Store(folder, create=False)
    cells = _asked(store, "SELECT * FROM cells ORDER BY rowid")
    if cells.empty:
        raise ReportError(f"sweep {str(folder)!r}: no cell is finished yet")
    cells = cells.rename(columns={"name": "sweep"}).assign(block=cells["data"])
    chosen = _chosen(cells)
    cells = pd.concat([cells, _simulated(cells), chosen], axis=1)
    factors = _factors(cells, [*FACTORS, *chosen.columns])
    methods = _asked(store, "SELECT * FROM methods ORDER BY rowid")
    errors = _errors(_asked(store, "SELECT * FROM quantities WHERE judged"))
    trust = _trust(_asked(store, "SELECT key, method, r_hat, ess_bulk FROM quantities"))
    known = [*factors, *SIZES, "data", "reference", "shared", "seed", "block"]
    table = (
        cells[["key", *dict.fromkeys(known)]]
        .merge(methods, on="key")
        .merge(errors, how="left", on=["key", "method"])
        .merge(trust, how="left", on=["key", "method"])
    )
    states = status(store)
    return StoredSweep(
        Path(folder),
        table,
        factors,
        list(store.plans()),
        [failure for one in states for failure in one.failures],
        sum(one.waiting for one in states),
        _example(store, str(cells["key"].iloc[0])),
    )


def _asked(store: Store, sql: str) -> pd.DataFrame:
    names, rows = query(store, sql)
    return pd.DataFrame(rows, columns=names)


def _example(store: Store, key: str) -> Record:
    try:
        text = store.read(key, "summary.json")
    except Damaged as error:
        raise ReportError(f"sweep {str(store.folder)!r}: {error}") from None
    return parse(text, f"sweep {str(store.folder)!r}, cell {key}")


def _simulated(cells: pd.DataFrame) -> pd.DataFrame:
    """What simulated data were drawn with; their name becomes "simulated" in place."""
    found = [simulation(str(name)) or {} for name in cells["data"]]
    cells["data"] = [
        "simulated" if made else name
        for made, name in zip(found, cells["data"], strict=True)
    ]
    return pd.DataFrame(
        {
            "separation": [made.get("separation") for made in found],
            "overlap": [made.get("overlap") for made in found],
            "clusters": [made.get("K") for made in found],
        }
    )


def _chosen(cells: pd.DataFrame) -> pd.DataFrame:
    """The fields of a grid that are not columns yet, as columns."""
    chosen = [json.loads(text) for text in cells["choice"]]
    names = dict.fromkeys(name for choice in chosen for name in choice)
    return pd.DataFrame(
        {
            name: [_level(choice.get(name)) for choice in chosen]
            for name in names
            if name not in cells.columns and name != "name"
        }
    )


def _level(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _factors(cells: pd.DataFrame, names: Sequence[str]) -> dict[str, list[Any]]:
    """Factor -> levels, of those that vary and do not follow from earlier ones."""
    found: dict[str, list[Any]] = {}
    for name in names:
        settled = (
            cells.groupby(list(found), dropna=False)[name].nunique(dropna=False).max()
            if found
            else cells[name].nunique(dropna=False)
        )
        if settled > 1:
            levels = [v for v in cells[name].drop_duplicates() if _known(v)]
            found[name] = sorted(levels) if _numbers(levels) else levels
    return found


def _known(value: Any) -> bool:
    return value is not None and value == value


def _numbers(levels: Sequence[Any]) -> bool:
    kinds = (int, float, np.integer, np.floating)
    return len(levels) > 1 and all(
        isinstance(v, kinds) and not isinstance(v, bool) for v in levels
    )


def _errors(judged: pd.DataFrame) -> pd.DataFrame:
    """The measures of every cell and method compared, with standard errors and floors.

    The error of an average over quantities is taken to be the average of their errors,
    an upper bound: quantities of one cell share their draws. So are floors; those of
    the largest of m are by Bonferroni.
    """
    judged = judged[judged["w1"].notna() & judged["sd_ratio"].notna()]
    one, either = stats.norm.isf([LEVEL, LEVEL / 2])
    rows = []
    for (key, method), part in judged.groupby(["key", "method"], sort=False):
        of_mean, of_sd = part["mean_difference"].abs(), part["sd_ratio"]
        logs = np.log(of_sd.clip(lower=1e-300))
        mean, sd = of_mean.idxmax(), logs.abs().idxmax()
        ratio, factor = (float(np.exp(v)) for v in (logs.mean(), abs(logs[sd])))
        relative = part["sd_ratio_se"] / of_sd.clip(lower=1e-300)
        of_any = stats.norm.isf(LEVEL / 2 / len(part))
        rows.append(
            {
                "key": key,
                "method": method,
                "log_sd": float(logs.abs().mean()),
                "log_sd_se": float(relative.mean()),
                "log_sd_floor": float(either * relative.mean()),
                "sd_ratio": ratio,
                "sd_ratio_se": ratio * float(relative.mean()),
                "worst_sd": factor,
                "worst_sd_se": factor * float(relative[sd]),
                "worst_sd_floor": float(np.exp(of_any * relative.max())),
                "worst_mean": of_mean[mean],
                "worst_mean_se": part["mean_difference_se"][mean],
                "worst_mean_floor": float(of_any * part["mean_difference_se"].max()),
                "w1": float(part["w1"].mean()),
                "w1_se": float(part["w1_se"].mean()),
                "w1_floor": float((part["w1_floor"] + one * part["w1_se"]).mean()),
            }
        )
    names = [n for m in MEASURES for n in (m.name, f"{m.name}_se", f"{m.name}_floor")]
    names += [DIRECTION.name, f"{DIRECTION.name}_se"]
    return pd.DataFrame(rows, columns=["key", "method", *names])


def _trust(quantities: pd.DataFrame) -> pd.DataFrame:
    grouped = quantities.groupby(["key", "method"], sort=False)
    return grouped.agg(
        r_hat=("r_hat", "max"), ess_bulk=("ess_bulk", "min")
    ).reset_index()
