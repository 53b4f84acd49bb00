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
        shape: of the rates' Gammas, one number or one per feature; by default `rate`
            times each feature's mean, which makes that mean the prior's.
        rate: of the rates' Gammas, the prior's worth in rows; by default one over the
            data's mean.
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
    )

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Counts whose log mean is log 3 plus the level."""
        return np.asarray(random.poisson(3.0 * np.exp(level)), float)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Rate (K, d)."""
        return {"rate": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse what is no count, and a `shape` that does not fit the features."""
        table.refuse(
            (table.values < 0) | (table.values % 1 != 0), "counts 0, 1, 2, ..."
        )
        check_length("poisson", "shape", self.shape, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """A prior around the data's means, worth about one count."""
        means = np.maximum(values.mean(axis=0), 1 / len(values))
        rate = rounded(1 / means.mean()) if self.rate is None else self.rate
        shape = tuple(rounded(v) for v in rate * means)
        return replace(
            self, rate=rate, shape=shape if self.shape is None else self.shape
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """(x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """-sum_j log x_j!."""
        return -jnp.sum(gammaln(x + 1), axis=0)

    def bind(self, centre: np.ndarray, dtype: Any) -> Self:
        """With a shape per feature."""
        bound = super().bind(centre, dtype)
        spread: Any = per_feature(bound.shape, len(centre))
        return replace(bound, shape=spread)

    def natural_prior(self) -> Float[Array, " P"]:
        """(shape - 1, rate)."""
        return jnp.append(jnp.asarray(self.shape) - 1, jnp.asarray(self.rate))

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """Gamma(a, b): a (K, d), b (K,)."""
        return {"a": lam[..., :-1] + 1, "b": lam[..., -1]}

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """sum_j [ log Gamma(a_j) - a_j log b ]."""
        a, b = lam[..., :-1] + 1, lam[..., -1:]
        return jnp.sum(gammaln(a) - a * jnp.log(b), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """(psi(a) - log b, -sum_j a_j / b)."""
        a, b = lam[..., :-1] + 1, lam[..., -1:]
        total = jnp.sum(a, axis=-1, keepdims=True) / b
        return jnp.concatenate([digamma(a) - jnp.log(b), -total], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """(log rate, -sum_j rate_j)."""
        rate = theta["rate"]
        total = jnp.sum(rate, axis=-1, keepdims=True)
        return jnp.concatenate([jnp.log(rate), -total], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of q."""
        return {"rate": (q[:, :-1] + 1) / q[:, -1:]}

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

        gamma = dist.Gamma(standard["a"], standard["b"][..., None])
        return {"rate": gamma.to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """A row x_j ~ Poisson(rate_kj)."""
        import numpyro.distributions as dist

        return dist.Poisson(theta["rate"]).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Log rates."""
        xp = namespace(theta["rate"])
        return {"log rate": (xp.log(theta["rate"]), self.dims["rate"])}

    def location(self, theta: Parameters) -> Any:
        """The rates."""
        return theta["rate"]


MODEL = Poisson
