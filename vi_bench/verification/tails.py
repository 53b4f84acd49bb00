"""Does a part of q that no draw reaches matter? By draws that are wider than q.

One coordinate of each draw is moved to three times its distance from the centre, and
the draw is weighted by the ratio of the densities. The weighted mean of r = log p - log
q is then that over q, too, but from other places: of the mean of exp(b) for a normal b
of sd 6 all that matters is 6 sds away, where none of 100,000 draws is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vi_bench.verification.finding import CONVERGED

WIDER = 3.0
"""Factor by which a coordinate's distance from the centre grows."""

DRAWS = 50_000
"""Draws for each coordinate."""

COORDINATES = 20
"""Coordinates of a variable that are moved at most."""

SURE = 4.0
"""Standard errors by which the means must differ."""


def is_unreached(
    program: Callable[..., Any], centre: np.ndarray, mean: float, error: float
) -> bool:
    """Whether wider draws of a variable give another mean of log p - log q.

    Args:
        program: (keys, coordinate, centre) -> log p and log q where the coordinate was
            moved, and log q where it was not (draws,).
        centre: mean of the variable over q, flat.
        mean: of log p - log q over draws of q, nats.
        error: its standard error.
    """
    size = centre.size
    chosen = np.arange(size)
    if size > COORDINATES:
        chosen = np.random.default_rng(0).permutation(size)[:COORDINATES]
    for coordinate in chosen:
        keys = jax.random.split(jax.random.key(int(coordinate)), DRAWS)
        found = program(keys, int(coordinate), centre)
        log_p, log_q, before = (np.asarray(v) for v in found)
        weight = WIDER * np.exp(log_q - before)
        kept = weight > 0
        off = np.zeros(DRAWS)
        off[kept] = weight[kept] * (log_p[kept] - log_q[kept] - mean)
        if not np.isfinite(off).all():
            return True
        spread = np.hypot(off.std(ddof=1) / DRAWS**0.5, error)
        if abs(off.mean()) > CONVERGED + SURE * spread:
            return True
    return False
