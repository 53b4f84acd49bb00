"""Statistics of draws under ArviZ's names, as Hamiltonian samplers give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NEEDED = ("diverging", "tree_depth", "acceptance_rate", "step_size", "n_steps")


def sampler(stats: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a Hamiltonian sampler moved, over the draws that were kept.

    Args:
        stats: name -> one number of each draw (chain, draw).

    Returns:
        What summary.json has of it; None where one of NEEDED is not there.
    """
    if any(name not in stats for name in NEEDED):
        return None
    return {
        "divergences": np.sum(stats["diverging"]),
        "mean_tree_depth": np.mean(stats["tree_depth"]),
        "mean_acceptance_rate": np.mean(stats["acceptance_rate"]),
        "step_size": np.asarray(stats["step_size"])[:, 0],
        "gradients": np.sum(stats["n_steps"]),
    }
