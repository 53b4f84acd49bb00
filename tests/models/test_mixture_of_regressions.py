"""Mixtures of regressions against SciPy, all assignments, and the zoo's fit."""

from itertools import product

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp

from tests.models.ascents import climbed, density
from tests.models.local import expected_ratio
from tests.zoo.models import mixture_of_regressions as zoo
from vi_bench.models.linear_regression import LinearRegression
from vi_bench.models.mixture_of_regressions import MixtureOfRegressions


def test_the_density_is_scipys(random):
    """With the components of all rows summed out one row after the other."""
    own = MixtureOfRegressions(3, concentration=0.8, precision=0.3, a=1.5, b=0.7)
    data = own.example(random, 7)
    for _ in range(100):
        weights, w = random.dirichlet(np.ones(3)), random.normal(size=(3, 2))
        tau = random.gamma(2.0, size=3)
        expected = stats.dirichlet.logpdf(weights, np.full(3, 0.8))
        expected += stats.norm.logpdf(w, 0, 0.3**-0.5).sum()
        expected += stats.gamma.logpdf(tau, 1.5, scale=1 / 0.7).sum()
        of_row = stats.norm.logpdf(data["y"][:, None], data["x"] @ w.T, tau**-0.5)
        expected += logsumexp(of_row, b=weights, axis=1).sum()
        found = density(own, {"weights": weights, "w": w, "tau": tau}, data)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_density_sums_over_assignments(random):
    own = MixtureOfRegressions(2)
    data = own.example(random, 4)
    w, tau = random.normal(size=(2, 2)), random.gamma(2.0, size=2)
    weights = np.array([0.3, 0.7])
    of_row = stats.norm.logpdf(data["y"][:, None], data["x"] @ w.T, tau**-0.5)
    terms = [
        sum(of_row[i, k] + np.log(weights[k]) for i, k in enumerate(z))
        for z in product(range(2), repeat=4)
    ]
    prior = stats.dirichlet.logpdf(weights, np.ones(2))
    prior += stats.norm.logpdf(w, 0, 0.1**-0.5).sum()
    prior += stats.gamma.logpdf(tau, 2.0).sum()
    found = density(own, {"weights": weights, "w": w, "tau": tau}, data)
    assert float(found) == pytest.approx(prior + logsumexp(terms), rel=1e-9)


def of_regression(own, x, y, log_tau):
    """Log p(y) of one component's rows: w in closed form, tau by quadrature."""
    cov = x @ x.T / own.precision
    size, axes = np.linalg.eigh(cov + 1e-300)
    rotated = (axes.T @ y) ** 2
    variance = np.maximum(size, 0) + np.exp(-log_tau)[:, None]
    each = -0.5 * np.sum(np.log(2 * np.pi * variance) + rotated / variance, axis=1)
    # the density of log tau
    each += stats.gamma.logpdf(np.exp(log_tau), own.a, scale=1 / own.b) + log_tau
    return logsumexp(each) + np.log(log_tau[1] - log_tau[0])


def evidence(own, x, y):
    """Log p(y) as a sum over the assignments of all rows."""
    log_tau, rows = np.linspace(-25, 8, 1500), np.arange(len(y))
    masks = np.array(list(product((False, True), repeat=len(y))))
    of_set = {
        m.tobytes(): of_regression(own, x[m], y[m], log_tau) if m.any() else 0.0
        for m in masks
    }
    terms = []
    for m in masks:
        n, c = np.array([m.sum(), (~m).sum()]), own.concentration
        urn = gammaln(2 * c) - gammaln(2 * c + len(rows))
        urn += np.sum(gammaln(c + n) - gammaln(c))
        terms.append(urn + of_set[m.tobytes()] + of_set[(~m).tobytes()])
    return logsumexp(terms)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence(random):
    own = MixtureOfRegressions(2, precision=0.5, a=2.0, b=1.0)
    tables = [own.example(random, 5) for _ in range(50)]
    x, y = (np.array([t[name] for t in tables]) for name in ("x", "y"))
    keys = jax.random.split(jax.random.key(0), 50)
    climb = jax.vmap(lambda x, y, key: climbed(own, {"x": x, "y": y}, key, 300)[1])
    bounds = np.asarray(climb(x, y, keys))
    gaps = np.array([evidence(own, *t) for t in zip(x, y, strict=True)]) - bounds
    assert gaps.min() > 0
    assert gaps.max() < 10


