"""The methods of a run: each is run, given further draws, and compared."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from vi_bench.comparison import Comparison, Margin, Sample
from vi_bench.comparison.budgets import Curves
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.measured import measure
from vi_bench.comparison.modes import Mode
from vi_bench.contract import Outcome
from vi_bench.errors import InputError, NotApplicable, Unfinished, one_line
from vi_bench.runner.curves import curves as error_against_time
from vi_bench.runner.evaluate import ENOUGH, WORK
from vi_bench.runner.infer import Place, infer, prolong, settle
from vi_bench.runner.reference import (
    Reference,
    hold_against,
    hopeless,
    stand_in,
    unjudged,
)
from vi_bench.runner.result import MethodRun
from vi_bench.runner.samples import sample_of, weighs
from vi_bench.runtime.cluster import PeerLost, lost
from vi_bench.runtime.interrupts import obeying
from vi_bench.runtime.keys import stream
from vi_bench.spec import AUTO, Spec

POOR = 10.0
"""Nats that a marginal ELBO may lie below the best one in a run."""

ROUNDS = 3
"""Rounds of adding draws: the errors that say how many are themselves estimates."""


Made = TypeVar("Made")


@dataclass
class Inquiry:
    """The methods of a run, and the course of their comparison.

    Attributes:
        spec: the specification.
        place: what all methods share.
        runs: label -> result; a replacement for the reference is added.
        reference: label of the reference, and of its check.
        settings: makes the context of JAX's settings.
        interrupted: whether Ctrl-C ended it; finished methods are kept.
        seen: the known optima, and the samplers that miss one.
        notes: remarks for a reader of the verdicts.
    """

    spec: Spec
    place: Place
    runs: dict[str, MethodRun]
    reference: Reference
    settings: Callable[[], AbstractContextManager[None]]
    interrupted: bool = False
    seen: Coverage = field(default_factory=Coverage)
    notes: list[str] = field(default_factory=list)

    def run_all(self) -> None:
        """Run every method, until an interrupt."""
        for label in list(self.runs):
            self._run(label)
            if self.interrupted:
                return
        first = next(iter(self.runs))
        if all(run.outcome.status == "skipped" for run in self.runs.values()):
            raise InputError(f"method {first!r}: {self.runs[first].outcome.sentence}")

    def _run(self, label: str) -> None:
        """Run one method; its failure does not stop the others."""
        run = self.runs[label]
        try:
            obeying(partial(infer, self.place, label, run), self.settings)
        except KeyboardInterrupt:
            # the abandoned thread keeps the old object
            run = self.runs[label] = MethodRun(run.method)
            run.outcome = Outcome("skipped", "interrupted")
            self.interrupted = True
        except NotApplicable as reason:
            run.outcome = Outcome("skipped", str(reason))
        except Unfinished as reason:
            run.outcome = Outcome("failed", str(reason))
        except InputError:
            raise
        except Exception as error:
            if lost(error):
                raise PeerLost(str(error)) from error
            run.outcome = Outcome("failed", one_line(error))
            run.draws, run.error = None, traceback.format_exc()
        self.place.watcher.end(label, run.outcome.status)

    def compare(self) -> Comparison | None:
        """Compare with a reliable reference, after further draws where asked for.

        More draws do not cure a reference whose chains sit in several modes, or miss
        one: under `reference = "auto"` another sampler replaces it.
        """
        self._look()
        found = self._held()
        if found is None:
            return self._aligned(found)
        fixed = self.spec.draws != AUTO and unjudged(found) and not found.doubted
        if fixed or hopeless(found):
            found = self._with_stand_in(found)
        if self.spec.draws == AUTO and not hopeless(found):
            self._prolong(found.reference, torn(found))
            found = self._held() or found
            if unjudged(found) and not found.doubted:
                found = self._with_stand_in(found)
        return self._aligned(found)

    def _with_stand_in(self, found: Comparison) -> Comparison:
        """Compare with a sampler that moves between modes, if allowed and reliable."""
        if self.spec.reference != AUTO or self.interrupted:
            return found
        label, why = stand_in(self.place.problem, self.runs)
        if not label:
            self.notes.append(why)
            return self._held() or found
        if label == self.reference.label:
            return found
        if not self.runs[label].usable:
            self._run(label)
        self._look()
        if self.spec.draws == AUTO and self.runs[label].usable:
            self._prolong(label, torn(found))
        before, self.reference = self.reference, Reference(label)
        other = self._held()
        if other is None or unjudged(other):
            self.reference = before
            reasons = [v.reason for v in (other.verdicts if other else {}).values()]
            said = reasons[0] if reasons else self.runs[label].outcome.sentence
            self.notes.append(f"{label} cannot stand in as the reference: {said}")
        else:
            why = next(iter(found.verdicts.values())).reason
            said = f"{found.reference} failed the reference diagnostics ({why})"
            self.notes.append(f"{said}; {label} is used instead")
        return self._held() or found

    def _prolong(self, reference: str, stopped: set[str]) -> None:
        """Add draws to every method until its Monte-Carlo errors are small enough.

        Args:
            reference: label of the reference, whose sds are the unit.
            stopped: labels that more draws would not help; extended here.
        """
        margin = Margin(self.spec.margin, self.spec.sd_margin)
        if self.interrupted:
            return
        for _ in range(ROUNDS):
            samples = self._samples()
            if reference not in samples:
                return
            known = measure(samples, reference)
            wanted = {label: known.effort(label, margin) for label in samples}
            wanted = {k: v for k, v in wanted.items() if v > 1 and k not in stopped}
            if not wanted:
                return
            for label, effort in wanted.items():
                if self._add(label, effort):
                    stopped.add(label)
                if self.interrupted:
                    return

    def _add(self, label: str, effort: float) -> bool:
        """Increase one method's draws by a factor; returns whether a limit ended it."""
        run = self.runs[label]
        assert run.resumption is not None
        wanted = int(np.ceil(len(run.resumption.batches) * effort))
        try:
            more = partial(prolong, self.place, label, run, wanted)
            obeying(more, self.settings)
        except KeyboardInterrupt:
            run = self.runs[label] = run.copy()  # with the batches that are finished
            settle(self.place, run)
            self.interrupted = True
        except Exception as error:
            if lost(error):
                raise PeerLost(str(error)) from error
            run.error = traceback.format_exc()
        assert run.resumption is not None
        run.short = len(run.resumption.batches) < wanted
        return run.short

    def _samples(self) -> dict[str, Sample]:
        return {
            label: sample_of(run, self.place.target)
            for label, run in self.runs.items()
            if run.usable
        }

    def _look(self) -> None:
        """Find the known optima, and the samplers that miss one.

        If the search fails or is interrupted, the earlier result stays and a note says
        so: a reference that misses a mode might then be trusted.
        """
        if self.reference.label is None:
            return
        place = self.place
        weighing = frozenset(k for k, run in self.runs.items() if weighs(run))
        look = partial(
            place.target.coverage, self.runs, weighing, stream(place.key, "optima")
        )
        seen, why = self._obeyed(look)
        if seen is None:
            self.notes.append(f"modes that no method visits were not looked for: {why}")
        else:
            self.seen = seen

    def _obeyed(self, work: Callable[[], Made]) -> tuple[Made | None, str]:
        """What some work makes; or None, and why: an interrupt, or its error."""
        try:
            if not self.interrupted:
                return obeying(work, self.settings), ""
        except KeyboardInterrupt:
            self.interrupted = True
        except Exception as error:
            if lost(error):
                raise PeerLost(str(error)) from error
            return None, one_line(error)
        return None, "interrupted"

    def _held(self) -> Comparison | None:
        samples = self._samples()
        margin = Margin(self.spec.margin, self.spec.sd_margin)

        def ask(label: str, modes: Sequence[Mode]) -> Mapping[int, float]:
            return self.place.target.mode_bounds(self.runs[label], modes)

        found = hold_against(samples, self.reference, margin, ask, self.seen)
        if found is None:
            return None
        return found.noted(
            *self.notes,
            *self.place.target.notes,
            contradicted(found, samples),
            without_log_joints(samples),
        )

    def curves(
        self, found: Comparison | None
    ) -> tuple[Curves | None, Comparison | None]:
        """Error against time of every method, where that was asked for.

        The comparison comes back with a note where it could not be measured.
        """
        if found is None or not self.spec.curves:
            return None, found
        look = partial(
            error_against_time,
            self.place,
            self.runs,
            found.reference,
            self.spec.margin,
        )
        made, why = self._obeyed(look)
        if made is None:
            found = found.noted(f"error against time was not measured: {why}")
        return made, found

    def _aligned(self, found: Comparison | None) -> Comparison | None:
        note_poor_optima(self.runs)
        if found is not None:
            align(self.runs, found)
        return found


