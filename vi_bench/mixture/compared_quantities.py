"""The quantities on which posteriors are compared, for verdicts, figures and ranks.

Of a component's parameters they are `Family.compared`, such as log variances, whose
posteriors are closer to normal than those of variances or precisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import (
    LOG_LIKELIHOOD,
    WEIGHT,
    Quantity,
    flatten,
    in_arrays,
    invariants,
)
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Family, Parameters
from vi_bench.mixture.weights import STICK, StickBreaking, log_volume

Coordinates = Mapping[str, Sequence[object]]
"""Dimension of a family's parameters -> its coordinates."""


def reported(mixture: Any, theta: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parameters, quantities derived from them, and weights where they are drawn.

    Args:
        mixture: anything with the family, the weights and the components of a mixture.
        theta: draws of its parameters (chain, draw, *dims).
    """
    family = mixture.family
    known = {name: theta[name] for name in family.dims if name in theta}
    found = {name: np.asarray(v) for name, v in (known | family.derived(known)).items()}
    if STICK in theta:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        found[WEIGHT] = np.exp(np.asarray(log_weights, float))
    return found


def compared(
    family: Family,
    theta: Mapping[str, Any],
    coordinates: Coordinates,
    weights: Any = None,
) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
    """The compared quantities of draws; arrays of NumPy or JAX.

    Args:
        family: the family of the components.
        theta: its parameters (chain, draw, *dims) in the coordinates of the data.
        coordinates: dimension -> coordinates, of the family's dimensions.
        weights: mixture weights (chain, draw, K), where they are drawn.

    Returns:
        Columns (chain, draw, K) of what each component has, the weights among them, and
        scalars (chain, draw) of what they share.
    """
    known = {name: v for name, v in theta.items() if name in family.dims}
    columns, shared = flatten(family.compared(known), coordinates)
    if weights is not None:
        columns[WEIGHT] = weights
    return columns, shared


def columns_of(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
    """`compared` of draws (draws, *dims) inside a trace; columns are (draws, K)."""
    lifted, weights = _lifted(mixture, theta)
    columns, shared = compared(mixture.family, lifted, coordinates, weights)
    return (
        {quantity: v[0] for quantity, v in columns.items()},
        {quantity: v[0] for quantity, v in shared.items()},
    )


def kinds_of(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> list[tuple[list[Quantity], Any]]:
    """`columns_of`, each component's by itself, and their averages, a kind an array.

    Returns:
        Quantities and their values (quantity, draws), of each kind.
    """
    lifted, weights = _lifted(mixture, theta)
    known = {name: v for name, v in lifted.items() if name in mixture.family.dims}
    found: list[tuple[list[Quantity], Any]] = []
    for name, (values, dims) in mixture.family.compared(known).items():
        shapes = {name: (np.empty(values.shape), dims)}
        columns, shared = flatten(shapes, coordinates)
        flat = values.reshape(*values.shape[: 3 if columns else 2], -1)
        found.extend(in_arrays(columns, shared, flat, weights))
    if weights is not None:
        found.extend(in_arrays([WEIGHT], [], weights[..., None]))
    return [(labels, values[:, 0]) for labels, values in found]


def _lifted(mixture: Mixture, theta: Parameters) -> tuple[Parameters, Any]:
    """Draws as those of one chain, and their weights (1, draws, K) if they have any."""
    lifted = {name: v[None] for name, v in theta.items()}
    if STICK not in theta:
        return lifted, None
    return lifted, jnp.exp(mixture.weights.log_weights(lifted, mixture.components))


def quantities(
    mixture: Mixture, theta: Parameters, coordinates: Coordinates
) -> dict[Quantity, Float[Array, " draws"]]:
    """`vi_bench.comparison.quantities.invariants` of draws (draws, *dims), in a trace.

    The log joint is a density with respect to the weights, not to the sticks: these
    depend on the order of the components.
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
        {quantity: v[None] for quantity, v in columns.items()},
        {quantity: v[None] for quantity, v in shared.items()},
        joint[None],
    )
    named[LOG_LIKELIHOOD] = likelihood[None]
    return {quantity: v[0] for quantity, v in named.items()}
