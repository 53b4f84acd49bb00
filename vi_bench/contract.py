"""The interfaces of inference methods and of component families: types only.

Those of families are defined in ``vi_bench.mixture.types`` and re-exported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int

from vi_bench.errors import NotApplicable
from vi_bench.factors.model import (
    CAVIModel,
    Completes,
    InBatches,
    Latent,
    Local,
    Uncentred,
)
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
    "CAVIModel",
    "Combines",
    "Completes",
    "Counts",
    "Draws",
    "ExponentialFactors",
    "Factor",
    "Family",
    "Foreseen",
    "GibbsStep",
    "InBatches",
    "Key",
    "Kind",
    "Latent",
    "Local",
    "Method",
    "Outcome",
    "Parameters",
    "Posterior",
    "Problem",
    "Report",
    "Role",
    "SmallProblem",
    "Stage",
    "Standard",
    "Starts",
    "Status",
    "Stoppable",
    "Transition",
    "Uncentred",
    "Verifiable",
    "Weights",
    "as_it_is",
    "remembered",
    "told",
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
        fall: largest fall of the bound in an iteration, over ``max(1, |bound|)``, of
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

        An entry that `results.summary_schema.Method` has no place for is left out.
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
        parameters: constrained draws, each (chain, draw, ...); weights that are drawn
            are there as sticks.
        sample_stats: per draw (chain, draw), under ArviZ's names.
        log_q: log density of q at each draw (chain, draw); None for MCMC.
        variational: the variational parameters of q; empty where there are none.
        report: what the method tells of its fit: its own `Report`, or a dict.
        factors: q as the mixture's own `Factors`, of methods that end at a fixed point
            of coordinate ascent; linear response starts from it.
        optima: q of every restart as `Factors` (restart, ...), in the order of
            `Report.restart_bound`; None for methods without restarts.
    """

    parameters: Parameters
    sample_stats: dict[str, Array]
    log_q: Array | None
    variational: dict[str, Array]
    report: Any
    factors: Any = None
    optima: Any = None


@runtime_checkable
class Posterior(Protocol):
    """What inference sees of a model with its data: a pytree, the data inside.

    Parameters are dicts from names to arrays. `theta` is constrained, in the supports
    of the model; `free` is unconstrained, on the real line.
    """

    @property
    def dtype(self) -> Any:
        """The type of all arrays."""

    @property
    def mesh(self) -> Any:
        """The devices that share the data, or None."""

    @property
    def proper(self) -> bool:
        """Whether the prior can be drawn from."""

    def constrain(self, free: Parameters) -> tuple[Parameters, Array]:
        """Constrained parameters, and the log Jacobian."""

    def unconstrain(self, theta: Parameters) -> Parameters:
        """The inverse of `constrain`'s first result."""

    def density(self, free: Parameters) -> Float[Array, ""]:
        """Log p(x, theta) of unconstrained parameters, the log Jacobian included."""

    def log_prior(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(theta)."""

    def log_likelihood(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(x | theta)."""

    def log_joint(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(x, theta)."""

    def draw_prior(self, key: Key, number: int) -> Parameters:
        """Draws from the prior: name -> (number, ...)."""


@runtime_checkable
class Starts(Protocol):
    """A posterior that says where chains start."""

    def starts(self, key: Key, chains: int) -> Parameters:
        """Dispersed starting points of chains: name -> (chains, ...)."""


@dataclass(frozen=True)
class Stage:
    """A named step of a method, the unit that is compiled and timed.

    ``run(key, posterior, carry) -> carry`` is pure, on pytrees of arrays; the posterior
    of a mixture is a `Mixture`. A stage with
    ``calls > 1`` is one compiled program that the runner calls again and again, carry
    in and carry out, until `done` says so: that is how progress is shown, and how an
    interrupt is obeyed, without a callback inside the program. `part_of_inference` is
    False for draws from a fitted q, as many as are asked for, and for what is evaluated
    for the report alone: their time is not the method's.
    `keep` maps a carry to the named arrays that a checkpoint stores. `again` says how
    another batch of as many draws is made from this stage on, by the same compiled
    programs; at most one stage of a method sets it. A stage that is not `compiled` is
    called as the Python function that it is. Stages of independent lanes, such as
    chains, are made by `inference.lanes.stage_of_lanes`: `lane` is the function of one,
    `spread` and `gather` are what comes before and after, `idle` says that one is over.
    `cut` makes, of the carry of a stage that a budget of time ended before its last
    call, what the next stage takes; None where that would be of no use.
    """

    name: str
    run: Callable[[Key, Any, Any], Any]
    calls: int = 1
    done: Callable[[Any], bool] | None = None
    part_of_inference: bool = True
    keep: Callable[[Any], Mapping[str, Array]] | None = None
    again: Again = ""
    compiled: bool = True
    lane: Callable[[Key, Any, Any], Any] | None = None
    lanes: int = 1
    spread: Callable[[Any, Any], Any] | None = None
    gather: Callable[[Key, Any, Any, Any], Any] | None = None
    idle: Callable[[Any], bool] | None = None
    cut: Callable[[Any], Any] | None = None


def as_it_is(carry: Any) -> Any:
    """`Stage.cut` of a fit: every carry of it is a fit."""
    return carry


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
    """What a method is given: the posterior, how many chains, and draws of each."""

    posterior: Posterior
    chains: int
    draws: int

    @property
    def mixture(self) -> Mixture:
        """The posterior, which a method needs to be that of a mixture.

        Raises:
            NotApplicable: it is that of another model.
        """
        if not isinstance(self.posterior, Mixture):
            raise NotApplicable("is written for mixtures; the model is another")
        return self.posterior


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
class Stoppable(Protocol):
    """A method that can be looked at in smaller steps than those that it runs in."""

    def finely(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """Stages as of `prepare`, each call of the fit a step or a few.

        Raises:
            NotApplicable: as of `prepare`.
        """


@runtime_checkable
class Counts(Protocol):
    """A method that counts how often it went over the data."""

    def passes(self, draws: Draws) -> float:
        """Evaluations of the model, or of its gradient, on all rows, by these draws."""


@runtime_checkable
class Combines(Protocol):
    """A method whose report changes when further draws are made.

    For other methods the report of the first batch of draws is kept.
    """

    def combine(self, reports: Sequence[Any]) -> Any:
        """Combine the reports of all batches, in order, into one of their type."""


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
