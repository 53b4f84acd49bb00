"""Undo label switching: permute every draw's components onto one pivot.

A mixture posterior has K! equivalent modes, so raw component means, R-hat and sds mean
nothing. Every draw, of every method, is permuted to the pivot by the assignment that
minimises the scaled squared distance, components weighted (Stephens 2000;
Papastamoulis 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from vi_bench.comparison.quantities import Quantity

ENUMERATED = 6
"""Largest K for which all K! permutations are enumerated."""

NEAR_TIE = 0.1
"""A margin under this share of the median margin is a near tie."""

AMBIGUOUS = 0.01
"""Share of near ties above which components are not compared one by one."""

CHUNK = 2048
"""Draws whose cost matrices are held at once."""


@dataclass(frozen=True)
class Relabelling:
    """How each draw was permuted.

    Attributes:
        order: (chain, draw, K); component k of the result is the draw's order[k].
        margin: (chain, draw), cost of the second best permutation minus the best's;
            NaN where K = 1 has no second.
    """

    order: np.ndarray
    margin: np.ndarray

    @property
    def moved(self) -> float:
        """Share of draws that were permuted at all."""
        still = np.arange(self.order.shape[-1])
        return float(np.mean(np.any(self.order != still, axis=-1)))

    @property
    def usual(self) -> np.ndarray:
        """The most common order over all draws (K,)."""
        orders, counts = np.unique(
            self.order.reshape(-1, self.order.shape[-1]), axis=0, return_counts=True
        )
        return np.asarray(orders[counts.argmax()])

    @property
    def switching(self) -> float:
        """Share of draws in another labelling than the most common of their chain."""
        shares = []
        for chain in self.order:
            _, counts = np.unique(chain, axis=0, return_counts=True)
            shares.append(1 - counts.max() / len(chain))
        return float(np.mean(shares))

    @property
    def ambiguous(self) -> float:
        """Share of near ties: draws that two labellings fit almost equally well."""
        if np.isnan(self.margin).all():
            return 0.0
        return float(np.mean(self.margin < NEAR_TIE * np.median(self.margin)))

    @property
    def identifiable(self) -> bool:
        """Whether relabelled components can be compared one by one."""
        return self.ambiguous <= AMBIGUOUS

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Permute the components of values (chain, draw, K, ...)."""
        extra = values.ndim - self.order.ndim
        order = self.order.reshape(self.order.shape + (1,) * extra)
        return np.take_along_axis(values, order, axis=2)


def unlabelled(chains: int, draws: int) -> Relabelling:
    """The relabelling of draws without exchangeable components: nothing is permuted."""
    order = np.zeros((chains, draws, 1), int)
    return Relabelling(order, np.full((chains, draws), np.nan))


def points(columns: dict[Quantity, np.ndarray]) -> np.ndarray:
    """Stack all columns: the F scalars of each component (chain, draw, K, F)."""
    return np.stack([v for _, v in sorted(columns.items())], axis=-1)


@dataclass(frozen=True)
class Pivot:
    """The labelled components to which draws are permuted.

    Attributes:
        points: (K, F), scalars of each component.
        weights: (K,), mixture weights; all 1 / K where weights are not drawn.
        scale: (F,), weighted standard deviation of each scalar; 1 where that is 0.
    """

    points: np.ndarray
    weights: np.ndarray
    scale: np.ndarray


def costs(draws: np.ndarray, weights: np.ndarray, pivot: Pivot) -> np.ndarray:
    """Cost of matching pivot component j with draw component k, (S, j, k).

    It is their squared scaled distance times the sum of their weights: an empty
    component may lie anywhere, and must not decide how the others are matched.
    """
    gap = (draws[:, None, :, :] - pivot.points[None, :, None, :]) / pivot.scale
    square = np.einsum("sjkf,sjkf->sjk", gap, gap)
    return np.asarray(square * (pivot.weights[:, None] + weights[:, None, :]))


def relabel(
    draws: np.ndarray, pivot: Pivot, weights: np.ndarray | None = None
) -> Relabelling:
    """Match draws (chain, draw, K, F), of weights (chain, draw, K), with a pivot."""
    chains, length, components, _ = draws.shape
    flat = draws.reshape(-1, *draws.shape[2:])
    heavy = _or_equal(weights, draws).reshape(-1, components)
    solve = _enumerate if components <= ENUMERATED else _assign
    parts = [
        solve(costs(flat[i : i + CHUNK], heavy[i : i + CHUNK], pivot))
        for i in range(0, len(flat), CHUNK)
    ]
    order = np.concatenate([part[0] for part in parts])
    margin = np.concatenate([part[1] for part in parts])
    return Relabelling(
        order.reshape(chains, length, components), margin.reshape(chains, length)
    )


def _or_equal(weights: np.ndarray | None, draws: np.ndarray) -> np.ndarray:
    if weights is not None:
        return weights
    return np.full(draws.shape[:3], 1 / draws.shape[2])


def _enumerate(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    components = cost.shape[1]
    candidates = np.array(list(permutations(range(components))))
    totals = np.zeros((len(cost), len(candidates)))
    for j in range(components):
        totals += cost[:, j, candidates[:, j]]
    best = totals.argmin(axis=1)
    if components == 1:
        return candidates[best], np.full(len(cost), np.nan)
    least = np.partition(totals, 1, axis=1)
    return candidates[best], least[:, 1] - least[:, 0]


def _assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.array([linear_sum_assignment(c)[1] for c in cost])
    # the cheapest swap of two components: an upper limit on the margin, and the usual
    # second best
    permuted = np.take_along_axis(cost, order[:, None, :], axis=2)
    own = np.einsum("sjj->sj", permuted)
    swap = permuted + permuted.transpose(0, 2, 1) - own[:, :, None] - own[:, None, :]
    pairs = np.triu_indices(cost.shape[1], 1)
    return order, swap[:, pairs[0], pairs[1]].min(axis=1)


def find_pivot(
    draws: np.ndarray,
    log_joint: np.ndarray | None,
    weights: np.ndarray | None = None,
    rounds: int = 3,
) -> Pivot:
    """A pivot from the reference's (chain, draw, K, F) draws.

    It starts as the draw of the highest log joint (the first draw where none is known)
    and is replaced, `rounds` times, by the weighted mean of the draws relabelled to it.
    """
    heavy = _or_equal(weights, draws)
    total = heavy.sum()
    centre = np.einsum("cdk,cdkf->f", heavy, draws) / total
    spread = np.sqrt(np.einsum("cdk,cdkf->f", heavy, (draws - centre) ** 2) / total)
    scale = np.where(spread > 0, spread, 1.0)
    first = 0 if log_joint is None else int(np.argmax(log_joint))
    at = np.unravel_index(first, draws.shape[:2])
    pivot = Pivot(draws[at], heavy[at], scale)
    for _ in range(rounds):
        how = relabel(draws, pivot, heavy)
        ours = how.apply(heavy)
        mass = ours.sum(axis=(0, 1))
        mean = np.einsum("cdk,cdkf->kf", ours, how.apply(draws))
        mean /= np.maximum(mass, np.finfo(float).tiny)[:, None]
        pivot = Pivot(mean, ours.mean(axis=(0, 1)), scale)
    return pivot
