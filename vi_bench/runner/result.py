"""The result of a run, of each method and of the whole: types."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.comparison import Comparison
from vi_bench.comparison.budgets import Curves
from vi_bench.comparison.measures import Estimate
from vi_bench.contract import Draws, Method, Outcome, Stage, told
from vi_bench.errors import InputError
from vi_bench.inference.linear_response import LinearResponse
from vi_bench.runner.evaluate import Evaluation
from vi_bench.runner.subject import Subject
from vi_bench.runner.timing import StageTime, spread
from vi_bench.spec import Spec

NOT_STARTED = Outcome("skipped", "not started")


@dataclass
class Resumption:
    """The state from which a method makes further draws.

    Attributes:
        stages: the stages to run again, each with its compiled program.
        carry: the input of the first of them.
        batches: the batches so far: draws and their evaluation.
        spent: seconds that further draws have taken.
    """

    stages: list[tuple[Stage, Any]] = field(default_factory=list)
    carry: Any = None
    batches: list[tuple[Draws, Evaluation]] = field(default_factory=list)
    spent: float = 0.0


@dataclass
class MethodRun:
    """The result of one method.

    Attributes:
        method: its settings.
        outcome: how it ended.
        setup_s: seconds of work on the host before the first stage.
        stages: stage -> its times.
        further_s: seconds in which it made further draws, for smaller errors.
        draws: the draws as host arrays, uncentred; None unless it finished.
        shown: what its report adds to its part of summary.json.
        posterior: the draws as they are reported: parameters, quantities derived from
            them, and weights where they are drawn; uncentred, (chain, draw, ...).
        evaluation: log densities at each draw.
        response: linear response, of methods that converged to a fixed point of CAVI.
        error: the traceback of a failure.
        resumption: the state to make further draws from; None until it finished.
        short: whether a limit ended its draws before their Monte-Carlo errors were as
            small as was asked for.
    """

    method: Method
    outcome: Outcome = NOT_STARTED
    setup_s: float = 0.0
    stages: dict[str, StageTime] = field(default_factory=dict)
    further_s: float = 0.0
    draws: Draws | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    posterior: dict[str, np.ndarray] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    response: LinearResponse | None = None
    error: str = ""
    resumption: Resumption | None = None
    short: bool = False

    def __repr__(self) -> str:
        return f"<{type(self.method).__name__}: {self.outcome.status}>"

    def copy(self) -> MethodRun:
        """What is known up to now; it does not change when this one does."""
        state = self.resumption
        if state is not None:
            batches, stages = list(state.batches), list(state.stages)
            state = replace(state, batches=batches, stages=stages)
        return replace(self, stages=dict(self.stages), resumption=state)

    @property
    def cut(self) -> bool:
        """Whether a budget of time ended it."""
        return any(timed.cut for timed in self.stages.values())

    @property
    def usable(self) -> bool:
        """Whether there are finite draws to compare."""
        useless = self.outcome.status in ("not finite", "failed")
        return self.draws is not None and not useless

    def shape(self) -> tuple[int, int] | None:
        """Number of chains, or runs, and of draws in each; None without draws."""
        if not self.posterior:
            return None
        chains, draws = next(iter(self.posterior.values())).shape[:2]
        return chains, draws

    @property
    def log_joint(self) -> np.ndarray | None:
        """Log p(X, theta) of `evaluated` draws (chain, n), nats; None if unknown."""
        return None if self.evaluation is None else self.evaluation.log_joint

    @property
    def evaluated(self) -> np.ndarray:
        """Indices of the draws of each chain whose log joints are known (n,)."""
        assert self.evaluation is not None
        return self.evaluation.evaluated

    def reported(self, name: str) -> Estimate | None:
        """A number of the report with its error or NaN, such as "log_evidence"."""
        if self.draws is None or (value := told(self.draws.report, name)) is None:
            return None
        error = told(self.draws.report, f"{name}_se", np.nan)
        return Estimate(float(value), float(error))

    def bound(self) -> tuple[float | None, float | None]:
        """The bound on log p(X) that the method reports, nats, and its error."""
        found = self.reported("bound")
        return (None, None) if found is None else (found.value, found.se)

    def marginal_bound(self) -> tuple[float | None, float | None]:
        """The marginal ELBO E_q[log p(X, theta) - log q(theta)], nats, and its error.

        The assignments are marginalised, so it can be compared between variational
        methods; CAVI's own ELBO lies below its marginal ELBO. It is estimated from the
        draws, or reported by the method itself where these have no log q.
        """
        if self.draws is None or self.log_joint is None:
            return None, None
        if self.draws.log_q is None:
            return (None, None) if self.method.bound_keeps_labels else self.bound()
        log_q = np.asarray(self.draws.log_q)[:, self.evaluated]
        terms = (self.log_joint - log_q).ravel()
        return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(terms.size))

    def steady(self) -> dict[str, float] | None:
        """Seconds of the steady runs, summed over the stages of the inference."""
        timed = [s.steady() for s in self.stages.values() if s.part_of_inference]
        return spread(*timed) if timed and all(timed) else None

    def time(self) -> dict[str, Any]:
        """Seconds by kind, summed over the stages of the inference, and by stage."""
        own = [s for s in self.stages.values() if s.part_of_inference]
        return {
            "setup_s": self.setup_s,
            "trace_s": sum(s.trace_s for s in own),
            "compile_s": sum(s.compile_s for s in own),
            "compile_cached": bool(own) and all(s.compile_cached for s in own),
            "first_s": sum(s.first_s for s in own),
            "run_s": self.steady(),
            "further_s": self.further_s,
            "stages": {name: s.record() for name, s in self.stages.items()},
        }

    def memory_bytes(self) -> int | None:
        """Bytes of the largest program of the method, without its arguments."""
        found = [
            s.temporary_bytes + (s.output_bytes or 0)
            for s in self.stages.values()
            if s.temporary_bytes is not None
        ]
        return max(found) if found else None


@dataclass(frozen=True)
class MeanSd:
    """A mean and a standard deviation."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of components with known labels.

    Attributes:
        column: name of the column of labels.
        rows: number of rows that were used.
        draws: number of draws that were used, of each method.
        adjusted_rand: label of a method -> the index over its draws.
    """

    column: str
    rows: int
    draws: int
    adjusted_rand: dict[str, MeanSd]


@dataclass
class RunResult:
    """A finished run.

    Attributes:
        spec: the specification.
        subject: the model, its prior and its data.
        runs: label -> the method's result.
        comparison: comparison with the reference; None where that has no draws.
        environment: device, versions, precision.
        plugins: origin of a model and methods that do not ship.
        interrupted: whether Ctrl-C ended it; finished methods are kept.
        agreement: agreement of the methods' components with known labels, or None.
        folder: the folder it was written to, or None.
        curves: error against time of every method, or None.
    """

    spec: Spec
    subject: Subject
    runs: dict[str, MethodRun]
    comparison: Comparison | None
    environment: dict[str, Any]
    plugins: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False
    agreement: Agreement | None = None
    folder: Path | None = None
    curves: Curves | None = None

    @property
    def family(self) -> Any:
        """The component family of a mixture, every hyperparameter set."""
        return self._of_mixture("family")

    @property
    def weights(self) -> Any:
        """The prior on a mixture's weights."""
        return self._of_mixture("weights")

    @property
    def table_data(self) -> Any:
        """The rows that a mixture was fitted to, or the data of another model."""
        return self.subject.data

    @property
    def data_centre(self) -> Any:
        """The centre (d,) subtracted from a mixture's rows before inference."""
        return self._of_mixture("centre")

    def _of_mixture(self, name: str) -> Any:
        if not hasattr(self.subject, name):
            raise InputError(f"{name}: the model of this run is not a mixture")
        return getattr(self.subject, name)
