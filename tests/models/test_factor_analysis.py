"""Factor analysis and PPCA against SciPy, quadrature, normals, and the zoo's fit."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from tests.models.ascents import climbed, density
from tests.models.local import expected_ratio
from tests.zoo.models import factor_analysis as zoo
from vi_bench.models.factor_analysis import FactorAnalysis
from vi_bench.models.normal import NormalModel
from vi_bench.models.ppca import PPCA

BOTH = [FactorAnalysis, PPCA]


@pytest.mark.parametrize("kind", BOTH)
def test_the_density_is_scipys(kind, random):
    own = kind(factors=2, precision=0.3, a=1.5, b=0.7, c=2.5, d=0.8)
    x = own.example(random, 7)["x"]
    for _ in range(100):
        alpha, w = random.gamma(2.0, size=2), random.normal(size=(4, 2))
        tau = random.gamma(2.0, size=() if own.common else 4)
        mu = random.normal(size=4)
        expected = stats.gamma.logpdf(alpha, 1.5, scale=1 / 0.7).sum()
        expected += stats.gamma.logpdf(tau, 2.5, scale=1 / 0.8).sum()
        expected += stats.norm.logpdf(w, 0, alpha**-0.5).sum()
        expected += stats.norm.logpdf(mu, 0, 0.3**-0.5).sum()
        cov = w @ w.T + np.eye(4) / tau
        expected += stats.multivariate_normal.logpdf(x, mu, cov).sum()
        found = density(own, {"alpha": alpha, "W": w, "mu": mu, "tau": tau}, {"x": x})
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_density_integrates_over_the_factors(random):
    """One factor, by quadrature over z of each row."""
    own = FactorAnalysis(factors=1)
    x, w = random.normal(size=(3, 2)), random.normal(size=(2, 1))
    tau, mu, alpha = np.array([1.5, 0.7]), random.normal(size=2), np.ones(1)
    z = np.linspace(-12, 12, 2001)
    rows = stats.norm.logpdf(x[:, None], mu + z[:, None] * w[:, 0], tau**-0.5).sum(-1)
    expected = logsumexp(rows + stats.norm.logpdf(z), axis=1) + np.log(z[1] - z[0])
    prior = stats.gamma.logpdf(alpha, 2.0, scale=0.5).sum()
    prior += stats.gamma.logpdf(tau, 2.0).sum() + stats.norm.logpdf(w).sum()
    prior += stats.norm.logpdf(mu, 0, 10).sum()
    found = density(own, {"alpha": alpha, "W": w, "mu": mu, "tau": tau}, {"x": x})
    assert float(found) == pytest.approx(prior + expected.sum(), rel=1e-9)


def evidence(own, x, nodes=400):
    """Log p of a single feature with one factor, by quadrature over W and tau.

    Given these the rows are normal about mu, which is integrated in closed form; with
    alpha integrated out W has Student's distribution.
    """
    w, log_tau = np.linspace(0, 60, 8 * nodes), np.linspace(-12, 8, nodes)
    variance = w[:, None] ** 2 + np.exp(-log_tau)
    n, away = len(x), np.sum((x - x.mean()) ** 2)
    wide = variance / n + 1 / own.precision
    terms = -0.5 * ((n - 1) * np.log(2 * np.pi * variance) + away / variance)
    terms += -0.5 * np.log(n) + stats.norm.logpdf(x.mean(), 0, np.sqrt(wide))
    prior = stats.t.logpdf(w, 2 * own.a, 0, np.sqrt(own.b / own.a)) + np.log(2)
    tau = np.exp(log_tau)
    of_tau = stats.gamma.logpdf(tau, own.c, scale=1 / own.d) + log_tau
    terms += prior[:, None] + of_tau
    terms[0] -= np.log(2)  # the end of a trapezoid
    return logsumexp(terms) + np.log((w[1] - w[0]) * (log_tau[1] - log_tau[0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_the_bound_is_below_the_evidence(kind, random):
    own = kind(factors=1)
    tables = random.normal(random.normal(size=(50, 1)), size=(50, 6))
    keys = jax.random.split(jax.random.key(0), 50)
    climb = jax.vmap(lambda x, key: climbed(own, {"x": x}, key, 500)[1])
    bounds = np.asarray(climb(tables[..., None], keys))
    known = np.array([evidence(own, x) for x in tables])
    finer = np.array([evidence(own, x, 600) for x in tables[:3]])
    np.testing.assert_allclose(known[:3], finer, atol=1e-3)
    assert (known - bounds).min() > 1e-2
    assert (known - bounds).max() < 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_without_loadings_features_are_normal(kind, random):
    """Alpha is so large that W is all but 0: each feature is the model `normal`."""
    number = 1 if kind is PPCA else 3
    x = random.normal(2, 1.5, size=(20, number))
    own = kind(factors=2, precision=0.2, a=1e10, b=1.0, c=1.5, d=0.7)
    q, bound = climbed(own, {"x": x}, jax.random.key(0), 200)
    normal, expected = NormalModel(kappa=0.2, a=1.5, b=0.7), 0.0
    for j in range(number):
        s = normal.statistics(x=x[:, j])
        theirs = normal.init(jax.random.key(0), s)
        for _ in range(50):
            theirs = normal.sweep(s, theirs)
        expected += float(normal.bound(s, theirs))
        own_rate = np.ravel(q["tau"].rate)[j]
        np.testing.assert_allclose(own_rate, theirs["tau"].rate, rtol=1e-6)
        np.testing.assert_allclose(q["mu"].mean()[j], theirs["mu"].mean(), rtol=1e-6)
    assert float(bound) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_known_noise_and_no_loadings_are_exact(random):
    own = PPCA(factors=1, precision=0.2, a=1e9, b=1.0, c=2e7, d=1e7)
    x = random.normal(1, 0.7, size=(10, 2))
    _, bound = climbed(own, {"x": x}, jax.random.key(0), 50)
    cov = np.eye(10) / 2 + np.ones((10, 10)) / 0.2
    expected = stats.multivariate_normal.logpdf(x.T, np.zeros(10), cov).sum()
    assert float(bound) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_no_rows_leave_the_prior_of_what_has_one(kind):
    own = kind(factors=2, precision=0.3, c=1.5, d=0.7)
    q, bound = climbed(own, {"x": np.zeros((0, 3))}, jax.random.key(0), 300)
    np.testing.assert_allclose(q["tau"].shape, 1.5)
    np.testing.assert_allclose(q["tau"].rate, 0.7)
    np.testing.assert_allclose(q["mu"].precision, 0.3)
    np.testing.assert_allclose(q["W"].mean(), 0, atol=1e-9)
    assert -3 < float(bound) < 0  # W and alpha are independent in q


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_the_statistics_are_sums_over_rows(kind, random):
    """Of the factors of each row, as `local_factors` has them; one row, too."""
    for rows in (1, 9):
        own = kind(factors=2)
        x = own.example(random, rows)["x"]
        q, _ = climbed(own, {"x": x}, jax.random.key(1), 3)
        s = own.statistics(x=x)
        q = own.local(s, q)
        of_row = own.local_factors(s, q)["z"]
        mean, cov = np.asarray(of_row.mean), np.asarray(of_row.covariance_matrix)
        cov = np.broadcast_to(cov, (rows, 2, 2))
        np.testing.assert_allclose(q["z"].total, mean.sum(axis=0), atol=1e-9)
        second = mean.T @ mean + cov.sum(axis=0)
        np.testing.assert_allclose(q["z"].second, second, rtol=1e-9)
        cross = (x - x.mean(axis=0)).T @ mean
        np.testing.assert_allclose(q["z"].cross, cross, atol=1e-9)
        entropy = np.sum(np.broadcast_to(of_row.entropy(), rows))
        assert float(q["z"].entropy) == pytest.approx(entropy, rel=1e-9)


@pytest.mark.slow
def test_rows_far_from_0_lose_no_digits(random):
    """All at another place, with a prior that has nothing to say of it."""
    own = FactorAnalysis(factors=1, precision=1e-14)
    x = own.example(random, 30)["x"]
    (q, near), (moved, far) = (
        climbed(own, {"x": x + level}, jax.random.key(0), 3000) for level in (0.0, 1e6)
    )
    assert float(near) == pytest.approx(float(far), abs=0.1)
    np.testing.assert_allclose(q["tau"].rate, moved["tau"].rate, rtol=1e-4)


@pytest.mark.slow
def test_a_principal_subspace_is_found(random):
    """Two strong directions of six; the third factor is switched off."""
    w = np.zeros((6, 2))
    w[:3, 0], w[3:, 1] = 3.0, 2.0
    x = random.normal(size=(400, 2)) @ w.T + 0.3 * random.normal(size=(400, 6))
    own = PPCA(factors=3, a=1e-3, b=1e-3)
    ends = [climbed(own, {"x": x}, jax.random.key(i), 2000) for i in range(4)]
    q = max(ends, key=lambda end: float(end[1]))[0]
    assert float(q["tau"].mean()) == pytest.approx(1 / 0.09, rel=0.1)
    relevance = np.sort(np.asarray(q["alpha"].mean()))
    assert relevance[-1] > 100 * relevance[1]
    implied = q["W"].mean() @ q["W"].mean().T
    np.testing.assert_allclose(implied, w @ w.T, atol=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_the_bound_is_that_of_the_full_model(kind, random):
    own = kind(factors=2)
    data = own.example(random, 8)
    q, _ = climbed(own, data, jax.random.key(2), 3)
    bound, mean, error = expected_ratio(own, data, q, 50_000)
    assert abs(mean - bound) < 5 * error


@pytest.mark.slow
def test_it_ends_where_the_fit_of_the_zoo_does():
    """The zoo has no mean: here the prior's precision leaves it none."""
    y = zoo.data()["y"]
    s, r = zoo.SHAPE, zoo.RATE
    own = FactorAnalysis(zoo.FACTORS, precision=1e10, a=s, b=r, c=s, d=r)
    ends = [climbed(own, {"x": y}, jax.random.key(i), 8000) for i in range(4)]
    q, bound = max(ends, key=lambda end: float(end[1]))
    fits = [zoo.Right()(y, i) for i in range(4)]
    right = max(fits, key=lambda fit: fit["elbo"][-1])
    assert float(bound) == pytest.approx(right["elbo"][-1], abs=1e-5)
    theirs = right["q"]
    np.testing.assert_allclose(q["tau"].rate, theirs["tau"].rate, rtol=1e-5)
    ours = np.asarray(q["W"].mean() @ q["W"].mean().T)
    loadings = np.asarray(theirs["W"].loc)
    np.testing.assert_allclose(ours, loadings @ loadings.T, rtol=1e-4, atol=1e-5)
    relevances = (
        np.sort(np.asarray(v)) for v in (q["alpha"].rate, theirs["alpha"].rate)
    )
    np.testing.assert_allclose(*relevances, rtol=1e-5)
