"""Variational mixtures of other families in NumPy, right, and with one fault each.

All are of the full form: f(problem) gives an object with draws, a density, a bound.
Every mutant overrides one step of a right one. Its docstring names the fault.
"""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
from scipy import stats
from scipy.special import (
    betaln,
    digamma,
    gammaln,
    logsumexp,
    multigammaln,
    softmax,
)

from vi_bench.errors import NotApplicable


def numpy_random(key):
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


class MixtureCAVI:
    """Coordinate ascent for any family; `families` says which."""

    families: tuple[str, ...] = ()
    tol = 1e-11
    most = 3000

    def __call__(self, problem):
        random = np.random.default_rng(problem.seed)
        x, K, prior = problem.data, problem.K, problem.model
        alpha = problem.weights.get("concentration")
        phi = self.start(x, K, random)
        trace = []
        for _ in range(self.most):
            q = self.m_step(x, phi, prior)
            a = None if alpha is None or K == 1 else self.weights(phi, alpha)
            scores = self.scores(x, q) + self.log_weights(a, K)
            phi = self.e_step(scores)
            kl = self.kl(q, prior, x.shape[1]) + self.kl_weights(a, alpha)
            trace.append(self.bound(scores, phi) - kl)
            if len(trace) > 1 and trace[-1] - trace[-2] < self.tol:
                break
        return self.fitted(q, a, np.array(trace))

    def start(self, x, K, random):
        return random.dirichlet(np.full(K, 0.3), len(x))

    def e_step(self, scores):
        return softmax(scores, axis=1)

    def bound(self, scores, phi):
        return logsumexp(scores, axis=1).sum()

    def weights(self, phi, alpha):
        return alpha + phi.sum(axis=0)

    def log_weights(self, a, K):
        return -np.log(K) if a is None else digamma(a) - digamma(a.sum())

    def kl_weights(self, a, alpha):
        if a is None:
            return 0.0
        prior = np.full(len(a), alpha)
        size = gammaln(a.sum()) - gammaln(a).sum()
        size -= gammaln(prior.sum()) - gammaln(prior).sum()
        return size + (a - prior) @ (digamma(a) - digamma(a.sum()))

    def fitted(self, q, a, trace):
        def sample(key, n):
            random = numpy_random(key)
            draws = self.draw(random, q, n)
            if a is not None:
                draws["weight"] = random.dirichlet(a, n)
            return draws

        def log_prob(theta):
            total = self.log_q(theta, q)
            if a is not None:
                total += stats.dirichlet.logpdf(theta["weight"].T, a)
            return total

        return SimpleNamespace(
            sample=sample, log_prob=log_prob, bound=trace, keeps_labels=True
        )


class PoissonCAVI(MixtureCAVI):
    """Gamma factors of the rates, shape a and rate b; a Dirichlet of the weights."""

    families = ("poisson",)

    def m_step(self, x, phi, prior):
        return {
            "a": prior["shape"] + phi.T @ x,
            "b": prior["rate"] + phi.sum(axis=0)[:, None] * np.ones(x.shape[1]),
        }

    def scores(self, x, q):
        log_rate, rate = self.moments(q)
        base = -gammaln(x + 1).sum(axis=1)[:, None]
        return base + x @ log_rate.T - rate.sum(axis=1)

    def moments(self, q):
        return digamma(q["a"]) - np.log(q["b"]), q["a"] / q["b"]

    def kl(self, q, prior, d):
        a, b, a0, b0 = q["a"], q["b"], prior["shape"], prior["rate"]
        terms = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        return np.sum(terms + a0 * np.log(b / b0) + a * (b0 - b) / b)

    def draw(self, random, q, n):
        return {"rate": random.gamma(q["a"], 1 / q["b"], (n, *q["a"].shape))}

    def log_q(self, theta, q):
        terms = stats.gamma.logpdf(theta["rate"], q["a"], scale=1 / q["b"])
        return terms.sum(axis=(1, 2))


class LogOfMean(PoissonCAVI):
    """log E[rate] for E[log rate]: the logarithm for digamma."""

    def moments(self, q):
        rate = q["a"] / q["b"]
        return np.log(rate), rate


class ShapeWithoutPrior(PoissonCAVI):
    """The prior's shape is left out of the factor."""

    def m_step(self, x, phi, prior):
        q = super().m_step(x, phi, prior)
        return q | {"a": np.maximum(q["a"] - prior["shape"], 1e-3)}


