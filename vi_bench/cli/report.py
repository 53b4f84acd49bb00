"""`vi-bench report`: pages, tables and figures of stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.cli.options import AsJson
from vi_bench.cli.terminal import kept_for


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or of a sweep.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File of the HTML page (default: FOLDER/report.html)."),
    ] = None,
    latex: Annotated[
        Path | None,
        typer.Option(
            help="Folder for LaTeX files: tables, figures, a paragraph on the "
            "methods, references (default: none)."
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Folder for tables as .csv, .md and .parquet (default: none)."
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for figures as .png, .pdf and .svg (default: none)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page, tables or figures of stored results.

    The page is written if --out is given, or if none of --latex, --tables and --figures
    is given.
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
