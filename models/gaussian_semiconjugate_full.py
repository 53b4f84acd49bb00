"""Gaussian components of unknown covariance, its prior independent of the mean's.

    mu_k ~ N(mean, diag(sd^2))
    precision_k ~ Wishart(degrees_of_freedom, scale^-1),  covariance_k = precision_k^-1
    x_i | c_i = k ~ N(mu_k, covariance_k)

so the covariance is inverse-Wishart(degrees_of_freedom, scale); densities are those of
the precision. It is the prior of Corduneanu and Bishop (2001), and of Stephens (2000)
with its hyperprior fixed; mixtures are often written with it where a language has
Gaussian and Wishart nodes. BayesPy's Wishart(n, V) has V = scale, RxInfer's Wishart(n,
S) has S = scale^-1. It is conjugate only given the other parameter, so q(mu)
q(precision) takes an inner coordinate step in every M-step, and mean field is not exact
even for one component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Key, Parameters, SmallProblem, Standard
from vi_bench.errors import SpecError
from vi_bench.mixture.conjugate import (
    Family,
    check_length,
    per_feature,
    rounded,
    rounded_centre,
)
from vi_bench.models import _wishart as wishart
from vi_bench.models._real import RealRows
from vi_bench.models._wishart import halves, inverse, outer, pack, scatter, unpack
from vi_bench.models.gaussian_full import GaussianFull

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Positive = Annotated[float, Gt(0)]

CONJUGATE = GaussianFull()
"""The family of the same rows and parameters; only its prior is another."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianSemiconjugateFull(RealRows, Family):
    """One covariance per component; see the module for the densities.

    q is {"m", "v"}, means (K, d) and covariances (K, d, d) of the means' Normals, and
    {"nu", "psi"}, degrees of freedom (K,) and inverse scales (K, d, d) of the
    precisions' Wisharts.

    Attributes:
        mean: prior mean; by default the middle of the data's range.
        sd: prior standard deviation of a mean; by default the data's range.
        degrees_of_freedom: those of the Wishart prior, over d - 1; by default d + 3.
        scale: scale of the inverse-Wishart prior: one number, one per feature (a
            diagonal), or a matrix; by default the diagonal 0.04 range^2. Every variance
            then has the default prior of gaussian-semiconjugate.
    """

    mean: float | tuple[float, ...] | None = None
    sd: Positive | tuple[Positive, ...] | None = None
    degrees_of_freedom: Positive | None = None
    scale: Positive | tuple[Positive, ...] | tuple[tuple[float, ...], ...] | None = None

    summary: ClassVar[str] = (
        "Gaussian, unknown covariance; independent Normal and Wishart priors"
    )
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "sd": 2.0,
        "degrees_of_freedom": 8.0,
        "scale": 6.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 2, 1),
        SmallProblem("overlapping", 12, 2, 2, 1.0),
        SmallProblem("many features", 10, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 3, 5, 1.0),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Mu is (K, d); precision and, derived from it, covariance are (K, d, d)."""
        return CONJUGATE.dims

    def coordinates(self, features: tuple[str, ...]) -> dict[str, list[str]]:
        """Coordinates of both feature dimensions and of the pairs of features."""
        return CONJUGATE.coordinates(features)

    def check(self, table: Table) -> None:
        """Refuse hyperparameters that are invalid for the number of features."""
        name, d = "gaussian-semiconjugate-full", len(table.features)
        for setting in ("mean", "sd", "scale"):
            check_length(name, setting, getattr(self, setting), d)
        if self.degrees_of_freedom is not None and self.degrees_of_freedom <= d - 1:
            raise SpecError(
                f"model {name}: degrees_of_freedom = {self.degrees_of_freedom}: "
                f"expected more than d - 1 = {d - 1}"
            )
        if isinstance(self.scale, tuple) and isinstance(self.scale[0], tuple):
            even = all(len(row) == d for row in self.scale)
            matrix = np.asarray(self.scale if even else [[0.0]], float)
            square = matrix.shape == (d, d) and np.allclose(matrix, matrix.T)
            if not square or np.linalg.eigvalsh(matrix).min() <= 0:
                raise SpecError(
                    f"model {name}: scale is not a symmetric positive definite "
                    f"{d} x {d} matrix"
                )

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with defaults from the data's range, feature by feature."""
        low, high = values.min(axis=0), values.max(axis=0)
        span = np.where(high > low, high - low, 1.0)
        middle = rounded_centre(np.stack([low, high]))
        free = self.degrees_of_freedom
        scale = tuple(rounded(v) for v in 0.04 * span**2)
        return replace(
            self,
            mean=middle if self.mean is None else self.mean,
            sd=tuple(rounded(v) for v in span) if self.sd is None else self.sd,
            degrees_of_freedom=values.shape[1] + 3.0 if free is None else free,
            scale=scale if self.scale is None else self.scale,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x_i x_j for i <= j, x, 1)."""
        return GaussianFull.statistics(x)[:-1]

    def prior(self, components: int) -> Standard:
        """The q that equals the prior."""
        return {
            name: jnp.broadcast_to(value, (components, *value.shape))
            for name, value in self.hyperparameters().items()
        }

    def update(self, q: Standard, expected: Float[Array, "K P"]) -> Standard:
        """The M-step: first q(mu) given q(precision), then that given q(mu)."""
        square, r, n = _parts(expected)
        pull, tight = self._of_mu(wishart.mean(q["nu"], q["psi"]), r, n)
        v = inverse(tight)
        m = jnp.einsum("kij,kj->ki", v, pull)
        return {"m": m, "v": v} | self._of_precision(n, scatter(square, r, n, m, v))

    def _of_mu(self, precision: Array, r: Array, n: Array) -> tuple[Array, Array]:
        """Natural parameters of mu's Normals given precisions: r (K, d), c (K, d, d).

        The Normal is N(c^-1 r, c^-1).
        """
        mean = jnp.asarray(self.mean)
        tight = 1 / per_feature(self.sd, mean.shape[0]) ** 2
        pull = (tight * mean)[None] + jnp.einsum("kij,kj->ki", precision, r)
        return pull, jnp.diag(tight)[None] + n[:, None, None] * precision

    def _of_precision(self, n: Array, rest: Array) -> Standard:
        """The Wisharts' nu and psi, given rows (K,) and their scatter (K, d, d)."""
        h = self.hyperparameters()
        return {"nu": h["nu"] + n, "psi": h["psi"][None] + rest}

    def coefficients(self, q: Standard) -> Float[Array, "K P"]:
        """E of `natural`: E precision = nu psi^-1, and E log|precision|."""
        nu, psi, m = q["nu"], q["psi"], q["m"]
        precision = wishart.mean(nu, psi)
        turned = jnp.einsum("kij,kj->ki", precision, m)
        square = wishart.trace(precision, outer(m, m) + q["v"])
        last = 0.5 * (wishart.mean_log_det(nu, psi) - square)[:, None]
        return jnp.concatenate([halves(precision), turned, last], axis=-1)

    def kl(self, q: Standard) -> Float[Array, ""]:
        """KL of the Normals and of the Wisharts to the prior's."""
        h = {name: value[None] for name, value in self.hyperparameters().items()}
        mu = wishart.normal_divergence(q["m"], q["v"], h["m"], h["v"])
        precision = wishart.divergence(q["nu"], q["psi"], h["nu"], h["psi"])
        return jnp.sum(mu + precision)

    def residual(
        self, q: Standard, new: Standard, total: Float[Array, " P"]
    ) -> Float[Array, ""]:
        """Largest change, of m in its sds, of nu relative.

        Those of v and psi are relative to the roots of their diagonals, as entries off
        the diagonal may decay to zero.
        """
        roots = {n: jnp.sqrt(jnp.diagonal(q[n], 0, 1, 2)) for n in ("v", "psi")}
        scale = {n: outer(s, s) for n, s in roots.items()}
        scale |= {"m": roots["v"], "nu": q["nu"]}
        moved = jax.tree.map(lambda a, b, s: jnp.max(jnp.abs(b - a) / s), q, new, scale)
        return jnp.max(jnp.stack(jax.tree.leaves(moved)))

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """(-precision / 2, precision mu, (log|precision| - mu' precision mu) / 2)."""
        apart = CONJUGATE.natural(theta)
        last = jnp.sum(apart[..., -2:], axis=-1, keepdims=True)
        return jnp.concatenate([apart[..., :-2], last], axis=-1)

    def natural_parameters(self, q: Standard) -> Standard:
        """Natural parameters: of q(mu) v^-1 (m, 1), of q(precision) (nu, psi)."""
        tight = inverse(q["v"])
        r = jnp.einsum("kij,kj->ki", tight, q["m"])
        return {"r": r, "c": pack(tight), "nu": q["nu"], "psi": pack(q["psi"])}

    def from_natural_parameters(self, eta: Standard) -> Standard:
        """The q with given natural parameters."""
        d = eta["r"].shape[-1]
        v = inverse(unpack(eta["c"], d))
        m = jnp.einsum("kij,kj->ki", v, eta["r"])
        return {"m": m, "v": v, "nu": eta["nu"], "psi": unpack(eta["psi"], d)}

    def expected_statistics(self, q: Standard) -> Standard:
        """E of mu and -mu mu^T / 2, and of log|precision| / 2 and -precision / 2."""
        m, nu, psi = q["m"], q["nu"], q["psi"]
        free = 0.5 * wishart.mean_log_det(nu, psi)
        of_precision = {"nu": free, "psi": halves(wishart.mean(nu, psi))}
        return {"r": m, "c": halves(outer(m, m) + q["v"])} | of_precision

    def natural_update(self, q: Standard, expected: Float[Array, "K P"]) -> Standard:
        """Natural parameters of both factors' optima, each given the other in q."""
        square, r, n = _parts(expected)
        pull, tight = self._of_mu(wishart.mean(q["nu"], q["psi"]), r, n)
        after = self._of_precision(n, scatter(square, r, n, q["m"], q["v"]))
        own = {"nu": after["nu"], "psi": pack(after["psi"])}
        return {"r": pull, "c": pack(tight)} | own

    def resample(
        self, key: Key, theta: Parameters, expected: Float[Array, "K P"]
    ) -> Parameters:
        """A Gibbs step: mu given the precisions, then these given mu."""
        import numpyro.distributions as dist

        of_mu, of_precision = jax.random.split(key)
        square, r, n = _parts(expected)
        pull, tight = self._of_mu(theta["precision"], r, n)
        root = jnp.linalg.cholesky(tight)
        noise = jax.random.normal(of_mu, r.shape, r.dtype)[..., None]
        noise = noise + solve_triangular(root, pull[..., None], lower=True)
        mu = solve_triangular(root, noise, lower=True, trans=1)[..., 0]
        after = self._of_precision(n, scatter(square, r, n, mu, 0 * tight))
        new = dist.Wishart(after["nu"], rate_matrix=after["psi"])
        return {"mu": mu, "precision": new.sample(of_precision)}

    def log_prior(self, theta: Parameters) -> Float[Array, "*b"]:
        """Log prior: Normal of the means, Wishart of the precisions."""
        return self.log_q(theta, self.hyperparameters())

    def log_q(self, theta: Parameters, q: Standard) -> Float[Array, "*b"]:
        """Log q: Normal of the means, Wishart of the precisions."""
        mu = wishart.normal_log_density(theta["mu"], q["m"], q["v"])
        precision = wishart.log_density(theta["precision"], q["nu"], q["psi"])
        return jnp.sum(mu + precision, axis=-1)

    def centre(self, q: Standard) -> Parameters:
        """Means of mu (K, d) and of the precision (K, d, d) under q."""
        return {"mu": q["m"], "precision": wishart.mean(q["nu"], q["psi"])}

    def describe(self, q: Standard) -> Standard:
        """A copy of q, which consists of its usual parameters."""
        return dict(q)

    def hyperparameters(self) -> Standard:
        """The prior's parameters: m (d,), v and psi (d, d), nu ()."""
        m, scale = jnp.asarray(self.mean), jnp.asarray(self.scale)
        d = m.shape[0]
        return {
            "m": m,
            "v": jnp.diag(per_feature(self.sd, d) ** 2),
            "nu": jnp.asarray(self.degrees_of_freedom),
            "psi": scale if scale.ndim == 2 else jnp.diag(per_feature(scale, d)),
        }

    def constraints(self) -> dict[str, Any]:
        """Nu exceeds d - 1, v and psi are positive definite."""
        from numpyro.distributions import constraints

        matrix = constraints.positive_definite
        free = constraints.greater_than(jnp.asarray(self.mean).shape[0] - 1.0)
        return {"m": constraints.real, "v": matrix, "nu": free, "psi": matrix}

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's N(m, v) of mu and Wishart(nu, psi^-1), independent."""
        import numpyro.distributions as dist

        mu = dist.MultivariateNormal(standard["m"], standard["v"])
        precision = dist.Wishart(standard["nu"], rate_matrix=standard["psi"])
        return {"mu": mu, "precision": precision}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x ~ N(mu_k, precision_k^-1)."""
        return CONJUGATE.component(theta)

    def derived(self, theta: Parameters) -> dict[str, Any]:
        """The covariance (..., K, d, d), the inverse of the precision."""
        return CONJUGATE.derived(theta)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Means, log variances, correlations: all have moments in empty components."""
        return CONJUGATE.compared(theta)


def _parts(expected: Float[Array, "K P"]) -> tuple[Array, Array, Array]:
    """Expected sums of x x^T (K, d, d) and x (K, d), and counts (K,)."""
    # P = d (d + 1) / 2 + d + 1 = (d + 1) (d + 2) / 2
    d = int(np.rint((np.sqrt(8 * expected.shape[-1] + 1) - 3) / 2))
    packed, r, n = expected[:, : -d - 1], expected[:, -d - 1 : -1], expected[:, -1]
    return unpack(packed, d), r, n


MODEL = GaussianSemiconjugateFull
