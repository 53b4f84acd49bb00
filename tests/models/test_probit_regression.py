"""Probit regression against quadrature, orthants, draws and a plain fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erfcx, log_ndtr
from scipy.stats import norm

from tests.models.ascents import climbed, density
from tests.models.binary import quadrature, twice_over
from tests.models.response import chosen, scalars, sds_at
from tests.zoo.models import probit
from vi_bench.factors import Gaussian
from vi_bench.inference.model_response import model_response
from vi_bench.models.probit_regression import ProbitRegression, mills
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = ProbitRegression(alpha=0.7)


def simulated(random, rows, size=2):
    x = random.normal(size=(rows, size)) * random.gamma(2, size=size)
    w = random.normal(0, OWN.alpha**-0.5, size)
    return {"x": x, "y": (random.normal(x @ w) > 0).astype(int)}


def test_the_density_is_the_textbooks(random):
    data = simulated(random, 12, 3)
    sign = 2 * data["y"] - 1
    for _ in range(100):
        w = random.normal(0, 3, 3)
        found = density(OWN, {"w": w}, data)
        wanted = norm.logpdf(w, 0, OWN.alpha**-0.5).sum()
        wanted += log_ndtr(sign * (data["x"] @ w)).sum()
        assert float(found) == pytest.approx(wanted, rel=1e-9)


def test_the_density_in_the_tails():
    data = {"x": np.array([[30.0], [1e4]]), "y": np.array([0, 0])}
    theta = {"w": jnp.ones(1)}
    wanted = log_ndtr([-30.0, -1e4]).sum() + norm.logpdf(1, 0, OWN.alpha**-0.5)
    assert float(density(OWN, theta, data)) == pytest.approx(wanted, rel=1e-12)
    assert np.isfinite(jax.grad(density, 1)(OWN, theta, data)["w"]).all()


@pytest.mark.slow
def test_labels_are_the_signs_of_what_is_summed_out(random):
    """The density of `full`, and its integral over z by quadrature, row by row."""
    data = simulated(random, 3)
    for _ in range(5):
        w = random.normal(size=2)
        z = np.abs(random.normal(size=3)) * (2 * data["y"] - 1)
        theta = {"w": jnp.asarray(w), "z": jnp.asarray(z)}
        found = float(log_density(OWN.full, (), data, theta)[0])
        prior = norm.logpdf(w, 0, OWN.alpha**-0.5).sum()
        wanted = prior + norm.logpdf(z, data["x"] @ w).sum()
        assert found == pytest.approx(wanted, rel=1e-9)
        theta["z"] = theta["z"].at[0].multiply(-1)
        assert float(log_density(OWN.full, (), data, theta)[0]) == -np.inf
        rows = 0.0
        for mean, y in zip(data["x"] @ w, data["y"], strict=True):
            side = (0, np.inf) if y else (-np.inf, 0)
            rows += np.log(quad(norm(mean).pdf, *side, epsabs=1e-13)[0])
        summed = float(density(OWN, {"w": w}, data))
        assert summed == pytest.approx(prior + rows, rel=1e-7)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence():
    for seed in range(50):
        data = simulated(np.random.default_rng(seed), 9)
        evidence = quadrature(data, OWN.alpha, log_ndtr)[0]
        assert float(climbed(OWN, data, jax.random.key(seed))[1]) < evidence


@pytest.mark.slow
def test_of_two_rows_it_is_below_the_mass_of_a_quadrant(random):
    for _ in range(20):
        data = simulated(random, 2, 3)
        covariance = np.eye(2) + data["x"] @ data["x"].T / OWN.alpha
        sd = np.sqrt(np.diag(covariance))
        correlation = covariance[0, 1] / np.prod(sd) * np.prod(2 * data["y"] - 1)
        evidence = np.log(0.25 + np.arcsin(correlation) / (2 * np.pi))
        assert float(climbed(OWN, data, jax.random.key(0))[1]) < evidence


@pytest.mark.slow
def test_draws_say_what_the_bound_is(random):
    """E_q[log p - log q] of the model with z, wherever q is."""
    data = simulated(random, 8)
    s = OWN.statistics(**data)
    root = random.normal(size=(2, 4))
    precision = jnp.asarray(root @ root.T)
    elsewhere = Gaussian.of(jnp.asarray(random.normal(size=2)), precision)
    start = OWN.init(jax.random.key(1), s)

    @jax.jit
    def excess(key, q):
        one, other = jax.random.split(key)
        of_w, of_z = q["w"].distribution(), OWN.local_factors(s, q)["z"]
        w, z = of_w.sample(one, (20_000,)), of_z.sample(other, (20_000,))
        joint = jax.vmap(
            lambda w, z: log_density(OWN.full, (), data, {"w": w, "z": z})[0]
        )
        log_q = of_w.log_prob(w) + of_z.log_prob(z).sum(1)
        return joint(w, z) - log_q, OWN.bound(s, q)

    for q in (climbed(OWN, data, jax.random.key(0))[0], start | {"w": elsewhere}):
        r, value = map(np.asarray, excess(jax.random.key(2), q))
        assert abs(r.mean() - value) < 5 * r.std() / len(r) ** 0.5


@pytest.mark.slow
def test_given_the_latent_normals_it_is_exact(random):
    """Where E z is known, w has the posterior of a linear regression on it."""
    data = simulated(random, 10, 3)
    x, sign = data["x"], 2 * data["y"] - 1
    s = OWN.statistics(**data)
    start = OWN.init(jax.random.key(0), s)
    at = x @ np.asarray(start["w"].mean())
    z = at + sign * norm.pdf(at) / norm.cdf(sign * at)
    precision = OWN.alpha * np.eye(3) + x.T @ x
    w = OWN.sweep(s, start)["w"]
    np.testing.assert_allclose(w.mean(), np.linalg.solve(precision, x.T @ z), rtol=1e-9)
    np.testing.assert_allclose(w.shift, x.T @ z, rtol=1e-9)
    np.testing.assert_allclose(w.covariance, np.linalg.inv(precision), rtol=1e-9)
    half = np.linalg.slogdet(precision)[1] / 2
    assert float(w.half_log_det) == pytest.approx(half, rel=1e-9)


@pytest.mark.slow
def test_one_row():
    """The fixed point of one coefficient, by bisection."""
    x, y = 1.7, 0

    def excess(m):
        return -OWN.alpha * m - x * norm.pdf(x * m) / norm.cdf(-x * m)

    data = {"x": np.array([[x]]), "y": np.array([y])}
    q, value = climbed(OWN, data, jax.random.key(0))
    m = brentq(excess, -20, 20, xtol=1e-14)
    assert float(q["w"].mean()[0]) == pytest.approx(m, rel=1e-9)
    precision = OWN.alpha + x**2
    assert float(q["w"].covariance[0, 0]) == pytest.approx(1 / precision, rel=1e-12)
    wanted = norm.logcdf(-x * m) - OWN.alpha * m**2 / 2
    wanted += np.log(OWN.alpha / precision) / 2  # of the covariance, all else cancels
    assert float(value) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_no_rows_leave_the_prior():
    data = {"x": np.zeros((0, 3)), "y": np.zeros(0, int)}
    q, value = climbed(OWN, data, jax.random.key(0))
    np.testing.assert_allclose(q["w"].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(q["w"].covariance, np.eye(3) / OWN.alpha)
    assert float(value) == pytest.approx(0, abs=1e-12)
    assert OWN.local_factors(OWN.statistics(**data), q)["z"].shape() == (0,)


@pytest.mark.slow
def test_predictors_of_zero_tell_nothing():
    """Then mean field is exact."""
    data = {"x": np.zeros((5, 2)), "y": np.array([0, 1, 1, 0, 1])}
    _, value = climbed(OWN, data, jax.random.key(0))
    assert float(value) == pytest.approx(5 * np.log(0.5), rel=1e-12)


def test_the_ratio_of_density_and_mass():
    t = np.r_[np.linspace(-200, 9, 4001), -1e4, -4.0]
    wanted = np.sqrt(2 / np.pi) / erfcx(-t / np.sqrt(2))
    np.testing.assert_allclose(mills(jnp.asarray(t)), wanted, rtol=1e-13)
    slope = jax.vmap(jax.grad(mills))(jnp.asarray(t))
    inside = np.abs(t) < 30  # the textbook's form cancels in the tail
    known = -wanted * (t + wanted)
    np.testing.assert_allclose(slope[inside], known[inside], rtol=1e-9)
    far = jnp.asarray([-1e8, -1e150, 1e8])
    np.testing.assert_allclose(mills(far), [1e8, 1e150, 0], rtol=1e-12)
    assert np.isfinite(jax.vmap(jax.grad(mills))(far)).all()


@pytest.mark.slow
def test_large_and_separable_data_stay_finite(random):
    x = 1e4 + random.normal(size=(50, 2)) * [1e4, 1.0]
    data = {"x": np.c_[np.ones(50), x], "y": (x[:, 0] > 1e4).astype(int)}
    s = OWN.statistics(**data)
    q, bounds = OWN.init(jax.random.key(0), s), []
    for _ in range(30):
        q = OWN.sweep(s, q)
        bounds.append(float(OWN.bound(s, q)))
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() > -1e-9 * np.abs(bounds).max()


@pytest.mark.slow
def test_it_ends_where_a_plain_fit_ends():
    class Plain(probit.Right):
        tol, most = 0, 1500

    given = probit.data(seed=2)
    own = ProbitRegression(alpha=probit.SD**-2)
    data = {"x": given["X"], "y": given["y"]}
    q, value = climbed(own, data, jax.random.key(0), 1500)
    known = Plain()(**given, seed=0)
    w, z = known["q"]["w"], known["q"]["z"]
    np.testing.assert_allclose(q["w"].mean(), w.loc, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(q["w"].covariance, w.covariance_matrix, rtol=1e-6)
    own_z = own.local_factors(own.statistics(**data), q)["z"]
    inside = (given["y"] * 2 - 1) * np.linspace(0.1, 3, len(given["y"]))
    np.testing.assert_allclose(
        own_z.log_prob(inside), z.log_prob(inside), rtol=1e-6, atol=1e-9
    )
    assert float(value) == pytest.approx(known["elbo"][-1], rel=1e-10)


@pytest.mark.slow
def test_linear_response_tends_to_the_sds_of_quadrature():
    """It is off by a share 1/N, of which four times the rows leave a quarter.

    q, whose precision takes the latent normals as known, stays half as wide.
    """
    (linear, under_q), (nearer, still) = twice_over(OWN, log_ndtr)
    np.testing.assert_allclose(linear, 1, atol=2e-3)
    np.testing.assert_allclose((nearer - 1) / (linear - 1), 1 / 4, rtol=0.05)
    assert max(*under_q, *still) < 0.6


@pytest.mark.slow
def test_linear_response_is_the_curvature_of_the_density(random):
    """The bound with z at its optimum is log p(y, w) at the mean of q(w), up to terms
    of q's covariance alone: that mean is the mode, and linear response is Laplace's."""
    data = simulated(random, 12)
    posterior = CAVIPosterior.bound(OWN, data)
    q, _ = climbed(OWN, data, jax.random.key(0), 5000)
    mode = {"w": q["w"].mean()}
    slope, curved = (f(density, 1)(OWN, mode, data) for f in (jax.grad, jax.hessian))
    np.testing.assert_allclose(slope["w"], 0, atol=1e-9)
    sds, _ = sds_at(posterior, q, chosen(["w"]))
    covariance = np.linalg.inv(-np.asarray(curved["w"]["w"]))
    np.testing.assert_allclose(list(sds.values()), covariance.diagonal() ** 0.5)


FAR = {
    "x": np.array([[2e4], [-7e4], [9e4], [-1e5], [6e4], [-1.1e5]]),
    "y": np.array([1, 0, 1, 0, 1, 0]),
}
"""Separated labels: where predictors are so large a sweep moves w by nearly nothing."""


def test_starts_are_where_labels_depend_on_the_coefficients():
    """The bound is that of the best normal of the same variance, by quadrature."""
    own = ProbitRegression()
    x, sign = FAR["x"].ravel(), 2 * FAR["y"] - 1
    precision = own.alpha + x @ x

    def lost(m):
        return own.alpha * m**2 / 2 - log_ndtr(sign * x * m).sum()

    best = minimize_scalar(lost, (1e-6, 1e-3), tol=1e-12).fun
    best = -best - 0.5 * (own.alpha / precision - 1 - np.log(own.alpha / precision))
    # beside this, E log p(z | w) has half the variance of x w in every row
    best -= 0.5 * (x @ x) / precision
    bounds = [climbed(own, FAR, jax.random.key(k), 20_000)[1] for k in range(5)]
    np.testing.assert_allclose(bounds, best, rtol=0, atol=1e-3)


def test_what_no_sweep_moves_is_no_optimum_for_that():
    """A mean far too large: a sweep moves it by 1e-11 of itself."""
    own = ProbitRegression()
    posterior = CAVIPosterior.bound(own, FAR)
    s = posterior.statistics()
    w = Gaussian.of(s.centred.precision @ jnp.full(1, 0.3), s.centred.precision)
    q = own.local(s, {"w": w})
    found = model_response(posterior, q, lambda theta: scalars({"w": theta["w"]}))
    assert "a Newton step gains" in found.refused
    # of so small a curvature rounding leaves a digit
    assert found.gain == pytest.approx(own.alpha * 0.3**2 / 2, rel=0.5)
