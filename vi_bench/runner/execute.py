"""One run: its methods are run and compared, all by the same code."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.comparison import Comparison, Margin, Sample
from vi_bench.comparison.coverage import Coverage
from vi_bench.comparison.measured import measure
from vi_bench.comparison.modes import Mode
from vi_bench.comparison.quantities import HELD_OUT, WEIGHT
from vi_bench.contract import Outcome, Problem, told
from vi_bench.data.load import load
from vi_bench.data.table import Table
from vi_bench.errors import InputError, NotApplicable, SpecError, one_line
from vi_bench.mixture.compared_quantities import compared
from vi_bench.mixture.mixture import bind, centre_at
from vi_bench.runner.evaluate import WORK, best_draw
from vi_bench.runner.infer import Place, infer, prolong, settle
from vi_bench.runner.known_labels import agreement
from vi_bench.runner.reference import (
    Reference,
    choose,
    hold_against,
    hopeless,
    stand_in,
    unjudged,
)
from vi_bench.runner.result import MethodRun
from vi_bench.runner.views import Result
from vi_bench.runner.visited_optima import climbs, coverage, log_copies
from vi_bench.runtime.cluster import PeerLost, lost
from vi_bench.runtime.environment import computing, describe, find_device, find_mesh
from vi_bench.runtime.interrupts import obeying
from vi_bench.runtime.keys import stream
from vi_bench.runtime.progress import Watcher
from vi_bench.spec import AUTO, Spec

POOR = 10.0
"""Nats that a marginal ELBO may lie below the best one in a run."""

ROUNDS = 3
"""Rounds of adding draws: the errors that say how many are themselves estimates."""


def check(spec: Spec, family: Any, table: Table) -> None:
    """Check that the family and the number of components fit the data.

    Raises:
        InputError: they do not.
    """
    rows = len(table) - spec.held_out
    if spec.components > rows:
        left = f" when {spec.held_out} are held out" if spec.held_out else ""
        raise SpecError(
            f"components = {spec.components}, the data {table.name!r} have "
            f"{max(rows, 0)} rows{left}; expected at most as many components as rows"
        )
    if spec.labels is not None and "labels" not in table.truth:
        raise SpecError(
            f"labels = {spec.labels!r}: the data {table.name!r} have no such column; "
            "expected a text file with it"
        )
    centre = centre_at(family, table.mean)
    for part in table.parts():
        family.check(part)
        if spec.precision == 32 and np.abs(part.values - centre).max() > 1e15:
            raise SpecError("precision 32: values over 1e15 overflow when squared")


def execute(
    spec: Spec,
    table: Table,
    watcher: Watcher,
    checkpoint: Path | None = None,
) -> Result:
    """Run every method of a spec and compare them; nothing is written.

    Args:
        spec: what to run.
        table: the data, before `spec.standardise`.
        watcher: told of the progress.
        checkpoint: file for the best q so far of the method that runs.

    Raises:
        InputError: the spec and the data do not fit each other.
        PeerLost: a process that shares the rows does not answer.
    """
    methods = spec.inference()
    family = spec.family()
    data = load(table, spec.standardise)
    held_out = np.empty((0, data.values.shape[1]))
    check(spec, family, data)
    if spec.held_out:
        data, set_aside = data.split(spec.held_out, spec.seed)
        held_out = set_aside.values
    family = family.complete(data.values, spec.components)
    weights = spec.mixing()
    mesh = find_mesh(spec.device, spec.devices)
    device = find_device(spec.device)
    with computing(device, spec.precision):
        dtype = jnp.float64 if spec.precision == 64 else jnp.float32
        mixture = bind(
            family,
            data.values if data.whole is None else data.whole.rows,
            spec.components,
            dtype,
            weights,
            mesh,
            centre=centre_at(family, data.mean),
            stream=spec.stream,
        )
        problem = Problem(mixture, spec.chains, spec.batch)
        reference = Reference(spec.held_against)
        if spec.reference == AUTO:
            reference, methods = choose(problem, methods)
        place = Place(
            problem,
            family.coordinates(data.features),
            held_out - mixture.data_centre,
            jax.random.key(spec.seed),
            spec.repeats,
            watcher,
            checkpoint,
        )
        runs = {label: MethodRun(method) for label, method in methods.items()}
        settings = partial(computing, device, spec.precision)
        inquiry = Inquiry(spec, place, runs, reference, settings)
        inquiry.run_all()
        found = inquiry.compare()
        known = None
        if spec.labels is not None and not inquiry.interrupted:
            known = agreement(mixture, data.truth["labels"], spec.labels, runs)
        for run in runs.values():
            run.resumption = None  # programs and batches are not part of a result
        environment = describe(device, spec.precision)
    return Result(
        spec,
        family,
        weights,
        data,
        np.asarray(mixture.data_centre),
        runs,
        found,
        environment,
        spec.plugins(),
        inquiry.interrupted,
        known,
    )


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
            label: sample_of(run, self.place)
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
        why = "interrupted"
        try:
            if not self.interrupted:
                look = partial(
                    coverage,
                    place.problem.mixture,
                    self.runs,
                    place.coordinates,
                    weighing,
                    stream(place.key, "optima"),
                )
                self.seen = obeying(look, self.settings)
                return
        except KeyboardInterrupt:
            self.interrupted = True
        except Exception as error:
            if lost(error):
                raise PeerLost(str(error)) from error
            why = one_line(error)
        self.notes.append(f"modes that no method visits were not looked for: {why}")

    def _held(self) -> Comparison | None:
        samples = self._samples()
        margin = Margin(self.spec.margin, self.spec.sd_margin)
        ask = partial(mode_bounds, self.place, self.runs)
        found = hold_against(samples, self.reference, margin, ask, self.seen)
        if found is None:
            return None
        return found.noted(*self.notes, without_log_joints(samples))

    def _aligned(self, found: Comparison | None) -> Comparison | None:
        note_poor_optima(self.runs)
        if found is not None:
            align(self.runs, found)
        return found


def torn(found: Comparison) -> set[str]:
    """Labels of methods whose chains sit in different modes, despite more draws."""
    return {label for label, modes in found.modes.items() if len(modes) > 1}


def without_log_joints(samples: Mapping[str, Sample]) -> str:
    """A note on log joints that were too expensive to compute; empty if none was."""
    without = [label for label, sample in samples.items() if sample.log_joint is None]
    if not without:
        return ""
    return (
        f"log joints of {', '.join(without)} were not computed, nor what rests on them "
        f"(k-hat, evidence): over {WORK:.0e} terms"
    )


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


def weighs(run: MethodRun) -> bool:
    """Whether a method's draws have modes in proportion to their posterior mass.

    A population that lost its particles, or replicas that never returned from the
    prior, tell no more of masses than a single chain does.
    """
    usual = run.method.kind in ("exact", "particles")
    able = bool(getattr(run.method, "weighs_modes", usual))
    return able and run.outcome.status == "sampled"


def sample_of(run: MethodRun, place: Place) -> Sample:
    """A method's draws and densities in the form that the comparison takes."""
    assert run.draws is not None
    assert run.evaluation is not None
    known = {k: np.asarray(v, float) for k, v in run.posterior.items()}
    family = place.problem.mixture.family
    columns, shared = compared(family, known, place.coordinates, known.get(WEIGHT))
    found, draws = run.evaluation, run.draws
    if found.held_out.shape[-1]:
        shared[HELD_OUT] = found.held_out.sum(axis=-1)
    diverging = draws.sample_stats.get("diverging")
    energy = draws.sample_stats.get("energy")
    best = told(draws.report, "restart_bound")
    return Sample(
        columns,
        shared,
        found.log_joint,
        0.0 if diverging is None else float(np.mean(diverging)),
        None if draws.log_q is None else np.asarray(draws.log_q, float),
        found.log_q_symmetric,
        run.reported("bound") if run.method.bound_keeps_labels else None,
        None if best is None else float(np.nanmax(best)),
        run.reported("log_evidence"),
        found.log_likelihood,
        found.held_out if found.held_out.shape[-1] else None,
        found.similarity,
        None if energy is None else e_bfmi(np.asarray(energy, float)),
        weighs(run),
    )


