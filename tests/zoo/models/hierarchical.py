"""Group means with a common mean: CAVI by hand, right and with one fault each.

Rows are groups, columns are repeated measurements. Gelman et al. (2013), section 11.6,
with proper priors. Every mutant overrides one step of a right one; its docstring names
the fault.
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

M0, S0 = 1.0, 2.0  # mu ~ N(M0, S0^2)
A, B = 3.0, 2.0  # tau ~ Gamma(A, B), the precision within groups
C, D = 2.5, 1.5  # lam ~ Gamma(C, D), the precision between groups
LOG_2PI = np.log(2 * np.pi)


def model(x):
    """Group means theta (J,) of x (J, n), their mean mu and precision lam, and tau."""
    mu = numpyro.sample("mu", dist.Normal(M0, S0))
    lam = numpyro.sample("lam", dist.Gamma(C, D))
    tau = numpyro.sample("tau", dist.Gamma(A, B))
    group = dist.Normal(mu, lam**-0.5).expand([len(x)])
    theta = numpyro.sample("theta", group)
    rows = dist.Normal(theta[:, None], tau**-0.5).expand(x.shape)
    numpyro.sample("x", rows.to_event(2), obs=x)


def data(seed=0):
    """20 groups of 3 simulated from the model."""
    random = np.random.default_rng(seed)
    mu, lam = random.normal(M0, S0), random.gamma(C, 1 / D)
    tau = random.gamma(A, 1 / B)
    theta = random.normal(mu, lam**-0.5, (20, 1))
    return {"x": random.normal(theta, tau**-0.5, (20, 3))}


def log_gamma(a, b, mean, log_mean):
    """E of the log density of Gamma(a, b)."""
    return a * np.log(b) - gammaln(a) + (a - 1) * log_mean - b * mean


def gamma_entropy(a, b):
    return a - np.log(b) + gammaln(a) + (1 - a) * digamma(a)


class Right:
    """theta_j has mean t_j and variance v, mu has mean m and variance s."""

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
        q = {"m": random.normal(M0, S0), "s": 1.0, "t": random.normal(size=len(x))}
        q |= {"v": 1.0, "a": A, "b": B * random.gamma(2)}
        return q | {"c": C, "d": D * random.gamma(2)}

    def sweep(self, x, q):
        q = q | self.groups(x, q)
        q = q | self.centre(q)
        q = q | self.between(q)
        return q | self.within(x, q)

    def tau(self, q):
        """E[tau] and E[log tau]."""
        return q["a"] / q["b"], digamma(q["a"]) - np.log(q["b"])

    def lam(self, q):
        """E[lam] and E[log lam]."""
        return q["c"] / q["d"], digamma(q["c"]) - np.log(q["d"])

    def groups(self, x, q):
        tau, lam = self.tau(q)[0], self.lam(q)[0]
        v = 1 / (lam + x.shape[1] * tau)
        return {"t": v * (lam * q["m"] + tau * x.sum(axis=1)), "v": v}

    def centre(self, q):
        lam = self.lam(q)[0]
        s = 1 / (S0**-2 + len(q["t"]) * lam)
        return {"m": s * (M0 / S0**2 + lam * q["t"].sum()), "s": s}

    def far(self, q):
        """E of the sum of (theta_j - mu)^2."""
        return np.sum((q["t"] - q["m"]) ** 2) + len(q["t"]) * (q["v"] + q["s"])

    def square(self, x, q):
        """E of the sum of (x_ij - theta_j)^2."""
        return np.sum((x - q["t"][:, None]) ** 2) + x.size * q["v"]

    def between(self, q):
        return {"c": C + len(q["t"]) / 2, "d": D + self.far(q) / 2}

    def within(self, x, q):
        return {"a": A + x.size / 2, "b": B + self.square(x, q) / 2}

    def likelihood(self, x, q):
        tau, log_tau = self.tau(q)
        return x.size / 2 * (log_tau - LOG_2PI) - tau / 2 * self.square(x, q)

    def prior_groups(self, q):
        lam, log_lam = self.lam(q)
        return len(q["t"]) / 2 * (log_lam - LOG_2PI) - lam / 2 * self.far(q)

    def prior_centre(self, q):
        far = ((q["m"] - M0) ** 2 + q["s"]) / S0**2
        return -0.5 * (LOG_2PI + 2 * np.log(S0) + far)

    def entropy_groups(self, q):
        return len(q["t"]) / 2 * (1 + LOG_2PI + np.log(q["v"]))

    def entropy_centre(self, q):
        return 0.5 * (1 + LOG_2PI + np.log(q["s"]))

    def entropy_within(self, q):
        return gamma_entropy(q["a"], q["b"])

    def entropy_between(self, q):
        return gamma_entropy(q["c"], q["d"])

    def prior_precisions(self, q):
        return log_gamma(A, B, *self.tau(q)) + log_gamma(C, D, *self.lam(q))

    def bound(self, x, q):
        normals = self.likelihood(x, q) + self.prior_groups(q) + self.prior_centre(q)
        normals += self.entropy_groups(q) + self.entropy_centre(q)
        gammas = self.prior_precisions(q)
        gammas += self.entropy_within(q) + self.entropy_between(q)
        return normals + gammas

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def factors(self, q):
        sd = np.full(len(q["t"]), np.sqrt(q["v"]))
        return {
            "theta": dist.Normal(q["t"], sd),
            "mu": dist.Normal(q["m"], np.sqrt(q["s"])),
            "lam": dist.Gamma(q["c"], q["d"]),
            "tau": dist.Gamma(q["a"], q["b"]),
        }


class RightJax:
    """A jitted sweep; the precisions first; log p(x) minus divergences."""

    def __call__(self, x, seed):
        x = jnp.asarray(x, float)
        q = {"t": jnp.zeros(len(x)), "v": 1.0, "s": 1.0}
        q["m"] = jax.random.normal(jax.random.key(seed))
        trace = []
        while len(trace) < 2 or trace[-1] - trace[-2] > 1e-11:
            q, bound = self.sweep(x, q)
            trace.append(float(bound))
        return {"q": self.factors(q), "elbo": trace}

    def within(self, x, q):
        rows = jnp.sum((x - q["t"][:, None]) ** 2) + x.size * q["v"]
        return A + x.size / 2, B + rows / 2

    def between(self, q):
        J = len(q["t"])
        rows = jnp.sum((q["t"] - q["m"]) ** 2) + J * (q["v"] + q["s"])
        return C + J / 2, D + rows / 2

    @partial(jax.jit, static_argnums=0)
    def sweep(self, x, q):
        J, n = x.shape
        (a, b), (c, d) = self.within(x, q), self.between(q)
        tau, lam = a / b, c / d
        s = 1 / (S0**-2 + J * lam)
        m = s * (M0 / S0**2 + lam * q["t"].sum())
        v = 1 / (lam + n * tau)
        t = v * (lam * m + tau * x.sum(axis=1))
        q = {"t": t, "v": v, "m": m, "s": s, "a": a, "b": b, "c": c, "d": d}
        return q, self.bound(x, q)

    def kl_gamma(self, a, b, a0, b0):
        terms = (a - a0) * jax_digamma(a) - jax_gammaln(a) + jax_gammaln(a0)
        return terms + a0 * jnp.log(b / b0) + a * (b0 - b) / b

    def log_mean(self, a, b):
        return jax_digamma(a) - jnp.log(b)

    def bound(self, x, q):
        J = len(x)
        a, b, c, d = (q[k] for k in "abcd")
        (_, rate), (_, between) = self.within(x, q), self.between(q)
        total = x.size / 2 * (self.log_mean(a, b) - LOG_2PI) - a / b * (rate - B)
        total += J / 2 * (self.log_mean(c, d) + 1 + jnp.log(q["v"]))
        total -= c / d * (between - D)
        ratio = q["s"] / S0**2
        total -= 0.5 * (ratio + (q["m"] - M0) ** 2 / S0**2 - 1 - jnp.log(ratio))
        return total - self.kl_gamma(a, b, A, B) - self.kl_gamma(c, d, C, D)

    def factors(self, q):
        return {
            "mu": dist.Normal(q["m"], jnp.sqrt(q["s"])),
            "lam": dist.Gamma(q["c"], q["d"]),
            "tau": dist.Gamma(q["a"], q["b"]),
            "theta": dist.Normal(q["t"], jnp.full(len(q["t"]), jnp.sqrt(q["v"]))),
        }


class RightFrozen(Right):
    """Half steps in the precisions; SciPy's distributions and plain dictionaries."""

    def sweep(self, x, q):
        q = q | self.groups(x, q)
        q = q | self.centre(q)
        new = self.between(q) | self.within(x, q)
        return q | {k: (q[k] + new[k]) / 2 for k in new}

    def factors(self, q):
        return {
            "theta": {"loc": q["t"], "scale": np.full(len(q["t"]), np.sqrt(q["v"]))},
            "mu": stats.norm(q["m"], np.sqrt(q["s"])),
            "lam": stats.gamma(q["c"], scale=1 / q["d"]),
            "tau": {"concentration": q["a"], "rate": q["b"]},
        }


