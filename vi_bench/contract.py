"""What an inference method has to offer, and a component family: types only.

Those of families are defined beside the mixture, and are here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int

from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import (
    ExponentialFactors,
    Factor,
    Family,
    GibbsStep,
    Parameters,
    Standard,
    Weights,
)
from vi_bench.runtime.keys import Key

__all__ = [
    "Again",
    "Combines",
    "Draws",
    "ExponentialFactors",
    "Factor",
    "Family",
    "Foreseen",
    "GibbsStep",
    "Key",
    "Kind",
    "Method",
    "Outcome",
    "Parameters",
    "Problem",
    "Report",
    "Role",
    "Stage",
    "Standard",
    "Status",
    "Transition",
    "Weights",
    "remembered",
    "told",
]

Kind = Literal["variational", "mcmc", "particles", "exact"]
"""Where a method's draws come from: a fitted q, a Markov chain, a population of
weighted particles, or the posterior itself."""

Again = Literal["", "same", "onward"]
"""How further draws are made from a stage on: not at all; by another run on the same
input with another key, independent of the first; or by going on from its own output."""

Status = Literal[
    "converged",
    "iteration limit",
    "not finite",
    "suspect",
    "failed",
    "skipped",
    "sampled",
]


@dataclass(frozen=True)
class Outcome:
    """How a method ended, with a sentence that says what to do about it."""

    status: Status
    sentence: str = ""

    @property
    def converged(self) -> bool:
        """Whether an optimiser ended by its own criterion."""
        return self.status == "converged"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Report:
    """What a method tells of itself beside its draws: a pytree of arrays.

    Here is what the code for all methods reads, None where a method does not tell it.
    A method derives a class of its own, with what its outcome is made from, and
    declares anew, without None, what it always tells. A dict with these names as keys
    does as well: see `told`.

    Attributes:
        bound: lower bound on log p(X), nats.
        bound_se: its Monte-Carlo error, nats; 0 means exact.
        log_evidence: estimate of log p(X), nats.
        log_evidence_se: its error, nats; 1.96 of it either side hold 95 %, 0 means
            exact.
        log_evidence_df: degrees of freedom of that error.
        iterations: of an optimiser; of several restarts those of the best.
        accepted_extrapolations: that raised the bound, likewise.
        counts: expected rows by component, likewise (K,).
        trace: the bound by iteration, nats, likewise; NaN beyond the last one. The
            seconds until each are shares of the stage "fit".
        total_iterations: of all restarts together, which share that stage.
        fall: largest fall of the bound in an iteration, over max(1, |bound|), of
            methods whose bound may only rise.
        status: how such a method ended, in the numbers of `inference.squarem`.
        restart_bound: bounds of all restarts, nats, in the order of `Draws.optima`.
    """

    bound: Float[Array, ""] | None = None
    bound_se: Float[Array, ""] | None = None
    log_evidence: Float[Array, ""] | None = None
    log_evidence_se: Float[Array, ""] | None = None
    log_evidence_df: Array | None = None
    iterations: Int[Array, ""] | None = None
    accepted_extrapolations: Int[Array, ""] | None = None
    counts: Float[Array, " K"] | None = None
    trace: Float[Array, " most"] | None = None
    total_iterations: Int[Array, ""] | None = None
    fall: Float[Array, ""] | None = None
    status: Int[Array, ""] | None = None
    restart_bound: Float[Array, " restart"] | None = None

    def summary(self) -> dict[str, Any]:
        """Further entries of the method's part of summary.json, from host arrays.

        An entry that `results.record.Method` has no place for is left out.
        """
        return {}


def told(report: Any, name: str, default: Any = None) -> Any:
    """What a report tells under a name, be it a `Report` or a dict; else the default.

    A field or a value that is None is not told.
    """
    if isinstance(report, Mapping):
        value = report.get(name)
    else:
        value = getattr(report, name, None)
    return default if value is None else value


class Draws(NamedTuple):
    """What the last stage of every method returns: a pytree of plain arrays.

    Attributes:
        parameters: constrained draws, each (chain, draw, ...), and the sticks.
        sample_stats: per draw (chain, draw), under ArviZ's names.
        log_q: log density of q at each draw (chain, draw); None for MCMC.
        variational: what q itself is, for variational methods.
        report: what the method tells of itself: its own `Report`, or a dict.
        factors: q as the mixture's own `Factors`, of methods that end at a fixed point
            of coordinate ascent; linear response starts from it.
        optima: the same of every restart (restart, ...), of methods that have several,
            as `Report.restart_bound` has their bounds.
    """

    parameters: Parameters
    sample_stats: dict[str, Array]
    log_q: Array | None
    variational: dict[str, Array]
    report: Any
    factors: Any = None
    optima: Any = None


@dataclass(frozen=True)
class Stage:
    """A named step of a method, the unit that is compiled and timed.

    ``run(key, mixture, carry) -> carry`` is pure, on pytrees of arrays. A stage with
    ``calls > 1`` is one compiled program that the runner calls again and again, carry
    in and carry out, until `done` says so: that is how progress is shown, and how an
    interrupt is obeyed, without a callback inside the program. `part_of_inference` is
    False for evaluations made only for the report: their time is not the method's.
    `keep` tells what of a carry a checkpoint holds: names and arrays. `again` says how
    as many further draws are made from this stage on, by the same compiled programs; it
    is set at one stage of a method.
    """

    name: str
    run: Callable[[Key, Mixture, Any], Any]
    calls: int = 1
    done: Callable[[Any], bool] | None = None
    part_of_inference: bool = True
    keep: Callable[[Any], Mapping[str, Array]] | None = None
    again: Again = ""


remembered = lru_cache(maxsize=32)
"""For functions that make stages from settings and shapes alone.

