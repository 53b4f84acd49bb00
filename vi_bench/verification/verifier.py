"""Test an implementation on a battery of problems, and report its faults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.contract import Method
from vi_bench.errors import NotApplicable, VerificationError, unknown
from vi_bench.runtime.environment import forget_programs, session
from vi_bench.verification import answer, mixture_checks, plain, plain_checks
from vi_bench.verification.finding import Finding
from vi_bench.verification.library import fit_by, library_of
from vi_bench.verification.mixture_case import MixtureCase
from vi_bench.verification.mixtures import mixture_battery
from vi_bench.verification.model_battery import Left, battery_of
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_verifier import verify_model
from vi_bench.verification.notes import cannot_be_asked, notes_of
from vi_bench.verification.outcome import AGAIN, KEPT, LEFT, Report
from vi_bench.verification.pasted import imported
from vi_bench.verification.plain_checks import Case
from vi_bench.verification.problems import battery
from vi_bench.verification.sandbox import Broken


@session()
def verify(
    method: Any,
    *,
    seed: int = 0,
    limit: float = 300.0,
    problems: Sequence[Any] | None = None,
    families: Sequence[str] | None = None,
    features: int | None = None,
    model: Any = None,
    data: Any = None,
    strict_constants: bool = False,
    first: bool = False,
) -> Report:
    """Look for faults in an implementation of inference.

    Of a Bayesian mixture two forms are taken, told apart by the number of arguments.
    The plain one, for mu_k ~ N(0, sigma^2 I), c_i uniform, x_i ~ N(mu_{c_i}, I):
    f(data, K, sigma, seed) -> {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace},
    the last two optional. The full one, for any family: f(problem) -> an object with
    `sample(key, n)` and, where it has them, `log_prob(params)`, `bound` and others. Of
    any other model, `model`, it is a fit that takes the model's arguments by name ->
    {"q": {site: distribution}, "elbo": trace}. See docs/verifying.md. Checks of the
    plain form are identities, of the others some are z-tests: all of them together
    have a false-alarm rate of at most 1e-3 per call.

    Args:
        method: a function of either form; or `path/to/file.py:function`; or the name of
            a registered method, or settings of one.
        seed: random seed of the battery's data.
        limit: seconds that one call may take.
        problems: problems to use instead of the battery, of the function's form.
        families: families to test the full form on; by default all.
        features: only problems with this number of features d, for an implementation
            that is for one dimension, say.
        model: of a fit of a NumPyro model, the model, or "mine.py:model".
        data: its arguments by name, or a file of them; by default what data() in the
            model's file returns.
        strict_constants: whether a bound that is right up to a constant is wrong.
        first: of a fit of a model, whether to stop at the first problem that shows a
            fault for sure.

    Raises:
        InputError: an argument cannot be used, or the method applies to no problem.
    """
    if seed < 0:
        raise VerificationError(f"seed = {seed}: expected at least 0")
    if not 0 < limit < math.inf:
        raise VerificationError(f"limit = {limit}: expected seconds over 0")
    if model is None and data is not None:
        raise VerificationError(
            "data: given without a model; expected model=, or no data"
        )
    if model is not None or _of_model(problems):
        if families is not None or features is not None:
            given = "families" if families is not None else "features"
            raise VerificationError(
                f"{given}: choose problems of mixtures; a fit of a model has its own"
            )
        left_out: list[Left] = []
        if problems is None:
            problems, left_out = battery_of(model, data, seed)
        function = _fit(method, problems[0])
        return verify_model(
            function,
            problems,
            left_out,
            (
                imported(method, "f", "fit"),
                *_imported_model(model, problems[0]),
            ),
            limit=limit,
            strict_constants=strict_constants,
            first=first,
        )
    function = find(method)
    findings: list[Finding] = []
    cases: list[Any] = []
    left: list[tuple[Any, Exception]] = []
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
    tried = _of_dimension(tried, features)
    for problem in tried:
        forget_programs()  # those of earlier problems, whoever compiled them
        try:
            given, changed = call(function, problem, limit)
        except (Broken, NotApplicable) as error:
            if isinstance(error, NotApplicable) or cannot_be_asked(problem, error):
                left.append((problem, error))
            else:
                findings.append(Finding(KEPT, problem, np.nan, 0.0, str(error)))
            continue
        faults = given.faults
        findings.append(Finding(KEPT, problem, len(faults), 0.0, "; ".join(faults)))
        said = "it changed " + "; ".join(changed)
        findings.append(Finding(LEFT, problem, len(changed), 0.0, said))
        case = Made(problem, given)
        cases.append(case)
        findings.extend(check.examine(problem, case))
    if not findings:
        raise VerificationError(
            f"method {method!r}: it applies to none of the problems"
            + (f": {left[0][1]}" if left else "")
        )
    findings.extend(_again(call, function, cases, limit))
    notes = notes_of(cases, left)
    report = Report(
        tuple(findings),
        tuple(cases),
        check.proves,
        len(left),
        notes,
        source=(imported(method, "f", "implementation"),),
    )
    return report.judged()


def _of_dimension(problems: Sequence[Any], features: int | None) -> Sequence[Any]:
    """The problems with this number of features; all if it is None.

    Raises:
        InputError: there are none.
    """
    if features is None:
        return problems
    found = [p for p in problems if p.data.shape[1] == features]
    if not found:
        known = sorted({p.data.shape[1] for p in problems})
        raise VerificationError(
            f"features = {features}: no problem has so many, expected one of {known}"
        )
    return found


def _of_model(problems: Any) -> bool:
    """Whether problems are of a NumPyro model."""
    return bool(problems) and isinstance(problems[0], ModelProblem)


def _imported_model(model: Any, problem: ModelProblem) -> tuple[str, ...]:
    """Lines of Python that make `model` that of the problem."""
    own = library_of(problem.model)
    if own is None:
        return (imported(model or problem.model, "model", "model"),)
    return (
        imported(type(own), type(own).__name__, "model's class"),
        "from vi_bench.testing import whole_model",
        f"model = whole_model({own!r})",
    )


def _fit(method: Any, problem: ModelProblem) -> Callable[..., Any]:
    """A fit of a model, from a function or its name, or a registered method.

    Raises:
        InputError: it is none of these.
    """
    own = library_of(problem.model)
    if isinstance(method, str) and method in catalogue.names("method"):
        method = catalogue.method(method)()
    if own is not None and isinstance(method, Method):
        return fit_by(method, own)
    function = catalogue.function(method) if isinstance(method, str) else method
    if not callable(function):
        raise VerificationError(
            f"method {method!r}: expected a fit of the model, a function or "
            "path/to/file.py:function"
        )
    return function


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
