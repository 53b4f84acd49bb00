"""Overhead of a sweep beside its runs, and time of queries on a folder of many cells.

    uv run python -m benchmarks.sweeps [--rounds 5] [--quick] [--out results/published]

`cells`: seconds that a cell of cavi takes a warm worker beside the run itself (loading
the data, converting the draws to ArviZ, writing and syncing files, locking), and those
of the run, on one core.

`folder`: seconds of `vi-bench status` and of a query, as processes of their own, on a
folder of 10,000 finished cells: copies of one under other keys.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, alone, options, said, spread, write

CELLS: Case = {"name": "cells", "count": 40, "draws": 1000}
FOLDER: Case = {"name": "folder", "count": 10_000, "draws": 50}

SQL = "SELECT method, count(*), avg(bound) FROM methods GROUP BY method"


def made(folder: Path, case: Case, count: int) -> tuple[list[float], list[float]]:
    """Make cells in this process.

    Returns:
        Seconds of every run, and of its cell beside the run.
    """
    import vi_bench.runner.launch as runner
    from vi_bench.sweeps.grid import sweep_of
    from vi_bench.sweeps.store import Store
    from vi_bench.sweeps.sweep import described, job_of, plan
    from vi_bench.sweeps.work import answer, cell

    launch, runs = runner.launch, list[float]()

    def clocked(*given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        found = launch(*given, **named)
        runs.append(time.perf_counter() - begun)
        return found

    sweep = sweep_of(
        {
            "name": "tiny",
            "base": {"methods": ["cavi"], "draws": case["draws"], "repeats": 1},
            "grid": {"data": ["faithful"], "seed": list(range(count))},
        }
    )
    cells = plan(sweep, answer)
    store = Store(folder)
    store.plan(described(sweep, cells))
    runner.launch = clocked
    beside = []
    for one in cells:
        begun = time.perf_counter()
        found = cell(job_of(store, one, shared=False))
        assert found == {"status": "done"}, found
        beside.append(time.perf_counter() - begun - runs[-1])
    runner.launch = launch
    return runs, beside


def cells(case: Case) -> dict[str, Any]:
    """Seconds of runs and of cells beside them, without the first, which compiles."""
    with tempfile.TemporaryDirectory() as scratch:
        runs, beside = made(Path(scratch, "s"), case, case["count"] + 1)
    return {"run": spread(runs[1:]), "beside": spread(beside[1:])}


def folder(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds of the commands as a user runs them; the first query makes the index."""
    from vi_bench.sweeps.store import Store

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "s")
        made(place, case, 1)
        store = Store(place)
        (key,) = store.finished()
        files = {name: store.read(key, name) for name in store.manifest(key)}
        keys = [f"{i:032x}" for i in range(case["count"] - 1)]
        for other in keys:
            with store.write(other) as staged:
                for name, content in files.items():
                    (staged / name).write_bytes(content)
        store.plan(
            {"name": "copies", "cells": [{"key": k, "choice": {}} for k in keys]}
        )

        def asked(*words: str) -> float:
            command = [sys.executable, "-m", "vi_bench", words[0], str(place)]
            begun = time.perf_counter()
            subprocess.run([*command, *words[1:]], check=True, capture_output=True)
            return time.perf_counter() - begun

        first = asked("query", SQL)
        found = {"status": list[float](), "query": list[float]()}
        for _ in range(rounds):
            found["status"].append(asked("status"))
            found["query"].append(asked("query", SQL))
    return {"first_query": first} | {k: spread(v) for k, v in found.items()}


def child(case: Case, rounds: int) -> dict[str, Any]:
    """Measure one case."""
    return case | (cells(case) if case["name"] == "cells" else folder(case, rounds))


def main(arguments: list[str] | None = None) -> None:
    """Run both cases, print and write the results."""
    given = options(__doc__, "sweeps", 5).parse_args(arguments)
    found = []
    for case in (CELLS, FOLDER):
        if given.quick:
            case = case | {"count": 4}
        result = alone("benchmarks.sweeps", case, given.rounds, None, {})
        for what in ("run", "beside", "status", "query"):
            if what in result:
                print(f"{case['count']} cells: {what} {said(result[what])} s")
        found.append(result)
    if not given.quick:
        write({"rounds": given.rounds, "cases": found}, given.out, "sweeps")


if __name__ == "__main__":
    main()
