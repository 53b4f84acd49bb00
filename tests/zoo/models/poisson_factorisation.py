"""Poisson factorisation of counts: CAVI by hand, right and with one fault.

y_nd is a sum of counts z_ndk ~ Poisson(theta_nk beta_kd), one for each factor k. Every
mutant overrides one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from scipy import stats
from scipy.special import digamma, gammaln, softmax, xlogy

K = 2
A, B = 2.0, 1.0  # theta ~ Gamma(A, B)
C, E = 1.5, 0.5  # beta ~ Gamma(C, E)


def model(y):
    """theta (N, 2), beta (2, D), counts of each factor z (N, D, 2), which sum to y."""
    n, d = y.shape
    theta = numpyro.sample("theta", dist.Gamma(A, B).expand([n, K]).to_event(2))
    beta = numpyro.sample("beta", dist.Gamma(C, E).expand([K, d]).to_event(2))
    rate = theta[:, None, :] * beta.T
    z = numpyro.sample("z", dist.Poisson(rate).to_event(3))
    numpyro.factor("y", jnp.where(z.sum(axis=2) == y, 0.0, -jnp.inf))


def data(seed=0):
    """Counts y (8, 4) of two factors."""
    random = np.random.default_rng(seed)
    theta = random.gamma(A, 1 / B, (8, K))
    return {"y": random.poisson(theta @ random.gamma(C, 1 / E, (K, 4)))}


class Shares(dist.Distribution):
    """Multinomials with the totals as data: NumPyro's are not arguments of jax.jit."""

    arg_constraints = {"probs": constraints.simplex}
    pytree_data_fields = ("probs", "total_count")
    pytree_aux_fields = ("most",)

    def __init__(self, probs, total_count, most, *, validate_args=None):
        self.probs, self.total_count, self.most = jnp.asarray(probs), total_count, most
        shape = self.probs.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def plain(self):
        most = self.most
        return dist.Multinomial(self.total_count, self.probs, total_count_max=most)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        return constraints.multinomial(self.total_count)

    def sample(self, key, sample_shape=()):
        return self.plain.sample(key, sample_shape)

    def log_prob(self, value):
        return self.plain.log_prob(value)


def counts(y, phi):
    """q(z): how each count is shared out."""
    if len(y) == 0:
        return dist.Poisson(jnp.ones((*y.shape, K))).to_event(3)
    return Shares(phi, jnp.asarray(y, int), int(y.max()))


