"""Distances between two multivariate posteriors, each with its noise floor.

Quantities that agree one by one may still depend on each other in different ways: these
measures use all columns at once. Both samples are standardised by the reference's mean
and sd per column and thinned to about their smallest effective sample size, so that
every number refers to nearly independent draws, equally many of each.

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
from threading import Lock

import numpy as np
from arviz_stats.base import array_stats
from scipy.spatial.distance import cdist
from scipy.stats import norm

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
"""Largest number of draws a side; ten columns then take about half a second."""

MATCHED = 400
"""Largest number of draws a side of the transport distance, which costs their cube."""

CHANCE = 0.5
"""The accuracy of a classifier that cannot distinguish the samples."""

FEW = 20
"""Effective sample size of either side below which nothing is computed."""

SEPARABLE, SURE = 0.03, 3.7
"""Accuracy, over that for two normals one margin apart, that a joint difference must
exceed beyond its noise; and that noise in binomial standard errors: 3.09 (1 in 1000),
raised because those are a fifth too small."""

SHIFT = 0.1
"""Default shift of every column, in sds, that does not count as a joint difference."""

MORE, RARE = 1999, 1e-3
"""Permutations used where none of the usual number is as extreme as the true labelling;
and the largest p-value that counts as a joint difference."""

TOGETHER = 8
"""Largest number of parts that are halved; more parts are grouped first."""

SPLITS = 3
"""Ways of halving the reference over which a floor is averaged."""

Measure = Callable[[np.ndarray, np.ndarray], float]
"""Two samples (n, D) -> their distance."""

Halves = list[tuple[np.ndarray, np.ndarray]]
"""Pairs of halves of one sample, each half (m, D)."""


@dataclass(frozen=True)
class Discrepancy:
    """One distance between two samples, with its noise.

    Attributes:
        value: the distance.
        floor: the same distance between halves of the reference, scaled to this size.
        p_value: permutation p-value that both have one distribution, or None.
        se: standard error of the value, or None.
    """

    value: float
    floor: float
    p_value: float | None = None
    se: float | None = None


@dataclass(frozen=True)
class Joint:
    """Distances between two samples in all columns at once.

    Lengths are in sds of the reference's columns. All are NaN where either side has
    under FEW effective draws.

    Attributes:
        sliced: Wasserstein-1 distance of the projections on a direction, mean over 200
            random directions (Bonneel, Rabin, Peyre and Pfister 2015). A shift delta of
            one of D columns counts as about 0.8 delta / sqrt(D).
        transport: Wasserstein-1 distance in D dimensions, by optimal assignment. Noise
            adds to it as n^(-1/D), and in many dimensions hides small differences:
            compare it with its floor, which is for as many draws and not scaled.
        energy: 2 E|x - y| - E|x - x'| - E|y - y'| over all pairs, never negative
            (Szekely and Rizzo 2013).
        mmd: squared maximum mean discrepancy, unbiased, hence often negative for equal
            distributions; Gaussian kernel, its width the median distance between draws
            of the reference (Gretton et al. 2012, eq. 3).
        classifier: out-of-fold accuracy of a logistic regression between the samples;
            0.5 means that it cannot distinguish them (Lopez-Paz and Oquab 2017). Its
            error is binomial, as for independent folds, and about a fifth too small.
        used: draws a side, of all but the transport distance.
        matched: draws a side of the transport distance.
        dropped: indices of columns that do not vary in the reference, left out.
        tolerated: energy distance between the reference and itself shifted by the
            margin in every column.
    """

    sliced: Discrepancy
    transport: Discrepancy
    energy: Discrepancy
    mmd: Discrepancy
    classifier: Discrepancy
    used: int
    matched: int
    dropped: tuple[int, ...]
    tolerated: float = np.nan


def told_apart(found: Joint, shift: float = SHIFT) -> str:
    """A sentence where a joint test finds a difference; else empty.

    Differences that the margins of single quantities explain do not count: an accuracy
    up to SEPARABLE over that for two normals one margin apart (52 % for a tenth of an
    sd), and an energy distance up to that of a shift by the margin in every column.
    Beyond that the accuracy must exceed SURE errors, or the permutation p-value of the
    energy distance be at most RARE.

    Args:
        found: distances from a `Yardstick` of the same shift.
        shift: the margin of means, in sds.
    """
    told, energy = found.classifier, found.energy
    if told.se is None or not np.isfinite(told.value):
        return ""
    own = max(told.floor - CHANCE, 0.0)
    allowed = float(norm.cdf(shift / 2)) + SEPARABLE
    if told.value - own - SURE * told.se <= allowed:
        beyond = energy.value - energy.floor > found.tolerated
        if energy.p_value is None or energy.p_value > RARE or not beyond:
            return ""
        return (
            f"the joint energy distance is {energy.value:.2g} (permutation p = "
            f"{energy.p_value:.2g}), and {found.tolerated:.2g} would be tolerated: "
            "quantities depend on each other in other ways"
        )
    return (
        f"a classifier of joint draws is right in {100 * told.value:.0f} +- "
        f"{100 * told.se:.0f} % of cases (chance is 50 %): quantities depend on each "
        "other in other ways"
    )


def compare_jointly(
    a: np.ndarray, b: np.ndarray, most: int = MOST, seed: int = 0
) -> Joint:
    """Compare a sample (chain, draw, D) with a reference; see `Yardstick`."""
    return Yardstick(b, most, seed).compare(a)


class Yardstick:
    """A reference with which samples are compared, standardised by its mean and sd.

    Its noise floors are computed once for each number of draws, whatever threads ask.
    """

    def __init__(
        self, b: np.ndarray, most: int = MOST, seed: int = 0, shift: float = SHIFT
    ) -> None:
        """Standardise and thin the reference's draws.

        Args:
            b: draws (chain, draw, D), finite, chains and draws in any number.
            most: largest number of draws a side.
            seed: random seed of directions, permutations and folds.
            shift: tolerated shift of every column, in sds.
        """
        self._shift = shift
        self._idle = np.ptp(b, axis=(0, 1)) <= 1e-12 * np.abs(b).max(axis=(0, 1))
        b = b[..., ~self._idle]
        self._centre, self._unit = b.mean(axis=(0, 1)), b.std(axis=(0, 1), ddof=1)
        self._draws = thin((b - self._centre) / self._unit)
        self._most, self._seed = most, seed
        self._known: dict[int, _Itself] = {}
        self._lock = Lock()

    def compare(self, a: np.ndarray) -> Joint:
        """Compare a sample with the reference.

        The permutation p-values are exact for independent draws of one distribution,
        except that the scaling and the kernel's width come from the reference.

        Args:
            a: draws (chain, draw, D), finite, relabelled or label-invariant.
        """
        dropped = tuple(np.flatnonzero(self._idle).tolist())
        mine = thin((a[..., ~self._idle] - self._centre) / self._unit)
        least = min(v.shape[0] * v.shape[1] for v in (mine, self._draws))
        n = min(self._most, least) if self._unit.size else 0
        if n < FEW:
            unknown = Discrepancy(np.nan, np.nan)
            return Joint(*(unknown,) * 5, used=n, matched=0, dropped=dropped)
        with self._lock:
            if n not in self._known:
                self._known[n] = _itself(self._draws, n, self._seed, self._shift)
        known, x = self._known[n], spread(mine, n)
        y, matched = known.draws, known.matched
        value = {name: measure(x, y) for name, measure in known.measures.items()}
        told = value["classifier"]
        pooled, signs = np.concatenate([x, y]), labellings(n, self._seed)
        alike = gaussian(pooled, pooled, known.width)
        moved = transport(spread(x, matched), spread(y, matched))
        floor = known.floors
        return Joint(
            Discrepancy(value["sliced"], floor["sliced"]),
            Discrepancy(moved, floor["transport"]),
            # energy distance and MMD^2 are tested by the same permutations
            Discrepancy(
                value["energy"],
                floor["energy"],
                _refined(-cdist(pooled, pooled), signs, n, self._seed),
            ),
            Discrepancy(value["mmd"], floor["mmd"], p_value(alike, signs)),
            Discrepancy(
                told,
                floor["classifier"],
                se=float(np.sqrt(told * (1 - told) / (2 * n))),
            ),
            used=n,
            matched=matched,
            dropped=dropped,
            tolerated=known.tolerated,
        )


def _refined(similarity: np.ndarray, signs: np.ndarray, n: int, seed: int) -> float:
    """A permutation p-value, from MORE permutations where it is as small as can be."""
    found = p_value(similarity, signs)
    if found * len(signs) > 1.5:
        return found
    return p_value(similarity, labellings(n, seed + 1, MORE))


@dataclass(frozen=True)
class _Itself:
    """Noise floors of a reference for one number n of draws a side.

    Attributes:
        draws: the reference's draws (n, D).
        matched: draws a side of the transport distance.
        width: width of the Gaussian kernel, in sds.
        measures: name -> distance, all but the transport distance.
        floors: name -> noise floor, of all distances.
        tolerated: energy distance from the same draws shifted by the margin.
    """

    draws: np.ndarray
    matched: int
    width: float
    measures: dict[str, Measure]
    floors: dict[str, float]
    tolerated: float


def _itself(thinned: np.ndarray, n: int, seed: int, shift: float) -> _Itself:
    y, parts = spread(thinned, n), halves(thinned, n)
    matched, width = min(MATCHED, len(parts[0][0])), median_distance(y)
    few = [(spread(h, matched), spread(g, matched)) for h, g in parts]
    measures: dict[str, Measure] = {
        "sliced": partial(sliced, seed=seed),
        "energy": energy,
        "mmd": partial(mmd, width=width),
        "classifier": partial(classify, seed=seed),
    }
    floors = {
        "sliced": _floor(measures["sliced"], parts, n, 0.5),
        "transport": _floor(transport, few, matched, 0),
        "energy": _floor(energy, parts, n, 1),
        "mmd": _floor(measures["mmd"], parts, n, 1),
        "classifier": CHANCE
        + _floor(lambda h, g: measures["classifier"](h, g) - CHANCE, parts, n, 0.5),
    }
    return _Itself(y, matched, width, measures, floors, energy(y, y + shift))


def thin(draws: np.ndarray) -> np.ndarray:
    """Thin draws (chain, draw, D), evenly spaced, to their effective sample size.

    That is the smallest over columns, of bulk and tails.
    """
    chains, length, columns = draws.shape
    if not columns:
        return draws
    axes = {"chain_axis": 0, "draw_axis": 1}
    bulk = array_stats.ess(draws, method="bulk", **axes)
    tail = array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **axes)
    least = min(np.min(bulk), np.min(tail), chains * length)
    left = int(least / chains) if np.isfinite(least) else 0
    return np.asarray(draws[:, evenly(length, max(left, 1))])


def evenly(size: int, count: int) -> np.ndarray:
    """Up to `count` of `size` indices, evenly spaced."""
    return np.linspace(0, size - 1, min(count, size)).round().astype(int)


def spread(draws: np.ndarray, count: int) -> np.ndarray:
    """`count` draws (count, D), evenly spaced over all of (..., D)."""
    flat = draws.reshape(-1, draws.shape[-1])
    return np.asarray(flat[evenly(len(flat), count)])


def splits(parts: int) -> list[np.ndarray]:
    """Up to SPLITS ways to take half of the parts, as masks (parts,).

    More than TOGETHER parts are first grouped with their neighbours.
    """
    groups = min(parts, TOGETHER)
    group = np.arange(parts) * groups // parts
    ways = list(combinations(range(1, groups), groups // 2))
    chosen = [ways[i] for i in evenly(len(ways), SPLITS)]
    return [np.isin(group, way) for way in chosen]


def halves(draws: np.ndarray, n: int) -> Halves:
    """Halves of draws (chain, draw, D), up to n // 2 draws each, in a few ways.

    Four or more chains are halved whole; fewer are first cut into equal stretches.
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
        # the variance of a mean falls with its chains; scale to two means over all
        scale = (2 / chains) / (1 / mask.sum() + 1 / (~mask).sum())
        apart = _frobenius(b[mask].mean(axis=0), b[~mask].mean(axis=0))
        squares.append(scale * apart**2)
    return Discrepancy(value, float(np.sqrt(np.mean(squares))))


def _frobenius(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / len(a))
