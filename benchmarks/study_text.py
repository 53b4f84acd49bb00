"""The text of docs/study.md, every number of which is read from published tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.page import table
from vi_bench.reports.tables import Number
from vi_bench.sweeps.overview.stored import LEVEL
from vi_bench.sweeps.overview.tables import WORDS

TEMPLATE = Path(__file__).with_name("study.md.jinja")
FACTORIAL = ("cavi", "svi", "full-rank")
"""Labels in q and independent of the means; summed out, means independent; joint."""

ERRORS = ("log sd", "worst mean", "W1")


def read(out: Path, sweep: str, name: str) -> pd.DataFrame:
    """A published table."""
    return pd.read_csv(out / sweep / f"{name}.csv")


def compared(out: Path, sweep: str) -> pd.DataFrame:
    """Cells and methods that were compared with a reliable reference."""
    cells = read(out, sweep, "cells")
    return cells[cells["W1"].notna() & (cells["verdict"] != "reference unreliable")]


def number(value: float, se: float | None = None) -> str:
    """A number with its standard error, as text."""
    return str(Number(float(value), se))


def mean_of(values: Iterable[float]) -> str:
    """The mean over replications with its standard error, as text."""
    x = np.asarray(list(values))
    return number(x.mean(), x.std(ddof=1) / np.sqrt(len(x)))


def interval(values: pd.Series, among: int) -> tuple[float, float, float]:
    """Mean, and ends of a t interval, of `among` that hold together (Bonferroni)."""
    x = values.to_numpy()
    wide = stats.t.isf(LEVEL / 2 / among, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(x.mean() - wide), float(x.mean() + wide)


def by_method(cells: pd.DataFrame, axes: Sequence[str], name: str) -> pd.DataFrame:
    """A measure with a row per cell and a column per method, under its factors."""
    return cells.pivot(index=[*axes, "key"], columns="method", values=name)


def combinations(cells: pd.DataFrame, axes: Sequence[str]) -> list[Any]:
    """Levels of the factors and the cells there, hardest first."""
    return sorted(cells.groupby(list(axes)), key=lambda g: order(g[0]))


def order(levels: tuple[float, ...]) -> tuple[float, ...]:
    """From much overlap to little, then from few components to many."""
    return (-levels[0], *levels[1:])


def phase(out: Path) -> dict[str, Any]:
    """Values for the section on where mean field fails."""
    axes = ("overlap", "components")
    cells = compared(out, "phase")
    ended = read(out, "phase", "outcomes").set_index("method")
    trust = read(out, "phase", "references").iloc[0]
    counts = cells.groupby([*axes, "method"]).size()
    narrow, low, high = 0, np.inf, 0.0
    rows = []
    groups = combinations(cells, axes)
    for levels, part in groups:
        own = {m: part[part["method"] == m] for m in FACTORIAL}
        logs = np.log(own["cavi"]["sd ratio"])
        narrow += interval(logs, len(groups))[2] < 0
        mean = float(own["cavi"]["log sd"].mean())
        low, high = min(low, mean), max(high, mean)
        rows.append(
            [
                in_words(levels),
                *(mean_of(own[m][e]) for e in ERRORS for m in FACTORIAL),
            ]
        )
    head = ("overlap, K", *(f"{m}: {e}" for e in ERRORS for m in FACTORIAL))
    return {
        "levels": axes_in_words(cells, int(counts.min()), int(counts.max())),
        "errors": table(head, rows),
        "narrow": narrow,
        "combinations": len(rows),
        "factor_low": f"{np.exp(low):.2f}",
        "factor_high": f"{np.exp(high):.2f}",
        "parts": parts(cells, axes),
        "floor": f"{cells['W1 floor'].median():.3f}",
        "cells": trust["cells"],
        "ended": verdicts_in_words(ended),
        "trusted": trust["cells"] - trust["doubted"],
        "trust": trust,
    }


def axes_in_words(cells: pd.DataFrame, least: int, most: int) -> str:
    """The levels of the phase diagram's factors, in words."""
    ks = ", ".join(f"{k:g}" for k in sorted(cells["components"].unique()))
    overlaps = ", ".join(f"{o:g}" for o in sorted(cells["overlap"].unique())[::-1])
    many = f"{least}" if least == most else f"{least} to {most}"
    return f"K = {ks}; overlaps {overlaps}; {many} data sets for each combination"


