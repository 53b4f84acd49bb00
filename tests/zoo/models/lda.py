"""Latent Dirichlet allocation: CAVI by hand, right and with one fault.

Every mutant overrides one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import digamma, entr, gammaln, softmax

ALPHA, ETA = 1.2, 0.7  # of the topics in a document, of the words in a topic


def model(words, docs, K, V, D):
    """Topics by document theta (D, K), words by topic beta (K, V), z (W,)."""
    with numpyro.plate("document", D):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.full(K, ALPHA)))
    with numpyro.plate("topic", K):
        beta = numpyro.sample("beta", dist.Dirichlet(jnp.full(V, ETA)))
    if len(words) == 0:  # a plate has at least one row
        none = dist.Categorical(jnp.full((0, K), 1 / K)).to_event(1)
        numpyro.sample("z", none)
        numpyro.sample("words", none, obs=words)
        return
    with numpyro.plate("word", len(words)):
        z = numpyro.sample("z", dist.Categorical(theta[docs]))
        numpyro.sample("words", dist.Categorical(beta[z]), obs=words)


def data(seed=0):
    """Four documents of twelve words, in random order; two topics, six words."""
    random = np.random.default_rng(seed)
    K, V, D = 2, 6, 4
    theta = random.dirichlet(np.full(K, ALPHA), D)
    beta = random.dirichlet(np.full(V, ETA), K)
    docs = random.permutation(np.repeat(np.arange(D), 12))
    z = (random.random(len(docs)) > theta[docs, 0]).astype(int)
    words = np.array([random.choice(V, p=beta[k]) for k in z])
    return {"words": words, "docs": docs, "K": K, "V": V, "D": D}


def expected_log(a):
    return digamma(a) - digamma(a.sum(axis=-1, keepdims=True))


class Right:
    """Blei, Ng and Jordan (2003), with a factor of the topics' words too."""

    tol = 1e-11
    most = 5000

    def __call__(self, words, docs, K, V, D, seed):
        self.words, self.docs = np.asarray(words, int), np.asarray(docs, int)
        self.K, self.V, self.D = K, V, D
        phi, trace = self.start(np.random.default_rng(seed)), []
        for _ in range(self.most):
            gamma, lam = self.gamma(phi), self.lam(phi)
            phi = self.e_step(self.scores(gamma, lam))
            trace.append(self.bound(gamma, lam, phi))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(gamma, lam, phi, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, random):
        return random.dirichlet(np.ones(self.K), len(self.words))

    def document_counts(self, phi):
        counts = np.zeros((self.D, self.K))
        np.add.at(counts, self.docs, phi)
        return counts

    def word_counts(self, phi):
        counts = np.zeros((self.V, self.K))
        np.add.at(counts, self.words, phi)
        return counts.T

    def gamma(self, phi):
        """Dirichlets of the topics (D, K)."""
        return ALPHA + self.document_counts(phi)

    def lam(self, phi):
        """Dirichlets of the words (K, V)."""
        return ETA + self.word_counts(phi)

    def log_theta(self, gamma):
        return expected_log(gamma)

    def log_beta(self, lam):
        return expected_log(lam)

    def scores(self, gamma, lam):
        log_beta = self.log_beta(lam)[:, self.words].T
        return self.log_theta(gamma)[self.docs] + log_beta

    def e_step(self, scores):
        return softmax(scores, axis=1)

    def entropy(self, phi):
        return entr(phi).sum()

    def kl(self, q, prior):
        """Divergence of Dirichlets from the one with `prior` in each place."""
        sizes = gammaln(q.sum(axis=1)) - gammaln(q).sum(axis=1)
        sizes += q.shape[1] * gammaln(prior) - gammaln(q.shape[1] * prior)
        return sizes.sum() + np.sum((q - prior) * expected_log(q))

    def bound(self, gamma, lam, phi):
        rows = np.sum(phi * self.scores(gamma, lam)) + self.entropy(phi)
        return rows - self.kl(gamma, ALPHA) - self.kl(lam, ETA)

    def result(self, gamma, lam, phi, trace):
        q = {"theta": dist.Dirichlet(gamma), "beta": dist.Dirichlet(lam)}
        return {"q": q | {"z": dist.Categorical(probs=phi)}, "elbo": np.array(trace)}


class TopicsFirst(Right):
    """Another order: each factor in turn, phi after each; plain dicts as q."""

    def __call__(self, words, docs, K, V, D, seed):
        self.words, self.docs = np.asarray(words, int), np.asarray(docs, int)
        self.K, self.V, self.D = K, V, D
        random = np.random.default_rng(seed)
        gamma, trace = np.full((D, K), ALPHA + 1), []
        lam = ETA + random.gamma(2.0, 1.0, (K, V))
        for _ in range(self.most):
            phi = self.e_step(self.scores(gamma, lam))
            gamma = self.gamma(phi)
            phi = self.e_step(self.scores(gamma, lam))
            lam = self.lam(phi)
            trace.append(self.bound(gamma, lam, phi))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(gamma, lam, phi, trace)

    def result(self, gamma, lam, phi, trace):
        found = super().result(gamma, lam, phi, trace)
        found["q"]["theta"] = {"concentration": gamma}
        found["q"]["beta"] = {"concentration": lam}
        if len(phi):
            found["q"]["z"] = {"logits": np.log(np.maximum(phi, 1e-300))}
        return found


