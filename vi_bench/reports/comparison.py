"""A comparison without a run in the terminal: its tables, and sentences below them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from vi_bench.errors import ReportError
from vi_bench.reports import sentences, tables
from vi_bench.reports.render_terminal import drawn
from vi_bench.reports.style import print_lines
from vi_bench.results.summary_schema import ComparisonRecord
from vi_bench.runtime.strict_json import document


def comparison_lines(found: ComparisonRecord) -> Iterator[str]:
    """The reason for every verdict, sample sizes, and notes."""
    for label, verdict in found.verdicts.items():
        yield f"{label}: {verdict.word}: {verdict.reason}"
    for sentence in sentences.sizes(found):
        yield str(sentence)
    judged = {row.quantity for row in found.comparisons if row.judged}
    yield f"judged: {len(judged)} quantities"
    if found.note:
        yield found.note


def print_comparison(
    found: ComparisonRecord, console: Console, quiet: bool = False
) -> None:
    """Print the table and, unless quiet, joint distances, elpd and sentences."""
    console.print(drawn(tables.compared(found)))
    if quiet:
        return
    for beside in (tables.joint(found), tables.predictions(found.posteriors)):
        if beside.rows:
            console.print(drawn(beside))
    print_lines(console, comparison_lines(found))


def write_comparison(found: ComparisonRecord, path: Path) -> None:
    """Write the record of a comparison as JSON.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(document(found.values()))
    except FileExistsError:
        raise ReportError(f"{path} exists; name another file") from None
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from None
