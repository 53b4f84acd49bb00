"""A search with many ascents: restarts, then splits and merges of the best optima.

Between ascents a trial merges two components and splits another one (Ueda, Nakano,
Ghahramani and Hinton 2000). It is kept if it raises the bound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from vi_bench.inference import starts
from vi_bench.inference.climber import Climber, Point
from vi_bench.inference.restarts import SAME_OPTIMUM
from vi_bench.inference.squarem import RUNNING, Ascent
from vi_bench.runtime.checkpoint import LEAF
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

TIE = 1e-9
"""Relative difference of bounds up to which they count as equal."""

TRIAL, TARGETS, PATIENCE = 40, 5, 12
"""Splits and merges: the sweeps within which one has to raise the bound, the number of
optima tried at once, and the number of rounds without a gain after which they end."""

WORK, ROUNDS = 2e6, 100
"""Sweeps times N K that rejected splits and merges may always use, and the number of
rounds that the fit stage has calls for."""


class Search(NamedTuple):
    """The restarts' ascents, and the splits and merges that are tried on them.

    Attributes:
        lanes: the ascents (restart, ...).
        before: the ascents before their split and merge.
        tried: whether a restart is in a split and merge, not yet accepted (restart,).
        left: rounds of splits and merges that are left if none raises the bound.
        spent: number of sweeps of rejected ascents.
    """

    lanes: Ascent
    before: Ascent
    tried: Bool[Array, " restart"]
    left: Int[Array, ""]
    spent: Int[Array, ""]


def begun(climber: Climber, points: Point, most: int) -> Search:
    """The search before its first sweep, from points with a leading axis (restart,)."""
    lanes = jax.vmap(lambda q: climber.begin(q, most))(points)
    return Search(
        lanes=lanes,
        before=lanes,
        tried=jnp.zeros(lanes.bound.shape, bool),
        left=jnp.asarray(PATIENCE if climber.recombined else 0, jnp.int32),
        spent=jnp.zeros((), jnp.int32),
    )


def ended(lanes: Ascent, limits: Array) -> Array:
    """Which ascents have ended or reached their iteration limit (restart,)."""
    return (lanes.status != RUNNING) | (lanes.iteration >= limits)


def following(key: Key, climber: Climber, search: Search, most: int) -> Search:
    """The search once all ascents have ended: trials are judged, or new ones begun.

    Trials end when none are `left`, or when the sweeps of rejected ascents are as many
    as those of the kept ones and as WORK allows.
    """
    few = WORK / climber.products
    made = jnp.sum(search.lanes.iteration)
    allowed = jnp.maximum(made.astype(search.lanes.bound.dtype), few)
    spent = search.spent.astype(allowed.dtype)
    more = (search.left > 0) & (spent < allowed)

    def onward() -> Search:
        new = search._replace(left=search.left - 1)
        return trial(key, climber, new, most)

    def over() -> Search:
        return search._replace(left=jnp.zeros_like(search.left))

    found: Search = lax.cond(
        jnp.any(search.tried),
        lambda: judged(search),
        lambda: lax.cond(more, onward, over),
    )
    return found


def gained(search: Search) -> Array:
    """Which trials have raised the bound by more than the spread of one optimum."""
    least = jnp.maximum(SAME_OPTIMUM, TIE * jnp.abs(search.before.bound))
    return search.tried & (search.lanes.bound > search.before.bound + least)


def settled(search: Search) -> Ascent:
    """The ascents; where a trial has gained nothing, the ascent before it."""
    lost = search.tried & ~gained(search)

    def keep(before: Any, lane: Any) -> Array:
        where = lost.reshape(-1, *[1] * (lane.ndim - 1))
        return jnp.where(where, before, lane)

    kept: Ascent = jax.tree.map(keep, search.before, search.lanes)
    return kept


def judged(search: Search) -> Search:
    """Accept the trials that raised the bound, and undo the others."""
    lanes, gain = settled(search), gained(search)
    dropped = jnp.where(gain, search.before.iteration, search.lanes.iteration)
    return Search(
        lanes=lanes,
        before=lanes,
        tried=jnp.zeros_like(search.tried),
        left=jnp.where(jnp.any(gain), PATIENCE, search.left).astype(jnp.int32),
        spent=search.spent
        + jnp.sum(jnp.where(search.tried, dropped, 0), dtype=jnp.int32),
    )


def trial(key: Key, climber: Climber, search: Search, most: int) -> Search:
    """Begin one split and merge at each of the best TARGETS distinct optima."""
    lanes = search.lanes
    ranked = jnp.where(jnp.isfinite(lanes.bound), lanes.bound, -jnp.inf)
    order = jnp.argsort(-ranked, stable=True)
    first = starts.distinct(ranked[order])
    places = order[jnp.argsort(~first, stable=True)[:TARGETS]]
    tried = jnp.zeros_like(search.tried).at[order].set(first)
    proposed = climber.proposals()

    def attempt(key: Key, place: Array) -> Ascent:
        lane = jax.tree.map(lambda v: v[place], lanes)
        new = climber.begin(proposed(key, lane.point), most)
        at: Ascent = jax.tree.map(lambda a, b: jnp.where(tried[place], a, b), new, lane)
        return at

    new = over_lanes(attempt, jax.random.split(key, len(places)), places)
    at_hand = jnp.zeros_like(tried).at[places].set(True)
    return search._replace(
        lanes=jax.tree.map(lambda v, n: v.at[places].set(n), lanes, new),
        before=lanes,
        tried=tried & at_hand,
    )


def chosen(lanes: Ascent) -> Array:
    """The index of the restart with the best bound; the first one of equals."""
    # a NaN bound is never the best; where all are NaN, the outcome is not finite
    ranked = jnp.where(jnp.isfinite(lanes.bound), lanes.bound, -jnp.inf)
    # among restarts in one optimum the first, so that rounding does not choose
    as_good = ranked >= jnp.max(ranked) - TIE * jnp.abs(jnp.max(ranked))
    return jnp.argmax(as_good)


def best_point(search: Search) -> dict[str, Any]:
    """The best restart's q, for a checkpoint."""
    # on the host, as only one of several processes writes checkpoints
    host = jax.tree.map(np.asarray, settled(jax.tree.map(np.asarray, search)))
    best = int(chosen(host))
    leaves = [leaf[best] for leaf in jax.tree.leaves(host.point)]
    known = {"bound": host.bound[best], "iteration": host.iteration[best]}
    return known | {LEAF.format(i): leaf for i, leaf in enumerate(leaves)}
