"""Test a fit of any NumPyro model on small data sets, and report its faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vi_bench.errors import NotApplicable, VerificationError
from vi_bench.runtime.environment import forget_programs
from vi_bench.verification.constants import constant_of, is_refuted, offset_of
from vi_bench.verification.finding import CONVERGED, UP_TO_CONSTANT, Finding
from vi_bench.verification.model_answer import AUGMENTED, ELBO, FORMS, call, limit_of
from vi_bench.verification.model_battery import Left
from vi_bench.verification.model_case import PARTS, ModelCase
from vi_bench.verification.model_checks import (
    BELOW,
    BOUND,
    FIRM,
    LIKELY,
    MODEL_PROVES,
    RISING,
    check,
)
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_rows import permuted
from vi_bench.verification.notes import NOT_CHECKED
from vi_bench.verification.other_fits import EARLY, OtherFits
from vi_bench.verification.outcome import AGAIN, KEPT, LEFT, Report
from vi_bench.verification.sandbox import Broken, Unreadable

ORDERED = 5
"""Rows of the data set that is tried in another order."""

SURE = 8.0
"""A z beyond any threshold."""

SUSPECT = 3.0
"""A z from which on it is asked whether draws of q reach what matters."""

FEW = (1, 5)
"""Parts of the draws by which a first fault is looked for, before all are made."""


def verify_model(
    function: Callable[..., Any],
    problems: Sequence[ModelProblem],
    left: Sequence[Left] = (),
    source: tuple[str, ...] = (),
    *,
    limit: float = 300.0,
    strict_constants: bool = False,
    first: bool = False,
) -> Report:
    """Look for faults in a fit of a NumPyro model.

    Args:
        function: a fit, which takes arguments of the model by name, and maybe `seed`.
        problems: data sets to try it on.
        left: what is not tried, and why.
        source: lines of Python that import the fit and the model.
        limit: seconds that one call may take.
        strict_constants: whether a bound that is right up to a constant is wrong.
        first: whether to stop at the first problem that shows a fault for sure.

    Raises:
        InputError: the fit needs an argument that is not there, cannot take any of the
            problems, or returns nothing of the form that is expected.
    """
    findings: list[Finding] = []
    examined: list[Examined] = []
    left = list(left)
    notes: list[str] = []

    def reported() -> Report:
        said = tuple(dict.fromkeys(notes))
        report = Report(
            tuple(findings), tuple(cases), MODEL_PROVES, len(left), said, LIKELY, source
        )
        return report.judged()

    fits = _fits(function, problems, limit, findings, notes, left)
    others = OtherFits(function, limit)
    for parts in (*FEW, PARTS) if first else (PARTS,):
        before, examined = examined, []
        for known in before or (Examined(fit) for fit in fits):
            examined.append(_examined(known, parts))
            cases, found = _of(examined)
            if first and (
                any(_sure(f) for f in [*findings, *found])
                or _is_no_constant(others, found, cases)
            ):
                findings += found
                return reported()
    cases, found = _of(examined)
    findings += found
    if not findings:
        raise VerificationError(f"fit: it can take none of the problems: {left[-1]}")
    if all(f.unreadable for f in findings):
        raise VerificationError(f"fit: {findings[0].said}")
    notes = [*_not_tried(left), *notes]
    findings.extend(_again(function, cases, limit))
    findings.extend(_stopped(function, cases, limit))
    notes += _reordered(function, cases, limit, findings)
    findings, said = _up_to_constant(others, findings, cases, strict_constants)
    notes += said + _unchecked(cases, findings)
    return reported()


class Examined(NamedTuple):
    """A fit, and what all checks have found of it."""

    case: ModelCase
    found: Sequence[Finding] = ()


def _fits(
    function: Callable[..., Any],
    problems: Sequence[ModelProblem],
    limit: float,
    findings: list[Finding],
    notes: list[str],
    left: list[Left],
) -> Iterator[ModelCase]:
    """Fits of all problems that can be examined, made when they are asked for."""
    for problem in problems:
        forget_programs()
        case = _tried(function, problem, limit, findings, notes, left)
        if case is not None:
            yield case


def _examined(known: Examined, parts: int) -> Examined:
    """What all checks find by so many parts of the draws.

    A bound that is off for sure may be so by a constant, which all draws tell best.
    """
    if parts < PARTS and any(
        f.check == BOUND and f.statistic > SURE for f in known.found
    ):
        return known
    case, found = _looked_at(replace(known.case, parts=parts, doubt=""))
    case.forget_scores()
    return Examined(case, found)


def _of(examined: Sequence[Examined]) -> tuple[list[ModelCase], list[Finding]]:
    """All fits, and all that was found."""
    return [e.case for e in examined], [f for e in examined for f in e.found]


def _looked_at(case: ModelCase) -> tuple[ModelCase, list[Finding]]:
    """A fit, and what all checks find once wider draws were asked if q seems wrong."""
    found = list(check.examine(case.problem, case))
    suspect = any(f.random and f.statistic > SUSPECT for f in found)
    if suspect and case.judged and (why := case.unreached):
        case = replace(case, doubt=why)
        found = list(check.examine(case.problem, case))
    return case, found


def _sure(finding: Finding) -> bool:
    """Whether a finding is a fault, whatever the other problems show."""
    if finding.check in (BOUND, BELOW):  # it may be right up to a constant
        return False
    return finding.statistic > SURE if finding.random else not finding.passed


def _tried(
    function: Callable[..., Any],
    problem: ModelProblem,
    limit: float,
    findings: list[Finding],
    notes: list[str],
    left: list[Left],
) -> ModelCase | None:
    """Fit one problem; None if there is nothing to examine."""
    try:
        given, changed = call(function, problem, limit)
    except Broken as error:
        unreadable = isinstance(error, Unreadable)
        findings.append(
            Finding(KEPT, problem, np.nan, 0.0, str(error), unreadable=unreadable)
        )
        return None
    except NotApplicable as error:
        left.append(Left(problem.about, str(error)))
        return None
    notes += given.remarks
    findings.append(Finding(KEPT, problem, len(given.fault) > 0, 0.0, given.fault))
    said = "it changed " + "; ".join(changed)
    findings.append(Finding(LEFT, problem, len(changed), 0.0, said))
    return ModelCase(problem, given)


def _not_tried(left: Sequence[Left]) -> list[str]:
    """What was not tried, a sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for item in left:
        by_reason.setdefault(item.why, []).append(item.about)
    return [f"not tried: {'; '.join(o)}: {why}" for why, o in by_reason.items()]