@pytest.mark.slow
def test_one_component_is_a_regression(random):
    """As of the model of the library, where its ARD precisions are all but known."""
    own = MixtureOfRegressions(1, precision=0.5, a=1.5, b=0.7)
    data = own.example(random, 30)
    other = LinearRegression(a=0.5e8, b=1e8, c=1.5, d=0.7)
    s = other.statistics(**data)
    theirs = jax.jit(
        lambda q: jax.lax.fori_loop(0, 200, lambda _, q: other.sweep(s, q), q)
    )(other.init(jax.random.key(0), s))
    q, bound = climbed(own, data, jax.random.key(0))
    assert float(bound) == pytest.approx(float(other.bound(s, theirs)), abs=1e-4)
    np.testing.assert_allclose(q["w"].mean()[0], theirs["w"].mean(), rtol=1e-6)
    np.testing.assert_allclose(q["tau"].rate[0], theirs["tau"].rate, rtol=1e-6)
    np.testing.assert_allclose(q["assignments"].counts, 30)


@pytest.mark.slow
def test_no_rows_leave_the_prior():
    own = MixtureOfRegressions(3, concentration=0.6, precision=0.3, a=1.5, b=0.7)
    q, bound = climbed(
        own, {"x": np.zeros((0, 2)), "y": np.zeros(0)}, jax.random.key(0), 1
    )
    assert float(bound) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(q["weights"].concentration, 0.6)
    np.testing.assert_allclose(q["w"].mean(), 0)
    np.testing.assert_allclose(q["tau"].rate, 0.7)


@pytest.mark.slow
def test_one_row_is_in_one_component_or_the_other(random):
    """By symmetry the same in each: weights have half a row more."""
    own = MixtureOfRegressions(2)
    x, y = np.ones((1, 1)), np.array([0.3])
    q, bound = climbed(own, {"x": x, "y": y}, jax.random.key(0))
    known = of_regression(own, x, y, np.linspace(-25, 8, 1500))
    assert known - 3 < float(bound) < known
    assert float(q["weights"].concentration.sum()) == pytest.approx(3)


@pytest.mark.slow
def test_rows_far_from_0_lose_no_digits(random):
    """Two lines, and the same two at another height that the intercept takes up."""
    own = MixtureOfRegressions(2, precision=1e-12)
    x = np.column_stack([np.ones(40), random.normal(size=40)])
    z = np.arange(40) % 2
    y = np.where(z, x[:, 1], 5 - x[:, 1]) + 0.1 * random.normal(size=40)
    found = []
    for level in (0.0, 1e6):
        ends = [
            climbed(own, {"x": x, "y": y + level}, jax.random.key(i)) for i in range(8)
        ]
        found.append(max(ends, key=lambda end: float(end[1])))
    (q, near), (moved, far) = found
    assert float(near) == pytest.approx(float(far), abs=3)  # the prior's own slope
    rates = (np.sort(np.asarray(f["tau"].rate)) for f in (q, moved))
    np.testing.assert_allclose(*rates, rtol=1e-4)


@pytest.mark.slow
def test_the_bound_is_that_of_the_full_model(random):
    own = MixtureOfRegressions(2)
    data = own.example(random, 12)
    q, _ = climbed(own, data, jax.random.key(2), 3)
    bound, mean, error = expected_ratio(own, data, q, 20_000)
    assert abs(mean - bound) < 5 * error


@pytest.mark.slow
def test_it_ends_where_the_fit_of_the_zoo_does():
    data = zoo.data()
    own = MixtureOfRegressions(2, zoo.WEIGHT, 1 / zoo.V, zoo.SHAPE, zoo.RATE)
    given = dict(zip(("x", "y"), data.values(), strict=True))
    ends = [climbed(own, given, jax.random.key(i), 2000) for i in range(5)]
    q, bound = max(ends, key=lambda end: float(end[1]))
    fits = [zoo.Right()(**data, seed=i) for i in range(5)]
    right = max(fits, key=lambda fit: fit["elbo"][-1])
    assert float(bound) == pytest.approx(right["elbo"][-1], abs=1e-6)
    theirs = np.argsort(np.asarray(right["q"]["weights"].concentration))
    ours = np.argsort(np.asarray(q["weights"].concentration))
    for value, known in (
        (q["weights"].concentration, right["q"]["weights"].concentration),
        (q["tau"].shape, right["q"]["tau"].concentration),
        (q["tau"].rate, right["q"]["tau"].rate),
        (q["w"].mean(), right["q"]["w"].loc),
        (q["w"].covariance, right["q"]["w"].covariance_matrix),
    ):
        np.testing.assert_allclose(
            np.asarray(value)[ours], np.asarray(known)[theirs], rtol=1e-5, atol=1e-6
        )
