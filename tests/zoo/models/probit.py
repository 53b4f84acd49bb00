"""Probit regression with a latent z per row: CAVI by hand, right and with one fault.

Albert and Chib (1993): z_i ~ N(x_i w, 1), and y_i is 1 where z_i is positive.
Every mutant overrides one step of a right one. Its docstring names the fault.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import log_ndtr

SD = 1.2  # of every weight's prior
LOG_2PI = np.log(2 * np.pi)
FAR = 40.0  # as good as infinite, and log_prob has a gradient


def model(X, y):
    """Weights w (p,) and latents z (N,), whose signs are y."""
    w = numpyro.sample("w", dist.Normal(0, SD).expand([X.shape[1]]).to_event(1))
    z = numpyro.sample("z", dist.Normal(X @ w, 1).to_event(1))
    numpyro.sample("y", dist.Delta((z > 0).astype(int), event_dim=1), obs=y)


def data(seed=0):
    """25 rows simulated from the model: a column of ones and two covariates."""
    random = np.random.default_rng(seed)
    X = np.c_[np.ones(25), random.normal(size=(25, 2)) @ [[1, 0.6], [0, 0.8]]]
    z = X @ random.normal(0, SD, 3) + random.normal(size=25)
    return {"X": X, "y": (z > 0).astype(int)}


def half_lines(loc, y, scale=1.0):
    """Normals restricted to the positive where y is 1, to the negative elsewhere."""
    low, high = np.where(y > 0, 0.0, -FAR), np.where(y > 0, FAR, 0.0)
    return dist.TruncatedNormal(loc, scale, low=low, high=high)


def mills(t):
    """The Normal's density over its distribution function."""
    return np.exp(-0.5 * t**2 - 0.5 * LOG_2PI - log_ndtr(t))


class Right:
    """q(w) is Normal of mean m and covariance S, q(z_i) a half of N(eta_i, 1)."""

    tol = 1e-12
    most = 5000

    def __call__(self, X, y, seed):
        X, y = self.prepare(X, y)
        q = {"eta": self.start(X, np.random.default_rng(seed))}
        trace = []
        while len(trace) < self.most and not self.ended(trace):
            q = self.sweep(X, y, q)
            trace.append(self.bound(X, y, q))
        return {"q": self.factors(q, y), "elbo": trace}

    def prepare(self, X, y):
        return np.asarray(X, float), np.asarray(y)

    def start(self, X, random):
        return random.normal(size=len(X))

    def sweep(self, X, y, q):
        q = q | self.weights(X, y, q)
        return q | {"eta": self.latents(X, q)}

    def latents(self, X, q):
        return X @ q["m"]

    def latent_mean(self, eta, y):
        """E z."""
        sign = 2 * y - 1
        return eta + sign * mills(sign * eta)

    def penalty(self, p):
        return np.eye(p) / SD**2

    def weights(self, X, y, q):
        S = np.linalg.inv(self.penalty(X.shape[1]) + X.T @ X)
        return {"m": S @ X.T @ self.latent_mean(q["eta"], y), "S": S}

    def trace_term(self, X, q):
        return np.sum((X @ q["S"]) * X)

    def latent_part(self, X, y, q):
        """E log p(z | w) and the entropy of z, where eta = X m."""
        return log_ndtr((2 * y - 1) * q["eta"]).sum() - self.trace_term(X, q) / 2

    def prior(self, q):
        square = q["m"] @ q["m"] + np.trace(q["S"])
        return -0.5 * (len(q["m"]) * (LOG_2PI + 2 * np.log(SD)) + square / SD**2)

    def entropy(self, S):
        return 0.5 * (len(S) * (1 + LOG_2PI) + np.linalg.slogdet(S)[1])

    def bound(self, X, y, q):
        return self.latent_part(X, y, q) + self.prior(q) + self.entropy(q["S"])

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def latent_factor(self, eta, y):
        return half_lines(eta, y)

    def weights_factor(self, q):
        return dist.MultivariateNormal(q["m"], q["S"])

    def factors(self, q, y):
        return {"w": self.weights_factor(q), "z": self.latent_factor(q["eta"], y)}


