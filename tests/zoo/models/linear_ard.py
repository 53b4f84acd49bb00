"""Linear regression, a precision per weight: CAVI by hand, right and with one fault.

Automatic relevance determination: Bishop (2006), sections 7.2 and 10.3.
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

A, B = 3.0, 2.0  # tau ~ Gamma(A, B), the precision of the noise
C, D = 2.0, 1.5  # alpha_j ~ Gamma(C, D), the precision of weight j
LOG_2PI = np.log(2 * np.pi)


def model(X, y):
    """Weights w (p,) with precisions alpha (p,), and the noise's precision tau."""
    tau = numpyro.sample("tau", dist.Gamma(A, B))
    with numpyro.plate("column", X.shape[1]):
        alpha = numpyro.sample("alpha", dist.Gamma(C, D))
        w = numpyro.sample("w", dist.Normal(0, alpha**-0.5))
    numpyro.sample("y", dist.Normal(X @ w, tau**-0.5).to_event(1), obs=y)


def data(seed=0):
    """30 rows simulated from the model: a column of ones and three covariates."""
    random = np.random.default_rng(seed)
    X = np.c_[np.ones(30), random.normal(size=(30, 3))]
    X[:, 3] = (X[:, 2] + X[:, 3]) / np.sqrt(2)  # two columns are correlated
    w = random.normal(size=4) / np.sqrt(random.gamma(C, 1 / D, 4))
    tau = random.gamma(A, 1 / B)
    return {"X": X, "y": X @ w + random.normal(size=30) / np.sqrt(tau)}


def gamma_entropy(a, b):
    return np.sum(a - np.log(b) + gammaln(a) + (1 - a) * digamma(a))


class Right:
    """q(w) is a full Normal of mean m and covariance S, q(tau) and q(alpha) Gammas."""

    tol = 1e-12
    most = 5000

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
        q = {"a": A, "b": B * random.gamma(2), "c": C * np.ones(p)}
        return q | {"d": random.gamma(2, D, p), "m": np.zeros(p), "S": np.eye(p)}

    def sweep(self, X, y, q):
        q = q | self.weights(X, y, q)
        q = q | self.noise(X, y, q)
        return q | self.relevance(q)

    def tau(self, q):
        """E[tau] and E[log tau]."""
        return q["a"] / q["b"], digamma(q["a"]) - np.log(q["b"])

    def alpha(self, q):
        """E[alpha] and E[log alpha]."""
        return q["c"] / q["d"], digamma(q["c"]) - np.log(q["d"])

    def penalty(self, q):
        """The prior's part of the precision of w."""
        return np.diag(self.alpha(q)[0])

    def weights(self, X, y, q):
        tau = self.tau(q)[0]
        S = np.linalg.inv(tau * X.T @ X + self.penalty(q))
        return {"m": tau * S @ (X.T @ y), "S": S}

    def square(self, X, y, q):
        """E |y - X w|^2."""
        return np.sum((y - X @ q["m"]) ** 2) + np.sum((X @ q["S"]) * X)

    def squares(self, q):
        """E w_j^2."""
        return q["m"] ** 2 + np.diag(q["S"])

    def noise(self, X, y, q):
        return {"a": A + len(y) / 2, "b": B + self.square(X, y, q) / 2}

    def relevance(self, q):
        return {"c": (C + 0.5) * np.ones_like(q["m"]), "d": D + self.squares(q) / 2}

    def likelihood(self, X, y, q):
        tau, log_tau = self.tau(q)
        return len(y) / 2 * (log_tau - LOG_2PI) - tau / 2 * self.square(X, y, q)

    def prior_weights(self, q):
        alpha, log_alpha = self.alpha(q)
        return 0.5 * np.sum(log_alpha - LOG_2PI - alpha * self.squares(q))

    def prior_noise(self, q):
        tau, log_tau = self.tau(q)
        return A * np.log(B) - gammaln(A) + (A - 1) * log_tau - B * tau

    def prior_relevance(self, q):
        alpha, log_alpha = self.alpha(q)
        size = C * np.log(D) - gammaln(C)
        return np.sum(size + (C - 1) * log_alpha - D * alpha)

    def entropy_weights(self, q):
        return 0.5 * (len(q["m"]) * (1 + LOG_2PI) + np.linalg.slogdet(q["S"])[1])

    def entropy_noise(self, q):
        return gamma_entropy(q["a"], q["b"])

    def entropy_relevance(self, q):
        return gamma_entropy(q["c"], q["d"])

    def bound(self, X, y, q):
        expected = self.likelihood(X, y, q) + self.prior_weights(q)
        expected += self.prior_noise(q) + self.prior_relevance(q)
        entropy = self.entropy_noise(q) + self.entropy_relevance(q)
        return expected + entropy + self.entropy_weights(q)

    def ended(self, trace):
        if len(trace) < 2:
            return False
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def factors(self, q):
        return {
            "w": dist.MultivariateNormal(q["m"], q["S"]),
            "tau": dist.Gamma(q["a"], q["b"]),
            "alpha": dist.Gamma(q["c"], q["d"]),
        }