def parts(cells: pd.DataFrame, axes: Sequence[str]) -> dict[str, Any]:
    """What summing labels out and freeing the means from one another takes off W1."""
    wide = by_method(cells, axes, "W1")
    steps = pd.DataFrame(
        {
            "labels": wide["cavi"] - wide["svi"],
            "means": wide["svi"] - wide["full-rank"],
            "more": wide["cavi"] - 2 * wide["svi"] + wide["full-rank"],
        }
    ).dropna()
    groups = combinations(steps, axes)
    among = 3 * len(groups)
    found: dict[str, dict[str, int]] = {
        step: {"up": 0, "down": 0} for step in steps.columns
    }
    rows = []
    for levels, part in groups:
        row = [in_words(levels), mean_of(wide.loc[levels, "cavi"])]
        for step in steps.columns:
            middle, low, high = interval(part[step], among)
            found[step]["up"] += low > 0
            found[step]["down"] += high < 0
            if step != "more":
                row.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        rows.append(row)
    head = ("overlap, K", "CAVI's W1", "labels summed out", "means joint")
    return {"table": table(head, rows), "found": found, "among": among}


def verdicts_in_words(ended: pd.DataFrame) -> dict[str, str]:
    """Method -> how often each verdict was given, of those that were."""
    return {
        str(method): ", ".join(
            f"{word} in {row[word]}" for word in WORDS if row.get(word, 0)
        )
        for method, row in ended.iterrows()
    }


def standings(out: Path, sweep: str) -> str:
    """A table of verdicts and ranks, one row a method, with a caption."""
    ended = read(out, sweep, "outcomes").set_index("method")
    ranks = read(out, sweep, "ranks")
    ranks = ranks[ranks["measure"] == "W1 / sd, mean"].set_index("method")
    order = [*ranks.index, *(m for m in ended.index if m not in ranks.index)]
    shown = [word for word in WORDS if ended.get(word, pd.Series(0)).sum()]
    rows = []
    for method in order:
        own = ended.loc[method]
        held = own["is reference"] < own["cells"]
        counts = [f"{own[word]}" if held else "" for word in shown]
        left_out = f"{own['skipped'] + own['failed']}"
        rank = ["", ""]
        if method in ranks.index:
            one = ranks.loc[method]
            rank = [f"{one['rank']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}"]
        rows.append([str(method), *counts, left_out, *rank])
    head = ("method", *shown, "skipped or failed", "mean rank", "95 %")
    told = "The table counts cells by verdict."
    if len(ranks):
        first = ranks.iloc[0]
        told += (
            f" Mean ranks are by W1 over {first['data']} data sets; values below "
            "Monte-Carlo error are ties; intervals are by bootstrap over data sets, "
            f"and two mean ranks differ where they are {first['critical']:.2f} apart "
            "(Nemenyi, 5 % for all pairs together)."
        )
    told += doubted(out, sweep)
    return f"{table(head, rows)}\n\n{textwrap.fill(told, 88)}"


def doubted(out: Path, sweep: str) -> str:
    """A sentence for each reference that was unreliable in some cells."""
    told = ""
    trust = read(out, sweep, "references")
    for _, one in trust[trust["doubted"] > 0].iterrows():
        told += (
            f" In {one['doubted']} of {one['cells']} cells the reference "
            f"{one['reference']} failed its diagnostics (R-hat up to "
            f"{one['largest R-hat']:.2f}, ESS down to {one['least ESS']:.0f}): they "
            "count as `reference unreliable`, and their distances are left out."
        )
    return told


