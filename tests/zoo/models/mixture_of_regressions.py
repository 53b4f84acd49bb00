"""A mixture of two linear regressions: CAVI by hand, right and with one fault.

Every mutant overrides one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import digamma, entr, gammaln, softmax

K = 2
WEIGHT = 2.0  # weights ~ Dirichlet(2, 2)
V = 2.0  # w ~ N(0, V I)
SHAPE, RATE = 3.0, 2.0  # of tau
LOG_2_PI = np.log(2 * np.pi)


def model(X, y):
    """Weights (2,), w (2, P), precisions tau (2,), z (N,)."""
    n, p = X.shape
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(K, WEIGHT)))
    with numpyro.plate("component", K):
        tau = numpyro.sample("tau", dist.Gamma(SHAPE, RATE))
        w = numpyro.sample("w", dist.Normal(0, V**0.5).expand([p]).to_event(1))
    rows = numpyro.plate("row", n) if n else nullcontext()  # a plate has rows
    of_z = jnp.broadcast_to(weights, (n, K))
    with rows:
        z = numpyro.sample("z", dist.Categorical(of_z))
        mean = jnp.sum(X * w[z], axis=-1)
        numpyro.sample("y", dist.Normal(mean, tau[z] ** -0.5), obs=y)


def data(seed=0):
    """A column of ones and a covariate X (25, 2), and the response y (25,)."""
    random = np.random.default_rng(seed + 10)  # the lines differ
    X = np.c_[np.ones(25), random.normal(size=25)]
    w, tau = random.normal(size=(K, 2)) * V**0.5, random.gamma(SHAPE, 1 / RATE, K)
    z = random.choice(K, 25, p=random.dirichlet(np.full(K, WEIGHT)))
    return {
        "X": X,
        "y": (X * w[z]).sum(axis=1) + random.normal(size=25) / tau[z] ** 0.5,
    }


class Right:
    """Bishop (2006), section 10.2, with regressions as components."""

    tol = 1e-11
    most = 5000

    def __call__(self, X, y, seed):
        X, y = np.asarray(X, float), np.asarray(y, float)
        phi, q, trace = self.start(y, np.random.default_rng(seed)), self.first(), []
        for _ in range(self.most):
            q = self.m_step(X, y, phi, q)
            phi = self.e_step(self.scores(X, y, q))
            trace.append(self.bound(X, y, phi, q))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(q, phi, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, y, random):
        return random.dirichlet(np.full(K, 0.5), len(y))

    def first(self):
        return {"a": np.full(K, SHAPE), "b": np.full(K, RATE)}

    def m_step(self, X, y, phi, q):
        q = {**q, "c": self.concentration(phi)}
        q = {**q, **dict(zip(("m", "S"), self.weights(X, y, phi, q), strict=True))}
        return {**q, "a": self.shape(phi), "b": self.rate(X, y, phi, q)}

    def concentration(self, phi):
        return WEIGHT + phi.sum(axis=0)

    def weights(self, X, y, phi, q):
        """Means (K, P) and covariances (K, P, P)."""
        tau = q["a"] / q["b"]
        gram = np.einsum("nk,np,nr->kpr", phi, X, X)
        precision = tau[:, None, None] * gram + np.eye(X.shape[1]) / V
        S = np.linalg.inv(precision)
        return np.einsum("kpr,kr->kp", S, tau[:, None] * ((phi.T * y) @ X)), S

    def squares(self, X, y, q):
        """E (y - x w)^2 (N, K)."""
        spread = np.einsum("np,kpr,nr->nk", X, q["S"], X)
        return (y[:, None] - X @ q["m"].T) ** 2 + spread

    def shape(self, phi):
        return SHAPE + phi.sum(axis=0) / 2

    def rate(self, X, y, phi, q):
        return RATE + np.sum(phi * self.squares(X, y, q), axis=0) / 2

    def log_weights(self, q):
        return digamma(q["c"]) - digamma(q["c"].sum())

    def log_tau(self, q):
        return digamma(q["a"]) - np.log(q["b"])

    def scores(self, X, y, q):
        rows = self.log_tau(q) - LOG_2_PI - q["a"] / q["b"] * self.squares(X, y, q)
        return self.log_weights(q) + rows / 2

    def e_step(self, scores):
        return softmax(scores, axis=1)

    def kl_weights(self, q):
        c = q["c"]
        sizes = gammaln(c.sum()) - gammaln(c).sum()
        sizes += K * gammaln(WEIGHT) - gammaln(K * WEIGHT)
        return sizes + (c - WEIGHT) @ (digamma(c) - digamma(c.sum()))

    def kl_tau(self, q):
        a, b = q["a"], q["b"]
        terms = (a - SHAPE) * digamma(a) - gammaln(a) + gammaln(SHAPE)
        return np.sum(terms + SHAPE * np.log(b / RATE) + a * (RATE - b) / b)

    def kl_w(self, q):
        p = q["m"].shape[1]
        spread = np.trace(q["S"], axis1=1, axis2=2) / V - np.linalg.slogdet(q["S"])[1]
        return np.sum(spread + (q["m"] ** 2).sum(axis=1) / V - p + p * np.log(V)) / 2

    def entropy(self, phi):
        return entr(phi).sum()

    def bound(self, X, y, phi, q):
        rows = np.sum(phi * self.scores(X, y, q)) + self.entropy(phi)
        return rows - self.kl_weights(q) - self.kl_tau(q) - self.kl_w(q)

    def result(self, q, phi, trace):
        found = {
            "weights": dist.Dirichlet(q["c"]),
            "tau": dist.Gamma(q["a"], q["b"]),
            "w": dist.MultivariateNormal(q["m"], q["S"]),
            "z": dist.Categorical(probs=phi),
        }
        return {"q": found, "elbo": np.array(trace)}


class Damped(Right):
    """Half steps in the natural parameters of w; dicts and SciPy's as q."""

    def first(self):
        return super().first() | {"natural": None}

    def m_step(self, X, y, phi, q):
        m, S = self.weights(X, y, phi, q)
        precision = np.linalg.inv(S)
        natural = np.concatenate([precision, (precision @ m[..., None])], axis=2)
        if q["natural"] is not None:
            natural = (natural + q["natural"]) / 2
        S = np.linalg.inv(natural[..., :-1])
        m = (S @ natural[..., -1:])[..., 0]
        q = {"natural": natural, "m": m, "S": S, "c": self.concentration(phi)}
        return q | {"a": self.shape(phi), "b": self.rate(X, y, phi, q)}

    def result(self, q, phi, trace):
        found = super().result(q, phi, trace)
        found["q"]["weights"] = stats.dirichlet(q["c"])
        found["q"]["tau"] = stats.gamma(q["a"], scale=1 / q["b"])
        found["q"]["w"] = {"loc": q["m"], "precision_matrix": np.linalg.inv(q["S"])}
        return found