class RightJax:
    """A while_loop; every term of the bound apart; z before w; z as mirrored halves."""

    most = 3000

    def __call__(self, X, y, seed):
        X, sign = jnp.asarray(X, float), 2.0 * jnp.asarray(y) - 1
        m, S, eta, trace, n = self.climb(X, sign, jax.random.key(seed))
        q = {"w": dist.MultivariateNormal(m, S), "z": self.latents(eta, y, sign)}
        return {"q": q, "elbo": np.asarray(trace[:n])}

    def latents(self, eta, y, sign):
        if not len(y):  # NumPyro transforms no empty array
            return half_lines(eta, y)
        half = dist.LeftTruncatedDistribution(dist.Normal(sign * eta, 1.0), low=0.0)
        mirror = dist.transforms.AffineTransform(0, sign)
        return dist.TransformedDistribution(half, mirror)

    @partial(jax.jit, static_argnums=0)
    def climb(self, X, sign, key):
        p = X.shape[1]
        S = jnp.linalg.inv(jnp.eye(p) / SD**2 + X.T @ X)

        def on(state):
            *_, trace, n = state
            rise = trace[n - 1] - trace[n - 2]
            small = rise < 1e-12 * (1 + jnp.abs(trace[n - 1]))
            return (n < 2) | ((n < self.most) & ~small)

        def sweep(state):
            m, _, trace, n = state
            eta = X @ m
            mean, second = self.moments(eta, sign)
            m = S @ X.T @ mean
            value = self.bound(X, m, S, eta, mean, second, sign)
            return m, eta, trace.at[n].set(value), n + 1

        start = (jax.random.normal(key, (p,)), jnp.zeros(len(X)))
        state = (*start, jnp.zeros(self.most), 0)
        m, eta, trace, n = jax.lax.while_loop(on, sweep, state)
        return m, S, eta, trace, n

    def mills(self, t):
        log_density = -0.5 * t**2 - 0.5 * LOG_2PI
        return jnp.exp(log_density - jax.scipy.special.log_ndtr(t))

    def moments(self, eta, sign):
        """E z and E z^2."""
        mean = eta + sign * self.mills(sign * eta)
        return mean, 1 + eta * mean

    def entropy(self, eta, mean, second, sign):
        far = second - 2 * eta * mean + eta**2
        return jnp.sum(0.5 * (LOG_2PI + far) + jax.scipy.special.log_ndtr(sign * eta))

    def bound(self, X, m, S, eta, mean, second, sign):
        at = X @ m
        square = second - 2 * mean * at + at**2 + jnp.sum((X @ S) * X, axis=1)
        of_z = -0.5 * jnp.sum(LOG_2PI + square)
        of_z += self.entropy(eta, mean, second, sign)
        ratio = S / SD**2
        kl = 0.5 * (jnp.trace(ratio) + m @ m / SD**2 - len(m))
        return of_z - kl + 0.5 * jnp.linalg.slogdet(ratio)[1]


class RightDamped(Right):
    """Half steps in the mean of w; SciPy's Normal for w."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        return new | {"m": (new["m"] + q.get("m", 0)) / 2}

    def weights_factor(self, q):
        return stats.multivariate_normal(q["m"], q["S"])


class Diagonal(Right):
    """Coarse: the weights are independent of each other."""

    def weights(self, X, y, q):
        v = 1 / (np.sum(X**2, axis=0) + SD**-2)
        z, m = self.latent_mean(q["eta"], y), q.get("m", np.zeros(len(v))).copy()
        for j in range(len(m)):
            m[j] = v[j] * X[:, j] @ (z - X @ m + X[:, j] * m[j])
        return {"m": m, "S": np.diag(v)}

    def weights_factor(self, q):
        return dist.Normal(q["m"], np.sqrt(np.diag(q["S"]))).to_event(1)


class Point(Right):
    """Coarse: w is its most probable value (EM)."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        return new | {"S": 0 * new["S"]}

    def entropy(self, S):
        return 0.0

    def weights_factor(self, q):
        return dist.Delta(q["m"], event_dim=1)


class WrongSide(Right):
    """The mean of z is that of the other half line."""

    def latent_mean(self, eta, y):
        return super().latent_mean(eta, 1 - y)


class NoSignInside(Right):
    """The sign of y is forgotten inside the ratio of density and distribution."""

    most = 6  # it diverges

    def latent_mean(self, eta, y):
        return eta + (2 * y - 1) * mills(eta)


class NotTruncated(Right):
    """The mean of z is that of the whole Normal."""

    def latent_mean(self, eta, y):
        return eta


class HalfNormal(Right):
    """The mean of z is taken at eta = 0: sqrt(2 / pi) on the side of y."""

    most = 6  # it diverges

    def latent_mean(self, eta, y):
        return eta + (2 * y - 1) * np.sqrt(2 / np.pi)


class LatentMode(Right):
    """The mode of z for its mean."""

    def latent_mean(self, eta, y):
        return (2 * y - 1) * np.maximum((2 * y - 1) * eta, 0)


class NoPrior(Right):
    """The prior is as good as left out of the update."""

    def penalty(self, p):
        return 1e-6 * np.eye(p)


class SdForVariance(Right):
    """The prior's sd for its variance in the update."""

    def penalty(self, p):
        return np.eye(p) / SD


class UnpenalisedIntercept(Right):
    """The intercept is not penalised in the update, though the prior says so."""

    def penalty(self, p):
        full = super().penalty(p)
        full[0, 0] = 1e-6
        return full


class NoTrace(Right):
    """The trace term of E|Xw|^2 is left out of the bound."""

    def trace_term(self, X, q):
        return 0.0


class TraceWithoutHalf(Right):
    """The 1/2 of the trace term is missing in the bound."""

    def trace_term(self, X, q):
        return 2 * super().trace_term(X, q)


class SignInBound(Right):
    """The sign of y is forgotten in the bound's log distribution function."""

    def latent_part(self, X, y, q):
        return log_ndtr(q["eta"]).sum() - self.trace_term(X, q) / 2


class NoEntropy(Right):
    """The entropy of q(w) is left out of the bound."""

    def entropy(self, S):
        return 0.0


