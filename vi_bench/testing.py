"""An assertion for the tests of other projects: an implementation has no fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vi_bench.verification.mixtures import MixtureProblem
from vi_bench.verification.problems import Problem
from vi_bench.verification.report import told
from vi_bench.verification.verifier import verify

__all__ = ["MixtureProblem", "Problem", "check_cavi"]


def check_cavi(
    function: Any,
    *,
    seed: int = 0,
    limit: float = 300.0,
    problems: Sequence[Problem] | Sequence[MixtureProblem] | None = None,
    families: Sequence[str] | None = None,
) -> None:
    """Assert that `vi_bench.verify` finds no fault.

    Args:
        function: f(data, K, sigma, seed) -> {"m", "s2", "phi", "elbo"}, or f(problem)
            -> an object with `sample(key, n)`, as `vi_bench.verify` takes them.
        seed: random seed of the battery's data.
        limit: seconds that one call may take.
        problems: problems to use instead of the battery, such as one that failed.
        families: families to test the full form on; by default all.

    Raises:
        AssertionError: a check failed; the message has the table of checks and the
            smallest problem on which each failed.
        InputError: an argument cannot be used.
    """
    report = verify(
        function, seed=seed, limit=limit, problems=problems, families=families
    )
    if not report.passed:
        raise AssertionError(told(report))
