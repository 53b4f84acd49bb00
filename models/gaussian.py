"""Gaussian components of known variance, a Normal prior on each mean.

    mu_k ~ N(mean, sigma^2 I_d),   x_i | c_i, mu ~ N(mu_{c_i}, variance I_d)

The mixture of Blei, Kucukelbir and McAuliffe (2017), section 3, in d dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Parameters, SmallProblem, Standard
from vi_bench.mixture.conjugate import Conjugate, check_length, rounded, rounded_centre
from vi_bench.models._real import LOG_2PI, RealRows
from vi_bench.models._small import DIRICHLET, STICKS

if TYPE_CHECKING:
    from vi_bench.data.table import Table


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian(RealRows, Conjugate):
    """Known-variance Gaussian components; see the module for the densities.

    The statistics are (x, 1), the natural parameters of q(mu_k) = N(m_k, s2_k I) are
    (h, c) with m = h / c and s2 = variance / c; c counts rows, the prior's included.

    Attributes:
        sigma: prior standard deviation of a mean, in the data's unit; by default the
            root mean square of the features' standard deviations.
        variance: variance of a row around its component's mean.
        mean: prior mean, one number for all features or one per feature; by default
            the data's mean.
    """

    sigma: Annotated[float, Gt(0)] | None = None
    variance: Annotated[float, Gt(0)] = 1.0
    mean: float | tuple[float, ...] | None = None

    summary: ClassVar[str] = "Gaussian, known variance; Normal prior on the mean"
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "sigma": 2.0,
        "variance": 1.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("no rows", 0, 2, 3),
        SmallProblem("one component", 6, 3, 1),
        SmallProblem("overlapping", 8, 1, 2, 1.0),
        SmallProblem("overlapping", 7, 2, 3, 1.0),
        SmallProblem("few rows, weights drawn", 8, 2, 2, 1.0, DIRICHLET),
        SmallProblem("weights by stick-breaking", 7, 1, 3, 1.0, STICKS),
        SmallProblem("separated", 24, 2, 3, 25.0),
        SmallProblem("overlapping, more rows", 40, 3, 4, 1.0),
        SmallProblem("many features", 8, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.6),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """The means mu have the dimensions (K, d)."""
        return {"mu": ("component", "feature")}

    def check(self, table: Table) -> None:
        """Refuse a `mean` that does not fit the features."""
        check_length("gaussian", "mean", self.mean, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with the data's mean and sd where none are given."""
        spread = rounded(np.sqrt(values.var(axis=0).mean())) or 1.0
        centre = rounded_centre(values)
        return replace(
            self,
            sigma=spread if self.sigma is None else self.sigma,
            mean=centre if self.mean is None else self.mean,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x, 1)."""
        return jnp.concatenate([x, jnp.ones_like(x[:1])])

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log h = -(d/2) log(2 pi variance) - ||x||^2 / (2 variance)."""
        size = x.shape[0] * (LOG_2PI + jnp.log(self.variance))
        return -0.5 * (size + jnp.sum(x**2, axis=0) / self.variance)

    def natural_prior(self) -> Float[Array, " P"]:
        """(c_0 mean, c_0); c_0 = variance / sigma^2 is the prior's number of rows."""
        rows = self.variance / jnp.asarray(self.sigma) ** 2
        return jnp.append(rows * jnp.asarray(self.mean), rows)

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = (d/2) log(2 pi variance / c) + ||h||^2 / (2 c variance)."""
        h, c = lam[..., :-1], lam[..., -1]
        size = h.shape[-1] * (LOG_2PI + jnp.log(self.variance / c))
        return 0.5 * (size + jnp.sum(h**2, axis=-1) / (c * self.variance))

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E s(theta) = (m, -(||m||^2 + d s2) / 2) / variance."""
        h, c = lam[..., :-1], lam[..., -1:]
        m = h / c
        square = jnp.sum(m**2, axis=-1, keepdims=True) + h.shape[-1] * self.variance / c
        return jnp.concatenate([m, -0.5 * square], axis=-1) / self.variance

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (mu, -||mu||^2 / 2) / variance."""
        mu = theta["mu"]
        square = jnp.sum(mu**2, axis=-1, keepdims=True)
        return jnp.concatenate([mu, -0.5 * square], axis=-1) / self.variance

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """The parameters of q(mu_k) = N(m_k, s2_k I): m (K, d) and s2 (K,)."""
        return {"m": lam[..., :-1] / lam[..., -1:], "s2": self.variance / lam[..., -1]}

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """The means m of q (K, d)."""
        return {"mu": self.standard(q)["m"]}

    def hyperparameters(self) -> Standard:
        """The parameters of the prior N(mean, sigma^2 I): m and s2."""
        return {"m": jnp.asarray(self.mean), "s2": jnp.asarray(self.sigma) ** 2}

    def constraints(self) -> dict[str, Any]:
        """The mean m is real, the variance s2 positive."""
        from numpyro.distributions import constraints

        return {"m": constraints.real, "s2": constraints.positive}

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's N(m, s2 I) of mu."""
        import numpyro.distributions as dist

        scale = jnp.sqrt(standard["s2"])[..., None]
        return {"mu": dist.Normal(standard["m"], scale).to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x ~ N(mu_k, variance I)."""
        import numpyro.distributions as dist

        return dist.Normal(theta["mu"], jnp.sqrt(self.variance)).to_event(1)


MODEL = Gaussian
