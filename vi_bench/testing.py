"""For the tests of other projects: fail where an implementation is wrong."""

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
        seed: of the battery's data.
        limit: seconds that one call may take.
        problems: other problems than the battery's, such as one that failed.
        families: of the full form, those to try it on; by default all.

    Raises:
        AssertionError: the table of checks, and every failure's smallest problem.
    """
    report = verify(
        function, seed=seed, limit=limit, problems=problems, families=families
    )
    if not report.passed:
        raise AssertionError(told(report))