class RightJax:
    """A jitted sweep from X'X, X'y and y'y; the Gammas first, then the weights."""

    def __call__(self, X, y, seed):
        X, y = jnp.asarray(X, float), jnp.asarray(y, float)
        p = X.shape[1]
        known = (len(y), X.T @ X, X.T @ y, y @ y)
        m, S, trace = jax.random.normal(jax.random.key(seed), (p,)), jnp.eye(p), []
        while len(trace) < 2 or trace[-1] - trace[-2] > 1e-11:
            m, S, rates, bound = self.sweep(known, m, S)
            trace.append(float(bound))
        q = {"w": dist.MultivariateNormal(m, S)}
        q["tau"] = dist.Gamma(A + len(y) / 2, rates[0])
        q["alpha"] = dist.Gamma(jnp.full(p, C + 0.5), rates[1])
        return {"q": q, "elbo": np.array(trace)}

    def second(self, m, S):
        """E w w'."""
        return S + jnp.outer(m, m)

    def residual(self, known, m, S):
        _, XX, Xy, yy = known
        return yy - 2 * m @ Xy + jnp.sum(XX * self.second(m, S))

    @partial(jax.jit, static_argnums=0)
    def sweep(self, known, m, S):
        n, XX, Xy, _ = known
        a, c = A + n / 2, C + 0.5
        b = B + self.residual(known, m, S) / 2
        d = D + jnp.diag(self.second(m, S)) / 2
        S = jnp.linalg.inv(a / b * XX + jnp.diag(c / d))
        m = a / b * S @ Xy
        return m, S, (b, d), self.bound(known, m, S, a, b, c, d)

    def bound(self, known, m, S, a, b, c, d):
        n, p = known[0], len(m)
        log_tau = jax_digamma(a) - jnp.log(b)
        log_alpha = jax_digamma(c) - jnp.log(d)
        of_y = n / 2 * (log_tau - LOG_2PI) - a / b * self.residual(known, m, S) / 2
        of_w = 0.5 * jnp.sum(log_alpha - c / d * jnp.diag(self.second(m, S)))
        of_w += 0.5 * (p + jnp.linalg.slogdet(S)[1])
        return of_y + of_w - self.kl(a, b, A, B) - jnp.sum(self.kl(c, d, C, D))

    def kl(self, a, b, a0, b0):
        terms = (a - a0) * jax_digamma(a) - jax_gammaln(a) + jax_gammaln(a0)
        return terms + a0 * jnp.log(b / b0) + a * (b0 - b) / b


class RightDamped(Right):
    """Half steps in the rates; SciPy's distributions."""

    def sweep(self, X, y, q):
        q = q | self.weights(X, y, q)
        new = self.noise(X, y, q) | self.relevance(q)
        return q | {k: (q[k] + new[k]) / 2 for k in new}

    def factors(self, q):
        return {
            "w": stats.multivariate_normal(q["m"], q["S"]),
            "tau": stats.gamma(q["a"], scale=1 / q["b"]),
            "alpha": stats.gamma(q["c"], scale=1 / q["d"]),
        }


class RightCholesky(Right):
    """Relevance first; q(w) is given by its Cholesky factor."""

    def sweep(self, X, y, q):
        q = q | self.relevance(q)
        q = q | self.weights(X, y, q)
        return q | self.noise(X, y, q)

    def factors(self, q):
        w = dist.MultivariateNormal(q["m"], scale_tril=np.linalg.cholesky(q["S"]))
        return super().factors(q) | {"w": w}


class Diagonal(Right):
    """Coarse: the weights are independent of each other."""

    def weights(self, X, y, q):
        tau, alpha = self.tau(q)[0], self.alpha(q)[0]
        m, v = q["m"].copy(), 1 / (tau * np.sum(X**2, axis=0) + alpha)
        for j in range(len(m)):
            rest = y - X @ m + X[:, j] * m[j]
            m[j] = v[j] * tau * X[:, j] @ rest
        return {"m": m, "S": np.diag(v)}

    def factors(self, q):
        w = dist.Normal(q["m"], np.sqrt(np.diag(q["S"])))
        return super().factors(q) | {"w": w}


class PointNoise(Right):
    """Coarse: tau is its most probable value."""

    def tau(self, q):
        mode = (q["a"] - 1) / q["b"]
        return mode, np.log(mode)

    def entropy_noise(self, q):
        return 0.0

    def factors(self, q):
        return super().factors(q) | {"tau": dist.Delta(self.tau(q)[0])}


