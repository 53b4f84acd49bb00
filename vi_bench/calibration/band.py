"""The simultaneous band around the ECDF of uniform numbers, its p-values exact.

An ECDF is evaluated at a grid of points. The number of values below a point is
binomial, and the extremity of an ECDF is the smallest tail probability of these counts.
A band consists of the counts, at every point, whose tail probability exceeds some
extremity (Saeilynoja, Buerkner and Vehtari 2022), so the p-value of an ECDF is the
probability that uniform numbers leave the band of its own extremity.

That probability follows from a recursion over the points. Given their sum, the counts
in the cells between points are those of independent Poisson variables, so every step is
a convolution (Moscovich and Nadler 2017). The probability of leaving is summed over the
points, not taken as 1 minus that of staying, so that small values keep their digits.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln, ndtr, ndtri, xlogy

POINTS = 200
"""Largest number of cells between evaluation points of the ECDF."""

TIE = 1e-9
"""Tail probabilities whose ratio is within this of 1 differ by rounding only."""

POWER = 0.9
"""Power of a test at the dispersion that it is said to find."""

WIDEST = 100.0
"""Largest dispersion that `finds` tries."""


def grid(n: int) -> np.ndarray:
    """Evaluation points of an ECDF of n numbers (points,), at least 1/2."""
    cells = min(max(n, 2), POINTS)
    return np.arange(1, cells) / cells


def ecdf(u: np.ndarray) -> np.ndarray:
    """The ECDF of numbers (n,) at the points of `grid` (points,)."""
    return np.asarray(_counts(u) / len(u))


def band_p(u: np.ndarray) -> float:
    """The p-value of uniformity of numbers (n,): P(extremity <= the observed one)."""
    tails = _tails(len(u))
    return chance(len(u), float(tails[np.arange(len(tails)), _counts(u)].min()))


def least_p(n: int) -> float:
    """The smallest p-value that n numbers can have."""
    return chance(n, float(_tails(n).min()))


def band(n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The simultaneous band of the ECDF of n uniform numbers.

    If no n numbers have a p-value of at most the level, it reaches from 0 to 1.

    Args:
        n: number of values.
        level: level of the test, over 0.

    Returns:
        The lower and upper end at the points of `grid` (points,): an ECDF is within the
        band everywhere if and only if its p-value exceeds the level.
    """
    low, high = _inside(n, _critical(n, level))
    return low / n, high / n


@lru_cache(maxsize=4096)
def chance(n: int, extremity: float) -> float:
    """The probability that n uniform numbers have at most this extremity."""
    cells = len(_tails(n)) + 1
    return leaving(n, *_inside(n, extremity), np.full(cells, 1 / cells))


@lru_cache(maxsize=64)
def finds(n: int, level: float) -> float:
    """The dispersion at which the test of n PITs has the power `POWER`.

    Args:
        n: number of PITs.
        level: level of the test.

    Returns:
        The smallest such sd over 1 of centred normal scores, to 1 %; infinite if it is
        over `WIDEST`.
    """
    ends = np.concatenate([[0.0], grid(n), [1.0]])
    held = _inside(n, _critical(n, level))

    def power(dispersion: float) -> float:
        return leaving(n, *held, np.diff(ndtr(ndtri(ends) / dispersion)))

    low, high = 1.0, WIDEST
    if power(high) < POWER:
        return float(np.inf)
    while high > 1.01 * low:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def leaving(n: int, low: np.ndarray, high: np.ndarray, cells: np.ndarray) -> float:
    """The probability that the counts below the points leave the band somewhere.

    Args:
        n: number of independent values.
        low: smallest count within the band, non-decreasing (points,).
        high: largest count within the band (points,).
        cells: probability of each cell between the points (points + 1,).
    """
    if np.any(low > high):
        return 1.0
    steps, rest = _laws(n, tuple(cells.tolist()))
    start, mass, left = 0, np.ones(1), 0.0
    for step, beyond, first, last in zip(steps, rest, low, high, strict=True):
        reached = np.convolve(mass, step)[: n + 1 - start]
        share = reached * beyond[start : start + len(reached)]
        left += share[: first - start].sum() + share[last + 1 - start :].sum()
        mass, start = reached[first - start : last + 1 - start], first
        if not len(mass):
            break
    return float(min(left, 1.0))


@lru_cache(maxsize=8)
def _laws(n: int, cells: tuple[float, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """The probabilities that the recursion uses at each point.

    Returns:
        The Poisson probabilities of 0, 1, ... values in the cell before the point, as
        far as they do not underflow; and, by the count up to the point, that of the
        other values lying beyond it, relative to that of n in all (points, n + 1).
    """
    counts, chances = np.arange(n + 1), np.asarray(cells)
    steps = _poisson(counts, n * chances[:-1, None])
    beyond = np.cumsum(chances[::-1])[::-1][1:]
    rest = _poisson(n - counts, n * beyond[:, None]) / _poisson(n, n)
    return [np.trim_zeros(step, "b") for step in steps], rest


def _poisson(counts: np.ndarray | int, mean: np.ndarray | int) -> np.ndarray:
    return np.asarray(np.exp(xlogy(counts, mean) - mean - gammaln(np.add(counts, 1))))


def _counts(u: np.ndarray) -> np.ndarray:
    """The number of values up to each point (points,)."""
    return np.asarray(np.searchsorted(np.sort(u), grid(len(u)), side="right"))


@lru_cache(maxsize=8)
def _tails(n: int) -> np.ndarray:
    """The smaller of P(B <= b) and P(B >= b), B ~ Binomial(n, z) (points, n + 1)."""
    lower = bdtr(np.arange(n + 1.0), n, grid(n)[:, None])
    # P(B >= b) at z is P(B <= n - b) at 1 - z: the same number, to the last bit
    return np.asarray(np.minimum(lower, lower[::-1, ::-1]))


def _inside(n: int, extremity: float) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest count whose tail exceeds an extremity (points,) each.

    If there is no such count, the smallest is over the largest.
    """
    over = _tails(n) > extremity * (1 + TIE)
    low, high = np.argmax(over, axis=1), n - np.argmax(over[:, ::-1], axis=1)
    return np.where(over.any(axis=1), low, n + 1), high


@lru_cache(maxsize=64)
def _critical(n: int, level: float) -> float:
    """The largest extremity whose p-value is at most a level; -1 if there is none."""
    known = np.unique(_tails(n))
    place = bisect_right(known, level, key=lambda value: chance(n, float(value)))
    return float(known[place - 1]) if place else -1.0
