"""The comparison of several posteriors of one mixture against a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from vi_bench.comparison.correlation import worst_correlations
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.evidence import Claim, Ladder, Terms, ladder
from vi_bench.comparison.examination import Examination, examine
from vi_bench.comparison.importance import Importance, weigh
from vi_bench.comparison.joint import told_apart
from vi_bench.comparison.measures import (
    Distance,
    Estimate,
    Summary,
    distance,
    summarise,
)
from vi_bench.comparison.modes import Mode, find_modes, weighted
from vi_bench.comparison.quantities import (
    WEIGHT,
    by_component,
    constant,
    invariants,
    rare,
)
from vi_bench.comparison.relabel import Relabelling, find_pivot, points, relabel
from vi_bench.comparison.verdict import (
    FRACTION,
    Case,
    Margin,
    Verdict,
    case_of,
    jointly,
    judge,
    unreliable,
)

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
        e_bfmi: the smallest over chains, of a Hamiltonian sampler, or None.
        weighs: whether the method weighs modes against one another, as enumeration and
            populations that start from the prior do, and a chain in one mode does not.
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
    e_bfmi: float | None = None
    weighs: bool = False

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
        coverage: the optima that are known, and which method never visits one.
        margin: what still counts as agreement.
        doubted: whether nothing is judged because a check that is fit, too, differs.
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
    coverage: Coverage = field(default_factory=Coverage)
    margin: Margin = field(default_factory=Margin)
    doubted: bool = False

    @cached_property
    def examination(self) -> Examination:
        """Joint distances, co-clustering, predictions; when first asked for."""
        return examine(self)

    def noted(self, *notes: str) -> Comparison:
        """The same with further notes; empty ones say nothing."""
        return self.saying(note="; ".join(filter(None, [self.note, *notes])))

    def saying(self, **changes: Any) -> Comparison:
        """The same draws with other verdicts or notes.

        What was examined of them stays: it takes half a second a method.
        """
        other = replace(self, **changes)
        if "examination" in self.__dict__:
            other.__dict__["examination"] = self.examination
        return other

    def min_ess(self, label: str) -> float:
        """The smallest bulk ESS of a method over the judged quantities."""
        found = [self.summaries[label][name].ess_bulk for name in self.judged]
        return min(found) if found else np.nan


def compare(
    samples: Mapping[str, Sample],
    reference: str,
    margin: Margin | None = None,
    mode_evidence: ModeEvidence | None = None,
    coverage: Coverage | None = None,
) -> Comparison:
    """Compare every sample with the reference.

    Args:
        samples: label -> draws, all of the same mixture.
        reference: the label that the others are compared with.
        margin: what still counts as agreement; 0.1 sd and 10 % by default.
        mode_evidence: asked for the modes of a method whose chains sit in several.
        coverage: which optima of the bound are known, and who never visits one.
    """
    margin, coverage = margin or Margin(), coverage or Coverage()
    known = measure(samples, reference)
    modes = {
        label: _modes(label, sample, known.invariants[label], mode_evidence)
        for label, sample in samples.items()
    }
    why = unreliable(
        {n: known.summaries[reference][n] for n in known.judged},
        samples[reference].divergent,
        modes[reference],
        coverage.missed.get(reference),
        samples[reference].e_bfmi,
    )
    others = [label for label in samples if label != reference]
    importance = {
        label: weigh(s.log_joint, s.log_q, known.scalars[label], s.log_q_symmetric)
        for label, s in samples.items()
        if s.log_joint is not None and s.log_q is not None
    }
    distances = {label: known.distances(label) for label in others}
    compared = Comparison(
        reference,
        dict(samples),
        known.relabelled,
        known.relabellings,
        known.invariants,
        known.summaries,
        modes,
        distances,
        known.judged,
        _verdicts(known, distances, modes, margin, why),
        importance,
        _evidence(samples, importance, known.summaries, modes, coverage),
        known.note,
        coverage,
        margin,
    )
    return _looked_at_jointly(compared)


@dataclass(frozen=True)
class Measured:
    """What is known of draws before anything is judged; fields as in `Comparison`.

    Attributes:
        reference: label of the reference.
        scalars: label -> quantity -> (chain, draw), all that are compared.
        certain: label -> differences that are beyond doubt, in words.
        note: what is not compared, and why.
    """

    reference: str
    relabelled: dict[str, dict[str, np.ndarray]]
    relabellings: dict[str, Relabelling]
    invariants: dict[str, dict[str, np.ndarray]]
    scalars: dict[str, dict[str, np.ndarray]]
    summaries: dict[str, dict[str, Summary]]
    judged: tuple[str, ...]
    certain: dict[str, list[str]]
    note: str

    def distances(self, label: str) -> dict[str, Distance]:
        """Every quantity of a method against the reference's."""
        theirs = self.reference
        return _distances(
            self.scalars[label],
            self.scalars[theirs],
            self.summaries[theirs],
            self.summaries[label],
        )

    def effort(self, label: str, margin: Margin) -> float:
        """By what factor its draws have to grow until its errors are small enough.

        Until the Monte-Carlo error of every judged mean and sd is under FRACTION of its
        margin. Nothing of how far the method is from the reference enters: draws that
        are decided by precision leave the verdict's error rates as they are.
        """
        trusted, own = self.summaries[self.reference], self.summaries[label]
        allowed = FRACTION * margin.mean, FRACTION * margin.band("sd")
        found = [0.0]
        for name in self.judged:
            if name not in own or not own[name].sd.value > 0:
                continue
            mean, sd = own[name].mean, own[name].sd
            errors = mean.se / trusted[name].sd.value, sd.se / sd.value
            found += [(e / a) ** 2 for e, a in zip(errors, allowed, strict=True)]
        return float(np.nanmax(found))