class ScaleForRate(PoissonCAVI):
    """The draws take the rate of the Gamma for its scale."""

    def draw(self, random, q, n):
        return {"rate": random.gamma(q["a"], q["b"], (n, *q["a"].shape))}


class NoFactorials(PoissonCAVI):
    """log x! is dropped from the bound."""

    def bound(self, scores, phi):
        return super().bound(scores, phi) + self.dropped

    def scores(self, x, q):
        self.dropped = gammaln(x + 1).sum()
        return super().scores(x, q)


class NoLogWeights(PoissonCAVI):
    """Expected log-weights are left out of the assignments and of the bound."""

    def log_weights(self, a, K):
        return 0.0 if a is not None else super().log_weights(a, K)


class LogOfWeights(PoissonCAVI):
    """log E[weight] for E[log weight]."""

    def log_weights(self, a, K):
        return super().log_weights(a, K) if a is None else np.log(a / a.sum())


class CountsWithoutPrior(PoissonCAVI):
    """The counts of the weights are off by the prior's."""

    def weights(self, phi, alpha):
        return np.maximum(phi.sum(axis=0), 1e-3)


class NoWeightsKL(PoissonCAVI):
    """KL of the weights is left out of the bound."""

    def kl_weights(self, a, alpha):
        return 0.0


class OneDigamma(PoissonCAVI):
    """digamma of the sum is left out of the expected log-weights.

    It is the same for all components, so the assignments do not change.
    """

    def log_weights(self, a, K):
        return super().log_weights(a, K) if a is None else digamma(a)


class TotalByColumns(PoissonCAVI):
    """Assignments are normalised over the rows."""

    def e_step(self, scores):
        phi = softmax(scores, axis=0)
        return phi / np.maximum(phi.sum(axis=1, keepdims=True), 1e-300)


class HalfTheRows(PoissonCAVI):
    """Every second row is never read in the M-step."""

    def m_step(self, x, phi, prior):
        return super().m_step(x[::2], phi[::2], prior)


class StoppedEarly(PoissonCAVI):
    """Two sweeps, whatever they reach."""

    most = 2


class WeightDensityOfLogs(PoissonCAVI):
    """The density of the weights is that of their logarithms."""

    def fitted(self, q, a, trace):
        found = super().fitted(q, a, trace)
        right = found.log_prob

        def log_prob(theta):
            if a is None:
                return right(theta)
            return right(theta) + np.log(theta["weight"][:, :-1]).sum(axis=1)

        found.log_prob = log_prob
        return found


class BernoulliCAVI(MixtureCAVI):
    """Beta factors of the probabilities."""

    families = ("bernoulli",)

    def m_step(self, x, phi, prior):
        return {"a": prior["a"] + phi.T @ x, "b": prior["b"] + phi.T @ (1 - x)}

    def scores(self, x, q):
        both = digamma(q["a"] + q["b"])
        return x @ (digamma(q["a"]) - both).T + (1 - x) @ (digamma(q["b"]) - both).T

    def kl(self, q, prior, d):
        a, b, a0, b0 = q["a"], q["b"], prior["a"], prior["b"]
        terms = (a - a0) * digamma(a) + (b - b0) * digamma(b)
        terms += (a0 + b0 - a - b) * digamma(a + b)
        return np.sum(terms - betaln(a, b) + betaln(a0, b0))

    def draw(self, random, q, n):
        return {"probability": random.beta(q["a"], q["b"], (n, *q["a"].shape))}

    def log_q(self, theta, q):
        terms = stats.beta.logpdf(theta["probability"], q["a"], q["b"])
        return terms.sum(axis=(1, 2))


class ZerosByAllRows(BernoulliCAVI):
    """b counts all rows of a component, not those that are 0."""

    def m_step(self, x, phi, prior):
        q = super().m_step(x, phi, prior)
        return q | {"b": prior["b"] + phi.sum(axis=0)[:, None] * np.ones(x.shape[1])}


class OnesOnly(BernoulliCAVI):
    """The zeros' term is missing in the assignments."""

    def scores(self, x, q):
        return x @ (digamma(q["a"]) - digamma(q["a"] + q["b"])).T


class BetaSwapped(BernoulliCAVI):
    """The draws have a and b swapped."""

    def draw(self, random, q, n):
        return {"probability": random.beta(q["b"], q["a"], (n, *q["a"].shape))}


