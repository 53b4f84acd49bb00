"""Factor analysis with automatic relevance determination of the factors (ARD).

alpha_k ~ Gamma(a, b), W_jk ~ Normal(0, 1 / alpha_k), mu_j ~ Normal(0, 1 / precision),
tau_j ~ Gamma(c, d), z_i ~ Normal(0, I), x_ij ~ Normal(mu_j + W_j z_i, 1 / tau_j); z is
integrated out. q(W) q(mu) q(alpha) q(tau) q(z), the rows of W with full covariances.
Ghahramani and Beal (2000), with one analyser; Bishop (1999) has one tau (`ppca`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Ge, Gt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.factors import LOG_2PI, Gamma, Gaussian, Normal

DATA = {"x": ("row", "feature")}


class Statistics(NamedTuple):
    """The rows' number, mean and scatter; the rows, for `local_factors` alone."""

    rows: Float[Array, ""]
    mean: Float[Array, " d"]
    scatter: Float[Array, "d d"]
    x: Float[Array, "N d"]


class Scores(NamedTuple):
    """Sums of E z_i, E z_i z_i^T and E (x_i - mean) z_i^T; the entropy of all z."""

    total: Float[Array, " K"]
    second: Float[Array, "K K"]
    cross: Float[Array, "d K"]
    entropy: Float[Array, ""]


