"""The interfaces of inference methods and of component families: types only.

Those of families are defined in `vi_bench.mixture.types` and re-exported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array

from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import (
    ExponentialFactors,
    Factor,
    Family,
    GibbsStep,
    Parameters,
    SmallProblem,
    Standard,
    Verifiable,
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
    "Role",
    "SmallProblem",
    "Stage",
    "Standard",
    "Status",
    "Transition",
    "Verifiable",
    "Weights",
    "remembered",
]

Kind = Literal["variational", "mcmc", "particles", "exact"]
"""Where a method's draws come from: a fitted q, a Markov chain, a population of
weighted particles, or the posterior itself."""

Again = Literal["", "same", "onward"]
"""How further draws are made from a stage on: "" not at all; "same" by another run on
the same input with another key, independent of the first; "onward" by continuing from
the stage's own output."""

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
    """How a method ended, and a sentence that explains it and what to do about it."""

    status: Status
    sentence: str = ""

    @property
    def converged(self) -> bool:
        """Whether an optimiser met its own convergence criterion."""
        return self.status == "converged"


class Draws(NamedTuple):
    """What the last stage of every method returns: a pytree of plain arrays.

    Attributes:
        parameters: constrained draws, each (chain, draw, ...); weights that are drawn
            are there as sticks.
        sample_stats: per draw (chain, draw), under ArviZ's names.
        log_q: log density of q at each draw (chain, draw); None for MCMC.
        variational: the variational parameters of q; empty where there are none.
        report: scalars and traces that the outcome and the figures are made from.
            "bound" and "bound_se", "log_evidence" and "log_evidence_se", in nats, where
            the method gives them; a standard error of 0 means exact.
        factors: q as the mixture's own `Factors`, of methods that end at a fixed point
            of coordinate ascent; linear response starts from it.
        optima: q of every restart as `Factors` (restart, ...), in the order of
            `report["restart_bound"]`; None for methods without restarts.
    """

    parameters: Parameters
    sample_stats: dict[str, Array]
    log_q: Array | None
    variational: dict[str, Array]
    report: dict[str, Array]
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
    `keep` maps a carry to the named arrays that a checkpoint stores. `again` says how
    another batch of as many draws is made from this stage on, by the same compiled
    programs; at most one stage of a method sets it.
    """

    name: str
    run: Callable[[Key, Mixture, Any], Any]
    calls: int = 1
    done: Callable[[Any], bool] | None = None
    part_of_inference: bool = True
    keep: Callable[[Any], Mapping[str, Array]] | None = None
    again: Again = ""


remembered = lru_cache(maxsize=32)
"""A cache for functions that make stages from settings and shapes alone.

JAX compiles a function object once per process: with equal settings, another data set
or seed gets the same stages, and so programs that are already compiled.
"""


@runtime_checkable
class Transition(Protocol):
    """A method whose Markov kernel can be called by itself, as Geweke's test needs."""

    def transition(self, key: Key, mixture: Mixture, theta: Parameters) -> Parameters:
        """One step from `theta` that leaves p(theta | X) invariant; traceable."""


@dataclass(frozen=True)
class Problem:
    """What a method is given: the mixture, how many chains, and draws of each."""

    mixture: Mixture
    chains: int
    draws: int


Role = Literal["exact", "sampler", "check", "between modes"]
"""What `reference = "auto"` may use a method for: the exact posterior; a sampler to
compare with; another sampler to check that one; a sampler that moves between modes
where those do not. A method that may be used has `roles: ClassVar[Mapping[Role, int]]`,
its rank in each role, 1 the best."""


@runtime_checkable
class Foreseen(Protocol):
    """A method that predicts the run time of its first batch of draws."""

    def seconds(self, problem: Problem) -> float:
        """Predicted seconds on one core, without compilation.

        Raises:
            NotApplicable: the method cannot work on this problem.
        """


@runtime_checkable
class Combines(Protocol):
    """A method whose report changes when further draws are made.

    For other methods the report of the first batch of draws is kept.
    """

    def combine(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Combine the reports of all batches, in order, into one; host arrays."""


@runtime_checkable
class Method(Protocol):
    """An inference method: a frozen dataclass of plain settings."""

    kind: ClassVar[Kind]
    summary: ClassVar[str]
    bound_keeps_labels: bool
    """Whether the reported bound has the assignments in q, as CAVI's ELBO has; if not,
    they are marginalised."""

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """Do the work on the host and return the stages; the last one returns Draws.

        Raises:
            NotApplicable: the method cannot work on this problem; says why.
        """

    def outcome(self, draws: Draws) -> Outcome:
        """How the method ended, judged by its draws and their report."""
