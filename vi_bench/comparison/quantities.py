"""What is compared: scalars of each draw, label-invariant ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SQUARES = "sum of squared"
"""The statistic of weights: 1 / it is an effective number of components."""


class Quantity(str):
    """A scalar of the posterior; as text, its name in tables.

    The text is "mu[x0] of component 1", "mean mu[x0]", "sorted mu[x0] 2" (the second
    smallest over components) or a plain name such as "log joint".

    Attributes:
        name: of the parameter, or of the scalar.
        coordinate: of the parameter's further dimensions, in order; empty if none.
        component: its number from 0; None of what no component owns.
        statistic: over components, such as "mean"; empty of a value itself.
        rank: from 1, of a sorted value.
    """

    name: str
    coordinate: tuple[str, ...]
    component: int | None
    statistic: str
    rank: int | None

    def __new__(
        cls,
        name: str,
        coordinate: tuple[str, ...] = (),
        component: int | None = None,
        statistic: str = "",
        rank: int | None = None,
    ) -> Quantity:
        """A quantity and its text."""
        label = f"{name}[{','.join(coordinate)}]" if coordinate else name
        if statistic == SQUARES:
            label += "s"
        text = f"{statistic} {label}" if statistic else label
        if rank is not None:
            text += f" {rank}"
        if component is not None:
            text += f" of component {component}"
        made = super().__new__(cls, text)
        made.name, made.coordinate, made.component = name, coordinate, component
        made.statistic, made.rank = statistic, rank
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What a copy is made from."""
        return (
            self.name,
            self.coordinate,
            self.component,
            self.statistic,
            self.rank,
        )

    def of(self, **changes: object) -> Quantity:
        """The same parameter and coordinate, of a component or with a statistic."""
        known = {"name": self.name, "coordinate": self.coordinate}
        return Quantity(**(known | changes))  # type: ignore[arg-type]


WEIGHT = Quantity("weight")
"""The column that holds the components' weights, where they are drawn."""

LOG_JOINT = Quantity("log joint")
"""Log p(X, theta) of each draw."""


def named(name: str) -> Quantity:
    """A quantity, or a plain name as one."""
    return name if isinstance(name, Quantity) else Quantity(name)


RARE = 0.01
"""A weight whose median is under this share of its mean is one of rare draws only."""


def flatten(
    named: Mapping[str, tuple[Any, tuple[str, ...]]],
    coordinates: Mapping[str, Sequence[object]],
) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
    """Every coordinate of every array by its label; arrays of NumPy or JAX.

    Args:
        named: name -> (values (chain, draw, *dims), dims), "component" first where a
            component has one.
        coordinates: dimension -> coordinates, for every other dimension.

    Returns:
        Columns (chain, draw, K) of what each component has, and scalars (chain, draw)
        of what they share.
    """
    columns: dict[Quantity, Any] = {}
    shared: dict[Quantity, Any] = {}
    for name, (values, dims) in named.items():
        own = dims[:1] == ("component",)
        rest = dims[1:] if own else dims
        lead = 3 if own else 2
        for index in np.ndindex(values.shape[lead:]):
            labels = [str(coordinates[d][i]) for d, i in zip(rest, index, strict=True)]
            label = Quantity(name, tuple(labels))
            part = values[(*(slice(None),) * lead, *index)]
            (columns if own else shared)[label] = part
    return columns, shared


def invariants(
    columns: Mapping[Quantity, Any],
    shared: Mapping[Quantity, Any],
    log_joint: Any,
) -> dict[Quantity, Any]:
    """Scalars that no permutation of the components changes, each (chain, draw).

    Arrays of NumPy or JAX; `log_joint` may be None.

    The log joint density; what components share; per column the mean and the log of
    the root mean square over components, weighted where weights are drawn. Where they
    are not, the sorted values too (1 is the smallest); where they are, the sorted
    weights and the sum of their squares: an empty component's parameters are draws from
    the prior, and their order tells nothing about the data.
    """
    found: dict[Quantity, Any] = {}
    if log_joint is not None:
        found[LOG_JOINT] = log_joint
    found |= shared
    found |= averages(columns)
    weights = columns.get(WEIGHT)
    for label, values in columns.items():
        if values.shape[-1] > 1 and (weights is None or label == WEIGHT):
            ordered = values.__array_namespace__().sort(values, axis=-1)
            for rank in range(values.shape[-1]):
                place = label.of(statistic="sorted", rank=rank + 1)
                found[place] = ordered[..., rank]
    return found


def averages(columns: Mapping[Quantity, Any]) -> dict[Quantity, Any]:
    """Mean and log root mean square over components, weighted where weights are drawn.

    Of the weights themselves the sum of squares; of one component its value alone.
    Arrays of NumPy or JAX, (..., K). The mean square itself has tails too heavy for its
    sd to be known: now and then a component is empty, and lies anywhere.
    """
    weights = columns.get(WEIGHT)
    found: dict[Quantity, Any] = {}
    for label, values in columns.items():
        if label == WEIGHT:
            found[label.of(statistic=SQUARES)] = (values**2).sum(axis=-1)
            continue
        share = 1 / values.shape[-1] if weights is None else weights
        found[label.of(statistic="mean")] = (share * values).sum(axis=-1)
        if values.shape[-1] > 1:
            square = (share * values**2).sum(axis=-1)
            xp = values.__array_namespace__()
            # where all values are 0 the logarithm stays finite
            least = xp.finfo(values.dtype).tiny
            found[label.of(statistic="log rms")] = 0.5 * xp.log(
                xp.maximum(square, least)
            )
    return found


def rare(quantity: Quantity, values: np.ndarray) -> bool:
    """Whether the reference's draws of a weight are no unit to measure in.

    Those of an empty component under a sparse prior are 1e-100 give or take a factor of
    1e+90, so that mean and sd are those of a few draws.
    """
    if quantity.name != WEIGHT:
        return False
    return bool(np.median(values) < RARE * values.mean())


def constant(values: np.ndarray) -> bool:
    """Whether draws vary by rounding only, as the one weight of K = 1 does."""
    return float(np.ptp(values)) <= 1e-12 * float(np.max(np.abs(values)))


def by_component(columns: Mapping[Quantity, Any]) -> dict[Quantity, Any]:
    """Every scalar parameter of relabelled draws, each (chain, draw)."""
    return {
        label.of(component=k): values[..., k]
        for label, values in columns.items()
        for k in range(values.shape[-1])
    }
