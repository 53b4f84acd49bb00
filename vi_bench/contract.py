"""What a component family and an inference method have to offer: types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    runtime_checkable,
)

from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    import numpy as np

    from vi_bench.mixture import Mixture
    from vi_bench.table import Table

Key = Array
"""A typed JAX PRNG key, ``jax.random.key(seed)``."""

Parameters = dict[str, Array]
"""Parameters by name; the component axis comes first, or after draws."""


Standard = dict[str, Array]
"""The usual parameters of a factor, such as its mean and variance, by name."""

Factor = Any
"""A NumPyro distribution, or a function from the parameters before it to one."""


@runtime_checkable
class Family(Protocol):
    """One exponential family of rows, and the prior on a component's parameters.

    A component has the density ``h(x) exp(<s(theta), t(x)>)``, where ``t`` ends in a
    constant 1 and ``s`` absorbs the log-normaliser. What CAVI holds of the components,
    ``q``, is any pytree of arrays; `vi_bench.conjugate.Conjugate` is the base of
    families whose q has the prior's form, with natural parameters (K, P). A family is
    a frozen dataclass of its hyperparameters and, once bound to data, a JAX pytree.
    """

    summary: ClassVar[str]
    """One line for lists."""

    centred: ClassVar[bool]
    """Whether the data may be moved, the prior along with them, before inference."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Parameter -> names of its dimensions, "component" first where it has one."""

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Dimension -> coordinates, for every dimension but the component's."""

    def check(self, table: Table) -> None:
        """Raise InputError when hyperparameters or rows are not of the right kind."""

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with every hyperparameter set, defaults from the data's scale."""

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The same family for data from which `centre` (d,) was subtracted."""

    @property
    def statistics(self) -> Callable[[Float[Array, "d n"]], Float[Array, "P n"]]:
        """Sufficient statistics t, the constant 1 last; always the same function."""

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """The log base measure log h(x)."""

    def prior(self, components: int) -> Any:
        """The q that equals the prior."""

    def update(self, q: Any, expected: Float[Array, "K P"]) -> Any:
        """The M-step: the optimal q for expected sufficient statistics.

        Families without a closed form take a coordinate step from `q`.
        """

    def coefficients(self, q: Any) -> Float[Array, "K P"]:
        """E_q s(theta)."""

    def kl(self, q: Any) -> Float[Array, ""]:
        """KL(q || prior), all components together, nats."""

    def residual(self, q: Any, new: Any, total: Float[Array, " P"]) -> Array:
        """How far `new` is from `q`, relative; `total` is ``sum_i |t(x_i)|``."""

    def permute(self, q: Any, order: Array) -> Any:
        """The same q with its components in another order."""

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta)."""

    def log_prior(self, theta: Parameters) -> Float[Array, "*b"]:
        """Log p(theta), all components together."""

    def log_q(self, theta: Parameters, q: Any) -> Float[Array, "*b"]:
        """Log q(theta), all components together."""

    def centre(self, q: Any) -> Parameters:
        """A central theta under q."""

    def describe(self, q: Any) -> Standard:
        """The usual parameters of q, and its natural ones where it has them."""

    def hyperparameters(self) -> Standard:
        """The same of the prior, for one component, from the settings alone."""

    def constraints(self) -> dict[str, Any]:
        """NumPyro constraints of the usual parameters, by name."""

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro distributions of theta for usual parameters, in sampling order."""

    def component(self, theta: Parameters) -> Any:
        """The NumPyro distribution of a row, batched over components."""

    def uncentre(self, theta: Parameters, centre: Any) -> Parameters:
        """Parameters, or `describe`'s, in the coordinates of the data as given."""

    def derived(self, theta: Parameters) -> dict[str, Any]:
        """Further parameters for the reader; their dims are in `dims`."""

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """What posteriors are compared on: name -> (values, dims), with moments."""

    def location(self, theta: Parameters) -> Array | None:
        """E[x | theta] (..., K, d), for figures; None where it means nothing."""


@runtime_checkable
class ExponentialFactors(Protocol):
    """A family whose q is made of exponential-family factors: for linear response."""

    def natural_parameters(self, q: Any) -> Any:
        """The natural parameters of q's factors, a pytree."""

    def from_natural_parameters(self, eta: Any) -> Any:
        """The q of natural parameters."""

    def expected_statistics(self, q: Any) -> Any:
        """E_q of the factors' sufficient statistics, as `natural_parameters`."""

    def natural_update(self, q: Any, expected: Float[Array, "K P"]) -> Any:
        """Natural parameters of each factor's optimum, the others as they are in q."""


@runtime_checkable
class GibbsStep(Protocol):
    """A family whose parameters can be drawn given the assignments: for `gibbs`."""

    def resample(
        self, key: Key, theta: Parameters, expected: Float[Array, "K P"]
    ) -> Parameters:
        """A Gibbs step of the components: theta given the rows' assignments.

        `expected` are the statistics of the assigned rows. The step leaves p(theta |
        X, c) invariant; where that is not of closed form it moves one parameter after
        the other and starts from `theta`.
        """


@runtime_checkable
class Weights(Protocol):
    """The prior on the weights: K - 1 independent sticks v_k ~ Beta, or none.

    ``w_k = v_k prod_{j<k} (1 - v_j)`` with v_K = 1. A factor q of the sticks is their
    Beta parameters (2, S): S = K - 1, or 0 where the weights are fixed. The parameter
    that is sampled is "stick", asinh(logit v) (..., S).
    """

    def prior(self, components: int) -> Float[Array, "2 S"]:
        """The prior's Beta parameters."""

    def update(self, counts: Float[Array, " K"]) -> Float[Array, "2 S"]:
        """The optimal q for expected counts."""

    def expected_log(
        self, q: Float[Array, "2 S"], components: int
    ) -> Float[Array, " K"]:
        """E_q log w."""

    def log_weights(self, theta: Parameters, components: int) -> Float[Array, "*b K"]:
        """Log w."""

    def order(self, counts: Float[Array, " K"]) -> Int[Array, " K"] | None:
        """The order of the components that suits the prior best; None: any does."""


Kind = Literal["variational", "mcmc", "particles", "exact"]
"""Where a method's draws come from: a fitted q, a Markov chain, a population of
weighted particles, or the posterior itself."""

Again = Literal["", "same", "onward"]
"""How further draws are made from a stage on: not at all; by another run on the same
input with another key, independent of the first; or by going on from its own output."""

Status = Literal[
    "converged", "budget spent", "not finite", "suspect", "failed", "skipped", "sampled"
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


class Draws(NamedTuple):
    """What the last stage of every method returns: a pytree of plain arrays.

    Attributes:
        parameters: constrained draws, each (chain, draw, ...), and the sticks.
        sample_stats: per draw (chain, draw), under ArviZ's names.
        log_q: log density of q at each draw (chain, draw); None for MCMC.
        variational: what q itself is, for variational methods.
        report: scalars and traces that the outcome and the figures are made from.
            "bound" and "bound_se", "log_evidence" and "log_evidence_se", in nats, where
            the method gives them; an error of 0 means exact.
        factors: q as the mixture's own `Factors`, of methods that end at a fixed point
            of coordinate ascent; linear response starts from it.
        optima: the same of every restart (restart, ...), of methods that have several,
            as `report["restart_bound"]` has their bounds.
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


@runtime_checkable
class Combines(Protocol):
    """A method whose report changes when further draws are made.

    Of other methods the report of the first batch of draws stands for all.
    """

    def combine(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One report from those of all batches, in order; host arrays."""


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
