"""The one bounded loop: coordinate ascent until the bound and the point stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

RUNNING, CONVERGED, NOT_FINITE = 0, 1, 2


class Ascent(NamedTuple):
    """The state of one ascent.

    Attributes:
        point: the current point; once converged, `bound` is its bound.
        bound: the last bound evaluated, nats.
        residual: largest |F(point) - point| over the coordinates' scale.
        change: last change of the bound over max(1, |bound|).
        fall: largest fall of the bound seen, over max(1, |bound|); rounding, or a bug.
        iteration: evaluations of the map so far.
        status: RUNNING, CONVERGED or NOT_FINITE.
        trace: the bound by iteration, NaN beyond the last one.
    """

    point: Float[Array, "*p"]
    bound: Float[Array, ""]
    residual: Float[Array, ""]
    change: Float[Array, ""]
    fall: Float[Array, ""]
    iteration: Int[Array, ""]
    status: Int[Array, ""]
    trace: Float[Array, " most"]


def begin(point: Float[Array, "*p"], most: int) -> Ascent:
    """The state before the first evaluation. No bound is known: it is -inf, not 0."""
    dtype = point.dtype
    infinite = jnp.asarray(jnp.inf, dtype)
    return Ascent(
        point=point,
        bound=-infinite,
        residual=infinite,
        change=infinite,
        fall=jnp.zeros((), dtype),
        iteration=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        trace=jnp.full((most,), jnp.nan, dtype),
    )


def resolvable(tolerance: float, dtype: Any) -> float:
    """The tolerance, or what the precision can resolve where that is coarser.

    A relative change of 1e-10 does not exist in float32: a loop that waits for it can
    spin for ever.
    """
    return max(tolerance, 16 * float(jnp.finfo(dtype).eps))


def ascend(
    step: Callable[[Array], tuple[Array, Array]],
    scale: Float[Array, "*s"],
    state: Ascent,
    iterations: int,
    tolerance: float,
) -> Ascent:
    """Up to `iterations` more evaluations of `step`, fewer once it has converged.

    Args:
        step: ``point -> (bound at point, next point)``.
        scale: size of each coordinate, broadcastable to a point.
        state: from `begin`, or from an earlier call.
        iterations: evaluations this call may spend.
        tolerance: on the relative change of the bound and on the residual, both.
    """
    last = jnp.minimum(state.iteration + iterations, state.trace.shape[0])
    tiny = jnp.finfo(scale.dtype).tiny

    def unfinished(s: Ascent) -> Bool[Array, ""]:
        return (s.status == RUNNING) & (s.iteration < last)

    def advance(s: Ascent) -> Ascent:
        bound, following = step(s.point)
        size = jnp.maximum(1.0, jnp.abs(bound))
        change = (bound - s.bound) / size
        gap = jnp.abs(following - s.point) / jnp.maximum(scale, tiny)
        residual = jnp.max(gap)
        finite = jnp.isfinite(bound) & jnp.all(jnp.isfinite(following))
        still = (jnp.abs(change) <= tolerance) & (residual <= tolerance)
        status = jnp.where(finite, jnp.where(still, CONVERGED, RUNNING), NOT_FINITE)
        return Ascent(
            point=jnp.where(status == RUNNING, following, s.point),
            bound=bound,
            residual=residual,
            change=change,
            fall=jnp.maximum(s.fall, -change),
            iteration=s.iteration + 1,
            status=status.astype(s.status.dtype),
            trace=s.trace.at[s.iteration].set(bound),
        )

    return lax.while_loop(unfinished, advance, state)


def over_lanes[T](function: Callable[..., T], *arguments: Any) -> T:
    """Map over the leading axis: restarts, or chains.

    On a CPU one lane after the other (`lax.map`): each stays in cache and stops when
    it is done. On an accelerator all at once (`vmap`), to fill it.
    """
    if _platform() == "cpu":
        mapped: T = lax.map(lambda packed: function(*packed), arguments)
    else:
        mapped = jax.vmap(function)(*arguments)
    return mapped


def _platform() -> str:
    """Of the device chosen by `jax.default_device`, or of JAX's own choice."""
    device = jax.config.jax_default_device
    return str(getattr(device, "platform", device or jax.default_backend()))