class RightJax:
    """Compiled sweeps; the E-step's normaliser is the rows' part of the bound."""

    def __call__(self, X, y, seed):
        X, y = jnp.asarray(X, float), jnp.asarray(y, float)
        phi = jax.random.dirichlet(jax.random.key(seed), jnp.ones(K), (len(y),))
        mean_tau, trace = jnp.full(K, SHAPE / RATE), []
        while len(trace) < 5000:
            phi, mean_tau, q, bound = _sweep(X, y, phi, mean_tau)
            trace.append(float(bound))
            if len(trace) > 1 and trace[-1] - trace[-2] < 1e-11:
                break
        return {"q": q | {"z": dist.Categorical(probs=phi)}, "elbo": trace}


@jax.jit
def _sweep(X, y, phi, mean_tau):
    p = X.shape[1]

    def regression(r, tau):
        precision = tau * (X.T * r) @ X + jnp.eye(p) / V
        root = jnp.linalg.cholesky(precision)
        m = jax.scipy.linalg.cho_solve((root, True), tau * X.T @ (r * y))
        half = jax.scipy.linalg.solve_triangular(root, X.T, lower=True)
        tril = jnp.linalg.cholesky(jnp.linalg.inv(precision))
        return m, tril, (y - X @ m) ** 2 + (half**2).sum(0)

    m, tril, squares = jax.vmap(regression)(phi.T, mean_tau)
    counts, psi = phi.sum(0), jax.scipy.special.digamma
    a, b = SHAPE + counts / 2, RATE + (phi.T * squares).sum(1) / 2
    q = {"weights": dist.Dirichlet(WEIGHT + counts), "tau": dist.Gamma(a, b)}
    q["w"] = dist.MultivariateNormal(m, scale_tril=tril)
    log_weights = psi(WEIGHT + counts) - psi(K * WEIGHT + len(y))
    rows = (psi(a) - jnp.log(b) - LOG_2_PI - (a / b) * squares.T) / 2
    scores = log_weights + rows
    bound = jax.nn.logsumexp(scores, axis=1).sum()
    prior = {
        "weights": dist.Dirichlet(jnp.full(K, WEIGHT)),
        "tau": dist.Gamma(SHAPE, RATE),
        "w": dist.MultivariateNormal(jnp.zeros(p), V * jnp.eye(p)),
    }
    for site, own in q.items():
        bound -= dist.kl_divergence(own, prior[site]).sum()
    return jax.nn.softmax(scores, axis=1), a / b, q, bound


