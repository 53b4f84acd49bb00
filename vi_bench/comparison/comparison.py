"""The comparison of several posteriors of one mixture against a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vi_bench.comparison.evidence import Ladder, Terms, ladder
from vi_bench.comparison.examination import Examination, examine
from vi_bench.comparison.importance import Importance, weigh
from vi_bench.comparison.measures import (
    Distance,
    Estimate,
    Summary,
    distance,
    summarise,
)
from vi_bench.comparison.modes import Mode, find_modes, weighted
from vi_bench.comparison.quantities import WEIGHT, by_component, idle, invariants
from vi_bench.comparison.relabel import Relabelling, find_pivot, points, relabel
from vi_bench.comparison.verdict import Margin, Verdict, judge, unreliable

ModeEvidence = Callable[[str, Sequence[Mode]], Mapping[int, float]]
"""(label, modes) -> log evidence, or a bound alike in each, by position."""


@dataclass(frozen=True)
class Sample:
    """Draws of one posterior, and what is known about them.

    Attributes:
        columns: label -> (chain, draw, K), scalars that each component has.
        shared: label -> (chain, draw), scalars that the components share.
        log_joint: log p(X, theta) of each draw (chain, draw), or None.
        divergent: share of divergent transitions.
        log_q: log q(theta) of each draw (chain, draw), of a q that draws come from.
        log_q_symmetric: log of q averaged over label permutations, or None.
        bound: on log p(X) with the assignments in q, or None.
        best_bound: the best such bound over restarts, or None.
        evidence: log p(X) where the method estimates it, or None.
        log_likelihood: log p(x_i | theta) of some rows (chain, draw, n), or None.
        held_out: the same of rows that were set aside, or None.
        similarity: P(c_i = c_j) of some rows by chain (chain, p, p), or None.
    """

    columns: dict[str, np.ndarray]
    shared: dict[str, np.ndarray] = field(default_factory=dict)
    log_joint: np.ndarray | None = None
    divergent: float = 0.0
    log_q: np.ndarray | None = None
    log_q_symmetric: np.ndarray | None = None
    bound: Estimate | None = None
    best_bound: float | None = None
    evidence: Estimate | None = None
    log_likelihood: np.ndarray | None = None
    held_out: np.ndarray | None = None
    similarity: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse draws that are not finite.

        Raises:
            ValueError: it names the first one.
        """
        for label, values in (self.columns | self.shared).items():
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                chain, draw = bad[0][:2]
                raise ValueError(f"{label} is not finite in chain {chain}, draw {draw}")