class PointRelevance(Right):
    """Coarse: alpha is its most probable value."""

    def alpha(self, q):
        mode = (q["c"] - 1) / q["d"]
        return mode, np.log(mode)

    def entropy_relevance(self, q):
        return 0.0

    def factors(self, q):
        return super().factors(q) | {"alpha": dist.Delta(self.alpha(q)[0])}


class LogNormalNoise(Right):
    """Coarse: log tau is Normal, fitted in closed form: its variance is 1 / a."""

    def log_normal(self, q):
        return np.log(q["a"] / q["b"]) - 0.5 / q["a"], q["a"] ** -0.5

    def tau(self, q):
        return q["a"] / q["b"], self.log_normal(q)[0]

    def entropy_noise(self, q):
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


class LogOfMeanAlpha(Right):
    """log E[alpha] for E[log alpha] in the bound.

    The shape is fixed, so all bounds are off by the same number.
    """

    constant = True

    def alpha(self, q):
        mean = q["c"] / q["d"]
        return mean, np.log(mean)


class NoTrace(Right):
    """The trace term of E|Xw|^2 is left out, in the update of tau and the bound."""

    def square(self, X, y, q):
        return np.sum((y - X @ q["m"]) ** 2)


class NoTraceInRate(Right):
    """The trace term of E|Xw|^2 is left out of the rate of tau only."""

    def noise(self, X, y, q):
        return {"a": A + len(y) / 2, "b": B + np.sum((y - X @ q["m"]) ** 2) / 2}


class ShapeWithoutHalf(Right):
    """N for N/2 in the shape of tau."""

    def noise(self, X, y, q):
        return super().noise(X, y, q) | {"a": A + len(y)}


class RateWithoutHalf(Right):
    """The 1/2 is missing in the rate of tau."""

    def noise(self, X, y, q):
        return super().noise(X, y, q) | {"b": B + self.square(X, y, q)}


class RelevanceShape(Right):
    """The 1/2 is missing in the shape of alpha."""

    def relevance(self, q):
        return super().relevance(q) | {"c": C * np.ones_like(q["m"])}


class RelevanceRate(Right):
    """The rate of alpha is without its 1/2."""

    def relevance(self, q):
        return super().relevance(q) | {"d": D + self.squares(q)}


class NoVarianceInRelevance(Right):
    """The variance of w is left out of the rate of alpha."""

    def relevance(self, q):
        return super().relevance(q) | {"d": D + q["m"] ** 2 / 2}


class VarianceFromPrecision(Right):
    """E w_j^2 takes 1 / precision_jj for the variance, as if w were independent."""

    def squares(self, q):
        return q["m"] ** 2 + 1 / np.diag(np.linalg.inv(q["S"]))


class SharedRelevance(Right):
    """One rate for all weights: the mean of E w_j^2."""

    def relevance(self, q):
        d = D + np.full_like(q["m"], self.squares(q).mean()) / 2
        return super().relevance(q) | {"d": d}


class UnpenalisedIntercept(Right):
    """The intercept is not penalised in the update, though the prior says so."""

    def penalty(self, q):
        alpha = self.alpha(q)[0].copy()
        alpha[0] = 1e-6
        return np.diag(alpha)


class LeastSquares(Right):
    """The prior is left out of the mean of w: least squares, unshrunk."""

    def weights(self, X, y, q):
        m = np.linalg.lstsq(X, y)[0] if len(y) else np.zeros(X.shape[1])
        return super().weights(X, y, q) | {"m": m}


class NoiseVarianceForPrecision(Right):
    """1 / E[tau] for E[tau] in the update of w."""

    def weights(self, X, y, q):
        return super().weights(X, y, q | {"a": q["b"], "b": q["a"]})


class NoEntropyOfWeights(Right):
    """The entropy of q(w) is left out of the bound."""

    def entropy_weights(self, q):
        return 0.0


class NoEntropyOfRelevance(Right):
    """The entropy of q(alpha) is left out of the bound."""

    def entropy_relevance(self, q):
        return 0.0


class LogDetWithoutHalf(Right):
    """The 1/2 of the log determinant is missing in the entropy of q(w)."""

    def entropy_weights(self, q):
        return super().entropy_weights(q) + 0.5 * np.linalg.slogdet(q["S"])[1]


class OneAlphaInPrior(Right):
    """E[log alpha] of the first weight only counts in the prior of w."""

    def prior_weights(self, q):
        return super().prior_weights(q) - 0.5 * np.sum(self.alpha(q)[1][1:])


