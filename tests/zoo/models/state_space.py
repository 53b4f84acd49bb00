"""A local level: a random walk, observed with noise. CAVI by hand.

s_1 ~ N(0, 1), s_t ~ N(s_t-1, 1 / lam), y_t ~ N(s_t, 1 / tau). Every mutant overrides
one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import digamma, gammaln

SHAPE, RATE = 3.0, 2.0  # of lam and of tau
LOG_2_PI = np.log(2 * np.pi)


def model(y):
    """Precisions of the steps and of the noise, lam and tau; states (T,)."""
    n = len(y)
    lam = numpyro.sample("lam", dist.Gamma(SHAPE, RATE))
    tau = numpyro.sample("tau", dist.Gamma(SHAPE, RATE))
    # a state is the sum of the first one and of the steps up to it
    tril = jnp.tril(jnp.ones((n, n))) * jnp.where(jnp.arange(n) > 0, lam**-0.5, 1.0)
    walk = dist.MultivariateNormal(jnp.zeros(n), scale_tril=tril)
    states = numpyro.sample("states", walk)
    with numpyro.plate("time", n):
        numpyro.sample("y", dist.Normal(states, tau**-0.5), obs=y)


def data(seed=0):
    """Observations y (20,)."""
    random = np.random.default_rng(seed + 6)  # slow to converge
    lam, tau = random.gamma(SHAPE, 1 / RATE, 2)
    steps = random.normal(size=20) / np.sqrt(lam)
    steps[0] = random.normal()
    return {"y": np.cumsum(steps) + random.normal(size=20) / np.sqrt(tau)}


class Right:
    """Beal (2003), chapter 5: a Kalman smoother with the mean precisions."""

    tol = 1e-11
    most = 5000

    def __call__(self, y, seed):
        if len(y) == 0:
            raise ValueError("y has no rows; expected at least one")
        y = np.asarray(y, float)
        q, trace = self.start(np.random.default_rng(seed)), []
        for _ in range(self.most):
            q = self.sweep(y, q)
            trace.append(self.bound(y, q))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(q, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, random):
        """Shape and rate of lam: a, b; of tau: c, e."""
        lam, tau = random.gamma(SHAPE, 1 / RATE, 2)
        return {"a": SHAPE, "b": SHAPE / lam, "c": SHAPE, "e": SHAPE / tau}

    def sweep(self, y, q):
        m, C = self.states(y, q["a"] / q["b"], q["c"] / q["e"])
        q = {**q, "m": m, "C": C}
        q |= {"a": self.shape_lam(y), "b": self.rate_lam(q)}
        return {**q, "c": self.shape_tau(y), "e": self.rate_tau(y, q)}

    def states(self, y, lam, tau):
        return self.smooth(*self.filter(y, lam, tau))

    def filter(self, y, lam, tau):
        """Means and variances given the past and present; variances before y_t."""
        means, variances, before = [], [], []
        m, v = 0.0, self.first_variance()
        for t, value in enumerate(y):
            if t > 0:
                v = variances[-1] + self.step_variance(lam)
            gain = v / (v + self.noise_variance(tau))
            before.append(v)
            m = m + gain * (value - m)
            v = (1 - gain) * v
            means.append(m)
            variances.append(v)
        return np.array(means), np.array(variances), np.array(before)

    def first_variance(self):
        return 1.0

    def step_variance(self, lam):
        return 1 / lam

    def noise_variance(self, tau):
        return 1 / tau

    def smooth(self, means, variances, before):
        """Means (T,) and covariances (T, T) given all."""
        m, C = means.copy(), np.diag(variances)
        for t in range(len(m) - 2, -1, -1):
            J = variances[t] / before[t + 1]
            m[t] += J * (m[t + 1] - means[t])
            C[t, t] += J**2 * (C[t + 1, t + 1] - before[t + 1])
            C[t, t + 1 :] = C[t + 1 :, t] = J * C[t + 1, t + 1 :]
        return m, C

    def shape_lam(self, y):
        return SHAPE + (len(y) - 1) / 2

    def shape_tau(self, y):
        return SHAPE + len(y) / 2

    def rate_lam(self, q):
        return RATE + self.steps(q) / 2

    def rate_tau(self, y, q):
        return RATE + self.residual(y, q) / 2

    def steps(self, q):
        """Sum of E (s_t - s_t-1)^2."""
        v = np.diag(q["C"])
        spread = v[1:] + v[:-1] - 2 * self.cross(q)
        return np.sum(np.diff(q["m"]) ** 2) + np.sum(spread)

    def cross(self, q):
        """Covariances of neighbours."""
        return np.diag(q["C"], 1)

    def residual(self, y, q):
        """Sum of E (y_t - s_t)^2."""
        return np.sum((y - q["m"]) ** 2) + np.trace(q["C"])

    def log_lam(self, q):
        return digamma(q["a"]) - np.log(q["b"])

    def log_tau(self, q):
        return digamma(q["c"]) - np.log(q["e"])

    def kl_gamma(self, a, b):
        terms = (a - SHAPE) * digamma(a) - gammaln(a) + gammaln(SHAPE)
        return terms + SHAPE * np.log(b / RATE) + a * (RATE - b) / b

    def kl(self, q):
        return self.kl_gamma(q["a"], q["b"]) + self.kl_gamma(q["c"], q["e"])

    def entropy(self, q):
        n = len(q["m"])
        return (n * (LOG_2_PI + 1) + np.linalg.slogdet(q["C"])[1]) / 2

    def likelihood(self, y, q):
        rows = len(y) * (self.log_tau(q) - LOG_2_PI)
        return (rows - q["c"] / q["e"] * self.residual(y, q)) / 2

    def walk(self, q):
        first = -(LOG_2_PI + q["m"][0] ** 2 + q["C"][0, 0]) / 2
        steps = (len(q["m"]) - 1) * (self.log_lam(q) - LOG_2_PI)
        return first + (steps - q["a"] / q["b"] * self.steps(q)) / 2

    def bound(self, y, q):
        log_joint = self.likelihood(y, q) + self.walk(q)
        return log_joint + self.entropy(q) - self.kl(q)

    def result(self, q, trace):
        found = {
            "lam": dist.Gamma(q["a"], q["b"]),
            "tau": dist.Gamma(q["c"], q["e"]),
            "states": dist.MultivariateNormal(q["m"], q["C"]),
        }
        return {"q": found, "elbo": np.array(trace)}


class Dense(Right):
    """The states from their precision matrix; tau before lam; q in other forms."""

    def states(self, y, lam, tau):
        n = len(y)
        D = np.diff(np.eye(n), axis=0)
        precision = lam * D.T @ D + tau * np.eye(n)
        precision[0, 0] += 1
        return tau * np.linalg.solve(precision, y), np.linalg.inv(precision)

    def sweep(self, y, q):
        m, C = self.states(y, q["a"] / q["b"], q["c"] / q["e"])
        q = {**q, "m": m, "C": (C + C.T) / 2}
        q |= {"c": self.shape_tau(y), "e": self.rate_tau(y, q)}
        m, C = self.states(y, q["a"] / q["b"], q["c"] / q["e"])
        q |= {"m": m, "C": (C + C.T) / 2}
        return {**q, "a": self.shape_lam(y), "b": self.rate_lam(q)}

    def result(self, q, trace):
        found = {
            "lam": {"concentration": q["a"], "rate": q["b"]},
            "tau": stats.gamma(q["c"], scale=1 / q["e"]),
            "states": stats.multivariate_normal(q["m"], q["C"]),
        }
        if len(q["m"]) == 1:  # SciPy's has no dimension then
            found["states"] = {"loc": q["m"], "covariance_matrix": q["C"]}
        return {"q": found, "elbo": list(trace)}


class RightJax:
    """Compiled sweeps of filter and smoother; the filter's evidence gives the bound."""

    def __call__(self, y, seed):
        if len(y) == 0:
            raise ValueError("y has no rows; expected at least one")
        y = jnp.asarray(y, float)
        lam, tau = jax.random.gamma(jax.random.key(seed), SHAPE, (2,)) / RATE
        q, trace = ((SHAPE, SHAPE / lam), (SHAPE, SHAPE / tau)), []
        while len(trace) < 5000:
            fitted, (q, states, bound) = q, _sweep(y, q)
            trace.append(float(bound))
            if len(trace) > 1 and trace[-1] - trace[-2] < 1e-11:
                break
        found = {"lam": dist.Gamma(*fitted[0]), "tau": dist.Gamma(*fitted[1])}
        m, P = states
        found["states"] = dist.MultivariateNormal(m, precision_matrix=P)
        return {"q": found, "elbo": np.array(trace)}


