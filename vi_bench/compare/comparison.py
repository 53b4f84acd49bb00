"""The comparison of several posteriors of one mixture against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vi_bench.compare.measures import Distance, Summary, distance, summarise
from vi_bench.compare.quantities import WEIGHT, by_component, idle, invariants
from vi_bench.compare.relabel import Relabelling, find_pivot, points, relabel
from vi_bench.compare.verdict import Verdict, judge, unreliable


@dataclass(frozen=True)
class Sample:
    """Draws of one posterior.

    Attributes:
        columns: label -> (chain, draw, K), scalars that each component has.
        shared: label -> (chain, draw), scalars that the components share.
        log_joint: log p(X, theta) of each draw (chain, draw), or None.
        divergent: share of divergent transitions.
    """

    columns: dict[str, np.ndarray]
    shared: dict[str, np.ndarray] = field(default_factory=dict)
    log_joint: np.ndarray | None = None
    divergent: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """All that was found.

    Attributes:
        reference: label of the reference.
        relabelled: label -> columns permuted to the pivot.
        relabellings: label -> how.
        invariants: label -> name -> (chain, draw).
        summaries: label -> quantity -> Summary; relabelled parameters included.
        distances: label -> quantity -> Distance, for all but the reference.
        judged: the quantities that verdicts rest on.
        verdicts: label -> Verdict, for all but the reference.
        note: what a reader of the verdicts must know; empty if nothing.
    """

    reference: str
    relabelled: dict[str, dict[str, np.ndarray]]
    relabellings: dict[str, Relabelling]
    invariants: dict[str, dict[str, np.ndarray]]
    summaries: dict[str, dict[str, Summary]]
    distances: dict[str, dict[str, Distance]] = field(default_factory=dict)
    judged: tuple[str, ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    note: str = ""

    def min_ess(self, label: str) -> float:
        """The smallest bulk ESS of a method over the judged quantities."""
        found = [self.summaries[label][name].ess_bulk for name in self.judged]
        return min(found) if found else np.nan


def compare(
    samples: Mapping[str, Sample],
    reference: str,
    margin: float = 0.1,
) -> Comparison:
    """Compare every sample with the reference.

    Args:
        samples: label -> draws, all of the same mixture.
        reference: the label that the others are held against.
        margin: see `vi_bench.compare.verdict`.
    """
    trusted = samples[reference]
    pivot = find_pivot(
        points(trusted.columns), trusted.log_joint, trusted.columns.get(WEIGHT)
    )
    relabellings, relabelled, invariant, summaries = {}, {}, {}, {}
    scalars: dict[str, dict[str, np.ndarray]] = {}
    for label, sample in samples.items():
        how = relabel(points(sample.columns), pivot, sample.columns.get(WEIGHT))
        moved = {name: how.apply(v) for name, v in sample.columns.items()}
        found = invariants(sample.columns, sample.shared, sample.log_joint)
        scalars[label] = found | by_component(moved)
        relabellings[label], relabelled[label], invariant[label] = how, moved, found
    dropped = {name for name, v in scalars[reference].items() if idle(name, v)}
    for label in samples:
        for known in (scalars[label], invariant[label]):
            for name in dropped & set(known):
                del known[name]
        summaries[label] = {k: summarise(v) for k, v in scalars[label].items()}

    distances = {
        label: {
            name: distance(
                draws, summaries[label][name], scalars[reference][name], theirs
            )
            for name, draws in scalars[label].items()
            if (theirs := summaries[reference].get(name)) is not None
        }
        for label in samples
        if label != reference
    }
    identifiable = relabellings[reference].identifiable
    names = summaries[reference] if identifiable else invariant[reference]
    why = unreliable({n: summaries[reference][n] for n in names}, trusted.divergent)
    verdicts = {
        label: Verdict("reference unreliable", why)
        if why
        else judge({n: found[n] for n in names if n in found}, margin)
        for label, found in distances.items()
    }
    return Comparison(
        reference,
        relabelled,
        relabellings,
        invariant,
        summaries,
        distances,
        tuple(names),
        verdicts,
        "" if identifiable else _overlap(relabellings[reference]),
    )


def _overlap(how: Relabelling) -> str:
    return (
        f"components overlap: {100 * how.moved:.0f} % of the reference's draws were "
        f"relabelled, {100 * how.ambiguous:.0f} % are near ties between two "
        "labellings, so verdicts rest on label-invariant quantities only"
    )
