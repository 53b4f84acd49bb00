"""The local optima of the ELBO known in a run, and which of them samplers visit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from vi_bench.comparison.coverage import Coverage, End, cover
from vi_bench.comparison.quantities import WEIGHT, Quantity, invariants
from vi_bench.inference.squarem import CONVERGED, begin, coordinate_ascent, resolvable
from vi_bench.inference.starts import find_optima
from vi_bench.methods._assignments import exchangeable
from vi_bench.mixture.compared_quantities import compared, reported
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runner.result import MethodRun
from vi_bench.runtime.keys import Key

CLIMBED = 64
"""Number of draws of each sampler from which coordinate ascent starts."""

TERMS, SWEEPS = 4e9, 100
"""Limit on the terms <t(x_i), M_k> of all ascents from one sampler's draws, at SWEEPS
sweeps each: with many rows fewer draws are used."""

LEAST = 8
"""Fewest ascents from each sampler's draws."""

PROJECTIONS = 2
"""Number of fixed random projections of a component's parameters."""

SPREAD = 200
"""Number of draws from q by which optima are told apart."""


def coverage(
    mixture: Mixture,
    runs: Mapping[str, MethodRun],
    coordinates: Mapping[str, Sequence[object]],
    weighing: frozenset[str],
    key: Key,
) -> Coverage:
    """Find local optima, and those that a sampler should have visited and has not.

    The optima are where CAVI's restarts, a search from many starts, and coordinate
    ascents from draws of every sampler end.

    Args:
        mixture: the mixture.
        runs: label -> the method's result, with draws in the data's coordinates.
        coordinates: dimension of the family -> labels along it.
        weighing: labels of the methods whose draws weigh modes by their mass.
        key: random key.
    """
    samplers = {
        label: run
        for label, run in runs.items()
        if run.usable and run.method.kind != "variational"
    }
    if mixture.components == 1 or mixture.rows == 0 or not samplers:
        return Coverage()
    of_search, of_draws = jax.random.split(key)
    seen = Sight(mixture, coordinates, of_draws)
    ends = []
    for source, points in _searched(of_search, mixture, runs):
        ends += seen.ends(coefficients_of(mixture, points), source, visited=False)
    for label, run in samplers.items():
        from_draws = _natural(mixture, _chosen(run, mixture))
        ends += seen.ends(from_draws, label, visited=True)
    chains = {label: seen.chains(run) for label, run in samplers.items()}
    exact = [label for label, run in samplers.items() if run.method.kind == "exact"]
    return cover(ends, chains, weighing, exact)


@dataclass
class Sight:
    """Label-invariant quantities by which optima and draws are told apart.

    Attributes:
        mixture: the mixture.
        coordinates: dimension of the family -> labels along it.
        key: random key for the draws of each q.
        units: column -> its sd over the draws of the first optima seen.
    """

    mixture: Mixture
    coordinates: Mapping[str, Sequence[object]]
    key: Key
    units: dict[Quantity, float] = field(default_factory=dict)

    def ends(
        self, coefficients: Float[Array, "n K P"], source: str, visited: bool
    ) -> list[End]:
        """Optima that coordinate ascent reaches from each E-step, if it converges."""
        bounds, points, converged, counts = climbs(self.mixture, coefficients)
        quantities = self._of_points(points)
        copies = log_copies(self.mixture, counts)
        return [
            End(float(bounds[i]), quantities[i], source, visited, float(copies[i]))
            for i in np.flatnonzero(converged)
        ]

    def _of_points(self, points: Factors) -> np.ndarray:
        """Quantities of draws of each q (point, quantity, draw)."""
        theta = jax.tree.map(np.asarray, _drawn(self.key, self.mixture, points))
        moved = self.mixture.uncentred(theta)
        return self._quantities(reported(self.mixture, moved))

    def chains(self, run: MethodRun) -> np.ndarray:
        """Quantities of a sampler's draws (chain, quantity, draw), thinned."""
        length = next(iter(run.posterior.values())).shape[1]
        at = np.linspace(0, length - 1, min(length, SPREAD)).round().astype(int)
        known = {k: np.asarray(v, float)[:, at] for k, v in run.posterior.items()}
        return self._quantities(known)

    def _quantities(self, known: dict[str, np.ndarray]) -> np.ndarray:
        """Stack label-invariant quantities of parameters (lead, draw, *dims).

        Besides those of single columns there are those of a few fixed projections:
        modes that are reflections or rotations of one another agree in every column.
        """
        known = {name: np.asarray(v, float) for name, v in known.items()}
        weights = known.pop(WEIGHT, None)
        columns, shared = compared(self.mixture.family, known, self.coordinates)
        if not self.units:
            self.units = {n: float(v.std()) or 1.0 for n, v in columns.items()}
        scaled = [columns[n] / unit for n, unit in self.units.items()]
        ways = np.random.default_rng(0).normal(size=(PROJECTIONS, len(scaled)))
        turned = {
            Quantity(f"projection {i}"): sum(
                w * v for w, v in zip(way, scaled, strict=True)
            )
            for i, way in enumerate(ways)
            if len(scaled) > 1
        }
        if weights is not None:
            columns[WEIGHT] = weights
        found = invariants(columns, shared, None) | invariants(turned, {}, None)
        return np.stack([found[name] for name in sorted(found)], axis=1)


