"""Which dimensions of matched variables are those of exchangeable components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vi_bench.comparison.quantities import WEIGHT
from vi_bench.draws.posterior import Posterior
from vi_bench.errors import InputError, unknown

NONE = "none"
"""`component_dim` of draws whose components, if there are any, are not exchangeable."""

USUAL = "component"
"""The dimension of the components, where nothing else is said."""


@dataclass
class Variable:
    """A variable that all posteriors have.

    Attributes:
        values: label -> draws (chain, draw, *shape), of one shape but for the
            components.
        coordinates: coordinates along each further axis.
        dims: names of each further axis, in any of the posteriors.
        component: the axis of the components, counted after chain and draw, or None.
    """

    values: dict[str, np.ndarray]
    coordinates: list[list[str]]
    dims: list[set[str]]
    component: int | None = None


def counts_from(labels: Sequence[str]) -> int | None:
    """0 or 1 where labels only count from there, else None."""
    for first in (0, 1):
        if list(labels) == [str(first + i) for i in range(len(labels))]:
            return first
    return None


def place_components(
    variables: Mapping[str, Variable],
    component_dim: Collection[str] | None,
    weight: str | None,
) -> str:
    """Set the axis of the components of every variable; a note where it was found."""
    named = None if component_dim is None else set(component_dim)
    if named == {NONE}:
        return ""
    known = {dim for v in variables.values() for dims in v.dims for dim in dims}
    if named is not None and NONE in named:
        raise InputError("component_dim: 'none' and a dimension; expected one of them")
    if named is not None and named & known and (odd := sorted(named - known)):
        raise unknown("dimension", odd[0], sorted(known), "the draws")
    if named is None:
        if USUAL in known:
            named = {USUAL}
        else:
            return _by_weights(variables, weight)
    for name, variable in variables.items():
        axes = [i for i, dims in enumerate(variable.dims) if dims & named]
        if len(axes) > 1:
            both = ", ".join(d for i in axes for d in sorted(variable.dims[i] & named))
            raise InputError(
                f"{name!r} has several dimensions of components, {both}; expected one"
            )
        variable.component = axes[0] if axes else None
    if all(v.component is None for v in variables.values()):
        dims = sorted({d for v in variables.values() for each in v.dims for d in each})
        raise InputError(
            f"no variable has the dimension {' or '.join(sorted(named))!r} of the "
            f"components; the dimensions are: {', '.join(dims) or 'none'}"
        )
    return _not_relabelled(variables)


def _not_relabelled(variables: Mapping[str, Variable]) -> str:
    """A note on variables that have as many elements, and are not relabelled."""
    sizes = {
        len(v.coordinates[v.component])
        for v in variables.values()
        if v.component is not None
    }
    found = [
        f"{name} along {'/'.join(sorted(v.dims[axis]))}"
        for name, v in variables.items()
        if v.component is None
        for axis, known in enumerate(v.coordinates)
        if len(known) in sizes
    ]
    if not found:
        return ""
    return (
        f"not relabelled, though there are as many elements as components: "
        f"{', '.join(found)} (--component-dim if they are the components' own)"
    )


def simplex(variable: Variable) -> bool:
    """Whether a variable's values along its only axis sum to 1 in every draw."""
    if len(variable.dims) != 1:
        return False
    return all(
        v.shape[-1] > 1
        and v.min() >= 0
        and float(np.abs(v.sum(axis=-1) - 1).max()) <= 1e-4
        for v in variable.values.values()
    )