class NoLatentEntropy(Right):
    """The entropy of z is left out of the bound."""

    def latent_part(self, X, y, q):
        z = half_lines(q["eta"], y)
        mean = np.asarray(self.latent_mean(q["eta"], y))
        far = np.asarray(z.variance) + (mean - q["eta"]) ** 2
        return -0.5 * (np.sum(LOG_2PI + far) + self.trace_term(X, q))


class NoTraceInPrior(Right):
    """The trace of S is left out of the prior's part of the bound."""

    def prior(self, q):
        return super().prior(q | {"S": 0 * q["S"]})


class KLSign(Right):
    """The divergence of w from its prior is added, not subtracted."""

    def bound(self, X, y, q):
        minus_kl = self.prior(q) + self.entropy(q["S"])
        return self.latent_part(X, y, q) - minus_kl


class PredictiveLatents(Right):
    """The returned z has the predictive sd sqrt(1 + x S x), not 1."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        self.sd = np.sqrt(1 + np.sum((X @ new["S"]) * X, axis=1))
        return new

    def latent_factor(self, eta, y):
        return half_lines(eta, y, self.sd)


class MeanForLocation(Right):
    """The returned z has its mean where the location belongs."""

    def latent_factor(self, eta, y):
        return half_lines(self.latent_mean(eta, y), y)


class LatentsAtZero(Right):
    """The returned z has the location 0."""

    def latent_factor(self, eta, y):
        return half_lines(0 * eta, y)


class WholeNormalReturned(Right):
    """The returned z is the whole Normal, on both sides of 0."""

    def latent_factor(self, eta, y):
        return dist.Normal(eta, 1.0)


class OtherHalfReturned(Right):
    """The returned z is on the wrong side of 0."""

    def latent_factor(self, eta, y):
        return half_lines(eta, 1 - y)


class PrecisionForCovariance(Right):
    """The returned Normal of w has the precision where the covariance belongs."""

    def weights_factor(self, q):
        return dist.MultivariateNormal(q["m"], np.linalg.inv(q["S"]))


class OffDiagonalLost(Right):
    """The returned Normal of w has the variances only; the bound is the full one's."""

    def weights_factor(self, q):
        return dist.Normal(q["m"], np.sqrt(np.diag(q["S"]))).to_event(1)


class LastRowLost(Right):
    """The mean of w leaves out the last row; the bound is right."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        z = self.latent_mean(q["eta"], y)
        return new | {"m": new["S"] @ X[:-1].T @ z[:-1]}


class CentredColumns(Right):
    """The columns are centred inside, and the intercept is not moved back."""

    def prepare(self, X, y):
        X, y = super().prepare(X, y)
        if len(y):
            X = np.c_[X[:, :1], X[:, 1:] - X[:, 1:].mean(axis=0)]
        return X, y


class StoppedEarly(Right):
    """Two sweeps, whatever they reach."""

    most = 2


class PreviousLatents(Right):
    """Three sweeps, and the latents returned are those before the last update."""

    most = 3

    def latents(self, X, q):
        self.kept = q["eta"]
        return super().latents(X, q)

    def latent_factor(self, eta, y):
        return half_lines(self.kept, y)


class PriorConstant(Right):
    """The prior's constant is dropped: log of its sd and log 2 pi."""

    constant = True

    def prior(self, q):
        return super().prior(q) + 0.5 * len(q["m"]) * (LOG_2PI + 2 * np.log(SD))


class LatentConstant(RightJax):
    """log 2 pi of the latents is dropped from E log p, not from their entropy."""

    constant = True

    def bound(self, X, *rest):
        return super().bound(X, *rest) + 0.5 * len(X) * LOG_2PI


class JaxSecondMoment(RightJax):
    """E z^2 is 1 + (E z)^2 in E log p, with the variance of the whole Normal."""

    def moments(self, eta, sign):
        mean, _ = super().moments(eta, sign)
        return mean, 1 + mean**2

    def entropy(self, eta, mean, second, sign):
        return super().entropy(eta, mean, 1 + eta * mean, sign)


class JaxEntropy(RightJax):
    """The entropy of z is that of whole Normals."""

    def entropy(self, eta, mean, second, sign):
        return 0.5 * len(eta) * (1 + LOG_2PI)


RIGHT = [Right, RightJax, RightDamped]
COARSE = [Diagonal, Point]
MUTANTS = [
    WrongSide,
    NoSignInside,
    NotTruncated,
    HalfNormal,
    LatentMode,
    NoPrior,
    SdForVariance,
    UnpenalisedIntercept,
    NoTrace,
    TraceWithoutHalf,
    SignInBound,
    NoEntropy,
    NoLatentEntropy,
    NoTraceInPrior,
    KLSign,
    PredictiveLatents,
    MeanForLocation,
    LatentsAtZero,
    WholeNormalReturned,
    OtherHalfReturned,
    PrecisionForCovariance,
    OffDiagonalLost,
    LastRowLost,
    CentredColumns,
    StoppedEarly,
    PreviousLatents,
    PriorConstant,
    LatentConstant,
    JaxSecondMoment,
    JaxEntropy,
]