@dataclass(frozen=True)
class Comparison:
    """All that was found.

    Attributes:
        reference: label of the reference.
        samples: label -> what was compared.
        relabelled: label -> columns permuted to the pivot.
        relabellings: label -> how.
        invariants: label -> name -> (chain, draw).
        summaries: label -> quantity -> Summary; relabelled parameters included.
        modes: label -> groups of chains in one mode each; one group is the rule.
        distances: label -> quantity -> Distance, for all but the reference.
        judged: the quantities that verdicts rest on.
        verdicts: label -> Verdict, for all but the reference.
        importance: label -> what importance weights say of a variational q.
        evidence: bounds on log p(X), estimates of it, and the gaps; None if none.
        note: what a reader of the verdicts must know; empty if nothing.
    """

    reference: str
    samples: dict[str, Sample]
    relabelled: dict[str, dict[str, np.ndarray]]
    relabellings: dict[str, Relabelling]
    invariants: dict[str, dict[str, np.ndarray]]
    summaries: dict[str, dict[str, Summary]]
    modes: dict[str, tuple[Mode, ...]] = field(default_factory=dict)
    distances: dict[str, dict[str, Distance]] = field(default_factory=dict)
    judged: tuple[str, ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    importance: dict[str, Importance] = field(default_factory=dict)
    evidence: Ladder | None = None
    note: str = ""

    @cached_property
    def examination(self) -> Examination:
        """Joint distances, co-clustering, predictions; when first asked for."""
        return examine(self)

    def min_ess(self, label: str) -> float:
        """The smallest bulk ESS of a method over the judged quantities."""
        found = [self.summaries[label][name].ess_bulk for name in self.judged]
        return min(found) if found else np.nan


def compare(
    samples: Mapping[str, Sample],
    reference: str,
    margin: Margin | None = None,
    mode_evidence: ModeEvidence | None = None,
) -> Comparison:
    """Compare every sample with the reference.

    Args:
        samples: label -> draws, all of the same mixture.
        reference: the label that the others are held against.
        margin: what still counts as agreement; 0.1 sd and 10 % by default.
        mode_evidence: asked for the modes of a method whose chains sit in several.
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
    modes = {
        label: _modes(label, sample, invariant[label], mode_evidence)
        for label, sample in samples.items()
    }
    distances = {
        label: _distances(
            scalars[label], scalars[reference], summaries[reference], summaries[label]
        )
        for label in samples
        if label != reference
    }
    identifiable = relabellings[reference].identifiable
    names = tuple(summaries[reference] if identifiable else invariant[reference])
    why = unreliable(
        {n: summaries[reference][n] for n in names},
        trusted.divergent,
        modes[reference],
    )
    verdicts = {}
    for label in distances:
        if why:
            verdicts[label] = Verdict("reference unreliable", why)
            continue
        verdicts[label] = _verdict(
            {n: scalars[label][n] for n in names if n in scalars[label]},
            modes[label],
            scalars[reference],
            summaries[reference],
            margin or Margin(),
        )
    importance = {
        label: weigh(s.log_joint, s.log_q, scalars[label], s.log_q_symmetric)
        for label, s in samples.items()
        if s.log_joint is not None and s.log_q is not None
    }
    return Comparison(
        reference,
        dict(samples),
        relabelled,
        relabellings,
        invariant,
        summaries,
        modes,
        distances,
        names,
        verdicts,
        importance,
        _evidence(samples, importance),
        "" if identifiable else _overlap(relabellings[reference]),
    )


def _modes(
    label: str,
    sample: Sample,
    found: Mapping[str, np.ndarray],
    mode_evidence: ModeEvidence | None,
) -> tuple[Mode, ...]:
    modes = find_modes(found, sample.log_joint)
    if len(modes) > 1 and mode_evidence is not None:
        return weighted(modes, mode_evidence(label, modes))
    return modes


def _distances(
    mine: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    trusted: Mapping[str, Summary],
    own: Mapping[str, Summary],
) -> dict[str, Distance]:
    return {
        name: distance(draws, own[name], theirs[name], trusted[name])
        for name, draws in mine.items()
        if name in trusted
    }


def _verdict(
    mine: Mapping[str, np.ndarray],
    modes: Sequence[Mode],
    theirs: Mapping[str, np.ndarray],
    trusted: Mapping[str, Summary],
    margin: Margin,
) -> Verdict:
    """The verdict on a method; chains in different modes are not pooled."""
    words = []
    for mode in modes:
        part = {name: draws[list(mode.chains)] for name, draws in mine.items()}
        own = {name: summarise(draws) for name, draws in part.items()}
        found = _distances(part, theirs, trusted, own)
        size = next(iter(part.values())).size if part else 0
        words.append(judge(found, margin, size, own))
    if len(modes) == 1:
        return words[0]
    each = "; ".join(
        f"{mode.say()}: {verdict.word}"
        for mode, verdict in zip(modes, words, strict=True)
    )
    differ = all(verdict.word == "differs" for verdict in words)
    return Verdict(
        "differs" if differ else "inconclusive",
        f"its chains sit in {len(modes)} different modes, not averaged: {each}",
    )


def _evidence(
    samples: Mapping[str, Sample], importance: Mapping[str, Importance]
) -> Ladder | None:
    terms = {
        label: Terms(s.log_joint, s.log_q, s.log_q_symmetric, s.bound, s.best_bound)
        for label, s in samples.items()
        if s.log_joint is not None and s.log_q is not None
    }
    known = {label: s.evidence for label, s in samples.items() if s.evidence}
    weighted = {
        f"importance sampling from {label}": found.log_evidence
        for label, found in importance.items()
        if found.word in ("good", "usable", "constant")
        and (found.proposal == "symmetrised q" or _components(samples[label]) == 1)
    }
    return ladder(terms, known or weighted)


def _components(sample: Sample) -> int:
    return int(next(iter(sample.columns.values())).shape[-1])


def _overlap(how: Relabelling) -> str:
    return (
        f"components overlap: {100 * how.moved:.0f} % of the reference's draws were "
        f"relabelled, {100 * how.ambiguous:.0f} % are near ties between two "
        "labellings, so verdicts rest on label-invariant quantities only"
    )
