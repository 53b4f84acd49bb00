"""An SQL index of all finished cells, which can be rebuilt from them at any time.

    cells        one row per cell: settings, data, and how long it took
    methods      one row per cell and method: how it ended, bounds, times, verdict
    quantities   one row per cell, method and quantity: summaries, distances
    attempts     one row per failed attempt

The results are in the cells: `index.sqlite` may be deleted or damaged without loss.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vi_bench.errors import ResultsError, SweepError
from vi_bench.results.summary_schema import Method, Record, parse
from vi_bench.sweeps.store import Damaged, Store
from vi_bench.sweeps.work import CELL

if TYPE_CHECKING:
    import pandas as pd

FILE = "index.sqlite"

VERSION = 2
"""Version of the tables; an index of another version is rebuilt."""

TABLES = {
    "cells": "name, data, model, weights, components, seed, precision, device, chains, "
    "draws, rows, features, reference, note, choice, shared, seconds, created",
    "methods": "method, kind, outcome, sentence, iterations, bound, bound_se, "
    "marginal_bound, marginal_bound_se, log_evidence, log_evidence_se, setup_s, "
    "trace_s, compile_s, first_s, run_s, run_s_min, run_s_max, ess_per_s, "
    "within_s, memory_bytes, verdict, reason",
    "quantities": "method, quantity, judged, mean, mean_mcse, sd, sd_mcse, ess_bulk, "
    "ess_tail, r_hat, mean_difference, mean_difference_se, sd_ratio, sd_ratio_se, w1, "
    "w1_se, w1_floor",
    "attempts": "status, reason, at",
}
"""Table -> its columns besides the key."""

SUMMARY = ("mean", "mean_mcse", "sd", "sd_mcse", "ess_bulk", "ess_tail", "r_hat")
DIFFERENCE = (
    "mean_difference",
    "mean_difference_se",
    "sd_ratio",
    "sd_ratio_se",
    "w1",
    "w1_se",
    "w1_floor",
)
"""Columns of `quantities`, with the names of a run's record."""

FRAME = """
SELECT cells.*, methods.*, quantities.* FROM quantities
JOIN methods USING (key, method) JOIN cells USING (key)
ORDER BY cells.rowid, methods.rowid, quantities.rowid
"""


def refresh(store: Store, anew: bool = False) -> tuple[int, list[Damaged]]:
    """Update the index from the store's finished cells.

    Args:
        store: the store.
        anew: rebuild the index from nothing.

    Returns:
        The number of cells added, and the cells that cannot be read.

    Raises:
        InputError: the index cannot be written.
    """
    path = store.folder / FILE
    try:
        return _refreshed(store, path, anew)
    except (sqlite3.OperationalError, OSError) as error:
        raise SweepError(f"{str(path)!r} cannot be written: {error}") from None


