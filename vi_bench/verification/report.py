"""The report of a verification: its table, its failures as code, its verdict."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vi_bench.reports.style import NOTHING, bare_table
from vi_bench.verification.finding import Finding
from vi_bench.verification.verifier import ALARM, Report


def verification_table(report: Report) -> Table:
    """A row per check: what it proves, the worst statistic, and its threshold."""
    drawn = bare_table()
    for name in ("check", "what it proves"):
        drawn.add_column(name)
    for name in ("problems", "worst", "at most"):
        drawn.add_column(name, justify="right")
    drawn.add_column("")
    for name, findings in report.checks.items():
        row = _row(report, name, findings)
        drawn.add_row(
            name,
            escape(row["proves"]),
            f"{row['problems']}",
            _number(row["worst"]),
            _number(row["at_most"]),
            f"[red]{row['failed']} fail[/]" if row["failed"] else "[green]pass[/]",
        )
    return drawn


def _row(report: Report, name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The numbers of a check: problems, failures, worst statistic and threshold."""
    worst = max(findings, key=_excess)
    return {
        "check": name,
        "proves": report.proves[name],
        "problems": len({id(f.problem) for f in findings}),
        "failed": sum(not f.passed for f in findings),
        "worst": worst.statistic,
        "at_most": worst.threshold,
    }


def verification_record(report: Report) -> dict[str, Any]:
    """The report as plain values, see docs/cli.md."""
    return {
        "passed": report.passed,
        "verdict": report.verdict,
        "checks": [_row(report, *check) for check in report.checks.items()],
        "failures": [
            {
                "check": name,
                "problem": str(finding.problem),
                "said": finding.said,
                "script": finding.problem.script(),
            }
            for name, finding in report.failures.items()
        ],
        "quality": [asdict(q) | {"problem": str(q.problem)} for q in report.quality],
        "z_tests": report.z_tests,
        "z_threshold": report.random_threshold if report.z_tests else None,
        "left_out": report.left_out,
    }


def verification_lines(report: Report) -> Iterator[str]:
    """Failures, each with code for the smallest failing problem, and the verdict."""
    problems = {id(f.problem): f.problem for f in report.failures.values()}
    for key, problem in problems.items():
        yield f"on {problem}"
        for name, finding in report.failures.items():
            if id(finding.problem) == key:
                yield f"  {name}: {finding.said}"
        for line in (IMPORTS, *problem.script().splitlines()):
            yield f"    {line}"
    if report.z_tests:
        yield (
            f"{report.z_tests} z-tests, each at {report.random_threshold:.2f}: all "
            f"together call a right implementation wrong in at most {ALARM:g} of cases"
        )
    if report.left_out:
        yield f"{report.left_out} problems left out: the method does not apply"
    yield report.verdict


IMPORTS = (
    "import numpy as np; "
    "from vi_bench.testing import MixtureProblem, Problem, check_cavi"
)
"""The imports that the code of a failure needs."""


def told(report: Report) -> str:
    """The report as plain text."""
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(verification_table(report))
    return console.export_text() + "\n".join(verification_lines(report))


def _excess(finding: Finding) -> float:
    """The statistic relative to its threshold; infinite if it is NaN."""
    if finding.statistic != finding.statistic:
        return float("inf")
    return (
        finding.statistic / finding.threshold
        if finding.threshold
        else (finding.statistic)
    )


def _number(value: float) -> str:
    return NOTHING if value != value else f"{value:.2g}"
