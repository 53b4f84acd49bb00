"""Which check finds which fault, and how often correct code is called wrong.

    uv run python -m benchmarks.zoo [--seeds 20] [--only NAME ...]
        [--out results/published/zoo.json] [--page docs/zoo.md]

Every mutant of tests/zoo, correct implementations, this package's kernel among them,
and stated approximations are verified on the batteries of all seeds. The exit code is 1
if a fault is not found, or if a correct implementation or an approximation raises an
alarm.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich import print as show
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from benchmarks.page import interval
from tests.zoo import families, gaussian, kernel
from vi_bench.verification import Report, verify

CHUNK = 10
"""Seeds of one task, as programs are compiled once per process and shape."""

SEEDS, FEW = 20, 2
"""Batteries of every implementation; and of this package's kernel in all families,
whose programs are compiled anew for the shapes of each battery, which takes minutes."""

RIGHT = [gaussian.Right, kernel.Kernel, kernel.KernelOfFamilies, *families.RIGHT]
APPROXIMATIONS = [*gaussian.APPROXIMATIONS, *families.APPROXIMATIONS]
MUTANTS = [*gaussian.MUTANTS, *families.MUTANTS]
EVERY = (*MUTANTS, *RIGHT, *APPROXIMATIONS)


def tried(kind: type, seed: int) -> Report:
    """The report on one implementation by the battery of one seed."""
    chosen = getattr(kind, "families", None)
    return verify(kind(), seed=seed, families=chosen)


def label(kind: type) -> str:
    """The name of an implementation in tables, with that of its module."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def fault(kind: type) -> str:
    """The fault of an implementation, which is the first line of its docstring."""
    return (kind.__doc__ or "").partition("\n")[0].rstrip(".")


