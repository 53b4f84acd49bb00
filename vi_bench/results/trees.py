"""Draws as an ArviZ DataTree, in one layout for all methods: (chain, draw) first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from arviz_base import from_dict
from xarray import Dataset, DataTree

from vi_bench.comparison.quantities import Quantity

SLASH = "\N{DIVISION SLASH}"
"""Stands for / in the name of a stored variable, where / would begin a group."""


def named_variables(dataset: Dataset) -> dict[str, np.ndarray]:
    """The arrays of a stored group under the names that were given."""
    return {
        str(v.attrs.get("name", name)): np.asarray(v) for name, v in dataset.items()
    }


def _storable(
    arrays: Mapping[Quantity, np.ndarray], dims: tuple[str, ...]
) -> dict[str, Any]:
    """Variables under names that a file can hold; a changed one has its own name."""
    found = {}
    for name, values in arrays.items():
        safe = str(name).replace("/", SLASH)
        kept = {"name": str(name)} if safe != name else {}
        found[safe] = dims, values, kept
    return found


def to_tree(
    posterior: Mapping[str, np.ndarray],
    dims: Mapping[str, tuple[str, ...]],
    coordinates: Mapping[str, Any],
    observed: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    *,
    order: np.ndarray | None,
    sample_stats: Mapping[str, np.ndarray],
    invariants: Mapping[Quantity, np.ndarray],
    compared: Mapping[Quantity, np.ndarray],
    location: np.ndarray | None,
    variational: Mapping[str, np.ndarray],
    optimisation: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
) -> DataTree:
    """The DataTree of one method's draws.

    Groups: `posterior`, relabelled to the run's pivot; `sample_stats`; `invariants`,
    label-invariant scalars of each draw; `compared`, the quantities of each component
    that are compared (chain, draw, component), relabelled; `location`, E[x | component]
    (chain, draw, component, feature), where the family has one that is not itself a
    parameter (if it is, the attributes name it); `relabelling`, whose `order` (chain,
    draw, component) is the component of the raw draw that became component k;
    `variational`, q's own parameters; `optimisation`, the bound by iteration;
    `observed_data`.
    """
    coords: dict[str, Any] = dict(coordinates)
    if order is not None:
        coords = {"component": np.arange(order.shape[-1])} | coords
    tree = from_dict(
        {
            "posterior": dict(posterior),
            "sample_stats": dict(sample_stats),
            "observed_data": {name: values for name, (_, values) in observed.items()},
        },
        coords=coords,
        dims={name: list(d) for name, d in dims.items() if name in posterior}
        | {name: list(d) for name, (d, _) in observed.items()},
    )
    draws = ("chain", "draw")
    of_components = (*draws, "component")
    extra = {
        "invariants": Dataset(_storable(invariants, draws)),
        "compared": Dataset(_storable(compared, of_components)),
        "location": Dataset(
            {}
            if location is None
            else {"location": ((*of_components, "feature"), location)}
        ),
        "relabelling": Dataset(
            {} if order is None else {"order": (of_components, order)}
        ),
        "variational": Dataset(
            {
                name: (tuple(f"{name}_dim_{i}" for i in range(value.ndim)), value)
                for name, value in variational.items()
            }
        ),
        "optimisation": Dataset({k: (("step",), v) for k, v in optimisation.items()}),
    }
    for name, dataset in extra.items():
        if len(dataset.data_vars):
            tree[name] = DataTree(dataset)
    tree.attrs.update({"vi_bench": json.dumps(dict(attributes))})
    tree["posterior"].attrs["inference_library"] = str(attributes["inference_library"])
    return tree