@dataclass(frozen=True)
class FactorAnalysis:
    """The number of factors, and the priors.

    Attributes:
        factors: K.
        precision: prior precision of every element of mu.
        a: prior shape of every alpha.
        b: prior rate of every alpha.
        c: prior shape of tau.
        d: prior rate of tau.
    """

    factors: Annotated[int, Ge(1)] = 2
    precision: Annotated[float, Gt(0)] = 0.01
    a: Annotated[float, Gt(0)] = 2.0
    b: Annotated[float, Gt(0)] = 2.0
    c: Annotated[float, Gt(0)] = 2.0
    d: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "factor analysis, a precision for each factor (ARD)"
    references: ClassVar[tuple[str, ...]] = ("ghahramani2000", "bishop1999")
    compared: ClassVar[tuple[str, ...]] = ("covariance", "mu")
    common: ClassVar[bool] = False
    """Whether all features have one tau."""

    def model(self, x: Any) -> None:
        """Loadings W (d, K), their precisions alpha (K,), means mu and noises tau."""
        w, mu, tau = self._parameters(x)
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.LowRankMultivariateNormal(mu, w, 1 / tau), obs=x)

    def full(self, x: Any) -> None:
        """The factors z (N, K) of the rows, too."""
        w, mu, tau = self._parameters(x)
        with numpyro.plate("row", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(self.factors), 1).to_event(1))
            numpyro.sample("x", dist.Normal(mu + z @ w.T, tau**-0.5).to_event(1), obs=x)

    def statistics(self, x: Any) -> Statistics:
        """The rows' number, mean and scatter."""
        x = jnp.asarray(x, float)
        mean = jnp.sum(x, axis=0) / max(len(x), 1)
        away = x - mean
        return Statistics(jnp.asarray(float(len(x))), mean, away.T @ away, x)

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """Random loadings, of about the size of the features."""
        of_w, of_tau = jax.random.split(key)
        variance = (self.d + jnp.diagonal(s.scatter)) / (self.c + s.rows)
        known = 10 / variance[:, None]
        away = jax.random.normal(of_w, (len(variance), self.factors))
        shift, unit = known * jnp.sqrt(variance)[:, None] * away, jnp.eye(self.factors)
        w = Gaussian.of(shift, known[..., None] * unit)
        level = jnp.mean(variance) if self.common else variance
        shape = jnp.full_like(level, self.c)
        tau = Gamma(shape, shape * level * jax.random.gamma(of_tau, 2.0, level.shape))
        q = {"W": w, "alpha": self._relevance(w), "tau": tau}
        mu = Normal(self.precision * s.mean, jnp.full_like(s.mean, self.precision))
        return self.local(s, {**q, "mu": mu})

    def local(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """Factors z_i ~ Normal(A (x_i - E mu), C); costs nothing in N."""
        gain, own = self._gain(s, q)
        off = s.mean - q["mu"].mean()
        total, cross = s.rows * gain @ off, s.scatter @ gain.T
        second = gain @ cross + jnp.outer(total, gain @ off) + s.rows * own.covariance
        return {**q, "z": Scores(total, second, cross, s.rows * own.entropy())}

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The factors z, then W, mu, tau and alpha in turn."""
        z, each = self.local(s, q)["z"], self._each(q["tau"].mean(), s)
        off = s.mean - q["mu"].mean()
        shift = each[:, None] * (z.cross + off[:, None] * z.total)
        precision = jnp.diag(q["alpha"].mean()) + each[:, None, None] * z.second
        w = Gaussian.of(shift, precision)
        left = s.rows * s.mean - w.mean() @ z.total
        mu = Normal(each * left, self.precision + each * s.rows)
        q = {"W": w, "mu": mu, "alpha": self._relevance(w), "z": z}
        squares, counted = self._squares(s, q), s.rows * jnp.ones_like(each)
        if self.common:
            squares, counted = jnp.sum(squares), jnp.sum(counted)
        return {**q, "tau": Gamma(self.c + 0.5 * counted, self.d + 0.5 * squares)}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(x, z, W | mu, alpha, tau) + H(z) + H(W) - other divergences."""
        w, mu, alpha, tau, z = (q[k] for k in ("W", "mu", "alpha", "tau", "z"))
        each = self._each(tau.mean(), s)
        log = s.rows * (self._each(tau.mean_log(), s) - LOG_2PI)
        rows = 0.5 * jnp.sum(log - each * self._squares(s, q))
        scores = s.rows * self.factors * LOG_2PI + jnp.trace(z.second)
        loadings = alpha.mean_log() - LOG_2PI - alpha.mean() * w.square()
        prior = jnp.full_like(each, self.precision)
        a, b = (jnp.full_like(alpha.rate, v) for v in (self.a, self.b))
        c, d = (jnp.full_like(tau.rate, v) for v in (self.c, self.d))
        rows -= alpha.kl(Gamma(a, b)) + tau.kl(Gamma(c, d))
        rows += 0.5 * (jnp.sum(loadings) - scores) + w.entropy() + z.entropy
        found: Array = rows - mu.kl(Normal(0 * prior, prior))
        return found

    def local_factors(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The factors of each row, whose covariances are all the same."""
        gain, own = self._gain(s, q)
        centre = (s.x - q["mu"].mean()) @ gain.T
        return {"z": dist.MultivariateNormal(centre, own.covariance)}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of four features."""
        alpha = random.gamma(self.a, 1 / self.b, self.factors)
        w = random.normal(0, alpha**-0.5, (4, self.factors))
        tau = random.gamma(self.c, 1 / self.d, None if self.common else 4)
        mean = random.normal(size=4) + random.normal(size=(rows, self.factors)) @ w.T
        return {"x": random.normal(mean, tau**-0.5)}

    def _parameters(self, x: Any) -> tuple[Any, Any, Any]:
        """W, mu and the noise's precision of each feature."""
        with numpyro.plate("factor", self.factors):
            alpha = numpyro.sample("alpha", dist.Gamma(self.a, self.b))
        noise = dist.Gamma(self.c, self.d)
        tau = numpyro.sample("tau", noise) if self.common else None
        with numpyro.plate("feature", x.shape[1]):
            w = numpyro.sample("W", dist.Normal(0.0, alpha**-0.5).to_event(1))
            mu = numpyro.sample("mu", dist.Normal(0.0, self.precision**-0.5))
            tau = numpyro.sample("tau", noise) if tau is None else tau
        numpyro.deterministic("log_tau", jnp.log(tau))
        each = jnp.broadcast_to(tau, mu.shape)
        numpyro.deterministic("covariance", w @ w.T + jnp.diag(1 / each))
        return w, mu, each

    def _each(self, of_tau: Array, s: Statistics) -> Float[Array, " d"]:
        return of_tau * jnp.ones_like(s.mean)

    def _relevance(self, w: Gaussian) -> Gamma:
        rate = self.b + 0.5 * jnp.sum(w.square(), axis=0)
        return Gamma(jnp.full_like(rate, self.a + 0.5 * len(w.shift)), rate)

    def _gain(self, s: Statistics, q: dict[str, Any]) -> tuple[Array, Gaussian]:
        """A (K, d), and the factor of a row that is E mu."""
        w, each = q["W"], self._each(q["tau"].mean(), s)
        precision = jnp.eye(self.factors) + jnp.einsum("d,dkl->kl", each, w.second())
        own = Gaussian.of(jnp.zeros(self.factors, each.dtype), precision)
        return own.covariance @ (w.mean().T * each), own

    def _squares(self, s: Statistics, q: dict[str, Any]) -> Float[Array, " d"]:
        """Sum of E (x_ij - mu_j - W_j z_i)^2, by feature."""
        w, mu, z = q["W"], q["mu"], q["z"]
        cross = z.cross + (s.mean - mu.mean())[:, None] * z.total
        fitted = jnp.einsum("dkl,kl->d", w.second(), z.second)
        fitted -= 2 * jnp.sum(w.mean() * cross, axis=1)
        found: Array = jnp.diagonal(s.scatter) + s.rows * mu.square(s.mean) + fitted
        return found


MODEL = FactorAnalysis
