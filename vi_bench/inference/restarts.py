"""The distinct local optima that the restarts of one fit reached, found with NumPy."""

from __future__ import annotations

import numpy as np

SAME_OPTIMUM = 1e-4
"""Nats: bounds that are closer belong to one optimum."""


def distinct_optima(
    bounds: np.ndarray, counts: np.ndarray
) -> list[tuple[float, int, int]]:
    """Distinct optima among the restarts, best first.

    Sorted neighbours less than SAME_OPTIMUM apart, or less than their precision
    resolves, are one optimum; restarts whose bound is not finite are ignored.

    Args:
        bounds: ELBO of each restart (restarts,), nats.
        counts: expected rows by component (restarts, K).

    Returns:
        For each optimum its bound, the number of restarts there, and the number of
        components with at least half a row in the best of them.
    """
    finite = np.flatnonzero(np.isfinite(bounds))
    if not len(finite):
        return []
    order = finite[np.argsort(-bounds[finite], kind="stable")]
    ordered = bounds[order]
    resolved = 16 * np.finfo(bounds.dtype).eps * np.abs(ordered).max()
    apart = max(SAME_OPTIMUM, float(resolved))
    cuts = np.flatnonzero(ordered[:-1] - ordered[1:] > apart) + 1
    return [
        (float(bounds[group[0]]), len(group), occupied(counts[group[0]]))
        for group in np.split(order, cuts)
    ]


def all_apart(bounds: np.ndarray, counts: np.ndarray) -> bool:
    """Whether there are over three restarts, and each has an optimum of its own."""
    return len(bounds) > 3 and len(distinct_optima(bounds, counts)) == len(bounds)


def occupied(counts: np.ndarray) -> int:
    """The number of components with at least half a row; the others are empty."""
    return int(np.sum(counts >= 0.5))
