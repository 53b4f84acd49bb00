"""The notebook's algorithm in NumPy, right, and with one realistic fault each.

Every mutant overrides one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, log_softmax, logsumexp, softmax


class Right:
    """CAVI for means of components with known variance 1 and weights 1/K."""

    tol = 1e-10
    most = 2000

    def __call__(self, data, K, sigma, seed):
        x = self.prepare(data)
        phi = self.start(x, K, np.random.default_rng(seed))
        trace = []
        for _ in range(self.most):
            m, s2 = self.m_step(x, phi, sigma)
            phi = self.e_step(x, m, s2)
            trace.append(self.elbo(x, m, s2, phi, sigma))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(m, s2, phi, trace)

    def prepare(self, data):
        return np.asarray(data, float)

    def start(self, x, K, random):
        centres = x[random.permutation(len(x))[:K]] if len(x) else np.zeros((K, 1))
        square = ((x[:, None] - centres) ** 2).sum(axis=2)
        return softmax(-0.5 * square, axis=1)

    def m_step(self, x, phi, sigma):
        s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
        return s2[:, None] * (phi.T @ x), s2

    def scores(self, x, m, s2):
        return x @ m.T - 0.5 * ((m**2).sum(axis=1) + x.shape[1] * s2)

    def e_step(self, x, m, s2):
        return softmax(self.scores(x, m, s2), axis=1)

    def kl(self, m, s2, sigma):
        """KL(q(mu) || p(mu)), all components."""
        d, ratio = m.shape[1], s2 / sigma**2
        return 0.5 * np.sum(
            d * ratio + (m**2).sum(axis=1) / sigma**2 - d - d * np.log(ratio)
        )

    def elbo(self, x, m, s2, phi, sigma):
        d = x.shape[1]
        rows = self.scores(x, m, s2) - 0.5 * (x**2).sum(axis=1)[:, None]
        rows = rows - 0.5 * d * np.log(2 * np.pi) - np.log(len(m))
        entropy = -np.sum(phi * np.log(np.maximum(phi, 1e-300)))
        return np.sum(phi * rows) + entropy - self.kl(m, s2, sigma)

    def ended(self, trace):
        return abs(trace[-1] - trace[-2]) < self.tol * (1 + abs(trace[-1]))

    def result(self, m, s2, phi, trace):
        return {"m": m, "s2": s2, "phi": phi, "elbo": np.array(trace)}


class NoDimension(Right):
    """The d is missing in E|mu|^2: s2 for d s2, in the assignments and the ELBO."""

    def scores(self, x, m, s2):
        return x @ m.T - 0.5 * ((m**2).sum(axis=1) + s2)


class NoDimensionInAssignments(Right):
    """The d is missing in the assignments only; the ELBO is right."""

    def e_step(self, x, m, s2):
        return softmax(x @ m.T - 0.5 * ((m**2).sum(axis=1) + s2), axis=1)


class NoDimensionInKL(Right):
    """KL of a d-dimensional Gaussian as if it had one dimension's variance terms."""

    def kl(self, m, s2, sigma):
        ratio = s2 / sigma**2
        return 0.5 * np.sum(ratio + (m**2).sum(axis=1) / sigma**2 - 1 - np.log(ratio))


class NoConstant(Right):
    """log 2 pi is dropped."""

    def elbo(self, x, m, s2, phi, sigma):
        n, d = x.shape
        dropped = 0.5 * n * d * np.log(2 * np.pi)
        return super().elbo(x, m, s2, phi, sigma) + dropped


class NoLogWeights(Right):
    """log K, the assignments' prior, is dropped from the ELBO."""

    def elbo(self, x, m, s2, phi, sigma):
        return super().elbo(x, m, s2, phi, sigma) + len(x) * np.log(len(m))


class DoubledConstant(Right):
    """log 2 pi is counted twice."""

    def elbo(self, x, m, s2, phi, sigma):
        n, d = x.shape
        return super().elbo(x, m, s2, phi, sigma) - 0.5 * n * d * np.log(2 * np.pi)


class KLSign(Right):
    """KL is added, not subtracted."""

    def elbo(self, x, m, s2, phi, sigma):
        return super().elbo(x, m, s2, phi, sigma) + 2 * self.kl(m, s2, sigma)


class KLSwapped(Right):
    """KL(p || q) for KL(q || p)."""

    def kl(self, m, s2, sigma):
        d, ratio = m.shape[1], sigma**2 / s2
        return 0.5 * np.sum(d * ratio + (m**2).sum(axis=1) / s2 - d - d * np.log(ratio))


class KLMinusHalf(Right):
    """The -d/2 of each KL is missing."""

    def kl(self, m, s2, sigma):
        return super().kl(m, s2, sigma) + 0.5 * m.size


class NoEntropy(Right):
    """The entropy of the assignments is left out of the ELBO."""

    def elbo(self, x, m, s2, phi, sigma):
        entropy = -np.sum(phi * np.log(np.maximum(phi, 1e-300)))
        return super().elbo(x, m, s2, phi, sigma) - entropy


class SigmaForVariance(Right):
    """sigma for sigma^2 in the update of the means."""

    def m_step(self, x, phi, sigma):
        return super().m_step(x, phi, np.sqrt(sigma))


class VarianceForPrecision(Right):
    """sigma^2 for 1 / sigma^2 in the update of the means."""

    def m_step(self, x, phi, sigma):
        return super().m_step(x, phi, 1 / sigma)


class PrecisionForVariance(Right):
    """s2 holds the precision."""

    def result(self, m, s2, phi, trace):
        return super().result(m, 1 / s2, phi, trace)


