"""Base classes of component families, and all that conjugacy determines.

A prior, and every variational factor of a component, is ``exp(<s(theta), lam> -
A(lam))``. A family declares s(theta), the statistics t(x) of a row, A, its gradient,
and the translation of ``lam`` into the usual parameters; the M-step, KL, densities and
draws follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float

from vi_bench.errors import SpecError
from vi_bench.mixture.broadcast import aligned
from vi_bench.mixture.types import Factor, Parameters, Standard
from vi_bench.runtime.keys import Key

if TYPE_CHECKING:
    from vi_bench.data.table import Table

# ArviZ leaves a lazy proxy for numpyro in sys.modules; if its first use were `import
# numpyro.distributions`, that package would be executed, and its classes made, twice
LOADED_NUMPYRO = numpyro.__version__


def inner(a: Float[Array, "*#b P"], b: Float[Array, "*#b P"]) -> Float[Array, "..."]:
    """The inner product <a, b> over the last axis, leading axes broadcast."""
    a, b = aligned(a, b)
    return jnp.sum(a * b, axis=-1)


def per_feature(value: Any, features: int) -> Float[Array, " d"]:
    """A hyperparameter of one number, or of one per feature, as an array (d,)."""
    return jnp.broadcast_to(jnp.asarray(value), (features,))


def check_length(model: str, name: str, value: Any, features: int) -> None:
    """Refuse a per-feature hyperparameter of the wrong length.

    Raises:
        SpecError: it has neither one number nor one per feature.
    """
    size = len(value) if isinstance(value, tuple) else 1
    if size not in (1, features):
        raise SpecError(
            f"model {model}: {name} has {size} numbers, the data have {features} "
            "features; give one number or one per feature"
        )


def resolve(factor: Factor, theta: Parameters) -> Any:
    """The NumPyro distribution of a factor, given `theta` where it depends on it."""
    return (
        factor(theta) if callable(factor) and not _is_distribution(factor) else factor
    )


def _is_distribution(factor: Any) -> bool:
    return hasattr(factor, "log_prob")


def draw(
    key: Key, factors: Mapping[str, Factor], shape: tuple[int, ...] = ()
) -> Parameters:
    """Draws of theta (*shape, *dims), each factor given the parameters before it."""
    theta: Parameters = {}
    for name, factor in factors.items():
        key, use = jax.random.split(key)
        distribution = resolve(factor, theta)
        known = distribution is not factor
        theta[name] = distribution.sample(use, () if known else shape)
    return theta


def namespace(array: Any) -> Any:
    """NumPy for NumPy's arrays, jax.numpy for JAX's and inside transformations."""
    return array.__array_namespace__()


def rounded(value: float) -> float:
    """A number to six significant digits, so that a printed default is the one used."""
    return float(f"{value:.6g}")


def rounded_centre(values: np.ndarray) -> tuple[float, ...]:
    """The mean of each feature, to a millionth of its standard deviation."""
    found = []
    for column in values.T:
        spread = float(column.std()) or 1.0
        digits = 6 - int(np.floor(np.log10(spread)))
        found.append(round(float(column.mean()), digits) + 0.0)
    return tuple(found)


class Family(ABC):
    """Base class of families, with defaults that suit most of them."""

    summary: ClassVar[str] = ""
    centred: ClassVar[bool] = False
    located: ClassVar[tuple[str, ...]] = ()
    """Names of hyperparameters and parameters that shift with the data."""

    @property
    @abstractmethod
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Parameter -> names of its dimensions, "component" first."""

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Coordinates of the dimension "feature": the names of the features."""
        return {"feature": list(features)}

    def check(self, table: Table) -> None:  # noqa: B027 - a default, not a gap
        """Accept every table."""

    def complete[F: Family](self: F, values: np.ndarray, components: int) -> F:
        """The family itself: it has no defaults from the data's scale."""
        return self

    def bind[F: Family](self: F, centre: np.ndarray, dtype: Any) -> F:
        """The same family for data from which `centre` (d,) was subtracted.

        Raises:
            ValueError: a hyperparameter is not set.
        """
        arrays = {}
        for f in fields(self):  # type: ignore[arg-type]
            if f.metadata.get("static"):
                continue
            given = getattr(self, f.name)
            if given is None:
                raise ValueError(
                    f"{f.name} is not set, and there are no data to take it from"
                )
            value = np.asarray(given, float)
            if f.name in self.located:
                value = np.broadcast_to(value, centre.shape) - centre
            arrays[f.name] = jnp.asarray(value, dtype)
        return replace(self, **arrays)  # type: ignore[type-var]

    def permute(self, q: Any, order: Array) -> Any:
        """The same q with its components in another order."""
        return jax.tree.map(lambda leaf: leaf[order], q)

    def uncentre(self, theta: Parameters, centre: Any) -> Parameters:
        """Located parameters with the centre added again."""
        moved = {}
        for name in self.located:
            if name in theta:
                value, shift = aligned(theta[name], centre)
                moved[name] = value + shift
        return theta | moved

    def derived(self, theta: Parameters) -> dict[str, Any]:
        """Derived parameters for tables and figures: by default there are none."""
        return {}

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """The compared parameters: by default all, unchanged."""
        return {n: (v, self.dims[n]) for n, v in theta.items() if n in self.dims}

    def location(self, theta: Parameters) -> Array | None:
        """E[x | theta] for figures: None by default."""
        return None


