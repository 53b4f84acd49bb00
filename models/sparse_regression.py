"""Linear regression whose coefficients may be zero: spike and slab.

gamma_j ~ Bernoulli(pi), w_j ~ Normal(0, slab^2), tau ~ Gamma(c, d),
y_i ~ Normal(sum_j x_ij gamma_j w_j, 1 / tau); q(tau) prod_j q(w_j, gamma_j), in which
w_j keeps its prior where gamma_j = 0: Titsias and Lazaro-Gredilla (2011); Carbonetto
and Stephens (2012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from annotated_types import Gt, Lt
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.contract import Key
from vi_bench.errors import ModelError
from vi_bench.factors import LOG_2PI, Gamma, Normal, SpikeSlab
from vi_bench.models.linear_regression import LinearRegression, Statistics

DATA = {"x": ("row", "predictor"), "y": ("row",)}

MOST = 10
"""Predictors whose switches can be summed out: 2^10 sets of them."""

OFF = 30.0
"""Log odds of a switch that is off."""

DISPERSED = 3.0
"""Standard deviation of the switches' log odds where an ascent starts."""


class OverSets(dist.Distribution):  # type: ignore[misc]
    """Normal rows whose means use an unknown set of the predictors, summed over.

    Args:
        x: the predictors (N, p).
        w: the coefficients (p,).
        tau: the precision of the noise.
        pi: the probability of each predictor.
    """

    support = dist.constraints.real_vector
    pytree_data_fields = ("x", "w", "tau")
    pytree_aux_fields = ("pi",)

    def __init__(self, x: Any, w: Array, tau: Array, pi: float) -> None:
        self.x, self.w, self.tau, self.pi = jnp.asarray(x), w, tau, pi
        super().__init__(event_shape=(len(x),))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Rows, of a set of predictors for each draw."""
        of_sets, of_noise = jax.random.split(key)
        on = jax.random.bernoulli(of_sets, self.pi, sample_shape + self.w.shape)
        shape = sample_shape + self.event_shape
        noise = jax.random.normal(of_noise, shape, self.w.dtype)
        found: Array = (on * self.w) @ self.x.T + self.tau**-0.5 * noise
        return found

    def log_prob(self, value: Any) -> Float[Array, ""]:
        """The rows enter once, with all predictors; sets take away what is off.

        |y - x (gamma w)|^2 = |r|^2 + 2 v x^T r + v x^T x v, where r = y - x w and
        v = (1 - gamma) w.
        """
        size = len(self.w)
        off = np.array(list(product((0.0, 1.0), repeat=size))).reshape(-1, size)
        without = off.sum(axis=1)
        log_prior = without * np.log1p(-self.pi) + (size - without) * np.log(self.pi)
        left = value - self.x @ self.w
        v = jnp.asarray(off, self.w.dtype) * self.w
        more = v @ (2 * left @ self.x) + jnp.sum(v @ (self.x.T @ self.x) * v, axis=1)
        squares = left @ left + more
        found: Array = 0.5 * len(left) * (jnp.log(self.tau) - LOG_2PI)
        return found + jax.nn.logsumexp(log_prior - 0.5 * self.tau * squares)


@dataclass(frozen=True)
class SparseRegression:
    """Priors of the switches, of the coefficients and of the noise's precision.

    Attributes:
        pi: prior probability of each predictor.
        slab: prior standard deviation of a coefficient.
        c: prior shape of tau.
        d: prior rate of tau.
    """

    pi: Annotated[float, Gt(0), Lt(1)] = 0.3
    slab: Annotated[float, Gt(0)] = 1.0
    c: Annotated[float, Gt(0)] = 1.0
    d: Annotated[float, Gt(0)] = 1.0

    summary: ClassVar[str] = "linear regression on few of the predictors"
    references: ClassVar[tuple[str, ...]] = ("titsias2011", "carbonetto2012")
    compared: ClassVar[tuple[str, ...]] = ("w", "log_tau")

    def model(self, x: Any, y: Any) -> None:
        """Coefficients w and precision tau; all sets of predictors are summed over."""
        size = x.shape[1]
        if size > MOST:
            raise ModelError(
                f"sparse-regression: {size} predictors are 2^{size} sets of them, "
                f"which its density sums over; expected at most {MOST}"
            )
        w, tau = self._sampled(size)
        numpyro.sample("y", OverSets(x, w, tau, self.pi), obs=y)

    def full(self, x: Any, y: Any) -> None:
        """Coefficients w, precision tau, and the switches gamma."""
        w, tau = self._sampled(x.shape[1])
        with numpyro.plate("coefficient", x.shape[1]):
            gamma = numpyro.sample("gamma", dist.Bernoulli(self.pi))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(x @ (gamma * w), tau**-0.5), obs=y)

    def statistics(self, x: Any, y: Any) -> Statistics:
        """Those of linear regression."""
        return LinearRegression().statistics(x, y)

    def init(self, key: Key, s: Statistics) -> dict[str, Any]:
        """Coefficients from the prior, switches at random or all off; any precision."""
        one, two, three, four = jax.random.split(key, 4)
        log_odds = DISPERSED * jax.random.normal(one, s.cross.shape, s.cross.dtype)
        log_odds -= jnp.where(jax.random.bernoulli(four), OFF, 0.0)
        drawn = jax.random.normal(two, s.cross.shape, s.cross.dtype) / self.slab
        slab = self._slab(s)
        w = SpikeSlab.of(log_odds, Normal(drawn, slab.precision), slab)
        rate = self.c * s.squares / jnp.maximum(s.rows, 1) + self.d
        tau = Gamma(jnp.asarray(self.c), rate * jax.random.gamma(three, 2.0) / 2)
        return {"w": w, "tau": tau}

    def local(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """Q itself: the switches are in the factor of the coefficients."""
        return q

    def sweep(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """One coefficient with its switch after the other, then the precision."""
        prior, each, size = self._prior(s), q["tau"].mean(), jnp.diagonal(s.gram)
        best = replace(prior, precision=prior.precision + each * size)
        effect = q["w"].effect()
        left = s.slope + s.gram @ (s.near - effect)  # x^T (y - x E[gamma w])

        def update(
            j: Array, carry: tuple[SpikeSlab, Array, Array]
        ) -> tuple[SpikeSlab, Array, Array]:
            w, effect, left = carry
            shift = each * (left[j] + size[j] * effect[j])
            w = replace(w, shift=w.shift.at[j].set(shift))
            new = SpikeSlab(*(value[j] for value in w.natural())).effect()
            left = left - s.gram[j] * (new - effect[j])
            return w, effect.at[j].set(new), left

        w = jax.lax.fori_loop(0, len(size), update, (best, effect, left))[0]
        tau = Gamma(self.c + 0.5 * s.rows, self.d + 0.5 * self._square(s, w))
        return {"w": w, "tau": tau}

    def bound(self, s: Statistics, q: dict[str, Any]) -> Float[Array, ""]:
        """E log p(y | w, gamma, tau) minus the divergences."""
        w, tau = q["w"], q["tau"]
        likelihood = 0.5 * s.rows * (tau.mean_log() - LOG_2PI)
        likelihood -= 0.5 * tau.mean() * self._square(s, w)
        noise = tau.kl(Gamma(jnp.asarray(self.c), jnp.asarray(self.d)))
        found: Array = likelihood - w.kl(self._prior(s)) - noise
        return found

    def local_factors(self, s: Statistics, q: dict[str, Any]) -> dict[str, Any]:
        """The switches gamma (p,), given the coefficients."""

        def gamma(w: Array) -> dist.Distribution:
            return dist.Bernoulli(logits=q["w"].log_odds_given(w))

        return {"gamma": gamma}

    def example(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Rows of four predictors, two of which are correlated."""
        x = random.normal(size=(rows, 4))
        x[:, 3] += x[:, 2]
        w = (random.random(4) < self.pi) * random.normal(0, self.slab, 4)
        tau = random.gamma(self.c, 1 / self.d)
        return {"x": x, "y": random.normal(x @ w, tau**-0.5)}

    def _sampled(self, size: int) -> tuple[Array, Array]:
        """The coefficients and the precision as sites."""
        with numpyro.plate("coefficient", size):
            w = numpyro.sample("w", dist.Normal(0.0, self.slab))
        tau = numpyro.sample("tau", dist.Gamma(self.c, self.d))
        numpyro.deterministic("log_tau", jnp.log(tau))
        return w, tau

    def _slab(self, s: Statistics) -> Normal:
        """The prior of the coefficients."""
        zero = jnp.zeros_like(s.cross)
        return Normal(zero, zero + self.slab**-2)

    def _prior(self, s: Statistics) -> SpikeSlab:
        """That of coefficients and switches; `weight` is the same in an optimal q."""
        log_odds = jnp.full_like(s.cross, np.log(self.pi / (1 - self.pi)))
        return SpikeSlab.of(log_odds, self._slab(s), self._slab(s))

    def _square(self, s: Statistics, w: SpikeSlab) -> Float[Array, ""]:
        """E |y - x (gamma w)|^2, the variances of gamma w included."""
        away = w.effect() - s.near
        spread = jnp.sum(jnp.diagonal(s.gram) * w.spread())
        return s.squares - 2 * away @ s.slope + away @ s.gram @ away + spread


MODEL = SparseRegression
