"""What several programs' draws mean, matched: variables, coordinates and components.

Variables are matched by name, the dimensions of a variable by their names where all
programs use the same, else by their order. Along a dimension, coordinates that are
names are matched by name; numbers that only count, from 0 or from 1, by their order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from xarray import DataArray

from vi_bench.comparison import Sample
from vi_bench.comparison.measured import SAME
from vi_bench.comparison.quantities import WEIGHT, Quantity, flatten
from vi_bench.draws.external import DRAWS
from vi_bench.draws.posterior import Posterior, check_finite
from vi_bench.errors import InputError, unknown

OWN = re.compile(r".*_dim_\d+")
"""A dimension that was given no name."""

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


@dataclass
class Matched:
    """Posteriors as samples of the same quantities.

    Attributes:
        samples: label -> sample.
        variables: name -> variable that all have.
        notes: what was matched and what was left out.
    """

    samples: dict[str, Sample]
    variables: dict[str, Variable]
    notes: list[str] = field(default_factory=list)


def match(
    posteriors: Sequence[Posterior],
    reference: str,
    component_dim: Collection[str] | None = None,
    weight: str | None = None,
) -> Matched:
    """Match what the posteriors have in common.

    Args:
        posteriors: of one model, at least two.
        reference: label of the one whose coordinates are used.
        component_dim: dimensions of exchangeable components, by the name of any
            posterior; NONE alone: there are none; None: find them.
        weight: the variable that holds the components' weights; None: "weight", or the
            variable over components alone whose values sum to 1.

    Raises:
        InputError: nothing is in common; the numbers of components differ; the
            components' dimension is not clear, or is not there; a draw of what is in
            common is not finite.
    """
    notes = []
    if left_out := [text for p in posteriors for text in p.left_out]:
        notes.append(f"left out: {', '.join(left_out)}")
    by_label = {p.label: p.variables for p in posteriors}
    names, elsewhere = _in_common(by_label, reference)
    if elsewhere:
        notes.append(f"not in every posterior, so not compared: {', '.join(elsewhere)}")
    named = {USUAL} if component_dim is None else set(component_dim)
    how: list[str] = []
    variables = {}
    for name in names:
        parts = {label: known[name] for label, known in by_label.items()}
        variable = _aligned(name, parts, reference, named, how)
        if variable is not None:
            variables[name] = variable
    notes += dict.fromkeys(how)
    for name, variable in list(variables.items()):
        for label, values in variable.values.items():
            check_finite(values, name, label)
        if _same_constant(variable):
            del variables[name]
            notes.append(f"not compared: {name} is the same in every draw")
    if not variables:
        raise InputError(
            f"nothing to compare: {'; '.join(notes)}; expected draws of one model "
            "(--rename THEIRS=OURS where names differ)"
        )
    found = _place_components(variables, component_dim, weight)
    if found:
        notes.append(found)
    heavy = _weights(variables, weight, posteriors)
    _check_counts(variables)
    samples = {
        p.label: Sample(
            *_quantities(p.label, variables, heavy),
            p.statistics.get("log_joint"),
            p.divergent,
        )
        for p in posteriors
    }
    return Matched(samples, variables, notes)


def regrouped(matched: Matched, axes: Mapping[str, int]) -> dict[str, Sample]:
    """The samples if other axes of the variables were the components'."""
    variables = {
        name: replace(v, component=axes.get(name))
        for name, v in matched.variables.items()
    }
    return {
        label: replace(sample, columns=columns, shared=shared)
        for label, sample in matched.samples.items()
        for columns, shared in [_quantities(label, variables, None)]
    }


def _in_common(
    by_label: Mapping[str, Mapping[str, DataArray]], reference: str
) -> tuple[list[str], list[str]]:
    """Names that all have, in the reference's order, and all other names."""
    common = [
        name
        for name in by_label[reference]
        if all(name in known for known in by_label.values())
    ]
    others = {name for known in by_label.values() for name in known} - set(common)
    if not common:
        each = "; ".join(
            f"{k}: {', '.join(sorted(v)[:5])}" for k, v in by_label.items()
        )
        raise InputError(
            f"no variable is in all of the draws ({each}); expected draws of one model "
            "(--rename THEIRS=OURS where names differ)"
        )
    where = []
    for name in sorted(others):
        having = [label for label, known in by_label.items() if name in known]
        where.append(f"{name} (of {', '.join(having)})")
    return common, where


def _aligned(
    name: str,
    parts: Mapping[str, DataArray],
    reference: str,
    of_components: set[str],
    how: list[str],
) -> Variable | None:
    """A variable with the same axes everywhere; None, and a note, if that cannot be."""
    own = [str(d) for d in parts[reference].dims[2:]]
    turned = {}
    for label, part in parts.items():
        dims = [str(d) for d in part.dims[2:]]
        if len(dims) != len(own):
            how.append(
                f"not compared: {name} has {len(dims)} dimensions in {label}, "
                f"{len(own)} in {reference}"
            )
            return None
        same = set(dims) == set(own)
        turned[label] = part.transpose(*DRAWS, *own) if same else part
        if not same and _named(set(dims) - set(own)) and _named(set(own) - set(dims)):
            how.append(
                f"dimensions of {name} are matched by their order: {', '.join(dims)} "
                f"in {label}, {', '.join(own)} in {reference}"
            )
    coordinates, dims_by_axis = [], []
    values = {label: _values(part) for label, part in turned.items()}
    for axis in range(len(own)):
        named = {label: str(part.dims[2 + axis]) for label, part in turned.items()}
        labels = {
            label: _labels(
                part, named[label], values[label].shape[2 + axis], name, label
            )
            for label, part in turned.items()
        }
        chosen = _matched_axis(name, labels, reference, how)
        dims_by_axis.append(set(named.values()))
        if chosen is None and dims_by_axis[-1] & of_components:
            # other numbers of components are an error, told when all is matched
            chosen = {k: list(range(len(theirs))) for k, theirs in labels.items()}
        if chosen is None:
            how.append(_no_match(name, labels))
            return None
        for label in values:
            values[label] = np.take(values[label], chosen[label], axis=2 + axis)
        known = labels[reference]
        coordinates.append([known[i] for i in chosen[reference]])
    return Variable(values, coordinates, dims_by_axis)


