"""Test an implementation on a battery of problems, and report its faults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm

from vi_bench import catalogue
from vi_bench.contract import Method
from vi_bench.errors import NotApplicable, VerificationError, unknown
from vi_bench.runtime.environment import forget_programs, kept_programs
from vi_bench.verification import answer, mixture_checks, plain, plain_checks
from vi_bench.verification.finding import Finding, Quality
from vi_bench.verification.mixture_case import MixtureCase
from vi_bench.verification.mixture_checks import MIXTURE_PROVES
from vi_bench.verification.mixtures import MixtureProblem, mixture_battery
from vi_bench.verification.plain_checks import PROVES, Case
from vi_bench.verification.problems import Problem, battery
from vi_bench.verification.sandbox import Broken

KEPT, LEFT, AGAIN = "keeps its promise", "changes nothing", "repeatable"

PROMISES = {
    KEPT: "returns in time, finite, of the right shapes and signs",
    LEFT: "the data and JAX's settings are as they were",
    AGAIN: "the same seed gives the same numbers",
}
"""Check of the call itself -> what it proves."""

FELT = 1e-2
"""Nats below the best known optimum, or log p(X), beyond which that is reported."""

LOSSES = (("below_best", "the best optimum known"), ("below_evidence", "log p(X)"))
"""Attributes of `Quality`, and the values that they are losses from."""

ALARM = 1e-3
"""Largest probability that the z-tests reject a correct implementation."""


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Attributes:
        findings: results of every check on every problem.
        cases: the fits that could be examined.
        left_out: number of problems to which the implementation does not apply.
    """

    findings: tuple[Finding, ...]
    cases: tuple[Case | MixtureCase, ...]
    left_out: int = 0

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(f.passed for f in self.findings)

    @property
    def proves(self) -> dict[str, str]:
        """Check -> what it proves, for the form that was tested."""
        full = isinstance(self.findings[0].problem, MixtureProblem)
        return PROMISES | (MIXTURE_PROVES if full else PROVES)

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
            return f"wrong: {len(self.failures)} of {len(self.checks)} fail: {names}"
        clean = f"no fault found by {len(self.checks)} checks"
        forms = sorted({q.form for q in self.quality if q.form})
        if forms:
            clean += f"; a coarser q: {', '.join(forms)}"
        for name, best in LOSSES:
            known = [q for q in self.quality if (getattr(q, name) or 0.0) > FELT]
            if known:
                worst = max(known, key=lambda q: float(getattr(q, name)))
                nats = getattr(worst, name)
                clean += f"; up to {nats:.3g} nats below {best} ({worst.problem})"
        return clean