def measure(samples: Mapping[str, Sample], reference: str) -> Measured:
    """Relabel all draws to one pivot and summarise every quantity.

    Args:
        samples: label -> draws, all of the same mixture.
        reference: whose draws give the pivot and the units.
    """
    trusted = samples[reference]
    pivot = find_pivot(
        points(trusted.columns), trusted.log_joint, trusted.columns.get(WEIGHT)
    )
    relabellings, relabelled, invariant, scalars = {}, {}, {}, {}
    for label, sample in samples.items():
        how = relabel(points(sample.columns), pivot, sample.columns.get(WEIGHT))
        moved = {name: how.apply(v) for name, v in sample.columns.items()}
        found = invariants(sample.columns, sample.shared, sample.log_joint)
        scalars[label] = found | by_component(moved)
        relabellings[label], relabelled[label], invariant[label] = how, moved, found
    identifiable = relabellings[reference].identifiable
    looked_at = scalars if identifiable else invariant
    certain = {
        label: _certain(looked_at[label], looked_at[reference], reference)
        for label in samples
    }
    empty = _drop_idle(scalars, invariant, reference)
    summaries = {
        label: {k: summarise(v) for k, v in known.items()}
        for label, known in scalars.items()
    }
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


def _certain(
    mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], reference: str
) -> list[str]:
    """Quantities that the reference holds fixed, and these draws elsewhere or not."""
    found = []
    for name, fixed in theirs.items():
        if name not in mine or rare(name, fixed) or not constant(fixed):
            continue
        value, draws = float(fixed.flat[0]), mine[name]
        if np.allclose(draws, value, rtol=1e-9, atol=0):
            continue
        low, high = float(draws.min()), float(draws.max())
        own = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        found.append(f"{name} is {value:g} in every draw of {reference}, here {own}")
    return found


def _drop_idle(
    scalars: dict[str, dict[str, np.ndarray]],
    invariant: dict[str, dict[str, np.ndarray]],
    reference: str,
) -> list[str]:
    """Drop what the reference gives no unit for; returns the weights among these."""
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
    scalars: Mapping[str, Mapping[str, np.ndarray]],
    empty: Sequence[str],
) -> str:
    """What no verdict rests on although the reference has it."""
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


def _looked_at_jointly(found: Comparison) -> Comparison:
    """Where single quantities agree: whether a classifier tells the draws apart."""
    agreeing = [k for k, v in found.verdicts.items() if v.word == "agrees"]
    if not agreeing:
        return found
    known, shift = found.examination, found.margin.mean
    verdicts = dict(found.verdicts)
    for label in agreeing:
        if label in known.joint:
            verdicts[label] = jointly(
                verdicts[label], told_apart(known.joint[label], shift)
            )
    return found.saying(verdicts=verdicts)


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