def e_bfmi(energy: np.ndarray) -> float:
    """The smallest energy Bayesian fraction of missing information of the chains.

    The mean squared step of the energy over its variance (Betancourt 2016), for
    energies (chain, draw); NaN where an energy never changes.
    """
    steps = np.mean(np.diff(energy, axis=1) ** 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min(steps / energy.var(axis=1)))


def align(runs: Mapping[str, MethodRun], found: Comparison) -> None:
    """Relabel the components of linear response as the comparison labels them."""
    for label, run in runs.items():
        if run.response is not None and label in found.relabellings:
            order = found.relabellings[label].usual
            run.response = run.response.reordered(order.tolist())


def mode_bounds(
    place: Place, runs: Mapping[str, MethodRun], label: str, modes: Sequence[Mode]
) -> dict[int, float]:
    """Index of a mode -> about its log mass: the ELBO that CAVI reaches from there.

    CAVI starts from the mode's best draw, and the log number of relabellings is added.
    The rest of the gap to the log mass is taken to be alike in all modes. Empty where
    the log joints are not known.
    """
    run, mixture = runs[label], place.problem.mixture
    assert run.draws is not None
    if run.log_joint is None:
        return {}
    theta = mixture.recentred(run.draws.parameters)
    best = [best_draw(theta, run.log_joint, mode.chains) for mode in modes]
    stacked = {
        name: jnp.asarray(np.stack([b[name] for b in best]), mixture.log_base.dtype)
        for name in best[0]
    }
    bounds, _, _, counts = climbs(mixture, jax.vmap(mixture.natural)(stacked))
    return dict(enumerate((bounds + log_copies(mixture, counts)).tolist()))
