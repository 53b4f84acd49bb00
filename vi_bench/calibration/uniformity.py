"""Are these numbers uniform, and if not, how: tests, dispersion, coverage.

The numbers are probability integral transforms: where the truth lies in a posterior,
from 0 to 1. Their ECDF is held to a band that is simultaneous over all points
(Saeilynoja, Buerkner and Vehtari 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr
from scipy.stats import binom, binomtest, kstest, norm

from vi_bench.comparison.verdict import holm

INTERVALS = (0.5, 0.8, 0.95)
"""Central intervals whose coverage is counted."""

REPLICATES = 10_000
"""Samples of uniform numbers that the band's p-values are counted among."""

POINTS = 200
"""Evaluation points of the ECDF at most."""

INSIDE = 1e-12
"""What keeps normal scores finite."""


@dataclass(frozen=True)
class Share:
    """A share of simulations with its Wilson interval, 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """How one quantity of one method is calibrated.

    Attributes:
        sims: simulations.
        band_p: of the simultaneous ECDF band, at least 1 / (REPLICATES + 1).
        ks_p: of the Kolmogorov-Smirnov test.
        uniform: whether Holm's procedure over the method's quantities keeps it.
        shift: mean of the normal scores; positive where the truth lies above the
            posterior, so where the posterior is too low.
        shift_se: its standard error.
        dispersion: sd of the normal scores; over 1 where the posterior is too narrow.
        dispersion_se: its standard error.
        coverage: interval -> share of simulations whose truth is in it.
    """

    sims: int
    band_p: float
    ks_p: float
    uniform: bool
    shift: float
    shift_se: float
    dispersion: float
    dispersion_se: float
    coverage: Mapping[float, Share]


def judge(pits: Mapping[str, np.ndarray], level: float) -> dict[str, Row]:
    """Rows of one method's quantities, tested together.

    Args:
        pits: quantity -> PITs (sims,).
        level: the family-wise error rate.
    """
    p = {name: band_p(u) for name, u in pits.items()}
    uniform = kept(p, level)
    return {name: _row(u, p[name], uniform[name]) for name, u in pits.items()}


def _row(u: np.ndarray, p: float, uniform: bool) -> Row:
    scores = norm.ppf(np.clip(u, INSIDE, 1 - INSIDE))
    n, sd = len(u), float(scores.std(ddof=1))
    fourth = float(np.mean((scores - scores.mean()) ** 4))
    spread = max(fourth - sd**4, 0.0)
    return Row(
        sims=n,
        band_p=p,
        ks_p=float(kstest(u, "uniform").pvalue),
        uniform=uniform,
        shift=float(scores.mean()),
        shift_se=sd / np.sqrt(n),
        dispersion=sd,
        dispersion_se=float(np.sqrt(spread / n) / (2 * sd)) if sd else 0.0,
        coverage={c: covered(u, c) for c in INTERVALS},
    )


def covered(u: np.ndarray, interval: float) -> Share:
    """The share of truths in a central interval."""
    inside = int(np.sum(np.abs(2 * u - 1) <= interval))
    found = binomtest(inside, len(u)).proportion_ci(0.95, method="wilson")
    return Share(inside / len(u), float(found.low), float(found.high))


def kept(p: Mapping[str, float], level: float) -> dict[str, bool]:
    """Which hypotheses Holm's procedure keeps, by name."""
    rejected = holm(list(p.values()), level)
    return {name: not out for name, out in zip(p, rejected, strict=True)}


def grid(n: int) -> np.ndarray:
    """Where an ECDF of n numbers is looked at."""
    points = min(n, POINTS)
    return np.arange(1, points) / points


def band_p(u: np.ndarray) -> float:
    """The p-value of uniformity by the simultaneous band, counted."""
    null = _null(len(u))
    return float((1 + np.sum(null <= _extremity(u[None])[0])) / (1 + len(null)))


def band(n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The band around the ECDF of n uniform numbers, at `grid` (points,) each."""
    tail = np.quantile(_null(n), level) / 2
    z = grid(n)
    return binom.ppf(tail, n, z) / n, binom.ppf(1 - tail, n, z) / n


def ecdf(u: np.ndarray) -> np.ndarray:
    """The ECDF at `grid`."""
    below = np.searchsorted(np.sort(u), grid(len(u)), side="right")
    return np.asarray(below / len(u))


def _extremity(samples: np.ndarray) -> np.ndarray:
    """Per sample (m, n), twice the least binomial tail of its ECDF over the grid."""
    n, z = samples.shape[1], grid(samples.shape[1])
    points = len(z) + 1
    cell = np.minimum((samples * points).astype(int), points - 1)
    flat = cell + points * np.arange(len(samples))[:, None]
    counts = np.bincount(flat.ravel(), minlength=points * len(samples))
    below = np.cumsum(counts.reshape(-1, points), axis=1)[:, :-1]
    lower, upper = _tails(n)
    at = np.arange(len(z))
    least = np.minimum(lower[below, at], upper[below, at]).min(axis=1)
    return np.asarray(2 * least)


@lru_cache(maxsize=8)
def _tails(n: int) -> tuple[np.ndarray, np.ndarray]:
    """P(B <= b) and P(B >= b), B ~ Binomial(n, z), by b and point of the grid."""
    counts = np.arange(n + 1)[:, None]
    lower = bdtr(counts.astype(float), n, grid(n))
    upper = np.ones_like(lower)
    upper[1:] = 1 - lower[:-1]
    return lower, upper


@lru_cache(maxsize=8)
def _null(n: int) -> np.ndarray:
    """The same of REPLICATES uniform samples, always the same ones."""
    random = np.random.default_rng(20220601)
    parts = [_extremity(random.random((500, n))) for _ in range(REPLICATES // 500)]
    return np.concatenate(parts)