class Right:
    """Cemgil (2009), with Gamma factors of both sides."""

    tol = 1e-11
    most = 8000

    def __call__(self, y, seed):
        y = np.asarray(y, float)
        q, trace = self.start(y, np.random.default_rng(seed)), []
        for _ in range(self.most):
            q = self.sweep(y, q)
            trace.append(self.bound(y, q))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(y, q, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, y, random):
        n, d = y.shape
        return {
            "a": A + random.gamma(2.0, 1.0, (n, K)),
            "b": np.full((n, K), B + 1.0),
            "c": C + random.gamma(2.0, 1.0, (K, d)),
            "e": np.full((K, d), E + 1.0),
        }

    def sweep(self, y, q):
        q = q | {"phi": self.e_step(self.scores(q))}
        q = q | self.rows(y, q)
        return q | self.columns(y, q)

    def rows(self, y, q):
        return {"a": self.shape_theta(y, q), "b": self.rate_theta(q)}

    def columns(self, y, q):
        return {"c": self.shape_beta(y, q), "e": self.rate_beta(q)}

    def scores(self, q):
        """E[log theta + log beta] (N, D, K)."""
        return self.log_theta(q)[:, None, :] + self.log_beta(q).T

    def log_theta(self, q):
        return digamma(q["a"]) - np.log(q["b"])

    def log_beta(self, q):
        return digamma(q["c"]) - np.log(q["e"])

    def e_step(self, scores):
        return softmax(scores, axis=2)

    def shape_theta(self, y, q):
        return A + np.einsum("nd,ndk->nk", y, q["phi"])

    def rate_theta(self, q):
        return B + (q["c"] / q["e"]).sum(axis=1) * np.ones_like(q["a"])

    def shape_beta(self, y, q):
        return C + np.einsum("nd,ndk->kd", y, q["phi"])

    def rate_beta(self, q):
        return E + (q["a"] / q["b"]).sum(axis=0)[:, None] * np.ones_like(q["c"])

    def kl_gamma(self, a, b, a0, b0):
        terms = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        return np.sum(terms + a0 * np.log(b / b0) + a * (b0 - b) / b)

    def kl_theta(self, q):
        return self.kl_gamma(q["a"], q["b"], A, B)

    def kl_beta(self, q):
        return self.kl_gamma(q["c"], q["e"], C, E)

    def rates(self, q):
        return (q["a"] / q["b"]) @ (q["c"] / q["e"])

    def factorials(self, y):
        return gammaln(y + 1).sum()

    def entropy(self, y, q):
        """Of the counts, less what cancels with log z! of the model; y! stays."""
        return -np.sum(y[..., None] * xlogy(q["phi"], q["phi"]))

    def bound(self, y, q):
        rows = np.sum(y[..., None] * q["phi"] * self.scores(q)) + self.entropy(y, q)
        rows -= self.factorials(y) + np.sum(self.rates(q))
        return rows - self.kl_theta(q) - self.kl_beta(q)

    def result(self, y, q, trace):
        found = {
            "theta": dist.Gamma(q["a"], q["b"]),
            "beta": dist.Gamma(q["c"], q["e"]),
            "z": counts(y, q["phi"]),
        }
        return {"q": found, "elbo": np.array(trace)}


class ColumnsFirst(Right):
    """Another order; SciPy's Gamma, a dict and NumPyro's own Multinomial as q."""

    def sweep(self, y, q):
        q = q | {"phi": self.e_step(self.scores(q))}
        q = q | self.columns(y, q)
        q = q | {"phi": self.e_step(self.scores(q))}
        return q | self.rows(y, q)

    def result(self, y, q, trace):
        found = super().result(y, q, trace)
        found["q"]["theta"] = {"concentration": q["a"], "rate": q["b"]}
        found["q"]["beta"] = stats.gamma(q["c"], scale=1 / q["e"])
        if len(y):
            found["q"]["z"] = dist.Multinomial(y.astype(int), q["phi"])
        return found


class RightJax:
    """Compiled loop without (N, D, K) arrays until the end: ratios of counts to rates.

    The bound sums the counts out: log of the sum of exp E log theta beta.
    """

    def __call__(self, y, seed):
        y = jnp.asarray(y, float)
        random = np.random.default_rng(seed)
        theta = random.gamma(A, 1 / B, (len(y), K))
        beta = random.gamma(C, 1 / E, (K, y.shape[1]))
        carry = _fit(y, (theta, beta, theta, beta))
        trace, count, q = carry
        (a, b), (c, e), (log_theta, log_beta) = q
        found = {"theta": dist.Gamma(a, b), "beta": dist.Gamma(c, e)}
        scores = np.asarray(log_theta)[:, None, :] + np.asarray(log_beta).T
        found["z"] = counts(np.asarray(y), softmax(scores, axis=2))
        return {"q": found, "elbo": trace[: int(count)]}


def _sweep(y, state):
    """From exp E log and means of theta and beta to the same; q of this sweep."""
    theta, beta, mean_theta, mean_beta = state
    ratio = y / (theta @ beta)
    a, c = A + theta * (ratio @ beta.T), C + beta * (theta.T @ ratio)
    b = B + mean_beta.sum(1) * jnp.ones_like(a)
    mean_theta = a / b
    e = E + mean_theta.sum(0)[:, None] * jnp.ones_like(c)
    mean_beta = c / e
    return (a, b), (c, e), (jnp.log(theta), jnp.log(beta))


def _exp_log(a, b):
    return jnp.exp(jax.scipy.special.digamma(a)) / b


