"""Gaussian components of unknown covariance, a Normal-inverse-Wishart prior.

    precision_k ~ Wishart(degrees_of_freedom, scale^-1),  covariance_k = precision_k^-1
    mu_k | precision_k ~ N(mean, (kappa precision_k)^-1)
    x_i | c_i = k ~ N(mu_k, covariance_k)

so the covariance is inverse-Wishart(degrees_of_freedom, scale); densities are those of
the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.special import digamma, multigammaln
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Parameters, SmallProblem, Standard
from vi_bench.errors import SpecError
from vi_bench.mixture.broadcast import aligned
from vi_bench.mixture.conjugate import (
    Conjugate,
    check_length,
    namespace,
    rounded,
    rounded_centre,
)
from vi_bench.models._real import LOG_2PI, RealRows
from vi_bench.models._small import DIRICHLET
from vi_bench.models._wishart import halves, log_det, pack, unpack

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Positive = Annotated[float, Gt(0)]

FLAT = 1e-4
"""Smallest eigenvalue of the data's correlation matrix below which the default scale is
diagonal: rounded to six digits it might not be positive definite."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianFull(RealRows, Conjugate):
    """One covariance per component; see the module for the densities.

    The statistics are (x x^T, x, 1, 1), of the symmetric matrix the upper triangle, so
    that every coordinate is free; the prior's numbers of rows of the mean (kappa) and
    of the precision are separate coordinates.

    Attributes:
        mean: prior mean; by default the data's mean.
        kappa: number of rows that the prior mean counts for.
        degrees_of_freedom: those of the Wishart prior, over d - 1; by default d + 2.
        scale: scale of the inverse-Wishart prior: one number, one per feature (a
            diagonal), or a matrix; by default the data's covariance over K^(2/d)
            (Fraley and Raftery 2007).
    """

    mean: float | tuple[float, ...] | None = None
    kappa: Positive = 0.01
    degrees_of_freedom: Positive | None = None
    scale: Positive | tuple[Positive, ...] | tuple[tuple[float, ...], ...] | None = None

    summary: ClassVar[str] = (
        "Gaussian, unknown covariance; Normal-inverse-Wishart prior"
    )
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "kappa": 0.3,
        "degrees_of_freedom": 8.0,
        "scale": 6.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping", 8, 2, 2, 1.0),
        SmallProblem("overlapping, more rows", 30, 2, 3, 1.0, DIRICHLET),
        SmallProblem("many features", 10, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 3, 5, 1.0),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Mu is (K, d); precision and, derived from it, covariance are (K, d, d)."""
        matrix = ("component", "feature", "feature_2")
        return {
            "mu": ("component", "feature"),
            "precision": matrix,
            "covariance": matrix,
        }

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Coordinates of both feature dimensions and of the pairs of features."""
        rows, columns = np.triu_indices(len(features), 1)
        pairs = [
            f"{features[i]},{features[j]}" for i, j in zip(rows, columns, strict=True)
        ]
        names = list(features)
        return {"feature": names, "feature_2": names, "pair": pairs}

    def check(self, table: Table) -> None:
        """Refuse hyperparameters that are invalid for the number of features."""
        d = len(table.features)
        for name in ("mean", "scale"):
            check_length("gaussian-full", name, getattr(self, name), d)
        if self.degrees_of_freedom is not None and self.degrees_of_freedom <= d - 1:
            raise SpecError(
                f"model gaussian-full: degrees_of_freedom = {self.degrees_of_freedom}: "
                f"expected more than d - 1 = {d - 1}"
            )
        if isinstance(self.scale, tuple) and isinstance(self.scale[0], tuple):
            even = all(len(row) == d for row in self.scale)
            matrix = np.asarray(self.scale if even else [[0.0]], float)
            square = matrix.shape == (d, d) and np.allclose(matrix, matrix.T)
            if not square or np.linalg.eigvalsh(matrix).min() <= 0:
                raise SpecError(
                    "model gaussian-full: scale is not a symmetric positive definite "
                    f"{d} x {d} matrix"
                )

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with the data's mean and a covariance of a Kth of their volume."""
        d = values.shape[1]
        scale = np.cov(values.T, ddof=0).reshape(d, d) / components ** (2 / d)
        spread = np.where(np.diag(scale) > 0, np.diag(scale), 1.0)
        alike = scale / np.sqrt(np.outer(spread, spread))
        if np.linalg.eigvalsh(alike).min() < FLAT:
            scale = np.diag(spread)
        matrix = tuple(tuple(rounded(v) for v in row) for row in scale)
        centre = rounded_centre(values)
        free = self.degrees_of_freedom
        return replace(
            self,
            mean=centre if self.mean is None else self.mean,
            degrees_of_freedom=d + 2.0 if free is None else free,
            scale=matrix if self.scale is None else self.scale,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x_i x_j for i <= j, x, 1, 1)."""
        rows, columns = np.triu_indices(x.shape[0])
        one = jnp.ones_like(x[:1])
        return jnp.concatenate([x[rows] * x[columns], x, one, one])

    def _scale_matrix(self) -> Float[Array, "d d"]:
        d = jnp.asarray(self.mean).shape[0]
        scale = jnp.asarray(self.scale)
        return scale if scale.ndim == 2 else scale * jnp.eye(d, dtype=scale.dtype)

    def natural_prior(self) -> Float[Array, " P"]:
        """(scale + kappa m_0 m_0^T, kappa m_0, kappa, degrees_of_freedom - d)."""
        m = jnp.asarray(self.mean)
        free = jnp.asarray(self.degrees_of_freedom)
        matrix = self._scale_matrix() + self.kappa * jnp.outer(m, m)
        ends = jnp.stack([self.kappa, free - m.shape[0]])
        return jnp.concatenate([pack(matrix), self.kappa * m, ends])

    def standard(self, lam: Float[Array, "*b P"]) -> Standard:
        """Parameters of Wishart(nu, psi^-1) and N(m, (kappa precision)^-1).

        m is (K, d), psi (K, d, d), kappa and nu (K,).
        """
        d = _features(lam.shape[-1])
        packed, r = lam[..., : -d - 2], lam[..., -d - 2 : -2]
        kappa = lam[..., -2]
        outer = r[..., :, None] * r[..., None, :] / kappa[..., None, None]
        return {
            "m": r / kappa[..., None],
            "kappa": kappa,
            "nu": lam[..., -1] + d,
            "psi": unpack(packed, d) - outer,
        }

    def log_normaliser(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b"]:
        """A = (d log(2 pi/kappa) + nu d log 2 - nu log|psi|) / 2 + lgamma_d(nu / 2)."""
        q = self.standard(lam)
        d, nu = q["m"].shape[-1], q["nu"]
        size = 0.5 * d * (LOG_2PI - jnp.log(q["kappa"]) + nu * jnp.log(2.0))
        return size + multigammaln(0.5 * nu, d) - 0.5 * nu * log_det(q["psi"])

    def moments(self, lam: Float[Array, "*b P"]) -> Float[Array, "*b P"]:
        """E of `natural`: E precision = nu psi^-1, and E log|precision|."""
        q = self.standard(lam)
        d, nu = q["m"].shape[-1], q["nu"]
        precision = nu[..., None, None] * jnp.linalg.inv(q["psi"])
        turned = jnp.einsum("...ij,...j->...i", precision, q["m"])
        square = jnp.sum(turned * q["m"], axis=-1) + d / q["kappa"]
        nu_j, j = aligned(nu[..., None], jnp.arange(d, dtype=nu.dtype))
        digammas = digamma(0.5 * (nu_j - j))
        log = jnp.sum(digammas, axis=-1) + d * jnp.log(2.0) - log_det(q["psi"])
        ends = 0.5 * jnp.stack([-square, log], axis=-1)
        return jnp.concatenate([halves(precision), turned, ends], axis=-1)

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """(-precision / 2, precision mu, -mu' precision mu / 2, log|precision| / 2)."""
        mu, precision = theta["mu"], theta["precision"]
        turned = jnp.einsum("...ij,...j->...i", precision, mu)
        square = jnp.sum(turned * mu, axis=-1)
        ends = 0.5 * jnp.stack([-square, log_det(precision)], axis=-1)
        return jnp.concatenate([halves(precision), turned, ends], axis=-1)

    def centre(self, q: Float[Array, "K P"]) -> Parameters:
        """Means of mu (K, d) and of the precision (K, d, d) under q."""
        standard = self.standard(q)
        precision = standard["nu"][:, None, None] * jnp.linalg.inv(standard["psi"])
        return {"mu": standard["m"], "precision": precision}

    def hyperparameters(self) -> Standard:
        """The prior's parameters: m (d,), kappa and nu (), psi (d, d)."""
        return {
            "m": jnp.asarray(self.mean),
            "kappa": jnp.asarray(self.kappa),
            "nu": jnp.asarray(self.degrees_of_freedom),
            "psi": self._scale_matrix(),
        }

    def constraints(self) -> dict[str, Any]:
        """Nu exceeds d - 1, psi is positive definite, kappa is positive."""
        from numpyro.distributions import constraints

        d = jnp.asarray(self.mean).shape[0]
        return {
            "m": constraints.real,
            "kappa": constraints.positive,
            "nu": constraints.greater_than(d - 1.0),
            "psi": constraints.positive_definite,
        }

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's Wishart(nu, psi^-1), then N(m, (kappa precision)^-1) of mu."""
        import numpyro.distributions as dist

        def mu(theta: Parameters) -> Any:
            kappa = standard["kappa"][..., None, None]
            kappa, precision = aligned(kappa, theta["precision"])
            return dist.MultivariateNormal(
                standard["m"], precision_matrix=kappa * precision
            )

        wishart = dist.Wishart(standard["nu"], rate_matrix=standard["psi"])
        return {"precision": wishart, "mu": mu}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x ~ N(mu_k, precision_k^-1)."""
        import numpyro.distributions as dist

        return dist.MultivariateNormal(theta["mu"], precision_matrix=theta["precision"])

    def derived(self, theta: Parameters) -> dict[str, Any]:
        """The covariance (..., K, d, d), the inverse of the precision."""
        return {"covariance": np.linalg.inv(theta["precision"])}

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Means, log variances, correlations: all have moments in empty components."""
        xp = namespace(theta["precision"])
        covariance = xp.linalg.inv(theta["precision"])
        variance = xp.diagonal(covariance, axis1=-2, axis2=-1)
        scale = xp.sqrt(variance[..., :, None] * variance[..., None, :])
        rows, columns = np.triu_indices(variance.shape[-1], 1)
        correlation = (covariance / scale)[..., rows, columns]
        return {
            "mu": (theta["mu"], self.dims["mu"]),
            "log variance": (xp.log(variance), ("component", "feature")),
            "correlation": (correlation, ("component", "pair")),
        }


def _features(size: int) -> int:
    """The number of features d for P = d (d + 1) / 2 + d + 2."""
    return int(np.rint((np.sqrt(8 * (size - 2) + 9) - 3) / 2))


MODEL = GaussianFull
