"""The tables of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from vi_bench.comparison.verdict import Word
from vi_bench.reports.tables import Cell, Number, ReportTable
from vi_bench.sweeps.overview.analysis import growths, rankings
from vi_bench.sweeps.overview.stored import SHOWN, StoredSweep, averaged

WORDS: tuple[str, ...] = get_args(Word)

NOTES = {m.head: m.note for m in SHOWN}


def sweep_tables(sweep: StoredSweep) -> list[ReportTable]:
    """All tables of a sweep that have rows."""
    made = (
        outcomes(sweep),
        settings(sweep),
        ranks(sweep),
        growth(sweep),
        references(sweep),
        failures(sweep),
        cells(sweep),
    )
    return [table for table in made if table.rows]


def outcomes(sweep: StoredSweep) -> ReportTable:
    """A row per method: numbers of cells by verdict and outcome."""
    rows: list[tuple[Cell, ...]] = []
    for method in sweep.methods:
        own = sweep.table[sweep.table["method"] == method]
        known = own["verdict"].value_counts()
        ended = own["outcome"].value_counts()
        rows.append(
            (
                method,
                Number(len(own)),
                *(Number(int(known.get(word, 0))) for word in WORDS),
                Number(int((own["reference"] == method).sum())),
                Number(int(ended.get("failed", 0) + ended.get("not finite", 0))),
                Number(int(ended.get("skipped", 0))),
            )
        )
    head = ("method", "cells", *WORDS, "is reference", "failed", "skipped")
    return ReportTable("outcomes", "verdicts, in cells", head, tuple(rows))


def settings(sweep: StoredSweep) -> ReportTable:
    """A row per combination of factors and method: mean errors over repetitions."""
    names = list(sweep.factors)
    if sweep.compared.empty:
        return ReportTable("settings", "", (), ())
    found = averaged(sweep.compared, [*names, "method"])
    rows = tuple(
        (
            *(_level(row[name]) for name in names),
            row["method"],
            Number(row["cells"]),
            Number(row["differs"]),
            *(Number(row[m.name], row[f"{m.name}_se"]) for m in SHOWN),
            Number(_finite(row["run_s"])),
            Number(_finite(row["ess_per_s"])),
            Number(_finite(row["within_s"])),
        )
        for row in sweep.ordered(found).to_dict("records")
    )
    head = (
        *names,
        "method",
        "cells",
        "differ",
        *NOTES,
        "run s",
        "ESS/s",
        "s to margin",
    )
    notes = NOTES | {
        "cells": "repetitions with other seeds; errors are between them, or the "
        "Monte-Carlo error of a single one",
        "run s": "median of the repetitions",
        "ESS/s": "of samplers, likewise",
        "s to margin": "seconds after which all means stay within the margin, likewise "
        "(curves = true)",
    }
    return ReportTable("settings", "differences from the reference", head, rows, notes)


def ranks(sweep: StoredSweep) -> ReportTable:
    """A row per measure and method: mean rank and critical difference."""
    rows = [
        (
            one.measure,
            method,
            Number(rank.mean, rank.se),
            Number(rank.low),
            Number(rank.high),
            Number(one.critical),
            Number(_finite(one.p_value)),
            Number(one.blocks),
            Number(one.cells),
        )
        for one in rankings(sweep)
        for method, rank in one.ranks.items()
    ]
    return ReportTable(
        "ranks",
        "mean ranks over data sets, 1 for the best",
        ("measure", "method", "rank", "low", "high", "critical", "p", "data", "cells"),
        tuple(rows),
        {
            "rank": "values that cannot be told from an exact method's are ties; the "
            "error is between data sets",
            "low": "of a 95 % bootstrap interval over data sets",
            "high": "of the same",
            "data": "data sets: cells of the same data are not independent",
            "critical": "mean ranks further apart than this differ (Nemenyi, 5 %)",
            "p": "of Friedman's test that all methods are alike; of three or more",
        },
    )


def growth(sweep: StoredSweep) -> ReportTable:
    """A row per size and method: the exponent of time."""
    rows = [
        (one.size, one.method, Number(one.exponent, one.se), Number(one.cells))
        for one in growths(sweep)
    ]
    return ReportTable(
        "growth",
        "seconds of a run as a power of a size",
        ("size", "method", "exponent", "cells"),
        tuple(rows),
        {"exponent": "fitted within cells that are alike in all else"},
    )


def references(sweep: StoredSweep) -> ReportTable:
    """A row per method that was a reference: its diagnostics over its cells."""
    table = sweep.table
    rows = []
    for method in sweep.methods:
        own = table[(table["method"] == method) & (table["reference"] == method)]
        keys = own["key"]
        held = table[table["key"].isin(keys) & (table["method"] != method)]
        doubted = held.loc[held["verdict"] == "reference unreliable", "key"].nunique()
        if len(own):
            rows.append(
                (
                    method,
                    Number(len(own)),
                    Number(doubted),
                    Number(_finite(own["r_hat"].max()), decimals=3),
                    Number(_finite(own["ess_bulk"].min())),
                    Number(_finite(own["ess_bulk"].median())),
                )
            )
    head = ("reference", "cells", "doubted", "largest R-hat", "least ESS", "median ESS")
    return ReportTable(
        "references",
        "references",
        head,
        tuple(rows),
        {
            "doubted": "cells with the verdict `reference unreliable`",
            "least ESS": "bulk, over all cells and quantities",
            "median ESS": "of the cells' smallest",
        },
    )


def failures(sweep: StoredSweep) -> ReportTable:
    """A row per cell that is not finished, and per method that failed."""
    from vi_bench.sweeps.grid import said

    rows: list[tuple[Cell, ...]] = []
    for failure in sweep.failures:
        last = failure.attempts[-1]
        rows.append((said(failure.choice), "", last.status, last.reason, failure.key))
    bad = sweep.table[sweep.table["outcome"].isin(("failed", "not finite"))]
    for row in bad.to_dict("records"):
        known = (row["method"], row["outcome"], row["sentence"], row["key"])
        rows.append((sweep.place(row), *known))
    head = ("cell", "method", "status", "reason", "key")
    return ReportTable("failures", "what failed", head, tuple(rows))


def cells(sweep: StoredSweep) -> ReportTable:
    """A row per cell and method: verdict, errors, seconds and diagnostics."""
    names = [*sweep.factors, "seed"]
    rows = tuple(
        (
            *(_level(row[name]) for name in names),
            row["method"],
            _word(row),
            *(
                Number(_finite(row[m.name]), _finite(row[f"{m.name}_se"]))
                for m in SHOWN
            ),
            Number(_finite(row["w1_floor"])),
            Number(_finite(row["run_s"])),
            Number(_finite(row["r_hat"]), decimals=3),
            Number(_finite(row["ess_bulk"])),
            row["key"],
        )
        for row in sweep.ordered(sweep.table).to_dict("records")
    )
    notes = NOTES | {
        "W1 floor": "what W1 is below, in 95 % of cells, where the posterior is exact"
    }
    head = (*names, "method", "verdict", *notes, "run s", "R-hat", "ESS", "key")
    return ReportTable("cells", "every cell and method", head, rows, notes)


def _word(row: Mapping[str, Any]) -> str:
    if isinstance(row["verdict"], str):
        return str(row["verdict"])
    good = row["reference"] == row["method"] and not math.isnan(row["ess_bulk"])
    return "reference" if good else str(row["outcome"])


def _level(value: Any) -> Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(_finite(value))
    return "" if value is None else str(value)


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
