"""Gaussian components, independent priors on the mean and the variance.

    mu_kj ~ N(mean_j, sd_j^2),   variance_kj ~ inverse-Gamma(shape, scale_j)
    x_ij | c_i = k ~ N(mu_kj, variance_kj)

with one variance per component or one shared by all: the prior of Chib (1995) and of
Richardson and Green (1997) with its hyperprior fixed. It is conjugate only given the
other parameter, so q(mu) q(variance) takes an inner coordinate step in every M-step,
and mean field is not exact even for one component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from vi_bench.contract import Factor, Key, Parameters, SmallProblem, Standard
from vi_bench.mixture.broadcast import aligned
from vi_bench.mixture.conjugate import (
    Family,
    check_length,
    namespace,
    per_feature,
    rounded,
    rounded_centre,
)
from vi_bench.models._real import LOG_2PI, RealRows

if TYPE_CHECKING:
    from vi_bench.data.table import Table

Positive = Annotated[float, Gt(0)]
PerFeature = Positive | tuple[Positive, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianSemiconjugate(RealRows, Family):
    """Diagonal Gaussian components; see the module for the densities.

    q is {"m", "v"} of the means' Normals (K, d), {"a", "b"} of the variances'
    inverse-Gammas: a (K, 1) and b (K, d), or a (1,) and b (d,) where they are shared.

    Attributes:
        mean: prior mean; by default the middle of the data's range.
        sd: prior standard deviation of a mean; by default the data's range.
        shape: shape of the variances' inverse-Gamma priors.
        scale: scale of these priors; by default 0.02 range^2 (the mean of Richardson
            and Green's hyperprior).
        shared: whether all components share one variance (per feature).
    """

    mean: float | tuple[float, ...] | None = None
    sd: PerFeature | None = None
    shape: Positive = 2.0
    scale: PerFeature | None = None
    shared: bool = field(default=False, metadata={"static": True})

    summary: ClassVar[str] = "Gaussian; independent Normal and inverse-Gamma priors"
    calibration: ClassVar[Mapping[str, Any]] = {
        "mean": 0.0,
        "sd": 2.0,
        "shape": 4.0,
        "scale": 3.0,
    }
    verification: ClassVar[tuple[SmallProblem, ...]] = (
        SmallProblem("one component", 6, 1, 1),
        SmallProblem("overlapping", 12, 2, 2, 1.0),
        SmallProblem("many features", 8, 8, 2, 0.6),
        SmallProblem("unbalanced, one empty", 80, 8, 5, 0.6),
    )

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Mu is (K, d); variance is (K, d), or (d,) where it is shared."""
        mu = ("component", "feature")
        return {"mu": mu, "variance": ("feature",) if self.shared else mu}

    def check(self, table: Table) -> None:
        """Refuse hyperparameters of the wrong length."""
        for name in ("mean", "sd", "scale"):
            value = getattr(self, name)
            check_length("gaussian-semiconjugate", name, value, len(table.features))

    def complete(self, values: np.ndarray, components: int) -> Self:
        """The family with defaults from the data's range, feature by feature."""
        low, high = values.min(axis=0), values.max(axis=0)
        span = np.where(high > low, high - low, 1.0)
        middle = rounded_centre(np.stack([low, high]))
        scale = tuple(rounded(v) for v in 0.02 * span**2)
        return replace(
            self,
            mean=middle if self.mean is None else self.mean,
            sd=tuple(rounded(v) for v in span) if self.sd is None else self.sd,
            scale=scale if self.scale is None else self.scale,
        )

    @staticmethod
    def statistics(x: Float[Array, "d n"]) -> Float[Array, "P n"]:
        """Sufficient statistics (x^2, x, 1)."""
        return jnp.concatenate([x**2, x, jnp.ones_like(x[:1])])

    def prior(self, components: int) -> Standard:
        """The q that equals the prior."""
        h = self.hyperparameters()
        d = h["m"].shape[0]
        shape = (components, d)
        spread = {"a": h["a"][None], "b": h["b"]}
        if not self.shared:
            spread = {
                n: jnp.broadcast_to(v, (components, v.shape[0]))
                for n, v in spread.items()
            }
        return {
            "m": jnp.broadcast_to(h["m"], shape),
            "v": jnp.broadcast_to(h["v"], shape),
        } | spread

    def update(self, q: Standard, expected: Float[Array, "K P"]) -> Standard:
        """The M-step: first q(mu) given q(variance), then q(variance) given that."""
        square, r, n = _parts(expected)
        h = self.hyperparameters()
        precision = q["a"] / q["b"]
        pull, tight = _pull(h)
        v = 1 / (tight + precision * n)
        m = v * (pull + precision * r)
        rest = square - 2 * m * r + n * (m**2 + v)
        return {"m": m, "v": v} | self._of_variance(h, n, rest)

    def _of_variance(self, h: Standard, n: Array, rest: Array) -> Standard:
        """The variances' a and b, given rows (K, 1) and sums of squares (K, d)."""
        if self.shared:
            n, rest = jnp.sum(n, axis=0), jnp.sum(rest, axis=0)
        (a, n), (b, rest) = aligned(h["a"], n), aligned(h["b"], rest)
        return {"a": a + 0.5 * n, "b": b + 0.5 * rest}

    def coefficients(self, q: Standard) -> Float[Array, "K P"]:
        """E of `natural`: E 1/variance = a / b, E log variance = log b - psi(a)."""
        precision = jnp.broadcast_to(q["a"] / q["b"], q["m"].shape)
        log = jnp.broadcast_to(jnp.log(q["b"]) - digamma(q["a"]), q["m"].shape)
        return _coefficients(precision, q["m"], q["m"] ** 2 + q["v"], log)

    def kl(self, q: Standard) -> Float[Array, ""]:
        """KL of the Normals and of the inverse-Gammas to the prior's."""
        h = self.hyperparameters()
        m, v = (h[name][None] for name in ("m", "v"))
        ratio = q["v"] / v
        gap = (q["m"] - m) ** 2 / v
        normal = 0.5 * (ratio + gap - 1 - jnp.log(ratio))
        a, b, a0, b0 = aligned(q["a"], q["b"], h["a"], h["b"])
        inverse = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        inverse = inverse + a0 * jnp.log(b / b0) + a * (b0 - b) / b
        return jnp.sum(normal) + jnp.sum(inverse)

    def residual(
        self, q: Standard, new: Standard, total: Float[Array, " P"]
    ) -> Float[Array, ""]:
        """Largest change, of m in its sds and of the other parameters relative."""
        scale = q | {"m": jnp.sqrt(q["v"])}
        moved = jax.tree.map(lambda a, b, s: jnp.max(jnp.abs(b - a) / s), q, new, scale)
        return jnp.max(jnp.stack(jax.tree.leaves(moved)))

    def permute(self, q: Standard, order: Array) -> Standard:
        """The same q with its components, but no shared variance, in another order."""
        named = ("m", "v") if self.shared else q
        return q | {name: q[name][order] for name in named}

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta): -1 / (2 variance), mu / variance, and a last coordinate.

        The last is -sum_j (mu_j^2 / variance_j + log variance_j) / 2.
        """
        mu, variance = theta["mu"], theta["variance"]
        if self.shared:
            variance = variance[..., None, :]
        variance = jnp.broadcast_to(variance, mu.shape)
        return _coefficients(1 / variance, mu, mu**2, jnp.log(variance))

    def natural_parameters(self, q: Standard) -> Standard:
        """Natural parameters: of q(mu) (m, 1) / v, of q(variance) (a, b)."""
        return {"r": q["m"] / q["v"], "c": 1 / q["v"], "a": q["a"], "b": q["b"]}

    def from_natural_parameters(self, eta: Standard) -> Standard:
        """The q with given natural parameters."""
        m, v = eta["r"] / eta["c"], 1 / eta["c"]
        return {"m": m, "v": v, "a": eta["a"], "b": eta["b"]}

    def expected_statistics(self, q: Standard) -> Standard:
        """E of mu and -mu^2 / 2, and of -log variance and -1 / variance."""
        a, b = q["a"], q["b"]
        log = jnp.sum(digamma(a) - jnp.log(b), axis=-1, keepdims=True)
        return {"r": q["m"], "c": -0.5 * (q["m"] ** 2 + q["v"]), "a": log, "b": -a / b}

    def natural_update(self, q: Standard, expected: Float[Array, "K P"]) -> Standard:
        """Natural parameters of both factors' optima, each given the other in q."""
        square, r, n = _parts(expected)
        h = self.hyperparameters()
        precision = q["a"] / q["b"]
        rest = square - 2 * q["m"] * r + n * (q["m"] ** 2 + q["v"])
        pull, tight = _pull(h)
        means = {"r": pull + precision * r, "c": tight + precision * n}
        return means | self._of_variance(h, n, rest)

    def resample(
        self, key: Key, theta: Parameters, expected: Float[Array, "K P"]
    ) -> Parameters:
        """A Gibbs step: mu given the variances, then these given mu.

        Chib (1995), section 4.
        """
        of_mu, of_variance = jax.random.split(key)
        square, r, n = _parts(expected)
        h = self.hyperparameters()
        pull, tight = _pull(h)
        v = 1 / (tight + n / theta["variance"])
        m = v * (pull + r / theta["variance"])
        mu = m + jnp.sqrt(v) * jax.random.normal(of_mu, m.shape, m.dtype)
        # the sum of squares around mu: rounding must not make it negative
        rest = jnp.maximum(square - 2 * mu * r + n * mu**2, 0.0)
        after = self._of_variance(h, n, rest)
        a, b = jnp.broadcast_arrays(after["a"], after["b"])
        return {"mu": mu, "variance": b / jax.random.gamma(of_variance, a)}

    def log_prior(self, theta: Parameters) -> Float[Array, "*b"]:
        """Log prior: normal of the means, inverse-Gamma of the variances."""
        return self.log_q(theta, self.hyperparameters())

    def log_q(self, theta: Parameters, q: Standard) -> Float[Array, "*b"]:
        """Log q: normal of the means, inverse-Gamma of the variances."""
        mu, m, v = aligned(theta["mu"], q["m"], q["v"])
        normal = -0.5 * (LOG_2PI + jnp.log(v) + (mu - m) ** 2 / v)
        variance, a, b = aligned(theta["variance"], q["a"], q["b"])
        inverse = a * jnp.log(b) - gammaln(a)
        inverse = inverse - (a + 1) * jnp.log(variance) - b / variance
        axes = (-1,) if self.shared else (-2, -1)
        return jnp.sum(normal, axis=(-2, -1)) + jnp.sum(inverse, axis=axes)

    def centre(self, q: Standard) -> Parameters:
        """Means of q(mu); of the variance the inverse of the mean precision."""
        return {"mu": q["m"], "variance": q["b"] / q["a"]}

    def describe(self, q: Standard) -> Standard:
        """A copy of q, which consists of its usual parameters."""
        return dict(q)

    def hyperparameters(self) -> Standard:
        """The prior's parameters: m, v and b (d,), a ()."""
        d = jnp.asarray(self.mean).shape[0]
        return {
            "m": jnp.asarray(self.mean),
            "v": per_feature(self.sd, d) ** 2,
            "a": jnp.asarray(self.shape),
            "b": per_feature(self.scale, d),
        }

    def constraints(self) -> dict[str, Any]:
        """All but the means are positive."""
        from numpyro.distributions import constraints

        positive = dict.fromkeys(("v", "a", "b"), constraints.positive)
        return {"m": constraints.real} | positive

    def factors(self, standard: Standard) -> dict[str, Factor]:
        """NumPyro's N(m, v) of mu and inverse-Gamma(a, b) of variance, independent."""
        import numpyro.distributions as dist

        variance = dist.InverseGamma(standard["a"], standard["b"])
        mu = dist.Normal(standard["m"], jnp.sqrt(standard["v"]))
        return {"mu": mu.to_event(1), "variance": variance.to_event(1)}

    def component(self, theta: Parameters) -> Any:
        """NumPyro's distribution of a row, x_j ~ N(mu_kj, variance_kj)."""
        import numpyro.distributions as dist

        return dist.Normal(theta["mu"], jnp.sqrt(theta["variance"])).to_event(1)

    def compared(self, theta: Parameters) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Means, and log variances: these have moments even in empty components."""
        xp = namespace(theta["variance"])
        return {
            "mu": (theta["mu"], self.dims["mu"]),
            "log variance": (xp.log(theta["variance"]), self.dims["variance"]),
        }


def _parts(expected: Float[Array, "K P"]) -> tuple[Array, Array, Array]:
    """Expected sums of x^2 and x (K, d), and counts (K, 1)."""
    d = (expected.shape[-1] - 1) // 2
    return expected[..., :d], expected[..., d:-1], expected[..., -1:]


def _pull(h: Standard) -> tuple[Array, Array]:
    """The prior's part in natural parameters of q(mu): m / v and 1 / v, (1, d)."""
    return (h["m"] / h["v"])[None], (1 / h["v"])[None]


def _coefficients(precision: Array, mu: Array, square: Array, log: Array) -> Array:
    """(-precision / 2, precision mu, -sum_j (precision mu^2 + log variance)_j / 2)."""
    last = -0.5 * jnp.sum(precision * square + log, axis=-1, keepdims=True)
    return jnp.concatenate([-0.5 * precision, precision * mu, last], axis=-1)


MODEL = GaussianSemiconjugate
