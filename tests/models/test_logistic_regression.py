"""Logistic regression against quadrature, Polya-Gamma variables and a plain fit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, log_expit
from scipy.stats import multivariate_normal, norm

from tests.models.ascents import climbed, density
from tests.models.binary import quadrature, twice_over
from tests.zoo.models import logistic
from vi_bench.factors import Gaussian
from vi_bench.models.logistic_regression import LogisticRegression

OWN = LogisticRegression(alpha=0.7)


@partial(jax.jit, static_argnums=0)
def bound(own, data, q):
    return own.bound(own.statistics(**data), q)


def simulated(random, rows, size=2, alpha=OWN.alpha):
    x = random.normal(size=(rows, size)) * random.gamma(2, size=size)
    w = random.normal(0, alpha**-0.5, size)
    return {"x": x, "y": (random.random(rows) < expit(x @ w)).astype(int)}


def point(random, size):
    """Any q(w), and any points where the bound is to touch."""
    root = random.normal(size=(size, size + 2))
    precision = root @ root.T
    return Gaussian.of(jnp.asarray(random.normal(size=size)), jnp.asarray(precision))


def with_points(x, w, xi):
    """A q with any points, made without the model."""
    gram = x.T @ (np.tanh(xi / 2) / (2 * xi) * x.T).T
    return {"w": w, "xi": jnp.asarray(xi), "gram": jnp.asarray(gram)}


def test_the_density_is_the_textbooks(random):
    data = simulated(random, 12, 3)
    sign = 2 * data["y"] - 1
    for _ in range(100):
        w = random.normal(0, 3, 3)
        found = density(OWN, {"w": w}, data)
        wanted = norm.logpdf(w, 0, OWN.alpha**-0.5).sum()
        wanted += log_expit(sign * (data["x"] @ w)).sum()
        assert float(found) == pytest.approx(wanted, rel=1e-9)


def evidence_of(data):
    return quadrature(data, OWN.alpha, log_expit)[0]


@pytest.mark.slow
def test_the_bound_is_below_the_evidence():
    for seed in range(50):
        data = simulated(np.random.default_rng(seed), 9)
        value = float(climbed(OWN, data, jax.random.key(seed))[1])
        assert value < evidence_of(data)


@pytest.mark.slow
def test_small_predictors_leave_hardly_a_gap(random):
    """With t = (x w)^2, log cosh (x w / 2) bends from a line in t by -t^2 / 192."""
    data = simulated(random, 9)
    small = data | {"x": data["x"] / np.abs(data["x"]).max() / 10}
    gap = evidence_of(small) - float(climbed(OWN, small, jax.random.key(0))[1])
    fourth = 3 * (np.sum(small["x"] ** 2, axis=1) / OWN.alpha) ** 2  # E (x w)^4
    assert 0 < gap < 2 * np.sum(fourth) / 192


def test_it_is_the_bound_of_polya_gamma_variables(random):
    """At any q(w) q(omega), and its moments from the series that defines them.

    omega = sum_k g_k / (2 pi^2 (k - 1/2)^2 + c^2 / 2), g_k ~ Gamma(1, 1), is PG(1, c).
    """
    data = simulated(random, 8, 3)
    x, y = data["x"], data["y"]
    sizes = 2 * np.pi**2 * (np.arange(1, 2_000_001) - 0.5) ** 2
    for _ in range(5):
        w, xi = point(random, 3), random.gamma(2, size=8)
        mean = np.array([np.sum(1 / (sizes + c**2 / 2)) for c in xi])
        mean += 1 / (2 * np.pi**2 * 2_000_000)  # the other terms
        np.testing.assert_allclose(mean, np.tanh(xi / 2) / (2 * xi), rtol=1e-9)
        # PG(omega; 1, c) is PG(omega; 1, 0) exp(-omega c^2 / 2) over its expectation
        log_laplace = -np.log(np.cosh(xi / 2))
        for c, value in zip(xi, log_laplace, strict=True):
            series = -np.sum(np.log1p(c**2 / 2 / sizes))
            assert series == pytest.approx(value, abs=1e-6)
        divergence = -log_laplace - mean * xi**2 / 2
        at = x @ np.asarray(w.mean())
        square = at**2 + np.sum((x @ np.asarray(w.covariance)) * x, axis=1)
        wanted = (y - 0.5) @ at - mean @ square / 2 - 8 * np.log(2) - divergence.sum()
        unit = jnp.eye(3)
        wanted -= float(w.kl(Gaussian.of(jnp.zeros(3), OWN.alpha * unit)))
        found = float(bound(OWN, data, with_points(x, w, xi)))
        assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_draws_of_polya_gamma_variables_say_what_the_bound_is(random):
    data = simulated(random, 6)
    x, y = data["x"], data["y"]
    q, value = climbed(OWN, data, jax.random.key(0))
    xi, m, cov = np.asarray(q["xi"]), np.asarray(q["w"].mean()), q["w"].covariance
    number, terms = 20_000, 200
    sizes = 2 * np.pi**2 * (np.arange(1, terms + 1) - 0.5) ** 2
    omega = np.empty((number, 6))
    for i, c in enumerate(xi):
        omega[:, i] = random.gamma(1, size=(number, terms)) @ (1 / (sizes + c**2 / 2))
        omega[:, i] += 1 / (2 * np.pi**2 * terms)  # the mean of the other terms
    w = random.multivariate_normal(m, cov, number)
    at = w @ x.T
    terms = (y - 0.5) * at - omega * at**2 / 2 - np.log(2)
    terms += omega * xi**2 / 2 - np.log(np.cosh(xi / 2))  # prior over q of omega
    log_p = norm.logpdf(w, 0, OWN.alpha**-0.5).sum(1) + terms.sum(1)
    r = log_p - multivariate_normal.logpdf(w, m, cov)
    assert abs(r.mean() - float(value)) < 5 * r.std() / number**0.5


@pytest.mark.slow
def test_given_the_points_it_is_exact(random):
    """The quadratic bound's integral over the prior, in closed form."""
    data = simulated(random, 10, 3)
    x, y = data["x"], data["y"]
    xi = random.gamma(2, size=10)
    lam = np.tanh(xi / 2) / (4 * xi)
    precision = OWN.alpha * np.eye(3) + 2 * x.T @ (lam[:, None] * x)
    shift = x.T @ (y - 0.5)
    w = Gaussian.of(jnp.asarray(shift), jnp.asarray(precision))
    wanted = np.sum(log_expit(xi) - xi / 2 + lam * xi**2)
    wanted += 0.5 * shift @ np.linalg.solve(precision, shift)
    wanted -= 0.5 * np.linalg.slogdet(precision / OWN.alpha)[1]
    found = float(bound(OWN, data, with_points(x, w, xi)))
    assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_the_points_are_the_best(random):
    data = simulated(random, 10)
    s, w = OWN.statistics(**data), point(random, 2)
    best = OWN.local(s, {"w": w})
    top, xi = float(OWN.bound(s, best)), np.asarray(best["xi"])
    for factor in (0.5, 0.999, 1.001, 2.0):
        moved = with_points(data["x"], w, factor * xi)
        assert float(OWN.bound(s, moved)) < top


