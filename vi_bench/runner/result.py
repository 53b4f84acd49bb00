"""What a run gives: types."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.comparison import Comparison
from vi_bench.comparison.measures import Estimate
from vi_bench.contract import Draws, Method, Outcome, Stage, told
from vi_bench.data.table import Table
from vi_bench.inference.linear_response import LinearResponse
from vi_bench.runner.evaluate import Evaluation
from vi_bench.runner.timing import StageTime, spread
from vi_bench.spec import Spec

NOT_STARTED = Outcome("skipped", "not started")


@dataclass
class Resumption:
    """How a method makes further draws.

    Attributes:
        stages: from the one on that is run again, with their programs.
        carry: what the first of them is given.
        batches: what was drawn so far: draws and what the mixture tells of them.
        spent: seconds that further draws have taken.
    """

    stages: list[tuple[Stage, Any]] = field(default_factory=list)
    carry: Any = None
    batches: list[tuple[Draws, Evaluation]] = field(default_factory=list)
    spent: float = 0.0


@dataclass
class MethodRun:
    """What one method gave.

    Attributes:
        method: its settings.
        outcome: how it ended.
        setup_s: host work before the first stage.
        stages: stage -> its times.
        draws: as host arrays, uncentred; None unless it finished.
        shown: what its report adds to its part of summary.json.
        posterior: for the reader: parameters and what is derived from them, uncentred,
            and weights where they are drawn; (chain, draw, ...).
        evaluation: what the mixture tells of each draw, log p(X, theta) first.
        response: linear response, of methods that end at a fixed point of CAVI.
        error: the traceback of a failure.
        resumption: how it makes further draws; None until it finished.
        short: whether its budget ended its draws before their errors were small.
    """

    method: Method
    outcome: Outcome = NOT_STARTED
    setup_s: float = 0.0
    stages: dict[str, StageTime] = field(default_factory=dict)
    draws: Draws | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    posterior: dict[str, np.ndarray] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    response: LinearResponse | None = None
    error: str = ""
    resumption: Resumption | None = None
    short: bool = False

    @property
    def usable(self) -> bool:
        """Whether there are finite draws to compare."""
        useless = self.outcome.status in ("not finite", "failed")
        return self.draws is not None and not useless

    def shape(self) -> tuple[int, int] | None:
        """Chains, or runs, and draws of each; None where there are no draws."""
        if not self.posterior:
            return None
        chains, draws = next(iter(self.posterior.values())).shape[:2]
        return chains, draws

    @property
    def log_joint(self) -> np.ndarray | None:
        """Log p(X, theta) of each draw (chain, draw)."""
        return None if self.evaluation is None else self.evaluation.log_joint

    def reported(self, name: str) -> Estimate | None:
        """A number of the report, such as "log_evidence", with its error or NaN."""
        if self.draws is None or (value := told(self.draws.report, name)) is None:
            return None
        error = told(self.draws.report, f"{name}_se", np.nan)
        return Estimate(float(value), float(error))

    def bound(self) -> tuple[float | None, float | None]:
        """The bound as the method reports it, and its error."""
        found = self.reported("bound")
        return (None, None) if found is None else (found.value, found.se)

    def marginal_bound(self) -> tuple[float | None, float | None]:
        """E_q [log p(X, theta) - log q(theta)] from the draws, and its error.

        The assignments are summed out, for every variational method alike, so these
        can be compared; CAVI's own bound lies below its marginal ELBO.
        Of draws that are no longer q's, such as resampled ones, it is the method's own.
        """
        if self.draws is None or self.log_joint is None:
            return None, None
        if self.draws.log_q is None:
            return (None, None) if self.method.bound_keeps_labels else self.bound()
        terms = (self.log_joint - np.asarray(self.draws.log_q)).ravel()
        return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(terms.size))

    def steady(self) -> dict[str, float] | None:
        """Seconds of the steady runs, stages of the inference itself added up."""
        timed = [s.steady() for s in self.stages.values() if s.part_of_inference]
        return spread(*timed) if timed and all(timed) else None

    def time(self) -> dict[str, Any]:
        """Seconds by kind: the inference's stages added up, and each stage apart."""
        own = [s for s in self.stages.values() if s.part_of_inference]
        return {
            "setup_s": self.setup_s,
            "trace_s": sum(s.trace_s for s in own),
            "compile_s": sum(s.compile_s for s in own),
            "compile_cached": bool(own) and all(s.compile_cached for s in own),
            "first_s": sum(s.first_s for s in own),
            "run_s": self.steady(),
            "stages": {name: s.record() for name, s in self.stages.items()},
        }

    def memory_bytes(self) -> int | None:
        """The most that one program of the method needs beyond its arguments."""
        found = [
            s.temporary_bytes + (s.output_bytes or 0)
            for s in self.stages.values()
            if s.temporary_bytes is not None
        ]
        return max(found) if found else None


@dataclass
class RunResult:
    """A finished run.

    Attributes:
        spec: what was asked for.
        family: the component family, every hyperparameter set.
        weights: the prior on the weights.
        table_data: the rows.
        data_centre: what was subtracted from them before inference (d,).
        runs: label -> what the method gave.
        comparison: against the reference; None where it has no draws.
        environment: device, versions, precision.
        plugins: where a model or method that does not ship came from.
        interrupted: whether Ctrl-C ended it; finished methods are kept.
        folder: where it was written, or None.
    """

    spec: Spec
    family: Any
    weights: Any
    table_data: Table
    data_centre: np.ndarray
    runs: dict[str, MethodRun]
    comparison: Comparison | None
    environment: dict[str, Any]
    plugins: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False
    folder: Path | None = None
