"""The Kalman filter and smoother against the joint Gaussian of all states."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vi_bench.factors.kalman import StateSpace, log_likelihood, smoothed

LOG_2PI = np.log(2 * np.pi)


def parts(random, steps, size, process=1.0, noise=1.0):
    """A model with full matrices, and values that are far from what it expects."""

    def covariance(scale):
        root = random.normal(size=(size, size + 2))
        return jnp.asarray(scale * root @ root.T / size)

    space = StateSpace(
        jnp.asarray(3 * random.normal(size=size)),
        covariance(2.0),
        jnp.asarray(np.eye(size) + 0.3 * random.normal(size=(size, size))),
        covariance(process),
        jnp.asarray(random.normal(size=size)),
        jnp.asarray(noise),
    )
    return space, jnp.asarray(5 * random.normal(size=steps))


def dense(space, y):
    """Mean (T d,) and covariance of all states given y, prior mean, and log p(y)."""
    first, P, F, Q, h, r = map(np.asarray, space)
    steps, size = len(y), len(first)
    # states are a linear map of the first one and of the steps
    power = np.eye(size)
    powers = [power := F @ power if i else power for i in range(steps)]
    zero = np.zeros((size, size))
    whole = np.block(
        [
            [powers[i - j] if i >= j else zero for j in range(steps)]
            for i in range(steps)
        ]
    )
    own = np.kron(np.eye(steps), Q)
    own[:size, :size] = P
    mean = whole[:, :size] @ first
    H = np.kron(np.eye(steps), h)
    inverse = np.linalg.inv(whole)
    precision = inverse.T @ np.linalg.inv(own) @ inverse + H.T @ H / r
    covariance = np.linalg.inv(precision)
    left = np.asarray(y) - H @ mean
    covered = H @ whole @ own @ whole.T @ H.T + r * np.eye(steps)
    log_p = stats.multivariate_normal.logpdf(left, np.zeros(steps), covered)
    return mean + covariance @ H.T @ left / r, covariance, log_p


@pytest.mark.parametrize(("steps", "size"), [(1, 1), (1, 2), (2, 1), (9, 1), (7, 3)])
@pytest.mark.parametrize("process", [1.0, 1e-3, 1e3])
def test_it_is_the_joint_gaussian(steps, size, process, random):
    space, y = parts(random, steps, size, process)
    found = jax.jit(smoothed)(space, y)
    mean, covariance, log_p = dense(space, y)
    near = {"rtol": 1e-8, "atol": 1e-9}
    np.testing.assert_allclose(found.log_normaliser, log_p, rtol=1e-9)
    np.testing.assert_allclose(log_likelihood(space, y), log_p, rtol=1e-9)
    m = mean.reshape(steps, size)
    C = covariance.reshape(steps, size, steps, size).swapaxes(1, 2)
    np.testing.assert_allclose(found.mean, m, **near)
    each = np.arange(steps)
    np.testing.assert_allclose(found.covariance, C[each, each], **near)
    np.testing.assert_allclose(found.lagged, C[each[1:], each[:-1]], **near)
    F, h, first = map(np.asarray, (space.transition, space.observation, space.mean))
    away = m[0] - first
    np.testing.assert_allclose(found.first, np.outer(away, away) + C[0, 0], **near)
    w = m[1:] - m[:-1] @ F.T
    spread = sum(
        C[t, t] + F @ C[t - 1, t - 1] @ F.T - C[t, t - 1] @ F.T - F @ C[t - 1, t]
        for t in range(1, steps)
    )
    np.testing.assert_allclose(found.steps, w.T @ w + spread, rtol=1e-7, atol=1e-8)
    left = np.sum((np.asarray(y) - m @ h) ** 2)
    left += sum(h @ C[t, t] @ h for t in range(steps))
    np.testing.assert_allclose(found.residual, left, **near)
    entropy = 0.5 * (len(mean) * (1 + LOG_2PI) + np.linalg.slogdet(covariance)[1])
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-8, atol=1e-8)


def weight(space, y):
    """E log p(y, states) + H(states), which at the smoothed states is log p(y)."""
    found = smoothed(space, y)
    steps = len(y)

    def log_normal(covariance, second, number):
        own = jnp.trace(jnp.linalg.solve(covariance, second))
        logs = jnp.linalg.slogdet(2 * jnp.pi * covariance)[1]
        return -0.5 * (number * logs + own)

    total = log_normal(space.covariance, found.first, 1) + found.entropy
    total += log_normal(space.process, found.steps, steps - 1)
    noise = steps * jnp.log(2 * jnp.pi * space.noise) + found.residual / space.noise
    return total - 0.5 * noise, found.log_normaliser


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("process", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("noise", [1e-12, 1.0, 1e12])
def test_no_ratio_of_variances_is_too_large(size, process, noise, random):
    """Two ways to log p(y), one by all expected statistics; a level, and a trend."""
    F, h = np.eye(size), np.eye(size)[0]
    F[0] = 1
    space = StateSpace(
        *map(jnp.asarray, (1e4 * h, np.eye(size), F, process * np.eye(size), h, noise))
    )
    x, y = 1e4 * h + random.normal(size=size), []
    for _ in range(50):
        y.append(x @ h + noise**0.5 * random.normal())
        x = F @ x + process**0.5 * random.normal(size=size)
    y = jnp.asarray(y)
    one, other = jax.jit(weight)(space, y)
    # of a trend's level and slope, early correlations are within 1e-12 of 1
    near = 1e-9 if size == 1 else 1e-6
    np.testing.assert_allclose(one, other, rtol=near, atol=1e-9)


def exact_inverse(matrix):
    """Of fractions, by elimination."""
    size = len(matrix)
    both = np.concatenate([matrix, np.eye(size, dtype=int) + Fraction(0)], axis=1)
    for k in range(size):
        both[k] = both[k] / both[k, k]
        for i in set(range(size)) - {k}:
            both[i] = both[i] - both[i, k] * both[k]
    return both[:, size:]


@pytest.mark.parametrize(
    ("process", "noise"), [(1e-14, 1.0), (1e14, 1.0), (1.0, 1e-14), (1e-10, 1e10)]
)
def test_one_dimension_keeps_all_digits(process, noise, random):
    """Against fractions."""
    steps, phi = 6, Fraction(0.9)
    space = StateSpace(
        *map(jnp.asarray, ([2.0], [[3.0]], [[0.9]], [[process]], [1.0], noise))
    )
    values = 2 + random.normal(size=steps)
    found = jax.jit(smoothed)(space, jnp.asarray(values))
    y = np.array([Fraction(v) for v in values])
    D = np.eye(steps, dtype=int) - phi * np.eye(steps, k=-1, dtype=int)
    own = np.array([Fraction(1, 3)] + [1 / Fraction(process)] * (steps - 1))
    precision = D.T @ (own[:, None] * D)
    precision = precision + np.eye(steps, dtype=int) / Fraction(noise)
    C = exact_inverse(precision)
    shift = y / Fraction(noise)
    shift[0] += Fraction(2, 3)
    m = C @ shift
    w, spread = D @ m, D @ C @ D.T
    total = sum(w[t] ** 2 + spread[t, t] for t in range(1, steps))
    left = sum((y[t] - m[t]) ** 2 + C[t, t] for t in range(steps))
    np.testing.assert_allclose(found.steps[0, 0], float(total), rtol=1e-12)
    np.testing.assert_allclose(found.residual, float(left), rtol=1e-12)
    own = np.diag(C).astype(float)
    np.testing.assert_allclose(found.covariance[:, 0, 0], own, rtol=1e-12)
    np.testing.assert_allclose(found.mean[:, 0], m.astype(float), rtol=1e-12)
    lagged = np.diag(C, -1).astype(float)
    np.testing.assert_allclose(found.lagged[:, 0, 0], lagged, rtol=1e-12)


@pytest.mark.slow
def test_derivatives_are_the_expectations(random):
    """Fisher's identity in log Q and log r, and second derivatives by differences."""
    space, y = parts(random, 12, 1, 0.5, 0.7)

    def at(logs):
        return space._replace(process=jnp.exp(logs[:1, None]), noise=jnp.exp(logs[1]))

    def value(logs):
        return log_likelihood(at(logs), y)

    logs = jnp.array([0.3, -0.4])
    found = smoothed(at(logs), y)
    slope = jnp.array(
        [
            0.5 * found.steps[0, 0] / jnp.exp(logs[0]) - 0.5 * 11,
            0.5 * found.residual / jnp.exp(logs[1]) - 0.5 * 12,
        ]
    )
    gradient = jax.jit(jax.grad(value))
    np.testing.assert_allclose(gradient(logs), slope, rtol=1e-10)
    bend = jax.jit(jax.hessian(value))(logs)
    step = 1e-5
    for i in range(2):
        ends = [gradient(logs.at[i].add(s * step)) for s in (1, -1)]
        np.testing.assert_allclose(bend[i], (ends[0] - ends[1]) / 2 / step, rtol=1e-6)