def _filter(y, lam, tau):
    """Means, variances, and log evidence, with the precisions as if they were known."""

    def step(carry, value):
        m, v = carry
        total = v + 1 / tau
        log_p = jax.scipy.stats.norm.logpdf(value, m, jnp.sqrt(total))
        m, v = m + v / total * (value - m), v / tau / total
        return (m, v + 1 / lam), (m, v, log_p)

    _, (m, v, log_p) = jax.lax.scan(step, (0.0, 1.0), y)
    return m, v, log_p.sum()


def _smooth(m, v, lam):
    """Smoothed means, variances, and covariances with the next."""

    def step(later, now):
        (m_1, v_1), (m_0, v_0) = later, now
        before = v_0 + 1 / lam
        J = v_0 / before
        own = m_0 + J * (m_1 - m_0), v_0 + J**2 * (v_1 - before)
        return own, (*own, J * v_1)

    last = m[-1], v[-1]
    _, (m_s, v_s, cross) = jax.lax.scan(step, last, (m[:-1], v[:-1]), reverse=True)
    return jnp.append(m_s, m[-1]), jnp.append(v_s, v[-1]), cross


@jax.jit
def _sweep(y, q):
    """Next Gammas; states given the present ones, and the bound of both."""
    (a, b), (c, e) = q
    n, psi = len(y), jax.scipy.special.digamma
    lam, tau = a / b, c / e
    m, v, log_p = _filter(y, lam, tau)
    log_p += n / 2 * (psi(c) - jnp.log(c)) + (n - 1) / 2 * (psi(a) - jnp.log(a))
    prior = dist.Gamma(SHAPE, RATE)
    kl = sum(dist.kl_divergence(dist.Gamma(*own), prior) for own in q)
    m, v, cross = _smooth(m, v, lam)
    steps = jnp.diff(m) ** 2 + v[1:] + v[:-1] - 2 * cross
    residual = (y - m) ** 2 + v
    next_lam = SHAPE + (n - 1) / 2, RATE + steps.sum() / 2
    next_tau = SHAPE + n / 2, RATE + residual.sum() / 2
    D = jnp.diff(jnp.eye(n), axis=0)
    P = lam * D.T @ D + tau * jnp.eye(n)
    return (next_lam, next_tau), (m, P.at[0, 0].add(1.0)), log_p - kl


