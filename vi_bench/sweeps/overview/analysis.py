"""Statistics over a sweep: ranks of methods, growth of times, means over factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vi_bench.sweeps.overview.stored import (
    FEWEST,
    LEVEL,
    MEASURES,
    StoredSweep,
    averaged,
)

RANKED = 5
"""Fewest data sets for a ranking."""

RESAMPLED = 4000
"""Bootstrap samples of the data sets."""


@dataclass(frozen=True)
class Rank:
    """A method's mean rank.

    Attributes:
        mean: mean over data sets of the mean rank over a data set's cells.
        se: its standard error, between data sets.
        low: lower end of its bootstrap interval over data sets, at 1 - LEVEL.
        high: upper end.
    """

    mean: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods, 1 for the best (Demsar 2006).

    Cells of the same data are not independent, so a data set is one block. Values
    below the floor of a cell, which is the largest of its methods', are ties.

    Attributes:
        measure: title of the measure that methods are ranked by.
        cells: number of cells in which every method has a number.
        blocks: number of data sets that they are of.
        ranks: method -> its mean rank, best first.
        critical: critical difference of two mean ranks over the blocks (Nemenyi, 5 %).
        p_value: p-value of Friedman's test that all methods are alike; nan for two
            methods, and where all ranks are ties.
    """

    measure: str
    cells: int
    blocks: int
    ranks: dict[str, Rank]
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
    """Rankings by each measure of error, and by the seconds to a given error.

    Methods stop by different rules, so the seconds of their runs are not ranked, and
    those to the margin only where every cell had the machine to itself.
    """
    compared = sweep.compared
    found = [
        _ranking(
            m.title,
            compared,
            (compared[m.name] - m.exact).abs(),
            compared[f"{m.name}_floor"] - m.exact,
        )
        for m in MEASURES
    ]
    if not compared["shared"].astype(bool).any():
        seconds = pd.to_numeric(compared["within_s"])
        measured = seconds.groupby(compared["key"]).transform("count") > 0
        found.append(
            _ranking(
                "seconds until all means stay within the margin",
                compared[measured],
                seconds[measured].fillna(np.inf),
                pd.Series(0.0, index=compared.index[measured]),
            )
        )
    return [ranking for ranking in found if ranking is not None]


def _ranking(
    title: str, rows: pd.DataFrame, values: pd.Series, floors: pd.Series
) -> Ranking | None:
    tied = values.clip(lower=floors.groupby(rows["key"]).transform("max"))
    wide = rows.assign(value=tied).pivot(index="key", columns="method", values="value")
    # a method with a number in few cells is left out, rather than the other cells
    wide = wide.loc[:, wide.notna().mean() > 0.5].dropna()
    blocks = rows.drop_duplicates("key").set_index("key")["block"].reindex(wide.index)
    ranks = wide.rank(axis=1).groupby(blocks).mean()
    many, methods = ranks.shape
    if many < RANKED or methods < 2:
        return None
    means, errors = ranks.mean(), ranks.std(ddof=1) / np.sqrt(many)
    drawn = np.random.default_rng(0).integers(many, size=(RESAMPLED, many))
    resampled = ranks.to_numpy()[drawn].mean(axis=1)
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    ends = dict(zip(ranks.columns, zip(low, high, strict=True), strict=True))
    quantile = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / np.sqrt(2)
    return Ranking(
        title,
        len(wide),
        many,
        {
            str(m): Rank(float(means[m]), float(errors[m]), *map(float, ends[m]))
            for m in means.sort_values().index
        },
        float(quantile * np.sqrt(methods * (methods + 1) / (6 * many))),
        float(stats.friedmanchisquare(*ranks.to_numpy().T).pvalue)
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
