"""The result of a verification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from scipy.stats import norm

from vi_bench.verification.finding import UP_TO_CONSTANT, Finding, Quality
from vi_bench.verification.notes import FRAGILE, NOT_CHECKED

KEPT, LEFT, AGAIN = "keeps its promise", "changes nothing", "repeatable"

PROMISES = {
    KEPT: "returns in time, finite, of the right shapes and signs",
    LEFT: "the data, JAX's settings and global generators are as they were",
    AGAIN: "the same seed gives the same numbers",
}
"""Check of the call itself -> what it proves."""

FELT = 1e-2
"""Nats below the best known optimum, or log p(X), beyond which that is reported."""

LOSSES = (("below_best", "the best optimum known"), ("below_evidence", "log p(X)"))
"""Attributes of `Quality`, and the values that they are losses from."""

ALARM = 1e-3
"""Largest probability that the z-tests reject a correct implementation."""


@dataclass(frozen=True, repr=False)
class Report:
    """The result of a verification.

    Attributes:
        findings: results of every check on every problem.
        cases: the fits that could be examined.
        checked: check -> what it proves, of all checks for the form that was tested.
        left_out: number of problems to which the implementation does not apply.
        notes: what was not checked and why, and results that are no failures, a
            sentence each.
        likely: check -> kinds of mistakes that its failure looks like.
        source: lines of Python that import what was tested.
    """

    findings: tuple[Finding, ...]
    cases: tuple[Any, ...]
    checked: Mapping[str, str]
    left_out: int = 0
    notes: tuple[str, ...] = ()
    likely: Mapping[str, str] = field(default_factory=dict)
    source: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<verification: {self.verdict}>"

    def judged(self) -> Report:
        """The report with the threshold of its z-tests, which their number gives.

        What a finding says if it fails is dropped where it does not.
        """
        most = self.random_threshold
        found = (replace(f, threshold=most) if f.random else f for f in self.findings)
        kept = (f if not f.passed else f.unsaid() for f in found)
        return replace(self, findings=tuple(kept))

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(f.passed for f in self.findings)

    @property
    def proves(self) -> dict[str, str]:
        """Check -> what it proves, those of the call itself first."""
        return PROMISES | dict(self.checked)

    @property
    def checks(self) -> dict[str, list[Finding]]:
        """Check -> its findings, if there are any, in the order of `proves`."""
        found: dict[str, list[Finding]] = {}
        for name in self.proves:
            own = [f for f in self.findings if f.check == name]
            if own:
                found[name] = own
        return found

    @property
    def failures(self) -> dict[str, Finding]:
        """Check -> its failure on the smallest problem."""
        found = {}
        for name, findings in self.checks.items():
            failed = [f for f in findings if not f.passed]
            if failed:
                found[name] = min(failed, key=lambda f: f.problem.size)
        return found

    @cached_property
    def quality(self) -> tuple[Quality, ...]:
        """Accuracy of the approximation by problem; it is not checked."""
        return tuple(q for case in self.cases if (q := case.quality) is not None)

    @property
    def z_tests(self) -> int:
        """Number of z-tests that were made."""
        return sum(f.random for f in self.findings)

    @property
    def random_threshold(self) -> float:
        """The ``|z|`` at which all z-tests have a joint false-alarm rate of ALARM."""
        return float(norm.isf(0.5 * ALARM / max(self.z_tests, 1)))

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if not self.passed:
            names = ", ".join(self.failures)
            number = f"{len(self.failures)} of {len(self.checks)} checks"
            return f"wrong: {number} fail: {names}"
        clean = f"no fault found by {len(self.checks)} checks"
        forms = sorted({q.form for q in self.quality if q.form})
        if forms:
            clean += f"; a coarser q: {', '.join(forms)}"
        for name, best in LOSSES:
            known = [q for q in self.quality if (getattr(q, name) or 0.0) > FELT]
            if known:
                worst = max(known, key=lambda q: float(getattr(q, name)))
                nats = getattr(worst, name)
                said = f"{nats:.3g}" if nats < 1000 else f"{nats:.0f}"
                clean += f"; up to {said} nats below {best} ({worst.problem})"
        if any(note.startswith(FRAGILE) for note in self.notes):
            clean += f"; {FRAGILE}, see the note"
        if any(note.startswith(UP_TO_CONSTANT) for note in self.notes):
            clean += f"; {UP_TO_CONSTANT}, see the note"
        if any(note.startswith(NOT_CHECKED) for note in self.notes):
            clean += "; not everything could be checked, see the notes"
        return clean