class StaleMoments(Right):
    """E w_j^2 in the update of alpha is that of the first sweep, ever after."""

    def start(self, X, random):
        self.kept = None
        return super().start(X, random)

    def relevance(self, q):
        if self.kept is None:
            self.kept = self.squares(q)
        return super().relevance(q) | {"d": D + self.kept / 2}


class DampedToStart(Right):
    """Damping mixes the rate of tau with its start, not with the last sweep's."""

    def noise(self, X, y, q):
        new = super().noise(X, y, q)
        return new | {"b": (9 * new["b"] + B) / 10}


class LastRowLost(Right):
    """X'y leaves out the last row; the bound is right."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        m = self.tau(q)[0] * new["S"] @ (X[:-1].T @ y[:-1])
        return new | {"m": m}


class CentredResponse(Right):
    """The response is centred before the fit, though the model has an intercept."""

    def prepare(self, X, y):
        X, y = super().prepare(X, y)
        return X, y - y.mean() if len(y) else y


class ScaleForRate(Right):
    """The returned Gamma of tau has the scale where the rate belongs."""

    def factors(self, q):
        return super().factors(q) | {"tau": dist.Gamma(q["a"], 1 / q["b"])}


class PrecisionForCovariance(Right):
    """The returned Normal of w has the precision where the covariance belongs."""

    def factors(self, q):
        w = dist.MultivariateNormal(q["m"], np.linalg.inv(q["S"]))
        return super().factors(q) | {"w": w}


class OffDiagonalLost(Right):
    """The returned Normal of w has the variances only; the bound is the full one's."""

    def factors(self, q):
        w = dist.Normal(q["m"], np.sqrt(np.diag(q["S"])))
        return super().factors(q) | {"w": w}


class ParallelWeights(Diagonal):
    """Independent weights all updated from the old residual at once."""

    def weights(self, X, y, q):
        tau, alpha = self.tau(q)[0], self.alpha(q)[0]
        v = 1 / (tau * np.sum(X**2, axis=0) + alpha)
        rest = (y - X @ q["m"])[:, None] + X * q["m"]
        return {"m": v * tau * np.sum(X * rest, axis=0), "S": np.diag(v)}


class OwnEffectKept(Diagonal):
    """The residual of a weight still has that weight's own effect taken off."""

    def weights(self, X, y, q):
        new = super().weights(X, y, q)
        m, v, tau = q["m"].copy(), np.diag(new["S"]), self.tau(q)[0]
        for j in range(len(m)):
            m[j] = v[j] * tau * X[:, j] @ (y - X @ m)
        return new | {"m": m}


class StoppedEarly(Right):
    """Three sweeps, whatever they reach."""

    most = 3


class NoConstant(Right):
    """log 2 pi of the rows is dropped."""

    constant = True

    def likelihood(self, X, y, q):
        return super().likelihood(X, y, q) + len(y) / 2 * LOG_2PI


class NoNormalisers(Right):
    """The prior Gammas' normalisers are dropped."""

    constant = True

    def prior_noise(self, q):
        return super().prior_noise(q) - A * np.log(B) + gammaln(A)

    def prior_relevance(self, q):
        dropped = C * np.log(D) - gammaln(C)
        return super().prior_relevance(q) - len(q["m"]) * dropped


class JaxOuterLost(RightJax):
    """E w w' is the outer product of the mean: the covariance is left out."""

    def second(self, m, S):
        return jnp.outer(m, m)


class JaxKLSign(RightJax):
    """The divergence of the Gammas has the sign of its log b / b0 wrong."""

    def kl(self, a, b, a0, b0):
        return super().kl(a, b, a0, b0) - 2 * a0 * jnp.log(b / b0)


RIGHT = [Right, RightJax, RightDamped, RightCholesky]
COARSE = [Diagonal, PointNoise, PointRelevance, LogNormalNoise]
MUTANTS = [
    LogOfMean,
    LogOfMeanAlpha,
    NoTrace,
    NoTraceInRate,
    ShapeWithoutHalf,
    RateWithoutHalf,
    RelevanceShape,
    RelevanceRate,
    NoVarianceInRelevance,
    VarianceFromPrecision,
    SharedRelevance,
    UnpenalisedIntercept,
    LeastSquares,
    NoiseVarianceForPrecision,
    NoEntropyOfWeights,
    NoEntropyOfRelevance,
    LogDetWithoutHalf,
    OneAlphaInPrior,
    StaleMoments,
    DampedToStart,
    LastRowLost,
    CentredResponse,
    ScaleForRate,
    PrecisionForCovariance,
    OffDiagonalLost,
    ParallelWeights,
    OwnEffectKept,
    StoppedEarly,
    NoConstant,
    NoNormalisers,
    JaxOuterLost,
    JaxKLSign,
]