def _searched(
    key: Key, mixture: Mixture, runs: Mapping[str, MethodRun]
) -> list[tuple[str, Factors]]:
    """(source, q of each optimum) of a search from many starts and of CAVI's restarts.

    Restarts continue from the best of many starts and may all end in one optimum; the
    search lists others.
    """
    search = jax.jit(find_optima)(key, mixture)
    return [("a search", search.points)] + [
        (label, run.draws.optima)
        for label, run in runs.items()
        if run.usable and run.draws is not None and run.draws.optima is not None
    ]


def _chosen(run: MethodRun, mixture: Mixture) -> Parameters:
    """Evenly spaced draws of a method over all its chains, centred like the data."""
    assert run.draws is not None
    number = int(np.clip(TERMS / _terms(mixture, SWEEPS), LEAST, CLIMBED))
    theta = mixture.recentred(run.draws.parameters)
    size = int(np.prod(next(iter(theta.values())).shape[:2]))
    at = np.linspace(0, size - 1, number).round().astype(int)
    dtype = mixture.log_base.dtype
    return {
        name: jnp.asarray(np.asarray(v).reshape(size, *v.shape[2:])[at], dtype)
        for name, v in theta.items()
    }


def _terms(mixture: Mixture, sweeps: int) -> float:
    """Number of terms <t(x_i), M_k> in so many sweeps."""
    return float(max(mixture.rows * mixture.components, 1) * sweeps)


@jax.jit
def _natural(mixture: Mixture, theta: Parameters) -> Float[Array, "n K P"]:
    """E-step coefficients of draws."""
    return jax.vmap(mixture.natural)(theta)


@jax.jit
def coefficients_of(mixture: Mixture, points: Factors) -> Float[Array, "n K P"]:
    """E-step coefficients of several q."""
    found: Array = jax.lax.map(lambda q: mixture.view(q).coefficients, points)
    return found


def climbs(
    mixture: Mixture, coefficients: Float[Array, "n K P"]
) -> tuple[np.ndarray, Factors, np.ndarray, np.ndarray]:
    """Coordinate ascent from the E-step of each of n sets of coefficients.

    Returns:
        Bounds in nats (n,), the q of each, whether it converged (n,), and expected
        rows by component (n, K).
    """
    most = int(np.clip(TERMS / LEAST / _terms(mixture, 1), SWEEPS, 2000))
    bounds, points, status, counts = _climbs(mixture, coefficients, most)
    return (
        np.asarray(bounds),
        points,
        np.asarray(status) == CONVERGED,
        np.asarray(counts),
    )


@partial(jax.jit, static_argnames="most")
def _climbs(
    mixture: Mixture, coefficients: Float[Array, "n K P"], most: int
) -> tuple[Array, Factors, Array, Array]:
    tolerance = resolvable(1e-8, mixture.log_base.dtype)
    onward = coordinate_ascent(mixture)

    def climb(one: Array) -> tuple[Array, Factors, Array, Array]:
        q = mixture.from_coefficients(one)
        end = onward(begin(q, mixture.view(q), most), most, tolerance)
        return end.bound, end.point, end.status, mixture.counts(end.point)

    found: tuple[Array, Factors, Array, Array] = jax.lax.map(climb, coefficients)
    return found


def log_copies(mixture: Mixture, counts: np.ndarray) -> np.ndarray:
    """Log of the number of distinct relabellings of each optimum (n,).

    K! / (K - m)! with m components occupied: those that hold no row have the prior as
    their q, and swapping them changes nothing. 0 where the prior is not exchangeable.
    """
    if not exchangeable(mixture):
        return np.zeros(len(counts))
    used = np.sum(counts >= 0.5, axis=1)
    size = mixture.components
    return np.asarray(gammaln(size + 1.0) - gammaln(size - used + 1.0))


@jax.jit
def _drawn(key: Key, mixture: Mixture, points: Factors) -> Parameters:
    return jax.lax.map(lambda q: mixture.draw(key, q, (SPREAD,)), points)  # type: ignore[no-any-return]