def test_without_observations_one_state_is_as_its_prior_has_it(random):
    space, _ = parts(random, 1, 2)
    found = jax.jit(smoothed)(space, jnp.zeros(0))
    assert found.log_normaliser == 0
    assert found.residual == 0
    np.testing.assert_array_equal(found.first, space.covariance)
    np.testing.assert_array_equal(found.steps, 0)
    prior = stats.multivariate_normal(np.zeros(2), np.asarray(space.covariance))
    np.testing.assert_allclose(found.entropy, prior.entropy(), rtol=1e-12)


def test_single_precision_keeps_long_series(random):
    space, y = parts(random, 20_000, 1, 0.1, 2.0)
    space = space._replace(transition=jnp.array([[1.0]]))
    exact = jax.jit(smoothed)(space, y)
    coarse = jax.tree.map(lambda v: v.astype(jnp.float32), (space, y))
    coarse = jax.jit(smoothed)(*coarse)
    np.testing.assert_allclose(coarse.log_normaliser, exact.log_normaliser, rtol=1e-5)
    np.testing.assert_allclose(coarse.covariance, exact.covariance, rtol=1e-4)
    np.testing.assert_allclose(coarse.steps, exact.steps, rtol=1e-4)
    np.testing.assert_allclose(coarse.mean, exact.mean, atol=1e-3)
