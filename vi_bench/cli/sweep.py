"""`vi-bench sweep`: a grid of runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vi_bench.cli.options import AsJson, Models, load_plugins
from vi_bench.cli.terminal import interruptible, kept_for

if TYPE_CHECKING:
    from vi_bench.sweeps.sweep import Forecast, Progress, Tell

EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


def sweep(
    spec: Annotated[
        Path, typer.Argument(help=".toml file with a base spec and a grid.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results (default: results/NAME)."),
    ] = None,
    models: Models = None,
    method: Annotated[
        list[Path] | None,
        typer.Option(
            help=".py file that defines METHOD, a method named by the file; may be "
            "repeated (default: none)."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Number of cells run at once (default: one per core)."),
    ] = None,
    timed: Annotated[
        bool,
        typer.Option(
            "--timed", help="Run one cell at a time, each in a fresh process."
        ),
    ] = False,
    cell_timeout: Annotated[
        float | None,
        typer.Option(help="Time limit for one cell, in seconds (default: none)."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Run cells again that failed before.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Check all finished cells; put damaged ones aside and run them again.",
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Run only part i of n, given as i/n, from 1 (default: the whole grid)."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of the Dask scheduler whose workers run the cells, "
            "tcp://HOST:PORT (default: processes on this machine)."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the number of cells and the estimated time; run nothing.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the last line: no progress.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a grid of specs. The same command resumes an interrupted sweep."""
    from vi_bench.errors import InputError
    from vi_bench.runtime.strict_json import document
    from vi_bench.sweeps.grid import read_sweep
    from vi_bench.sweeps.scheduler import Lost
    from vi_bench.sweeps.store import Full
    from vi_bench.sweeps.sweep import foresee, run_sweep

    found: Forecast | Progress
    with interruptible("interrupted; the same command goes on"), kept_for(as_json):
        load_plugins(None, models, method or [])
        asked = read_sweep(spec)
        target = out or Path("results") / asked.name
        if timed and jobs not in (None, 1):
            raise InputError(f"jobs = {jobs}: with --timed there is one cell at a time")
        how: dict[str, Any] = {
            "jobs": jobs,
            "timed": timed,
            "part": _part(shard),
            "scheduler": scheduler,
        }
        try:
            if dry_run:
                found = foresee(asked, target, **how)
            else:
                how |= {"timeout": cell_timeout, "retry": retry, "repair": repair}
                with _shown(quiet) as tell:
                    found = run_sweep(asked, target, tell=tell, **how)
        except (Full, Lost) as over:
            print(f"vi-bench: {over}; the same command goes on", file=sys.stderr)
            raise typer.Exit(1) from None
    if as_json:
        where = {"name": asked.name, "folder": str(target)}
        print(document(where | found.record()), end="")
    else:
        print(found.line() if dry_run else f"{found.line()}; in {target}")
    if not found.well:
        raise typer.Exit(1)


def _part(shard: str | None) -> tuple[int, int]:
    from vi_bench.errors import InputError

    if shard is None:
        return 1, 1
    index, _, of = shard.partition("/")
    if not (index.isascii() and index.isdigit() and of.isascii() and of.isdigit()):
        raise InputError(f"shard {shard!r}: expected i/n, as in 1/4")
    return int(index), int(of)


@contextmanager
def _shown(quiet: bool) -> Iterator[Tell]:
    """A bar on stderr, or a line a minute in a file; one for every cell that failed."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    if quiet:
        yield lambda progress, line: None
        return
    console = Console(stderr=True)
    columns: tuple[Any, ...] = (
        TextColumn("{task.completed}/{task.total} cells"),
        BarColumn(bar_width=30),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=not console.is_interactive) as bars:
        bar = bars.add_task("", total=None)
        begun = last = time.monotonic()
        before: int | None = None

        def tell(found: Progress, line: str) -> None:
            nonlocal before, last
            failed = f"{len(found.failed)} failed" if found.failed else ""
            if before is None:  # what was there took no time
                before = found.ended
                bars.reset(bar, total=found.cells, completed=before)
            bars.update(bar, completed=found.ended, description=failed)
            if line:
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            now = time.monotonic()
            made, left = found.ended - before, found.cells - found.ended
            if not console.is_interactive and made and left and now - last >= EVERY:
                last, rest = now, (now - begun) / made * left
                words = [f"{found.ended}/{found.cells} cells", failed]
                words.append(f"about {rest / 60:.0f} minutes left")
                console.print(", ".join(filter(None, words)), highlight=False)

        yield tell
