"""Try an implementation on a battery of problems, and say what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.errors import InputError
from vi_bench.kernel import cavi
from vi_bench.verification import textbook
from vi_bench.verification.checks import PROVES, Case, Finding, examine
from vi_bench.verification.plain import Broken, Plain, call
from vi_bench.verification.problems import Problem, battery

PROMISES = {
    "keeps its promise": "returns in time, finite, of the right shapes and signs",
    "changes nothing": "the data and JAX's settings are as they were",
    "repeatable": "the same seed gives the same numbers",
}
"""Checks of the call itself, and what they prove."""

FELT = 1e-2
"""Nats below the best known optimum that are told of."""


@dataclass(frozen=True)
class Quality:
    """How good an approximation is, whatever its implementation; nats.

    Attributes:
        problem: what was fitted.
        below_best: the best optimum of mean field found, minus the bound of this q.
        below_evidence: log p(X) minus that bound; None where it is not enumerated.
        form: how q's form is coarser than mean field's, in words; empty where not.
    """

    problem: Problem
    below_best: float
    below_evidence: float | None
    form: str


@dataclass(frozen=True)
class Report:
    """What a battery found.

    Attributes:
        findings: every check on every problem.
        cases: every fit that could be examined.
    """

    findings: tuple[Finding, ...]
    cases: tuple[Case, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(f.passed for f in self.findings)

    @property
    def checks(self) -> dict[str, list[Finding]]:
        """Check -> its findings, those that there are, in the order of the list."""
        found: dict[str, list[Finding]] = {}
        for name in (*PROMISES, *PROVES):
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
        """Approximation quality by problem; it is no check."""
        return tuple(map(_quality, self.cases))

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.passed:
            names = ", ".join(self.failures)
            return f"wrong: {len(self.failures)} of {len(self.checks)} fail: {names}"
        clean = f"no fault found by {len(self.checks)} checks"
        if not self.quality:
            return clean
        worst = max(self.quality, key=lambda q: q.below_best)
        forms = sorted({q.form for q in self.quality if q.form})
        coarse = f"; a coarser q: {', '.join(forms)}" if forms else ""
        if worst.below_best <= FELT:
            return f"{clean}{coarse}"
        return (
            f"{clean}{coarse}; up to {worst.below_best:.3g} nats below the best "
            f"optimum known ({worst.problem})"
        )


def proves(name: str) -> str:
    """What a check proves."""
    return PROMISES.get(name) or PROVES[name]


def verify(
    method: str | Plain,
    *,
    seed: int = 0,
    limit: float = 30.0,
    problems: Sequence[Problem] | None = None,
) -> Report:
    """Look for faults in an implementation of the known-variance Gaussian mixture.

    The model is mu_k ~ N(0, sigma^2 I), c_i uniform, x_i ~ N(mu_{c_i}, I). All checks
    are identities: none has a false alarm but by rounding.

    Args:
        method: f(data, K, sigma, seed) -> {"m": (K, d), "s2": (K,), "phi": (N, K),
            "elbo": trace}, the last two optional; or `path/to/file.py:function`; or
            "cavi", this package's own.
        seed: of the battery's data.
        limit: seconds that one call may take.
        problems: other problems than the battery's.

    Raises:
        InputError: there is no such method.
    """
    function = find(method) if isinstance(method, str) else method
    findings: list[Finding] = []
    cases: list[Case] = []
    for problem in battery(seed) if problems is None else problems:
        kept, changed_nothing = "keeps its promise", "changes nothing"
        try:
            fit, changed = call(function, problem, limit)
        except Broken as error:
            findings.append(Finding(kept, problem, np.nan, 0.0, str(error)))
            continue
        findings.append(Finding(kept, problem, 0.0, 0.0))
        said = "it changed " + "; ".join(changed)
        findings.append(Finding(changed_nothing, problem, len(changed), 0.0, said))
        case = Case(problem, fit)
        cases.append(case)
        findings.extend(examine(case))
    findings.extend(_again(function, cases, limit))
    return Report(tuple(findings), tuple(cases))


def find(where: str) -> Plain:
    """The implementation that a string names."""
    if where == "cavi":
        return own_cavi
    if ":" not in where:
        raise InputError(
            f"method {where!r}: expected cavi, or path/to/file.py:function"
        )
    return catalogue.function(where)


def own_cavi(data: np.ndarray, K: int, sigma: float, seed: int) -> dict[str, Any]:
    """This package's kernel in the plain form."""
    fit = cavi(data, K, sigma, seed=seed)
    return {"m": fit.m, "s2": fit.s2, "phi": fit.phi, "elbo": fit.elbo}


def _again(function: Plain, cases: Sequence[Case], limit: float) -> Iterator[Finding]:
    """The problem in the middle once more: m has to be the same, up to rounding."""
    if not cases:
        return
    case = cases[len(cases) // 2]
    try:
        fit, _ = call(function, case.problem, limit)
    except Broken as error:
        yield Finding("repeatable", case.problem, np.nan, 0.0, f"second call {error}")
        return
    off = float(np.abs(fit.m - case.fit.m).max())
    size = float(np.abs(case.fit.m).max()) + 1.0
    yield Finding(
        "repeatable",
        case.problem,
        off,
        1e6 * case.fit.eps * size,
        f"m differs by {off:.3g} between two calls with seed {case.problem.seed}",
    )


def _quality(case: Case) -> Quality:
    p = case.problem
    best = textbook.best_elbo(p.data, p.K, p.sigma)
    form = []
    if case.equal_variances:
        form.append("one variance for all components")
    if case.hard:
        form.append("assignments without doubt")
    return Quality(
        p,
        max(best - case.bound, 0.0),
        case.evidence - case.bound if p.enumerable else None,
        " and ".join(form),
    )
