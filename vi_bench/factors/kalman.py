"""Message passing along Gaussian states: the Kalman filter and smoother.

x_0 ~ Normal(mean, covariance), x_t ~ Normal(F x_{t-1}, Q), y_t ~ Normal(h x_t, r). The
filter goes forwards (Kalman 1960), the smoother backwards (Rauch, Tung and Striebel
1965). In a mean-field ascent Q and r are the inverses of expected precisions, and the
path is the optimal factor of the states (Beal 2003, section 5.3; Barber and Chiappa
2007). O(T d^3).

No covariance is a difference of larger ones: each is a sum of positive terms, the form
of Bucy and Joseph (1968) for the filter and its counterpart for the smoother, so that
noise and steps may be of very different sizes. Means are told as distances from
predictions, so that values far from 0 do not cancel. All matrices are inverted outside
the loops over time. States exist without observations, too: of none, one state is left,
as its prior has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float

from vi_bench.factors.gaussian import LOG_2PI


class StateSpace(NamedTuple):
    """A linear Gaussian model of states and of one value observed at each time.

    Attributes:
        mean: of the first state (d,).
        covariance: of the first state (d, d).
        transition: F (d, d).
        process: covariance Q of the steps, positive definite (d, d).
        observation: h (d,).
        noise: variance r of the observations.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    transition: Float[Array, "d d"]
    process: Float[Array, "d d"]
    observation: Float[Array, " d"]
    noise: Float[Array, ""]


class Filtered(NamedTuple):
    """States given the observations up to their own time.

    Attributes:
        mean: theirs (T, d).
        covariance: theirs (T, d, d).
        moved: the mean less the prediction from the observations before (T, d).
        innovation: the observation less its prediction (T,).
        spread: the variance of the innovation (T,).
    """

    mean: Float[Array, "T d"]
    covariance: Float[Array, "T d d"]
    moved: Float[Array, "T d"]
    innovation: Float[Array, " T"]
    spread: Float[Array, " T"]


class Backward(NamedTuple):
    """x_t given x_{t+1} and y_0, ..., y_t: Normal(gain x_{t+1} + shift, covariance).

    Attributes:
        gain: (T, d, d).
        shift: (T, d).
        covariance: (T, d, d).
        ahead: covariance of x_{t+1} given y_0, ..., y_t (T, d, d).
        rest: Q times the inverse of that, which is 1 - F gain (T, d, d).
    """

    gain: Float[Array, "T d d"]
    shift: Float[Array, "T d"]
    covariance: Float[Array, "T d d"]
    ahead: Float[Array, "T d d"]
    rest: Float[Array, "T d d"]


class Smoothed(NamedTuple):
    """The states given all observations, and what a mean-field ascent needs of them.

    Attributes:
        log_normaliser: log p(y), nats.
        mean: of each state (T, d).
        covariance: of each state (T, d, d).
        lagged: covariance of each state with the one before it (T - 1, d, d).
        first: E[(x_0 - mean) (x_0 - mean)^T], about the prior mean (d, d).
        steps: sum of E[w w^T] of the steps w = x_t - F x_{t-1} (d, d).
        residual: sum of E[(y_t - h x_t)^2].
        entropy: of all states together, nats.
    """

    log_normaliser: Float[Array, ""]
    mean: Float[Array, "T d"]
    covariance: Float[Array, "T d d"]
    lagged: Float[Array, "S d d"]
    first: Float[Array, "d d"]
    steps: Float[Array, "d d"]
    residual: Float[Array, ""]
    entropy: Float[Array, ""]


def log_likelihood(space: StateSpace, y: Float[Array, " T"]) -> Float[Array, ""]:
    """Log p(y) in nats, the states integrated out."""
    return _log_likelihood(filtered(space, y))


def filtered(space: StateSpace, y: Float[Array, " T"]) -> Filtered:
    """The Kalman filter."""
    F, h = space.transition, space.observation
    unit = jnp.eye(len(h), dtype=h.dtype)

    def step(ahead: tuple[Array, Array], value: Array) -> tuple[Any, Filtered]:
        mean, before = ahead
        innovation = value - jnp.sum(h * mean)
        cross = _times(before, h[:, None])[:, 0]
        spread = jnp.sum(h * cross) + space.noise
        gain = cross / spread
        kept = unit - gain[:, None] * h
        after = _around(kept, before) + space.noise * gain[:, None] * gain
        moved = gain * innovation
        now = Filtered(mean + moved, after, moved, innovation, spread)
        predicted = _times(F, now.mean[:, None])[:, 0]
        return (predicted, _around(F, after) + space.process), now

    found: Filtered = lax.scan(step, (space.mean, space.covariance), y)[1]
    return found


