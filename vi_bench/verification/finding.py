"""What a check gives for one problem, in either form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

CONVERGED = 1e-3
"""Nats that going on may still gain, or by which a bound may differ from its q's: a
mean off by 0.04 sds of q."""

SWEEPS = 10
"""Further sweeps that are tried; few, for at a saddle rounding grows from sweep to
sweep."""

ROUNDING = 64
"""Units of rounding that a sum may be off by, relative to the size of its terms."""

HARD = 1e-12
"""Responsibilities within this of 0 and 1 are assignments."""


class Tried(Protocol):
    """A problem of either form: what its failures are told by."""

    data: Any

    @property
    def size(self) -> tuple[int, int]:
        """For the order from small to large."""

    def script(self, name: str = "f") -> str:
        """A test of the function `name` on this problem, to the last bit."""


@dataclass(frozen=True)
class Finding:
    """One check on one problem.

    Attributes:
        check: its name.
        problem: what was fitted.
        statistic: what was measured; of a check with randomness, ``|z|``.
        threshold: the most that it may be; of a check with randomness it follows from
            how many of these a verification makes.
        said: the failure in words, numbers in.
        random: whether the statistic is a z.
    """

    check: str
    problem: Any
    statistic: float
    threshold: float
    said: str = ""
    random: bool = False

    @property
    def passed(self) -> bool:
        """NaN is a failure."""
        return bool(self.statistic <= self.threshold)


@dataclass(frozen=True)
class Quality:
    """How good an approximation is, whatever its implementation; nats.

    Attributes:
        problem: what was fitted.
        below_best: the best optimum of mean field found, minus the bound of this q;
            NaN where q is not mean field's.
        below_evidence: log p(X) minus that bound; None where it is not known.
        form: how q's form is coarser than mean field's, in words; empty where not.
    """

    problem: Any
    below_best: float
    below_evidence: float | None
    form: str


def literal(data: Any) -> str:
    """(N, d) data as a line of code, to the last bit."""
    n, d = data.shape
    rows = ", ".join(str([float(v) for v in row]) for row in data)
    return f"data = np.array([{rows}], dtype=float).reshape({n}, {d})\n"


def hardness(phi: Any) -> float:
    """How far responsibilities are from 0 and 1."""
    return float(np.max(np.minimum(phi, 1 - phi), initial=0.0))


Measured = Iterator[tuple[float, float | None, str]]
"""(statistic, threshold, failure in words), none where a check does not apply; without
a threshold the statistic is a |z|."""


class Checks[C]:
    """The checks of one form.

    Attributes:
        proves: check -> what it proves, in the order in which they are listed.
    """

    def __init__(self) -> None:
        self.proves: dict[str, str] = {}
        self._made: dict[str, Callable[[C], Measured]] = {}

    def __call__(
        self, name: str, proves: str
    ) -> Callable[[Callable[[C], Measured]], Callable[[C], Measured]]:
        """Register a check."""

        def register(function: Callable[[C], Measured]) -> Callable[[C], Measured]:
            self.proves[name], self._made[name] = proves, function
            return function

        return register

    def examine(self, problem: Any, case: C) -> Iterator[Finding]:
        """All that apply; a z has no threshold yet, so NaN."""
        for name, function in self._made.items():
            for statistic, threshold, said in function(case):
                most = float("nan") if threshold is None else float(threshold)
                random = threshold is None
                yield Finding(name, problem, float(statistic), most, said, random)
