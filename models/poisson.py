"""Poisson components: counts, a Gamma prior on each rate.

rate_kj ~ Gamma(shape_j, rate),   x_ij | c_i = k ~ Poisson(rate_kj)
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
class Poisson(Conjugate):
    """Independent counts; see the module for the densities.

    The statistics are (x, 1); the natural parameters of q(rate_k) = prod_j Gamma(a_kj,
    b_k) are (a - 1, b).

    Attributes:
        shape: shape of the rates' Gamma priors, one number or one per feature; by
            default `rate` times each feature's mean, which then is the prior mean.
        rate: rate of the Gamma priors, the number of rows that the prior counts for; by
            default one over the data's mean.
    """

    shape: Positive | tuple[Positive, ...] | None = None
    rate: Positive | None = None

    summary: ClassVar[str] = "counts, Poisson; Gamma prior on the rates"
    calibration: ClassVar[Mapping[str, Any]] = {"shape": 2.0, "rate": 0.5}
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("no rows, weights drawn", 0, 1, 2, 0.0, DIRICHLET),
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping", 8, 1, 2, 0.7),
        SmallProblem("few rows, weights drawn", 8, 1, 2, 0.7, DIRICHLET),
        SmallProblem("separated", 20, 2, 2, 4.0),
        SmallProblem("overlapping, weights drawn", 30, 2, 3, 0.7, DIRICHLET),
        SmallProblem("many features", 8, 8, 2, 0.5),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.5),
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Counts whose log mean is log 3 plus the level."""
        return np.asarray(random.poisson(3.0 * np.exp(level)), float)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """The rates have the dimensions (K, d)."""
        return {"rate": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse values that are no counts, and a `shape` of the wrong length."""
        table.refuse(
            (table.values < 0) | (table.values % 1 != 0), "counts 0, 1, 2, ..."
        )
        check_length("poisson", "shape", self.shape, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with a prior around the data's means, of about one count."""
        means = np.maximum(values.mean(axis=0), 1 / len(values))
        rate = rounded(1 / means.mean()) if self.rate is None else self.rate
        shape = tuple(rounded(v) for v in rate * means)
        return replace(
            self, rate=rate, shape=shape if self.shape is None else self.shape
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log h = -sum_j log x_j!."""
        return -jnp.sum(gammaln(x + 1), axis=0)

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """The bound family, with a shape for each feature."""
        bound = super().bind(centre, dtype)
        spread: Any = per_feature(bound.shape, len(centre))
        return replace(bound, shape=spread)

    def natural_prior(self) -> Float[Array, " P"]:
        """Natural parameters of the prior, (shape - 1, rate)."""
        return jnp.append(jnp.asarray(self.shape) - 1, jnp.asarray(self.rate))

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The parameters of q's Gammas: shape a (K, d) and rate b (K,)."""
        return {"a": lam[..., :-1] + 1, "b": lam[..., -1]}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = sum_j [ log Gamma(a_j) - a_j log b ]."""
        a, b = lam[..., :-1] + 1, lam[..., -1:]
        return jnp.sum(gammaln(a) - a * jnp.log(b), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E s(theta) = (psi(a) - log b, -sum_j a_j / b)."""
        a, b = lam[..., :-1] + 1, lam[..., -1:]
        total = jnp.sum(a, axis=-1, keepdims=True) / b
        return jnp.concatenate([digamma(a) - jnp.log(b), -total], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (log rate, -sum_j rate_j)."""
        rate = theta["rate"]
        total = jnp.sum(rate, axis=-1, keepdims=True)
        return jnp.concatenate([jnp.log(rate), -total], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of the rates under q (K, d)."""
        return {"rate": (q[:, :-1] + 1) / q[:, -1:]}

    def hyperparameters(self) -> Standard:
        """The prior's parameters: a (d,), b ()."""
        return {"a": jnp.asarray(self.shape), "b": jnp.asarray(self.rate)}

    def constraints(self) -> dict[str, Any]:
        """Both a and b are positive."""
        from numpyro.distributions import constraints

        return dict.fromkeys(("a", "b"), constraints.positive)

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Gamma(a, b) of the rates."""
        import numpyro.distributions as dist

        gamma = dist.Gamma(standard["a"], standard["b"][..., None])
        return {"rate": gamma.to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x_j ~ Poisson(rate_kj)."""
        import numpyro.distributions as dist

        return dist.Poisson(theta["rate"]).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """The compared parameters: log rates."""
        xp = namespace(theta["rate"])
        return {"log rate": (xp.log(theta["rate"]), self.dims["rate"])}

    def location(self, theta: Parameters) -> Any:
        """E[x | theta], the rates (..., K, d)."""
        return theta["rate"]


MODEL = Poisson