class RightJoint(Right):
    """A finer q: mu and theta together, as q(mu) and q(theta | mu).

    theta_j given mu is N(k mu + h_j, v), k the weight of mu; m, s, t are the marginals.
    """

    def sweep(self, x, q):
        q = q | self.joint(x, q)
        q = q | self.between(q)
        return q | self.within(x, q)

    def joint(self, x, q):
        tau, lam = self.tau(q)[0], self.lam(q)[0]
        n = x.shape[1]
        v = 1 / (lam + n * tau)
        k, h = v * lam, v * tau * x.sum(axis=1)
        weight = lam * n * tau * v  # the precision of a group's mean about mu
        s = 1 / (S0**-2 + len(x) * weight)
        m = s * (M0 / S0**2 + weight * np.sum(x.mean(axis=1)))
        return {"m": m, "s": s, "k": k, "h": h, "v": v, "t": k * m + h}

    def far(self, q):
        about = (1 - q["k"]) ** 2 * q["s"] + q["v"]
        return np.sum((q["t"] - q["m"]) ** 2) + len(q["t"]) * about

    def square(self, x, q):
        about = q["k"] ** 2 * q["s"] + q["v"]
        return np.sum((x - q["t"][:, None]) ** 2) + x.size * about

    def factors(self, q):
        k, h, sd = q["k"], q["h"], np.full(len(q["t"]), np.sqrt(q["v"]))

        def theta(mu):
            return dist.Normal(k * mu + h, sd)

        return super().factors(q) | {"theta": theta}


