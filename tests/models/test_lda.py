"""Latent Dirichlet allocation against SciPy, all assignments, and the zoo's fit."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp

from tests.models.ascents import climbed, density
from tests.models.local import expected_ratio
from tests.zoo.models import lda as zoo
from vi_bench.models import _shares
from vi_bench.models.lda import LDA


def coefficients(counts):
    return np.sum(gammaln(counts.sum(axis=1) + 1)) - np.sum(gammaln(counts + 1))


def of_dirichlet(counts, prior):
    """Log density of words in one order, drawn from a Dirichlet's probabilities."""
    total, size = counts.sum(axis=-1), counts.shape[-1]
    found = gammaln(size * prior) - gammaln(total + size * prior)
    return found + np.sum(gammaln(counts + prior) - gammaln(prior), axis=-1)


def evidence(own, counts):
    """Log p(counts) as a sum over the topics of all words (Griffiths 2004, 2 and 3)."""
    words = [(d, v) for (d, v), n in np.ndenumerate(counts) for _ in range(n)]
    d, v = np.array(words).T
    z = np.array(list(product(range(own.topics), repeat=len(words))))
    each = np.eye(own.topics)[z]  # (assignments, words, K)
    of_documents = np.stack([each[:, d == i].sum(1) for i in range(len(counts))], 1)
    of_words = np.stack([each[:, v == j].sum(1) for j in range(counts.shape[1])], 2)
    terms = of_dirichlet(of_documents, own.alpha).sum(axis=1)
    terms += of_dirichlet(of_words, own.eta).sum(axis=1)
    return logsumexp(terms) + coefficients(counts)


def test_the_density_is_scipys(random):
    own = LDA(topics=3, alpha=0.7, eta=1.3)
    counts = own.example(random, 5)["counts"]
    for _ in range(100):
        theta = random.dirichlet(np.full(3, 2.0), 5)
        beta = random.dirichlet(np.full(6, 2.0), 3)
        expected = sum(stats.dirichlet.logpdf(t, np.full(3, 0.7)) for t in theta)
        expected += sum(stats.dirichlet.logpdf(b, np.full(6, 1.3)) for b in beta)
        rows = zip(counts, theta @ beta, strict=True)
        expected += sum(stats.multinomial.logpmf(x, x.sum(), p) for x, p in rows)
        found = density(own, {"theta": theta, "beta": beta}, {"counts": counts})
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_density_sums_over_the_topics_of_words(random):
    own = LDA(topics=2)
    counts = np.array([[2, 1, 0], [0, 1, 2]])
    theta, beta = random.dirichlet(np.ones(2), 2), random.dirichlet(np.ones(3), 2)
    words = [(d, v) for (d, v), n in np.ndenumerate(counts) for _ in range(n)]
    terms = [
        sum(
            np.log(theta[d, k] * beta[k, v]) for (d, v), k in zip(words, z, strict=True)
        )
        for z in product(range(2), repeat=len(words))
    ]
    expected = logsumexp(terms) + coefficients(counts)
    for row in theta:
        expected += stats.dirichlet.logpdf(row, np.ones(2))
    for row in beta:
        expected += stats.dirichlet.logpdf(row, np.ones(3))
    found = density(own, {"theta": theta, "beta": beta}, {"counts": counts})
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence(random):
    own = LDA(topics=2, alpha=0.8, eta=0.6)
    tables = [random.multinomial([5, 5], np.full(3, 1 / 3)) for _ in range(50)]
    keys = jax.random.split(jax.random.key(0), 50)
    _, bounds = jax.vmap(lambda c, k: climbed(own, {"counts": c}, k, 100))(
        np.array(tables), keys
    )
    gaps = np.array([evidence(own, c) for c in tables]) - np.asarray(bounds)
    assert gaps.min() > 0
    assert gaps.max() < 5


