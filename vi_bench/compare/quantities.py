"""What is compared: scalars of each draw, label-invariant ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Coordinates = Mapping[str, Sequence[Sequence[object]]]
"""Parameter name -> for each dimension after the component's, its coordinates."""


def _columns(
    parameters: dict[str, np.ndarray], coordinates: Coordinates
) -> dict[str, np.ndarray]:
    """Every coordinate of every parameter: its label -> (chain, draw, K)."""
    found = {}
    for name, values in parameters.items():
        for index in np.ndindex(values.shape[3:]):
            labels = [str(coordinates[name][axis][i]) for axis, i in enumerate(index)]
            found[f"{name}[{','.join(labels)}]" if labels else name] = values[
                (slice(None), slice(None), slice(None), *index)
            ]
    return found


def invariants(
    parameters: dict[str, np.ndarray],
    log_joint: np.ndarray | None,
    coordinates: Coordinates,
) -> dict[str, np.ndarray]:
    """Scalars that no permutation of the components changes, each (chain, draw).

    The log joint density; per coordinate the mean and the mean square over
    components, and the sorted values (1 is the smallest).
    """
    found = {} if log_joint is None else {"log joint": log_joint}
    for label, values in _columns(parameters, coordinates).items():
        found[f"mean {label}"] = values.mean(axis=-1)
        found[f"mean square {label}"] = (values**2).mean(axis=-1)
        if values.shape[-1] > 1:
            ordered = np.sort(values, axis=-1)
            for rank in range(values.shape[-1]):
                found[f"sorted {label} {rank + 1}"] = ordered[..., rank]
    return found


def by_component(
    parameters: dict[str, np.ndarray], coordinates: Coordinates
) -> dict[str, np.ndarray]:
    """Every scalar parameter of relabelled draws, each (chain, draw)."""
    return {
        f"{label} of component {k}": values[..., k]
        for label, values in _columns(parameters, coordinates).items()
        for k in range(values.shape[-1])
    }
