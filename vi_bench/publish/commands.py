"""The command line about what is made of stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.terminal import refuse


def report(
    folder: Annotated[Path, typer.Argument(help="Of a run, or of a sweep.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; by default FOLDER/report.html.")
    ] = None,
    latex: Annotated[
        Path | None,
        typer.Option(help="Folder for a paper: tables, figures, methods, references."),
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for tables: .csv, .md, .parquet.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for figures: .png, .pdf, .svg.")
    ] = None,
) -> None:
    """Make a page of stored results, one HTML file; or what a paper is made of.

    The page is made if nothing else is asked for, or --out is given.
    """
    from vi_bench.errors import InputError
    from vi_bench.overview.publication import publication
    from vi_bench.publish.write import write

    try:
        made = publication(folder)
        for path in write(made, out, latex=latex, tables=tables, figures=figures):
            print(f"written to {path}")
    except InputError as error:
        refuse(str(error))