class RightJax:
    """Compiled sweeps in counts of (document, word) pairs; NumPyro's divergences."""

    def __call__(self, words, docs, K, V, D, seed):
        words, docs = jnp.asarray(words, int), jnp.asarray(docs, int)
        phi = jax.random.dirichlet(jax.random.key(seed), jnp.ones(K), (len(words),))
        trace = []
        while len(trace) < 5000:
            phi, gamma, lam, bound = _sweep(phi, words, docs, V, D)
            trace.append(float(bound))
            if len(trace) > 1 and trace[-1] - trace[-2] < 1e-11:
                break
        q = {"theta": dist.Dirichlet(gamma), "beta": dist.Dirichlet(lam)}
        return {"q": q | {"z": dist.Categorical(probs=phi)}, "elbo": trace}


@partial(jax.jit, static_argnums=(3, 4))
def _sweep(phi, words, docs, V, D):
    gamma = ALPHA + jax.ops.segment_sum(phi, docs, D)
    lam = ETA + jax.ops.segment_sum(phi, words, V).T
    psi = jax.scipy.special.digamma
    log_theta = psi(gamma) - psi(gamma.sum(1, keepdims=True))
    log_beta = psi(lam) - psi(lam.sum(1, keepdims=True))
    scores = log_theta[docs] + log_beta.T[words]
    rows = jax.nn.logsumexp(scores, axis=1).sum()
    kl = dist.kl_divergence(
        dist.Dirichlet(gamma), dist.Dirichlet(jnp.full(gamma.shape, ALPHA))
    ).sum()
    kl += dist.kl_divergence(
        dist.Dirichlet(lam), dist.Dirichlet(jnp.full(lam.shape, ETA))
    ).sum()
    return jax.nn.softmax(scores, axis=1), gamma, lam, rows - kl


class TopicsAsPoint(Right):
    """Coarse: each document's topics are a point, where E log p is largest."""

    def gamma(self, phi):
        return ALPHA - 1 + self.document_counts(phi)

    def log_theta(self, gamma):
        return np.log(gamma / gamma.sum(axis=1, keepdims=True))

    def bound(self, gamma, lam, phi):
        rows = np.sum(phi * self.scores(gamma, lam)) + self.entropy(phi)
        theta = gamma / gamma.sum(axis=1, keepdims=True)
        log_prior = stats.dirichlet.logpdf(theta.T, np.full(self.K, ALPHA)).sum()
        return rows + log_prior - self.kl(lam, ETA)

    def result(self, gamma, lam, phi, trace):
        found = super().result(gamma, lam, phi, trace)
        theta = gamma / gamma.sum(axis=1, keepdims=True)
        found["q"]["theta"] = dist.Delta(theta, event_dim=1)
        return found


class SharedByPair(Right):
    """Repeats of a word in a document share their responsibilities' mean.

    They are equal anyway after an E-step, so nothing is lost.
    """

    def e_step(self, scores):
        phi = super().e_step(scores)
        pair = self.docs * self.V + self.words
        _, where, counts = np.unique(pair, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), self.K))
        np.add.at(sums, where, phi)
        return (sums / counts[:, None])[where]


class NoDigammaOfTopicTotal(Right):
    """digamma of each topic's total is missing in E[log beta]."""

    def log_beta(self, lam):
        return digamma(lam)


class NoDigammaOfTopicTotalInEStep(Right):
    """digamma of each topic's total is missing in the E-step; the bound has it."""

    def e_step(self, scores):
        totals = digamma(self.before.sum(axis=1)) if len(scores) else 0.0
        return super().e_step(scores + totals)

    def lam(self, phi):
        self.before = super().lam(phi)
        return self.before


class NoDigammaOfDocumentTotal(Right):
    """digamma of each document's total is missing; phi does not see it."""

    constant = True

    def log_theta(self, gamma):
        return digamma(gamma)


class HyperparametersSwapped(Right):
    """The documents' prior is the topics', and the other way round."""

    def gamma(self, phi):
        return super().gamma(phi) - ALPHA + ETA

    def lam(self, phi):
        return super().lam(phi) - ETA + ALPHA


class HyperparametersSwappedInBound(Right):
    """The divergences have the priors swapped; the updates are right."""

    def kl(self, q, prior):
        return super().kl(q, ETA if prior == ALPHA else ALPHA)


