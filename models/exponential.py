"""Exponential components: positive values, a Gamma prior on each rate.

rate_kj ~ Gamma(shape, rate_j),   x_ij | c_i = k ~ Exponential(rate_kj)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Parameters, SmallProblem, Standard
from vi_bench.mixture.conjugate import (
    Conjugate,
    check_length,
    namespace,
    per_feature,
    rounded,
)

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Positive = Annotated[float, Gt(0)]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exponential(Conjugate):
    """Independent positive values; see the module for the densities.

    The statistics are (x, 1); the natural parameters of q(rate_k) = prod_j Gamma(a_k,
    b_kj) are (b, a - 1).

    Attributes:
        shape: of the rates' Gammas.
        rate: of the rates' Gammas, one number or one per feature; by default `shape`
            times each feature's mean, which makes one over that mean the prior's mean.
    """

    shape: Positive = 1.0
    rate: Positive | tuple[Positive, ...] | None = None

    summary: ClassVar[str] = "positive values, exponential; Gamma prior on the rates"
    calibration: ClassVar[Mapping[str, Any]] = {"shape": 2.0, "rate": 2.0}
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 1, 1),
        SmallProblem("overlapping", 8, 1, 2, 1.0),
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Positive numbers whose log mean is the level."""
        return np.asarray(random.exponential(np.exp(level)).round(3) + 1e-3)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Rate (K, d)."""
        return {"rate": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse what is not positive, and a `rate` that does not fit the features."""
        table.refuse(table.values <= 0, "positive numbers")
        check_length("exponential", "rate", self.rate, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """A prior around one over the data's means, worth `shape` rows."""
        rate = tuple(rounded(v) for v in self.shape * values.mean(axis=0))
        return replace(self, rate=rate if self.rate is None else self.rate)

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """(x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """0."""
        return jnp.zeros(x.shape[1:], x.dtype)

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """With a rate per feature."""
        bound = super().bind(centre, dtype)
        spread: Any = per_feature(bound.rate, len(centre))
        return replace(bound, rate=spread)

    def natural_prior(self) -> Float[Array, " P"]:
        """(rate, shape - 1)."""
        return jnp.append(jnp.asarray(self.rate), self.shape - 1)

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """Gamma(a, b): a (K,), b (K, d)."""
        return {"a": lam[..., -1] + 1, "b": lam[..., :-1]}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """sum_j [ log Gamma(a) - a log b_j ]."""
        b, a = lam[..., :-1], lam[..., -1:] + 1
        return jnp.sum(gammaln(a) - a * jnp.log(b), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """(-a / b, sum_j [psi(a) - log b_j])."""
        b, a = lam[..., :-1], lam[..., -1:] + 1
        log = jnp.sum(digamma(a) - jnp.log(b), axis=-1, keepdims=True)
        return jnp.concatenate([-a / b, log], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """(-rate, sum_j log rate_j)."""
        rate = theta["rate"]
        log = jnp.sum(jnp.log(rate), axis=-1, keepdims=True)
        return jnp.concatenate([-rate, log], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of q."""
        return {"rate": (q[:, -1:] + 1) / q[:, :-1]}

    def hyperparameters(self) -> Standard:
        """The prior's."""
        return {"a": jnp.asarray(self.shape), "b": jnp.asarray(self.rate)}

    def constraints(self) -> dict[str, Any]:
        """Both are positive."""
        from numpyro.distributions import constraints

        return dict.fromkeys(("a", "b"), constraints.positive)

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """Rate ~ Gamma(a, b)."""
        import numpyro.distributions as dist

        gamma = dist.Gamma(standard["a"][..., None], standard["b"])
        return {"rate": gamma.to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """A row x_j ~ Exponential(rate_kj)."""
        import numpyro.distributions as dist

        return dist.Exponential(theta["rate"]).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Log rates."""
        xp = namespace(theta["rate"])
        return {"log rate": (xp.log(theta["rate"]), self.dims["rate"])}

    def location(self, theta: Parameters) -> Any:
        """One over the rates."""
        return 1 / theta["rate"]


MODEL = Exponential
