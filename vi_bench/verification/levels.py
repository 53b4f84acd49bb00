"""Levels, which are ranks of draws among exact draws; tests that they are uniform."""

from __future__ import annotations

import numpy as np
from arviz_stats.base import array_stats
from scipy.stats import norm
from scipy.stats import t as student

from vi_bench.verification.finding import Measured
from vi_bench.verification.mixtures import EXACT

LEAST = 200
"""Effective sample size of a quantity from which on its draws are tested."""

HARDLY = 50
"""Effective sample size below which chains hardly move: a method that claims to sample
the posterior does not. In between it mixes slowly, which is no fault."""

TRUSTED = 0.8
"""Factor by which an estimated effective sample size is reduced, for safety."""


def among(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The level of each value: the share of exact values below it, within (0, 1)."""
    below = np.searchsorted(np.sort(exact), values)
    return np.asarray((below + 0.5) / (len(exact) + 1))


def central(label: str, levels: np.ndarray, kind: str, whose: str) -> Measured:
    """z-tests of uniform levels: of their mean, and of their distance from 1/2."""
    for what, values in (("location", levels), ("spread", np.abs(2 * levels - 1))):
        if kind == "runs":
            means = values.mean(axis=1)
            error = np.hypot(
                means.std(ddof=1) / np.sqrt(len(means)), np.sqrt(1 / 12 / EXACT)
            )
            score = as_normal((values.mean() - 0.5) / error, len(means) - 1.0)
        else:
            size = effective(values, kind)
            if kind == "chains":
                size *= TRUSTED
            error = np.sqrt((1 / max(size, 1.0) + 1 / EXACT) / 12)
            score = abs(float(values.mean() - 0.5)) / error
        yield (
            score,
            None,
            f"{what} of {label}: mean level {values.mean():.4f} +- {error:.4f} among "
            f"{whose} draws, expected 0.5",
        )


def effective(values: np.ndarray, kind: str) -> float:
    """Effective sample size for the mean of draws (chain, draw), at most all."""
    if kind == "independent":
        return float(values.size)
    if np.ptp(values) == 0:
        return 0.0
    if kind == "runs":
        between = float(values.mean(axis=1).var(ddof=1)) / len(values)
        size = float(values.var(ddof=1)) / max(between, 1e-300)
    else:
        size = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
    return min(size, float(values.size)) if size == size else 0.0


def as_normal(score: float, freedom: float) -> float:
    """The |z| with the same tail probability as a |t| with these degrees of freedom."""
    if not np.isfinite(freedom):
        return abs(float(score))
    return float(norm.isf(student.sf(abs(score), freedom)))
