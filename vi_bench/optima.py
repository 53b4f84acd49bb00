"""The optima of the bound that a run knows, and which of them each sampler visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.comparison.coverage import Coverage, End, cover
from vi_bench.comparison.quantities import flatten, invariants
from vi_bench.contract import Key, Parameters
from vi_bench.iterate import begin, resolvable
from vi_bench.mixture import Factors, Mixture
from vi_bench.result import MethodRun
from vi_bench.starts import find_optima
from vi_bench.weights import STICK

CLIMBED = 64
"""Draws of each sampler that coordinate ascent starts from."""

TERMS, SWEEPS = 4e9, 100
"""Terms <t(x_i), M_k> that the ascents from one sampler's draws may take, if each takes
SWEEPS sweeps: fewer draws where there are many rows."""

LEAST = 8
"""Ascents from each sampler's draws at least."""

SPREAD = 200
"""Draws of an optimum's q that tell where it lies."""


def coverage(
    mixture: Mixture,
    runs: Mapping[str, MethodRun],
    centre: np.ndarray,
    coordinates: Mapping[str, Sequence[object]],
    weighing: frozenset[str],
    key: Key,
) -> Coverage:
    """Which optima are known, and which of them a sampler should have visited.

    Known are the ends of CAVI's restarts, of a search from many starts, and of ascents
    from draws of every sampler.

    Args:
        mixture: whose posterior.
        runs: label -> what the method gave.
        centre: of the data, which draws have back.
        coordinates: of the family's dimensions.
        weighing: labels of the methods that weigh modes.
        key: of the search and of the draws.
    """
    samplers = {
        label: run
        for label, run in runs.items()
        if run.usable and run.method.kind != "variational"
    }
    if mixture.components == 1 or mixture.rows == 0 or not samplers:
        return Coverage()
    of_search, of_draws = jax.random.split(key)
    describe = partial(_quantities, of_draws, mixture, centre, coordinates)
    ends = [
        End(bound, values, source, visited=False)
        for source, bounds, points in _searched(of_search, mixture, runs)
        for bound, values in zip(bounds, describe(points), strict=True)
    ]
    for label, run in samplers.items():
        bounds, points = climbs(mixture, _chosen(run, mixture, centre))
        ends += [
            End(bound, values, label, visited=True)
            for bound, values in zip(bounds, describe(points), strict=True)
        ]
    chains = {
        label: _of_chains(run, mixture.family, coordinates)
        for label, run in samplers.items()
    }
    return cover(ends, chains, weighing)


def _searched(
    key: Key, mixture: Mixture, runs: Mapping[str, MethodRun]
) -> list[tuple[str, np.ndarray, Factors]]:
    """Where restarts, and a search, ended: source, bounds and the q of each.

    Restarts that go on are the best of many starts, and may all be in one optimum; the
    search lists others.
    """
    search = jax.jit(find_optima)(key, mixture)
    return [("a search", np.asarray(search.bound), search.points)] + [
        (label, np.asarray(run.draws.report["restart_bound"]), run.draws.optima)
        for label, run in runs.items()
        if run.usable and run.draws is not None and run.draws.optima is not None
    ]


def _chosen(run: MethodRun, mixture: Mixture, centre: np.ndarray) -> Parameters:
    """Draws of a method, evenly spaced over all chains, centred as the data are."""
    assert run.draws is not None
    one = max(mixture.rows * mixture.components, 1) * SWEEPS
    number = int(np.clip(TERMS / one, LEAST, CLIMBED))
    theta = mixture.family.uncentre(run.draws.parameters, -centre)
    size = int(np.prod(next(iter(theta.values())).shape[:2]))
    at = np.linspace(0, size - 1, number).round().astype(int)
    dtype = mixture.log_base.dtype
    return {
        name: jnp.asarray(np.asarray(v).reshape(size, *v.shape[2:])[at], dtype)
        for name, v in theta.items()
    }


def climbs(mixture: Mixture, theta: Parameters) -> tuple[np.ndarray, Factors]:
    """Bounds and q of the optima that coordinate ascent reaches from each theta."""
    bounds, points = _climbs(mixture, theta)
    return np.asarray(bounds), points


@partial(jax.jit, static_argnames="most")
def _climbs(
    mixture: Mixture, theta: Parameters, most: int = 2000
) -> tuple[Float[Array, " n"], Factors]:
    tolerance = resolvable(1e-8, mixture.log_base.dtype)
    onward = mixture.climber()

    def climb(one: Parameters) -> tuple[Array, Factors]:
        q = mixture.from_coefficients(mixture.natural(one))
        end = onward(begin(q, mixture.view(q), most), most, tolerance)
        return end.bound, end.point

    found: tuple[Array, Factors] = jax.lax.map(climb, theta)
    return found


def _quantities(
    key: Key,
    mixture: Mixture,
    centre: np.ndarray,
    coordinates: Mapping[str, Sequence[object]],
    points: Factors,
) -> np.ndarray:
    """Label-invariant quantities of draws of each q (point, quantity, draw)."""
    theta = jax.tree.map(np.asarray, _drawn(key, mixture, points))
    moved = mixture.family.uncentre(theta, centre)
    known = {name: np.asarray(v, float) for name, v in moved.items() if name != STICK}
    if STICK in theta:
        log_w = mixture.weights.log_weights(theta, mixture.components)
        known["weight"] = np.exp(np.asarray(log_w, float))
    return _stacked(known, mixture.family, coordinates)


@jax.jit
def _drawn(key: Key, mixture: Mixture, points: Factors) -> Parameters:
    return jax.lax.map(lambda q: mixture.draw(key, q, (SPREAD,)), points)  # type: ignore[no-any-return]


def _of_chains(
    run: MethodRun, family: Any, coordinates: Mapping[str, Sequence[object]]
) -> np.ndarray:
    """Label-invariant quantities of a sampler's draws (chain, quantity, draw)."""
    length = next(iter(run.posterior.values())).shape[1]
    at = np.linspace(0, length - 1, min(length, SPREAD)).round().astype(int)
    known = {k: np.asarray(v, float)[:, at] for k, v in run.posterior.items()}
    return _stacked(known, family, coordinates)


def _stacked(
    known: dict[str, np.ndarray],
    family: Any,
    coordinates: Mapping[str, Sequence[object]],
) -> np.ndarray:
    """Invariants of parameters (lead, draw, *dims) side by side."""
    known = dict(known)
    weights = known.pop("weight", None)
    columns, shared = flatten(family.compared(known), coordinates)
    if weights is not None:
        columns["weight"] = weights
    found = invariants(columns, shared, None)
    return np.stack([found[name] for name in sorted(found)], axis=1)
