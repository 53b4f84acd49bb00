"""`vi-bench calibrate`: is a posterior right on average?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
            help="Component family: a registered name, a .py file that defines "
            "MODEL, or a .toml spec; or a NumPyro model, mine.py:model.",
            autocompletion=completion.model,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated labels of the methods to calibrate (default: the "
            "spec's, else cavi,nuts,exact; of a NumPyro model svi,nuts).",
            autocompletion=completion.methods,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Hyperparameter of the prior as NAME=VALUE, such as sigma=3.0; may "
            "be repeated (default: the spec's, else the family's own).",
        ),
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            help="Your own fit of a NumPyro model, mine.py:cavi, as of run; it is "
            "added to --methods. May be repeated (default: none)."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Of a NumPyro model, its covariates, and observed values, whose "
            "shapes alone are used: as of run (default: data() in the model's file)."
        ),
    ] = None,
    weights: Weights = None,
    sims: Annotated[
        int | None, typer.Option(help="Number of simulated data sets (default: 500).")
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            help="Number of mixture components K (default: the spec's, else 2)."
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Number of rows of each data set (default: 10).")
    ] = None,
    features: Annotated[
        int | None, typer.Option(help="Number of features of each row (default: 1).")
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Number of draws ranked for each data set, of a Markov chain or of "
            "particles (default: 100)."
        ),
    ] = None,
    thin: Annotated[
        int | None,
        typer.Option(help="Number of transitions per ranked draw (default: 10)."),
    ] = None,
    geweke: Annotated[
        int | None,
        typer.Option(
            help="Number of chains of Geweke's test; 0 leaves the test out (default: "
            "2000)."
        ),
    ] = None,
    turns: Annotated[
        int | None,
        typer.Option(
            help="Number of transitions of each chain of Geweke's test (default: 10)."
        ),
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="Family-wise error rate of the tests of one method (default: 0.01)."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed (default: the spec's, else 0).")
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(
            help="Number of data sets per call of a compiled program (default: 50)."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of chunks computed at once (default: one per core)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; an interrupted calibration is resumed "
            "there (default: results/calibrate-MODEL)."
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Print only the table: no progress, no notes."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Test whether posteriors are right on average. Data are drawn from the prior."""
    from vi_bench import catalogue
    from vi_bench.api import calibrate as calibrated
    from vi_bench.calibration.settings import parsed
    from vi_bench.errors import CalibrationError
    from vi_bench.spec import called, usual_methods, with_fits

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
        numpyro = catalogue.is_numpyro(model)
        name = called(model) if catalogue.is_function(model) else Path(model).stem
        target = out or Path("results") / f"calibrate-{name}"
        chosen: Any = split(methods)
        if fit and not numpyro:
            raise CalibrationError(
                f"--fit {fit[0]}: is a fit of a NumPyro model, and {model!r} is a "
                "family of mixtures; expected mine.py:model"
            )
        if fit:
            chosen = with_fits(chosen or list(usual_methods(model)), {}, fit)
        found = calibrated(
            model,
            chosen,
            out=target,
            progress=not quiet,
            threads=threads,
            given=parsed(given or []),
            data=data,
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