class KLOtherWay(BernoulliCAVI):
    """KL(p || q) for KL(q || p)."""

    def kl(self, q, prior, d):
        given = {name: np.full(q["a"].shape, prior[name]) for name in ("a", "b")}
        return super().kl(given, q, d)


class DiagonalCAVI(MixtureCAVI):
    """Normal-Gamma factors of mean and precision by feature."""

    families = ("gaussian-diagonal",)

    def m_step(self, x, phi, prior):
        n = phi.sum(axis=0)[:, None]
        kappa0, m0 = prior["kappa"], prior["mean"]
        kappa = kappa0 + n
        m = (kappa0 * m0 + phi.T @ x) / kappa
        square = phi.T @ x**2 + kappa0 * m0**2 - kappa * m**2
        shape = prior["shape"] + 0.5 * n * np.ones(x.shape[1])
        return {"m": m, "kappa": kappa, "a": shape, "b": prior["rate"] + 0.5 * square}

    def scores(self, x, q):
        precision, log = q["a"] / q["b"], digamma(q["a"]) - np.log(q["b"])
        apart = precision * (x[:, None] - q["m"]) ** 2 + self.of_mean(q)
        return 0.5 * (log - np.log(2 * np.pi) - apart).sum(axis=2)

    def of_mean(self, q):
        """E precision (mu - m)^2."""
        return 1 / q["kappa"]

    def kl(self, q, prior, d):
        a, b, a0, b0 = q["a"], q["b"], prior["shape"], prior["rate"]
        gamma = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        gamma += a0 * np.log(b / b0) + a * (b0 - b) / b
        ratio = prior["kappa"] / q["kappa"]
        away = prior["kappa"] * a / b * (q["m"] - prior["mean"]) ** 2
        return np.sum(gamma + 0.5 * (ratio - 1 - np.log(ratio) + away))

    def draw(self, random, q, n):
        precision = random.gamma(q["a"], 1 / q["b"], (n, *q["a"].shape))
        sd = 1 / np.sqrt(q["kappa"] * precision)
        return {"mu": random.normal(q["m"], sd), "precision": precision}

    def log_q(self, theta, q):
        precision = theta["precision"]
        sd = 1 / np.sqrt(q["kappa"] * precision)
        terms = stats.gamma.logpdf(precision, q["a"], scale=1 / q["b"])
        terms += stats.norm.logpdf(theta["mu"], q["m"], sd)
        return terms.sum(axis=(1, 2))


class FullCount(DiagonalCAVI):
    """The Gamma's shape grows by a row's whole, not by its half."""

    def m_step(self, x, phi, prior):
        q = super().m_step(x, phi, prior)
        return q | {"a": 2 * q["a"] - prior["shape"]}


class NoShrinkageInRate(DiagonalCAVI):
    """The prior mean's pull is missing in the rate of the precision."""

    def m_step(self, x, phi, prior):
        q = super().m_step(x, phi, prior)
        n = phi.sum(axis=0)[:, None]
        mean = phi.T @ x / np.maximum(n, 1e-300)
        within = phi.T @ x**2 - n * mean**2
        return q | {"b": prior["rate"] + 0.5 * within}


class NoUncertaintyOfMean(DiagonalCAVI):
    """1 / kappa, the mean's own uncertainty, is missing in the assignments."""

    def of_mean(self, q):
        return 0.0


class VarianceDrawn(DiagonalCAVI):
    """The precision that is drawn is the variance."""

    def draw(self, random, q, n):
        draws = super().draw(random, q, n)
        return draws | {"precision": 1 / draws["precision"]}


class NoJacobian(DiagonalCAVI):
    """log_prob is the density of the log precision."""

    def log_q(self, theta, q):
        jacobian = np.log(theta["precision"]).sum(axis=(1, 2))
        return super().log_q(theta, q) + jacobian


