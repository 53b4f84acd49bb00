"""The command line: the application and its commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vi_bench.cli.calibrate import calibrate
from vi_bench.cli.compare import compare
from vi_bench.cli.doctor import doctor
from vi_bench.cli.listing import list_
from vi_bench.cli.report import report
from vi_bench.cli.rerun import rerun
from vi_bench.cli.run import run
from vi_bench.cli.sweep import sweep
from vi_bench.cli.sweep_folder import query, reindex, status
from vi_bench.cli.terminal import Commands
from vi_bench.cli.verify import verify

NAME = "vi-bench"

EXIT_CODES = (
    "Exit codes: 0 for success; 1 if a method, a cell or a check failed, or numbers "
    "differ; 2 if the input cannot be used; 130 after Ctrl-C."
)

app = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich
    context_settings={"color": False},  # results are coloured by rich alone
    help="Is this variational posterior right, how far off, and what did it cost?",
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    """Compare and time CAVI, SVI and NUTS on the same Bayesian mixture."""
    if version:
        from importlib.metadata import version as installed

        print(installed(NAME))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


app.command()(run)
app.command()(compare)
app.command()(verify)
app.command()(calibrate)
app.command()(rerun)
app.command()(report)
app.command()(sweep)
app.command()(status)
app.command()(query)
app.command()(reindex)
app.command(name="list")(list_)
app.command()(doctor)


def main() -> None:
    """Run the program; the entry point of the package."""
    app(prog_name=NAME)
