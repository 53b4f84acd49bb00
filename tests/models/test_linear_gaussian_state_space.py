"""The linear Gaussian state space model against dense linear algebra and quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.models.local import expected_ratio
from tests.models.response import responded
from tests.zoo.models import state_space as zoo
from vi_bench.factors.kalman import StateSpace
from vi_bench.models._state_space import GaussianPath, LinearGaussian
from vi_bench.models.linear_gaussian_state_space import LinearGaussianStateSpace
from vi_bench.posterior.cavi_posterior import CAVIPosterior

LEVEL = LinearGaussianStateSpace(
    phi=0.9, first_mean=1.0, first_sd=2.0, a=2.0, b=1.5, c=3.0, d=1.0
)
TREND = LinearGaussianStateSpace(
    form="trend", phi=0.8, first_mean=2.0, first_sd=1.5, slope_mean=0.5, a=2.0, c=2.0
)
FORMS = {"level": LEVEL, "trend": TREND}


@pytest.fixture(params=list(FORMS))
def own(request):
    return FORMS[request.param]


def rows(own, seed, number):
    return own.example(np.random.default_rng(seed), number)["y"]


def states_before(own, process, steps):
    """Mean (T d,) and covariance of all states, by the steps they are sums of."""
    trend = own.form == "trend"
    F = np.array([[1, 1], [0, own.phi]] if trend else [[own.phi]])
    first = np.array([own.first_mean, own.slope_mean][: len(F)])
    sd = np.array([own.first_sd, own.slope_sd][: len(F)])
    size = len(F)
    power = [np.linalg.matrix_power(F, t) for t in range(steps)]
    whole = np.zeros((steps * size, steps * size))
    for t in range(steps):
        for s in range(t + 1):
            at = np.s_[t * size : (t + 1) * size, s * size : (s + 1) * size]
            whole[at] = power[t - s]
    moves = np.broadcast_to(1 / np.asarray(process), size)
    own_variance = np.concatenate([sd**2, np.tile(moves, steps - 1)])
    return whole[:, :size] @ first, (whole * own_variance) @ whole.T


def seen(own, process, noise, steps):
    """Mean and covariance of the observations."""
    mean, covariance = states_before(own, process, steps)
    size = len(mean) // steps
    covariance = covariance[::size, ::size] + np.eye(steps) / noise
    return mean[::size], covariance


@partial(jax.jit, static_argnums=(0, 3))
def ascended(own, y, key, number):
    s = own.statistics(y)
    q = jax.lax.fori_loop(0, number, lambda _, q: own.sweep(s, q), own.init(key, s))
    return q, own.bound(s, q)


def test_the_density_is_that_of_all_rows_together(own):
    y = rows(own, 0, 7)
    posterior = CAVIPosterior.bound(own, {"y": y})
    draws = jax.jit(posterior.draw_prior, static_argnums=1)(jax.random.key(0), 100)
    joint = jax.jit(jax.vmap(posterior.log_joint))(draws)
    for i in range(100):
        process, noise = (np.asarray(draws[k][i]) for k in ("process", "noise"))
        expected = stats.multivariate_normal.logpdf(y, *seen(own, process, noise, 7))
        expected += stats.gamma.logpdf(process, own.a, scale=1 / own.b).sum()
        expected += stats.gamma.logpdf(noise, own.c, scale=1 / own.d)
        np.testing.assert_allclose(joint[i], expected, rtol=1e-9)


@pytest.mark.slow
def test_states_of_the_model_have_its_density(own):
    """Those before and those after the data, forwards and backwards."""
    y, steps = rows(own, 1, 6), 6
    process, noise = np.array([0.7, 2.0][: 1 + (own.form == "trend")]), 1.7
    space = own._space(jnp.asarray(process), noise)
    mean, covariance = states_before(own, process, steps)
    size = len(mean) // steps
    shift = np.linalg.solve(covariance, mean)
    shift[::size] += noise * y
    inverse = np.linalg.inv(covariance) + noise * np.diag(
        np.tile(np.eye(size)[0], steps)
    )
    after = np.linalg.inv(inverse)
    for path, (m, C) in {
        GaussianPath.of(space, steps): (mean, covariance),
        GaussianPath.given(space, jnp.asarray(y)): (after @ shift, after),
    }.items():
        np.testing.assert_allclose(np.ravel(path.mean), m, rtol=1e-9)
        values = np.asarray(path.sample(jax.random.key(1), (20_000,)))
        flat = values.reshape(len(values), -1)
        exact = stats.multivariate_normal(m, C)
        found = path.log_prob(values[:50])
        np.testing.assert_allclose(found, exact.logpdf(flat[:50]), rtol=1e-8)
        # whitened draws have independent elements of variance 1
        white = np.linalg.solve(np.linalg.cholesky(C), (flat - m).T)
        assert np.abs(white.mean(axis=1)).max() < 5 / len(flat) ** 0.5
        spread = np.cov(white) - np.eye(len(m))
        assert np.abs(spread).max() < 5 * (2 / len(flat)) ** 0.5


@pytest.mark.slow
def test_rows_are_drawn_as_their_density_says(own):
    space = own._space(jnp.full(1 + (own.form == "trend"), 2.0), 0.5)
    path = LinearGaussian(space, 4)
    y = np.asarray(path.sample(jax.random.key(0), (20_000,)))
    mean, covariance = seen(own, 2.0, 0.5, 4)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (y - mean).T)
    assert np.abs(white.mean(axis=1)).max() < 5 / len(y) ** 0.5
    assert np.abs(np.cov(white) - np.eye(4)).max() < 5 * (2 / len(y)) ** 0.5
    expected = stats.multivariate_normal(mean, covariance).logpdf(y[:6])
    np.testing.assert_allclose(
        path.log_prob(y[:6].reshape(2, 3, 4)), expected.reshape(2, 3), rtol=1e-9
    )


def log_evidence(own, y, step):
    """Log p(y) by the trapezoidal rule in the log precisions."""
    logs = np.arange(-24, 5, step)
    one, other = (v.ravel() for v in np.meshgrid(logs, logs, indexing="ij"))
    steps = len(y)
    mean, first = states_before(own, np.inf, steps)
    walk = states_before(own, 1.0, steps)[1] - first
    left = y - mean
    # a pencil of three matrices has no common basis: a factor for every point
    covariance = first + walk * np.exp(-one)[:, None, None]
    covariance += np.eye(steps) * np.exp(-other)[:, None, None]
    root = np.linalg.cholesky(covariance)
    scaled = np.linalg.solve(root, np.broadcast_to(left[:, None], (len(one), steps, 1)))
    sizes = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    log_p = -0.5 * (np.sum(scaled**2, axis=(1, 2)) + steps * np.log(2 * np.pi)) - sizes
    log_p += stats.gamma.logpdf(np.exp(one), own.a, scale=1 / own.b) + one
    log_p += stats.gamma.logpdf(np.exp(other), own.c, scale=1 / own.d) + other
    return np.logaddexp.reduce(log_p) + 2 * np.log(step)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence():
    gaps = []
    for seed in range(50):
        y = rows(LEVEL, seed, 6)
        exact = log_evidence(LEVEL, y, 0.4)
        bound = float(ascended(LEVEL, y, jax.random.key(seed), 300)[1])
        assert bound < exact, seed
        gaps.append(exact - bound)
    assert max(gaps) < 1.5  # of two precisions that depend on the states
    finer = log_evidence(LEVEL, y, 0.2)
    np.testing.assert_allclose(exact, finer, rtol=1e-7)


@pytest.mark.slow
def test_precisions_that_are_known_leave_it_exact(own):
    """Priors that are nearly points: all is linear and Gaussian then."""
    shape, process, noise, steps = 1e8, 2.0, 0.5, 9
    y = rows(own, 4, steps)
    settings = {"a": shape, "b": shape / process, "c": shape, "d": shape / noise}
    known = LinearGaussianStateSpace(**{**vars(own), **settings})
    q, bound = ascended(known, y, jax.random.key(0), 3)
    prior = seen(own, process, noise, steps)
    exact = stats.multivariate_normal.logpdf(y, *prior)
    np.testing.assert_allclose(bound, exact, atol=2e-5)
    found = known.local_factors(jnp.asarray(y), q)["states"].mean[:, 0]
    left = np.linalg.solve(prior[1], y - prior[0])
    expected = prior[0] + (prior[1] - np.eye(steps) / noise) @ left
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_the_bound_is_what_draws_of_all_factors_say(own):
    y = rows(own, 5, 12)
    q, _ = ascended(own, y, jax.random.key(1), 4)
    bound, mean, error = expected_ratio(own, {"y": y}, q)
    assert abs(bound - mean) < 5 * error


@pytest.mark.slow
def test_one_row_says_nothing_of_the_steps(own):
    y = np.array([3.0])
    q, bound = ascended(own, y, jax.random.key(2), 100)
    np.testing.assert_allclose(q["process"].shape, own.a)
    np.testing.assert_allclose(q["process"].rate, own.b)
    logs = np.linspace(-20, 5, 2001)
    log_p = stats.norm.logpdf(
        y, own.first_mean, (own.first_sd**2 + np.exp(-logs)) ** 0.5
    )
    log_p += stats.gamma.logpdf(np.exp(logs), own.c, scale=1 / own.d) + logs
    exact = np.logaddexp.reduce(log_p) + np.log(logs[1] - logs[0])
    assert exact - 0.2 < bound < exact


@pytest.mark.slow
def test_without_rows_it_is_the_prior(own):
    q, bound = ascended(own, np.zeros(0), jax.random.key(3), 1)
    for name, (shape, rate) in {
        "process": (own.a, own.b),
        "noise": (own.c, own.d),
    }.items():
        np.testing.assert_array_equal(q[name].shape, shape)
        np.testing.assert_array_equal(q[name].rate, rate)
    np.testing.assert_allclose(bound, 0, atol=1e-12)


@pytest.mark.slow
def test_it_is_the_same_wherever_the_level_is():
    """A random walk has no origin; sums of squares about 0 would lose digits."""
    near = LinearGaussianStateSpace()
    far = LinearGaussianStateSpace(first_mean=2.0**24)
    y = np.round(rows(near, 6, 40) * 2**20) / 2**20  # exact after it is moved, too
    ends = [
        float(ascended(own, y + own.first_mean, jax.random.key(0), 50)[1])
        for own in (near, far)
    ]
    np.testing.assert_allclose(*ends, rtol=1e-9)  # numbers there have steps of 4e-9


@pytest.mark.slow
def test_it_ends_where_an_independent_fit_ends():
    data = zoo.data(3)
    right = zoo.Right()
    right.tol = 1e-14
    fit = right(**data, seed=0)
    own = LinearGaussianStateSpace(
        first_sd=1.0, a=zoo.SHAPE, b=zoo.RATE, c=zoo.SHAPE, d=zoo.RATE
    )
    q, bound = ascended(own, data["y"], jax.random.key(0), 5000)
    np.testing.assert_allclose(bound, fit["elbo"][-1], atol=1e-8)
    for name, theirs in {"process": "lam", "noise": "tau"}.items():
        np.testing.assert_allclose(
            q[name].shape, fit["q"][theirs].concentration, rtol=1e-12
        )
        np.testing.assert_allclose(q[name].rate, fit["q"][theirs].rate, rtol=1e-6)
    states = own.local_factors(jnp.asarray(data["y"]), q)["states"]
    np.testing.assert_allclose(states.mean[:, 0], fit["q"]["states"].loc, atol=1e-6)


@pytest.mark.slow
def test_a_level_is_a_trend_whose_slope_stands_still():
    """Slopes of 0, with steps of precision 1e12, by both models' densities."""
    y = rows(LEVEL, 8, 20)
    settings = {"first_mean": 1.0, "first_sd": 2.0}
    still = {"form": "trend", "slope_sd": 1e-6}
    level = LinearGaussianStateSpace(**settings)
    trend = LinearGaussianStateSpace(**settings, **still)
    one = LinearGaussian(level._space(jnp.asarray(0.7), 1.3), 20).log_prob(y)
    steps = jnp.array([0.7, 1e12])
    other = LinearGaussian(trend._space(steps, 1.3), 20).log_prob(y)
    np.testing.assert_allclose(one, other, rtol=1e-8)


