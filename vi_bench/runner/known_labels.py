"""How well each method's components agree with known labels of the rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from vi_bench.data.table import spaced
from vi_bench.mixture.blocks import pick
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runner.result import Agreement, MeanSd, MethodRun

ROWS, DRAWS = 2000, 200
"""Evenly spaced rows and draws, at most, that the index is computed from."""


def agreement(
    mixture: Mixture, labels: np.ndarray, column: str, runs: dict[str, MethodRun]
) -> Agreement:
    """The adjusted Rand index (Hubert and Arabie 1985) of every method's draws.

    Each draw puts a row into its most probable component. The index is 1 for the same
    partition, has the expectation 0 for independent ones, and does not depend on how
    components are numbered.

    Args:
        mixture: the mixture, with its rows.
        labels: known label of each row (N,).
        column: name of their column.
        runs: label -> the method's result.
    """
    from sklearn.metrics import adjusted_rand_score  # late: takes a second to import

    places = spaced(mixture.rows, ROWS)
    known, found, used = labels[places], {}, 0
    for label, run in runs.items():
        if not run.usable or run.draws is None:
            continue
        theta = mixture.recentred(run.draws.parameters)
        flat = {k: np.asarray(v).reshape(-1, *v.shape[2:]) for k, v in theta.items()}
        chosen = spaced(len(next(iter(flat.values()))), DRAWS)
        some = {k: jnp.asarray(v[chosen]) for k, v in flat.items()}
        drawn = np.asarray(_components(mixture, some))
        index = [adjusted_rand_score(known, components) for components in drawn]
        found[label] = MeanSd(float(np.mean(index)), float(np.std(index)))
        used = len(chosen)
    return Agreement(column, len(places), used, found)


@jax.jit
def _components(mixture: Mixture, theta: Parameters) -> Int[Array, "draws n"]:
    """The most probable component of each row under each draw."""
    rows = pick(mixture.blocks, spaced(mixture.rows, ROWS))
    statistics = mixture.family.statistics(rows)

    def of_draw(theta: Parameters) -> Array:
        return jnp.argmax(mixture.natural(theta) @ statistics, axis=0)

    found: Array = jax.lax.map(of_draw, theta)
    return found
