"""Interfaces of component families and of priors on the weights: types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NamedTuple,
    Protocol,
    runtime_checkable,
)

from jaxtyping import Array, Float, Int

from vi_bench.runtime.keys import Key

if TYPE_CHECKING:
    import numpy as np

    from vi_bench.data.table import Table

Parameters = dict[str, Any]
"""Name -> array of a parameter: axes of draws if any, the component axis, then others.
Arrays are NumPy's after a run, JAX's before."""


Standard = dict[str, Array]
"""The usual parameters of a factor, such as its mean and variance, by name."""

Factor = Any
"""A NumPyro distribution, or a function from the parameters before it to one."""


@runtime_checkable
class Family(Protocol):
    """One exponential family of rows, and the prior on a component's parameters.

    A component has the density ``h(x) exp(<s(theta), t(x)>)``, where ``t`` ends in a
    constant 1 and ``s`` absorbs the log-normaliser. What CAVI holds of the components,
    ``q``, is any pytree of arrays; `vi_bench.mixture.conjugate.Conjugate` is the base
    of families whose q has the prior's form, with natural parameters (K, P). A family
    is a frozen dataclass of its hyperparameters and, once bound to data, a JAX pytree.
    """

    summary: ClassVar[str]
    """One line that describes the family in listings."""

    centred: ClassVar[bool]
    """Whether data and prior may be shifted together before inference."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Parameter -> names of its dimensions, "component" first where it has one."""

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Dimension -> coordinates, for every dimension but the component's."""

    def check(self, table: Table) -> None:
        """Raise InputError when hyperparameters or rows are not of the right kind."""

    def complete[F](self: F, values: np.ndarray, components: int) -> F:
        """The family with every hyperparameter set, defaults from the data's scale."""

    def bind[F](self: F, centre: np.ndarray, dtype: Any) -> F:
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
        """E-step coefficients E_q s(theta)."""

    def kl(self, q: Any) -> Float[Array, ""]:
        """KL(q || prior), all components together, nats."""

    def residual(self, q: Any, new: Any, total: Float[Array, " P"]) -> Array:
        """Largest relative change from `q` to `new`; `total` is ``sum_i |t(x_i)|``."""

    def permute(self, q: Any, order: Array) -> Any:
        """The same q with its components in another order."""

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta), the coefficients of the sufficient statistics t(x)."""

    def log_prior(self, theta: Parameters) -> Float[Array, "*b"]:
        """Log p(theta), all components together."""

    def log_q(self, theta: Parameters, q: Any) -> Float[Array, "*b"]:
        """Log q(theta), all components together."""

    def centre(self, q: Any) -> Parameters:
        """A central theta under q."""

    def describe(self, q: Any) -> Standard:
        """The usual parameters of q, and its natural ones where it has them."""

    def hyperparameters(self) -> Standard:
        """The usual parameters of one component's prior, from the settings alone."""

    def constraints(self) -> dict[str, Any]:
        """NumPyro constraints of the usual parameters, by name."""

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro distributions of theta for usual parameters, in sampling order."""

    def component(self, theta: Parameters) -> Any:
        """The NumPyro distribution of a row, batched over components."""

    def uncentre(self, theta: Parameters, centre: Any) -> Parameters:
        """Parameters, or `describe`'s, in the coordinates of the data as given."""

    def derived(self, theta: Parameters) -> dict[str, Any]:
        """Derived parameters for tables and figures; their dims are in `dims`."""

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """The compared parameters, which have moments: name -> (values, dims)."""

    def location(self, theta: Parameters) -> Array | None:
        """E[x | theta] (..., K, d), for figures; None where it means nothing."""


UNIFORM_WEIGHTS: Mapping[str, Any] = {"name": "uniform"}
"""Weights of 1/K, as a spec names them."""


class SmallProblem(NamedTuple):
    """A small data set that `verify` tries implementations of a family on.

    Attributes:
        about: what is special about it.
        rows: N.
        features: d.
        components: K.
        apart: how far the levels of the components are apart: their standard deviation
            or, if it is over 3, the step between neighbours.
        weights: the prior on the weights, as in a spec.
    """

    about: str
    rows: int
    features: int
    components: int
    apart: float = 0.0
    weights: Mapping[str, Any] = UNIFORM_WEIGHTS


@runtime_checkable
class Verifiable(Protocol):
    """A family whose implementations `verify` can try: it brings small problems."""

    verification: ClassVar[tuple[SmallProblem, ...]]

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Rows (N, d) of the family's kind, with few digits, one around each level.

        Levels (N, d) are real numbers; equal ones belong to one component.
        """


@runtime_checkable
class ExponentialFactors(Protocol):
    """A family whose q has exponential-family factors, as linear response needs."""

    def natural_parameters(self, q: Any) -> Any:
        """The natural parameters of q's factors, a pytree."""

    def from_natural_parameters(self, eta: Any) -> Any:
        """The q with given natural parameters."""

    def expected_statistics(self, q: Any) -> Any:
        """E_q of the factors' sufficient statistics, shaped as `natural_parameters`."""

    def natural_update(self, q: Any, expected: Float[Array, "K P"]) -> Any:
        """Natural parameters of each factor's optimum given the other factors in q."""


@runtime_checkable
class GibbsStep(Protocol):
    """A family whose parameters can be drawn given the assignments, as Gibbs needs."""

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
        """Expected log weights E_q log w."""

    def log_weights(self, theta: Parameters, components: int) -> Float[Array, "*b K"]:
        """Log weights log w."""

    def order(self, counts: Float[Array, " K"]) -> Int[Array, " K"] | None:
        """The ELBO-maximising order of the components; None where all are equal."""