@pytest.mark.slow
def test_one_row():
    """The fixed point of one coefficient, by bisection."""
    x, y = 1.7, 1

    def at(xi):
        precision = OWN.alpha + np.tanh(xi / 2) / (2 * xi) * x**2
        return x * (y - 0.5) / precision, 1 / precision

    def excess(xi):
        mean, variance = at(xi)
        return x**2 * (mean**2 + variance) - xi**2

    xi = brentq(excess, 1e-3, 50, xtol=1e-13)
    data = {"x": np.array([[x]]), "y": np.array([y])}
    q, _ = climbed(OWN, data, jax.random.key(0))
    mean, variance = at(xi)
    assert float(q["xi"][0]) == pytest.approx(xi, rel=1e-9)
    assert float(q["w"].mean()[0]) == pytest.approx(mean, rel=1e-9)
    assert float(q["w"].covariance[0, 0]) == pytest.approx(variance, rel=1e-9)


@pytest.mark.slow
def test_no_rows_leave_the_prior():
    data = {"x": np.zeros((0, 3)), "y": np.zeros(0, int)}
    q, value = climbed(OWN, data, jax.random.key(0))
    np.testing.assert_allclose(q["w"].mean(), 0)
    np.testing.assert_allclose(q["w"].covariance, np.eye(3) / OWN.alpha)
    assert float(value) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_predictors_of_zero_tell_nothing():
    """Every row has probability 1/2, and derivatives stay finite."""
    data = {"x": np.zeros((5, 2)), "y": np.array([0, 1, 1, 0, 1])}
    q, value = climbed(OWN, data, jax.random.key(0))
    assert float(value) == pytest.approx(5 * np.log(0.5), rel=1e-12)
    s = OWN.statistics(**data)

    def moved(m):
        w = Gaussian.of(m, q["w"].precision)
        return OWN.bound(s, OWN.local(s, {"w": w}))

    curved = jax.jit(jax.hessian(moved))(jnp.zeros(2))
    np.testing.assert_allclose(curved, -np.eye(2) / OWN.alpha, rtol=1e-9)


@pytest.mark.slow
def test_large_and_separable_data_stay_finite(random):
    x = 1e4 + random.normal(size=(50, 2)) * [1e4, 1.0]
    data = {"x": np.c_[np.ones(50), x], "y": (x[:, 0] > 1e4).astype(int)}
    s = OWN.statistics(**data)
    q = OWN.init(jax.random.key(0), s)
    bounds = []
    for _ in range(30):
        q = OWN.sweep(s, q)
        bounds.append(float(OWN.bound(s, q)))
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() > -1e-9 * np.abs(bounds).max()


@pytest.mark.slow
def test_it_ends_where_a_plain_fit_ends():
    class Plain(logistic.Right):
        tol, most = 0, 1000

    given = logistic.data(seed=2)
    own = LogisticRegression(alpha=logistic.SD**-2)
    q, value = climbed(own, {"x": given["X"], "y": given["y"]}, jax.random.key(0), 1000)
    known = Plain()(**given, seed=0)
    w = known["q"]["w"]
    np.testing.assert_allclose(q["w"].mean(), w.loc, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(q["w"].covariance, w.covariance_matrix, rtol=1e-6)
    assert float(value) == pytest.approx(known["elbo"][-1], rel=1e-10)


@pytest.mark.slow
def test_linear_response_tends_to_the_sds_of_quadrature():
    """The quadratic bounds touch the likelihood where q is, once q is narrow.

    Their points xi move with q(w): with them at their optimum the bound bends as
    log p(y, w) does, and q's own precision, of points that are held, is too large. So
    linear response is off by a share 1/N, of which four times the rows leave a quarter,
    but for one 1/N^2, and q by one that stays.
    """
    (linear, under_q), (nearer, still) = twice_over(OWN, log_expit)
    np.testing.assert_allclose(linear, 1, atol=2e-3)
    np.testing.assert_allclose((nearer - 1) / (linear - 1), 1 / 4, rtol=0.05)
    assert max(*under_q, *still) < 0.9
