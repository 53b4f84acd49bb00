"""All draws relabelled to one pivot, and every quantity summarised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vi_bench.comparison.measures import Distance, Summary, distance, summarise
from vi_bench.comparison.quantities import (
    WEIGHT,
    Quantity,
    by_component,
    constant,
    invariants,
    rare,
)
from vi_bench.comparison.relabel import (
    Pivot,
    Relabelling,
    find_pivot,
    points,
    relabel,
    unlabelled,
)
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.side_by_side import Tick, each
from vi_bench.comparison.verdict import FRACTION, Margin

SAME = 1e-6
"""Largest relative difference of two constants that single precision may make."""


@dataclass(frozen=True)
class Measured:
    """Relabelled draws and their summaries; other fields are as in `Comparison`.

    Attributes:
        reference: label of the reference.
        scalars: label -> quantity -> draws (chain, draw), of all that are compared.
        certain: label -> sentences on quantities that are constant in the reference
            and differ in this method.
        note: what is not compared, and why.
    """

    reference: str
    relabelled: dict[str, dict[Quantity, np.ndarray]]
    relabellings: dict[str, Relabelling]
    invariants: dict[str, dict[Quantity, np.ndarray]]
    scalars: dict[str, dict[Quantity, np.ndarray]]
    summaries: dict[str, dict[Quantity, Summary]]
    judged: tuple[Quantity, ...]
    certain: dict[str, list[str]]
    note: str

    def distances(self, label: str) -> dict[Quantity, Distance]:
        """Distances of every quantity of a method from the reference's."""
        theirs = self.reference
        return distances_between(
            self.scalars[label],
            self.scalars[theirs],
            self.summaries[theirs],
            self.summaries[label],
        )

    def effort(self, label: str, margin: Margin) -> float:
        """Factor by which a method's draws must grow for its errors to be small.

        The Monte-Carlo error of every judged mean, sd and 5 and 95 % quantile has to be
        under FRACTION of its margin. The factor does not depend on the method's
        distance from the reference: a sample size chosen by precision leaves the
        verdict's error rates as they are.
        """
        trusted, own = self.summaries[self.reference], self.summaries[label]
        of_tails = FRACTION * margin.band("5 % quantile")
        found = [0.0]
        for name in self.judged:
            if name not in own or not own[name].sd.value > 0:
                continue
            mean, sd, unit = own[name].mean, own[name].sd, trusted[name].sd.value
            found += [
                (mean.se / unit / (FRACTION * margin.mean)) ** 2,
                (sd.se / sd.value / (FRACTION * margin.band("sd"))) ** 2,
                *((e.se / unit / of_tails) ** 2 for e in own[name].tails or ()),
            ]
        return float(np.nanmax(found))


def measure(
    samples: Mapping[str, Sample], reference: str, tick: Tick | None = None
) -> Measured:
    """Relabel all draws to one pivot and summarise every quantity.

    Args:
        samples: label -> draws, all of the same model.
        reference: label of the sample that gives the pivot and the units.
        tick: told of the summaries that are done.
    """
    trusted = samples[reference]
    pivot = None
    if trusted.columns:
        pivot = find_pivot(
            points(trusted.columns),
            trusted.log_joint_of_all,
            trusted.columns.get(WEIGHT),
        )
    relabellings, relabelled, invariant, scalars = {}, {}, {}, {}
    for label, sample in samples.items():
        how = _relabelled(sample, pivot)
        moved = {name: how.apply(v) for name, v in sample.columns.items()}
        found = invariants(sample.columns, sample.shared, sample.log_joint_of_all)
        scalars[label] = found | by_component(moved)
        relabellings[label], relabelled[label], invariant[label] = how, moved, found
    identifiable = relabellings[reference].identifiable
    looked_at = scalars if identifiable else invariant
    certain = {
        label: _certain(looked_at[label], looked_at[reference], reference)
        for label in samples
    }
    empty = _drop_idle(scalars, invariant, reference)
    summaries: dict[str, dict[Quantity, Summary]] = {label: {} for label in scalars}
    given = [(k, name, v) for k, known in scalars.items() for name, v in known.items()]
    size = max((v.size for _, _, v in given), default=0)
    made = each(lambda one: summarise(one[2]), given, size, tick)
    for (label, name, _), summary in zip(given, made, strict=True):
        summaries[label][name] = summary
    names = tuple(summaries[reference] if identifiable else invariant[reference])
    notes = [
        "" if identifiable else _overlap(relabellings[reference]),
        _left_out(names, scalars, empty),
    ]
    return Measured(
        reference,
        relabelled,
        relabellings,
        invariant,
        scalars,
        summaries,
        names,
        certain,
        "; ".join(filter(None, notes)),
    )


def _relabelled(sample: Sample, pivot: Pivot | None) -> Relabelling:
    if pivot is None:
        return unlabelled(*sample.shape)
    return relabel(points(sample.columns), pivot, sample.columns.get(WEIGHT))


def _certain(
    mine: Mapping[Quantity, np.ndarray],
    theirs: Mapping[Quantity, np.ndarray],
    reference: str,
) -> list[str]:
    """Sentences on quantities that are constant in the reference and differ here."""
    found = []
    for name, fixed in theirs.items():
        if name not in mine or rare(name, fixed) or not constant(fixed):
            continue
        value, draws = float(fixed.flat[0]), mine[name]
        if np.allclose(draws, value, rtol=SAME, atol=0):
            continue
        low, high = float(draws.min()), float(draws.max())
        own = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        found.append(f"{name} is {value:g} in every draw of {reference}, here {own}")
    return found


def _drop_idle(
    scalars: dict[str, dict[Quantity, np.ndarray]],
    invariant: dict[str, dict[Quantity, np.ndarray]],
    reference: str,
) -> list[str]:
    """Drop, in place, quantities for which the reference's sd is no usable unit.

    Returns:
        The weights of almost always empty components among them.
    """
    known = scalars[reference]
    empty = {name for name, v in known.items() if rare(name, v)}
    dropped = empty | {name for name, v in known.items() if constant(v)}
    for label in scalars:
        for group in (scalars[label], invariant[label]):
            for name in dropped & set(group):
                del group[name]
    return sorted(empty)


def _left_out(
    names: Sequence[str],
    scalars: Mapping[str, Mapping[Quantity, np.ndarray]],
    empty: Sequence[str],
) -> str:
    """A note on quantities of the reference that are not compared; empty if none."""
    said = []
    if empty:
        said.append(
            f"not compared, weights of components that are almost always empty: "
            f"{', '.join(empty)}"
        )
    for label, known in scalars.items():
        missing = [n for n in names if n not in known]
        if missing:
            said.append(f"not compared, {label} does not have it: {', '.join(missing)}")
    return "; ".join(said)


def distances_between(
    mine: Mapping[Quantity, np.ndarray],
    theirs: Mapping[Quantity, np.ndarray],
    trusted: Mapping[Quantity, Summary],
    own: Mapping[Quantity, Summary],
) -> dict[Quantity, Distance]:
    """Distances of all quantities that both have, in reference sds."""
    names = [name for name in mine if name in trusted]

    def of(name: Quantity) -> Distance:
        return distance(mine[name], own[name], theirs[name], trusted[name])

    size = max((mine[name].size for name in names), default=0)
    return dict(zip(names, each(of, names, size), strict=True))


def _overlap(how: Relabelling) -> str:
    return (
        f"components overlap: {100 * how.moved:.0f} % of the reference's draws were "
        f"relabelled, {100 * how.ambiguous:.0f} % are near ties between two "
        "labellings, so verdicts rest on label-invariant quantities only"
    )
