"""Logistic regression with a Gaussian prior on the coefficients.

w ~ Normal(0, 1 / alpha), y_i ~ Bernoulli(logit = x_i w); q(w) has a full covariance.
A point xi_i for each row is where a quadratic bound touches log p(y_i | w): Jaakkola
and Jordan (2000); Bishop (2006), section 10.6. It is the ELBO of the model that Polya-
Gamma variables omega_i augment (Polson, Scott and Windle 2013), q(omega_i) being
PG(1, xi_i): Durante and Rigon (2019).
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
from vi_bench.factors import Gaussian
from vi_bench.models._by_row import ByRow

DATA = {"x": ("row", "predictor"), "y": ("row",)}

LEAST = 1e-12
"""The smallest xi, for rows of zeros: there the square root has no derivative."""


class Statistics(NamedTuple):
    """The predictors (N, p), and x^T (y - 1/2) (p,)."""

    x: Float[Array, "N p"]
    labels: Float[Array, " p"]


@dataclass(frozen=True)
class LogisticRegression(ByRow):
    """The prior of the coefficients.

    Attributes:
        alpha: prior precision of every coefficient.
    """

    alpha: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "logistic regression, Jaakkola and Jordan's bound"
    references: ClassVar[tuple[str, ...]] = ("jaakkola2000", "polson2013")
    compared: ClassVar[tuple[str, ...]] = ("w",)

    def model(self, x: Any, y: Any) -> None:
        """Coefficients w."""
        with numpyro.plate("coefficient", x.shape[1]):
            w = numpyro.sample("w", dist.Normal(0.0, self.alpha**-0.5))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    def statistics(self, x: Any, y: Any) -> Statistics:
        """The predictors, and what of the labels a logistic likelihood depends on."""
        x, y = jnp.asarray(x, float), jnp.asarray(y, float)
        return Statistics(x, x.T @ (y - 0.5))

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """The prior, around a draw from it."""
        prior = self._prior(s)
        drawn = jax.random.normal(key, s.labels.shape, s.labels.dtype)
        shift = self.alpha**0.5 * drawn
        return self.local(s, {"w": Gaussian.of(shift, prior.precision)})

    def local(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The points xi_i^2 = E (x_i w)^2 (Bishop 2006, 10.163).

        "gram" is sum_i 2 lambda(xi_i) x_i^T x_i, so that what follows from xi passes
        over the rows once.
        """
        w = q["w"]
        spread = jnp.sum((s.x @ w.covariance) * s.x, axis=1)
        xi = jnp.sqrt(jnp.maximum((s.x @ w.mean()) ** 2 + spread, LEAST**2))
        gram = (2 * curvature(xi) * s.x.T) @ s.x
        return q | {"xi": xi, "gram": gram}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The points, then the coefficients (Bishop 2006, 10.157 and 10.158)."""
        q = self.local(s, q)
        precision = self._prior(s).precision + q["gram"]
        return q | {"w": Gaussian.of(s.labels, precision)}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """The bound on E log p(y | w) at xi, minus the divergence of w."""
        w, xi = q["w"], q["xi"]
        # log sigmoid(xi) - xi / 2, which is even in xi
        rows = -jnp.logaddexp(0.5 * xi, -0.5 * xi) + curvature(xi) * xi**2
        m = w.mean()
        square = m @ q["gram"] @ m + jnp.sum(q["gram"] * w.covariance)
        likelihood = jnp.sum(rows) + s.labels @ m - 0.5 * square
        found: Array = likelihood - w.kl(self._prior(s))
        return found

    def shared(self, batch: Statistics, q: dict[str, Any], times: float) -> Any:
        """The coefficients, from the points of these rows."""
        precision = self._prior(batch).precision + times * self.local(batch, q)["gram"]
        return {"w": Gaussian.of(times * batch.labels, precision)}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of an intercept and two correlated predictors."""
        x = np.c_[np.ones(rows), random.normal(size=(rows, 2))]
        x[:, 2] += x[:, 1]
        w = random.normal(0, self.alpha**-0.5, 3)
        chance = 0.5 * (1 + np.tanh(0.5 * x @ w))
        return {"x": x, "y": (random.random(rows) < chance).astype(int)}

    def _prior(self, s: Statistics) -> Gaussian:
        return Gaussian.around_zero(s.labels, self.alpha)


def curvature(xi: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Lambda(xi) = tanh(xi / 2) / (4 xi) of positive points (Bishop 2006, 10.150)."""
    return jnp.tanh(0.5 * xi) / (4 * xi)


MODEL = LogisticRegression