class Conjugate(Family):
    """A family whose factors q have the prior's form: q is `lam`, (K, P)."""

    @abstractmethod
    def natural_prior(self) -> Float[Array, " P"]:
        """Natural parameters lam_0 of the prior of one component."""

    @abstractmethod
    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """The log-normaliser A(lam)."""

    @abstractmethod
    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E_q s(theta), which is the gradient of A."""

    @abstractmethod
    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The usual parameters of exp(<s, lam> - A(lam))."""

    @abstractmethod
    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta), the coefficients of the sufficient statistics t(x)."""

    @abstractmethod
    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro distributions of theta for usual parameters, in sampling order."""

    def prior(self, components: int) -> Float[Array, "K P"]:
        """lam_0 for every component."""
        prior = self.natural_prior()
        return jnp.broadcast_to(prior, (components, *prior.shape))

    def update(
        self, q: Float[Array, "K P"], expected: Float[Array, "K P"]
    ) -> Float[Array, "K P"]:
        """The M-step: lam_k = lam_0 + sum_i phi_ik t(x_i)."""
        return self.natural_prior()[None] + expected

    def resample(
        self, key: Key, theta: Parameters, expected: Float[Array, "K P"]
    ) -> Parameters:
        """A draw from p(theta | X, c), the prior's own form; independent of `theta`."""
        q = self.update(self.prior(expected.shape[0]), expected)
        return draw(key, self.factors(self.describe(q)))

    def coefficients(self, q: Float[Array, "K P"]) -> Float[Array, "K P"]:
        """E-step coefficients E_q s(theta)."""
        return self.moments(q)

    def natural_parameters(self, q: Float[Array, "K P"]) -> Float[Array, "K P"]:
        """The natural parameters of q, which are q itself."""
        return q

    def from_natural_parameters(self, eta: Float[Array, "K P"]) -> Float[Array, "K P"]:
        """The q with natural parameters eta, which is eta itself."""
        return eta

    def expected_statistics(self, q: Float[Array, "K P"]) -> Float[Array, "K P"]:
        """Expected statistics E_q s(theta) of q's factors."""
        return self.moments(q)

    def natural_update(
        self, q: Float[Array, "K P"], expected: Float[Array, "K P"]
    ) -> Float[Array, "K P"]:
        """The M-step; the single factor of a component depends on no other factor."""
        return self.update(q, expected)

    def kl(self, q: Float[Array, "K P"]) -> Float[Array, ""]:
        """KL(q || prior): <lam - lam_0, grad A(lam)> - A(lam) + A(lam_0), summed."""
        prior = self.natural_prior()
        gap = inner(q - prior[None], self.moments(q))
        return jnp.sum(gap - self.log_normaliser(q) + self.log_normaliser(prior))

    def residual(
        self,
        q: Float[Array, "K P"],
        new: Float[Array, "K P"],
        total: Float[Array, " P"],
    ) -> Float[Array, ""]:
        """Largest ``|new - q| / (|lam_0| + sum_i |t(x_i)|)`` over coordinates.

        Relative to the parameter itself a test for convergence would never end where
        a parameter decays to zero.
        """
        scale = jnp.abs(self.natural_prior()) + total
        tiny = jnp.finfo(scale.dtype).tiny
        return jnp.max(jnp.abs(new - q) / jnp.maximum(scale, tiny)[None])

    def log_density(
        self, theta: Parameters, lam: Float[Array, "*b P"]
    ) -> Float[Array, "..."]:
        """Log of ``exp(<s(theta), lam> - A(lam))`` for each component, normalised."""
        tilt, normaliser = aligned(
            inner(self.natural(theta), lam), self.log_normaliser(lam)
        )
        log: Array = tilt - normaliser
        return log

    def log_prior(self, theta: Parameters) -> Float[Array, "*b"]:
        """Log p(theta), all components together."""
        return jnp.sum(self.log_density(theta, self.natural_prior()), axis=-1)

    def log_q(self, theta: Parameters, q: Float[Array, "K P"]) -> Float[Array, "*b"]:
        """Log q(theta), all components together."""
        return jnp.sum(self.log_density(theta, q), axis=-1)

    def describe(self, q: Float[Array, "K P"]) -> Standard:
        """The usual parameters of q, and its natural parameters `lam`."""
        return self.standard(q) | {"lam": q}
