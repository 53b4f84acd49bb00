"""Whole commands, as a user waits for them: first runs, compiling, long data.

    uv run python -m benchmarks.runs [--only first-run] [--quick]
        [--out results/published]

Each command is a process of its own. Those that compile, and the one with a budget,
have an empty cache of programs; the others have run once before. What is measured is
written after each case.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from os import environ
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Case, clusters, options, said, spread, write_cases

CHAINS, DRAWS, QUANTITIES = 4, 10_000, 50
"""Size of the files that are compared."""

CASES: list[Case] = [
    {"name": "first-run", "words": "faithful"},
    {"name": "compile", "words": "notebook --methods cavi,svi,nuts"},
    {
        "name": "compile-semiconjugate",
        "words": "galaxies --model gaussian-semiconjugate --components 3 "
        "--methods cavi,gibbs,smc,nested",
    },
    {"name": "compare", "draws": DRAWS},
    {"name": "many-rows", "rows": 1_000_000, "words": "many.toml"},
    {
        "name": "budget",
        "words": "cells.csv --model gaussian-full --components 2 --weights dirichlet "
        "--methods cavi,svi,nuts --budget 60",
        "rounds": 1,
    },
]

MANY = """
data = "rows.parquet"
components = 4
model = { name = "gaussian-diagonal" }
methods = { cavi = { restarts = 4 } }
"""
"""Spec of the case of many rows."""


def command(folder: Path, words: Sequence[str], cache: Path) -> float:
    """Seconds of a command of vi-bench in a folder, with a cache of programs."""
    line = [sys.executable, "-m", "vi_bench", *words]
    begun = time.perf_counter()
    done = subprocess.run(
        line,
        cwd=folder,
        env=environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    if done.returncode > 1:  # 1: a method did not get to the end of its warm-up
        raise SystemExit(done.stderr)
    return time.perf_counter() - begun


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """Times of every stage of each method, in the run in the subfolder "out"."""
    record = json.loads((folder / "out" / "summary.json").read_text())
    return {k: own["time"]["stages"] for k, own in record["methods"].items()}


def run(folder: Path, words: str, cache: Path) -> float:
    """Seconds of a run, into the subfolder "out"."""
    given = ["run", *words.split(), "--out", "out", "--overwrite", "--quiet"]
    return command(folder, given, cache)


def first(folder: Path, case: Case) -> dict[str, float]:
    """A run with nothing compiled, and what tracing and compiling takes of it."""
    with tempfile.TemporaryDirectory() as cache:
        seconds = run(folder, case["words"], Path(cache))
    times = [t for own in stages(folder).values() for t in own.values()]
    return {
        "s": seconds,
        "trace_s": sum(t["trace_s"] for t in times),
        "compile_s": sum(t["compile_s"] for t in times),
    }


def compare(folder: Path, case: Case) -> dict[str, float]:
    """Two files of autocorrelated draws."""
    from arviz import from_dict

    random = np.random.default_rng(0)
    for name in ("one.nc", "other.nc"):
        if not (folder / name).exists():
            noise = random.normal(size=(CHAINS, case["draws"], QUANTITIES))
            x = np.zeros_like(noise)
            for at in range(1, case["draws"]):
                x[:, at] = 0.5 * x[:, at - 1] + noise[:, at]
            from_dict({"posterior": {"x": x}}).to_netcdf(folder / name)
    words = ["compare", "one.nc", "other.nc", "--reference", "one"]
    return {"s": command(folder, words, folder / "cache")}


def many_rows(folder: Path, case: Case) -> dict[str, float]:
    """Restarts on many rows, over one of them: the fit that takes longest."""
    import pandas as pd

    path = folder / "rows.parquet"
    if not path.exists():
        size = {"N": case["rows"], "K": 4, "d": 4, "dtype": "float64"}
        x = pd.DataFrame(clusters(size), columns=[f"x{j}" for j in range(4)])
        x.to_parquet(path)
        (folder / case["words"]).write_text(MANY)
    seconds = run(folder, case["words"], folder / "cache")
    fit = stages(folder)["cavi"]["fit"]
    one = fit["lane_s"] or fit["first_s"]
    return {"s": seconds, "one_s": one, "in_fits": seconds / one}


def budget(folder: Path, case: Case) -> dict[str, float]:
    """A posterior that takes a sampler long, with a budget for every method."""
    from sklearn.datasets import load_breast_cancer

    path = folder / "cells.csv"
    np.savetxt(path, load_breast_cancer().data, delimiter=",")
    seconds = run(folder, case["words"], folder / "cache")
    own = stages(folder)["nuts"].values()
    return {"s": seconds, "nuts_s": sum(stage["first_s"] for stage in own)}


KINDS: dict[str, tuple[Callable[[Path, Case], dict[str, float]], bool]] = {
    "first-run": (first, False),
    "compile": (first, False),
    "compile-semiconjugate": (first, False),
    "compare": (compare, True),
    "many-rows": (many_rows, True),
    "budget": (budget, False),
}
"""Name of a case -> what measures it, and whether it runs once before."""

SMALL: Case = {"rows": 2000, "draws": 100}


def main(arguments: list[str] | None = None) -> None:
    """Run the cases, print and write the results."""
    given = options(__doc__, "runs", 3, CASES).parse_args(arguments)
    for case in CASES:
        if case["name"] not in given.only:
            continue
        take, before = KINDS[case["name"]]
        if given.quick:
            case = case | {k: v for k, v in SMALL.items() if k in case}
        with tempfile.TemporaryDirectory() as folder:
            rounds = case.get("rounds", given.rounds) + before
            times = [take(Path(folder), case) for _ in range(rounds)][before:]
        measured = {key: spread([t[key] for t in times]) for key in times[0]}
        print(case["name"], {k: said(v) for k, v in measured.items()}, flush=True)
        if not given.quick:
            write_cases([case | {"measured": measured}], given.out, "runs")


if __name__ == "__main__":
    main()
