"""Spike-and-slab regression: CAVI by hand, right and with one fault each.

Titsias and Lazaro-Gredilla (2011), Carbonetto and Stephens (2012): weight j is
gamma_j beta_j; q(gamma_j) q(beta_j | gamma_j), one j after the other.
Every mutant overrides one step of a right one. Its docstring names the fault.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import entr, expit, logit

PI, SLAB, NOISE = 0.3, 1.5, 0.8  # P(gamma = 1), sd of beta, sd of the noise
LOG_2PI = np.log(2 * np.pi)


def model(X, y):
    """Switches gamma (p,) and effects beta (p,)."""
    with numpyro.plate("column", X.shape[1]):
        gamma = numpyro.sample("gamma", dist.Bernoulli(PI))
        beta = numpyro.sample("beta", dist.Normal(0, SLAB))
    numpyro.sample("y", dist.Normal(X @ (gamma * beta), NOISE), obs=y)


def data(seed=0):
    """24 rows of 5 covariates simulated from the model."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(24, 5)) + 0.5 * random.normal(size=(24, 1))
    w = (random.random(5) < PI) * random.normal(0, SLAB, 5)
    return {"X": X, "y": X @ w + random.normal(0, NOISE, 24)}


class Right:
    """q(gamma_j = 1) is phi_j, q(beta_j | gamma_j = 1) is N(m_j, v_j)."""

    tol = 1e-12
    most = 3000

    def __call__(self, X, y, seed):
        X, y = self.prepare(X, y)
        q = self.start(X, np.random.default_rng(seed))
        trace = []
        while len(trace) < self.most and not self.ended(trace):
            q = self.sweep(X, y, q)
            trace.append(self.bound(X, y, q))
        return {"q": self.factors(q), "elbo": trace}

    def prepare(self, X, y):
        return np.asarray(X, float), np.asarray(y, float)

    def start(self, X, random):
        p = X.shape[1]
        phi, m = random.random(p), random.normal(size=p)
        return {"phi": phi, "m": m, "v": np.full(p, SLAB**2)}

    def order(self, p):
        return range(p)

    def sweep(self, X, y, q):
        phi, m, v = q["phi"].copy(), q["m"].copy(), self.variance(X)
        for j in self.order(len(m)):
            m[j] = self.mean(X[:, j], self.rest(X, y, phi, m, j), v[j])
            phi[j] = expit(self.log_odds(m[j], v[j]))
        return {"phi": phi, "m": m, "v": v}

    def variance(self, X):
        return 1 / (np.sum(X**2, axis=0) / NOISE**2 + SLAB**-2)

    def rest(self, X, y, phi, m, j):
        """What the other effects leave of y."""
        return y - X @ (phi * m) + X[:, j] * phi[j] * m[j]

    def mean(self, x, rest, v):
        return v * (x @ rest) / NOISE**2

    def log_odds(self, m, v):
        return logit(PI) + 0.5 * np.log(v / SLAB**2) + m**2 / (2 * v)

    def spread(self, q):
        """The variance of gamma_j beta_j."""
        phi, m, v = q["phi"], q["m"], q["v"]
        return phi * (v + m**2) - (phi * m) ** 2

    def likelihood(self, X, y, q):
        square = np.sum((y - X @ (q["phi"] * q["m"])) ** 2)
        square += np.sum(X**2, axis=0) @ self.spread(q)
        return -len(y) / 2 * (LOG_2PI + 2 * np.log(NOISE)) - square / (2 * NOISE**2)

    def kl_slab(self, q):
        """KL(q(beta_j | gamma_j = 1) || prior); of gamma_j = 0 it is zero."""
        ratio = q["v"] / SLAB**2
        return 0.5 * (ratio + q["m"] ** 2 / SLAB**2 - 1 - np.log(ratio))

    def kl_switch(self, q):
        phi = q["phi"]
        prior = phi * np.log(PI) + (1 - phi) * np.log(1 - PI)
        return np.sum(-entr(phi) - entr(1 - phi) - prior)

    def bound(self, X, y, q):
        return self.likelihood(X, y, q) - q["phi"] @ self.kl_slab(q) - self.kl_switch(q)

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def factors(self, q):
        m, s = q["m"], np.sqrt(q["v"])

        def beta(gamma):
            return dist.Normal(gamma * m, jnp.where(gamma > 0, s, SLAB))

        return {"gamma": dist.Bernoulli(probs=q["phi"]), "beta": beta}


