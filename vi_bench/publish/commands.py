"""The command line about what is made of stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.terminal import refuse


def report(
    folder: Annotated[Path, typer.Argument(help="Of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; by default FOLDER/report.html.")
    ] = None,
) -> None:
    """Make a page of a stored run: one HTML file that needs nothing else."""
    from vi_bench.errors import InputError

    try:
        path = write_page(folder, out)
    except InputError as error:
        refuse(str(error))
    print(f"written to {path}")


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run whole or not at all; an earlier page is replaced.

    Args:
        folder: of the run; or of a sweep's cell, whose page needs a place.
        out: the file; by default `report.html` in the folder.

    Raises:
        InputError: the folder holds no run, or the page cannot be written.
    """
    from vi_bench.errors import InputError, one_line
    from vi_bench.publish.page import run_page
    from vi_bench.publish.stored import open_run
    from vi_bench.record import SCHEMA

    run = open_run(folder)
    if out is None and (folder / "MANIFEST.json").is_file():
        raise InputError(
            f"{str(folder)!r} is a sweep's cell, and stays as it is: name a file, --out"
        )
    path = out or folder / "report.html"
    if path.is_dir():
        raise InputError(f"--out {str(path)!r} is a folder; expected a file's name")
    try:
        html = run_page(run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"run {str(folder)!r}: its files are not as schema {SCHEMA} has them "
            f"({one_line(error)})"
        ) from None
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_text(html, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InputError(f"{path}: {error.strerror}") from None
    return path
