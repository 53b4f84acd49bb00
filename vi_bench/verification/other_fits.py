"""Other q on the data of a fit, which tell a constant from another fault.

A constant that the bound lacks is the same whatever q is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from vi_bench.errors import NotApplicable
from vi_bench.verification.constants import Offset, offset_of
from vi_bench.verification.model_answer import call, limit_of
from vi_bench.verification.model_case import ModelCase
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.sandbox import Broken

EARLY = 2
"""Iterations after which a fit that can be limited is looked at, too."""


@dataclass(frozen=True)
class OtherFits:
    """Other q on the data of cases, and how far the bound is off for them.

    Each is made and evaluated once, however often it is asked for.

    Attributes:
        function: the fit.
        limit: seconds that one call may take.
        known: the problems of a case and of the other q -> how far the bound is off.
    """

    function: Callable[..., Any]
    limit: float
    known: dict[tuple[int, int], list[Offset]] = field(default_factory=dict)

    def of(self, cases: Sequence[ModelCase], case: ModelCase) -> list[Offset]:
        """How far the bound is off for other q on the data of a case."""
        found = list(self._once(case, case, partial(self._other_fits, case)))
        for other in cases:
            if other.problem is not case.problem:
                found += self._once(case, other, partial(_exchanged, case, other))
        return found

    def _once(
        self, case: ModelCase, other: ModelCase, make: Callable[[], list[ModelCase]]
    ) -> list[Offset]:
        key = id(case.problem), id(other.problem)  # they live as long as the cases
        if key not in self.known:
            made = make()
            self.known[key] = [o for one in made if (o := offset_of(one))]
            for one in made:
                one.drop_scores()
        return self.known[key]

    def _other_fits(self, case: ModelCase) -> list[ModelCase]:
        """Other q on the same data: another seed, and few iterations."""
        tried: list[tuple[ModelProblem, dict[str, Any]]] = [
            (replace(case.problem, seed=case.problem.seed + 1), {})
        ]
        if (name := limit_of(self.function)) is not None:
            tried += [(case.problem, {name: 1}), (case.problem, {name: EARLY})]
        found = []
        for problem, further in tried:
            try:
                given, _ = call(self.function, problem, self.limit, **further)
            except (Broken, NotApplicable):
                continue
            other = ModelCase(problem, given)
            mean, error = case.bound
            own, own_error = other.bound
            if abs(own - mean) > 0.01 + 5 * float(np.hypot(error, own_error)):
                found.append(other)
        return found


def _exchanged(case: ModelCase, other: ModelCase) -> list[ModelCase]:
    """The q of other data of the same shapes, its bound on these data as given."""
    alike, bound = case.problem.alike, case.answer.bound
    if alike is None or bound is None or other.problem.alike != alike:
        return []
    try:
        elbo = np.atleast_1d(np.asarray(bound(other.answer.q), float))
    except Exception:  # a user's code may raise anything
        return []
    moved = replace(case.answer, factors=other.answer.factors, elbo=elbo)
    return [ModelCase(case.problem, moved)]