def _bound(y, q):
    of_theta, of_beta, _ = q
    total = _exp_log(*of_theta) @ _exp_log(*of_beta)
    rates = (of_theta[0] / of_theta[1]) @ (of_beta[0] / of_beta[1])
    found = jnp.sum(y * jnp.log(total) - rates - jax.scipy.special.gammaln(y + 1))
    found -= dist.kl_divergence(dist.Gamma(*of_theta), dist.Gamma(A, B)).sum()
    return found - dist.kl_divergence(dist.Gamma(*of_beta), dist.Gamma(C, E)).sum()


@jax.jit
def _fit(y, start):
    """The counts that are returned are those of q(theta), q(beta), as is the bound."""
    most = 8000

    def state(q):
        (a, b), (c, e), _ = q
        return _exp_log(a, b), _exp_log(c, e), a / b, c / e

    def rising(carry):
        _, trace, i = carry
        return (i < most) & ((i < 2) | (trace[i - 1] - trace[i - 2] >= 1e-11))

    def step(carry):
        q, trace, i = carry
        q = _sweep(y, state(q))
        return q, trace.at[i].set(_bound(y, q)), i + 1

    q = _sweep(y, start)
    trace = jnp.zeros(most).at[0].set(_bound(y, q))
    q, trace, count = jax.lax.while_loop(rising, step, (q, trace, 1))
    theta, beta = state(q)[:2]
    return trace, count, (*q[:2], (jnp.log(theta), jnp.log(beta)))


class ColumnsAsPoint(Right):
    """Coarse: beta is a point, where the expected log joint is largest."""

    def shape_beta(self, y, q):
        return super().shape_beta(y, q) - 1

    def log_beta(self, q):
        return np.log(q["c"] / q["e"])

    def kl_beta(self, q):
        return -stats.gamma.logpdf(q["c"] / q["e"], C, scale=1 / E).sum()

    def result(self, y, q, trace):
        found = super().result(y, q, trace)
        found["q"]["beta"] = dist.Delta(q["c"] / q["e"])
        return found


class LogNormalRows(Right):
    """Coarse: theta is LogNormal, with the best location and scale in closed form."""

    def start(self, y, random):
        q = super().start(y, random)
        return q | {"loc": np.log(q["a"] / q["b"]), "s2": np.full(q["a"].shape, 0.1)}

    def rows(self, y, q):
        """E log joint is a loc - b exp(loc + s2 / 2), and log s from the entropy."""
        a, b = self.shape_theta(y, q), self.rate_theta(q)
        loc, s2 = np.log(a / b) - 0.5 / a, 1 / a  # exact: b exp(loc + s2 / 2) = a
        return {"a": a, "b": b, "loc": loc, "s2": s2}

    def log_theta(self, q):
        return q.get("loc", digamma(q["a"]) - np.log(q["b"]))

    def kl_theta(self, q):
        mean = np.exp(q["loc"] + q["s2"] / 2)
        prior = A * np.log(B) - gammaln(A) + (A - 1) * q["loc"] - B * mean
        entropy = q["loc"] + np.log(2 * np.pi * np.e * q["s2"]) / 2
        return -np.sum(prior + entropy)

    def result(self, y, q, trace):
        found = super().result(y, q, trace)
        if len(y):
            found["q"]["theta"] = dist.LogNormal(q["loc"], np.sqrt(q["s2"]))
        return found


class LogOfMean(Right):
    """log E[theta] for E[log theta], in the shares of the counts and the bound."""

    def log_theta(self, q):
        return np.log(q["a"] / q["b"])


class LogOfMeanInEStep(Right):
    """Counts are shared by the means of the factors; the bound has E log."""

    def sweep(self, y, q):
        mean = (q["a"] / q["b"])[:, None, :] * (q["c"] / q["e"]).T
        q = q | {"phi": mean / mean.sum(axis=2, keepdims=True)}
        q = q | self.rows(y, q)
        return q | self.columns(y, q)