class RightJax:
    """A while_loop over sweeps with a running residual; q(gamma) by its log odds."""

    most = 2000

    def __call__(self, X, y, seed):
        X, y = jnp.asarray(X, float), jnp.asarray(y, float)
        odds, m, s, trace, n = self.climb(X, y, jax.random.key(seed))

        def beta(gamma):
            return dist.Normal(
                jnp.where(gamma == 1, m, 0.0), jnp.where(gamma == 1, s, SLAB)
            )

        q = {"gamma": dist.Bernoulli(logits=odds), "beta": beta}
        return {"q": q, "elbo": np.asarray(trace[:n])}

    @partial(jax.jit, static_argnums=0)
    def climb(self, X, y, key):
        p = X.shape[1]
        s = self.sd(X)

        def on(state):
            *_, trace, n = state
            rise = trace[n - 1] - trace[n - 2]
            small = rise < 1e-12 * (1 + jnp.abs(trace[n - 1]))
            return (n < 2) | ((n < self.most) & ~small)

        def sweep(state):
            odds, m, trace, n = state
            residual = y - X @ (jax.nn.sigmoid(odds) * m)
            one = partial(self.coordinate, X, s)
            odds, m, _ = jax.lax.fori_loop(0, p, one, (odds, m, residual))
            return odds, m, trace.at[n].set(self.bound(X, y, odds, m, s)), n + 1

        state = (jax.random.normal(key, (p,)), jnp.zeros(p), jnp.zeros(self.most), 0)
        odds, m, trace, n = jax.lax.while_loop(on, sweep, state)
        return odds, m, s, trace, n

    def sd(self, X):
        return (jnp.sum(X**2, axis=0) / NOISE**2 + SLAB**-2) ** -0.5

    def coordinate(self, X, s, j, state):
        odds, m, residual = state
        residual = residual + X[:, j] * jax.nn.sigmoid(odds[j]) * m[j]
        new = s[j] ** 2 * (X[:, j] @ residual) / NOISE**2
        now = self.log_odds(new, s[j])
        residual = residual - X[:, j] * jax.nn.sigmoid(now) * new
        return odds.at[j].set(now), m.at[j].set(new), residual

    def log_odds(self, m, s):
        return np.log(PI / (1 - PI)) + jnp.log(s / SLAB) + 0.5 * (m / s) ** 2

    def bound(self, X, y, odds, m, s):
        phi = jax.nn.sigmoid(odds)
        w, ww = phi * m, phi * (m**2 + s**2)
        square = y @ y - 2 * y @ (X @ w) + jnp.sum((X @ w) ** 2)
        square += jnp.sum(X**2, axis=0) @ (ww - w**2)
        fit = -len(y) / 2 * (LOG_2PI + 2 * np.log(NOISE)) - square / (2 * NOISE**2)
        slab = jnp.log(s / SLAB) + 0.5 - (m**2 + s**2) / (2 * SLAB**2)
        on = np.log(PI) - jax.nn.log_sigmoid(odds) + slab
        off = np.log(1 - PI) - jax.nn.log_sigmoid(-odds)
        return fit + jnp.sum(phi * on + (1 - phi) * off)


class RightBackwards(Right):
    """From the last coordinate to the first, all switched on at the start."""

    def start(self, X, random):
        p = X.shape[1]
        return {"phi": np.ones(p), "m": np.zeros(p), "v": np.ones(p)}

    def order(self, p):
        return reversed(range(p))


class RightDamped(Right):
    """A half step in the log odds of every coordinate."""

    def sweep(self, X, y, q):
        phi, m, v = q["phi"].copy(), q["m"].copy(), self.variance(X)
        for j in range(len(m)):
            m[j] = self.mean(X[:, j], self.rest(X, y, phi, m, j), v[j])
            odds = logit(phi[j]) + self.log_odds(m[j], v[j])
            phi[j] = expit(odds / 2)
        return {"phi": phi, "m": m, "v": v}


