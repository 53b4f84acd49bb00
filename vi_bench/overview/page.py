"""A sweep as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from vi_bench.overview.grids import WORDS, sweep_grids
from vi_bench.overview.pictures import sweep_pictures
from vi_bench.overview.stored import StoredSweep
from vi_bench.publish.grids import Grid
from vi_bench.publish.page import Item, Line, Section, foot, pairs, render, toml

MOST = 1000
"""Rows of a table on the page."""


def sweep_page(sweep: StoredSweep) -> str:
    """The page of a sweep, as HTML."""
    drawn = sweep_pictures(sweep)
    tables = {grid.name: _cut(grid) for grid in sweep_grids(sweep)}
    environment = sweep.example["environment"]
    done = sweep.table["key"].nunique()
    varied = ", ".join(f"{name} ({len(v)})" for name, v in sweep.factors.items())
    lead = (
        f"{done:,} cell{'s' * (done != 1)} of {', '.join(sweep.methods)}"
        + (f" over {varied}" if varied else "")
        + f"; {environment['device']}, {environment['precision']} bits"
    )

    def items(*names: str) -> list[Item]:
        found = [Item("picture", drawn[name]) for name in names if name in drawn]
        return found + [Item("grid", tables[name]) for name in names if name in tables]

    sections = [
        Section("right", "Is it right?", list(_verdicts(sweep)), items("outcomes")),
        Section(
            "far",
            "How far off?",
            [],
            items("phases", "curves", "ranks", "settings", "cells"),
        ),
        Section("cost", "What did it cost?", [], items("pareto", "scaling", "growth")),
        Section(
            "trust",
            "Can the references be trusted?",
            list(_unfinished(sweep)),
            items("references", "failures"),
        ),
        Section("made", "How was it made?", [], _made(sweep)),
    ]
    return render(sweep.name, lead, sections, drawn, foot(sweep.example))


def _verdicts(sweep: StoredSweep) -> Iterator[Line]:
    for method in sweep.methods:
        own = sweep.table[sweep.table["method"] == method]
        known = own["verdict"].value_counts()
        if not known.sum():
            continue
        told = [f"{known[word]} {word}" for word in WORDS if word in known]
        share = known.get("agrees", 0) / known.sum()
        word = "agrees" if share == 1 else "differs" if not share else "mixed"
        yield Line(f"of {known.sum()} cells: {', '.join(told)}.", method, word)


def _unfinished(sweep: StoredSweep) -> Iterator[Line]:
    if sweep.failures:
        yield Line(f"{len(sweep.failures)} cells failed and are not in this page.")
    if sweep.waiting:
        yield Line(f"{sweep.waiting} cells are not finished yet.")


def _made(sweep: StoredSweep) -> list[Item]:
    environment = dict(sweep.example["environment"])
    environment |= environment.pop("packages")
    plans = [
        Item("code", toml({k: v for k, v in plan.items() if k != "cells"}), "Sweep")
        for plan in sweep.plans
    ]
    return [
        Item("code", "vi-bench sweep SPEC.toml --out FOLDER", "Repeat it, or go on"),
        *plans,
        Item("grid", pairs("environment", "environment of one cell", environment)),
    ]


def _cut(grid: Grid) -> Grid:
    if len(grid.rows) <= MOST:
        return grid
    title = f"{grid.title}; the first {MOST} of {len(grid.rows)} (--tables has all)"
    return Grid(grid.name, title, grid.head, grid.rows[:MOST], grid.notes)
