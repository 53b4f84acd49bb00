"""`vi-bench status`, `query`, `reindex`: the contents of a sweep's folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vi_bench.cli.options import AsJson

if TYPE_CHECKING:
    from vi_bench.sweeps.status import Status
    from vi_bench.sweeps.store import Damaged


def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Read every byte of the finished cells and report damaged files.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of the sweeps in a folder, and what failed."""
    from vi_bench.sweeps.status import status as known
    from vi_bench.sweeps.store import Store

    store = Store(folder, create=False)
    found = known(store)
    damaged = None
    if check:
        damaged = [bad for key in store.finished() for bad in store.damage(key)]
    if as_json:
        _print_json(
            sweeps=[one.record() for one in found],
            damaged=None if damaged is None else [bad.record() for bad in damaged],
        )
    else:
        _show(found, damaged)
    if damaged:
        raise typer.Exit(1)


def _show(found: Iterable[Status], damaged: Sequence[Damaged] | None) -> None:
    for one in found:
        print(
            f"{one.name}: {one.cells} cells, {one.done} done, "
            f"{len(one.failures)} failed, {one.waiting} not yet"
        )
        for failure in one.failures:
            print(f"  {failure.line()}")
    for bad in damaged or []:
        print(bad)
    if damaged is not None:
        print(
            f"{len(damaged)} damaged files" if damaged else "every byte is as written"
        )


def query(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    sql: Annotated[
        str,
        typer.Argument(
            help="SELECT statement over the tables cells, methods, quantities and "
            "attempts, which are joined by key."
        ),
    ],
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Print comma-separated values instead of a table."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Query the finished cells in SQL."""
    from vi_bench.errors import InputError
    from vi_bench.sweeps.index import query as asked
    from vi_bench.sweeps.store import Store

    if csv and as_json:
        raise InputError("--csv, --json: expected one of them")
    names, rows = asked(Store(folder, create=False), sql)
    if as_json:
        _print_json(columns=names, rows=[[_value(v) for v in row] for row in rows])
    elif csv:
        from csv import writer

        written = writer(sys.stdout, lineterminator="\n")
        written.writerow(names)
        written.writerows(rows)
    else:
        _print_table(names, rows)


def _value(value: Any) -> Any:
    """A value of SQLite's as JSON has it: bytes as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else value


def _print_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich.console import Console

    from vi_bench.reports.style import Whole

    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Whole(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_plain(value) for value in row))
    console.print(table, markup=False, highlight=False)


def reindex(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    as_json: AsJson = False,
) -> None:
    """Rebuild the index that `query` reads, from the cells."""
    from vi_bench.sweeps.index import refresh
    from vi_bench.sweeps.store import Store

    added, damaged = refresh(Store(folder, create=False), anew=True)
    if as_json:
        _print_json(cells=added, damaged=[bad.record() for bad in damaged])
    else:
        print(f"{added} cells", *damaged, sep="\n")
    if damaged:
        raise typer.Exit(1)


def _print_json(**values: Any) -> None:
    from vi_bench.runtime.strict_json import document

    print(document(values), end="")


def _plain(value: Any) -> str:
    """A value without what would steer a terminal."""
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = f"{value:.6g}"
    return "".join(c if c.isprintable() else " " for c in text)