def _case(
    known: Measured,
    label: str,
    mode: Mode,
    whole: Mapping[str, Distance],
    margin: Margin,
) -> Case:
    """What the verdict on the chains of one mode rests on.

    Args:
        known: of all draws.
        label: of the method.
        mode: which of its chains.
        whole: the distances of all its chains, which need not be measured again.
        margin: what still counts as agreement.
    """
    scalars, theirs = known.scalars[label], known.scalars[known.reference]
    names = [n for n in known.judged if n in scalars]
    part = {n: scalars[n][list(mode.chains)] for n in names}
    trusted = {n: known.summaries[known.reference][n] for n in known.judged}
    if all(len(mode.chains) == len(scalars[n]) for n in names):
        own = {n: known.summaries[label][n] for n in names}
        found = {n: whole[n] for n in names}
    else:
        own = {name: summarise(draws) for name, draws in part.items()}
        found = _distances(part, theirs, trusted, own)
    size = next(iter(part.values())).size if part else 0
    pairs = worst_correlations(part, own, theirs, trusted, margin)
    return case_of(found, own, margin, size, known.certain[label], pairs)


def _verdicts(
    known: Measured,
    distances: Mapping[str, Mapping[str, Distance]],
    modes: Mapping[str, Sequence[Mode]],
    margin: Margin,
    unfit: str,
) -> dict[str, Verdict]:
    """The verdict on every method; chains in different modes are not pooled."""
    if unfit:
        return dict.fromkeys(distances, Verdict("reference unreliable", unfit))
    cases = {
        label: [_case(known, label, mode, whole, margin) for mode in modes[label]]
        for label, whole in distances.items()
    }
    judged = iter(judge([case for group in cases.values() for case in group]))
    return {
        label: _of_modes(modes[label], [next(judged) for _ in group])
        for label, group in cases.items()
    }


def _of_modes(modes: Sequence[Mode], words: Sequence[Verdict]) -> Verdict:
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
    samples: Mapping[str, Sample],
    importance: Mapping[str, Importance],
    summaries: Mapping[str, Mapping[str, Summary]],
    modes: Mapping[str, Sequence[Mode]],
    coverage: Coverage,
) -> Ladder | None:
    terms = {
        label: Terms(s.log_joint, s.log_q, s.log_q_symmetric, s.bound, s.best_bound)
        for label, s in samples.items()
        if s.log_joint is not None and s.log_q is not None
    }
    claims = {
        label: Claim(
            s.evidence,
            s.weighs,
            "" if s.weighs else _unmixed(label, summaries[label], modes, coverage),
        )
        for label, s in samples.items()
        if s.evidence
    }
    beside = coverage.beside()
    for label, found in importance.items():
        if found.word in ("good", "usable", "constant") and (
            found.proposal == "symmetrised q" or _components(samples[label]) == 1
        ):
            name = f"importance sampling from {label}"
            claims[name] = Claim(found.log_evidence, False, beside)
    return ladder(terms, claims, beside)


CHIB_R_HAT, CHIB_ESS = 1.05, 100.0
"""What a chain must reach in every quantity for its evidence to be believed."""


def _unmixed(
    label: str,
    summaries: Mapping[str, Summary],
    modes: Mapping[str, Sequence[Mode]],
    coverage: Coverage,
) -> str:
    """Why the evidence of a chain is withheld; empty if it is not."""
    if len(modes[label]) > 1:
        return "its chains sit in different modes"
    if (missed := coverage.missed.get(label)) is not None:
        return f"its chains never visit {missed.say()}"
    moving = [s for s in summaries.values() if s.sd.value > 0]
    worst = max((s.r_hat for s in moving), default=np.nan)
    least = min((s.ess_bulk for s in moving), default=np.nan)
    if worst > CHIB_R_HAT or not least >= CHIB_ESS:
        return f"its chains have not mixed (R-hat {worst:.2f}, ESS {least:.0f})"
    return ""


def _components(sample: Sample) -> int:
    return int(next(iter(sample.columns.values())).shape[-1])


def _overlap(how: Relabelling) -> str:
    return (
        f"components overlap: {100 * how.moved:.0f} % of the reference's draws were "
        f"relabelled, {100 * how.ambiguous:.0f} % are near ties between two "
        "labellings, so verdicts rest on label-invariant quantities only"
    )