class NoPriorOfTopics(Right):
    """The prior is left out of the topics' counts of words."""

    def lam(self, phi):
        return np.maximum(super().lam(phi) - ETA, 1e-3)


class NoPriorOfDocuments(Right):
    """The prior is left out of the documents' counts of topics."""

    def gamma(self, phi):
        return np.maximum(super().gamma(phi) - ALPHA, 1e-3)


class AlphaSharedOut(Right):
    """alpha / K in each place of the documents' prior, for alpha."""

    def gamma(self, phi):
        return super().gamma(phi) - ALPHA + ALPHA / self.K


class LogOfMeanWords(Right):
    """log of the mean of beta for the mean of its log."""

    def log_beta(self, lam):
        return np.log(lam / lam.sum(axis=1, keepdims=True))


class LogOfMeanInEStep(Right):
    """Means of theta and beta in the E-step for exp E log; the bound is right."""

    def e_step(self, scores):
        gamma, lam = self.q
        theta = gamma / gamma.sum(axis=1, keepdims=True)
        beta = lam / lam.sum(axis=1, keepdims=True)
        phi = theta[self.docs] * beta[:, self.words].T
        return phi / phi.sum(axis=1, keepdims=True)

    def scores(self, gamma, lam):
        self.q = gamma, lam
        return super().scores(gamma, lam)


class TotalOverTopics(Right):
    """E[log beta] has digamma of the total over topics for the one over words."""

    def log_beta(self, lam):
        return digamma(lam) - digamma(lam.sum(axis=0, keepdims=True))


class WrongAxis(Right):
    """Responsibilities are scaled over the words first, over the topics then."""

    def e_step(self, scores):
        phi = softmax(scores, axis=0)
        return phi / phi.sum(axis=1, keepdims=True)


class NoEntropy(Right):
    """The entropy of z is left out of the bound."""

    def entropy(self, phi):
        return 0.0


class NoKLOfTopics(Right):
    """The divergence of the topics' words is left out of the bound."""

    def kl(self, q, prior):
        return 0.0 if prior == ETA else super().kl(q, prior)


class NoNormaliserOfPrior(Right):
    """The normaliser of the documents' prior is dropped from the bound."""

    constant = True

    def kl(self, q, prior):
        found = super().kl(q, prior)
        if prior == ETA:
            return found
        own = gammaln(self.K * prior) - self.K * gammaln(prior)
        return found + self.D * own


class PhiFromTheSweepBefore(Right):
    """The z that is returned is of the sweep before; ten sweeps."""

    most = 10

    def e_step(self, scores):
        self.before = getattr(self, "last", None)
        self.last = super().e_step(scores)
        return self.last

    def result(self, gamma, lam, phi, trace):
        return super().result(gamma, lam, self.before, trace)


class OneUpdateMore(Right):
    """theta and beta are updated once more after the last bound; six sweeps."""

    most = 6

    def result(self, gamma, lam, phi, trace):
        return super().result(self.gamma(phi), self.lam(phi), phi, trace)


class LastWordIgnored(Right):
    """The last word is not counted in its topic."""

    def word_counts(self, phi):
        counts = np.zeros((self.V, self.K))
        np.add.at(counts, self.words[:-1], phi[:-1])
        return counts.T


class RepeatsCountedOnce(Right):
    """A word that a document repeats is counted once: counts[words] += phi."""

    def document_counts(self, phi):
        counts = np.zeros((self.D, self.K))
        counts[self.docs] += phi
        return counts


class MeanForConcentration(Right):
    """The Dirichlet of the words that is returned has the means as concentration."""

    def result(self, gamma, lam, phi, trace):
        return super().result(gamma, lam / lam.sum(axis=1)[:, None], phi, trace)


class HardAssignments(Right):
    """phi is rounded to 0 or 1, and returned soft."""

    def e_step(self, scores):
        self.soft = super().e_step(scores)
        return np.eye(self.K)[self.soft.argmax(axis=1)]

    def result(self, gamma, lam, phi, trace):
        return super().result(gamma, lam, self.soft, trace)


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, TopicsFirst, SharedByPair]
COARSE = [TopicsAsPoint]
MUTANTS = [
    NoDigammaOfTopicTotal,
    NoDigammaOfTopicTotalInEStep,
    NoDigammaOfDocumentTotal,
    HyperparametersSwapped,
    HyperparametersSwappedInBound,
    NoPriorOfTopics,
    NoPriorOfDocuments,
    AlphaSharedOut,
    LogOfMeanWords,
    LogOfMeanInEStep,
    TotalOverTopics,
    WrongAxis,
    NoEntropy,
    NoKLOfTopics,
    NoNormaliserOfPrior,
    PhiFromTheSweepBefore,
    OneUpdateMore,
    LastWordIgnored,
    RepeatsCountedOnce,
    MeanForConcentration,
    HardAssignments,
    StoppedEarly,
]