@pytest.mark.slow
def test_linear_response_widens_the_precisions():
    """Against the sds of the exact posterior, by quadrature over the log precisions."""
    y = rows(LEVEL, 9, 40)
    _, linear, own_sds = responded(LEVEL, {"y": y}, ("log_process", "log_noise"))
    logs = np.arange(-6, 5, 0.1)
    one, other = np.meshgrid(logs, logs, indexing="ij")

    @jax.jit
    def log_p(one, other):
        space = LEVEL._space(jnp.exp(one), jnp.exp(other))
        return LinearGaussian(space, 40).log_prob(y)

    weight = np.asarray(jax.vmap(log_p)(one.ravel(), other.ravel())).reshape(one.shape)
    weight = weight + stats.gamma.logpdf(np.exp(one), LEVEL.a, scale=1 / LEVEL.b) + one
    weight += stats.gamma.logpdf(np.exp(other), LEVEL.c, scale=1 / LEVEL.d) + other
    p = np.exp(weight - weight.max())
    p /= p.sum()
    for name, value in {"log_process[0]": one, "log_noise[0]": other}.items():
        exact = np.sqrt(np.sum(p * value**2) - np.sum(p * value) ** 2)
        assert own_sds[name] < 0.9 * exact
        assert abs(linear[name] / exact - 1) < 0.25


@pytest.mark.slow
def test_a_state_space_is_a_pytree_that_programs_take():
    space = LEVEL._space(jnp.asarray(1.0), 2.0)
    assert isinstance(space, StateSpace)
    path = LinearGaussian(space, 3)
    value = jax.jit(lambda path, y: path.log_prob(y))(path, jnp.ones(3))
    np.testing.assert_allclose(value, path.log_prob(jnp.ones(3)), rtol=1e-12)
