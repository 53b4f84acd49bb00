"""Pages, tables and figures of a stored run, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vi_bench.errors import InputError, one_line
from vi_bench.folder import MANIFEST
from vi_bench.publish.figures import draw_all
from vi_bench.publish.grids import grids
from vi_bench.publish.latex import write_latex
from vi_bench.publish.page import run_page
from vi_bench.publish.stored import StoredRun, open_run
from vi_bench.publish.tables import write_tables
from vi_bench.record import SCHEMA

KINDS = ("png", "pdf", "svg")

Make = Callable[[StoredRun, Path], object]


def write(
    folder: Path,
    out: Path | None = None,
    *,
    latex: Path | None = None,
    tables: Path | None = None,
    figures: Path | None = None,
) -> Iterator[Path]:
    """Make what is asked for; earlier files of the same names are replaced.

    Args:
        folder: of the run; or of a sweep's cell, whose page needs a place.
        out: the page; by default `report.html` in the folder, if no folder is named.
        latex: folder of what a paper is made of.
        tables: folder of .csv, .md and .parquet files.
        figures: folder of .png, .pdf and .svg files.

    Yields:
        Each place, when it is written.

    Raises:
        InputError: the folder holds no run, or a place cannot be written.
    """
    wanted: dict[Path, Make] = {}
    makes: list[tuple[Path | None, Make]] = [
        (latex, write_latex),
        (tables, _tables),
        (figures, _figures),
    ]
    for place, make in makes:
        if place is not None:
            if place.exists() and not place.is_dir():
                raise InputError(f"{str(place)!r} is a file; expected a folder's name")
            wanted[place] = make
    run = open_run(folder)
    page = out
    if not wanted and out is None:
        if (folder / MANIFEST).is_file():
            raise InputError(
                f"{str(folder)!r} is a sweep's cell, and stays as it is: name a file, "
                "--out"
            )
        page = folder / "report.html"
    if page is not None and page.is_dir():
        raise InputError(f"--out {str(page)!r} is a folder; expected a file's name")
    if page is not None:
        with _checked(run, page):
            html = run_page(run)
            _replace(page, lambda aside: aside.write_text(html, encoding="utf-8"))
        yield page
    for place, make in wanted.items():
        with _checked(run, place):
            _fill(place, run, make)
        yield place


def _tables(run: StoredRun, folder: Path) -> object:
    return write_tables(grids(run.summary), folder)


def _figures(run: StoredRun, folder: Path) -> object:
    return draw_all(run, folder, KINDS)


@contextmanager
def _checked(run: StoredRun, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"run {str(run.folder)!r}: its files are not as schema {SCHEMA} has them "
            f"({one_line(error)})"
        ) from None


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    aside = path.with_name(f".{path.name}.part")
    try:
        make(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _fill(place: Path, run: StoredRun, make: Make) -> None:
    """Make everything aside, then put it in place, file by file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".report-") as aside:
        make(run, Path(aside))
        for made in sorted(Path(aside).rglob("*")):
            target = place / made.relative_to(aside)
            if made.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