class NoDigamma(Right):
    """E[log beta] is minus the log of the rate: digamma of the shape is missing."""

    def log_beta(self, q):
        return -np.log(q["e"])


class PriorsSwapped(Right):
    """The shapes of the two priors are exchanged in the updates."""

    def shape_theta(self, y, q):
        return super().shape_theta(y, q) - A + C

    def shape_beta(self, y, q):
        return super().shape_beta(y, q) - C + A


class NoPriorShape(Right):
    """The prior's shape is left out of theta."""

    def shape_theta(self, y, q):
        return np.maximum(super().shape_theta(y, q) - A, 1e-3)


class NoPriorRate(Right):
    """The prior's rate is left out of beta."""

    def rate_beta(self, q):
        return super().rate_beta(q) - E


class OldMeans(Right):
    """beta's rate has the means of theta before its update; ten sweeps."""

    most = 10

    def sweep(self, y, q):
        q = q | {"phi": self.e_step(self.scores(q))}
        return q | self.rows(y, q) | self.columns(y, q)


class RateOfAllFactors(Right):
    """theta's rate has the sum of beta over the factors too."""

    def rate_theta(self, q):
        return B + (q["c"] / q["e"]).sum() * np.ones_like(q["a"])


class ModeForMean(Right):
    """The mode of theta for its mean in the rate of beta."""

    def rate_beta(self, q):
        mode = np.maximum(q["a"] - 1, 0) / q["b"]
        return E + mode.sum(axis=0)[:, None] * np.ones_like(q["c"])


class SharesNotCounts(Right):
    """theta's shape has the shares, not weighted by the counts."""

    def shape_theta(self, y, q):
        return A + q["phi"].sum(axis=1)


class LastColumnIgnored(Right):
    """The last column is left out of theta's shape."""

    def shape_theta(self, y, q):
        return A + np.einsum("nd,ndk->nk", y[:, :-1], q["phi"][:, :-1])


class NoFactorials(Right):
    """log y! is dropped from the bound."""

    constant = True

    def factorials(self, y):
        return 0.0


class NoEntropy(Right):
    """The entropy of the shares is left out of the bound."""

    def entropy(self, y, q):
        return 0.0


class EntropyPerCell(Right):
    """The entropy is of one draw in each cell, not of y draws."""

    def entropy(self, y, q):
        return -np.sum(xlogy(q["phi"], q["phi"]))


class NoRates(Right):
    """The expected rates are left out of the bound."""

    def rates(self, q):
        return np.zeros(())


class NoKLOfColumns(Right):
    """The divergence of beta is left out of the bound."""

    def kl_beta(self, q):
        return 0.0


class ScaleForRateInKL(Right):
    """The divergence takes the prior's rate for its scale."""

    def kl_gamma(self, a, b, a0, b0):
        return super().kl_gamma(a, b, a0, 1 / b0)


class ScaleForRate(Right):
    """theta is returned with the scale in the place of the rate."""

    def result(self, y, q, trace):
        return super().result(y, q | {"b": 1 / q["b"]}, trace)


class PhiFromTheSweepBefore(Right):
    """The shares that are returned are of the sweep before; ten sweeps."""

    most = 10

    def sweep(self, y, q):
        return super().sweep(y, q) | {"old": q.get("phi")}

    def result(self, y, q, trace):
        return super().result(y, q | {"phi": q["old"]}, trace)


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, ColumnsFirst]
COARSE = [ColumnsAsPoint, LogNormalRows]
MUTANTS = [
    LogOfMean,
    LogOfMeanInEStep,
    NoDigamma,
    PriorsSwapped,
    NoPriorShape,
    NoPriorRate,
    OldMeans,
    RateOfAllFactors,
    ModeForMean,
    SharesNotCounts,
    LastColumnIgnored,
    NoFactorials,
    NoEntropy,
    EntropyPerCell,
    NoRates,
    NoKLOfColumns,
    ScaleForRateInKL,
    ScaleForRate,
    PhiFromTheSweepBefore,
    StoppedEarly,
]
