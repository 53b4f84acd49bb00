"""How far two multivariate posteriors are apart, each number beside its noise.

Quantities that agree one by one may still depend on each other in different ways: these
measures see all columns at once. Both samples are put into the reference's unit (its
mean and sd per column) and thinned to about their smallest effective sample size, so
that every number refers to nearly independent draws, equally many of each.

Floors come from the reference alone: the same measure between two halves of its chains,
half as many draws a side, root mean square over three ways of halving, then scaled to
the size used: by 1/2 for the energy distance and MMD^2, whose null distributions shrink
as 1/n, by the square root of 1/2 for the sliced distance and the classifier. A
reference whose chains disagree has a high floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from arviz_stats.base import array_stats
from scipy.spatial.distance import cdist

from vi_bench.comparison.two_sample import (
    classify,
    energy,
    gaussian,
    labellings,
    median_distance,
    mmd,
    p_value,
    sliced,
    transport,
)

MOST = 1000
"""Draws a side: ten columns then take about half a second."""

MATCHED = 400
"""Draws a side of the transport, whose cost grows with their cube."""

CHANCE = 0.5
"""The accuracy of a classifier that can tell nothing."""

FEW = 20
"""Effective draws of either side under which nothing is known."""

SPLITS = 3
"""Ways of halving the reference that a floor is the mean of."""

Measure = Callable[[np.ndarray, np.ndarray], float]
"""Two samples (n, D) -> how far they are apart."""

Halves = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Discrepancy:
    """One measure of two samples.

    Attributes:
        value: the measure.
        floor: what the reference shows against itself at this size.
        p_value: of a permutation test that both are draws of one distribution, or None.
        se: standard error of the value, or None.
    """

    value: float
    floor: float
    p_value: float | None = None
    se: float | None = None


@dataclass(frozen=True)
class Joint:
    """Two samples held against each other in all columns at once.

    Lengths are in sds of the reference's columns. All are NaN where either side has
    under FEW effective draws.

    Attributes:
        sliced: Wasserstein-1 distance of the projections on a direction, mean over 200
            random directions (Bonneel, Rabin, Peyre and Pfister 2015). A shift delta of
            one of D columns counts as about 0.8 delta / sqrt(D).
        transport: Wasserstein-1 distance in D dimensions, by optimal assignment. Noise
            adds to it as n^(-1/D), and in many dimensions hides what is small: read it
            against its floor, which is of as many draws, and not scaled.
        energy: 2 E|x - y| - E|x - x'| - E|y - y'| over all pairs, never negative
            (Szekely and Rizzo 2013).
        mmd: squared maximum mean discrepancy, unbiased, hence often negative where
            there is none; Gaussian kernel, its width the median distance between draws
            of the reference (Gretton et al. 2012, eq. 3).
        classifier: out-of-fold accuracy of a logistic regression that tells the samples
            apart; 0.5 means that it cannot (Lopez-Paz and Oquab 2017). Its error is
            binomial, as if folds were independent, and about a fifth too small.
        used: draws a side, of all but the transport.
        matched: draws a side of the transport.
        dropped: columns in which the reference does not vary, left out.
    """

    sliced: Discrepancy
    transport: Discrepancy
    energy: Discrepancy
    mmd: Discrepancy
    classifier: Discrepancy
    used: int
    matched: int
    dropped: tuple[int, ...]


def compare_jointly(
    a: np.ndarray, b: np.ndarray, most: int = MOST, seed: int = 0
) -> Joint:
    """Hold a sample against a reference.

    The permutation p-values are exact for independent draws of one distribution, but
    for the unit and the kernel's width, which are the reference's.

    Args:
        a: draws (chain, draw, D), finite, relabelled or label-invariant.
        b: the reference's, chains and draws in any number.
        most: draws a side at most.
        seed: of directions, permutations and folds.
    """
    idle = np.ptp(b, axis=(0, 1)) <= 1e-12 * np.abs(b).max(axis=(0, 1))
    dropped = tuple(np.flatnonzero(idle).tolist())
    a, b = a[..., ~idle], b[..., ~idle]
    centre, unit = b.mean(axis=(0, 1)), b.std(axis=(0, 1), ddof=1)
    mine, theirs = thin((a - centre) / unit), thin((b - centre) / unit)
    n = min(most, mine[..., 0].size, theirs[..., 0].size) if unit.size else 0
    if n < FEW:
        unknown = Discrepancy(np.nan, np.nan)
        return Joint(*(unknown,) * 5, used=n, matched=0, dropped=dropped)
    x, y, parts = spread(mine, n), spread(theirs, n), halves(theirs, n)
    matched = min(MATCHED, len(parts[0][0]))
    few, *halved = (
        (spread(h, matched), spread(g, matched)) for h, g in [(x, y), *parts]
    )
    slices, told = partial(sliced, seed=seed), partial(classify, seed=seed)
    return Joint(
        Discrepancy(slices(x, y), _floor(slices, parts, n, 0.5)),
        Discrepancy(transport(*few), _floor(transport, halved, matched, 0)),
        *_kernels(x, y, parts, seed),
        Discrepancy(
            accuracy := told(x, y),
            CHANCE + _floor(lambda h, g: told(h, g) - CHANCE, parts, n, 0.5),
            se=float(np.sqrt(accuracy * (1 - accuracy) / (2 * n))),
        ),
        used=n,
        matched=matched,
        dropped=dropped,
    )


def _kernels(
    x: np.ndarray, y: np.ndarray, parts: Halves, seed: int
) -> tuple[Discrepancy, Discrepancy]:
    """Energy distance and MMD^2, tested by the same permutations."""
    width = median_distance(y)
    kernel = partial(mmd, width=width)
    pooled = np.concatenate([x, y])
    signs = labellings(len(x), seed)
    alike = gaussian(pooled, pooled, width)
    return (
        Discrepancy(
            energy(x, y),
            _floor(energy, parts, len(x), 1),
            p_value(-cdist(pooled, pooled), signs),
        ),
        Discrepancy(
            kernel(x, y), _floor(kernel, parts, len(x), 1), p_value(alike, signs)
        ),
    )


def thin(draws: np.ndarray) -> np.ndarray:
    """Draws (chain, draw, D) that are left, evenly spaced, at the smallest ESS.

    The smallest over columns, of bulk and tails.
    """
    chains, length, columns = draws.shape
    if not columns:
        return draws
    axes = {"chain_axis": 0, "draw_axis": 1}
    bulk = array_stats.ess(draws, method="bulk", **axes)
    tail = array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **axes)
    least = min(np.min(bulk), np.min(tail), chains * length)
    left = int(least / chains) if np.isfinite(least) else 0
    return np.asarray(draws[:, _spaced(length, max(left, 1))])


def _spaced(size: int, count: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(count, size)).round().astype(int)


def spread(draws: np.ndarray, count: int) -> np.ndarray:
    """`count` draws (count, D), evenly spaced over all of (..., D)."""
    flat = draws.reshape(-1, draws.shape[-1])
    return np.asarray(flat[_spaced(len(flat), count)])


def splits(parts: int) -> list[np.ndarray]:
    """Up to SPLITS ways to take half of the parts, as masks (parts,)."""
    ways = list(combinations(range(1, parts), parts // 2))
    chosen = [ways[i] for i in _spaced(len(ways), SPLITS)]
    return [np.isin(np.arange(parts), way) for way in chosen]


def halves(draws: np.ndarray, n: int) -> Halves:
    """Halves of (chain, draw, D), up to n // 2 draws each, in a few ways.

    Of chains where there are four or more; of equal stretches of fewer chains.
    """
    chains, length, columns = draws.shape
    pieces = -(-4 // chains)
    whole = length // pieces * pieces
    parts = draws[:, :whole].reshape(chains * pieces, -1, columns)
    found = [(parts[mask], parts[~mask]) for mask in splits(len(parts))]
    m = min(n // 2, *(half[..., 0].size for pair in found for half in pair))
    return [(spread(h, m), spread(g, m)) for h, g in found]


def _floor(measure: Measure, parts: Halves, n: int, rate: float) -> float:
    """Root mean square of a measure between halves, scaled as n^-rate to n draws."""
    m = len(parts[0][0])
    squares = [measure(h, g) ** 2 for h, g in parts]
    return float(np.sqrt(np.mean(squares)) * (m / n) ** rate)


def similarity_distance(a: np.ndarray, b: np.ndarray) -> Discrepancy:
    """||A - B||_F / N of two co-clustering matrices P(c_i = c_j).

    The floor is the distance between the means over halves of the reference's chains,
    scaled to all of them; NaN with one chain.

    Args:
        a: a matrix by chain (chain, N, N); A is their mean.
        b: the reference's.
    """
    value = _frobenius(a.mean(axis=0), b.mean(axis=0))
    chains = len(b)
    if chains < 2:
        return Discrepancy(value, np.nan)
    squares = []
    for mask in splits(chains):
        # the variance of a mean falls with the chains in it; two of all are held apart
        scale = (2 / chains) / (1 / mask.sum() + 1 / (~mask).sum())
        apart = _frobenius(b[mask].mean(axis=0), b[~mask].mean(axis=0))
        squares.append(scale * apart**2)
    return Discrepancy(value, float(np.sqrt(np.mean(squares))))


def _frobenius(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / len(a))