class PointBetween(Right):
    """Coarse: lam is its most probable value."""

    def lam(self, q):
        mode = (q["c"] - 1) / q["d"]
        return mode, np.log(mode)

    def entropy_between(self, q):
        return 0.0

    def factors(self, q):
        return super().factors(q) | {"lam": dist.Delta(self.lam(q)[0])}


class PointCentre(Right):
    """Coarse: mu is its most probable value."""

    def centre(self, q):
        return super().centre(q) | {"s": 0.0}

    def entropy_centre(self, q):
        return 0.0

    def factors(self, q):
        found = super().factors(q | {"s": 1.0})
        return found | {"mu": dist.Delta(np.array(q["m"]))}


class LogNormalWithin(Right):
    """Coarse: log tau is Normal, fitted in closed form: its variance is 1 / a."""

    def log_normal(self, q):
        return np.log(q["a"] / q["b"]) - 0.5 / q["a"], q["a"] ** -0.5

    def tau(self, q):
        return q["a"] / q["b"], self.log_normal(q)[0]

    def entropy_within(self, q):
        u, s = self.log_normal(q)
        return u + 0.5 * (1 + LOG_2PI) + np.log(s)

    def factors(self, q):
        return super().factors(q) | {"tau": dist.LogNormal(*self.log_normal(q))}


class LogOfMean(Right):
    """log E[lam] for E[log lam] in the bound.

    The shape is fixed by J, so all bounds of one J are off by the same number.
    """

    constant = True

    def lam(self, q):
        mean = q["c"] / q["d"]
        return mean, np.log(mean)


class NoVarianceOfCentre(Right):
    """The variance of mu is left out of E(theta - mu)^2, update and bound."""

    def far(self, q):
        return np.sum((q["t"] - q["m"]) ** 2) + len(q["t"]) * q["v"]