def torn(found: Comparison) -> set[str]:
    """Labels of methods whose chains sit in different modes, despite more draws."""
    return {label for label, modes in found.modes.items() if len(modes) > 1}


def contradicted(found: Comparison, samples: Mapping[str, Sample]) -> str:
    """A note on samplers that weigh modes and differ from a reference that does not.

    Empty where optima were looked for: there it is known which modes are missed.
    """
    if found.coverage.optima or samples[found.reference].weighs:
        return ""
    against = [
        label
        for label, verdict in found.verdicts.items()
        if samples[label].weighs and verdict.word == "differs"
    ]
    if not against:
        return ""
    one = against[0]
    return (
        f"{', '.join(against)} and the reference {found.reference} cannot both be "
        f"right, and {found.reference} may have missed a mode, which it does not "
        f"weigh by its mass as {one} does: --reference {one}, or auto"
    )


def without_log_joints(samples: Mapping[str, Sample]) -> str:
    """A note on log joints that were too expensive to compute; empty if none was."""
    notes = []
    without = [label for label, sample in samples.items() if sample.log_joint is None]
    if without:
        notes.append(
            f"log joints of {', '.join(without)} were not computed, nor what rests on "
            f"them (k-hat, evidence): over {WORK:.0e} terms"
        )
    for label, sample in samples.items():
        if sample.log_joint is not None and sample.log_joint_of_all is None:
            notes.append(
                f"bounds and k-hat of {label} are from {sample.log_joint.size} of its "
                f"{np.prod(sample.shape)} draws: log joints of all are over "
                f"{ENOUGH:.0e} terms"
            )
    return "; ".join(notes)


