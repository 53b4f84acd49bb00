"""Normal data with unknown mean and precision: CAVI by hand, right and with one fault.

The priors of the mean and the precision are independent, q(mu) q(tau) is mean field.
Every mutant overrides one step of a right one. Its docstring names the fault.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import digamma as jax_digamma
from jax.scipy.special import gammaln as jax_gammaln
from scipy import stats
from scipy.special import digamma, gammaln

M0, K0 = 0.5, 0.25  # mu ~ N(M0, 1 / K0)
A0, B0 = 3.0, 2.0  # tau ~ Gamma(A0, B0)
LOG_2PI = np.log(2 * np.pi)


def model(x):
    """The mean mu and the precision tau of x (N,)."""
    mu = numpyro.sample("mu", dist.Normal(M0, K0**-0.5))
    tau = numpyro.sample("tau", dist.Gamma(A0, B0))
    row = dist.Normal(mu, tau**-0.5)
    numpyro.sample("x", row.expand([len(x)]).to_event(1), obs=x)  # no plate of 0 rows


def data(seed=0):
    """30 rows simulated from the model."""
    random = np.random.default_rng(seed)
    mu, tau = random.normal(M0, K0**-0.5), random.gamma(A0, 1 / B0)
    return {"x": random.normal(mu, tau**-0.5, 30)}


class Right:
    """Coordinate ascent; q is a dictionary of m, v, a, b."""

    tol = 1e-12
    most = 5000

    def __call__(self, x, seed):
        x = self.prepare(x)
        q = self.start(x, np.random.default_rng(seed))
        trace = []
        while len(trace) < self.most and not self.ended(trace):
            q = self.sweep(x, q)
            trace.append(self.bound(x, q))
        return {"q": self.factors(q), "elbo": trace}

    def prepare(self, x):
        return np.asarray(x, float)

    def start(self, x, random):
        return {"m": random.normal(), "v": 1.0, "a": A0, "b": B0 * random.gamma(2)}

    def sweep(self, x, q):
        q = q | self.mean(x, q)
        return q | self.precision(x, q)

    def tau(self, q):
        """E[tau] and E[log tau]."""
        return q["a"] / q["b"], digamma(q["a"]) - np.log(q["b"])

    def mean(self, x, q):
        tau, _ = self.tau(q)
        v = 1 / (K0 + len(x) * tau)
        return {"m": v * (K0 * M0 + tau * x.sum()), "v": v}

    def square(self, x, q):
        """E of the sum of (x - mu)^2."""
        return np.sum((x - q["m"]) ** 2) + len(x) * q["v"]

    def precision(self, x, q):
        return {"a": A0 + len(x) / 2, "b": B0 + self.square(x, q) / 2}

    def likelihood(self, x, q):
        tau, log_tau = self.tau(q)
        return len(x) / 2 * (log_tau - LOG_2PI) - tau / 2 * self.square(x, q)

    def prior_mean(self, q):
        far = (q["m"] - M0) ** 2 + q["v"]
        return 0.5 * (np.log(K0) - LOG_2PI - K0 * far)

    def prior_precision(self, q):
        tau, log_tau = self.tau(q)
        return A0 * np.log(B0) - gammaln(A0) + (A0 - 1) * log_tau - B0 * tau

    def entropy_mean(self, q):
        return 0.5 * (1 + LOG_2PI + np.log(q["v"]))

    def entropy_precision(self, q):
        a = q["a"]
        return a - np.log(q["b"]) + gammaln(a) + (1 - a) * digamma(a)

    def bound(self, x, q):
        expected = self.likelihood(x, q) + self.prior_mean(q) + self.prior_precision(q)
        return expected + self.entropy_mean(q) + self.entropy_precision(q)

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def factors(self, q):
        return {
            "mu": dist.Normal(q["m"], np.sqrt(q["v"])),
            "tau": dist.Gamma(q["a"], q["b"]),
        }


class RightJax:
    """The same ascent as one while_loop, from sums of x and of its squares.

    The precision comes first, and the bound is log p(x) minus divergences.
    """

    most = 2000

    def __call__(self, x, seed):
        x = jnp.asarray(x, float)
        m, s, a, b, trace, n = self.climb(x, jax.random.key(seed))
        q = {"mu": dist.Normal(m, s), "tau": dist.Gamma(a, b)}
        return {"q": q, "elbo": np.asarray(trace[:n])}

    @partial(jax.jit, static_argnums=0)
    def climb(self, x, key):
        sums = (len(x), x.sum(), (x**2).sum())

        def on(state):
            *_, trace, n = state
            rise = trace[n - 1] - trace[n - 2]
            small = rise < 1e-12 * (1 + jnp.abs(trace[n - 1]))
            return (n < 2) | ((n < self.most) & ~small)

        def sweep(state):
            m, s, _, _, trace, n = state
            a, b = self.noise(sums, m, s)
            m, s = self.location(sums, a, b)
            return m, s, a, b, trace.at[n].set(self.bound(sums, m, s, a, b)), n + 1

        one = jnp.ones(())
        start = (jax.random.normal(key), one, A0 * one, B0 * one)
        return jax.lax.while_loop(on, sweep, (*start, jnp.zeros(self.most), 0))

    def square(self, sums, m, s):
        n, first, second = sums
        return second - 2 * m * first + n * (m**2 + s**2)

    def noise(self, sums, m, s):
        return A0 + sums[0] / 2, B0 + self.square(sums, m, s) / 2

    def location(self, sums, a, b):
        n, first, _ = sums
        precision = K0 + n * a / b
        return (K0 * M0 + a / b * first) / precision, precision**-0.5

    def log_tau(self, a, b):
        return jax_digamma(a) - jnp.log(b)

    def bound(self, sums, m, s, a, b):
        log_tau = self.log_tau(a, b)
        likelihood = sums[0] / 2 * (log_tau - LOG_2PI)
        likelihood -= a / b * self.square(sums, m, s) / 2
        return likelihood - self.kl_normal(m, s) - self.kl_gamma(a, b)

    def kl_normal(self, m, s):
        return 0.5 * (K0 * (s**2 + (m - M0) ** 2) - 1 - jnp.log(K0 * s**2))

    def kl_gamma(self, a, b):
        terms = (a - A0) * jax_digamma(a) - jax_gammaln(a) + jax_gammaln(A0)
        return terms + A0 * jnp.log(b / B0) + a * (B0 - b) / b


class RightCentred(Right):
    """Sums about the sample mean, half steps for tau, SciPy's distributions."""

    def square(self, x, q):
        if not len(x):
            return 0.0
        return len(x) * (x.var() + (x.mean() - q["m"]) ** 2 + q["v"])

    def precision(self, x, q):
        new = super().precision(x, q)
        return {k: (q[k] + new[k]) / 2 for k in new}

    def factors(self, q):
        return {
            "mu": stats.norm(q["m"], np.sqrt(q["v"])),
            "tau": stats.gamma(q["a"], scale=1 / q["b"]),
        }


