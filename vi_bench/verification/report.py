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
from vi_bench.verification.finding import UP_TO_CONSTANT, Finding
from vi_bench.verification.outcome import ALARM, KEPT, Report
from vi_bench.verification.pasted import test_code


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
            *_numbers(row["worst"], row["at_most"], row["unit"]),
            _word(row, findings),
        )
    return drawn


def _row(report: Report, name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The numbers of a check: problems, failures, worst statistic and threshold."""
    worst = max(findings, key=_excess)
    return {
        "check": name,
        "proves": report.proves[name],
        "problems": len({id(f.problem) for f in findings}),
        "failed": len({id(f.problem) for f in findings if not f.passed}),
        "worst": worst.statistic,
        "at_most": worst.threshold,
        "unit": "z" if worst.random else "",
    }


def _word(row: dict[str, Any], findings: Sequence[Finding]) -> str:
    """How a check ended."""
    if row["failed"]:
        return f"[red]{row['failed']} fail[/]"
    if any(f.said == UP_TO_CONSTANT for f in findings):
        return "[green]pass[/] but a constant"
    return "[green]pass[/]"


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
                "script": "\n".join(test_code(finding.problem, report.source)),
            }
            for name, finding in report.failures.items()
        ],
        "quality": [asdict(q) | {"problem": str(q.problem)} for q in report.quality],
        "z_tests": report.z_tests,
        "z_threshold": report.random_threshold if report.z_tests else None,
        "left_out": report.left_out,
        "notes": list(report.notes),
    }


def verification_lines(report: Report) -> Iterator[str]:
    """Failures, each with code for the smallest failing problem, and the verdict."""
    problems = {id(f.problem): f.problem for f in report.failures.values()}
    for key, problem in problems.items():
        yield f"on {problem}"
        for name, finding in report.failures.items():
            if id(finding.problem) == key:
                yield f"  {name}: {finding.said}"
                if name in report.likely:
                    yield f"    mistakes that look like this: {report.likely[name]}"
        for line in test_code(problem, report.source):
            yield f"    {line}"
    if report.z_tests:
        yield (
            f"{report.z_tests} z-tests, each at {report.random_threshold:.2f}: all "
            f"together call a right implementation wrong in at most {ALARM:g} of cases"
        )
    yield from report.notes
    if (hint := _one_dimension(report)) is not None:
        yield hint
    yield report.verdict


def _one_dimension(report: Report) -> str | None:
    """A hint for an implementation that fails only where there are more features."""
    broken = [f for f in report.findings if f.check == KEPT and not f.passed]
    failed = {f.problem.data.shape[1] for f in broken if hasattr(f.problem, "K")}
    kept = {c.problem.data.shape[1] for c in report.cases if hasattr(c.problem, "K")}
    if kept == {1} and failed and min(failed) > 1:
        return (
            "an implementation for one feature only is tested with --features 1, or "
            "raises NotApplicable for more"
        )
    return None


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


def _numbers(worst: float, at_most: float, unit: str) -> tuple[str, str]:
    """Both with two digits, or as many as show which is larger, and their unit."""
    for digits in (2, 3, 5, 9, 17):
        shown = f"{worst:.{digits}g}", f"{at_most:.{digits}g}"
        if shown[0] != shown[1] or worst == at_most:
            break
    return _number(worst, shown[0], unit), _number(at_most, shown[1], unit)


def _number(value: float, shown: str, unit: str) -> str:
    return NOTHING if value != value else f"{shown} {unit}".rstrip()
