"""When have the parameters of a stochastic optimiser converged? By averages of them.

At a constant learning rate the iterates end up moving about the optimum. Their average
has a Monte-Carlo error that falls with the number of steps, and a bias that falls with
the rate (Dhaka et al. 2020). So the rate is halved whenever they stand still, and the
optimum is found once averages at a rate and at half of it are the same (Welandawe et
al. 2022, whose criterion is a regression on all rates). The average at the last rate is
the result.

What is compared are means and log standard deviations of q, by windows of steps: of all
guides alike, in units of q itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

FEWEST = 8
"""Windows that are left out at every rate, and of the first average after them."""

STILL = 4.0
"""Standard errors of its slope by which an average may drift."""

NOISY = 0.25
"""Standard deviations of q by which windows may differ where the average is worth being
made more exact; if they differ by more, a lower rate is."""

MOBILE = 1.0
"""Standard deviations of q that a mean must have been able to move by over an average:
what hardly moves stands still anywhere."""

CORRELATED = 0.95
"""Largest correlation of neighbouring windows that is reckoned with."""


class Settling(NamedTuple):
    """The state of a series of averages; c statistics of q, p means and p log sds.

    Attributes:
        halvings: how often the rate was halved.
        windows: of the average at this rate so far; negative while some are left out.
        length: windows at which that average is looked at.
        total: sum of their parameters.
        average: the last average that was looked at; before the first, a window's.
        history: statistics of the windows (most, c).
        before: statistics of the average at the rate before (c,), NaN at the first.
        before_error: their standard errors (c,).
        error: largest standard error of the last average, sds of q.
        change: largest difference of it from the one at the rate before, sds of q.
        done: whether the parameters have converged.
    """

    halvings: Int[Array, ""]
    windows: Int[Array, ""]
    length: Int[Array, ""]
    total: Any
    average: Any
    history: Float[Array, "most c"]
    before: Float[Array, " c"]
    before_error: Float[Array, " c"]
    error: Float[Array, ""]
    change: Float[Array, ""]
    done: Bool[Array, ""]


class Judged(NamedTuple):
    """What windows tell of their average (c,): a log sd's unit is 1, a mean's is an sd.

    Attributes:
        mean: the average, in units of the data.
        error: its standard error.
        drift: change along a straight line from the first window to the last.
        spread: standard deviation about that line.
        unit: an sd of q for means, 1 for log sds.
    """

    mean: Float[Array, " c"]
    error: Float[Array, " c"]
    drift: Float[Array, " c"]
    spread: Float[Array, " c"]
    unit: Float[Array, " c"]


def begun(params: Any, most: int, size: int, dtype: Any) -> Settling:
    """No window yet.

    Args:
        params: parameters at the start.
        most: windows that there will be at most.
        size: number of means.
        dtype: of the statistics.
    """
    unknown = jnp.full((), jnp.nan, dtype)
    return Settling(
        halvings=jnp.zeros((), jnp.int32),
        windows=jnp.full((), -FEWEST, jnp.int32),
        length=jnp.full((), FEWEST, jnp.int32),
        total=jax.tree.map(jnp.zeros_like, params),
        average=params,
        history=jnp.zeros((most, 2 * size), dtype),
        before=jnp.full(2 * size, jnp.nan, dtype),
        before_error=jnp.full(2 * size, jnp.nan, dtype),
        error=unknown,
        change=unknown,
        done=jnp.zeros((), bool),
    )


def with_window(
    state: Settling,
    params: Any,
    statistics: Float[Array, " c"],
    reach: Float[Array, ""],
    tolerance: float,
) -> Settling:
    """The state after one more window.

    Args:
        state: before it.
        params: mean parameters over the window.
        statistics: means of q at these, and logs of its standard deviations.
        reach: how far a parameter can move in a window.
        tolerance: difference of two averages, in sds of q, that is none.
    """
    counts = state.windows >= 0
    first = ~counts & (state.halvings == 0)

    def added(total: Array, own: Array) -> Array:
        return jnp.where(counts, total + own, total)

    state = state._replace(
        windows=state.windows + 1,
        total=jax.tree.map(added, state.total, params),
        average=jax.tree.map(
            lambda known, own: jnp.where(first, own, known), state.average, params
        ),
        # what is written while windows are left out is written over
        history=state.history.at[jnp.maximum(state.windows, 0)].set(statistics),
    )
    after: Settling = jax.lax.cond(
        state.windows == state.length,
        lambda state: _looked_at(state, reach, tolerance),
        lambda state: state,
        state,
    )
    return after


def result(state: Settling) -> Any:
    """The parameters: the last average, or that of enough windows since then."""
    since = (state.windows >= FEWEST) & ~state.done

    def chosen(total: Array, average: Array) -> Array:
        number = jnp.maximum(state.windows, 1).astype(total.dtype)
        return jnp.where(since, total / number, average)

    return jax.tree.map(chosen, state.total, state.average)


def judged(history: Float[Array, "most c"], windows: Int[Array, ""]) -> Judged:
    """What the first `windows` rows of a history tell of their average.

    The error of an average of correlated values follows from the correlation r of
    neighbours about the line: its variance is that of independent ones times (1 + r) /
    (1 - r), as for an autoregression. The estimate of r is low by about (1 + 4 r) over
    the number of values (Kendall 1954).
    """
    most, columns = history.shape
    number = windows.astype(history.dtype)
    row = jnp.arange(most, dtype=history.dtype)
    own = (row < number)[:, None]
    mean = jnp.sum(jnp.where(own, history, 0), axis=0) / number
    half = columns // 2
    unit = jnp.concatenate([jnp.exp(mean[half:]), jnp.ones(half, history.dtype)])
    off = jnp.where(own, (history - mean[None]) / unit[None], 0)
    time = jnp.where(own[:, 0], row - (number - 1) / 2, 0)
    slope = time @ off / jnp.sum(time**2)
    rest = jnp.where(own, off - time[:, None] * slope[None], 0)
    squares = jnp.sum(rest**2, axis=0)
    r = jnp.sum(rest[1:] * rest[:-1], axis=0) / jnp.maximum(
        squares, jnp.finfo(squares.dtype).tiny
    )
    r = jnp.clip(r + (1 + 4 * r) / number, 0, CORRELATED)
    spread = jnp.sqrt(squares / (number - 2))
    error = spread * jnp.sqrt((1 + r) / (1 - r) / number)
    return Judged(mean, error, slope * number, spread, unit)


def _looked_at(state: Settling, reach: Float[Array, ""], tolerance: float) -> Settling:
    """Halve the rate, or go on at this one, or be done."""
    found = judged(state.history, state.windows)
    # a slope over n windows, times n, has sqrt(12) times the error of their mean
    may_drift = jnp.maximum(STILL * 12**0.5 * found.error, tolerance / 2)
    still = jnp.all(jnp.abs(found.drift) <= may_drift)
    number = state.windows.astype(reach.dtype)
    mobile = reach * number >= MOBILE * jnp.max(found.unit)
    error = jnp.max(found.error)
    exact = error <= tolerance / 2
    noisy = jnp.max(found.spread) > NOISY
    change = jnp.abs(found.mean - state.before) / found.unit
    change_error = jnp.hypot(found.error, state.before_error)
    differs = jnp.any(change - 2 * change_error > tolerance)
    # false where nothing is known of a rate before
    same = (jnp.max(change_error) <= tolerance * 0.5**0.5) & ~differs
    done = still & mobile & exact & same
    halve = still & mobile & (exact | noisy | differs) & ~done
    more = still & ~halve & ~done
    return state._replace(
        halvings=state.halvings + halve.astype(jnp.int32),
        windows=jnp.where(halve, -FEWEST, jnp.where(still, state.windows, 0)),
        length=jnp.where(
            halve, jnp.maximum(FEWEST, state.length // 4), 2 * state.length
        ),
        total=jax.tree.map(lambda v: jnp.where(more, v, 0), state.total),
        average=jax.tree.map(lambda v: v / number, state.total),
        before=jnp.where(halve, found.mean, state.before),
        before_error=jnp.where(halve, found.error, state.before_error),
        error=error,
        change=jnp.max(change),
        done=done,
    )
