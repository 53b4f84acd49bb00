"""What figures share, and what tables do."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

NOTHING = "-"
"""In a cell of which nothing is known."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, distinct to colour-blind eyes."""

DASHES = ("-", "--", ":", "-.")

MARKERS = {
    "labels in q": (COLOURS[0], "o"),
    "labels summed out": (COLOURS[1], "s"),
    "symmetrised": (COLOURS[2], "^"),
    "importance weighted": (COLOURS[3], "D"),
    "log p(X)": ("black", "|"),
}
"""Rungs of the evidence ladder: colour and marker."""


def bare_table(title: str | None = None) -> Table:
    """A table without columns yet."""
    return Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
