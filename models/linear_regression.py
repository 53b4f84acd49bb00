"""Linear regression with automatic relevance determination (ARD).

alpha_j ~ Gamma(a, b), w_j ~ Normal(0, 1 / alpha_j), tau ~ Gamma(c, d),
y_i ~ Normal(x_i w, 1 / tau); q(w) q(alpha) q(tau), q(w) with a full covariance.
Bishop (2006), section 10.3, with the noise unknown; Tipping (2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Gamma, Gaussian
from vi_bench.models._by_row import ByRow

DATA = {"x": ("row", "predictor"), "y": ("row",)}


class Statistics(NamedTuple):
    """Of the rows, around coefficients near those of least squares.

    Attributes:
        rows: N.
        gram: x^T x (p, p).
        cross: x^T y (p,).
        near: the coefficients w_0 (p,).
        squares: |y - x w_0|^2.
        slope: x^T (y - x w_0), nearly 0 (p,).
    """

    rows: Float[Array, ""]
    gram: Float[Array, "p p"]
    cross: Float[Array, " p"]
    near: Float[Array, " p"]
    squares: Float[Array, ""]
    slope: Float[Array, " p"]


@dataclass(frozen=True)
class LinearRegression(ByRow):
    """Priors of the coefficients' precisions and of the noise's.

    Attributes:
        a: prior shape of every alpha.
        b: prior rate of every alpha.
        c: prior shape of tau.
        d: prior rate of tau.
    """

    a: Annotated[float, Gt(0)] = 1.0
    b: Annotated[float, Gt(0)] = 1.0
    c: Annotated[float, Gt(0)] = 1.0
    d: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "linear regression, a precision for each coefficient (ARD)"
    references: ClassVar[tuple[str, ...]] = ("bishop2006", "tipping2001")
    compared: ClassVar[tuple[str, ...]] = ("w", "log_alpha", "log_tau")

    def model(self, x: Any, y: Any) -> None:
        """Coefficients w, their precisions alpha, and the noise's precision tau."""
        with numpyro.plate("coefficient", x.shape[1]):
            alpha = numpyro.sample("alpha", dist.Gamma(self.a, self.b))
            w = numpyro.sample("w", dist.Normal(0.0, alpha**-0.5))
        tau = numpyro.sample("tau", dist.Gamma(self.c, self.d))
        numpyro.deterministic("log_alpha", jnp.log(alpha))
        numpyro.deterministic("log_tau", jnp.log(tau))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(x @ w, tau**-0.5), obs=y)

    def statistics(self, x: Any, y: Any) -> Statistics:
        """One product of the predictors; differences from w_0 do not cancel."""
        x, y = jnp.asarray(x, float), jnp.asarray(y, float)
        gram, cross = x.T @ x, x.T @ y
        ridge = 1e-10 * jnp.trace(gram) + jnp.finfo(gram.dtype).tiny
        unit = jnp.eye(x.shape[1], dtype=gram.dtype)
        near = jnp.linalg.solve(gram + ridge * unit, cross)
        left = y - x @ near
        rows = jnp.asarray(float(len(y)))
        return Statistics(rows, gram, cross, near, jnp.sum(left**2), x.T @ left)

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """Precisions around their prior means; the first sweep makes w from them."""
        one, other = jax.random.split(key)
        size = s.cross.shape
        alpha = Gamma(
            jnp.full(size, self.a), self.b * jax.random.gamma(one, 2.0, size) / 2
        )
        rate = self.c * s.squares / jnp.maximum(s.rows, 1) + self.d
        tau = Gamma(jnp.asarray(self.c), rate * jax.random.gamma(other, 2.0) / 2)
        return {"w": self._coefficients(s, alpha, tau), "alpha": alpha, "tau": tau}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The coefficients, then both kinds of precisions."""
        w = self._coefficients(s, q["alpha"], q["tau"])
        return {"w": w, **self._precisions(s, w)}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y | w, tau) + E log p(w | alpha) + H(w) minus the divergences."""
        w, alpha, tau = q["w"], q["alpha"], q["tau"]
        likelihood = 0.5 * s.rows * (tau.mean_log() - LOG_2PI)
        likelihood -= 0.5 * tau.mean() * self._square(s, w)
        prior = alpha.mean_log() - LOG_2PI - alpha.mean() * w.square()
        a, b = jnp.full_like(s.cross, self.a), jnp.full_like(s.cross, self.b)
        noise = tau.kl(Gamma(jnp.asarray(self.c), jnp.asarray(self.d)))
        found: Array = (
            likelihood
            + 0.5 * jnp.sum(prior)
            + w.entropy()
            - alpha.kl(Gamma(a, b))
            - noise
        )
        return found

    def shared(self, batch: Statistics, q: dict[str, Any], times: float) -> Any:
        """Each factor given the others as they are, so that minibatches are unbiased.

        A precision given coefficients that were fitted to the same few rows would be
        too large.
        """
        s = jax.tree.map(lambda v: times * v, batch)._replace(near=batch.near)
        w = self._coefficients(s, q["alpha"], q["tau"])
        return {"w": w, **self._precisions(s, q["w"])}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of three predictors, two of which are correlated."""
        x = random.normal(size=(rows, 3))
        x[:, 2] += x[:, 1]
        w = random.normal(0, random.gamma(self.a, 1 / self.b, 3) ** -0.5)
        tau = random.gamma(self.c, 1 / self.d)
        return {"x": x, "y": random.normal(x @ w, tau**-0.5)}

    def _precisions(self, s: Statistics, w: Gaussian) -> dict[str, Gamma]:
        """Those of the coefficients and of the noise, given the coefficients."""
        alpha = Gamma(jnp.full_like(s.cross, self.a + 0.5), self.b + 0.5 * w.square())
        tau = Gamma(self.c + 0.5 * s.rows, self.d + 0.5 * self._square(s, w))
        return {"alpha": alpha, "tau": tau}

    def _coefficients(self, s: Statistics, alpha: Gamma, tau: Gamma) -> Gaussian:
        precision = jnp.diag(alpha.mean()) + tau.mean() * s.gram
        return Gaussian.of(tau.mean() * s.cross, precision)

    def _square(self, s: Statistics, w: Gaussian) -> Float[Array, ""]:
        """E |y - x w|^2, the covariance of w included (Bishop 2006, 10.104)."""
        away = w.mean() - s.near
        spread = jnp.sum(s.gram * w.covariance)
        return s.squares - 2 * away @ s.slope + away @ s.gram @ away + spread


MODEL = LinearRegression