class RightPlain(Right):
    """Factors as plain dictionaries of parameters."""

    def factors(self, q):
        return {
            "mu": {"loc": np.array(q["m"]), "scale": np.sqrt(q["v"])},
            "tau": {"concentration": q["a"], "rate": q["b"]},
        }


class PointPrecision(Right):
    """Coarse: tau is its most probable value (EM)."""

    def tau(self, q):
        mode = (q["a"] - 1) / q["b"]
        return mode, np.log(mode)

    def entropy_precision(self, q):
        return 0.0

    def factors(self, q):
        return super().factors(q) | {"tau": dist.Delta(self.tau(q)[0])}


class PointMean(Right):
    """Coarse: mu is its most probable value."""

    def mean(self, x, q):
        return super().mean(x, q) | {"v": 0.0}

    def entropy_mean(self, q):
        return 0.0

    def factors(self, q):
        tau = dist.Gamma(q["a"], q["b"])
        return {"mu": dist.Delta(np.array(q["m"])), "tau": tau}


class LogNormalPrecision(Right):
    """Coarse: log tau is Normal, fitted in closed form.

    The bound in (u, s) is a u - b exp(u + s^2 / 2) + log s, so s^2 = 1 / a.
    """

    def log_normal(self, q):
        return np.log(q["a"] / q["b"]) - 0.5 / q["a"], q["a"] ** -0.5

    def tau(self, q):
        return q["a"] / q["b"], self.log_normal(q)[0]

    def entropy_precision(self, q):
        u, s = self.log_normal(q)
        return u + 0.5 * (1 + LOG_2PI) + np.log(s)

    def factors(self, q):
        return super().factors(q) | {"tau": dist.LogNormal(*self.log_normal(q))}