def _by_weights(variables: Mapping[str, Variable], weight: str | None) -> str:
    """Find the components by the weights: what has as many elements along one axis."""
    heavy = [
        name
        for name, v in variables.items()
        # what has names is not exchangeable
        if simplex(v)
        and weight in (None, name)
        and counts_from(v.coordinates[0]) is not None
    ]
    if not heavy:
        return ""
    sizes = {n: len(variables[n].coordinates[0]) for n in heavy}
    if len(heavy) > 1:
        named = ", ".join(f"{n} ({sizes[n]} elements)" for n in heavy)
        return (
            f"several variables sum to 1, {named}: none is taken for the weights of a "
            "mixture, so nothing is relabelled; if there are exchangeable components, "
            "give --weight NAME or --component-dim"
        )
    (name,) = heavy
    axes, unclear = {}, []
    for other, variable in variables.items():
        fit = [i for i, c in enumerate(variable.coordinates) if len(c) == sizes[name]]
        if len(fit) == 1:
            axes[other] = fit[0]
        elif fit:
            unclear.append((other, fit))

    def say(other: str, axis: int) -> str:
        return "/".join(sorted(variables[other].dims[axis]))

    taken = [say(other, axis) for other, axis in axes.items()]
    if unclear:
        each = "; ".join(
            f"of {other} either {' or '.join(say(other, i) for i in fit)}"
            for other, fit in unclear
        )
        raise InputError(
            f"{name} sums to 1, so there seem to be {sizes[name]} components, but "
            f"their dimension is not clear: {', '.join(taken)}, and {each}; give "
            "--component-dim once for each, or --component-dim none"
        )
    if len(axes) == 1:  # a simplex alone: shares of something, not a mixture's weights
        return ""
    for other, axis in axes.items():
        variables[other].component = axis
    return (
        f"{name} sums to 1, so {', '.join(taken)} are taken for the dimensions of "
        f"{sizes[name]} exchangeable components (--component-dim none if they are not)"
    )


def weights_of(
    variables: Mapping[str, Variable],
    weight: str | None,
    posteriors: Sequence[Posterior],
) -> str | None:
    """The name of the weights' variable, or None.

    Raises:
        InputError: the variable that was named is not there or holds no weights.
    """
    if weight is not None:
        if weight not in variables:
            raise unknown("variable", weight, variables, "the draws")
        if weight != WEIGHT and WEIGHT in variables:
            raise InputError(f"both {weight!r} and {WEIGHT!r} cannot be the weights")
    usual = weight or (WEIGHT if WEIGHT in variables else None)
    if usual is None:
        found = [n for n, v in variables.items() if v.component == 0 and simplex(v)]
        return found[0] if len(found) == 1 else None
    variable = variables[usual]
    if all(v.component is None for v in variables.values()):
        if weight is None:
            return None
        raise InputError(
            f"the weights {usual!r} must sum to 1 over components, and other variables "
            "need as many elements; name the components' dimensions as well"
        )
    if variable.component != 0 or len(variable.dims) != 1:
        raise InputError(f"the weights {usual!r} need one dimension, of the components")
    if not simplex(variable) and len(variable.coordinates[0]) > 1:
        labels = ", ".join(p.label for p in posteriors)
        raise InputError(
            f"the weights {usual!r} of {labels} must sum to 1, without any below 0"
        )
    return usual


def check_counts(variables: Mapping[str, Variable]) -> None:
    """Check that all variables of all posteriors have as many components.

    Raises:
        InputError: they have not.
    """
    sizes: dict[str, dict[int, str]] = {}
    for name, variable in variables.items():
        if variable.component is None:
            continue
        for label, values in variable.values.items():
            size = values.shape[2 + variable.component]
            sizes.setdefault(label, {}).setdefault(size, name)
    for label, found in sizes.items():
        if len(found) > 1:
            each = ", ".join(f"{name!r} {size}" for size, name in found.items())
            raise InputError(
                f"{label}: different numbers of components: {each}; expected one number"
            )
    (first, own), *others = sizes.items() if sizes else [("", {})]
    for label, found in others:
        (one, name), (two, _) = next(iter(own.items())), next(iter(found.items()))
        if one != two:
            raise InputError(
                f"{name!r} is of {one} components in {first} and of {two} components "
                f"in {label}; expected draws of the same mixture"
            )
