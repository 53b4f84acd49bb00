"""Which check finds which fault, and how often what is right is called wrong.

    uv run python -m benchmarks.zoo [--seeds 200] [--out results/published/zoo.json]

Every mutant of tests/zoo is verified on the battery of seed 0, the right implementation
and the honest approximations on the batteries of all seeds. A fault that is not found,
a false alarm or an approximation called a fault makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

from rich import print as show
from rich.table import Table
from vi_bench.verification.checks import PROVES

from tests.zoo.gaussian import APPROXIMATIONS, MUTANTS, Right
from vi_bench.verification import Report, verify
from vi_bench.verification.verifier import PROMISES

CHECKS = [*PROMISES, *PROVES]


def fault(kind: type) -> str:
    """The first line of a mutant's docstring."""
    return (kind.__doc__ or "").partition("\n")[0].rstrip(".")


def alarms(kind: type, seeds: int) -> dict[int, Report]:
    """The batteries, by seed, that call an honest implementation wrong."""
    reports = {seed: verify(kind(), seed=seed) for seed in range(seeds)}
    return {seed: report for seed, report in reports.items() if not report.passed}


def told(found: dict[str, list[str]]) -> Table:
    """A row per mutant, a column per check."""
    drawn = Table("fault", *(str(i + 1) for i in range(len(CHECKS))))
    for kind in MUTANTS:
        marks = ("x" if c in found[kind.__name__] else "" for c in CHECKS)
        drawn.add_row(fault(kind), *marks)
    drawn.caption = "; ".join(f"{i + 1} {name}" for i, name in enumerate(CHECKS))
    return drawn


def main() -> None:
    """Verify all, print the table, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a .json file for what was found")
    given = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # mutants overflow
    begun = time.perf_counter()
    found = {kind.__name__: list(verify(kind()).failures) for kind in MUTANTS}
    caught = sum(bool(checks) for checks in found.values())
    false = alarms(Right, given.seeds)
    coarse: dict[str, Any] = {}
    for kind in APPROXIMATIONS:
        wrong = alarms(kind, given.seeds)
        report = verify(kind())
        worst = max(q.below_best for q in report.quality)
        coarse[kind.__name__] = {
            "form": fault(kind),
            "false_alarms": sorted(wrong),
            "nats_below_best": worst,
            "verdict": report.verdict,
        }
    clean = sum(not c["false_alarms"] for c in coarse.values())
    show(told(found))
    show(f"{time.perf_counter() - begun:.0f} s, battery of seed 0")
    show(f"faults found: {caught} of {len(MUTANTS)}")
    show(f"false alarms: {len(false)} of {given.seeds} batteries, from seed 0")
    show(f"approximations without an alarm: {clean} of {len(coarse)}")
    if given.out:
        summary = {
            "battery_seed": 0,
            "seeds": [0, given.seeds - 1],
            "faults": {
                kind.__name__: {"fault": fault(kind), "found_by": found[kind.__name__]}
                for kind in MUTANTS
            },
            "false_alarms": sorted(false),
            "approximations": coarse,
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(int(caught < len(MUTANTS) or bool(false) or clean < len(coarse)))


if __name__ == "__main__":
    main()
