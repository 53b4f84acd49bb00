"""Gaussian components of unknown spherical precision, a Normal-Gamma prior.

precision_k ~ Gamma(shape, rate)
mu_k | precision_k ~ N(mean, I / (kappa precision_k))
x_i | c_i = k ~ N(mu_k, I / precision_k)
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
    rounded,
    rounded_centre,
)
from vi_bench.models._real import LOG_2PI, RealRows

if TYPE_CHECKING:
    from vi_bench.data.table import Table


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianSpherical(RealRows, Conjugate):
    """One precision per component; see the module for the densities.

    The statistics are (||x||^2, x, 1, 1); the prior's numbers of rows of the mean
    (kappa) and of the precision are separate coordinates, each of which a row raises by
    one.

    Attributes:
        mean: prior mean; by default the data's mean.
        kappa: number of rows that the prior mean counts for.
        shape: shape of the precision's Gamma prior; by default (d + 2) / 2.
        rate: rate of the Gamma prior; by default the data's variance, averaged over
            features, over 2 K^(2/d) (Fraley and Raftery 2007).
    """

    mean: float | tuple[float, ...] | None = None
    kappa: Annotated[float, Gt(0)] = 0.01
    shape: Annotated[float, Gt(0)] | None = None
    rate: Annotated[float, Gt(0)] | None = None

    summary: ClassVar[str] = "Gaussian, one unknown precision; Normal-Gamma prior"
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "kappa": 0.3,
        "shape": 4.0,
        "rate": 4.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping", 8, 2, 2, 1.0),
        SmallProblem("many features", 8, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.6),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Mu is (K, d), precision (K,)."""
        return {"mu": ("component", "feature"), "precision": ("component",)}

    def check(self, table: Table) -> None:
        """Refuse a `mean` of the wrong length."""
        check_length("gaussian-spherical", "mean", self.mean, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with the data's mean and a precision for a Kth of their volume."""
        d = values.shape[1]
        variance = values.var(axis=0).mean() or 1.0
        rate = rounded(variance / (2 * components ** (2 / d)))
        centre = rounded_centre(values)
        return replace(
            self,
            mean=centre if self.mean is None else self.mean,
            shape=(d + 2) / 2 if self.shape is None else self.shape,
            rate=rate if self.rate is None else self.rate,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (||x||^2, x, 1, 1)."""
        one = jnp.ones_like(x[:1])
        return jnp.concatenate([jnp.sum(x**2, axis=0, keepdims=True), x, one, one])

    def natural_prior(self) -> Float[Array, " P"]:
        """(2 b_0 + kappa ||m_0||^2, kappa m_0, kappa, (2 a_0 - 2) / d + 1)."""
        m = jnp.asarray(self.mean)
        a, b = jnp.asarray(self.shape), jnp.asarray(self.rate)
        square = 2 * b + self.kappa * jnp.sum(m**2)
        n = (2 * a - 2) / m.shape[0] + 1
        return jnp.concatenate(
            [square[None], self.kappa * m, jnp.stack([self.kappa, n])]
        )

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """Parameters of Gamma(a, b) and N(m, I / (kappa precision)).

        m is (K, d), the others (K,).
        """
        square, r, kappa, n = lam[..., 0], lam[..., 1:-2], lam[..., -2], lam[..., -1]
        d = r.shape[-1]
        return {
            "m": r / kappa[..., None],
            "kappa": kappa,
            "a": d * (n - 1) / 2 + 1,
            "b": 0.5 * (square - jnp.sum(r**2, axis=-1) / kappa),
        }

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = (d/2) log(2 pi / kappa) + log Gamma(a) - a log b."""
        q = self.standard(lam)
        d = q["m"].shape[-1]
        size = 0.5 * d * (LOG_2PI - jnp.log(q["kappa"]))
        return size + gammaln(q["a"]) - q["a"] * jnp.log(q["b"])

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E of `natural`: E precision = a / b, E log precision = psi(a) - log b."""
        q = self.standard(lam)
        d = q["m"].shape[-1]
        precision = q["a"] / q["b"]
        square = precision * jnp.sum(q["m"] ** 2, axis=-1) + d / q["kappa"]
        log = digamma(q["a"]) - jnp.log(q["b"])
        ends = jnp.stack([-0.5 * square, 0.5 * d * log], axis=-1)
        middle = precision[..., None] * q["m"]
        return jnp.concatenate([-0.5 * precision[..., None], middle, ends], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta) = (-1/2, mu, -||mu||^2 / 2) precision, and (d/2) log precision."""
        mu, precision = theta["mu"], theta["precision"][..., None]
        square = jnp.sum(mu**2, axis=-1, keepdims=True)
        log = 0.5 * mu.shape[-1] * jnp.log(precision)
        parts = [-0.5 * precision, precision * mu, -0.5 * precision * square, log]
        return jnp.concatenate(parts, axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of mu (K, d) and of the precision (K,) under q."""
        standard = self.standard(q)
        return {"mu": standard["m"], "precision": standard["a"] / standard["b"]}

    def hyperparameters(self) -> Standard:
        """The prior's parameters: m (d,), kappa, a and b ()."""
        return {
            "m": jnp.asarray(self.mean),
            "kappa": jnp.asarray(self.kappa),
            "a": jnp.asarray(self.shape),
            "b": jnp.asarray(self.rate),
        }

    def constraints(self) -> dict[str, Any]:
        """All but the mean are positive."""
        from numpyro.distributions import constraints

        positive = dict.fromkeys(("kappa", "a", "b"), constraints.positive)
        return {"m": constraints.real} | positive

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Gamma(a, b) of precision, and N(m, I / (kappa precision)) of mu."""
        import numpyro.distributions as dist

        def mu(theta: Parameters) -> Any:
            kappa, precision = aligned(standard["kappa"], theta["precision"])
            scale = jax.lax.rsqrt(kappa * precision)
            return dist.Normal(standard["m"], scale[..., None]).to_event(1)

        return {"precision": dist.Gamma(standard["a"], standard["b"]), "mu": mu}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x ~ N(mu_k, I / precision_k)."""
        import numpyro.distributions as dist

        scale = jax.lax.rsqrt(theta["precision"])[..., None]
        return dist.Normal(theta["mu"], scale).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Means, and log precisions: these have moments even in empty components."""
        xp = namespace(theta["precision"])
        return {
            "mu": (theta["mu"], self.dims["mu"]),
            "log precision": (xp.log(theta["precision"]), self.dims["precision"]),
        }


MODEL = GaussianSpherical