class DiagonalWeights(Right):
    """Coarse: the entries of w are independent; each in turn."""

    def first(self):
        return super().first() | {"m": None}

    def weights(self, X, y, phi, q):
        tau, p = q["a"] / q["b"], X.shape[1]
        gram = tau[:, None, None] * np.einsum("nk,np,nr->kpr", phi, X, X)
        right = tau[:, None] * ((phi.T * y) @ X)
        precision = np.einsum("kpp->kp", gram) + 1 / V
        m = np.zeros((K, p)) if q["m"] is None else q["m"].copy()
        for j in range(p):
            others = np.einsum("kr,kr->k", gram[:, j], m) - gram[:, j, j] * m[:, j]
            m[:, j] = (right[:, j] - others) / precision[:, j]
        return m, np.stack([np.diag(v) for v in 1 / precision])

    def result(self, q, phi, trace):
        found = super().result(q, phi, trace)
        scale = np.sqrt(np.einsum("kpp->kp", q["S"]))
        found["q"]["w"] = dist.Normal(q["m"], scale)
        return found


class NoiseAsPoint(Right):
    """Coarse: tau is a point, at the maximum of the expected log joint."""

    def shape(self, phi):
        return super().shape(phi) - 1

    def log_tau(self, q):
        return np.log(q["a"] / q["b"])

    def kl_tau(self, q):
        return -stats.gamma.logpdf(q["a"] / q["b"], SHAPE, scale=1 / RATE).sum()

    def result(self, q, phi, trace):
        found = super().result(q, phi, trace)
        found["q"]["tau"] = dist.Delta(q["a"] / q["b"])
        return found


class NoHalfInShape(Right):
    """N for N / 2 in the shape of tau."""

    def shape(self, phi):
        return SHAPE + phi.sum(axis=0)


class NoHalfInRate(Right):
    """The sum of squares is not halved in the rate of tau."""

    def rate(self, X, y, phi, q):
        return RATE + np.sum(phi * self.squares(X, y, q), axis=0)


class NoSpread(Right):
    """x S x is missing in the expected squares, everywhere."""

    def squares(self, X, y, q):
        return (y[:, None] - X @ q["m"].T) ** 2


class NoSpreadInRate(Right):
    """x S x is missing in the rate of tau; the rest has it."""

    def rate(self, X, y, phi, q):
        squares = (y[:, None] - X @ q["m"].T) ** 2
        return RATE + np.sum(phi * squares, axis=0) / 2


class NoSpreadInEStep(Right):
    """x S x is missing in the responsibilities; the bound has it."""

    def e_step(self, scores):
        return super().e_step(scores + self.left_out)

    def scores(self, X, y, q):
        spread = np.einsum("np,kpr,nr->nk", X, q["S"], X)
        self.left_out = q["a"] / q["b"] * spread / 2
        return super().scores(X, y, q)


class SpreadNotWeighted(Right):
    """The rate of tau has x S x of all rows, not weighted by responsibilities."""

    def rate(self, X, y, phi, q):
        spread = np.einsum("np,kpr,nr->k", X, q["S"], X)
        plain = np.sum(phi * (y[:, None] - X @ q["m"].T) ** 2, axis=0)
        return RATE + (plain + spread) / 2


class LogOfMeanWeights(Right):
    """log of the mean weights for the mean of their log."""

    def log_weights(self, q):
        return np.log(q["c"] / q["c"].sum())


class LogOfMeanTau(Right):
    """log E[tau] for E[log tau]."""

    def log_tau(self, q):
        return np.log(q["a"] / q["b"])


class LogTauDropped(Right):
    """E[log tau] is left out of the responsibilities; the bound has it."""

    def e_step(self, scores):
        return super().e_step(scores - self.left_out)

    def scores(self, X, y, q):
        self.left_out = self.log_tau(q) / 2
        return super().scores(X, y, q)


class NoDigammaOfTotal(Right):
    """digamma of the total is missing; the responsibilities do not see it."""

    constant = True

    def log_weights(self, q):
        return digamma(q["c"])


class NoPriorOfWeights(Right):
    """The prior is left out of the weights' counts."""

    def concentration(self, phi):
        return np.maximum(phi.sum(axis=0), 1e-3)


