"""Uniformity of PITs: tests, shift, dispersion, and coverage of intervals.

A PIT, a probability integral transform, is the position of the truth in a posterior,
from 0 to 1. Their ECDF is tested by the simultaneous band of
`vi_bench.calibration.band`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, kstest, norm

from vi_bench.calibration.band import band_p
from vi_bench.comparison.verdict import holm

INTERVALS = (0.5, 0.8, 0.95)
"""Probabilities of the central intervals whose coverage is counted."""

INSIDE = 1e-12
"""Distance from 0 and 1 to which PITs are clipped, for finite normal scores."""


@dataclass(frozen=True)
class Share:
    """A share of simulations with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """The calibration of one quantity of one method.

    Attributes:
        sims: number of simulations.
        band_p: exact p-value of the simultaneous ECDF band; 0 if it underflows.
        ks_p: p-value of the Kolmogorov-Smirnov test.
        uniform: whether Holm's procedure over the method's quantities, by `band_p`,
            does not reject uniformity.
        shift: mean of the normal scores; positive where the posterior is too low.
        shift_se: its standard error.
        dispersion: sd of the normal scores; over 1 where the posterior is too narrow.
        dispersion_se: its standard error.
        coverage: probability of a central interval -> share of truths within it.
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
    """Test the quantities of one method together, and summarise each.

    Args:
        pits: quantity -> PITs (sims,).
        level: family-wise error rate.

    Raises:
        ValueError: a PIT is not a number from 0 to 1.
    """
    for name, u in pits.items():
        if not np.all((u >= 0) & (u <= 1)):
            raise ValueError(f"{name}: a PIT is not a number from 0 to 1")
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
    """The share of truths in the central interval of this probability."""
    inside = int(np.sum(np.abs(2 * u - 1) <= interval))
    found = binomtest(inside, len(u)).proportion_ci(0.95, method="wilson")
    return Share(inside / len(u), float(found.low), float(found.high))


def kept(p: Mapping[str, float], level: float) -> dict[str, bool]:
    """Name -> whether Holm's procedure does not reject; a p-value of NaN is rejected.

    It is only meaningful if `decides` holds.
    """
    rejected = holm([0.0 if np.isnan(value) else value for value in p.values()], level)
    return {name: not out for name, out in zip(p, rejected, strict=True)}


def decides(least: float, tests: int, level: float) -> bool:
    """Whether Holm's procedure over so many tests is able to reject any of them.

    Args:
        least: smallest p-value that a test can have.
        tests: number of tests.
        level: family-wise error rate.
    """
    return least <= level / tests
