"""Write tables as CSV, Markdown and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vi_bench.reports.tables import Number, ReportTable

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(grid: ReportTable) -> DataFrame:
    """A table as a data frame; standard errors have columns of their own, "... se"."""
    from pandas import DataFrame

    columns: dict[str, list[object]] = {}
    for at, name in enumerate(grid.head):
        cells = [row[at] for row in grid.rows]
        if not grid.numeric(at):
            columns[name] = list(cells)
            continue
        numbers = [c if isinstance(c, Number) else Number(None) for c in cells]
        columns[name] = [c.value for c in numbers]
        if any(c.se for c in numbers):
            columns[f"{name} se"] = [c.se for c in numbers]
        if any(c.mark for c in numbers):
            columns[f"{name} mark"] = [c.mark for c in numbers]
    return DataFrame(columns)


def markdown(grid: ReportTable) -> str:
    """A Markdown table as GitHub and Sphinx read it, numbers aligned to the right."""
    ends = ["--:" if grid.numeric(at) else "---" for at in range(len(grid.head))]
    lines = [grid.head, ends, *(map(str, row) for row in grid.rows)]
    shown = [" | ".join(_plain(cell) for cell in line) for line in lines]
    return f"{grid.title}\n\n" + "".join(f"| {line} |\n" for line in shown)


def _plain(cell: str) -> str:
    text = " ".join(cell.split())
    for special in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(special, f"\\{special}")
    return text


def write_tables(tables: list[ReportTable], folder: Path) -> list[Path]:
    """Write every table as .csv, .md and, if pyarrow is installed, .parquet."""
    from importlib.util import find_spec

    paths = []
    for grid in tables:
        known = frame(grid)
        for kind in ("csv", "md", "parquet"):
            path = folder / f"{grid.name}.{kind}"
            if kind == "csv":
                known.map(_inert).to_csv(path, index=False)
            elif kind == "md":
                path.write_text(markdown(grid), encoding="utf-8")
            elif find_spec("pyarrow"):
                known.to_parquet(path, index=False)
            else:
                continue
            paths.append(path)
    return paths


def _inert(cell: object) -> object:
    """Prefix text that a spreadsheet would take for a formula with an apostrophe."""
    risky = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if risky else cell