class LogOfMean(Right):
    """log E[tau] for E[log tau] in the bound.

    The shape is fixed by N, so all bounds of one N are off by the same number.
    """

    constant = True

    def tau(self, q):
        mean = q["a"] / q["b"]
        return mean, np.log(mean)


class NoVarianceOfMean(Right):
    """The variance of mu is left out of E(x - mu)^2, in the update and the bound."""

    def square(self, x, q):
        return np.sum((x - q["m"]) ** 2)


class NoVarianceInRate(Right):
    """The variance of mu is left out of the rate only; the bound is right."""

    def precision(self, x, q):
        return super().precision(x, q | {"v": 0.0})


class ShapeWithoutHalf(Right):
    """N for N/2 in the shape of tau."""

    def precision(self, x, q):
        return super().precision(x, q) | {"a": A0 + len(x)}


class RateWithoutHalf(Right):
    """The 1/2 is missing in the rate of tau."""

    def precision(self, x, q):
        return super().precision(x, q) | {"b": B0 + self.square(x, q)}


class ConjugatePrior(Right):
    """Updates of the conjugate prior, where mu's variance is 1 / (K0 tau)."""

    def mean(self, x, q):
        tau, _ = self.tau(q)
        m = (K0 * M0 + x.sum()) / (K0 + len(x))
        return {"m": m, "v": 1 / ((K0 + len(x)) * tau)}

    def precision(self, x, q):
        far = self.square(x, q) + K0 * ((q["m"] - M0) ** 2 + q["v"])
        return {"a": A0 + (len(x) + 1) / 2, "b": B0 + far / 2}


class NoPriorMean(Right):
    """The prior's mean is left out of the update of mu."""

    def mean(self, x, q):
        tau, _ = self.tau(q)
        v = 1 / (K0 + len(x) * tau)
        return {"m": v * tau * x.sum(), "v": v}


class VarianceForPrecision(Right):
    """1 / K0 for K0 in the update of mu."""

    def mean(self, x, q):
        tau, _ = self.tau(q)
        v = 1 / (1 / K0 + len(x) * tau)
        return {"m": v * (M0 / K0 + tau * x.sum()), "v": v}


class NoEntropy(Right):
    """The entropy of q(tau) is left out of the bound."""

    def entropy_precision(self, q):
        return 0.0


class KLSign(Right):
    """The divergence of mu from its prior is added, not subtracted."""

    def bound(self, x, q):
        minus_kl = self.prior_mean(q) + self.entropy_mean(q)
        return super().bound(x, q) - 2 * minus_kl


class PriorTwice(Right):
    """B0 E[tau] counts twice in the bound."""

    def prior_precision(self, q):
        return super().prior_precision(q) - B0 * self.tau(q)[0]


class ScaleForRate(Right):
    """The returned Gamma has the scale where the rate belongs."""

    def factors(self, q):
        return super().factors(q) | {"tau": dist.Gamma(q["a"], 1 / q["b"])}


class VarianceForSd(Right):
    """The returned Normal has the variance where the sd belongs."""

    def factors(self, q):
        return super().factors(q) | {"mu": dist.Normal(q["m"], q["v"])}