class StatesIndependent(Right):
    """Coarse: the states are independent of each other in q."""

    def states(self, y, lam, tau):
        m, C = super().states(y, lam, tau)
        return m, np.diag(1 / np.diag(np.linalg.inv(C)))

    def result(self, q, trace):
        found = super().result(q, trace)
        found["q"]["states"] = dist.Normal(q["m"], np.sqrt(np.diag(q["C"])))
        return found


class StepsAsPoint(Right):
    """Coarse: lam is a point, at the maximum of the expected log joint."""

    def shape_lam(self, y):
        return super().shape_lam(y) - 1

    def log_lam(self, q):
        return np.log(q["a"] / q["b"])

    def kl(self, q):
        log_prior = stats.gamma.logpdf(q["a"] / q["b"], SHAPE, scale=1 / RATE)
        return self.kl_gamma(q["c"], q["e"]) - log_prior

    def result(self, q, trace):
        found = super().result(q, trace)
        found["q"]["lam"] = dist.Delta(q["a"] / q["b"])
        return found


class Filtered(Right):
    """Means and variances of the filter: the backward pass is left out."""

    def smooth(self, means, variances, before):
        C = np.diag(variances)
        for t in range(len(means) - 2, -1, -1):
            J = variances[t] / before[t + 1]
            C[t, t + 1 :] = C[t + 1 :, t] = J * C[t + 1, t + 1 :]
        return means, C


class FilteredMeans(Right):
    """The means are the filter's, the covariances smoothed."""

    def smooth(self, means, variances, before):
        return means, super().smooth(means, variances, before)[1]


class NoCross(Right):
    """The covariance of neighbours is left out of the steps, everywhere."""

    def cross(self, q):
        return np.zeros(len(q["m"]) - 1)


class NoCrossInUpdate(Right):
    """The covariance of neighbours is left out of the update of lam only."""

    def rate_lam(self, q):
        return super().rate_lam(q) + self.cross(q).sum()


class CrossOnce(Right):
    """The covariance of neighbours is counted once, not twice, in the update."""

    def rate_lam(self, q):
        return super().rate_lam(q) + self.cross(q).sum() / 2


class StepsOfMeans(Right):
    """The update of lam has the squares of the steps of the means only."""

    def rate_lam(self, q):
        return RATE + np.sum(np.diff(q["m"]) ** 2) / 2


class ResidualOfMeans(Right):
    """The update of tau has the residual of the means only."""

    def rate_tau(self, y, q):
        return RATE + np.sum((y - q["m"]) ** 2) / 2


class CountsOffByOne(Right):
    """T for T - 1 steps in the shape of lam."""

    def shape_lam(self, y):
        return SHAPE + len(y) / 2


class CountsOffByOneInBound(Right):
    """T for T - 1 steps in the bound's log lam."""

    def walk(self, q):
        return super().walk(q) + (self.log_lam(q) - LOG_2_PI) / 2


class NoHalfInShape(Right):
    """T for T / 2 in the shape of tau."""

    def shape_tau(self, y):
        return SHAPE + len(y)


class NoHalfInRate(Right):
    """The residual is not halved in the rate of tau."""

    def rate_tau(self, y, q):
        return RATE + self.residual(y, q)


