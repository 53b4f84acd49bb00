"""A run in the terminal: the verdicts first, everything else on request.

The columns come from `tables`, the sentences from `sentences`.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vi_bench.reports import sentences
from vi_bench.reports.style import NOTHING, bare_table, print_lines
from vi_bench.reports.tables import Cell, Number, ReportTable, tables, verdicts
from vi_bench.results.summary_schema import Record

STYLE = {
    "agrees": "green",
    "agrees in marginals": "yellow",
    "differs": "red",
    "at the margin": "yellow",
    "inconclusive": "yellow",
    "reference unreliable": "yellow",
    "reference": "bold",
    "failed": "red",
    "not finite": "red",
}
"""Word in a cell -> its style in the terminal."""

ROWS = 16
"""Largest number of rows of a long table in the terminal."""

LINES = 12
"""Largest number of sentences under the table of verdicts."""


def drawn(table: ReportTable, title: str | None = None) -> Table:
    """A table for `rich.print`; of a long one only the first `ROWS` rows."""
    count = len(table.rows)
    most = ROWS if table.long else count
    more = f", the first {most} of {count}" if count > most else ""
    found = bare_table(escape(f"{title or table.title}{more}"), table.keys)
    for at, name in enumerate(table.head):
        right = table.numeric(at)
        found.add_column(
            escape(name).replace(" ", "\n", 1) if right else escape(name),
            justify="right" if right else "left",
            no_wrap=at < table.keys,
        )
    for row in table.rows[:most]:
        found.add_row(*(cell_text(cell) for cell in row))
    return found


def cell_text(cell: Cell) -> str:
    """A cell as rich markup, verdicts in their colours."""
    text = str(cell)
    if not text:
        return NOTHING
    style = STYLE.get(text) if not isinstance(cell, Number) else None
    return f"[{style}]{text}[/]" if style else escape(text)


def verdict_table(run: Record) -> Table:
    """The table of verdicts that a run ends with, a row per method."""
    title = (
        f"{run.name}: {sentences.size(run)}, {run.environment['precision']} bits, "
        f"{run.environment['device']}"
    )
    return drawn(verdicts(run), title)


def further_tables(run: Record) -> Iterator[Table]:
    """All tables of a run but the verdicts."""
    yield from (drawn(table) for table in tables(run) if table.name != "verdicts")


def print_run(
    run: Record, console: Console, details: bool = False, quiet: bool = False
) -> None:
    """Print the verdicts, and a line per method.

    Args:
        run: the run.
        console: console to print to.
        details: print all tables and all sentences.
        quiet: print no sentence.
    """
    console.print(verdict_table(run))
    if details:
        for table in further_tables(run):
            console.print(table)
    if quiet:
        return
    lines = [str(sentence) for sentence in sentences.endings(run)]
    notes = [str(sentence) for sentence in sentences.notes(run)]
    room = max(LINES - len(notes) - 2, 1)
    if not details and len(lines) > room + 1:
        lines = [*lines[:room], f"and {len(lines) - room} more methods: --details"]
    lines += notes
    if details:
        lines += [str(sentence) for sentence in sentences.further(run)]
    else:
        lines.append(
            "--details prints all tables and notes; so does the page, vi-bench report "
            "FOLDER"
        )
    print_lines(console, lines)