def _again(
    function: Callable[..., Any], cases: Sequence[ModelCase], limit: float
) -> list[Finding]:
    """Fit the middle problem again: q must be the same up to rounding."""
    if not cases:
        return []
    case = cases[len(cases) // 2]
    try:
        second, _ = call(function, case.problem, limit)
    except (Broken, NotApplicable) as error:
        return [Finding(AGAIN, case.problem, np.nan, 0.0, f"second call {error}")]
    worst, said = 0.0, ""
    for one, other in zip(case.answer.factors, second.factors, strict=True):
        for name, a, b in zip(one.names, one.leaves, other.leaves, strict=True):
            size = 1e6 * case.answer.eps * (1 + float(np.abs(a).max(initial=0.0)))
            off = float(np.abs(np.asarray(a) - np.asarray(b)).max(initial=0.0))
            if off / size > worst:
                worst = off / size
                said = f"{name} of q({one.site}) differs by {off:.3g} between two calls"
    return [Finding(AGAIN, case.problem, worst, 1.0, said)]


def _stopped(
    function: Callable[..., Any], cases: Sequence[ModelCase], limit: float
) -> list[Finding]:
    """The bound after few iterations, of fits that can be stopped there."""
    name = limit_of(function)
    if name is None or not cases:
        return []
    case = cases[len(cases) // 2]
    early = replace(case.problem, about=f"{case.problem.about}, {name} = {EARLY}")
    try:
        given, _ = call(function, early, limit, **{name: EARLY})
    except (Broken, NotApplicable):
        return []
    found = check.examine(early, ModelCase(early, given))
    return [replace(f, problem=case.problem) for f in found if f.check == BOUND]


def _reordered(
    function: Callable[..., Any],
    cases: Sequence[ModelCase],
    limit: float,
    findings: list[Finding],
) -> list[str]:
    """Fit the rows of a data set in another order, if the model does not depend on it.

    The bound may only differ if both ends are optima: a start may depend on the order.
    """
    known = [c for c in cases if c.problem.rows == ORDERED and c.answer.elbo.size]
    if not known or (moved := permuted(known[0].problem)) is None:
        return []
    case, problem = known[0], moved
    try:
        given, _ = call(function, problem, limit)
    except (Broken, NotApplicable) as error:
        findings.append(Finding(KEPT, problem, np.nan, 0.0, str(error)))
        return []
    other = ModelCase(problem, given)
    off = abs(float(other.answer.elbo[-1]) - float(case.answer.elbo[-1]))
    if off <= CONVERGED + case.slack:
        return []
    findings.extend(check.examine(problem, other))
    return [
        f"the order of the rows matters by {off:.3g} nats ({problem}), although the "
        "model does not depend on it: another optimum, unless a check fails there"
    ]


def _up_to_constant(
    others: OtherFits,
    findings: list[Finding],
    cases: Sequence[ModelCase],
    strict: bool,
) -> tuple[list[Finding], list[str]]:
    """Findings without those that a constant explains, and what is said of it."""
    most = Report(tuple(findings), (), MODEL_PROVES).random_threshold
    failed = [f for f in findings if f.check == BOUND and f.statistic > most]
    if not failed or not cases:
        return findings, []
    offsets = [o for case in cases if (o := offset_of(case)) is not None]
    constant = constant_of(offsets, partial(others.of, cases))
    if constant is None:
        return findings, []
    said = f"{UP_TO_CONSTANT}: {constant.told(offsets)}"
    if strict:
        return findings, [said]
    passed = [
        replace(f, statistic=0.0, said=UP_TO_CONSTANT)
        if f.check in (BOUND, BELOW) and f.statistic > most
        else f
        for f in findings
    ]
    return passed, [said]


def _is_no_constant(
    others: OtherFits, findings: Sequence[Finding], cases: Sequence[ModelCase]
) -> bool:
    """Whether a bound is wrong for sure, and by no constant."""
    if not any(f.check == BOUND and f.statistic > SURE for f in findings):
        return False
    offsets = [o for case in cases if (o := offset_of(case)) is not None]
    return is_refuted(offsets, partial(others.of, cases))


def _unchecked(cases: Sequence[ModelCase], findings: Sequence[Finding]) -> list[str]:
    """What could not be checked, a sentence each."""
    if not cases:
        return []
    found = []
    if any(not case.answer.elbo.size for case in cases):
        found.append(
            f"{NOT_CHECKED}, as the fit gives no trace: that the ELBO is what it says, "
            "never falls and is below the evidence"
        )
    elif all(case.answer.elbo.size == 1 for case in cases):
        found.append(f"{NOT_CHECKED}, as `elbo` is one number: {RISING}")
    if any(case.answer.elbo.size for case in cases) and not any(
        f.check == BELOW for f in findings
    ):
        found.append(
            f"{NOT_CHECKED}, as there are no simulated data on which log p(X) can be "
            f"bounded: {BELOW}"
        )
    unjudged: dict[str, list[ModelProblem]] = {}
    for case in cases:
        if case.unjudged:
            unjudged.setdefault(case.unjudged, []).append(case.problem)
    for why, where in unjudged.items():
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        found.append(f"{NOT_CHECKED} on {where[0]}{more}: {why}")
    for case in cases:
        if case.unjudged:
            continue
        if case.form == AUGMENTED:
            why = (
                f"q leaves out {', '.join(case.left_out)}"
                if case.left_out
                else "the bound is stated to be another one, 'augmented'"
            )
            found.append(
                f"{NOT_CHECKED}, as {why}: that the ELBO is what it says, beyond that "
                "it is not above E_q[log p - log q], and that every factor is "
                "stationary; give q of these variables to have that checked"
            )
        elif case.form != ELBO:
            found.append(f"the bound is {FORMS[case.form]}; q is held to that")
        few = [n for n, one in case.reassigned.items() if one.tried < 1]
        if few:
            found.append(
                f"of q({few[0]}) on {case.problem} {case.reassigned[few[0]].tried:.0%} "
                "of the elements were moved one by one"
            )
        noisy = [n for n, g in case.gains.items() if g.noise > FIRM]
        if noisy:
            found.append(
                f"a gain of {FIRM:g} nats or less would not be seen in q({noisy[0]}) "
                f"on {case.problem}, for the noise of its draws"
            )
    return list(dict.fromkeys(found))