def _refreshed(store: Store, path: Path, anew: bool) -> tuple[int, list[Damaged]]:
    if anew or not _usable(path):
        for end in ("", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(f"{path}{end}")
    with closing(sqlite3.connect(path, timeout=60)) as index, index:
        index.execute("BEGIN IMMEDIATE")
        for table, columns in TABLES.items():
            index.execute(f"CREATE TABLE IF NOT EXISTS {table} (key, {columns})")
            index.execute(f"CREATE INDEX IF NOT EXISTS {table}_key ON {table} (key)")
        index.execute(f"PRAGMA user_version = {VERSION}")
        known = {key for (key,) in index.execute("SELECT key FROM cells")}
        there = set(store.finished())
        for table in ("cells", "methods", "quantities"):
            gone = [(key,) for key in known - there]
            index.executemany(f"DELETE FROM {table} WHERE key = ?", gone)
        added, damaged = 0, []
        for key in sorted(there - known):
            try:
                rows = _rows(key, store)
            except Damaged as error:
                damaged.append(error)
                continue
            for table, found in rows.items():
                marks = ", ".join("?" * (TABLES[table].count(",") + 2))
                index.executemany(f"INSERT INTO {table} VALUES ({marks})", found)
            added += 1
        index.execute("DELETE FROM attempts")
        index.executemany(
            "INSERT INTO attempts VALUES (?, ?, ?, ?)",
            [
                (key, a.status, a.reason, a.when)
                for key in store.failures()
                for a in store.attempts(key)
            ],
        )
    return added, damaged


def query(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and rows, of a SELECT over the updated index.

    Raises:
        InputError: it is not valid SQL, or would change something.
    """
    _try(sql)
    refresh(store)
    address = f"file:{quote(str(store.folder.absolute()))}/{FILE}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=60)) as index:
        return _asked(index, sql)


def _try(sql: str) -> None:
    """Try a query on empty tables first, so that a wrong one writes nothing."""
    with closing(sqlite3.connect(":memory:")) as empty:
        for table, columns in TABLES.items():
            empty.execute(f"CREATE TABLE {table} (key, {columns})")
        empty.execute("PRAGMA query_only = ON")
        _asked(empty, sql)


def _asked(index: sqlite3.Connection, sql: str) -> tuple[list[str], list[Any]]:
    index.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    try:
        found = index.execute(sql)
        if found.description is None:
            raise SweepError(f"query {sql!r}: expected a SELECT")
        names = [column[0] for column in found.description]
        return names, found.fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise SweepError(f"query {sql!r}: {error}") from None


def frame(folder: Path | str) -> pd.DataFrame:
    """A pandas frame with one row per cell, method and quantity.

    Args:
        folder: folder of a sweep.

    Returns:
        A frame with the columns of the tables of `vi-bench query`, times in seconds and
        bounds in nats.

    Raises:
        InputError: it is not the folder of a sweep, or cannot be read.
    """
    import pandas as pd

    names, rows = query(Store(folder, create=False), FRAME)
    made = pd.DataFrame(rows, columns=names)
    made = made.loc[:, ~made.columns.duplicated()]
    return made.astype(dict.fromkeys(("shared", "judged"), bool))


def _usable(path: Path) -> bool:
    """Whether there is an undamaged index with this version of the tables."""
    if not path.is_file() or path.is_symlink():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=60)) as index:
            (version,) = index.execute("PRAGMA user_version").fetchone()
            (word,) = index.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError:
        return False
    return bool(version == VERSION and word == "ok")


def _rows(key: str, store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """A cell's rows of every table.

    Raises:
        Damaged: a file of the cell is damaged, or its content is not understood.
    """
    try:
        own = json.loads(store.read(key, CELL))
        made = json.dumps(own["choice"]), own["shared"], own["seconds"]
    except ValueError:
        raise Damaged(key, CELL, "is not JSON") from None
    except (KeyError, TypeError) as error:
        raise Damaged(key, CELL, f"is not understood: {error!r}") from None
    try:
        found = parse(store.read(key, "summary.json"), f"cell {key}")
    except ResultsError as error:
        raise Damaged(key, "summary.json", f"is not understood: {error}") from None
    try:
        return {
            "cells": [(key, *_cell(made, found))],
            "methods": [
                (key, *_method(label, method, found))
                for label, method in found.methods.items()
            ],
            "quantities": [(key, *row) for row in _quantities(found)],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(key, "summary.json", f"is not understood: {error!r}") from None


def _cell(made: Sequence[Any], found: Record) -> Sequence[Any]:
    spec = found.spec
    return (
        found.name,
        found.data.name,
        found.model["name"],
        found.weights.get("name"),
        spec["components"] if found.is_mixture else None,
        *(spec[name] for name in ("seed", "precision")),
        found.environment["device"],
        *(spec[name] for name in ("chains", "draws")),
        *(found.data.shape if found.is_mixture else (None, None)),
        found.reference,
        found.note,
        *made,
        found.created,
    )


def _method(label: str, method: Method, found: Record) -> Sequence[Any]:
    time, verdict = method.time, found.verdicts.get(label)
    run = time.run_s
    return (
        label,
        method.kind,
        method.outcome,
        method.outcome_sentence,
        method.iterations,
        method.bound,
        method.bound_se,
        method.marginal_elbo,
        method.marginal_elbo_se,
        method.log_evidence,
        method.log_evidence_se,
        time.setup_s,
        time.trace_s,
        time.compile_s,
        time.first_s,
        *((run.median, run.min, run.max) if run else (None, None, None)),
        method.ess_per_s,
        found.within(label),
        method.memory_bytes,
        verdict.word if verdict else None,
        verdict.reason if verdict else None,
    )


def _quantities(found: Record) -> Iterator[Sequence[Any]]:
    compared = {(row.method, row.quantity): row for row in found.comparisons}
    for label, method in found.methods.items():
        for name, known in method.quantities.items():
            row = compared.get((label, name))
            yield (
                label,
                name,
                row is not None and row.judged,
                *(getattr(known, field) for field in SUMMARY),
                *(getattr(row, field, None) for field in DIFFERENCE),
            )
