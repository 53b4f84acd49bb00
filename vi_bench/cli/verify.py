"""`vi-bench verify`: is an implementation correct?"""

from __future__ import annotations

from typing import Annotated

import typer

from vi_bench.cli import completion
from vi_bench.cli.options import AsJson, Models, load_plugins, split
from vi_bench.cli.terminal import console, kept_for


def verify(
    method: Annotated[
        str,
        typer.Argument(
            help="Implementation to test: path/to/file.py:function, or the name of a "
            "registered method.",
            autocompletion=completion.method,
        ),
    ],
    families: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated component families to test on; not for an "
            "implementation in the plain form (default: all).",
            autocompletion=completion.families,
        ),
    ] = None,
    features: Annotated[
        int | None,
        typer.Option(
            help="Only test problems with this number of features, for an "
            "implementation for one dimension, say (default: all)."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model of which it is a fit: path/to/file.py:function, a NumPyro "
            "model, or one of the library's.",
            autocompletion=completion.model,
        ),
    ] = None,
    models: Models = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data of that model: a file of named arrays, or mine.py:data "
            "(default: the function data in the model's file, or an example)."
        ),
    ] = None,
    strict_constants: Annotated[
        bool,
        typer.Option(
            "--strict-constants",
            help="Count a bound that is right up to a constant as wrong.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the test problems.")] = 0,
    limit: Annotated[
        float,
        typer.Option(help="Time limit for one fit in seconds, compilation included."),
    ] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Test an implementation for faults. The exit code is 1 if a check fails."""
    from vi_bench.reports.style import print_lines
    from vi_bench.runtime.strict_json import document
    from vi_bench.verification import verify as verified
    from vi_bench.verification.report import (
        verification_lines,
        verification_record,
        verification_table,
    )

    with kept_for(as_json):
        model, _ = load_plugins(model, models, [])
        report = verified(
            method,
            seed=seed,
            limit=limit,
            families=split(families),
            features=features,
            model=model,
            data=data,
            strict_constants=strict_constants,
        )
    if as_json:
        print(document(verification_record(report)), end="")
    else:
        shown = console()
        shown.print(verification_table(report))
        print_lines(shown, verification_lines(report))
    raise typer.Exit(int(not report.passed))
