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
from vi_bench.models._small import DIRICHLET

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
        shape: shape of the rates' Gamma priors.
        rate: rate of the Gamma priors, one number or one per feature; by default
            `shape` times each feature's mean, so that the prior mean of a rate is one
            over that mean.
    """

    shape: Positive = 1.0
    rate: Positive | tuple[Positive, ...] | None = None

    summary: ClassVar[str] = "positive values, exponential; Gamma prior on the rates"
    calibration: ClassVar[Mapping[str, Any]] = {"shape": 2.0, "rate": 2.0}
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 1, 1),
        SmallProblem("overlapping", 8, 1, 2, 1.0),
        SmallProblem("many features", 8, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.6, DIRICHLET),
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Positive numbers whose log mean is the level."""
        return np.asarray(random.exponential(np.exp(level)).round(3) + 1e-3)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """The rates have the dimensions (K, d)."""
        return {"rate": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse values that are not positive, and a `rate` of the wrong length."""
        table.refuse(table.values <= 0, "positive numbers")
        check_length("exponential", "rate", self.rate, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with a prior around one over the data's means, of `shape` rows."""
        rate = tuple(rounded(v) for v in self.shape * values.mean(axis=0))
        return replace(self, rate=rate if self.rate is None else self.rate)

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log base measure: 0 for every row."""
        return jnp.zeros(x.shape[1:], x.dtype)

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The bound family, with a rate for each feature."""
        bound = super().bind(centre, dtype)
        spread: Any = per_feature(bound.rate, len(centre))
        return replace(bound, rate=spread)

    def natural_prior(self) -> Float[Array, " P"]:
        """Natural parameters of the prior, (rate, shape - 1)."""
        return jnp.append(jnp.asarray(self.rate), self.shape - 1)

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The parameters of q's Gammas: shape a (K,) and rate b (K, d)."""
        return {"a": lam[..., -1] + 1, "b": lam[..., :-1]}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = sum_j [ log Gamma(a) - a log b_j ]."""
        b, a = lam[..., :-1], lam[..., -1:] + 1
        return jnp.sum(gammaln(a) - a * jnp.log(b), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E s(theta) = (-a / b, sum_j [psi(a) - log b_j])."""
        b, a = lam[..., :-1], lam[..., -1:] + 1
        log = jnp.sum(digamma(a) - jnp.log(b), axis=-1, keepdims=True)
        return jnp.concatenate([-a / b, log], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (-rate, sum_j log rate_j)."""
        rate = theta["rate"]
        log = jnp.sum(jnp.log(rate), axis=-1, keepdims=True)
        return jnp.concatenate([-rate, log], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of the rates under q (K, d)."""
        return {"rate": (q[:, -1:] + 1) / q[:, :-1]}

    def hyperparameters(self) -> Standard:
        """The prior's parameters: a (), b (d,)."""
        return {"a": jnp.asarray(self.shape), "b": jnp.asarray(self.rate)}

    def constraints(self) -> dict[str, Any]:
        """Both a and b are positive."""
        from numpyro.distributions import constraints

        return dict.fromkeys(("a", "b"), constraints.positive)

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Gamma(a, b) of the rates."""
        import numpyro.distributions as dist

        gamma = dist.Gamma(standard["a"][..., None], standard["b"])
        return {"rate": gamma.to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x_j ~ Exponential(rate_kj)."""
        import numpyro.distributions as dist

        return dist.Exponential(theta["rate"]).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """The compared parameters: log rates."""
        xp = namespace(theta["rate"])
        return {"log rate": (xp.log(theta["rate"]), self.dims["rate"])}

    def location(self, theta: Parameters) -> Any:
        """E[x | theta], one over the rates (..., K, d)."""
        return 1 / theta["rate"]


MODEL = Exponential
