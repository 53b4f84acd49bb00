"""`vi-bench rerun`: does a run give the same numbers again?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.cli.options import AsJson, load_plugins
from vi_bench.cli.terminal import interruptible, kept_for


def rerun(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or of a sweep's cell (cells/ab/KEY)."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help=".py file of the run's model, if that is not a registered one "
            "(default: none)."
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder whose .py files define further models, if the run's is one of "
            "them (default: none)."
        ),
    ] = None,
    method: Annotated[
        list[Path] | None,
        typer.Option(
            help=".py file of a method of the run that is not a registered one; may "
            "be repeated (default: none)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which to keep the second run (default: it is not kept)."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the findings: no progress.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Repeat a run from its folder. The exit code is 1 if numbers differ."""
    from vi_bench.runner.rerun import rerun as repeated
    from vi_bench.runtime.strict_json import document

    with interruptible("interrupted; nothing was kept"), kept_for(as_json):
        load_plugins(str(model) if model else None, models, method or [])
        found = repeated(folder, out=out, progress=not quiet)
    if as_json:
        print(document(found.record()), end="")
    else:
        print(*found.lines(), sep="\n")
    raise typer.Exit(int(not found.same))
