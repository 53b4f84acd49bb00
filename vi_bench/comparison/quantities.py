"""What is compared: scalars of each draw, label-invariant ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WEIGHT = "weight"
"""The name of the column that holds the components' weights, where they are drawn."""

RARE = 0.01
"""A weight whose median is under this share of its mean is one of rare draws only."""


def flatten(
    named: Mapping[str, tuple[Any, tuple[str, ...]]],
    coordinates: Mapping[str, Sequence[object]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every coordinate of every array by its label; arrays of NumPy or JAX.

    Args:
        named: name -> (values (chain, draw, *dims), dims), "component" first where a
            component has one.
        coordinates: dimension -> coordinates, for every other dimension.

    Returns:
        Columns (chain, draw, K) of what each component has, and scalars (chain, draw)
        of what they share.
    """
    columns: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for name, (values, dims) in named.items():
        own = dims[:1] == ("component",)
        rest = dims[1:] if own else dims
        lead = 3 if own else 2
        for index in np.ndindex(values.shape[lead:]):
            labels = [str(coordinates[d][i]) for d, i in zip(rest, index, strict=True)]
            label = f"{name}[{','.join(labels)}]" if labels else name
            part = values[(*(slice(None),) * lead, *index)]
            (columns if own else shared)[label] = part
    return columns, shared


def invariants(
    columns: Mapping[str, Any],
    shared: Mapping[str, Any],
    log_joint: Any,
) -> dict[str, Any]:
    """Scalars that no permutation of the components changes, each (chain, draw).

    Arrays of NumPy or JAX; `log_joint` may be None.

    The log joint density; what components share; per column the mean and the log of
    the root mean square over components, weighted where weights are drawn. Where they
    are not, the sorted values too (1 is the smallest); where they are, the sorted
    weights and the sum of their squares: an empty component's parameters are draws from
    the prior, and their order tells nothing about the data.
    """
    found = {} if log_joint is None else {"log joint": log_joint}
    found |= shared
    found |= averages(columns)
    weights = columns.get(WEIGHT)
    for label, values in columns.items():
        if values.shape[-1] > 1 and (weights is None or label == WEIGHT):
            ordered = values.__array_namespace__().sort(values, axis=-1)
            for rank in range(values.shape[-1]):
                found[f"sorted {label} {rank + 1}"] = ordered[..., rank]
    return found


def averages(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and log root mean square over components, weighted where weights are drawn.

    Of the weights themselves the sum of squares; of one component its value alone.
    Arrays of NumPy or JAX, (..., K). The mean square itself has tails too heavy for its
    sd to be known: now and then a component is empty, and lies anywhere.
    """
    weights = columns.get(WEIGHT)
    found = {}
    for label, values in columns.items():
        if label == WEIGHT:
            found[f"sum of squared {label}s"] = (values**2).sum(axis=-1)
            continue
        share = 1 / values.shape[-1] if weights is None else weights
        found[f"mean {label}"] = (share * values).sum(axis=-1)
        if values.shape[-1] > 1:
            square = (share * values**2).sum(axis=-1)
            xp = values.__array_namespace__()
            # where all values are 0 the logarithm stays finite
            least = xp.finfo(values.dtype).tiny
            found[f"log rms {label}"] = 0.5 * xp.log(xp.maximum(square, least))
    return found


def rare(name: str, values: np.ndarray) -> bool:
    """Whether the reference's draws of a weight are no unit to measure in.

    Those of an empty component under a sparse prior are 1e-100 give or take a factor of
    1e+90, so that mean and sd are those of a few draws.
    """
    return WEIGHT in name and bool(np.median(values) < RARE * values.mean())


def constant(values: np.ndarray) -> bool:
    """Whether draws vary by rounding only, as the one weight of K = 1 does."""
    return float(np.ptp(values)) <= 1e-12 * float(np.max(np.abs(values)))


def by_component(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every scalar parameter of relabelled draws, each (chain, draw)."""
    return {
        f"{label} of component {k}": values[..., k]
        for label, values in columns.items()
        for k in range(values.shape[-1])
    }
