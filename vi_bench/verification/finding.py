"""The result of a check on one problem, for both forms of implementations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

CONVERGED = 1e-3
"""Nats that further sweeps may still gain, or by which a bound may differ from that of
its q; as much as a mean that is off by 0.04 sds of q."""

SWEEPS = 10
"""Number of further sweeps that are tried; few, as rounding grows from sweep to sweep
at a saddle point."""

ROUNDING = 64
"""Machine epsilons by which a sum may be off, relative to the size of its terms."""

CLOSE = 1e-6
"""Nats that are left to what has converged, as no stopping rule reaches an optimum."""

STEPS_LEFT = 100
"""Last rises of a trace that an ascent may still have before it; a slowly damped one
has some tens."""

UP_TO_CONSTANT = "the ELBO is right up to a constant"
"""How a finding and a note begin that say so."""

HARD = 1e-12
"""Responsibilities within this distance of 0 and 1 count as hard assignments."""


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of independent values (S,)."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


class Tried(Protocol):
    """A problem of either form."""

    data: Any

    @property
    def size(self) -> tuple[int, int]:
        """Sort key by which problems go from small to large."""

    def script(self, name: str = "f") -> str:
        """Python code that tests the function `name` on exactly this problem."""


@dataclass(frozen=True)
class Finding:
    """The result of one check on one problem.

    Attributes:
        check: name of the check.
        problem: the problem that was fitted.
        statistic: the measured value; for a check with randomness ``|z|``.
        threshold: its largest allowed value; for a check with randomness it follows
            from the number of such checks in a verification.
        said: the failure in words, with its numbers; of one that passed, what is
            worth knowing all the same.
        random: whether the statistic is a ``|z|``.
        unreadable: whether what was returned is not of the form that is expected.
    """

    check: str
    problem: Any
    statistic: float
    threshold: float
    said: str = ""
    random: bool = False
    unreadable: bool = False

    @property
    def passed(self) -> bool:
        """Whether the statistic is within the threshold; NaN is a failure."""
        return bool(self.statistic <= self.threshold)

    def unsaid(self) -> Finding:
        """A finding that passed, without the words for its failure."""
        return self if self.said == UP_TO_CONSTANT else replace(self, said="")


@dataclass(frozen=True)
class Quality:
    """The accuracy of an approximation, apart from its correctness.

    Attributes:
        problem: the problem that was fitted.
        below_best: the best mean-field ELBO found, minus the ELBO of this q, nats; NaN
            if q is not of mean-field form.
        below_evidence: log p(X) minus that bound, nats; None if not known.
        form: in what way q's form is coarser than mean field, in words; empty if not.
    """

    problem: Any
    below_best: float
    below_evidence: float | None
    form: str


def side_by_side(one: float, other: float) -> tuple[str, str, str]:
    """Two numbers with so many decimals that they differ, and their difference."""
    off = one - other
    small = off and np.isfinite(off)
    places = max(6, 1 - math.floor(math.log10(abs(off)))) if small else 6
    return f"{one:.{places}f}", f"{other:.{places}f}", f"{off:+.3g}"


def last_rise(trace: np.ndarray) -> float:
    """The rise of a trace in its last sweep, nats; infinite if that is not known."""
    return max(float(trace[-1] - trace[-2]), 0.0) if trace.size > 1 else np.inf


def stood_still(trace: np.ndarray, least: float) -> tuple[int, float] | None:
    """The first sweep of a trace before a rise at which it had stood exactly still.

    Coordinate ascent slows down before it stands still, and leaves a saddle point
    slowly, so the trace of one has none; the largest value so far of a trace that falls
    has. A trace with every value equally often, evaluated every so many sweeps, is
    none.

    Args:
        trace: bounds by sweep, nats.
        least: smallest rise after the standstill that counts, nats.

    Returns:
        The index of the last value of the standstill, and the rise after it.
    """
    rises = np.diff(trace)
    ends = np.flatnonzero(np.append(rises != 0, True))
    lengths = np.diff(np.append(-1, ends))
    if len(lengths) > 2 and (lengths[:-1] == lengths[0]).all():
        return None
    for end, length in zip(ends[:-1], lengths[:-1], strict=True):
        if length > 1 and rises[end] > least:
            return int(end), float(rises[end])
    return None


def literal(data: Any) -> str:
    """Data (N, d) as a line of code that gives exactly the same numbers."""
    n, d = data.shape
    rows = ", ".join(str([float(v) for v in row]) for row in data)
    return f"data = np.array([{rows}], dtype=float).reshape({n}, {d})\n"


def hardness(phi: Any) -> float:
    """The largest distance of a responsibility from 0 or 1, whichever is nearer."""
    return float(np.max(np.minimum(phi, 1 - phi), initial=0.0))


Measured = Iterator[tuple[float, float | None, str]]
"""Yields (statistic, threshold, failure in words), nothing if a check does not apply;
without a threshold the statistic is a |z|."""


class Checks[C]:
    """The registered checks of one form.

    Attributes:
        proves: check -> what it proves, in the order of the report.
    """

    def __init__(self) -> None:
        self.proves: dict[str, str] = {}
        self._made: dict[str, Callable[[C], Measured]] = {}

    def __call__(
        self, name: str, proves: str
    ) -> Callable[[Callable[[C], Measured]], Callable[[C], Measured]]:
        """Decorator that registers a check under a name."""

        def register(function: Callable[[C], Measured]) -> Callable[[C], Measured]:
            self.proves[name], self._made[name] = proves, function
            return function

        return register

    def examine(self, problem: Any, case: C) -> Iterator[Finding]:
        """Findings of all checks that apply; the threshold of a |z| is still NaN."""
        for name, function in self._made.items():
            for statistic, threshold, said in function(case):
                most = float("nan") if threshold is None else float(threshold)
                random = threshold is None
                yield Finding(name, problem, float(statistic), most, said, random)


def standing(trace: np.ndarray, least: float) -> Measured:
    """That a trace does not stand exactly still before a rise, see `stood_still`."""
    stood = stood_still(trace, least)
    if stood is not None:
        step, rise = stood
        yield (
            rise,
            least,
            f"the trace stands exactly still until sweep {step + 1} of {trace.size} "
            f"and then rises by {rise:.6g} nats: a largest value so far hides falls, "
            "return the value of each sweep",
        )