class DeviationForVariance(Right):
    """s2 holds the standard deviation."""

    def result(self, m, s2, phi, trace):
        return super().result(m, np.sqrt(s2), phi, trace)


class CountsOffByOne(Right):
    """Every component has one row too many in the variance."""

    def m_step(self, x, phi, sigma):
        s2 = 1 / (1 / sigma**2 + phi.sum(axis=0) + 1)
        return s2[:, None] * (phi.T @ x), s2


class NoPriorInMean(Right):
    """The mean is the weighted average, unshrunk; the variance is right."""

    def m_step(self, x, phi, sigma):
        _, s2 = super().m_step(x, phi, sigma)
        return phi.T @ x / np.maximum(phi.sum(axis=0), 1e-300)[:, None], s2


class WrongAxis(Right):
    """Responsibilities add up to 1 over the rows, not over the components."""

    def e_step(self, x, m, s2):
        return softmax(self.scores(x, m, s2), axis=0)


class WrongAxisThenNormalised(Right):
    """Normalised over the rows first, over the components then."""

    def e_step(self, x, m, s2):
        phi = softmax(self.scores(x, m, s2), axis=0)
        return phi / np.maximum(phi.sum(axis=1, keepdims=True), 1e-300)


class StaleBound(Right):
    """The ELBO's compact form, its responsibilities those of the sweep before.

    sum_i logsumexp is the bound only for the assignments optimal at these means.
    """

    def __call__(self, data, K, sigma, seed):
        x = self.prepare(data)
        phi = self.start(x, K, np.random.default_rng(seed))
        m, s2 = self.m_step(x, phi, sigma)
        trace = []
        for _ in range(self.most):
            scores = self.scores(x, m, s2)
            m, s2 = self.m_step(x, softmax(scores, axis=1), sigma)
            base = -0.5 * np.sum(x**2) - 0.5 * x.size * np.log(2 * np.pi)
            bound = base + logsumexp(scores, axis=1).sum() - len(x) * np.log(K)
            trace.append(bound - self.kl(m, s2, sigma))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(m, s2, self.e_step(x, m, s2), trace)


class OneNeverUpdated(Right):
    """The last component keeps the mean that it started at."""

    def m_step(self, x, phi, sigma):
        m, s2 = super().m_step(x, phi, sigma)
        if not hasattr(self, "kept") or self.kept.shape != m.shape:
            self.kept = m.copy()
        m[-1] = self.kept[-1]
        return m, s2


class LabelDependent(Right):
    """The first component's prior is half as wide."""

    def m_step(self, x, phi, sigma):
        m, s2 = super().m_step(x, phi, sigma)
        m0, s20 = super().m_step(x, phi[:, :1], sigma / 2)
        m[0], s2[0] = m0[0], s20[0]
        return m, s2


class StoppedEarly(Right):
    """Three sweeps, whatever they reach."""

    most = 3


class LooseTolerance(Right):
    """Ends when a sweep gains less than half a nat."""

    def ended(self, trace):
        return trace[-1] - trace[-2] < 0.5


class SinglePrecision(Right):
    """Sums are accumulated in 32 bits, and returned as if they had 64."""

    def prepare(self, data):
        return np.asarray(data, np.float32)

    def result(self, m, s2, phi, trace):
        return super().result(*(np.asarray(v, float) for v in (m, s2, phi)), trace)


class StandardisedForTheFit(Right):
    """The data are centred for the fit, the prior is not moved."""

    def __call__(self, data, K, sigma, seed):
        centre = data.mean(axis=0) if len(data) else 0.0
        found = super().__call__(data - centre, K, sigma, seed)
        return found | {"m": found["m"] + centre}


class LastRowLost(Right):
    """The last row is never read."""

    def m_step(self, x, phi, sigma):
        return super().m_step(x[:-1], phi[:-1], sigma)


class FirstFeatureTwice(Right):
    """The last feature's place is taken by the first in the assignments."""

    def scores(self, x, m, s2):
        return super().scores(
            np.concatenate([x[:, :-1], x[:, :1]], axis=1),
            np.concatenate([m[:, :-1], m[:, :1]], axis=1),
            s2,
        )


class DigammaForLog(Right):
    """digamma for log, in the prior's log-determinant."""

    def kl(self, m, s2, sigma):
        d, ratio = m.shape[1], s2 / sigma**2
        return super().kl(m, s2, sigma) - 0.5 * d * np.sum(
            digamma(ratio) - np.log(ratio)
        )


class UnnormalisedAssignments(Right):
    """Responsibilities are not normalised."""

    def e_step(self, x, m, s2):
        return np.exp(log_softmax(self.scores(x, m, s2), axis=1) - 0.01)


class EqualVariances(Right):
    """No fault: a coarser q, one variance for all components."""

    def m_step(self, x, phi, sigma):
        m, s2 = super().m_step(x, phi, sigma)
        return m, np.full(len(s2), len(s2) / np.sum(1 / s2))


class HardAssignments(Right):
    """No fault: a coarser q, every row's component without doubt."""

    def e_step(self, x, m, s2):
        return np.eye(len(m))[np.argmax(self.scores(x, m, s2), axis=1)]


class TiedStart(Right):
    """No fault: a poor optimum, all components start, and stay, at the same place."""

    def start(self, x, K, random):
        return np.full((len(x), K), 1 / K)


RIGHT = Right()
APPROXIMATIONS = [EqualVariances, HardAssignments, TiedStart]
MUTANTS = [
    kind
    for kind in list(globals().values())
    if isinstance(kind, type)
    and issubclass(kind, Right)
    and kind is not Right
    and kind not in APPROXIMATIONS
]
