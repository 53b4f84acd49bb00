"""Statistics over a sweep: ranks of methods, growth of times, means over factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vi_bench.sweeps.overview.stored import FEWEST, MEASURES, StoredSweep, averaged

LEVEL = 0.05
"""Level of the test of differences between mean ranks."""

RANKED = 3
"""Fewest cells for a ranking."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over cells, 1 for the best (Demsar 2006).

    Attributes:
        measure: title of the measure that methods are ranked by.
        cells: number of cells in which every method has a number.
        ranks: method -> mean rank and its standard error over cells, best first.
        critical: critical difference of two mean ranks (Nemenyi, 5 %).
        p_value: p-value of Friedman's test that all methods are alike; nan for two
            methods, and where all ranks are ties.
    """

    measure: str
    cells: int
    ranks: dict[str, tuple[float, float]]
    critical: float
    p_value: float


@dataclass(frozen=True)
class Growth:
    """Seconds of a steady run as a power of a size.

    Attributes:
        method: label of the method.
        size: "rows", "features" or "components".
        exponent: slope of log seconds on log size, within groups of cells that are
            alike in all other factors.
        se: standard error of the exponent, from the scatter around the line.
        cells: number of cells that it is fitted to.
    """

    method: str
    size: str
    exponent: float
    se: float
    cells: int


def rankings(sweep: StoredSweep) -> list[Ranking]:
    """Rankings by each measure of error and by seconds, if there are enough cells."""
    compared = sweep.compared
    found = [
        _ranking(m.title, compared, (compared[m.name] - m.exact).abs())
        for m in MEASURES
    ]
    timed = sweep.table[sweep.table["run_s"].notna()]
    found.append(_ranking("seconds of a run", timed, timed["run_s"]))
    return [ranking for ranking in found if ranking is not None]


def _ranking(title: str, rows: pd.DataFrame, values: pd.Series) -> Ranking | None:
    wide = rows.assign(value=values).pivot(
        index="key", columns="method", values="value"
    )
    # a method with a number in few cells is left out, rather than the other cells
    wide = wide.loc[:, wide.notna().mean() > 0.5].dropna()
    cells, methods = wide.shape
    if cells < RANKED or methods < 2:
        return None
    ranks = wide.rank(axis=1)
    means, errors = ranks.mean(), ranks.std(ddof=1) / np.sqrt(cells)
    order = means.sort_values().index
    quantile = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / np.sqrt(2)
    return Ranking(
        title,
        cells,
        {str(m): (float(means[m]), float(errors[m])) for m in order},
        float(quantile * np.sqrt(methods * (methods + 1) / (6 * cells))),
        float(stats.friedmanchisquare(*wide.to_numpy().T).pvalue)
        if methods > 2 and (ranks.nunique(axis=1) > 1).any()
        else np.nan,
    )


def growths(sweep: StoredSweep) -> list[Growth]:
    """Exponents of time, by method, in each size with at least FEWEST levels."""
    found = []
    for size in sweep.sizes:
        for method, rows in sweep.table.groupby("method", sort=False):
            others = [name for name in sweep.factors if name != size]
            x, y, groups = centred(rows, size, others)
            if len(x) - groups - 1 < 1 or np.unique(x).size < FEWEST:
                continue
            fit = stats.linregress(x, y)
            # the mean of every group was fitted, too
            spread = np.sqrt((len(x) - 2) / (len(x) - groups - 1))
            growth = float(fit.slope), float(fit.stderr * spread)
            found.append(Growth(str(method), size, *growth, len(x)))
    return found


def centred(
    rows: pd.DataFrame, size: str, others: list[str]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Log size and log seconds (n,), minus their group's means; number of groups."""
    rows = rows[rows["run_s"].notna() & (rows["run_s"] > 0)]
    logs = pd.DataFrame({"x": np.log(rows[size]), "y": np.log(rows["run_s"])})
    keys = [rows[name] for name in others] or [pd.Series(0, index=rows.index)]
    grouped = logs.groupby(keys, dropna=False)
    found = logs - grouped.transform("mean")
    return found["x"].to_numpy(), found["y"].to_numpy(), grouped.ngroups


@dataclass(frozen=True)
class Phase:
    """The errors of one method over two factors.

    Attributes:
        where: the levels of all other factors, in words; empty where there are none.
        method: label of the method.
        x: factor along the columns.
        y: factor along the rows.
        means: result of `averaged`, a row for each pair of levels.
    """

    where: str
    method: str
    x: str
    y: str
    means: pd.DataFrame

    @property
    def name(self) -> str:
        """The name in a list of choices."""
        return f"{self.method}, {self.where}" if self.where else self.method

    def field(self, column: str, xs: list[Any], ys: list[Any]) -> np.ndarray:
        """A column as a matrix (levels of y, levels of x); nan where it has no cell."""
        wide = self.means.pivot(index=self.y, columns=self.x, values=column)
        found: np.ndarray = wide.reindex(index=ys, columns=xs).to_numpy(float)
        return found


def phases(sweep: StoredSweep) -> list[Phase]:
    """Errors over the first two numeric factors; empty if there are fewer than two."""
    axes = sweep.numeric()[:2]
    if len(axes) < 2:
        return []
    x, y = axes
    return [
        Phase(where, str(method), x, y, averaged(rows, axes))
        for where, part in sweep.slices(axes)
        for method, rows in part.dropna(subset=axes).groupby("method", sort=False)
    ]
