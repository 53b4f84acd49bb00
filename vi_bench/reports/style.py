"""Colours, markers and thinning of all figures, and the layout of terminal tables."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import replace

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

NOTHING = "-"
"""The text of an empty cell."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""

DASHES = ("-", "--", ":", "-.")

MARKERS = {
    "ELBO": (COLOURS[0], "o"),
    "marginal ELBO": (COLOURS[1], "s"),
    "symmetrised ELBO": (COLOURS[2], "^"),
    "importance-weighted ELBO": (COLOURS[3], "D"),
    "log p(X)": ("black", "|"),
}
"""Bounds on log p(X), and its estimates, by name: colour and marker."""


PROSE = 30
"""A column of text that is wider than this many characters is wrapped."""


class Whole(Table):
    """A table in which no number is cut off.

    Where the terminal is too narrow, the columns that do not fit follow below, with the
    key columns repeated.
    """

    keys = 1
    """Number of leading columns that identify a row."""

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Render the table, split into parts if it is too wide."""
        for part in self._parts(console, options):
            yield from Table.__rich_console__(part, console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> list[Table]:
        def width(columns: list[Column]) -> int:
            return Measurement.get(console, options, self._of(columns)).maximum

        if width(self.columns) < options.max_width:
            return [self]
        columns = [
            replace(c, no_wrap=c.justify != "left" or width([c]) <= PROSE)
            for c in self.columns
        ]
        needed = [width([c]) if c.no_wrap else PROSE for c in columns]
        keys = columns[: self.keys]
        room = options.max_width - sum(needed[: self.keys])
        parts: list[list[Column]] = [[]]
        left = room
        for column, own in zip(columns[self.keys :], needed[self.keys :], strict=True):
            if own > left and parts[-1]:
                parts.append([])
                left = room
            parts[-1].append(column)
            left -= own
        tables = [self._of([*keys, *part]) for part in parts]
        for table in tables[1:]:
            table.title = None
        return tables

    def _of(self, columns: list[Column]) -> Table:
        """A copy with only these columns."""
        part = copy(self)
        part.columns = [replace(column, _index=i) for i, column in enumerate(columns)]
        return part


def bare_table(title: str | None = None, keys: int = 1) -> Whole:
    """A table without columns yet, of which the first `keys` identify a row."""
    table = Whole(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.keys = keys
    return table


def thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """Every so many-th row of many, at most `most`, for a figure."""
    return rows[:: max(1, -(-len(rows) // most))]


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print sentences verbatim: no markup, no highlighting, no wrapping."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