class IndependentMeans(DiagonalCAVI):
    """No fault: a coarser q, the mean independent of the precision."""

    def m_step(self, x, phi, prior):
        n = phi.sum(axis=0)[:, None]
        kappa = prior["kappa"] + n
        m = (prior["kappa"] * prior["mean"] + phi.T @ x) / kappa
        a = prior["shape"] + 0.5 * (n + 1) * np.ones(x.shape[1])
        apart = phi.T @ x**2 - 2 * m * (phi.T @ x) + n * m**2
        apart += prior["kappa"] * (m - prior["mean"]) ** 2
        # the sd of the mean and the rate of the precision depend on one another
        b = np.full(m.shape, 1.0)
        for _ in range(200):
            tau = kappa * a / b
            b = prior["rate"] + 0.5 * (apart + kappa / tau)
        return {"m": m, "tau": tau, "kappa": kappa, "a": a, "b": b}

    def of_mean(self, q):
        return q["a"] / q["b"] / q["tau"]

    def kl(self, q, prior, d):
        a, b, a0, b0 = q["a"], q["b"], prior["shape"], prior["rate"]
        gamma = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        gamma += a0 * np.log(b / b0) + a * (b0 - b) / b
        log = digamma(a) - np.log(b)
        entropy = 0.5 * (1 - np.log(q["tau"]))
        away = (q["m"] - prior["mean"]) ** 2 + 1 / q["tau"]
        cross = 0.5 * (np.log(prior["kappa"]) + log - prior["kappa"] * a / b * away)
        return np.sum(gamma - entropy - cross)

    def draw(self, random, q, n):
        shape = (n, *q["a"].shape)
        return {
            "mu": random.normal(q["m"], 1 / np.sqrt(q["tau"]), shape),
            "precision": random.gamma(q["a"], 1 / q["b"], shape),
        }

    def log_q(self, theta, q):
        terms = stats.gamma.logpdf(theta["precision"], q["a"], scale=1 / q["b"])
        terms += stats.norm.logpdf(theta["mu"], q["m"], 1 / np.sqrt(q["tau"]))
        return terms.sum(axis=(1, 2))


class FullCAVI(MixtureCAVI):
    """Normal-Wishart factors of mean and precision matrix."""

    families = ("gaussian-full",)

    def m_step(self, x, phi, prior):
        d, n = x.shape[1], phi.sum(axis=0)
        kappa0, m0 = prior["kappa"], np.full(d, prior["mean"])
        kappa = kappa0 + n
        m = (kappa0 * m0 + phi.T @ x) / kappa[:, None]
        square = np.einsum("nk,ni,nj->kij", phi, x, x) + kappa0 * np.outer(m0, m0)
        square -= kappa[:, None, None] * m[:, :, None] * m[:, None]
        psi = prior["scale"] * np.eye(d) + square
        return {"m": m, "kappa": kappa, "nu": prior["degrees_of_freedom"] + n} | {
            "psi": psi
        }

    def log_det(self, q, d):
        """E log |precision|."""
        digammas = digamma(0.5 * (q["nu"][:, None] - np.arange(d))).sum(axis=1)
        return digammas + d * np.log(2) - np.linalg.slogdet(q["psi"])[1]

    def scores(self, x, q):
        d = x.shape[1]
        precision = q["nu"][:, None, None] * np.linalg.inv(q["psi"])
        apart = x[:, None] - q["m"]
        square = np.einsum("nki,kij,nkj->nk", apart, precision, apart)
        log = self.log_det(q, d) - d * np.log(2 * np.pi)
        return 0.5 * (log - square - d / q["kappa"])

    def kl(self, q, prior, d):
        nu, nu0, psi = q["nu"], prior["degrees_of_freedom"], q["psi"]
        psi0 = prior["scale"] * np.eye(d)
        inverse = np.linalg.inv(psi)
        digammas = digamma(0.5 * (nu[:, None] - np.arange(d))).sum(axis=1)
        size = multigammaln(0.5 * nu0, d) - [multigammaln(0.5 * v, d) for v in nu]
        log_ratio = np.linalg.slogdet(psi)[1] - np.linalg.slogdet(psi0)[1]
        trace = np.trace(psi0 @ inverse, axis1=1, axis2=2)
        wishart = 0.5 * nu0 * log_ratio + 0.5 * nu * (trace - d)
        wishart += size + 0.5 * (nu - nu0) * digammas
        ratio = prior["kappa"] / q["kappa"]
        away = q["m"] - prior["mean"]
        moved = prior["kappa"] * nu * np.einsum("ki,kij,kj->k", away, inverse, away)
        return np.sum(wishart + 0.5 * (d * (ratio - 1 - np.log(ratio)) + moved))

    def draw(self, random, q, n):
        K, d = q["m"].shape
        mu, precision = np.empty((n, K, d)), np.empty((n, K, d, d))
        for k in range(K):
            scale = np.linalg.inv(q["psi"][k])
            drawn = stats.wishart.rvs(q["nu"][k], scale, n, random).reshape(n, d, d)
            precision[:, k] = drawn
            root = np.linalg.cholesky(np.linalg.inv(q["kappa"][k] * drawn))
            mu[:, k] = q["m"][k] + (root @ random.normal(size=(n, d, 1)))[..., 0]
        return {"mu": mu, "precision": precision}

    def log_q(self, theta, q):
        total = np.zeros(len(theta["mu"]))
        for k, m in enumerate(q["m"]):
            scale = np.linalg.inv(q["psi"][k])
            given = theta["precision"][:, k]
            columns = np.moveaxis(given, 0, -1)
            total += stats.wishart.logpdf(columns, q["nu"][k], scale)
            away, matrix = theta["mu"][:, k] - m, q["kappa"][k] * given
            square = np.einsum("ni,nij,nj->n", away, matrix, away)
            log_det = np.linalg.slogdet(matrix)[1]
            total += 0.5 * (log_det - square - len(m) * np.log(2 * np.pi))
        return total