@pytest.mark.slow
def test_with_one_topic_it_is_exact(random):
    own = LDA(topics=1, eta=0.4)
    counts = own.example(random, 8)["counts"]
    q, bound = climbed(own, {"counts": counts}, jax.random.key(0), 1)
    expected = of_dirichlet(counts.sum(axis=0), 0.4) + coefficients(counts)
    assert float(bound) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(q["beta"].concentration[0], 0.4 + counts.sum(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("entries", [None, 0])
def test_documents_without_words_leave_the_prior(entries):
    own = LDA(topics=3, alpha=0.5, eta=2.0, entries=entries)
    q, bound = climbed(own, {"counts": np.zeros((4, 5), int)}, jax.random.key(0), 1)
    assert float(bound) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(q["theta"].concentration, 0.5)
    np.testing.assert_allclose(q["beta"].concentration, 2.0)


@pytest.mark.slow
def test_topics_that_share_no_word_are_found():
    """Words of the one kind of documents never occur in the other."""
    counts = np.kron(np.eye(2, dtype=int), np.full((4, 3), 20))
    own = LDA(topics=2, alpha=1e-3, eta=1e-2).complete(counts=counts)
    best = max(
        (climbed(own, {"counts": counts}, jax.random.key(i), 300) for i in range(10)),
        key=lambda found: float(found[1]),
    )[0]
    theta, beta = np.asarray(best["theta"].mean()), np.asarray(best["beta"].mean())
    first = theta[0].argmax()
    np.testing.assert_allclose(theta[:4, first], 1, atol=1e-4)
    np.testing.assert_allclose(theta[4:, first], 0, atol=1e-4)
    np.testing.assert_allclose(beta[first, :3], 1 / 3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 1e-3])
def test_entries_that_are_not_0_are_enough(alpha, random, monkeypatch):
    """Also where there are more blocks than one, and entries to fill the last."""
    monkeypatch.setattr(_shares, "BLOCK", 16)
    own = LDA(topics=3, alpha=alpha, eta=alpha)
    counts = random.poisson(0.4, (9, 11))
    sparse = own.complete(counts=counts)
    assert sparse.entries == np.count_nonzero(counts) > _shares.BLOCK
    key = jax.random.key(1)
    (q, bound), (dense, other) = (
        climbed(m, {"counts": counts}, key, 5) for m in (sparse, own)
    )
    assert float(bound) == pytest.approx(float(other), rel=1e-12)
    np.testing.assert_allclose(q["topics"].rows, dense["topics"].rows, atol=1e-8)
    np.testing.assert_allclose(q["topics"].rows.sum(axis=1), counts.sum(axis=1))
    np.testing.assert_allclose(q["topics"].columns.sum(axis=1), counts.sum(axis=0))


@pytest.mark.slow
def test_too_many_entries_do_no_harm(random):
    counts = random.poisson(0.5, (6, 7))
    number = np.count_nonzero(counts)
    known = [_shares.table_of(counts, number + extra) for extra in (0, 5)]
    for one, other in zip(known[0][2:], known[1][2:], strict=True):
        np.testing.assert_allclose(one, other)
    for half in known[1][:2]:
        assert half.entry.sum() == counts.sum()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1.0, 100.0, 2000.0])
def test_entries_are_shared_out_as_by_logarithms(size, random):
    """With scores so far apart that products of exponentials are 0, too."""
    left, right = size * random.normal(size=(9, 4)), size * random.normal(size=(8, 4))
    counts = random.poisson(1.5, (9, 8))
    found = jax.jit(_shares.share_out)(_shares.table_of(counts), left, right)
    logits = left[:, None] + right
    log_phi = logits - logsumexp(logits, axis=2, keepdims=True)
    each = counts[..., None] * np.exp(log_phi)
    np.testing.assert_allclose(found.rows, each.sum(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.columns, each.sum(axis=0), rtol=1e-9, atol=1e-12)
    entropy = -np.sum(each * log_phi)
    assert float(found.entropy) == pytest.approx(entropy, abs=1e-12 * size * 500)


@pytest.mark.slow
def test_slopes_of_the_shares_are_those_of_logarithms(random):
    """The normaliser's gradient in the scores are the expected sums."""
    left, right = random.normal(size=(5, 3)), random.normal(size=(4, 3))
    table = _shares.table_of(random.poisson(1.5, (5, 4)))

    def normaliser(left):
        found = _shares.share_out(table, left, right)
        scores = jnp.sum(found.rows * left) + jnp.sum(found.columns * right)
        return found.entropy + scores

    np.testing.assert_allclose(
        jax.grad(normaliser)(left),
        _shares.share_out(table, left, right).rows,
        rtol=1e-9,
    )


@pytest.mark.slow
def test_the_bound_is_that_of_the_full_model(random):
    own = LDA(topics=2)
    data = own.example(random, 4)
    q, _ = climbed(own, data, jax.random.key(2), 3)
    bound, mean, error = expected_ratio(own, data, q)
    assert abs(mean - bound) < 5 * error


@pytest.mark.slow
def test_it_ends_where_the_fit_of_the_zoo_does():
    data = zoo.data()
    counts = np.zeros((data["D"], data["V"]), int)
    np.add.at(counts, (data["docs"], data["words"]), 1)
    own = LDA(topics=2, alpha=zoo.ALPHA, eta=zoo.ETA).complete(counts=counts)
    ends = [climbed(own, {"counts": counts}, jax.random.key(i), 3000) for i in range(5)]
    q, bound = max(ends, key=lambda end: float(end[1]))
    fits = [zoo.Right()(**data, seed=i) for i in range(5)]
    right = max(fits, key=lambda fit: fit["elbo"][-1])
    # the zoo's words have an order
    lacking = coefficients(counts)
    assert float(bound) - lacking == pytest.approx(right["elbo"][-1], abs=1e-6)
    gamma = np.asarray(right["q"]["theta"].concentration)
    order = np.argsort(gamma[0]), np.argsort(np.asarray(q["theta"].concentration)[0])
    for site in ("theta", "beta"):
        theirs = np.asarray(right["q"][site].concentration)
        ours = np.asarray(q[site].concentration)
        if site == "theta":
            theirs, ours = theirs.T, ours.T
        np.testing.assert_allclose(ours[order[1]], theirs[order[0]], rtol=1e-5)
