"""For the tests of other projects: that an implementation has no fault, or which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vi_bench.verification.library import whole_model
from vi_bench.verification.mixtures import MixtureProblem
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.problems import Problem
from vi_bench.verification.report import told
from vi_bench.verification.verifier import verify

__all__ = [
    "MixtureProblem",
    "ModelProblem",
    "Problem",
    "check_cavi",
    "told",
    "whole_model",
]


def check_cavi(
    function: Any,
    *,
    seed: int = 0,
    limit: float = 300.0,
    problems: Sequence[Problem | MixtureProblem | ModelProblem] | None = None,
    families: Sequence[str] | None = None,
    features: int | None = None,
    model: Any = None,
    data: Any = None,
    strict_constants: bool = False,
) -> None:
    """Assert that `vi_bench.verify` finds no fault.

    Args:
        function: f(data, K, sigma, seed) -> {"m", "s2", "phi", "elbo"}, or f(problem)
            -> an object with `sample(key, n)`, or a fit of a NumPyro model, as
            `vi_bench.verify` takes them.
        seed: random seed of the battery's data.
        limit: seconds that one call may take.
        problems: problems to use instead of the battery, such as one that failed.
        families: families to test the full form on; by default all.
        features: only problems with this number of features d.
        model: of a fit of a NumPyro model, the model, or "mine.py:model".
        data: its arguments by name, or a file of them; by default what data() in the
            model's file returns.
        strict_constants: whether a bound that is right up to a constant is wrong.

    Raises:
        AssertionError: a check failed; the message has the table of checks and the
            smallest problem on which each failed.
        InputError: an argument cannot be used.
    """
    report = verify(
        function,
        seed=seed,
        limit=limit,
        problems=problems,
        families=families,
        features=features,
        model=model,
        data=data,
        strict_constants=strict_constants,
    )
    if not report.passed:
        raise AssertionError(told(report))
