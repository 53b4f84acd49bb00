"""What the other methods are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vi_bench import catalogue
from vi_bench.comparison import Comparison, Margin, Sample, compare
from vi_bench.comparison.comparison import ModeEvidence
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.reference import compare_checked
from vi_bench.contract import Problem
from vi_bench.methods.exact import seconds
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import GibbsStep
from vi_bench.runner.result import MethodRun

PATIENCE = 60.0
"""Seconds that exact summation may take to be chosen as the reference."""

WORK = 5e10
"""Multiply-adds of a sampler's first draws up to which it is tried without being asked
for: some minutes on one core."""


@dataclass(frozen=True)
class Reference:
    """The label of a reference, and of the sampler that checks it, if any."""

    label: str | None
    check: str | None = None


def choose(
    mixture: Mixture, methods: Mapping[str, Any]
) -> tuple[Reference, dict[str, Any]]:
    """`exact` where it reaches in a minute, else `nuts` checked by `gibbs` or `smc`.

    Returns:
        The reference, and the methods with those that were missing, in their usual
        settings.
    """
    known, cost = dict(methods), seconds(mixture)
    if cost is not None and cost <= PATIENCE:
        return Reference(_labelled("exact", known)), known
    check = "gibbs" if isinstance(mixture.family, GibbsStep) else "smc"
    return Reference(_labelled("nuts", known), _labelled(check, known)), known


def stand_in(problem: Problem, runs: dict[str, MethodRun]) -> tuple[str, str]:
    """The sampler that moves between modes where NUTS and Gibbs sampling do not.

    `tempered`; of families without a Gibbs step `smc`. It is added to the runs where it
    is not among them, unless it would take long.

    Returns:
        Its label, and why it is not tried; one of them is empty.
    """
    gibbs = isinstance(problem.mixture.family, GibbsStep)
    name = "tempered" if gibbs else "smc"
    kind = catalogue.method(name)
    for label, run in runs.items():
        if type(run.method) is kind:
            return label, ""
    method = kind()
    work = method.work(problem) if hasattr(method, "work") else 0.0
    if work > WORK:
        return "", (
            f"{name}, which could stand in as the reference, is not tried: it needs "
            f"about {work:.0e} multiply-adds, over {WORK:.0e}; to try it, add it to "
            "the methods"
        )
    runs[name] = MethodRun(method)
    return name, ""


def unjudged(found: Comparison) -> bool:
    """Whether the reference was called unreliable."""
    return any(v.word == "reference unreliable" for v in found.verdicts.values())


def hopeless(found: Comparison) -> bool:
    """Whether the reference is unfit in a way that more draws do not mend."""
    label = found.reference
    if not unjudged(found):
        return False
    return len(found.modes[label]) > 1 or label in found.coverage.missed


def _labelled(name: str, methods: dict[str, Any]) -> str:
    """The label of a method of this name, which is added where there is none."""
    kind = catalogue.method(name)
    for label, method in methods.items():
        if type(method) is kind:
            return label
    methods[name] = kind()
    return name


def hold_against(
    samples: Mapping[str, Sample],
    reference: Reference,
    margin: Margin,
    mode_evidence: ModeEvidence,
    coverage: Coverage,
) -> Comparison | None:
    """The comparison with the reference; None where that has no draws."""
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
