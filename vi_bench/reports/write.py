"""Write pages, tables and figures of stored results, each file whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vi_bench.errors import ReportError, one_line
from vi_bench.reports.figures import TEXT_WIDTH, draw_all
from vi_bench.reports.files import write_tables
from vi_bench.reports.html import run_page
from vi_bench.reports.latex import Paper, run_paper, write_paper
from vi_bench.reports.tables import ReportTable, tables
from vi_bench.results.stored import open_run
from vi_bench.results.summary_schema import SCHEMA
from vi_bench.runtime.folder import MANIFEST

KINDS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Publication:
    """Functions that make the parts of a report from stored results.

    Attributes:
        folder: folder of the results.
        of: name of the results in messages.
        page: gives the HTML page.
        tables: gives the tables.
        figures: draws into a folder, as files of each kind, at a width in inches or
            None; gives the paths.
        paper: gives the parts of a paper besides its tables and figures.
    """

    folder: Path
    of: str
    page: Callable[[], str]
    tables: Callable[[], list[ReportTable]]
    figures: Callable[[Path, Sequence[str], float | None], list[Path]]
    paper: Callable[[], Paper]

    def write_tables(self, folder: Path) -> object:
        """Write the tables as .csv, .md and .parquet files."""
        return write_tables(self.tables(), folder)

    def write_figures(self, folder: Path) -> object:
        """Write the figures as .png, .pdf and .svg files."""
        return self.figures(folder, KINDS, None)

    def write_paper(self, folder: Path) -> object:
        """Write a folder that LaTeX compiles."""
        for sub in ("tables", "figures"):
            (folder / sub).mkdir()
        drawn = self.figures(folder / "figures", ("pdf",), TEXT_WIDTH)
        names = [path.stem for path in drawn]
        return write_paper(self.paper(), self.tables(), names, folder)


def of_run(folder: Path) -> Publication:
    """The report of a stored run.

    Raises:
        InputError: the folder holds no run.
    """
    run = open_run(folder)
    return Publication(
        folder,
        f"run {str(folder)!r}",
        partial(run_page, run),
        partial(tables, run.record),
        partial(draw_all, run),
        partial(run_paper, run),
    )


def write(
    made: Publication,
    out: Path | None = None,
    *,
    latex: Path | None = None,
    tables: Path | None = None,
    figures: Path | None = None,
) -> Iterator[Path]:
    """Write the parts that are asked for; earlier files of the same names are replaced.

    Args:
        made: the report; for a cell of a sweep, `out` must be given for a page.
        out: file of the page; by default `report.html` in the folder of the results, if
            no other part is asked for.
        latex: folder for a paper.
        tables: folder for .csv, .md and .parquet files.
        figures: folder for .png, .pdf and .svg files.

    Yields:
        The path of each part, once it is written.

    Raises:
        InputError: a path cannot be written, or the results cannot be read.
    """
    makes = (made.write_paper, made.write_tables, made.write_figures)
    places = zip((latex, tables, figures), makes, strict=True)
    wanted = [(place, make) for place, make in places if place is not None]
    for place, _ in wanted:
        if place.exists() and not place.is_dir():
            raise ReportError(f"{str(place)!r} is a file; expected a folder's name")
    page = out
    if not wanted and out is None:
        if (made.folder / MANIFEST).is_file():
            raise ReportError(
                f"{str(made.folder)!r} is a sweep's cell, and stays as it is: name a "
                "file, --out"
            )
        page = made.folder / "report.html"
    if page is not None and page.is_dir():
        raise ReportError(f"--out {str(page)!r} is a folder; expected a file's name")
    if page is not None:
        with _checked(made, page):
            html = made.page()
            _replace(page, lambda aside: aside.write_text(html, encoding="utf-8"))
        yield page
    for place, make in wanted:
        with _checked(made, place):
            _fill(place, make)
        yield place


@contextmanager
def _checked(made: Publication, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(f"{place}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(
            f"{made.of}: its files are not as schema {SCHEMA} has them "
            f"({one_line(error)})"
        ) from None


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    aside = path.with_name(f".{path.name}.part")
    try:
        make(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _fill(place: Path, make: Callable[[Path], object]) -> None:
    """Make everything in a temporary folder, then move it into place file by file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".report-") as aside:
        make(Path(aside))
        for made in sorted(Path(aside).rglob("*")):
            target = place / made.relative_to(aside)
            if made.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
