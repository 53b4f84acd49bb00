"""Scalars of draws, inside a trace: unchanged by any permutation of the components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import WEIGHT, flatten, invariants
from vi_bench.contract import Parameters
from vi_bench.mixture import Mixture
from vi_bench.weights import STICK, StickBreaking, log_volume

LOG_JOINT, LOG_LIKELIHOOD = "log joint", "log likelihood"
"""Quantities that depend on the data too; without one of these a posterior that is the
prior would pass (Modrak et al. 2023)."""

Coordinates = Mapping[str, Sequence[object]]


def columns_of(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What draws (draws, *dims) are compared on: by component (draws, K), and shared.

    The weights are a column of their own, where they are drawn.
    """
    lifted = {name: v[None] for name, v in theta.items()}
    known = {name: v for name, v in lifted.items() if name != STICK}
    columns, shared = flatten(mixture.family.compared(known), coordinates)
    found: dict[str, Any] = dict(columns)
    if STICK in theta:
        log_weights = mixture.weights.log_weights(lifted, mixture.components)
        found[WEIGHT] = jnp.exp(log_weights)
    return (
        {label: v[0] for label, v in found.items()},
        {label: v[0] for label, v in shared.items()},
    )


def quantities(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> dict[str, Float[Array, " draws"]]:
    """`vi_bench.comparison.quantities.invariants` of draws (draws, *dims), in a trace.

    The log joint is per unit of the weights, not of the sticks: these depend on the
    order of the components.
    """

    def densities(theta: Parameters) -> tuple[Array, Array]:
        likelihood = mixture.log_likelihood(theta)
        joint = mixture.log_prior(theta) + likelihood
        if not isinstance(mixture.weights, StickBreaking):
            joint -= log_volume(theta)
        return joint, likelihood

    joint, likelihood = jax.lax.map(densities, theta, batch_size=100)
    columns, shared = columns_of(mixture, theta, coordinates)
    named = invariants(
        {label: v[None] for label, v in columns.items()},
        {label: v[None] for label, v in shared.items()},
        joint[None],
    )
    named[LOG_LIKELIHOOD] = likelihood[None]
    return {label: v[0] for label, v in named.items()}