class NoPriorOfW(Right):
    """The ridge of the prior is missing in w's precision."""

    def weights(self, X, y, phi, q):
        _, S = super().weights(X, y, phi, q)
        precision = np.linalg.inv(S) - np.eye(X.shape[1]) / V * (1 - 1e-6)
        S, tau = np.linalg.inv(precision), q["a"] / q["b"]
        return np.einsum("kpr,kr->kp", S, tau[:, None] * ((phi.T * y) @ X)), S


class VarianceForPrecision(Right):
    """The prior's variance of w stands in the place of its precision."""

    def weights(self, X, y, phi, q):
        _, S = super().weights(X, y, phi, q)
        precision = np.linalg.inv(S) + np.eye(X.shape[1]) * (V - 1 / V)
        S, tau = np.linalg.inv(precision), q["a"] / q["b"]
        return np.einsum("kpr,kr->kp", S, tau[:, None] * ((phi.T * y) @ X)), S


class GramOfAllRows(Right):
    """w's precision has X'X of all rows, not weighted by responsibilities."""

    def weights(self, X, y, phi, q):
        tau = q["a"] / q["b"]
        precision = tau[:, None, None] * (X.T @ X) + np.eye(X.shape[1]) / V
        S = np.linalg.inv(precision)
        return np.einsum("kpr,kr->kp", S, tau[:, None] * ((phi.T * y) @ X)), S


class NoTauInCovariance(Right):
    """tau is missing in w's precision, as if the noise had variance 1."""

    def weights(self, X, y, phi, q):
        return super().weights(X, y, phi, q | {"a": np.ones(K), "b": np.ones(K)})


class WrongAxis(Right):
    """Responsibilities are scaled over the rows first, over the components then."""

    def e_step(self, scores):
        phi = softmax(scores, axis=0)
        return phi / phi.sum(axis=1, keepdims=True)


class NoEntropy(Right):
    """The entropy of z is left out of the bound."""

    def entropy(self, phi):
        return 0.0


class NoConstant(Right):
    """log 2 pi is dropped."""

    constant = True

    def bound(self, X, y, phi, q):
        return super().bound(X, y, phi, q) + len(y) * LOG_2_PI / 2


class NoLogVInKL(Right):
    """The log of the prior's variance is dropped from the divergence of w."""

    constant = True

    def kl_w(self, q):
        return super().kl_w(q) - q["m"].size * np.log(V) / 2


class KLOfOneDimension(Right):
    """The divergence of w has -1 for -P."""

    constant = True

    def kl_w(self, q):
        return super().kl_w(q) + (q["m"].size - K) / 2


class KLSwapped(Right):
    """The divergence of tau is that of the prior from q."""

    def kl_tau(self, q):
        prior = dist.Gamma(SHAPE, RATE)
        own = dist.Gamma(q["a"], q["b"])
        return float(dist.kl_divergence(prior, own).sum())


class FirstRowIgnored(Right):
    """The first row is left out of the regressions."""

    def weights(self, X, y, phi, q):
        return super().weights(X[1:], y[1:], phi[1:], q)


class PhiFromTheSweepBefore(Right):
    """The z that is returned is of the sweep before; five sweeps."""

    most = 5

    def e_step(self, scores):
        self.before, self.last = getattr(self, "last", None), super().e_step(scores)
        return self.last

    def result(self, q, phi, trace):
        return super().result(q, self.before, trace)


class ScaleForRate(Right):
    """The Gamma of tau that is returned has the scale in the place of the rate."""

    def result(self, q, phi, trace):
        return super().result({**q, "b": 1 / q["b"]}, phi, trace)


class DiagonalReturned(Right):
    """The covariance of w is fitted full, and returned without its cross terms."""

    def result(self, q, phi, trace):
        return super().result({**q, "S": q["S"] * np.eye(q["S"].shape[1])}, phi, trace)


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, Damped]
COARSE = [DiagonalWeights, NoiseAsPoint]
MUTANTS = [
    NoHalfInShape,
    NoHalfInRate,
    NoSpread,
    NoSpreadInRate,
    NoSpreadInEStep,
    SpreadNotWeighted,
    LogOfMeanWeights,
    LogOfMeanTau,
    LogTauDropped,
    NoDigammaOfTotal,
    NoPriorOfWeights,
    NoPriorOfW,
    VarianceForPrecision,
    GramOfAllRows,
    NoTauInCovariance,
    WrongAxis,
    NoEntropy,
    NoConstant,
    NoLogVInKL,
    KLOfOneDimension,
    KLSwapped,
    FirstRowIgnored,
    PhiFromTheSweepBefore,
    ScaleForRate,
    DiagonalReturned,
    StoppedEarly,
]