class StaleSquares(Right):
    """The squared residuals are computed once, at the start."""

    def __call__(self, x, seed):
        q = self.start(x, np.random.default_rng(seed))
        self.kept = super().square(self.prepare(x), q)
        return super().__call__(x, seed)

    def precision(self, x, q):
        return {"a": A0 + len(x) / 2, "b": B0 + self.kept / 2}


class FirstRowLost(Right):
    """The first row is dropped from the data, as if it were a header."""

    def prepare(self, x):
        return super().prepare(x)[1:]


class LastRowLost(Right):
    """The sum in the update of mu leaves out the last row; the bound is right."""

    def mean(self, x, q):
        tau, _ = self.tau(q)
        v = 1 / (K0 + len(x) * tau)
        return {"m": v * (K0 * M0 + tau * x[:-1].sum()), "v": v}


class UnbiasedVariance(RightCentred):
    """N - 1 for N in the sample variance."""

    def square(self, x, q):
        if len(x) < 2:
            return super().square(x, q)
        return len(x) * (x.var(ddof=1) + (x.mean() - q["m"]) ** 2 + q["v"])


class CentredInPlace(Right):
    """The data are centred in place, and mu is that of the centred data."""

    def prepare(self, x):
        if len(x):
            x -= x.mean()
        return x


class PreviousSweep(Right):
    """Stops at a rise of 0.05, and returns the factors of the sweep before the last."""

    def __call__(self, x, seed):
        x, trace = self.prepare(x), []
        new = old = self.start(x, np.random.default_rng(seed))
        while len(trace) < 2 or trace[-1] - trace[-2] > 0.05:
            old, new = new, self.sweep(x, new)
            trace.append(self.bound(x, new))
        return {"q": self.factors(old), "elbo": trace}


class StoppedEarly(Right):
    """One sweep, whatever it reaches."""

    most = 1


class NoConstant(Right):
    """log 2 pi of the rows is dropped."""

    constant = True

    def likelihood(self, x, q):
        return super().likelihood(x, q) + len(x) / 2 * LOG_2PI


class NoNormaliser(Right):
    """The prior Gamma's normaliser is dropped."""

    constant = True

    def prior_precision(self, q):
        return super().prior_precision(q) - A0 * np.log(B0) + gammaln(A0)


class HalfInDivergence(RightJax):
    """The -1 of the Normal's divergence is left out, a constant 1/2."""

    constant = True

    def kl_normal(self, m, s):
        return super().kl_normal(m, s) + 0.5


class JaxLogOfMean(RightJax):
    """log E[tau] for E[log tau] in the likelihood.

    The shape is fixed by N, so all bounds of one N are off by the same number.
    """

    constant = True

    def log_tau(self, a, b):
        return jnp.log(a / b)


class DivergenceSwapped(RightJax):
    """KL(p || q) for KL(q || p) of mu."""

    def kl_normal(self, m, s):
        ratio = 1 / (K0 * s**2)
        return 0.5 * (ratio + (m - M0) ** 2 / s**2 - 1 - jnp.log(ratio))


RIGHT = [Right, RightJax, RightCentred, RightPlain]
COARSE = [PointPrecision, PointMean, LogNormalPrecision]
MUTANTS = [
    LogOfMean,
    NoVarianceOfMean,
    NoVarianceInRate,
    ShapeWithoutHalf,
    RateWithoutHalf,
    ConjugatePrior,
    NoPriorMean,
    VarianceForPrecision,
    NoEntropy,
    KLSign,
    PriorTwice,
    ScaleForRate,
    VarianceForSd,
    StaleSquares,
    FirstRowLost,
    LastRowLost,
    UnbiasedVariance,
    CentredInPlace,
    PreviousSweep,
    StoppedEarly,
    NoConstant,
    NoNormaliser,
    HalfInDivergence,
    JaxLogOfMean,
    DivergenceSwapped,
]