class FreedomOffByOne(FullCAVI):
    """The Wishart's degrees of freedom are one too few."""

    def m_step(self, x, phi, prior):
        q = super().m_step(x, phi, prior)
        return q | {"nu": q["nu"] - 1}


class HalfLogDeterminant(FullCAVI):
    """Half of E log |precision| in the assignments."""

    def log_det(self, q, d):
        return 0.5 * super().log_det(q, d)


class ScaleNotInverted(FullCAVI):
    """The draws take the Wishart's inverse scale for its scale."""

    def draw(self, random, q, n):
        inverted = np.linalg.inv(q["psi"])
        return super().draw(random, q | {"psi": inverted}, n)


class DigammaOfWhole(FullCAVI):
    """digamma(nu - i) for digamma((nu - i) / 2)."""

    def log_det(self, q, d):
        digammas = digamma(q["nu"][:, None] - np.arange(d)).sum(axis=1)
        return digammas + d * np.log(2) - np.linalg.slogdet(q["psi"])[1]


class CovarianceOfMeanOnce(FullCAVI):
    """1 / kappa for d / kappa: the d is missing."""

    def scores(self, x, q):
        d = x.shape[1]
        return super().scores(x, q) + 0.5 * (d - 1) / q["kappa"]


class Metropolis:
    """A random walk for a Poisson mixture: only draws, and an estimate of log p(X).

    It walks over log rates and the logits of the weights, many chains at once, from
    draws of the prior; log p(X) is the mean of the likelihood over the prior. Both are
    for few dimensions: in 16 its chains still remember where they started.
    """

    families = ("poisson",)
    most = 10
    steps = 400
    chains = 400
    keep = 10
    apart = 40
    scale = 0.5

    def __call__(self, problem):
        random = np.random.default_rng(problem.seed)
        alpha = problem.weights.get("concentration")
        x, K, d, prior = problem.data, problem.K, problem.data.shape[1], problem.model
        drawn = alpha is not None and K > 1
        if K * d > self.most:
            raise NotApplicable(f"walks in at most {self.most} dimensions")

        def unpack(u):
            log_rate = u[:, : K * d].reshape(-1, K, d)
            logits = u[:, K * d :] if drawn else np.zeros((len(u), K))
            return log_rate, logits - np.logaddexp.reduce(logits, axis=1)[:, None]

        def density(u):
            log_rate, log_w = unpack(u)
            total = self.log_prior(log_rate, prior) + self.rows(x, log_rate, log_w)
            if drawn:  # of independent Gammas whose shares the weights are
                logits = u[:, K * d :]
                total += self.log_weights(logits, alpha)
            return total

        def start(n):
            rate = random.gamma(prior["shape"], 1 / prior["rate"], (n, K * d))
            if not drawn:
                return np.log(rate)
            return np.log(np.c_[rate, random.gamma(alpha, 1.0, (n, K)) + 1e-300])

        u = start(self.chains)
        at = density(u)
        kept = []
        for step in range(self.steps + self.keep * self.apart):
            moved = self.move(u, random)
            value = density(moved)
            level = np.log(random.random(len(u)))
            taken = self.accepted(level, value - at)
            u = np.where(taken[:, None], moved, u)
            at = np.where(taken, value, at)
            if step >= self.steps and (step + 1 - self.steps) % self.apart == 0:
                kept.append(u)
        log_rate, log_w = unpack(np.stack(kept, 1).reshape(-1, u.shape[1]))
        draws = {"rate": np.exp(log_rate)}
        if drawn:
            draws["weight"] = np.exp(log_w)
        evidence, error = self.evidence(x, *unpack(start(200_000)))
        return SimpleNamespace(
            sample=lambda key, n: {k: v[:n] for k, v in draws.items()},
            chains=self.chains,
            log_evidence=evidence,
            log_evidence_se=error,
        )

    def move(self, u, random):
        scale = self.scale * random.choice([0.3, 1.0, 3.0], (len(u), 1))
        return u + scale * random.normal(size=u.shape)

    def accepted(self, level, gain):
        return level < gain

    def log_prior(self, log_rate, prior):
        a, b = prior["shape"], prior["rate"]
        return np.sum(a * log_rate - b * np.exp(log_rate), axis=(1, 2))

    def log_weights(self, logits, alpha):
        return np.sum(alpha * logits - np.exp(logits), axis=1)

    def rows(self, x, log_rate, log_w):
        """Log p(X | theta)."""
        if not len(x):
            return np.zeros(len(log_rate))
        terms = log_rate @ x.T.astype(float)  # (draw, component, row)
        terms += (log_w - np.exp(log_rate).sum(axis=2))[:, :, None]
        base = gammaln(x + 1).sum()
        return self.over_components(terms).sum(axis=1) - base

    def over_components(self, terms):
        return np.logaddexp.reduce(terms, axis=1)

    def evidence(self, x, log_rate, log_w):
        terms = self.rows(x, log_rate, log_w)
        ratio = np.exp(terms - terms.max())
        error = ratio.std(ddof=1) / np.sqrt(len(ratio)) / ratio.mean()
        return terms.max() + np.log(ratio.mean()), error


