"""The command line about sweeps; imports what is heavy only when it is needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vi_bench.terminal import refuse

if TYPE_CHECKING:
    from vi_bench.sweeps.sweep import Progress, Tell

EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""


def sweep(
    spec: Annotated[Path, typer.Argument(help="A .toml file: a run and a grid.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; by default results/NAME."),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder whose .py files are models too.")
    ] = None,
    method: Annotated[
        list[Path] | None,
        typer.Option(help="A .py file that defines METHOD, named by its stem."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Cells at once; by default one a core.")
    ] = None,
    timed: Annotated[
        bool,
        typer.Option("--timed", help="One cell at a time, each in a fresh process."),
    ] = False,
    cell_timeout: Annotated[
        float | None, typer.Option(help="Seconds that one cell may take.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try cells again that failed before.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Check finished cells; put damaged ones aside, make anew."
        ),
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="i/n: the i-th of n parts, from 1.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Of a Dask cluster that makes the cells: tcp://HOST:PORT."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many cells there are.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; only the last line.")
    ] = False,
) -> None:
    """Run a grid of specs; what is finished stays so, the same command goes on."""
    from vi_bench import catalogue
    from vi_bench.errors import InputError
    from vi_bench.sweeps.grid import read_sweep
    from vi_bench.sweeps.scheduler import Lost
    from vi_bench.sweeps.store import Full
    from vi_bench.sweeps.sweep import foresee, run_sweep

    try:
        if models is not None:
            catalogue.add_folder(models)
        for path in method or []:
            catalogue.add_file("method", path)
        asked = read_sweep(spec)
        target = out or Path("results") / asked.name
        part = _part(shard)
        if timed and jobs not in (None, 1):
            raise InputError(f"jobs = {jobs}: with --timed there is one cell at a time")
        if dry_run:
            print(
                foresee(
                    asked,
                    target,
                    jobs=jobs,
                    timed=timed,
                    part=part,
                    scheduler=scheduler,
                )
            )
            return
        with _shown(quiet) as tell:
            found = run_sweep(
                asked,
                target,
                jobs=jobs,
                timed=timed,
                timeout=cell_timeout,
                retry=retry,
                repair=repair,
                part=part,
                scheduler=scheduler,
                tell=tell,
            )
    except InputError as error:
        refuse(str(error))
    except (Full, Lost) as over:
        print(f"vi-bench: {over}; the same command goes on", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{found.line()}; in {target}")
    if found.failed or found.left:
        raise typer.Exit(1)


def status(
    folder: Annotated[Path, typer.Argument(help="Of a sweep.")],
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte of the finished cells.")
    ] = False,
) -> None:
    """How far the sweeps of a folder are, and what failed."""
    from vi_bench.errors import InputError
    from vi_bench.sweeps.status import status as known
    from vi_bench.sweeps.store import Store

    try:
        store = Store(folder, create=False)
        found = known(store)
    except InputError as error:
        refuse(str(error))
    for one in found:
        print(
            f"{one.name}: {one.cells} cells, {one.done} done, "
            f"{len(one.failures)} failed, {one.waiting} not yet"
        )
        for failure in one.failures:
            print(f"  {failure.line()}")
    if check:
        damaged = [bad for key in store.finished() for bad in store.damage(key)]
        for bad in damaged:
            print(bad)
        print(
            f"{len(damaged)} damaged files" if damaged else "every byte is as written"
        )
        if damaged:
            raise typer.Exit(1)


def query(
    folder: Annotated[Path, typer.Argument(help="Of a sweep.")],
    sql: Annotated[
        str,
        typer.Argument(
            help="A SELECT over cells, methods, quantities, attempts; key joins them."
        ),
    ],
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated.")] = False,
) -> None:
    """Ask the finished cells, in SQL."""
    from vi_bench.errors import InputError
    from vi_bench.sweeps.index import query as asked
    from vi_bench.sweeps.store import Store

    try:
        names, rows = asked(Store(folder, create=False), sql)
    except InputError as error:
        refuse(str(error))
    if csv:
        from csv import writer

        written = writer(sys.stdout, lineterminator="\n")
        written.writerow(names)
        written.writerows(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_plain(value) for value in row))
    console.print(table, markup=False, highlight=False)


def reindex(
    folder: Annotated[Path, typer.Argument(help="Of a sweep.")],
) -> None:
    """Make the table that `query` asks anew, from the cells."""
    from vi_bench.errors import InputError
    from vi_bench.sweeps.index import refresh
    from vi_bench.sweeps.store import Store

    try:
        added, damaged = refresh(Store(folder, create=False), anew=True)
    except InputError as error:
        refuse(str(error))
    print(f"{added} cells")
    for one in damaged:
        print(one)
    if damaged:
        raise typer.Exit(1)


def _plain(value: Any) -> str:
    """A value without what would steer a terminal."""
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = f"{value:.6g}"
    return "".join(c if c.isprintable() else " " for c in text)


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
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
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
            if not console.is_terminal and made and left and now - last >= EVERY:
                last, rest = now, (now - begun) / made * left
                words = [f"{found.ended}/{found.cells} cells", failed]
                words.append(f"about {rest / 60:.0f} minutes left")
                console.print(", ".join(filter(None, words)), highlight=False)

        yield tell
