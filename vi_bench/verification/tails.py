"""Does a part of q that no draw reaches matter? By draws that are wider than q.

One coordinate of each draw is moved to three times its distance from the centre, and
the draw is weighted by the ratio of the densities. The weighted mean of r = log p - log
q is then that over q, too, but from other places: of the mean of exp(b) for a normal b
of sd 6 all that matters is 6 sds away, where none of 100,000 draws is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vi_bench.verification.finding import CONVERGED, standard_error

WIDER = 3.0
"""Factor by which a coordinate's distance from the centre grows."""

FIRST = 500
"""Draws for each coordinate that are looked at first."""

PART, PARTS = 4000, 12
"""Draws for each coordinate of a part, and how many parts there are at most."""

COORDINATES = 20
"""Coordinates of a variable that are moved at most."""

SURE = 4.0
"""Standard errors by which the means must differ."""

NOTHING = 0.5
"""Share of that difference that all beyond the reach of q's draws must make up, by the
first ones, for the others to be made."""


@dataclass(frozen=True)
class Reach:
    """Where draws of a variable over q are, flat (p,).

    Attributes:
        centre: their mean.
        low: least value of every coordinate.
        high: greatest value of every coordinate.
    """

    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reach_of(draws: np.ndarray) -> Reach:
    """Where draws (S, ...) are."""
    flat = draws.reshape(len(draws), -1)
    return Reach(flat.mean(axis=0), flat.min(axis=0), flat.max(axis=0))


def is_unreached(
    program: Callable[..., Any], reach: Reach, mean: float, error: float
) -> bool:
    """Whether wider draws of a variable give another mean of log p - log q.

    Only what is beyond the draws of q can make it another one, so that the first of the
    wider draws tell of most coordinates that there is nothing.

    Args:
        program: (keys, coordinate, centre) -> log p and log q where the coordinate was
            moved, log q where it was not, and where it was moved to (draws,).
        reach: where at least as few draws of the variable are as gave the mean.
        mean: of log p - log q over draws of q, nats.
        error: its standard error.
    """
    size = reach.centre.size
    chosen = np.arange(size)
    if size > COORDINATES:
        chosen = np.random.default_rng(0).permutation(size)[:COORDINATES]
    return any(
        _differs(program, coordinate, reach, mean, error)
        for coordinate in map(int, chosen)
    )


def _differs(
    program: Callable[..., Any],
    coordinate: int,
    reach: Reach,
    mean: float,
    error: float,
) -> bool:
    """Whether draws that are wider in one coordinate give another mean."""
    low, high = reach.low[coordinate], reach.high[coordinate]
    key = jax.random.key(coordinate)

    def drawn(part: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        keys = jax.random.split(jax.random.fold_in(key, part), number)
        log_p, log_q, before, moved = map(
            np.asarray, program(keys, coordinate, reach.centre)
        )
        return _off(log_p - mean, log_q, before), (moved < low) | (moved > high)

    off, beyond = drawn(0, FIRST)
    if not np.isfinite(off).all():
        return True
    if _is_nothing(np.where(beyond, off, 0.0), error):
        return False
    parts: list[np.ndarray] = []
    for part in range(1, PARTS + 1):
        off, _ = drawn(part, PART)
        if not np.isfinite(off).all():
            return True
        parts.append(off)
    every = np.concatenate(parts)
    spread = np.hypot(standard_error(every), error)
    return bool(abs(every.mean()) > CONVERGED + SURE * spread)


def _off(log_p: np.ndarray, log_q: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What every wider draw adds to the difference; log p is given less the mean."""
    weight = WIDER * np.exp(log_q - before)
    kept = weight > 0
    off = np.zeros(len(weight))
    off[kept] = weight[kept] * (log_p[kept] - log_q[kept])
    return off


def _is_nothing(beyond: np.ndarray, error: float) -> bool:
    """Whether what is beyond the reach of draws is too little to be found by all."""
    most = abs(beyond.mean()) + SURE * standard_error(beyond)
    return bool(most < NOTHING * (CONVERGED + SURE * error))
