"""Probit regression with a Gaussian prior on the coefficients.

w ~ Normal(0, 1 / alpha), z_i ~ Normal(x_i w, 1), y_i = 1 where z_i > 0: Albert and Chib
(1993). q(w) q(z), q(w) Gaussian with a full covariance and q(z_i) a normal of variance
1 on the side of 0 that y_i tells: Ormerod and Wand (2010), section 2.2. The precision
of q(w) does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt
from jax.scipy.linalg import cho_solve
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Gaussian

DATA = {"x": ("row", "predictor"), "y": ("row",)}

TAIL, TERMS = -4.0, 30
"""Below TAIL so many terms of a continued fraction give the ratio in `mills`, to 1e-15.
"""

BEYOND = 40.0
"""Standard deviations that no probability lies beyond in 64 bits."""


class Statistics(NamedTuple):
    """Of the rows, and the precision of q(w), which they alone make.

    Attributes:
        sign: 1 where y_i is 1, else -1 (N,).
        signed: sign_i x_i (N, p).
        gram: x^T x (p, p).
        centred: q(w) of mean 0.
        root: the Cholesky factor of its precision (p, p).
    """

    sign: Float[Array, " N"]
    signed: Float[Array, "N p"]
    gram: Float[Array, "p p"]
    centred: Gaussian
    root: Float[Array, "p p"]


class Halves(NamedTuple):
    """q(z_i): the normals around x_i m, each on its side of 0.

    Attributes:
        near: the coefficients m (p,).
        slope: x^T (E z - x m) (p,).
        log_mass: sum_i log of the normals' mass on those sides.
    """

    near: Float[Array, " p"]
    slope: Float[Array, " p"]
    log_mass: Float[Array, ""]


@dataclass(frozen=True)
class ProbitRegression:
    """The prior of the coefficients.

    Attributes:
        alpha: prior precision of every coefficient.
    """

    alpha: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "probit regression, truncated normals behind the labels"
    references: ClassVar[tuple[str, ...]] = ("albert1993", "ormerod2010")
    compared: ClassVar[tuple[str, ...]] = ("w",)

    def model(self, x: Any, y: Any) -> None:
        """Coefficients w; y_i is 1 with the probability Phi(x_i w)."""
        at = self._sampled(x)
        with numpyro.plate("row", len(y)):
            logits = log_ndtr(at) - log_ndtr(-at)
            numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    def full(self, x: Any, y: Any) -> None:
        """Coefficients w, and a normal z_i behind each label."""
        at = self._sampled(x)
        with numpyro.plate("row", len(y)):
            z = numpyro.sample("z", dist.Normal(at, 1.0))
            numpyro.sample("y", dist.Delta((z > 0).astype(jnp.int32)), obs=y)

    def statistics(self, x: Any, y: Any) -> Statistics:
        """One product of the predictors, and the Cholesky factor of the precision."""
        x, sign = jnp.asarray(x, float), jnp.where(jnp.asarray(y) > 0, 1.0, -1.0)
        gram = x.T @ x
        precision = self.alpha * jnp.eye(x.shape[1], dtype=x.dtype) + gram
        centred = Gaussian.of(jnp.zeros(x.shape[1], x.dtype), precision)
        root = jnp.linalg.cholesky(precision)
        return Statistics(sign, sign[:, None] * x, gram, centred, root)

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """A mean at random, of linear predictors about 1.

        Where they are large the labels hardly depend on them, and a sweep hardly moves.
        """
        drawn = jax.random.normal(key, s.centred.shift.shape, s.gram.dtype)
        each = jnp.diagonal(s.gram) / jnp.maximum(len(s.signed), 1)
        mean = (self.alpha + each) ** -0.5 * drawn
        w = Gaussian.of(s.centred.precision @ mean, s.centred.precision)
        return self.local(s, {"w": w})

    def local(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """E z_i - x_i m is the normal's density over its mass, on the side of y_i."""
        near = q["w"].mean()
        at = s.signed @ near
        slope, log_mass = s.signed.T @ mills(at), jnp.sum(log_ndtr(at))
        return q | {"z": Halves(near, slope, log_mass)}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The labels' normals, then the mean of w, x^T E z over the precision."""
        q = self.local(s, q)
        z, known = q["z"], s.centred
        # as a step from m: x^T E z alone would be rounded where x m is large
        step = cho_solve((s.root, True), z.slope - self.alpha * z.near)
        shift, half = z.slope + s.gram @ z.near, known.half_log_det
        mean = z.near + step
        return q | {"w": Gaussian(shift, known.precision, mean, known.covariance, half)}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y, z | w) + H(z), from its value at m, minus the divergence of w."""
        w, z = q["w"], q["z"]
        away = w.mean() - z.near
        spread = away @ s.gram @ away + jnp.sum(s.gram * w.covariance)
        found: Array = z.log_mass + z.slope @ away - 0.5 * spread - w.kl(self._prior(s))
        return found

    def local_factors(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """Truncated normals z (N,)."""
        at = s.sign * (s.signed @ q["z"].near)
        end = jnp.abs(at) + BEYOND
        low, high = jnp.where(s.sign > 0, 0.0, -end), jnp.where(s.sign > 0, end, 0.0)
        return {"z": dist.TruncatedNormal(at, 1.0, low=low, high=high)}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of an intercept and two correlated predictors."""
        x = np.c_[np.ones(rows), random.normal(size=(rows, 2))]
        x[:, 2] += x[:, 1]
        w = random.normal(0, self.alpha**-0.5, 3)
        return {"x": x, "y": (random.normal(x @ w) > 0).astype(int)}

    def _sampled(self, x: Any) -> Array:
        """The means x w, the coefficients w being a site."""
        with numpyro.plate("coefficient", x.shape[1]):
            w = numpyro.sample("w", dist.Normal(0.0, self.alpha**-0.5))
        means: Array = x @ w
        return means

    def _prior(self, s: Statistics) -> Gaussian:
        return Gaussian.around_zero(s.centred.shift, self.alpha)


def mills(t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The standard normal's density at t over its mass below t, phi(t) / Phi(t).

    In the tail that is -t + 1 / (-t + 2 / (-t + 3 / ...)) (Abramowitz and Stegun 1964,
    26.2.14), where the logarithms of both are large and nearly equal.
    """
    inner = jnp.where(t < TAIL, TAIL, t)  # a maximum has half a derivative at ties
    ratio = jnp.exp(-0.5 * (inner**2 + LOG_2PI) - log_ndtr(inner))
    far = jnp.where(t < TAIL, -t, -TAIL)
    fraction = far
    for term in range(TERMS, 0, -1):
        fraction = far + term / fraction
    return jnp.where(t < TAIL, fraction, ratio)


MODEL = ProbitRegression
