"""`vi-bench report`: what people read, made of stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.cli.options import AsJson
from vi_bench.cli.terminal import kept_for


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
    as_json: AsJson = False,
) -> None:
    """Make a page of stored results, one HTML file; or what a paper is made of.

    The page is made if nothing else is asked for, or --out is given.
    """
    from vi_bench.reports.write import write
    from vi_bench.runtime.strict_json import document
    from vi_bench.sweeps.overview.publication import publication

    written = []
    with kept_for(as_json):
        made = publication(folder)
        for path in write(made, out, latex=latex, tables=tables, figures=figures):
            written.append(str(path))
            print(f"written to {path}")
    if as_json:
        print(document({"written": written}), end="")