def backward(space: StateSpace, found: Filtered) -> Backward:
    """What the filter says of each state once the next one is known."""
    F, Q, P = space.transition, space.process, found.covariance
    unit = jnp.eye(len(F), dtype=F.dtype)
    ahead = _around(F, P) + Q
    gain = _transposed(_solved(ahead, _times(F, P)))
    rest = _transposed(_solved(ahead, jnp.broadcast_to(Q, P.shape)))
    left = _around(unit - _times(gain, F), P) + _around(gain, Q)
    predicted = jnp.einsum("ij,tj->ti", F, found.mean)
    shift = found.mean - jnp.einsum("tij,tj->ti", gain, predicted)
    return Backward(gain, shift, left, ahead, rest)


def smoothed(space: StateSpace, y: Float[Array, " T"]) -> Smoothed:
    """The Rauch-Tung-Striebel smoother, and expected statistics of the path."""
    found = filtered(space, y)
    back = backward(space, found)

    def step(later: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
        far, spread = (
            later  # of x_{t+1}: mean less prediction by the filter, covariance
        )
        gain, left, moved = now
        away = _times(gain, far[:, None])[:, 0]
        own = left + _around(gain, spread)
        return (moved + away, own), (away, own, far, spread)

    # the state after the last one is not observed: it is as it was predicted
    none = jnp.zeros_like(space.mean)
    end = back.ahead[-1] if len(y) else space.covariance
    start, (away, covariance, far, spread) = lax.scan(
        step, (none, end), (back.gain, back.covariance, found.moved), reverse=True
    )
    return Smoothed(
        _log_likelihood(found),
        found.mean + away,
        covariance,
        _times(spread, _transposed(back.gain))[:-1],
        start[0][:, None] * start[0] + start[1],
        _steps(space, back, far, spread),
        _residual(space, found, away, covariance),
        _entropy(space, found),
    )


def _log_likelihood(found: Filtered) -> Array:
    """From the innovations, which are independent (Durbin and Koopman 2012, 7.2)."""
    each = LOG_2PI + jnp.log(found.spread) + found.innovation**2 / found.spread
    return -0.5 * jnp.sum(each)


def _steps(space: StateSpace, back: Backward, far: Array, spread: Array) -> Array:
    """Sum of E[w w^T], where w is rest (x_{t+1} - prediction) - F (error of x_t)."""
    mean = jnp.einsum("tij,tj->ti", back.rest, far)[:-1]
    own = _around(back.rest, spread) + _around(space.transition, back.covariance)
    total: Array = mean.T @ mean + jnp.sum(own[:-1], axis=0)
    return total


def _residual(space: StateSpace, found: Filtered, away: Array, own: Array) -> Array:
    """Sum of E[(y_t - h x_t)^2]: r / spread of an innovation is left by the filter."""
    h = space.observation
    left = found.innovation * (space.noise / found.spread) - away @ h
    return jnp.sum(left**2) + jnp.einsum("i,tij,j->", h, own, h)


def _entropy(space: StateSpace, found: Filtered) -> Array:
    """From the prior's determinant, which each observation shrinks by r / spread."""
    size, steps = len(space.mean), max(len(found.mean) - 1, 0)
    logs = _half_log_det(space.covariance) + steps * _half_log_det(space.process)
    logs += 0.5 * jnp.sum(jnp.log(space.noise / found.spread))
    return 0.5 * size * (steps + 1) * (1 + LOG_2PI) + logs


def _half_log_det(matrix: Array) -> Array:
    return jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))))


def _times(a: Array, b: Array) -> Array:
    """A product of small matrices as a sum, which is faster than a call for each."""
    product: Array = jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    return product


def _around(a: Array, b: Array) -> Array:
    """A b a^T."""
    return _times(_times(a, b), _transposed(a))


def _transposed(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)


def _solved(a: Array, b: Array) -> Array:
    """The inverse of a, which is positive definite, times b."""
    if a.shape[-1] == 1:
        return b / a
    solution: Array = cho_solve((jnp.linalg.cholesky(a), True), b)
    return solution
