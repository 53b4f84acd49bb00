"""A comparison by itself, without a run: its table, and the lines under it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vi_bench.comparison import Comparison
from vi_bench.documents import document
from vi_bench.errors import InputError
from vi_bench.record import comparison
from vi_bench.report.joint import joint_lines, joint_table, prediction_table
from vi_bench.report.style import NOTHING, bare_table
from vi_bench.report.table import STYLE, estimate, furthest, judged


def comparison_table(found: Comparison) -> Table:
    """A row per posterior; differences are the worst over the judged quantities."""
    drawn = bare_table()
    drawn.add_column("posterior", no_wrap=True)
    for name in ("draws", "min ESS", "max R-hat"):
        drawn.add_column(name, justify="right")
    drawn.add_column("worst mean\ndiff / sd", justify="right")
    drawn.add_column("worst\nsd ratio", justify="right")
    drawn.add_column("verdict", min_width=12)
    for label, known in found.summaries.items():
        quantities = [known[name] for name in found.judged if name in known]
        distances = judged(found, label)
        mean = furthest([d.mean_difference for d in distances], 0.0)
        ratio = furthest([d.sd_ratio for d in distances], 1.0)
        is_reference = label == found.reference
        word = "reference" if is_reference else found.verdicts[label].word
        style = STYLE.get(word)
        drawn.add_row(
            escape(label),
            " x ".join(map(str, found.relabellings[label].margin.shape)),
            f"{min(s.ess_bulk for s in quantities):.0f}",
            f"{max(s.r_hat for s in quantities):.3f}",
            NOTHING if mean is None else estimate(mean, "+.2f"),
            NOTHING if ratio is None else estimate(ratio, ".2f"),
            f"[{style}]{word}[/]" if style else word,
        )
    return drawn


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The reason of every verdict, and notes."""
    for label, verdict in found.verdicts.items():
        yield f"{label}: {verdict.word}: {verdict.reason}"
    yield from joint_lines(found)
    yield f"judged: {len(found.judged)} quantities"
    if found.note:
        yield found.note


def print_comparison(found: Comparison, console: Console, quiet: bool = False) -> None:
    """The table and, unless quiet, what there is to know besides."""
    console.print(comparison_table(found))
    if not quiet:
        for beside in (joint_table(found), prediction_table(found)):
            if beside is not None:
                console.print(beside)
        for line in comparison_lines(found):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def comparison_text(found: Comparison) -> str:
    """All that was found, as one JSON document."""
    return document(comparison(found))


def write_comparison(found: Comparison, path: Path) -> None:
    """All that was found, as JSON.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(comparison_text(found))
    except FileExistsError:
        raise InputError(f"{path} exists; name another file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