class Independent(Right):
    """Coarse: beta is independent of gamma, one Normal whichever gamma is."""

    def sweep(self, X, y, q):
        phi, m, v = q["phi"].copy(), q["m"].copy(), q["v"].copy()
        size = np.sum(X**2, axis=0) / NOISE**2
        for j in range(len(m)):
            fit = X[:, j] @ self.rest(X, y, phi, m, j) / NOISE**2
            v[j] = 1 / (phi[j] * size[j] + SLAB**-2)
            m[j] = v[j] * phi[j] * fit
            gain = m[j] * fit - size[j] * (m[j] ** 2 + v[j]) / 2
            phi[j] = expit(logit(PI) + gain)
        return {"phi": phi, "m": m, "v": v}

    def bound(self, X, y, q):
        return self.likelihood(X, y, q) - self.kl_slab(q).sum() - self.kl_switch(q)

    def factors(self, q):
        beta = dist.Normal(q["m"], np.sqrt(q["v"]))
        return super().factors(q) | {"beta": beta}


class PointEffect(Right):
    """Coarse: beta is its most probable value, gamma is as in mean field."""

    def sweep(self, X, y, q):
        phi, m = q["phi"].copy(), q["m"].copy()
        size = np.sum(X**2, axis=0) / NOISE**2
        for j in range(len(m)):
            fit = X[:, j] @ self.rest(X, y, phi, m, j) / NOISE**2
            m[j] = phi[j] * fit / (phi[j] * size[j] + SLAB**-2)
            phi[j] = expit(logit(PI) + m[j] * fit - size[j] * m[j] ** 2 / 2)
        return {"phi": phi, "m": m, "v": np.zeros_like(m)}

    def bound(self, X, y, q):
        prior = -0.5 * np.sum(LOG_2PI + 2 * np.log(SLAB) + (q["m"] / SLAB) ** 2)
        return self.likelihood(X, y, q) + prior - self.kl_switch(q)

    def factors(self, q):
        return super().factors(q) | {"beta": dist.Delta(q["m"])}


class NoVolume(Right):
    """log of sd over slab's sd is left out of the log odds."""

    def log_odds(self, m, v):
        return logit(PI) + m**2 / (2 * v)


class VolumeWithoutHalf(Right):
    """log of the variances' ratio without its 1/2 in the log odds."""

    def log_odds(self, m, v):
        return super().log_odds(m, v) + 0.5 * np.log(v / SLAB**2)


class NoPriorOdds(Right):
    """The prior's odds are left out of the log odds."""

    def log_odds(self, m, v):
        return super().log_odds(m, v) - logit(PI)


class LogForLogit(Right):
    """log PI for log(PI / (1 - PI)) in the log odds."""

    def log_odds(self, m, v):
        return super().log_odds(m, v) + np.log(1 - PI)


class SlabPriorInOdds(Right):
    """The square of m is over the slab's variance, not its own, in the log odds."""

    def log_odds(self, m, v):
        return logit(PI) + 0.5 * np.log(v / SLAB**2) + m**2 / (2 * SLAB**2)


class OwnEffectKept(Right):
    """The residual of a coordinate still has its own effect taken off."""

    def rest(self, X, y, phi, m, j):
        return y - X @ (phi * m)


class SlabForMean(Right):
    """The other effects count as if they were switched on: m for phi m."""

    def rest(self, X, y, phi, m, j):
        return y - X @ m + X[:, j] * m[j]


class NoSpread(Right):
    """The variance of gamma beta is left out of the bound."""

    def spread(self, q):
        return 0 * q["v"]


class SpreadOfSlab(Right):
    """The variance of gamma beta is taken as phi v, without that of gamma."""

    def spread(self, q):
        return q["phi"] * q["v"]


class PhiSquared(Right):
    """phi^2 for phi with the variance of beta."""

    def spread(self, q):
        return super().spread(q) - q["phi"] * (1 - q["phi"]) * q["v"]


class VarianceForPrecision(Right):
    """The slab's variance for its precision in the variance of beta."""

    def variance(self, X):
        return 1 / (np.sum(X**2, axis=0) / NOISE**2 + SLAB**2)


class NoNoiseInVariance(Right):
    """The noise's variance is left out of the variance of beta."""

    def variance(self, X):
        return 1 / (np.sum(X**2, axis=0) + SLAB**-2)


class NoiseSdForVariance(Right):
    """The noise's sd for its variance in the mean of beta."""

    def mean(self, x, rest, v):
        return v * (x @ rest) / NOISE


class KLWithoutPhi(Right):
    """The slab's divergence counts whether the switch is on or off."""

    def bound(self, X, y, q):
        kl = self.kl_slab(q).sum() + self.kl_switch(q)
        return self.likelihood(X, y, q) - kl


class NoKLOfSlab(Right):
    """The slab's divergence is left out of the bound."""

    def kl_slab(self, q):
        return 0 * q["v"]


