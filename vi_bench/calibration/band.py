"""The simultaneous band around the ECDF of uniform numbers, its p-values exact.

An ECDF is looked at on a grid of points. How many numbers are below a point is
binomial, and the extremity of an ECDF is the least tail probability of these counts. A
band holds the counts whose tails are over some extremity, at every point at once
(Saeilynoja, Buerkner and Vehtari 2022), so the p-value of an ECDF is the chance that
uniform numbers leave the band of its own extremity.

That chance follows from a recursion over the points. Given their sum, the counts of the
cells between them are those of independent Poisson numbers, so every step is a
convolution (Moscovich and Nadler 2017). What leaves the band is summed where it leaves,
not taken from 1, so that small chances keep their digits.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln, ndtr, ndtri, xlogy

POINTS = 200
"""Cells between evaluation points of the ECDF at most."""

TIE = 1e-9
"""Tail probabilities whose ratio is within this of 1 are equal, but for rounding."""

POWER = 0.9
"""How often a dispersion is found that a test is said to find."""

WIDEST = 100.0
"""The largest dispersion that is tried."""


def grid(n: int) -> np.ndarray:
    """Where an ECDF of n numbers is looked at (points,), at least at 1/2."""
    cells = min(max(n, 2), POINTS)
    return np.arange(1, cells) / cells


def ecdf(u: np.ndarray) -> np.ndarray:
    """The ECDF of numbers (n,) at `grid` (points,)."""
    return np.asarray(_counts(u) / len(u))


def band_p(u: np.ndarray) -> float:
    """The p-value of the uniformity of numbers (n,): P(extremity <= theirs)."""
    tails = _tails(len(u))
    return chance(len(u), float(tails[np.arange(len(tails)), _counts(u)].min()))


def least_p(n: int) -> float:
    """The smallest p-value that n numbers can have."""
    return chance(n, float(_tails(n).min()))


def band(n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest ECDF of n numbers whose p-value is over a level.

    Where no n numbers have one that is not, it reaches from 0 to 1.

    Args:
        n: numbers.
        level: of the test, over 0.

    Returns:
        The band's ends at `grid` (points,) each: an ECDF is in it everywhere if and
        only if its p-value exceeds the level.
    """
    low, high = _inside(n, _critical(n, level))
    return low / n, high / n


@lru_cache(maxsize=4096)
def chance(n: int, extremity: float) -> float:
    """P(the extremity of n uniform numbers is at most this one)."""
    cells = len(_tails(n)) + 1
    return leaving(n, *_inside(n, extremity), np.full(cells, 1 / cells))


@lru_cache(maxsize=64)
def finds(n: int, level: float) -> float:
    """The dispersion that the test of n PITs finds in `POWER` of all calibrations.

    Args:
        n: PITs.
        level: of the test.

    Returns:
        The least sd over 1 of normal scores that are centred, to 1 %; infinite where
        it is over `WIDEST`.
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
    """P(the count of numbers below some point is outside the band there).

    Args:
        n: independent numbers.
        low: the least count inside, never falling (points,).
        high: the largest one (points,).
        cells: chances of a number to be in the cells between the points (points + 1,).
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
    """What the recursion goes by at each point.

    Returns:
        The Poisson probabilities of 0, 1, ... numbers in the cell before it, as far as
        they do not underflow; and those of all others beyond it, by the count up to it,
        relative to that of n numbers in all (points, n + 1).
    """
    counts, chances = np.arange(n + 1), np.asarray(cells)
    steps = _poisson(counts, n * chances[:-1, None])
    beyond = np.cumsum(chances[::-1])[::-1][1:]
    rest = _poisson(n - counts, n * beyond[:, None]) / _poisson(n, n)
    return [np.trim_zeros(step, "b") for step in steps], rest


def _poisson(counts: np.ndarray | int, mean: np.ndarray | int) -> np.ndarray:
    return np.asarray(np.exp(xlogy(counts, mean) - mean - gammaln(np.add(counts, 1))))


def _counts(u: np.ndarray) -> np.ndarray:
    """How many numbers are at most each point (points,)."""
    return np.asarray(np.searchsorted(np.sort(u), grid(len(u)), side="right"))


@lru_cache(maxsize=8)
def _tails(n: int) -> np.ndarray:
    """The lesser of P(B <= b) and P(B >= b), B ~ Binomial(n, z) (points, n + 1)."""
    lower = bdtr(np.arange(n + 1.0), n, grid(n)[:, None])
    # P(B >= b) at z is P(B <= n - b) at 1 - z: the same number, to the last bit
    return np.asarray(np.minimum(lower, lower[::-1, ::-1]))


def _inside(n: int, extremity: float) -> tuple[np.ndarray, np.ndarray]:
    """The least and largest counts with tails over an extremity (points,) each.

    Where there are none, the least is over the largest.
    """
    over = _tails(n) > extremity * (1 + TIE)
    low, high = np.argmax(over, axis=1), n - np.argmax(over[:, ::-1], axis=1)
    return np.where(over.any(axis=1), low, n + 1), high


@lru_cache(maxsize=64)
def _critical(n: int, level: float) -> float:
    """The largest extremity whose p-value is at most a level; -1 where none is."""
    known = np.unique(_tails(n))
    place = bisect_right(known, level, key=lambda value: chance(n, float(value)))
    return float(known[place - 1]) if place else -1.0
