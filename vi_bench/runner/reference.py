"""The choice of the reference, and the comparison of the other methods with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vi_bench import catalogue
from vi_bench.comparison import Comparison, Margin, Sample, compare
from vi_bench.comparison.comparison import ModeEvidence
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.reference import compare_checked
from vi_bench.contract import Foreseen, Problem, Role
from vi_bench.errors import NotApplicable
from vi_bench.runner.result import MethodRun

PATIENCE = 60.0
"""Seconds that an exact method may take to be chosen as the reference."""

LONGEST = 180.0
"""Seconds that a sampler's first draws may take, for it to be added to a run."""


@dataclass(frozen=True)
class Reference:
    """The labels of a reference and of the sampler that checks it, if there are any."""

    label: str | None
    check: str | None = None


def choose(
    problem: Problem, methods: Mapping[str, Any]
) -> tuple[Reference, dict[str, Any]]:
    """The exact posterior if that takes up to PATIENCE, else a sampler and its check.

    Returns:
        The reference, and the methods including those that had to be added, with
        default settings.
    """
    known = dict(methods)
    exact = able("exact", problem)
    if exact is not None and exact[1] <= PATIENCE:
        return Reference(_labelled(exact[0], known)), known
    sampler, check = able("sampler", problem), able("check", problem)
    return (
        Reference(
            None if sampler is None else _labelled(sampler[0], known),
            None if check is None else _labelled(check[0], known),
        ),
        known,
    )


def able(role: Role, problem: Problem) -> tuple[str, float] | None:
    """The best applicable method for a role, and its predicted seconds (0: unknown)."""
    for name in catalogue.with_role(role):
        try:
            method = catalogue.method(name)()
        except TypeError:  # it has settings without a default
            continue
        foreseen = isinstance(method, Foreseen) and callable(method.seconds)
        try:
            return name, method.seconds(problem) if foreseen else 0.0
        except NotApplicable:
            continue
    return None


def stand_in(problem: Problem, runs: dict[str, MethodRun]) -> tuple[str, str]:
    """Find a sampler that moves between modes, to replace the reference.

    It is added to `runs` if it is not among them, unless it would take over `LONGEST`.

    Returns:
        Its label, and why it is not tried; one of the two is empty.
    """
    found = able("between modes", problem)
    if found is None:
        return "", "no method could stand in as the reference"
    name, spent = found
    label = label_of(name, {label: run.method for label, run in runs.items()})
    if label is not None:
        return label, ""
    if spent > LONGEST:
        return "", (
            f"{name}, which could stand in as the reference, is not tried: it would "
            f"take about {spent / 60:.0f} minutes, over {LONGEST / 60:.0f}; to try it, "
            "add it to the methods"
        )
    runs[name] = MethodRun(catalogue.method(name)())
    return name, ""


def unjudged(found: Comparison) -> bool:
    """Whether some verdict says that the reference is unreliable."""
    return any(v.word == "reference unreliable" for v in found.verdicts.values())


def hopeless(found: Comparison) -> bool:
    """Whether the reference is unreliable in a way that more draws do not cure."""
    label = found.reference
    if not unjudged(found):
        return False
    return len(found.modes[label]) > 1 or label in found.coverage.missed


def _labelled(name: str, methods: dict[str, Any]) -> str:
    """The label of a method of this registered name, which is added if missing."""
    label = label_of(name, methods)
    if label is None:
        label, methods[name] = name, catalogue.method(name)()
    return label


def label_of(name: str, methods: Mapping[str, Any]) -> str | None:
    """The first label of a method of this registered name; None if there is none."""
    kind = catalogue.method(name)
    found = (label for label, method in methods.items() if type(method) is kind)
    return next(found, None)


def hold_against(
    samples: Mapping[str, Sample],
    reference: Reference,
    margin: Margin,
    mode_evidence: ModeEvidence,
    coverage: Coverage,
) -> Comparison | None:
    """The comparison with the reference; None if neither it nor its check has draws."""
    label, check = reference.label, reference.check
    said = ""
    if label not in samples and check in samples:
        said = f"{label} gave no draws; {check} is the reference, and nothing checks it"
        label, check = check, None
    if label is None or label not in samples:
        return None
    if check is None:
        return compare(samples, label, margin, mode_evidence, coverage).noted(said)
    return compare_checked(samples, label, check, margin, mode_evidence, coverage)
