"""Where draws lie among exact ones: levels, uniform if a claim holds, and their z's."""

from __future__ import annotations

import numpy as np
from arviz_stats.base import array_stats
from scipy.stats import norm
from scipy.stats import t as student

from vi_bench.verification.finding import Measured
from vi_bench.verification.mixtures import EXACT

LEAST = 200
"""Effective draws under which a method that claims the posterior has not sampled it."""

TRUSTED = 0.8
"""The share of an estimated effective sample size that is counted on."""


def among(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The share of exact values below each value."""
    below = np.searchsorted(np.sort(exact), values)
    return np.asarray((below + 0.5) / (len(exact) + 1))


def central(label: str, levels: np.ndarray, kind: str, whose: str) -> Measured:
    """Are levels uniform: their mean, and their mean distance from the middle."""
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
    """Effective number of draws (chain, draw) for their mean, at most all."""
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
    """|z| as likely as a |t|."""
    if not np.isfinite(freedom):
        return abs(float(score))
    return float(norm.isf(student.sf(abs(score), freedom)))