def families(out: Path) -> str:
    """W1 by family and method, means over data sets with standard errors."""
    cells = compared(out, "families")
    methods = [
        m for m in ("cavi", "svi", "full-rank", "gibbs") if m in set(cells.method)
    ]
    rows = []
    for family, part in cells.groupby("model", sort=False):
        wide = part.pivot(index="key", columns="method", values="W1")
        numbers = [mean_of(wide[m].dropna()) for m in methods]
        rows.append([str(family), f"{len(wide)}", *numbers])
    return table(("family", "data sets", *methods), rows)


def words(out: Path, sweep: str, axes: Sequence[str]) -> str:
    """Verdicts by factors (rows) and methods (columns), with how often each is."""
    cells = read(out, sweep, "cells").fillna({"verdict": ""})
    methods = list(dict.fromkeys(cells["method"]))
    rows = []
    for levels, part in cells.groupby(list(axes), sort=False):
        row = [in_words(levels)]
        for method in methods:
            own = part.loc[part["method"] == method, "verdict"]
            many = own.value_counts()
            row.append(
                "; ".join(
                    f"{word} {many[word]}" if many[word] < len(own) else str(word)
                    for word in many.index
                )
            )
        rows.append(row)
    used = [i for i, _ in enumerate(methods) if any(row[i + 1] for row in rows)]
    rows = [[row[0], *(row[i + 1] for i in used)] for row in rows]
    return table((", ".join(axes), *(methods[i] for i in used)), rows)


def in_words(levels: Iterable[Any]) -> str:
    """Levels of factors; whole numbers without a point."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in levels)


def settled(out: Path) -> dict[str, int]:
    """How often a verdict is one at all ten seeds, and at all three margins."""
    cells = read(out, "sensitivity", "cells")
    cells = cells[cells["verdict"].isin(WORDS)]
    by_seed = cells.groupby(["data", "model", "margin", "method"])["verdict"].nunique()
    main = cells.groupby(["data", "model", "method", "margin"])["verdict"].agg(
        lambda v: v.mode().iloc[0]
    )
    by_margin = main.groupby(["data", "model", "method"]).nunique()
    return {
        "seeds_same": int((by_seed == 1).sum()),
        "seeds_of": len(by_seed),
        "margins_same": int((by_margin == 1).sum()),
        "margins_of": len(by_margin),
    }


def exponents(out: Path) -> str:
    """A table of the exponents of time in each size, one row a method."""
    found = read(out, "growth", "growth")
    sizes = list(found["size"].unique())
    rows = []
    for method, own in found.groupby("method", sort=False):
        by_size = own.set_index("size")
        shown = [by_size.loc[size] for size in sizes]
        numbers = [number(row["exponent"], row["exponent se"]) for row in shown]
        rows.append([str(method), *numbers])
    return table(("method", *(f"with {size}" for size in sizes)), rows)


def more_rows(out: Path) -> str:
    """A table of `log sd` with the fewest and with the most rows, one row a K."""
    known = read(out, "growth", "cells")
    known = known[known["log sd"].notna()]
    ends = known["rows"].min(), known["rows"].max()
    lines = []
    for k, own in known.groupby("components"):
        by = own.groupby(["method", "rows"])["log sd"]
        cells = [mean_of(by.get_group((m, n))) for m in ("cavi", "svi") for n in ends]
        lines.append([f"{k:g}", *cells])
    names = (f"{m}: N = {n:g}" for m in ("CAVI", "SVI") for n in ends)
    return table(("K", *names), lines)


def text(out: Path) -> str:
    """The text of docs/study.md."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    specs = sorted(path.stem for path in out.glob("*.toml"))
    done = [name for name in specs if (out / name / "cells.csv").is_file()]
    found = made.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        done=done,
        waiting=", ".join(f"`{name}`" for name in specs if name not in done),
        standings=partial(standings, out),
        words=partial(words, out),
        families=partial(families, out),
        exponents=partial(exponents, out),
        more_rows=partial(more_rows, out),
        settled=settled(out) if "sensitivity" in done else {},
        **phase(out),
    )
    return found.rstrip() + "\n"