def _named(dims: set[str]) -> bool:
    return any(not OWN.fullmatch(d) for d in dims)


def _values(part: DataArray) -> np.ndarray:
    """Draws in double precision; what varies by the rounding of single is constant."""
    values = part.to_numpy().astype(float)
    if part.dtype == np.float32:
        spread = values.max(axis=(0, 1)) - values.min(axis=(0, 1))
        rounding = 8 * np.finfo(np.float32).eps * np.abs(values).max(axis=(0, 1))
        values = np.where(spread <= rounding, np.median(values, axis=(0, 1)), values)
    return values


def _no_match(name: str, labels: Mapping[str, Sequence[str]]) -> str:
    sizes = {label: len(theirs) for label, theirs in labels.items()}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{size} in {label}" for label, size in sizes.items())
        return f"not compared: {name} has different numbers of elements: {each}"
    each = "; ".join(f"{', '.join(v[:3])} in {k}" for k, v in labels.items())
    return f"not compared: coordinates of {name} have nothing in common: {each}"


def _labels(part: DataArray, dim: str, size: int, name: str, label: str) -> list[str]:
    """Coordinates along a dimension as text; a range where there are none.

    Raises:
        InputError: a coordinate occurs twice.
    """
    if dim not in part.coords:
        return [str(i) for i in range(size)]
    known = part.coords[dim].to_numpy().tolist()
    found = [
        str(int(v)) if isinstance(v, float) and v.is_integer() else str(v).strip()
        for v in known
    ]
    if twice := {c for c in found if found.count(c) > 1}:
        raise InputError(
            f"{label}: coordinate {min(twice)!r} of {name!r} occurs twice along {dim!r}"
        )
    return found


def _counts_from(labels: Sequence[str]) -> int | None:
    """0 or 1 where labels only count from there, else None."""
    for first in (0, 1):
        if list(labels) == [str(first + i) for i in range(len(labels))]:
            return first
    return None


def _matched_axis(
    name: str, labels: Mapping[str, Sequence[str]], reference: str, how: list[str]
) -> dict[str, list[int]] | None:
    """Label -> indices along an axis, in the reference's order; None: no match."""
    known = labels[reference]
    starts = {label: _counts_from(theirs) for label, theirs in labels.items()}
    alike = all(set(theirs) == set(known) for theirs in labels.values())
    if alike or all(start is None for start in starts.values()):
        common = [c for c in known if all(c in theirs for theirs in labels.values())]
        if not common:
            return None
        if missing := {c for theirs in labels.values() for c in theirs} - set(common):
            some = ", ".join(f"{name}[{c}]" for c in sorted(missing)[:5])
            how.append(f"not in every posterior, so not compared: {some}")
        return {k: [list(v).index(c) for c in common] for k, v in labels.items()}
    # numbers that only count tell nothing but their order
    if len({len(theirs) for theirs in labels.values()}) > 1:
        return None
    for label, theirs in labels.items():
        if list(theirs) == list(known):
            continue
        if starts[label] is not None and starts[reference] is not None:
            told = f"{label} counts from {starts[label]}, {reference} from "
            how.append(f"{told}{starts[reference]}: matched by their order")
        else:
            how.append(
                f"coordinates of {name} are matched by their order: "
                f"{', '.join(theirs[:3])} in {label}, {', '.join(known[:3])} in "
                f"{reference}"
            )
    return {label: list(range(len(known))) for label in labels}


def _same_constant(variable: Variable) -> bool:
    """Whether a variable has one value everywhere, in all draws of all posteriors."""
    parts = list(variable.values.values())
    first = parts[0][0, 0]
    return all(
        v.shape[2:] == first.shape and np.allclose(v, first, rtol=SAME, atol=0)
        for v in parts
    )


def _place_components(
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
        and _counts_from(v.coordinates[0]) is not None
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


def _weights(
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


def _check_counts(variables: Mapping[str, Variable]) -> None:
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


def _quantities(
    label: str, variables: Mapping[str, Variable], heavy: str | None
) -> tuple[dict[Quantity, np.ndarray], dict[Quantity, np.ndarray]]:
    """Scalars of each component and scalars that are shared, see `flatten`."""
    named, coordinates = {}, {}
    for name, variable in variables.items():
        values, dims = variable.values[label], []
        for axis, labels in enumerate(variable.coordinates):
            dim = f"{name} {axis}"
            if axis != variable.component:
                dims.append(dim)
                coordinates[dim] = labels
        if variable.component is not None:
            values = np.moveaxis(values, 2 + variable.component, 2)
            dims = ["component", *dims]
        named[WEIGHT if name == heavy else name] = values, tuple(dims)
    return flatten(named, coordinates)