class NoVarianceOfGroups(Right):
    """The variance of theta is left out of the rate of lam; the bound is right."""

    def between(self, q):
        return super().between(q | {"v": 0.0})


class NoVarianceWithin(Right):
    """The variance of theta is left out of the rate of tau; the bound is right."""

    def within(self, x, q):
        return super().within(x, q | {"v": 0.0})


class GroupsForRows(Right):
    """The variance of theta counts once a group, not once a measurement."""

    def square(self, x, q):
        return np.sum((x - q["t"][:, None]) ** 2) + len(x) * q["v"]


class ShapeByGroups(Right):
    """The shape of tau grows with the groups, not with the measurements."""

    def within(self, x, q):
        return super().within(x, q) | {"a": A + len(x) / 2}


class DegreesOfFreedom(Right):
    """J - 1 for J in the shape of lam."""

    def between(self, q):
        return super().between(q) | {"c": C + max(len(q["t"]) - 1, 0) / 2}


class ShapeWithoutHalf(Right):
    """J for J/2 in the shape of lam."""

    def between(self, q):
        return super().between(q) | {"c": C + len(q["t"])}


class RateWithoutHalf(Right):
    """The 1/2 is missing in the rate of tau."""

    def within(self, x, q):
        return super().within(x, q) | {"b": B + self.square(x, q)}


class InverseGammaMean(Right):
    """E[lam] is 1 over the mean of an inverse Gamma, (c - 1) / d, in the updates."""

    def groups(self, x, q):
        return super().groups(x, q | {"c": q["c"] - 1})

    def centre(self, q):
        return super().centre(q | {"c": q["c"] - 1})


class NoPooling(Right):
    """mu is left out of the mean of theta: no shrinkage of the mean."""

    def groups(self, x, q):
        new = super().groups(x, q)
        return new | {"t": x.mean(axis=1)}


class OneMeasurement(Right):
    """The number of measurements is missing in the variance of theta."""

    def groups(self, x, q):
        tau, lam = self.tau(q)[0], self.lam(q)[0]
        v = 1 / (lam + tau)
        return {"t": v * (lam * q["m"] + tau * x.mean(axis=1)), "v": v}


class FlatCentre(Right):
    """The prior of mu is left out of its update, where there are groups."""

    def centre(self, q):
        if not len(q["t"]):
            return super().centre(q)
        s = 1 / (len(q["t"]) * self.lam(q)[0])
        return {"m": q["t"].mean(), "s": s}


class SdForVariance(Right):
    """The prior's sd for its variance in the update of mu."""

    def centre(self, q):
        lam = self.lam(q)[0]
        s = 1 / (1 / S0 + len(q["t"]) * lam)
        return {"m": s * (M0 / S0 + lam * q["t"].sum()), "s": s}


class NoPriorMean(Right):
    """The prior's mean is taken as 0 in the update of mu."""

    def centre(self, q):
        new = super().centre(q)
        return new | {"m": new["m"] - new["s"] * M0 / S0**2}


class GrandMean(Right):
    """mu is updated from the data's means, not from theta's."""

    def sweep(self, x, q):
        groups = q | self.groups(x, q)
        q = groups | self.centre(groups | {"t": x.mean(axis=1)})
        q = q | self.between(q)
        return q | self.within(x, q)


class NoEntropyOfGroups(Right):
    """The entropy of theta is left out of the bound."""

    def entropy_groups(self, q):
        return 0.0


class OneEntropyOfGroups(Right):
    """The entropy of theta counts one group only."""

    def entropy_groups(self, q):
        return super().entropy_groups(q) / max(len(q["t"]), 1)


class NoEntropyBetween(Right):
    """The entropy of lam is left out of the bound."""

    def entropy_between(self, q):
        return 0.0


class KLSign(Right):
    """The divergence of mu from its prior is added, not subtracted."""

    def bound(self, x, q):
        minus_kl = self.prior_centre(q) + self.entropy_centre(q)
        return super().bound(x, q) - 2 * minus_kl


class NoPriorBetween(Right):
    """The prior of lam is left out of the bound."""

    def prior_precisions(self, q):
        return log_gamma(A, B, *self.tau(q))


