"""A sweep as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vi_bench.reports.html import Item, Section, foot, pairs, render, toml
from vi_bench.reports.sentences import Sentence
from vi_bench.reports.tables import ReportTable
from vi_bench.sweeps.overview.interactive import sweep_pictures
from vi_bench.sweeps.overview.stored import StoredSweep
from vi_bench.sweeps.overview.tables import WORDS, sweep_tables

MOST = 1000
"""Largest number of rows of a table on the page."""


def sweep_page(sweep: StoredSweep) -> str:
    """The page of a sweep, as HTML."""
    drawn = sweep_pictures(sweep)
    made = {table.name: _cut(table) for table in sweep_tables(sweep)}
    environment = sweep.example.environment
    done = sweep.table["key"].nunique()
    varied = ", ".join(f"{name} ({len(v)})" for name, v in sweep.factors.items())
    lead = (
        f"{done:,} cell{'s' * (done != 1)} of {', '.join(sweep.methods)}"
        + (f" over {varied}" if varied else "")
        + f"; {environment['device']}, {environment['precision']} bits"
    )

    def items(*names: str) -> list[Item]:
        found = [Item("picture", drawn[name]) for name in names if name in drawn]
        return found + [Item("table", made[name]) for name in names if name in made]

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
    return render(sweep.name, lead, sections, drawn, foot(sweep.example.environment))


def _verdicts(sweep: StoredSweep) -> Iterator[Sentence]:
    for method in sweep.methods:
        own = sweep.table[sweep.table["method"] == method]
        known = own["verdict"].value_counts()
        if not known.sum():
            continue
        told = [f"{known[word]} {word}" for word in WORDS if word in known]
        share = known.get("agrees", 0) / known.sum()
        word = "agrees" if share == 1 else "differs" if not share else "mixed"
        yield Sentence(f"of {known.sum()} cells: {', '.join(told)}.", method, word)


def _unfinished(sweep: StoredSweep) -> Iterator[Sentence]:
    if sweep.failures:
        yield Sentence(f"{len(sweep.failures)} cells failed and are not in this page.")
    if sweep.waiting:
        yield Sentence(f"{sweep.waiting} cells are not finished yet.")


def _made(sweep: StoredSweep) -> list[Item]:
    environment = dict(sweep.example.environment)
    environment |= environment.pop("packages")
    plans = [
        Item("code", toml({k: v for k, v in plan.items() if k != "cells"}), "Sweep")
        for plan in sweep.plans
    ]
    return [
        Item("code", "vi-bench sweep SPEC.toml --out FOLDER", "Repeat it, or go on"),
        *plans,
        Item("table", pairs("environment", "environment of one cell", environment)),
    ]


def _cut(table: ReportTable) -> ReportTable:
    if len(table.rows) <= MOST:
        return table
    title = f"{table.title}; the first {MOST} of {len(table.rows)} (--tables has all)"
    return replace(table, title=title, rows=table.rows[:MOST])
