"""What several programs' draws mean, matched: variables, coordinates and components.

Variables are matched by name, the dimensions of a variable by their names where all
programs use the same, else by their order. Along a dimension, coordinates that are
names are matched by name; numbers that only count, from 0 or from 1, by their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from xarray import DataArray

from vi_bench.comparison import Sample
from vi_bench.comparison.measured import SAME
from vi_bench.comparison.quantities import WEIGHT, Quantity, flatten
from vi_bench.draws.components import (
    USUAL,
    Variable,
    check_counts,
    counts_from,
    place_components,
    weights_of,
)
from vi_bench.draws.external import DRAWS
from vi_bench.draws.posterior import Posterior, check_finite
from vi_bench.errors import InputError

OWN = re.compile(r".*_dim_\d+")
"""A dimension that was given no name."""


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
    found = place_components(variables, component_dim, weight)
    if found:
        notes.append(found)
    heavy = weights_of(variables, weight, posteriors)
    check_counts(variables)
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
    if len(set(found)) < len(found):
        twice = next(c for c, times in Counter(found).items() if times > 1)
        raise InputError(
            f"{label}: coordinate {twice!r} of {name!r} occurs twice along {dim!r}"
        )
    return found


def _matched_axis(
    name: str, labels: Mapping[str, Sequence[str]], reference: str, how: list[str]
) -> dict[str, list[int]] | None:
    """Label -> indices along an axis, in the reference's order; None: no match."""
    known = labels[reference]
    starts = {label: counts_from(theirs) for label, theirs in labels.items()}
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
