"""The comparison of several posteriors of one model against a reference."""

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
from vi_bench.comparison.measured import Measured, distances_between, measure
from vi_bench.comparison.measures import (
    Distance,
    Summary,
    summarise,
)
from vi_bench.comparison.modes import Mode, find_modes, weighted
from vi_bench.comparison.quantities import (
    HELD_OUT,
    Quantity,
    by_component,
)
from vi_bench.comparison.relabel import Relabelling
from vi_bench.comparison.sample import Sample
from vi_bench.comparison.side_by_side import Tick
from vi_bench.comparison.verdict import (
    Case,
    Margin,
    Verdict,
    case_of,
    jointly,
    judge,
    unreliable,
)

ModeEvidence = Callable[[str, Sequence[Mode]], Mapping[int, float]]
"""(label, modes) -> log evidence of each mode by its position, in nats.

A lower bound will do if its gap is alike in all modes.
"""


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        reference: label of the reference.
        samples: label -> the draws that were compared.
        relabelled: label -> columns permuted to the pivot.
        relabellings: label -> the permutation of each draw.
        invariants: label -> quantity -> label-invariant draws (chain, draw).
        summaries: label -> quantity -> Summary; relabelled parameters included.
        modes: label -> groups of chains in one mode each; usually one group.
        distances: label -> quantity -> Distance, for all but the reference.
        judged: the quantities that verdicts rest on.
        verdicts: label -> Verdict, for all but the reference.
        importance: label -> importance-sampling diagnostics of a variational q.
        evidence: bounds on log p(X), estimates of it, and the gaps; None if none.
        coverage: the known optima, and the best one that each method misses.
        margin: the equivalence margins.
        doubted: whether nothing is judged because a reliable check differs from the
            reference.
        note: what a reader of the verdicts must know; empty if nothing.
    """

    reference: str
    samples: dict[str, Sample]
    relabelled: dict[str, dict[Quantity, np.ndarray]]
    relabellings: dict[str, Relabelling]
    invariants: dict[str, dict[Quantity, np.ndarray]]
    summaries: dict[str, dict[Quantity, Summary]]
    modes: dict[str, tuple[Mode, ...]] = field(default_factory=dict)
    distances: dict[str, dict[Quantity, Distance]] = field(default_factory=dict)
    judged: tuple[Quantity, ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    importance: dict[str, Importance] = field(default_factory=dict)
    evidence: Ladder | None = None
    note: str = ""
    coverage: Coverage = field(default_factory=Coverage)
    margin: Margin = field(default_factory=Margin)
    doubted: bool = False

    @cached_property
    def examination(self) -> Examination:
        """Joint distances, co-clustering and predictions, computed on first access."""
        known = self.summaries[self.reference]
        identifiable = self.relabellings[self.reference].identifiable
        scalars = {
            label: by_component(self.relabelled[label]) | _own(sample.shared)
            if identifiable
            else self.invariants[label]
            for label, sample in self.samples.items()
        }
        names = tuple(n for n in known if all(n in s for s in scalars.values()))
        return examine(self.samples, self.reference, scalars, names, self.margin.mean)

    def noted(self, *notes: str) -> Comparison:
        """A copy with further notes; empty ones are ignored."""
        return self.saying(note="; ".join(filter(None, [self.note, *notes])))

    def saying(self, **changes: Any) -> Comparison:
        """A copy with some fields replaced, the draws being the same.

        An examination that was computed is kept, as it takes half a second a method.
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
    tick: Tick | None = None,
) -> Comparison:
    """Compare every sample with the reference.

    Args:
        samples: label -> draws, all of the same model.
        reference: the label that the others are compared with.
        margin: the equivalence margins; 0.1 sd and 10 % by default.
        mode_evidence: called with the modes of a method whose chains sit in several.
        coverage: the known optima of the bound, and the methods that miss one.
        tick: told of the progress.
    """
    margin, coverage = margin or Margin(), coverage or Coverage()
    known = measure(samples, reference, tick)
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
    terms, importance = terms_of(samples), {}
    for label, own in terms.items():
        at = samples[label].where_evaluated
        values = {name: at(v) for name, v in known.scalars[label].items()}
        importance[label] = weigh(own.log_joint, own.log_q, values, own.log_q_symmetric)
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
        _evidence(samples, terms, importance, known.summaries, modes, coverage),
        known.note,
        coverage,
        margin,
    )
    return _looked_at_jointly(compared)


def terms_of(samples: Mapping[str, Sample]) -> dict[str, Terms]:
    """Log densities of the draws of a q, where both are known."""
    found = {}
    for label, s in samples.items():
        if s.log_joint is not None and s.log_q is not None:
            at, symmetric = s.where_evaluated, s.log_q_symmetric
            even = None if symmetric is None else at(symmetric)
            found[label] = Terms(s.log_joint, at(s.log_q), even, s.bound, s.best_bound)
    return found


def _own(shared: Mapping[Quantity, np.ndarray]) -> dict[Quantity, np.ndarray]:
    """Shared parameters; the held-out density is a function of all parameters."""
    return {k: v for k, v in shared.items() if k != HELD_OUT}


def _looked_at_jointly(found: Comparison) -> Comparison:
    """`agrees` becomes `agrees in marginals` where a joint test finds a difference."""
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
    found: Mapping[Quantity, np.ndarray],
    mode_evidence: ModeEvidence | None,
) -> tuple[Mode, ...]:
    modes = find_modes(found, sample.log_joint)
    if len(modes) > 1 and mode_evidence is not None:
        return weighted(modes, mode_evidence(label, modes))
    return modes


def _case(
    known: Measured,
    label: str,
    mode: Mode,
    whole: Mapping[Quantity, Distance],
    margin: Margin,
) -> Case:
    """The tests behind the verdict on the chains of one mode.

    Args:
        known: summaries and draws of all methods.
        label: label of the method.
        mode: the mode whose chains are tested.
        whole: distances of all its chains, reused where the mode has all of them.
        margin: the equivalence margins.
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
        found = distances_between(part, theirs, trusted, own)
    size = next(iter(part.values())).size if part else 0
    pairs = worst_correlations(part, own, theirs, trusted, margin)
    return case_of(found, own, margin, size, known.certain[label], pairs)


def _verdicts(
    known: Measured,
    distances: Mapping[str, Mapping[Quantity, Distance]],
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
    terms: Mapping[str, Terms],
    importance: Mapping[str, Importance],
    summaries: Mapping[str, Mapping[Quantity, Summary]],
    modes: Mapping[str, Sequence[Mode]],
    coverage: Coverage,
) -> Ladder | None:
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
            found.proposal == "symmetrised q" or samples[label].components == 1
        ):
            name = f"importance sampling from {label}"
            claims[name] = Claim(found.log_evidence, False, beside)
    return ladder(terms, claims, beside)


CHIB_R_HAT, CHIB_ESS = 1.05, 100.0
"""Largest R-hat and smallest ESS of any quantity with which an evidence is used."""


def _unmixed(
    label: str,
    summaries: Mapping[Quantity, Summary],
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
