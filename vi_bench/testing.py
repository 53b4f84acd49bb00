"""For the tests of other projects: fail where an implementation is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from vi_bench.report.verification import told
from vi_bench.verification.plain import Plain
from vi_bench.verification.problems import Problem
from vi_bench.verification.verifier import verify

__all__ = ["Problem", "check_cavi"]


def check_cavi(
    function: Plain,
    *,
    seed: int = 0,
    limit: float = 30.0,
    problems: Sequence[Problem] | None = None,
) -> None:
    """Assert that `vi_bench.verify` finds no fault.

    Args:
        function: f(data, K, sigma, seed) -> {"m", "s2", "phi", "elbo"}.
        seed: of the battery's data.
        limit: seconds that one call may take.
        problems: other problems than the battery's, such as one that failed.

    Raises:
        AssertionError: the table of checks, and every failure's smallest problem.
    """
    report = verify(function, seed=seed, limit=limit, problems=problems)
    if not report.passed:
        raise AssertionError(told(report))