JAX compiles a function once in a process: from one data set or seed to the next equal
settings get the same stages, and with them programs that are ready.
"""


@runtime_checkable
class Transition(Protocol):
    """A method whose Markov kernel can be called by itself: for Geweke's test."""

    def transition(self, key: Key, mixture: Mixture, theta: Parameters) -> Parameters:
        """One step from `theta` that leaves p(theta | X) invariant; can be traced."""


@dataclass(frozen=True)
class Problem:
    """What a method is given on the host: the mixture, and how many draws to make."""

    mixture: Mixture
    chains: int
    draws: int


Role = Literal["exact", "sampler", "check", "between modes"]
"""What `reference = "auto"` takes a method for: the posterior itself; draws to compare
with; a second opinion on these; draws where chains do not move between modes. A method
that can be taken has `roles: ClassVar[Mapping[Role, int]]`, its rank in each, 1 the
best."""


@runtime_checkable
class Foreseen(Protocol):
    """A method that tells beforehand about how long its first draws take."""

    def seconds(self, problem: Problem) -> float:
        """About how many seconds, on one core and compiled.

        Raises:
            NotApplicable: the method cannot work on this problem.
        """


@runtime_checkable
class Combines(Protocol):
    """A method whose report changes when further draws are made.

    Of other methods the report of the first batch of draws stands for all.
    """

    def combine(self, reports: Sequence[Any]) -> Any:
        """One report of the type of those of all batches, given in order; on host."""


@runtime_checkable
class Method(Protocol):
    """An inference method: a frozen dataclass of plain settings."""

    kind: ClassVar[Kind]
    summary: ClassVar[str]
    bound_keeps_labels: bool
    """Whether the reported bound has the assignments in q (CAVI's) or summed out."""

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """Host work, then the stages; the last one returns Draws.

        Raises:
            NotApplicable: the method cannot work on this problem; the reason.
        """

    def outcome(self, draws: Draws) -> Outcome:
        """How it ended, read from the report."""
