"""Coordinate ascent until the bound and the point converge, with an iteration limit.

Accelerated by squared extrapolation (SQUAREM, scheme S3; Varadhan and Roland 2008) of
the E-step's coefficients. Those are natural parameters of the responsibilities and free
of constraints: any real coefficients give valid responsibilities, and the M-step from
these a valid point whose bound is known. An extrapolation that does not raise the
bound is rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vi_bench.mixture.mixture import Factors, Mixture, Move

RUNNING, CONVERGED, NOT_FINITE = 0, 1, 2

FIRST, SECOND, EXTRAPOLATED = 0, 1, 2
"""Phases of an accelerated cycle: two plain sweeps, then one from the extrapolation."""

GROWTH = 4.0
"""Factor by which the longest extrapolation grows when one of that length is accepted,
and shrinks when one is rejected."""


class Ascent(NamedTuple):
    """The state of one ascent.

    Attributes:
        point: the current point; once converged, `bound` is its bound.
        view: E-step coefficients of the next sweep: the point's, or extrapolated ones.
        kept: in the second phase the first one's view, in the third the point's.
        bound: the last ELBO evaluated, nats; it does not decrease.
        floor: in the third phase the bound that the extrapolation has to reach.
        longest: the longest extrapolation allowed, in units of a sweep.
        limited: whether the last extrapolation was cut to that length.
        residual: largest relative |F(point) - point|.
        change: last change of the bound over max(1, |bound|).
        fall: largest decrease of the bound over max(1, |bound|); rounding, or a bug.
        iteration: number of sweeps so far.
        extrapolations: number of accepted extrapolations.
        phase: FIRST, SECOND or EXTRAPOLATED.
        status: RUNNING, CONVERGED or NOT_FINITE.
        trace: the bound after each sweep (most,), NaN beyond the last one.
    """

    point: Any
    view: Any
    kept: Any
    bound: Float[Array, ""]
    floor: Float[Array, ""]
    longest: Float[Array, ""]
    limited: Bool[Array, ""]
    residual: Float[Array, ""]
    change: Float[Array, ""]
    fall: Float[Array, ""]
    iteration: Int[Array, ""]
    extrapolations: Int[Array, ""]
    phase: Int[Array, ""]
    status: Int[Array, ""]
    trace: Float[Array, " most"]


def begin(point: Any, view: Any, most: int) -> Ascent:
    """The state before the first of up to `most` sweeps; its bound is -inf."""
    dtype = view.coefficients.dtype
    infinite = jnp.asarray(jnp.inf, dtype)
    none = jnp.zeros((), jnp.int32)
    return Ascent(
        point=point,
        view=view,
        kept=view,
        bound=-infinite,
        floor=-infinite,
        longest=jnp.asarray(GROWTH, dtype),
        limited=jnp.zeros((), bool),
        residual=infinite,
        change=infinite,
        fall=jnp.zeros((), dtype),
        iteration=none,
        extrapolations=none,
        phase=jnp.full((), FIRST, jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        trace=jnp.full((most,), jnp.nan, dtype),
    )


def resolvable(tolerance: float, dtype: Any) -> float:
    """The tolerance, or 16 machine epsilons where these are larger.

    A relative change of 1e-10 does not exist in float32: a loop that waits for it may
    never converge.
    """
    return max(tolerance, 16 * float(jnp.finfo(dtype).eps))


def ascend(
    sweep: Callable[[Any, Any], Move],
    state: Ascent,
    iterations: int,
    tolerance: float,
    accelerate: bool = True,
    weight: Float[Array, "*w"] | float = 1.0,
    place: Callable[[Array, Any, Array], Any] | None = None,
) -> Ascent:
    """Run up to `iterations` more sweeps, stopping at convergence.

    Args:
        sweep: ``(point, view) -> Move``.
        state: from `begin`, or from an earlier call.
        iterations: iteration limit of this call, in sweeps.
        tolerance: limit on both the relative change of the bound and the residual.
        accelerate: whether to extrapolate after every second sweep.
        weight: weights of the coefficients in the norms that set its length.
        place: ``(wanted, view, coefficients) -> view``, with other coefficients where
            they are wanted; by default these alone are replaced.
    """
    place = place or _placed
    last = jnp.minimum(state.iteration + iterations, state.trace.shape[0])

    def unfinished(s: Ascent) -> Bool[Array, ""]:
        return (s.status == RUNNING) & (s.iteration < last)

    def advance(s: Ascent) -> Ascent:
        move = sweep(s.point, s.view)
        extrapolated = s.phase == EXTRAPOLATED
        taken = extrapolated & (move.after >= s.floor)  # False where it is NaN
        plain = ~extrapolated
        landed = jnp.where(taken, move.after, s.floor)
        bound = jnp.where(plain, move.bound, landed)
        change = (bound - s.bound) / jnp.maximum(1.0, jnp.abs(bound))
        residual = jnp.where(plain, move.residual, s.residual)
        finite = jnp.isfinite(bound) & (~plain | _finite(move.view))
        still = plain & (jnp.abs(change) <= tolerance) & (residual <= tolerance)
        status = jnp.where(finite, jnp.where(still, CONVERGED, RUNNING), NOT_FINITE)
        moving = (status == RUNNING) & (plain | taken)
        point = _pick(moving, move.point, s.point)
        view = _pick(moving, move.view, _pick(extrapolated, s.kept, s.view))
        phase, kept, floor, limited, longest = (
            s.phase,
            s.kept,
            s.floor,
            s.limited,
            s.longest,
        )
        if accelerate:
            grown = jnp.where(limited, longest * GROWTH, longest)
            cut = jnp.maximum(longest / GROWTH, 1.0)
            longest = jnp.where(extrapolated, jnp.where(taken, grown, cut), longest)
            second = (s.phase == SECOND) & (status == RUNNING)
            target, limited = _extrapolate(s.kept, s.view, move.view, longest, weight)
            floor = jnp.where(second, move.after, s.floor)
            kept = _pick(second, move.view, s.view)
            view = place(second, view, target)
            phase = jnp.where(extrapolated, FIRST, s.phase + 1)
        return Ascent(
            point=point,
            view=view,
            kept=kept,
            bound=bound,
            floor=floor,
            longest=longest,
            limited=limited,
            residual=residual,
            change=change,
            fall=jnp.maximum(s.fall, -change),
            iteration=s.iteration + 1,
            extrapolations=s.extrapolations + taken.astype(s.extrapolations.dtype),
            phase=phase.astype(s.phase.dtype),
            status=status.astype(s.status.dtype),
            trace=s.trace.at[s.iteration].set(bound),
        )

    return lax.while_loop(unfinished, advance, state)


def _placed(wanted: Array, view: Any, target: Array) -> Any:
    return view._replace(coefficients=jnp.where(wanted, target, view.coefficients))


def _extrapolate(
    first: Any, second: Any, third: Any, longest: Array, weight: Any
) -> tuple[Array, Bool[Array, ""]]:
    """The extrapolated coefficients, and whether their length was cut to the limit.

    With r the first sweep's change and v the change of the change, ``M_0 + 2 a r + a^2
    v`` with a = |r| / |v|; a = 1 is the third view itself.
    """
    r = second.coefficients - first.coefficients
    v = third.coefficients - second.coefficients - r
    weight = jnp.broadcast_to(weight, r.shape)
    size = jnp.sqrt(jnp.sum((weight * r) ** 2))
    bend = jnp.sqrt(jnp.sum((weight * v) ** 2))
    tiny = jnp.finfo(size.dtype).tiny
    wanted = jnp.where(bend > tiny, size / jnp.maximum(bend, tiny), 1.0)
    length = jnp.clip(wanted, 1.0, longest)
    target = first.coefficients + 2 * length * r + length**2 * v
    return target, wanted > longest


def _pick(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _finite(tree: Any) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def coordinate_ascent(mixture: Mixture) -> Callable[..., Ascent]:
    """`ascend` by sweeps over a mixture's rows; their scale is computed once."""
    total = mixture.total()

    def sweep(point: Factors, view: Any) -> Move:
        return mixture.evaluate(point, view, total)

    return partial(ascend, sweep, weight=total / max(mixture.rows, 1))
