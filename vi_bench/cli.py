"""The command line; imports what is heavy only when it is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich
    help="Is this variational posterior right, how far off, and what did it cost?",
)


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    """CAVI, SVI and NUTS on the same Bayesian mixture, compared and timed."""
    if version:
        from importlib.metadata import version as installed

        print(installed("vi-bench"))
        raise typer.Exit


@app.command()
def run(
    spec: Annotated[
        str,
        typer.Argument(
            help="notebook, faithful, iris, galaxies (built in), or a .toml file."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="Component family.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Built-in data, simulate:K=5,d=2,N=1000,separation=4,seed=0, or a "
            ".csv, .npy or .parquet file."
        ),
    ] = None,
    components: Annotated[int | None, typer.Option(help="K.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated labels: cavi,svi,nuts.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The method that others are held against.")
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    precision: Annotated[int | None, typer.Option(help="64 or 32 bits.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, gpu, tpu.")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Timed runs after the first.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default results/NAME-TIME.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's folder.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no notes; only the table.")
    ] = False,
) -> None:
    """Infer one mixture by several methods, compare the posteriors, time all alike."""
    from vi_bench.errors import InputError

    overrides: dict[str, Any] = {
        "model": model,
        "data": data,
        "components": components,
        "methods": [m.strip() for m in methods.split(",")] if methods else None,
        "reference": reference,
        "seed": seed,
        "precision": precision,
        "device": device,
        "repeats": repeats,
    }
    try:
        code = _run(spec, overrides, out, overwrite, quiet)
    except InputError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted before any method finished", file=sys.stderr)
        raise typer.Exit(130) from None
    if code:
        raise typer.Exit(code)


def _run(
    what: str,
    overrides: dict[str, Any],
    out: Path | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Run, print, and return the exit code: 0, 1 if a method failed, 130 on Ctrl-C."""
    from rich.console import Console

    from vi_bench.folder import default_folder
    from vi_bench.launch import launch
    from vi_bench.spec import read

    spec = read(what, overrides)
    target = out or default_folder(spec.name)
    result = launch(
        spec, None, target, overwrite=overwrite, progress=not quiet, cache=True
    )

    from vi_bench.report.table import lines

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=150)  # for files and pipes, where nothing else is known
    console.print(result.table())
    if not quiet:
        for line in lines(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    print(f"written to {target}", file=sys.stderr)
    if result.interrupted:
        return 130
    return int(any(r.outcome.status == "failed" for r in result.runs.values()))


def _refuse(message: str) -> NoReturn:
    print(f"vi-bench: {message}", file=sys.stderr)
    raise typer.Exit(2)


def main() -> None:
    """The entry point."""
    app()