@kept_programs()
def verify(
    method: Any,
    *,
    seed: int = 0,
    limit: float = 300.0,
    problems: Sequence[Problem] | Sequence[MixtureProblem] | None = None,
    families: Sequence[str] | None = None,
) -> Report:
    """Look for faults in an implementation of a Bayesian mixture.

    Two forms are taken, told apart by the number of arguments. The plain one, for mu_k
    ~ N(0, sigma^2 I), c_i uniform, x_i ~ N(mu_{c_i}, I): f(data, K, sigma, seed) ->
    {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace}, the last two optional. The
    full one, for any family: f(problem) -> an object with `sample(key, n)` and, where
    it has them, `log_prob(params)`, `bound` and others (docs/verifying.md). Checks of
    the plain form are identities. Of the full form some are z-tests: all of them
    together have a false-alarm rate of at most 1e-3 per call.

    Args:
        method: a function of either form; or `path/to/file.py:function`; or the name of
            a registered method, or settings of one.
        seed: random seed of the battery's data.
        limit: seconds that one call may take.
        problems: problems to use instead of the battery, of the function's form.
        families: families to test the full form on; by default all.

    Raises:
        InputError: an argument cannot be used, or the method applies to no problem.
    """
    if seed < 0:
        raise VerificationError(f"seed = {seed}: expected at least 0")
    if not 0 < limit < math.inf:
        raise VerificationError(f"limit = {limit}: expected seconds over 0")
    function = find(method)
    findings: list[Finding] = []
    cases: list[Any] = []
    left_out = 0
    if is_full(function):
        call: Any = answer.call
        Made: Any = MixtureCase
        check: Any = mixture_checks.check
        tried: Any = mixture_battery(seed, families) if problems is None else problems
    else:
        if families is not None:
            raise VerificationError(
                "families: a function of four arguments has only one"
            )
        call, Made, check = plain.call, Case, plain_checks.check
        tried = battery(seed) if problems is None else problems
    for problem in tried:
        forget_programs()  # those of earlier problems, whoever compiled them
        try:
            given, changed = call(function, problem, limit)
        except Broken as error:
            findings.append(Finding(KEPT, problem, np.nan, 0.0, str(error)))
            continue
        except NotApplicable:
            left_out += 1
            continue
        findings.append(Finding(KEPT, problem, 0.0, 0.0))
        said = "it changed " + "; ".join(changed)
        findings.append(Finding(LEFT, problem, len(changed), 0.0, said))
        case = Made(problem, given)
        cases.append(case)
        findings.extend(check.examine(problem, case))
    if not findings:
        raise VerificationError(
            f"method {method!r}: it applies to none of the problems"
        )
    findings.extend(_again(call, function, cases, limit))
    report = Report(tuple(findings), tuple(cases), left_out)
    most = report.random_threshold
    return replace(
        report,
        findings=tuple(replace(f, threshold=most) if f.random else f for f in findings),
    )


def find(method: Any) -> Callable[..., Any]:
    """The function to test, from a function, a name or a method's settings.

    Raises:
        InputError: it is none of these, or the name is unknown.
    """
    if isinstance(method, str):
        if ":" in method:
            method = catalogue.function(method)
        elif method in catalogue.names("method"):
            method = catalogue.method(method)
        else:
            known = [*catalogue.names("method"), "path/to/file.py:function"]
            raise unknown("method", method, known, error=VerificationError)
    if isinstance(method, type) and isinstance(method, Method):
        method = method()
    if isinstance(method, Method):
        return answer.registered(method)
    if not callable(method):
        raise VerificationError(
            f"method {method!r}: expected a function or a method's name"
        )
    return method  # type: ignore[no-any-return]


def is_full(function: Callable[..., Any]) -> bool:
    """Whether a function takes one problem, and not (data, K, sigma, seed).

    Raises:
        InputError: it takes neither.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in code has none
        return False
    for arguments in (4, 1):
        try:
            signature.bind(*range(arguments))
        except TypeError:
            continue
        return arguments == 1
    raise VerificationError(
        f"method {getattr(function, '__name__', function)!s}{signature}: expected the "
        "arguments (data, K, sigma, seed), or (problem)"
    )


def _again(
    call: Callable[..., Any], function: Any, cases: Sequence[Any], limit: float
) -> Iterator[Finding]:
    """Fit the middle problem again: the numbers must be the same up to rounding."""
    if not cases:
        return
    case = cases[len(cases) // 2]
    first = case.fit if isinstance(case, Case) else case.answer
    seed = case.problem.seed
    try:
        second, _ = call(function, case.problem, limit)
    except (Broken, NotApplicable) as error:
        yield Finding(AGAIN, case.problem, np.nan, 0.0, f"second call {error}")
        return
    name, one = _means(first)
    _, other = _means(second)
    off = float(np.abs(one - other).max(initial=0.0))
    size = float(np.abs(one).max(initial=0.0)) + 1.0
    yield Finding(
        AGAIN,
        case.problem,
        off,
        1e6 * first.eps * size,
        f"{name} differs by {off:.3g} between two calls with seed {seed}",
    )


def _means(given: plain.Fit | answer.Answer) -> tuple[str, np.ndarray]:
    if isinstance(given, plain.Fit):
        return "m", given.m
    name, draws = next(iter(given.draws.items()))
    return f"the mean of {name} over the draws", np.asarray(draws).mean(axis=(0, 1))
