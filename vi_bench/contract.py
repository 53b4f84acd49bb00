"""What a component family and an inference method have to offer: types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

from jaxtyping import Array, Float

if TYPE_CHECKING:
    import numpy as np

    from vi_bench.mixture import Mixture

Key = Array
"""A typed JAX PRNG key, ``jax.random.key(seed)``."""

Parameters = dict[str, Array]
"""Component parameters by name; the component axis comes first, or after draws."""


@runtime_checkable
class Family(Protocol):
    """One exponential family under its conjugate prior, in natural form.

    A component has the density ``h(x) exp(<s(theta), t(x)>)``, where ``t`` ends in a
    constant 1 and ``s`` absorbs the log-normaliser. The prior, and every variational
    factor q(theta_k), is ``exp(<s(theta), lam> - A(lam))`` with natural parameters
    ``lam`` of shape (..., P). A family is a frozen dataclass of its hyperparameters
    and, once bound to data, a JAX pytree.
    """

    dims: ClassVar[Mapping[str, tuple[str, ...]]]
    """Parameter name -> names of its dimensions after the component's."""

    def check(self, features: int) -> None:
        """Raise InputError when a hyperparameter makes no sense for d features."""

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The same family for data from which `centre` (d,) was subtracted."""

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics t(x), the constant 1 last; no hyperparameters."""

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """The log base measure log h(x)."""

    def prior(self) -> Float[Array, " P"]:
        """The prior's natural parameters, lam_0."""

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A(lam)."""

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E_q s(theta), which is the gradient of A."""

    def natural(self, theta: Parameters) -> Float[Array, "*b P"]:
        """s(theta)."""

    def draw(self, key: Key, lam: Float[Array, "K P"], shape: tuple[int, ...]) -> Any:
        """Draws of theta from q, each parameter of shape (*shape, K, ...)."""

    def describe(self, lam: Float[Array, "K P"]) -> dict[str, Array]:
        """The usual parameters of q in this family."""

    def uncentre(self, theta: Parameters, centre: Any) -> Parameters:
        """Parameters, or `describe`'s, in the coordinates of the data as given."""

    def centre_start(self, points: Float[Array, "K d"]) -> Parameters:
        """Component parameters that place one component on each point."""

    def numpyro_prior(self) -> dict[str, Any]:
        """NumPyro distributions of one component's parameters, by name."""

    def numpyro_start(self, theta: Parameters, scale: float) -> dict[str, Any]:
        """Parameters of a q around `theta`: name -> (value, NumPyro constraint)."""

    def numpyro_posterior(self, params: dict[str, Array]) -> dict[str, Any]:
        """NumPyro distributions of q(theta), by name, batched over components."""

    def numpyro_component(self, theta: Parameters) -> Any:
        """The NumPyro distribution of a row, batched over components."""


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
        parameters: constrained draws, each (chain, draw, component, ...).
        sample_stats: per draw (chain, draw), under ArviZ's names.
        log_q: log density of q at each draw (chain, draw); None for MCMC.
        variational: what q itself is, for variational methods.
        report: scalars and traces that the outcome and the figures are made from.
    """

    parameters: Parameters
    sample_stats: dict[str, Array]
    log_q: Array | None
    variational: dict[str, Array]
    report: dict[str, Array]


@dataclass(frozen=True)
class Stage:
    """A named step of a method, the unit that is compiled and timed.

    ``run(key, mixture, carry) -> carry`` is pure, on pytrees of arrays. A stage with
    ``calls > 1`` is one compiled program that the runner calls again and again, carry
    in and carry out, until `done` says so: that is how progress is shown, and how an
    interrupt is obeyed, without a callback inside the program. `part_of_inference` is
    False for evaluations made only for the report: their time is not the method's.
    """

    name: str
    run: Callable[[Key, Mixture, Any], Any]
    calls: int = 1
    done: Callable[[Any], bool] | None = None
    part_of_inference: bool = True


@dataclass(frozen=True)
class Problem:
    """What a method is given on the host: the mixture, and how many draws to make."""

    mixture: Mixture
    chains: int
    draws: int


@runtime_checkable
class Method(Protocol):
    """An inference method: a frozen dataclass of plain settings."""

    kind: ClassVar[Literal["variational", "mcmc"]]
    summary: ClassVar[str]
    bound_keeps_labels: bool
    """Whether the reported bound has the assignments in q (CAVI's) or summed out."""

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """Host work, then the stages; the last one returns Draws."""

    def outcome(self, draws: Draws) -> Outcome:
        """How it ended, read from the report."""
