"""Parts of the small problems that families bring for `vi-bench verify`."""

from __future__ import annotations

import numpy as np

DIRICHLET = {"name": "dirichlet", "concentration": 0.7}
STICKS = {"name": "stick-breaking", "concentration": 1.5}


def chosen(levels: int, random: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """One of the numbers 0 to levels - 1 at each place; they rise with the level."""
    noise = random.logistic(size=level.shape)
    place = 1 / (1 + np.exp(-level - noise))
    return np.asarray(np.floor(levels * place), float)
