"""A posterior as the runner sees it: how draws of it are evaluated and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.modes import Mode
from vi_bench.contract import Draws, Posterior
from vi_bench.inference.linear_response import LinearResponse
from vi_bench.runner.evaluate import Evaluation
from vi_bench.runner.result import Agreement, MethodRun
from vi_bench.runner.subject import Subject
from vi_bench.runtime.keys import Key


class Target(Protocol):
    """The posterior of a run, bound to its data, and what is done with draws of it."""

    @property
    def subject(self) -> Subject:
        """What is said of it, which outlives the run."""

    @property
    def posterior(self) -> Posterior:
        """What inference sees."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the verdicts must know; empty if nothing."""

    def evaluate(self, draws: Draws, method: Any) -> Evaluation:
        """Log densities at draws, and what the model makes of them."""

    def uncentred(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays on the host, in the coordinates of the user's data."""

    def response(self, draws: Draws) -> LinearResponse | None:
        """Linear response at the factors of a fit."""

    def coverage(
        self, runs: Mapping[str, MethodRun], weighing: frozenset[str], key: Key
    ) -> Coverage:
        """Known optima, and those that a sampler should have visited and has not."""

    def mode_bounds(self, run: MethodRun, modes: Sequence[Mode]) -> dict[int, float]:
        """Index of a mode -> about its log mass; empty if that is not known."""

    def agreement(self, runs: dict[str, MethodRun]) -> Agreement | None:
        """Agreement of components with known labels, if there are any."""
