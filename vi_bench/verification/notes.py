"""What a verification could not check, and what it noticed that is no fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from vi_bench.verification.sandbox import Broken, NotFinite, Raised


class Examined(Protocol):
    """A case of either form of a mixture."""

    problem: Any

    @property
    def unmade(self) -> dict[str, str]:
        """What was not returned -> what could therefore not be checked."""

    @property
    def lost(self) -> tuple[float, str] | None:
        """Decimal digits lost to rounding, and of what; None if none."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing of the result."""


NOT_CHECKED = "not checked"
"""How a note begins that says what was not checked."""

FRAGILE = "numerically fragile"
"""How a note begins on digits that were lost."""


def cannot_be_asked(problem: Any, error: Broken) -> bool:
    """Whether a failure only shows that a fit cannot take so few rows.

    A start at K distinct rows raises where there are fewer, and the mean of no rows is
    NaN: neither is a fault of the algorithm.
    """
    few = isinstance(error, Raised) and len(problem.data) < problem.K
    return few or (isinstance(error, NotFinite) and not len(problem.data))


def notes_of(
    cases: Sequence[Examined], left: Sequence[tuple[Any, Exception]]
) -> tuple[str, ...]:
    """Sentences on what was left out, could not be checked, or was noticed.

    Args:
        cases: the fits that were examined.
        left: problems that were left out, and why.
    """
    return (*_left_out(left), *_unmade(cases), *_remarks(cases), *_fragile(cases))


def _left_out(left: Sequence[tuple[Any, Exception]]) -> Iterator[str]:
    reasons = Counter(
        ("it cannot take so few rows" if isinstance(e, Broken) else "", str(e))
        for _, e in left
    )
    for (few, said), number in reasons.most_common():
        why = f"{few}, it {said}" if few else f"the method does not apply: {said}"
        yield f"{_problems(number)} left out: {why}"


def _unmade(cases: Sequence[Examined]) -> Iterator[str]:
    found = Counter(item for case in cases for item in case.unmade.items())
    for (why, what), number in found.items():
        where = "" if number == len(cases) else f" ({number} of {len(cases)} problems)"
        yield f"{NOT_CHECKED} for want of {why}: {what}{where}"


def _remarks(cases: Sequence[Examined]) -> Iterator[str]:
    for remark, number in Counter(r for case in cases for r in case.remarks).items():
        yield f"{remark} ({_problems(number)})"


def _fragile(cases: Sequence[Examined]) -> Iterator[str]:
    lost = [(*case.lost, case.problem) for case in cases if case.lost is not None]
    if lost:
        digits, what, problem = max(lost, key=lambda one: one[0])
        yield (
            f"{FRAGILE}: about {digits:.0f} digits of {what} are lost where terms much "
            f"larger than their sum are added ({problem}); subtract before squaring, "
            "and normalise phi by its sum"
        )


def _problems(number: int) -> str:
    return f"{number} problem{'' if number == 1 else 's'}"