class NoEntropyOfSwitch(Right):
    """The entropy of q(gamma) is left out of the bound."""

    def kl_switch(self, q):
        return super().kl_switch(q) + np.sum(entr(q["phi"]) + entr(1 - q["phi"]))


class HalfEntropyOfSwitch(Right):
    """(1 - phi) log(1 - phi) is left out of the entropy of q(gamma)."""

    def kl_switch(self, q):
        return super().kl_switch(q) + np.sum(entr(1 - q["phi"]))


class KLSign(Right):
    """The switches' divergence is added, not subtracted."""

    def kl_switch(self, q):
        return -super().kl_switch(q)


class NarrowSpike(Right):
    """The returned beta is nearly zero where gamma = 0, not the prior's."""

    def factors(self, q):
        m, s = q["m"], np.sqrt(q["v"])

        def beta(gamma):
            return dist.Normal(gamma * m, jnp.where(gamma > 0, s, 0.01))

        return super().factors(q) | {"beta": beta}


class SlabWhateverGamma(Right):
    """The returned beta is the slab's whether gamma is on or off."""

    def factors(self, q):
        return super().factors(q) | {"beta": dist.Normal(q["m"], np.sqrt(q["v"]))}


class EffectReturned(Right):
    """The returned mean of beta is phi m, that of the effect gamma beta."""

    def factors(self, q):
        return super().factors(q | {"m": q["phi"] * q["m"]})


class VarianceForSd(Right):
    """The returned beta has its variance where the sd belongs."""

    def factors(self, q):
        return super().factors(q | {"v": q["v"] ** 2})


class Thresholded(Right):
    """The returned switches are rounded to nearly 0 and 1."""

    def factors(self, q):
        return super().factors(q | {"phi": np.where(q["phi"] > 0.5, 0.999, 0.001)})


class LastRowLost(Right):
    """X'y leaves out the last row; the bound is right."""

    def mean(self, x, rest, v):
        return super().mean(x[:-1], rest[:-1], v)


class FirstNeverUpdated(Right):
    """The first coordinate is never updated."""

    def order(self, p):
        return range(1, p)


class StandardisedColumns(Right):
    """The columns are standardised inside, and the effects are not scaled back."""

    def prepare(self, X, y):
        X, y = super().prepare(X, y)
        return (X / np.maximum(X.std(axis=0), 0.1) if len(y) else X), y


class StoppedEarly(Right):
    """One sweep, whatever it reaches."""

    most = 1


class NoConstant(Right):
    """The likelihood's constant, log 2 pi and the noise's, is dropped."""

    constant = True

    def likelihood(self, X, y, q):
        dropped = len(y) / 2 * (LOG_2PI + 2 * np.log(NOISE))
        return super().likelihood(X, y, q) + dropped


class PriorOddsInBound(Right):
    """phi logit(PI) for the prior of the switches in the bound: log(1 - PI) is lost."""

    constant = True

    def kl_switch(self, q):
        return super().kl_switch(q) + len(q["phi"]) * np.log(1 - PI)


class JaxNoHalf(RightJax):
    """The 1/2 of m^2 / v is missing in the log odds."""

    def log_odds(self, m, s):
        return super().log_odds(m, s) + 0.5 * (m / s) ** 2


class JaxVariance(RightJax):
    """sd and variance are confused in log sd over slab's sd."""

    def log_odds(self, m, s):
        return super().log_odds(m, s) + jnp.log(s)


RIGHT = [Right, RightJax, RightBackwards, RightDamped]
COARSE = [Independent, PointEffect]
MUTANTS = [
    NoVolume,
    VolumeWithoutHalf,
    NoPriorOdds,
    LogForLogit,
    SlabPriorInOdds,
    OwnEffectKept,
    SlabForMean,
    NoSpread,
    SpreadOfSlab,
    PhiSquared,
    VarianceForPrecision,
    NoNoiseInVariance,
    NoiseSdForVariance,
    KLWithoutPhi,
    NoKLOfSlab,
    NoEntropyOfSwitch,
    HalfEntropyOfSwitch,
    KLSign,
    NarrowSpike,
    SlabWhateverGamma,
    EffectReturned,
    VarianceForSd,
    Thresholded,
    LastRowLost,
    FirstNeverUpdated,
    StandardisedColumns,
    StoppedEarly,
    NoConstant,
    PriorOddsInBound,
    JaxNoHalf,
    JaxVariance,
]
