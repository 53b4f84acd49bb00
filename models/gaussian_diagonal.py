"""Gaussian components of unknown diagonal precision, a Normal-Gamma prior.

precision_kj ~ Gamma(shape, rate_j)
mu_kj | precision_kj ~ N(mean_j, 1 / (kappa precision_kj))
x_ij | c_i = k ~ N(mu_kj, 1 / precision_kj)
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
from vi_bench.mixture.broadcast import aligned
from vi_bench.mixture.conjugate import (
    Conjugate,
    check_length,
    namespace,
    per_feature,
    rounded,
    rounded_centre,
)
from vi_bench.models._real import LOG_2PI, RealRows
from vi_bench.models._small import DIRICHLET

if TYPE_CHECKING:
    from vi_bench.data.table import Table


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianDiagonal(RealRows, Conjugate):
    """One precision per component and feature; see the module for the densities.

    The statistics are (x^2, x, 1, 1); the prior's numbers of rows of the mean (kappa)
    and of the precision are separate coordinates, each of which a row raises by one.

    Attributes:
        mean: prior mean; by default the data's mean.
        kappa: number of rows that the prior mean counts for.
        shape: shape of the precisions' Gamma priors; by default (d + 2) / 2.
        rate: rate of the Gamma priors, one number or one per feature; by default each
            feature's variance over 2 K^(2/d) (Fraley and Raftery 2007).
    """

    mean: float | tuple[float, ...] | None = None
    kappa: Annotated[float, Gt(0)] = 0.01
    shape: Annotated[float, Gt(0)] | None = None
    rate: Annotated[float, Gt(0)] | tuple[Annotated[float, Gt(0)], ...] | None = None

    summary: ClassVar[str] = "Gaussian, unknown diagonal precision; Normal-Gamma prior"
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "kappa": 0.3,
        "shape": 4.0,
        "rate": 4.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping", 8, 2, 2, 1.0),
        SmallProblem("separated", 20, 2, 2, 25.0),
        SmallProblem("many features", 8, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.6, DIRICHLET),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Means mu and precisions have the dimensions (K, d)."""
        return dict.fromkeys(("mu", "precision"), ("component", "feature"))

    def check(self, table: Table) -> None:
        """Refuse a `mean` or `rate` of the wrong length."""
        for name in ("mean", "rate"):
            value = getattr(self, name)
            check_length("gaussian-diagonal", name, value, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with the data's mean and a precision for a Kth of their volume."""
        d = values.shape[1]
        variance = values.var(axis=0)
        variance = np.where(variance > 0, variance, 1.0)
        rate = tuple(rounded(v) for v in variance / (2 * components ** (2 / d)))
        centre = rounded_centre(values)
        return replace(
            self,
            mean=centre if self.mean is None else self.mean,
            shape=(d + 2) / 2 if self.shape is None else self.shape,
            rate=rate if self.rate is None else self.rate,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x^2, x, 1, 1)."""
        one = jnp.ones_like(x[:1])
        return jnp.concatenate([x**2, x, one, one])

    def natural_prior(self) -> Float[Array, " P"]:
        """(2 b_0 + kappa m_0^2, kappa m_0, kappa, 2 a_0 - 1)."""
        m = jnp.asarray(self.mean)
        square = 2 * per_feature(self.rate, m.shape[0]) + self.kappa * m**2
        ends = jnp.stack([self.kappa, 2 * jnp.asarray(self.shape) - 1])
        return jnp.concatenate([square, self.kappa * m, ends])

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """Parameters of Gamma(a, b) and N(m, 1 / (kappa precision)).

        m and b are (K, d), a and kappa (K,).
        """
        d = (lam.shape[-1] - 2) // 2
        square, r, kappa = lam[..., :d], lam[..., d:-2], lam[..., -2]
        return {
            "m": r / kappa[..., None],
            "kappa": kappa,
            "a": 0.5 * (lam[..., -1] + 1),
            "b": 0.5 * (square - r**2 / kappa[..., None]),
        }

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = sum_j [ (1/2) log(2 pi / kappa) + log Gamma(a) - a log b_j ]."""
        q = self.standard(lam)
        d = q["m"].shape[-1]
        size = 0.5 * (LOG_2PI - jnp.log(q["kappa"])) + gammaln(q["a"])
        return d * size - q["a"] * jnp.sum(jnp.log(q["b"]), axis=-1)

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E of `natural`: E precision = a / b, E log precision = psi(a) - log b."""
        q = self.standard(lam)
        d = q["m"].shape[-1]
        precision = q["a"][..., None] / q["b"]
        square = jnp.sum(precision * q["m"] ** 2, axis=-1) + d / q["kappa"]
        log = d * digamma(q["a"]) - jnp.sum(jnp.log(q["b"]), axis=-1)
        ends = 0.5 * jnp.stack([-square, log], axis=-1)
        return jnp.concatenate([-0.5 * precision, precision * q["m"], ends], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """(-1/2, mu) precision, sums of -mu^2 precision / 2 and log(precision) / 2."""
        mu, precision = theta["mu"], theta["precision"]
        square = jnp.sum(precision * mu**2, axis=-1)
        log = jnp.sum(jnp.log(precision), axis=-1)
        ends = 0.5 * jnp.stack([-square, log], axis=-1)
        return jnp.concatenate([-0.5 * precision, precision * mu, ends], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of mu and of the precisions under q (K, d)."""
        standard = self.standard(q)
        precision = standard["a"][:, None] / standard["b"]
        return {"mu": standard["m"], "precision": precision}

    def hyperparameters(self) -> Standard:
        """The prior's parameters: m and b (d,), kappa and a ()."""
        return {
            "m": jnp.asarray(self.mean),
            "kappa": jnp.asarray(self.kappa),
            "a": jnp.asarray(self.shape),
            "b": per_feature(self.rate, jnp.asarray(self.mean).shape[0]),
        }

    def constraints(self) -> dict[str, Any]:
        """All but the mean are positive."""
        from numpyro.distributions import constraints

        positive = dict.fromkeys(("kappa", "a", "b"), constraints.positive)
        return {"m": constraints.real} | positive

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Gamma(a, b) of precision, N(m, 1 / (kappa precision)) of mu."""
        import numpyro.distributions as dist

        def mu(theta: Parameters) -> Any:
            kappa = standard["kappa"][..., None]
            kappa, precision = aligned(kappa, theta["precision"])
            scale = jax.lax.rsqrt(kappa * precision)
            return dist.Normal(standard["m"], scale).to_event(1)

        precision = dist.Gamma(standard["a"][..., None], standard["b"]).to_event(1)
        return {"precision": precision, "mu": mu}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x_j ~ N(mu_kj, 1 / precision_kj)."""
        import numpyro.distributions as dist

        return dist.Normal(theta["mu"], jax.lax.rsqrt(theta["precision"])).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Means, and log precisions: these have moments even in empty components."""
        xp = namespace(theta["precision"])
        return {
            "mu": (theta["mu"], self.dims["mu"]),
            "log precision": (xp.log(theta["precision"]), self.dims["precision"]),
        }


MODEL = GaussianDiagonal