class RatesSwapped(Right):
    """The prior's shape and rate are swapped in the update of tau."""

    def within(self, x, q):
        new = super().within(x, q)
        return {"a": new["a"] - A + B, "b": new["b"] - B + A}


class StaleGroups(Right):
    """E(x - theta)^2 in the update of tau is that of the first sweep, ever after."""

    def start(self, x, random):
        self.kept = None
        return super().start(x, random)

    def within(self, x, q):
        if self.kept is None:
            self.kept = self.square(x, q)
        return {"a": A + x.size / 2, "b": B + self.kept / 2}


class FirstRowLost(Right):
    """The update of mu leaves out the first group; the bound is right."""

    def centre(self, q):
        return super().centre(q | {"t": q["t"] * (np.arange(len(q["t"])) > 0)})


class ScaleForRate(Right):
    """The returned Gamma of lam has the scale where the rate belongs."""

    def factors(self, q):
        return super().factors(q) | {"lam": dist.Gamma(q["c"], 1 / q["d"])}


class FrozenRate(RightFrozen):
    """The returned SciPy Gamma of lam has the rate where the scale belongs."""

    def factors(self, q):
        return super().factors(q) | {"lam": stats.gamma(q["c"], scale=q["d"])}


class VarianceForSd(Right):
    """The returned theta has its variance where the sd belongs."""

    def factors(self, q):
        return super().factors(q | {"v": q["v"] ** 2})


class ShrinkageLost(RightJoint):
    """The returned theta is independent of mu; the bound is the joint one's."""

    def factors(self, q):
        return Right.factors(self, q)


class MarginalVariance(RightJoint):
    """The returned theta given mu has the marginal variance of theta."""

    def factors(self, q):
        return super().factors(q | {"v": q["v"] + q["k"] ** 2 * q["s"]})


class JointSpread(RightJoint):
    """The covariance of mu and theta is forgotten in E(theta - mu)^2."""

    def far(self, q):
        about = (1 + q["k"] ** 2) * q["s"] + q["v"]
        return np.sum((q["t"] - q["m"]) ** 2) + len(q["t"]) * about


class StoppedEarly(Right):
    """Two sweeps, whatever they reach."""

    most = 2


class NoConstant(Right):
    """log 2 pi of the measurements is dropped."""

    constant = True

    def likelihood(self, x, q):
        return super().likelihood(x, q) + x.size / 2 * LOG_2PI


class NoNormalisers(Right):
    """The prior Gammas' normalisers are dropped."""

    constant = True

    def prior_precisions(self, q):
        dropped = A * np.log(B) - gammaln(A) + C * np.log(D) - gammaln(C)
        return super().prior_precisions(q) - dropped


class JaxLogOfMean(RightJax):
    """log of the means for the means of the logs of the precisions.

    The shapes are fixed by the sizes, so bounds are off by the same number.
    """

    constant = True

    def log_mean(self, a, b):
        return jnp.log(a / b)


class JaxKLSwapped(RightJax):
    """KL(p || q) for KL(q || p) of the Gammas."""

    def kl_gamma(self, a, b, a0, b0):
        return super().kl_gamma(a0, b0, a, b)


RIGHT = [Right, RightJax, RightFrozen, RightJoint]
COARSE = [PointBetween, PointCentre, LogNormalWithin]
MUTANTS = [
    LogOfMean,
    NoVarianceOfCentre,
    NoVarianceOfGroups,
    NoVarianceWithin,
    GroupsForRows,
    ShapeByGroups,
    DegreesOfFreedom,
    ShapeWithoutHalf,
    RateWithoutHalf,
    InverseGammaMean,
    NoPooling,
    OneMeasurement,
    FlatCentre,
    SdForVariance,
    NoPriorMean,
    GrandMean,
    NoEntropyOfGroups,
    OneEntropyOfGroups,
    NoEntropyBetween,
    KLSign,
    NoPriorBetween,
    RatesSwapped,
    StaleGroups,
    FirstRowLost,
    ScaleForRate,
    FrozenRate,
    VarianceForSd,
    ShrinkageLost,
    MarginalVariance,
    JointSpread,
    StoppedEarly,
    NoConstant,
    NoNormalisers,
    JaxLogOfMean,
    JaxKLSwapped,
]
