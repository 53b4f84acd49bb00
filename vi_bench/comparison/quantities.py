"""The scalar quantities on which posteriors are compared, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

SQUARES = "sum of squared"
"""Statistic of the weights; its inverse is an effective number of components."""


class Quantity(str):
    """A scalar quantity of the posterior; as a string, its name in tables.

    The string is "mu[x0] of component 1", "mean mu[x0]", "sorted mu[x0] 2" (the second
    smallest over components) or a plain name such as "log joint".

    Attributes:
        name: name of the parameter, or of the scalar.
        coordinate: coordinate along each other dimension of the parameter, in order.
        component: index of the component, from 0; None if it belongs to none.
        statistic: statistic over components, such as "mean"; empty for a plain value.
        rank: rank of a sorted value, 1 for the smallest; None otherwise.
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
        """Make a quantity and compose its string."""
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
        """Arguments of `__new__`, for copying and unpickling."""
        return (
            self.name,
            self.coordinate,
            self.component,
            self.statistic,
            self.rank,
        )

    def of(self, **changes: object) -> Quantity:
        """A quantity of the same parameter and coordinate; other attributes as given.

        Those that are not given take their defaults.
        """
        known = {"name": self.name, "coordinate": self.coordinate}
        return Quantity(**(known | changes))  # type: ignore[arg-type]


WEIGHT = Quantity("weight")
"""The column that holds the components' weights, where they are drawn."""

LOG_JOINT = Quantity("log joint")
"""Log p(X, theta) of each draw."""

LOG_LIKELIHOOD = Quantity("log likelihood")
"""Log p(X | theta). Like the log joint it depends on the data; without one of them a
sampler that returns the prior would pass a calibration (Modrak et al. 2023)."""


HELD_OUT = Quantity("held-out log density")
"""Log p(x | theta) of each draw, summed over held-out rows."""


def named(name: str) -> Quantity:
    """A plain name as a quantity; a quantity is returned unchanged."""
    return name if isinstance(name, Quantity) else Quantity(name)


RARE = 0.01
"""Ratio of a weight's median to its mean below which a few draws determine its mean."""


def flatten(
    named: Mapping[str, tuple[Any, tuple[str, ...]]],
    coordinates: Mapping[str, Sequence[object]],
) -> tuple[dict[Quantity, Any], dict[Quantity, Any]]:
    """Split arrays (NumPy or JAX) into scalars, one for each coordinate.

    Args:
        named: name -> (values (chain, draw, *dims), names of dims); "component" comes
            first for a parameter that each component has.
        coordinates: dimension -> coordinates, for every other dimension.

    Returns:
        Scalars of each component (chain, draw, K), and scalars that the components
        share (chain, draw).
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

    They are the log joint density, the shared scalars, and for each column the mean and
    the log root mean square over components, weighted where weights are drawn. Without
    weights the sorted values are added (rank 1 is the smallest). With weights only the
    sorted weights and the sum of their squares are: an empty component's parameters are
    draws from the prior, and their order tells nothing about the data.
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

    For the weights it is their sum of squares; with one component, its value alone.
    Arrays of NumPy or JAX, (..., K). The logarithm is taken because the mean square has
    tails too heavy for its sd to be estimated: an empty component may lie anywhere.
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


def in_arrays(
    columns: Iterable[Quantity],
    shared: Iterable[Quantity],
    values: Any,
    weights: Any = None,
) -> Iterator[tuple[list[Quantity], Any]]:
    """`by_component` and `averages` of one parameter, those of a kind in one array.

    A few operations of JAX, where one by one there are some for every scalar, which
    take XLA seconds to compile.

    Args:
        columns: what each component has, or none.
        shared: what the components share, or none.
        values: of either (chain, draw, K, n) or (chain, draw, n).
        weights: of the components (chain, draw, K), where they are drawn.

    Yields:
        Quantities and their values (quantity, chain, draw), of each kind.
    """
    along = values.__array_namespace__().moveaxis(values, -1, 0)
    if labels := list(shared):
        yield labels, along
    if labels := list(columns):
        own = {labels[0]: along}
        share = {} if weights is None else {WEIGHT: weights}
        for first, each in (by_component(own) | averages(share | own)).items():
            if first.name == labels[0].name:
                kind = {"component": first.component, "statistic": first.statistic}
                yield [label.of(**kind) for label in labels], each


def rare(quantity: Quantity, values: np.ndarray) -> bool:
    """Whether a few draws determine the mean and sd of a weight of the reference.

    Weights of an empty component under a sparse prior are 1e-100 give or take a factor
    of 1e+90, so their sd is not usable as a unit.
    """
    if quantity.name != WEIGHT:
        return False
    return bool(np.median(values) < RARE * values.mean())


def constant(values: np.ndarray) -> bool:
    """Whether draws vary by rounding only, as the single weight with K = 1 does."""
    return float(np.ptp(values)) <= 1e-12 * float(np.max(np.abs(values)))


def by_component(columns: Mapping[Quantity, Any]) -> dict[Quantity, Any]:
    """Every scalar parameter of relabelled draws, each (chain, draw)."""
    return {
        label.of(component=k): values[..., k]
        for label, values in columns.items()
        for k in range(values.shape[-1])
    }