def note_poor_optima(runs: Mapping[str, MethodRun]) -> None:
    """Call a fit suspect if its marginal ELBO lies far below the best one in the run.

    An optimiser that has converged may have converged to a poor local optimum.
    """
    bounds = {
        label: bound
        for label, run in runs.items()
        if run.usable and (bound := run.marginal_bound())[0] is not None
    }
    if not bounds:
        return
    best = max(bounds, key=lambda label: bounds[label][0] or -np.inf)
    # the best of many restarts is taken for the optimum of its form of q
    bounds = {k: v for k, v in bounds.items() if not has_restarts(runs[k])} | {
        best: bounds[best]
    }
    top = bounds[best][0]
    for label, (value, se) in bounds.items():
        below = (top or 0.0) - (value or 0.0)
        outcome = runs[label].outcome
        if below > POOR + 5 * (se or 0.0) and outcome.status in (
            "converged",
            "suspect",
        ):
            said = (
                f"a poor optimum, or a q of too narrow a form: its marginal ELBO lies "
                f"{below:.1f} nats below that of {best}"
            )
            runs[label].outcome = Outcome("suspect", f"{said}; {outcome.sentence}")


def has_restarts(run: MethodRun) -> bool:
    """Whether a fit is the best of several starts."""
    return run.draws is not None and run.draws.optima is not None


def align(runs: Mapping[str, MethodRun], found: Comparison) -> None:
    """Relabel the components of linear response as the comparison labels them."""
    for label, run in runs.items():
        if run.response is not None and label in found.relabellings:
            order = found.relabellings[label].usual
            run.response = run.response.reordered(order.tolist())