class NoPriorShape(Right):
    """The prior's shape is left out of lam and tau."""

    def shape_lam(self, y):
        return super().shape_lam(y) - SHAPE + 1e-3

    def shape_tau(self, y):
        return super().shape_tau(y) - SHAPE


class PrecisionForVariance(Right):
    """The filter takes the precision of the steps for their variance."""

    def step_variance(self, lam):
        return lam


class MeanOfInverse(Right):
    """The filter has E[1 / tau] for 1 / E[tau]."""

    def sweep(self, y, q):
        self.q = q
        return super().sweep(y, q)

    def noise_variance(self, tau):
        return self.q["e"] / (self.q["c"] - 1)


class DiffuseStart(Right):
    """The first state's prior has variance 10 in the filter."""

    def first_variance(self):
        return 10.0


class StepBeforeTheFirst(Right):
    """The first state's variance in the filter has a step's added."""

    def filter(self, y, lam, tau):
        self.lam = lam
        return super().filter(y, lam, tau)

    def first_variance(self):
        return 1.0 + 1 / self.lam


class LastRowIgnored(Right):
    """The last row is left out of the update of tau."""

    def shape_tau(self, y):
        return super().shape_tau(y[:-1])

    def rate_tau(self, y, q):
        last = (y[-1] - q["m"][-1]) ** 2 + q["C"][-1, -1]
        return super().rate_tau(y, q) - last / 2


class LogOfMean(Right):
    """log E[lam] for E[log lam] in the bound: off by what the shape alone tells."""

    constant = True

    def log_lam(self, q):
        return np.log(q["a"] / q["b"])


class NoEntropy(Right):
    """The entropy of the states is left out of the bound."""

    def entropy(self, q):
        return 0.0


class EntropyOfMarginals(Right):
    """The entropy of the states as if they were independent."""

    def entropy(self, q):
        return np.sum(LOG_2_PI + 1 + np.log(np.diag(q["C"]))) / 2


class NoFirstPrior(Right):
    """The first state's prior is left out of the bound."""

    def walk(self, q):
        first = -(LOG_2_PI + q["m"][0] ** 2 + q["C"][0, 0]) / 2
        return super().walk(q) - first


class NoConstant(Right):
    """log 2 pi is dropped from the likelihood."""

    constant = True

    def likelihood(self, y, q):
        return super().likelihood(y, q) + len(y) * LOG_2_PI / 2


class NoHalfTInEntropy(Right):
    """The T / 2 of the states' entropy is dropped."""

    constant = True

    def entropy(self, q):
        return super().entropy(q) - len(q["m"]) / 2


class OldStates(Right):
    """lam is updated with the states of the sweep before; four sweeps."""

    most = 4

    def sweep(self, y, q):
        older = q
        q = super().sweep(y, q)
        if "m" in older:
            q["b"] = self.rate_lam({**q, "m": older["m"], "C": older["C"]})
        return q


class ScaleForRate(Right):
    """The Gamma of lam that is returned has the scale in the place of the rate."""

    def result(self, q, trace):
        return super().result({**q, "b": 1 / q["b"]}, trace)


class DiagonalReturned(Right):
    """The states are fitted together, and returned with their variances only."""

    def result(self, q, trace):
        found = super().result(q, trace)
        found["q"]["states"] = dist.Normal(q["m"], np.sqrt(np.diag(q["C"])))
        return found


class NeighboursOnly(Right):
    """The covariance that is returned is cut off beyond the neighbours."""

    def result(self, q, trace):
        C = q["C"]
        near = np.tri(len(C), k=1) - np.tri(len(C), k=-2)
        floor = np.linalg.eigvalsh(C * near)[0]  # may be below 0: lifted, as people do
        lift = max(0.0, 1e-3 - floor) * np.eye(len(C))
        return super().result({**q, "C": C * near + lift}, trace)


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, Dense]
COARSE = [StatesIndependent, StepsAsPoint]
MUTANTS = [
    Filtered,
    FilteredMeans,
    NoCross,
    NoCrossInUpdate,
    CrossOnce,
    StepsOfMeans,
    ResidualOfMeans,
    CountsOffByOne,
    CountsOffByOneInBound,
    NoHalfInShape,
    NoHalfInRate,
    NoPriorShape,
    PrecisionForVariance,
    MeanOfInverse,
    DiffuseStart,
    StepBeforeTheFirst,
    LastRowIgnored,
    LogOfMean,
    NoEntropy,
    EntropyOfMarginals,
    NoFirstPrior,
    NoConstant,
    NoHalfTInEntropy,
    OldStates,
    ScaleForRate,
    DiagonalReturned,
    NeighboursOnly,
    StoppedEarly,
]
