"""Poisson factorisation against SciPy, quadrature, and the zoo's fit."""

from itertools import product

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp, roots_genlaguerre

from tests.models.ascents import climbed, density
from tests.models.local import expected_ratio
from tests.zoo.models import poisson_factorisation as zoo
from vi_bench.models.poisson_factorisation import PoissonFactorisation


def log_prior(own, theta, beta):
    rows = stats.gamma.logpdf(theta, own.a, scale=1 / own.b).sum()
    return rows + stats.gamma.logpdf(beta, own.c, scale=1 / own.d).sum()


def evidence(own, counts, nodes=40):
    """Log p of a single column of counts, by quadrature over its two betas.

    Given these, each count is a sum of two negative binomials.
    """
    place, weight = roots_genlaguerre(nodes, own.c - 1)
    beta, weight = place / own.d, weight / weight.sum()
    most = counts.max() + 1
    z = np.arange(most)[:, None]
    each = stats.nbinom.pmf(z, own.a, own.b / (own.b + beta))  # (counts, nodes)
    total = np.zeros((nodes, nodes))
    for x in counts:
        both = np.einsum("zm,zn->mn", each[: x + 1], each[: x + 1][::-1])
        total += np.log(both)
    return logsumexp(total, b=weight[:, None] * weight)


def test_the_density_is_scipys(random):
    own = PoissonFactorisation(factors=3, a=1.5, b=0.7, c=0.8, d=2.0)
    counts = own.example(random, 6)["counts"]
    for _ in range(100):
        theta, beta = random.gamma(2.0, size=(6, 3)), random.gamma(1.0, size=(3, 5))
        expected = log_prior(own, theta, beta)
        expected += stats.poisson.logpmf(counts, theta @ beta).sum()
        found = density(own, {"theta": theta, "beta": beta}, {"counts": counts})
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_density_sums_over_the_parts_of_counts(random):
    own = PoissonFactorisation(factors=2)
    counts = np.array([[2, 1], [0, 3]])
    theta, beta = random.gamma(2.0, size=(2, 2)), random.gamma(1.0, size=(2, 2))
    expected = log_prior(own, theta, beta)
    for i, j in product(range(2), repeat=2):
        parts = np.arange(counts[i, j] + 1)
        of_first = stats.poisson.logpmf(parts, theta[i, 0] * beta[0, j])
        of_other = stats.poisson.logpmf(counts[i, j] - parts, theta[i, 1] * beta[1, j])
        expected += logsumexp(of_first + of_other)
    found = density(own, {"theta": theta, "beta": beta}, {"counts": counts})
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence(random):
    own = PoissonFactorisation(factors=2, a=1.5, b=1.0, c=2.0, d=0.8)
    tables = random.poisson(random.gamma(1.5, 2.0, (50, 4)))
    keys = jax.random.split(jax.random.key(0), 50)
    climb = jax.vmap(lambda counts, key: climbed(own, {"counts": counts}, key, 300)[1])
    bounds = np.asarray(climb(tables[..., None], keys))
    known = np.array([evidence(own, counts) for counts in tables])
    finer = np.array([evidence(own, counts, 60) for counts in tables[:5]])
    np.testing.assert_allclose(known[:5], finer, atol=1e-3)
    assert (known - bounds).min() > 1e-2  # mean field loses more than quadrature
    assert (known - bounds).max() < 5


@pytest.mark.slow
def test_where_one_side_is_known_it_is_exact(random):
    """Rates of columns that are all but fixed at 2: negative binomial rows."""
    own = PoissonFactorisation(factors=1, a=1.5, b=0.7, c=2e7, d=1e7)
    counts = random.poisson(3.0, (5, 4))
    q, bound = climbed(own, {"counts": counts}, jax.random.key(0), 50)
    total, rate = counts.sum(axis=1), 2.0 * 4
    # a row's sum is negative binomial, its counts given that are multinomial
    expected = stats.nbinom.logpmf(total, 1.5, 0.7 / (0.7 + rate)).sum()
    even = [stats.multinomial.logpmf(x, x.sum(), np.full(4, 0.25)) for x in counts]
    assert float(bound) == pytest.approx(expected + sum(even), abs=1e-3)
    np.testing.assert_allclose(q["theta"].shape[:, 0], 1.5 + total, rtol=1e-9)
    np.testing.assert_allclose(q["theta"].rate[:, 0], 0.7 + rate, rtol=1e-5)


@pytest.mark.slow
def test_entries_that_are_not_0_are_enough(random):
    own = PoissonFactorisation(factors=3)
    counts = random.poisson(0.4, (9, 11))
    sparse = own.complete(counts=counts)
    assert sparse.entries == np.count_nonzero(counts)
    key = jax.random.key(1)
    (q, bound), (dense, other) = (
        climbed(m, {"counts": counts}, key, 5) for m in (sparse, own)
    )
    assert float(bound) == pytest.approx(float(other), rel=1e-12)
    np.testing.assert_allclose(q["theta"].rate, dense["theta"].rate)


@pytest.mark.slow
def test_a_table_of_nothing(random):
    """The factors keep the shapes of their priors; the bound is below log p(0)."""
    own = PoissonFactorisation(factors=2, entries=0)
    q, bound = climbed(own, {"counts": np.zeros((3, 1), int)}, jax.random.key(0), 200)
    np.testing.assert_allclose(q["theta"].shape, own.a)
    np.testing.assert_allclose(q["beta"].shape, own.c)
    # given beta each row is 0 with probability prod_k (b / (b + beta_k))^a
    known = evidence(own, np.zeros(3, int), 60)
    assert known - 1 < float(bound) < known


@pytest.mark.slow
def test_large_counts(random):
    """A thousand million events: the shares of each sum to it."""
    own = PoissonFactorisation(factors=2)
    counts = (1e9 * random.gamma(2.0, size=(6, 5))).astype(int)
    q, bound = climbed(own, {"counts": counts}, jax.random.key(0), 20)
    assert np.isfinite(bound)
    np.testing.assert_allclose(q["parts"].rows.sum(axis=1), counts.sum(axis=1))


@pytest.mark.slow
def test_the_bound_is_that_of_the_full_model(random):
    own = PoissonFactorisation(factors=2)
    data = own.example(random, 4)
    q, _ = climbed(own, data, jax.random.key(2), 3)
    bound, mean, error = expected_ratio(own, data, q)
    assert abs(mean - bound) < 5 * error


@pytest.mark.slow
def test_it_ends_where_the_fit_of_the_zoo_does():
    y = zoo.data()["y"]
    own = PoissonFactorisation(factors=2, a=zoo.A, b=zoo.B, c=zoo.C, d=zoo.E)
    own = own.complete(counts=y)
    ends = [climbed(own, {"counts": y}, jax.random.key(i), 8000) for i in range(3)]
    q, bound = max(ends, key=lambda end: float(end[1]))
    fits = [zoo.Right()(y, i) for i in range(3)]
    right = max(fits, key=lambda fit: fit["elbo"][-1])
    assert float(bound) == pytest.approx(right["elbo"][-1], abs=1e-6)
    assert gammaln(y + 1).sum() > 1  # a constant that both have
    ours = np.asarray(q["theta"].mean() @ q["beta"].mean())
    theirs = np.asarray(right["q"]["theta"].mean @ right["q"]["beta"].mean)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