def task(kind: type, seeds: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Seed -> the findings of its battery on an implementation, as plain values."""
    warnings.simplefilter("ignore", RuntimeWarning)  # mutants overflow
    found = {}
    for seed in seeds:
        report = tried(kind, seed)
        below = [q.below_best for q in report.quality if q.below_best == q.below_best]
        found[seed] = {
            "found_by": {c: f.said for c, f in report.failures.items()},
            "smallest": {c: str(f.problem) for c, f in report.failures.items()},
            "verdict": report.verdict,
            "z_tests": report.z_tests,
            "nats_below_best": max(below, default=None),
        }
    return found


def planned(seeds: int) -> list[tuple[type, list[int]]]:
    """All tasks: an implementation and the seeds of its batteries."""
    work = []
    for kind in EVERY:
        number = min(seeds, FEW) if kind is kernel.KernelOfFamilies else seeds
        every = list(range(number))
        work += [(kind, every[i : i + CHUNK]) for i in range(0, number, CHUNK)]
    return work


def told(found: dict[type, dict[int, dict[str, Any]]]) -> Table:
    """A table with one row per mutant: its fault, and the checks that found it."""
    drawn = Table("implementation", "fault", "found by")
    for kind in MUTANTS:
        if kind not in found:
            continue
        by = ", ".join(found[kind][0]["found_by"]) or "[red]nothing[/]"
        drawn.add_row(label(kind), escape(fault(kind)), by)
    return drawn


def summary(found: dict[type, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """All results as plain values, with their seeds."""
    rights, coarse = {}, {}
    for kind in (*RIGHT, *APPROXIMATIONS):
        if kind not in found:
            continue
        reports = found[kind]
        alarms = {s: r["found_by"] for s, r in reports.items() if r["found_by"]}
        row = {
            "what": fault(kind),
            "seeds": [min(reports), max(reports)],
            "batteries": len(reports),
            "z_tests": sum(r["z_tests"] for r in reports.values()),
            "alarms": alarms,
        }
        if kind in RIGHT:
            rights[label(kind)] = row
        else:
            first = reports[0]
            keys = ("verdict", "nats_below_best")
            coarse[label(kind)] = row | {key: first[key] for key in keys}
    return {
        "battery_seed_of_faults": 0,
        "faults": {
            label(kind): {
                "fault": fault(kind),
                "seeds": len(found[kind]),
                "not_found_at": [
                    s for s, r in found[kind].items() if not r["found_by"]
                ],
                "found_by": found[kind][0]["found_by"],
                "smallest_problem": found[kind][0]["smallest"],
            }
            for kind in MUTANTS
            if kind in found
        },
        "right": rights,
        "approximations": coarse,
    }


def batteries_of(result: dict[str, Any]) -> tuple[int, int]:
    """Batteries in which a mutant was found, and in which one was looked for."""
    faults = result["faults"].values()
    tried = sum(fault["seeds"] for fault in faults)
    return tried - sum(len(fault["not_found_at"]) for fault in faults), tried


def page(result: dict[str, Any]) -> str:
    """The results as the text of docs/zoo.md."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    faults = result["faults"]
    caught, tried = batteries_of(result)
    rows = [*result["right"].values(), *result["approximations"].values()]
    alarms = sum(len(row["alarms"]) for row in rows)
    honest = sum(row["batteries"] for row in rows)
    lines = [
        "# The zoo",
        "",
        "`tests/zoo` holds implementations with one planted fault each. The table",
        "lists the checks of [`verify`](verifying.md) that find each fault, on the",
        f"battery of problems with seed {result['battery_seed_of_faults']}, and at how",
        f"many seeds of the battery it is found: {len(faults)} faults, found in "
        f"{caught} of {tried} batteries. Implementations",
        "in `gaussian` have the plain form, those in `families` the full form. This",
        "page is generated by `python -m benchmarks.zoo`; all numbers, with the",
        "message of each check, are in `results/published/zoo.json`.",
        "",
        "| implementation | fault | found at seeds | found by |",
        "|---|---|---|---|",
    ]
    for name, fault in faults.items():
        by = ", ".join(fault["found_by"])
        at = f"{fault['seeds'] - len(fault['not_found_at'])} of {fault['seeds']}"
        lines.append(f"| `{name}` | {cell(fault['fault'])} | {at} | {by} |")
    lines += [
        "",
        f"Correct implementations and valid approximations raised {alarms} alarms on "
        f"{honest} batteries",
        f"(95 %: at most {interval(alarms, honest)[1]:.1%}). Correct ones:",
        "",
        "| implementation | batteries, from seed 0 | z-tests | alarms |",
        "|---|---|---|---|",
    ]
    for name, row in result["right"].items():
        counts = f"{row['batteries']} | {row['z_tests']} | {len(row['alarms'])}"
        lines.append(f"| `{name}` | {counts} |")
    lines += [
        "",
        "Valid approximations, which must not be called faults:",
        "",
        "| implementation | what it is | batteries | alarms | verdict on seed 0 |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["approximations"].items():
        what = cell(row["what"].removeprefix("No fault: "))
        counts = f"{row['batteries']} | {len(row['alarms'])}"
        lines.append(f"| `{name}` | {what} | {counts} | {cell(row['verdict'])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Verify all implementations, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="a .json file for what was found")
    parser.add_argument("--page", type=Path, help="a .md file for a table of it")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[label(kind) for kind in EVERY],
        metavar="NAME",
        help="only these implementations; --out keeps the others",
    )
    parser.add_argument("--known", type=Path, help="a .json file: only make the page")
    given = parser.parse_args()
    if given.known:
        text = page(json.loads(given.known.read_text(encoding="utf-8")))
        (given.page or Path("zoo.md")).write_text(text, encoding="utf-8")
        return
    begun = time.perf_counter()
    found: dict[type, dict[int, dict[str, Any]]] = {kind: {} for kind in EVERY}
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        futures = [
            (kind, pool.submit(task, kind, seeds))
            for kind, seeds in planned(given.seeds)
            if not given.only or label(kind) in given.only
        ]
        for kind, future in track(futures, "batteries"):
            found[kind] |= future.result()
    found = {kind: reports for kind, reports in found.items() if reports}
    result = summary(found)
    if given.only and given.out:
        known = json.loads(given.out.read_text(encoding="utf-8"))
        for group in ("faults", "right", "approximations"):
            result[group] = known[group] | result[group]
    show(told(found))
    caught, batteries = batteries_of(result)
    false, clean = 0, 0
    for name, row in result["right"].items():
        show(f"{name}: {len(row['alarms'])} alarms on {row['batteries']} batteries")
        false += len(row["alarms"])
    for name, row in result["approximations"].items():
        show(f"{name}: {len(row['alarms'])} alarms on {row['batteries']} batteries")
        clean += not row["alarms"]
    seconds = time.perf_counter() - begun
    show(f"{seconds:.0f} s; faults found in {caught} of {batteries} batteries")
    approximations = len(result["approximations"])
    show(f"approximations without an alarm: {clean} of {approximations}")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if given.page:
        given.page.write_text(page(result), encoding="utf-8")
    wrong = caught < batteries or false or clean < approximations
    raise SystemExit(int(bool(wrong)))


if __name__ == "__main__":
    main()
