"""`vi-bench calibrate`: is a posterior right on average?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vi_bench.cli import completion
from vi_bench.cli.options import AsJson, Weights, load_plugins, split
from vi_bench.cli.terminal import console, interruptible, kept_for

if TYPE_CHECKING:
    from vi_bench.calibration import Calibration


def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            help="Component family: a name, a .py or a .toml file.",
            autocompletion=completion.model,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated; by default cavi,nuts,exact.",
            autocompletion=completion.methods,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter of the prior: sigma=3.0."),
    ] = None,
    weights: Weights = None,
    sims: Annotated[int | None, typer.Option(help="Data sets.")] = None,
    components: Annotated[int | None, typer.Option(help="K.")] = None,
    rows: Annotated[int | None, typer.Option(help="Of each data set.")] = None,
    features: Annotated[int | None, typer.Option(help="Of each row.")] = None,
    draws: Annotated[
        int | None, typer.Option(help="Ranked draws of a chain or of particles.")
    ] = None,
    thin: Annotated[
        int | None, typer.Option(help="Transitions per ranked draw.")
    ] = None,
    geweke: Annotated[
        int | None, typer.Option(help="Chains of Geweke's test; 0 leaves it out.")
    ] = None,
    turns: Annotated[
        int | None, typer.Option(help="Transitions of each of these chains.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="Error rate of all tests of a method.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything that is drawn.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(help="Data sets per call of a program.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="By default one per core.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder; by default results/calibrate-MODEL. An interrupted "
            "calibration goes on."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no notes; only the table.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Are posteriors right on average, over many data sets?"""
    from vi_bench.api import calibrate as calibrated
    from vi_bench.calibration.settings import parsed

    fields = {
        "weights": weights,
        "sims": sims,
        "components": components,
        "rows": rows,
        "features": features,
        "draws": draws,
        "thin": thin,
        "geweke": geweke,
        "turns": turns,
        "level": level,
        "seed": seed,
        "chunk": chunk,
    }
    with interruptible("interrupted; the same command goes on"), kept_for(as_json):
        model = load_plugins(model, None, [])[0] or model
        target = out or Path("results") / f"calibrate-{Path(model).stem}"
        found = calibrated(
            model,
            split(methods),
            out=target,
            progress=not quiet,
            threads=threads,
            given=parsed(given or []),
            **fields,
        )
    if as_json:
        print((target / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        _show(found, quiet)
    print(f"written to {target}", file=sys.stderr)
    if found.failed:
        raise typer.Exit(1)


def _show(found: Calibration, quiet: bool) -> None:
    from vi_bench.calibration.report import calibration_lines, calibration_table
    from vi_bench.reports.style import print_lines

    shown = console()
    shown.print(calibration_table(found))
    if not quiet:
        print_lines(shown, calibration_lines(found))