class JacobianMissing(Metropolis):
    """The walk over log rates lacks the Jacobian: it draws from another posterior."""

    def log_prior(self, log_rate, prior):
        return super().log_prior(log_rate, prior) - log_rate.sum(axis=(1, 2))


class PriorMissing(Metropolis):
    """The prior of the rates is left out, but for the Jacobian."""

    def log_prior(self, log_rate, prior):
        return log_rate.sum(axis=(1, 2)) - 1e-3 * np.exp(log_rate).sum(axis=(1, 2))


class WeightsIgnored(Metropolis):
    """Components count alike in the density, whatever their weights."""

    def rows(self, x, log_rate, log_w):
        return super().rows(x, log_rate, np.full_like(log_w, -np.log(log_w.shape[1])))


class LargestComponent(Metropolis):
    """The largest term for the sum over components."""

    def over_components(self, terms):
        return terms.max(axis=1)


class AlwaysAccepted(Metropolis):
    """Accepts by half of the log ratio: the root of the posterior."""

    def accepted(self, level, gain):
        return level < 0.5 * gain


class NeverMoved(Metropolis):
    """Every proposal is refused: the draws are the prior's."""

    steps = 0

    def accepted(self, level, gain):
        return np.zeros(len(level), bool)


class HardlyMoved(Metropolis):
    """Steps so small that the chains do not get anywhere."""

    steps = 0
    chains = 4
    keep = 1000
    apart = 1
    scale = 1e-4


class MeanOfLogs(Metropolis):
    """The mean of the log likelihoods for the log of their mean."""

    def evidence(self, x, log_rate, log_w):
        terms = self.rows(x, log_rate, log_w)
        return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


RIGHT = [PoissonCAVI, BernoulliCAVI, DiagonalCAVI, FullCAVI, Metropolis]


class TiedStart(PoissonCAVI):
    """No fault: a poor optimum, all components start, and stay, at the same place."""

    def start(self, x, K, random):
        return np.full((len(x), K), 1 / K)


APPROXIMATIONS = [TiedStart, IndependentMeans]
MUTANTS = [
    kind
    for kind in list(globals().values())
    if isinstance(kind, type)
    and issubclass(kind, (MixtureCAVI, Metropolis))
    and kind not in (MixtureCAVI, *RIGHT, *APPROXIMATIONS)
]
