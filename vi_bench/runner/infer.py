"""One method of a run: its timed stages, its draws' evaluation, and further draws."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vi_bench.contract import (
    Combines,
    Draws,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    told,
)
from vi_bench.errors import Unfinished
from vi_bench.inference.stages import call_until_done, drive, prepare
from vi_bench.runner.evaluate import Evaluation
from vi_bench.runner.programs import compile_stages
from vi_bench.runner.result import MethodRun, Resumption
from vi_bench.runner.target import Target
from vi_bench.runner.timing import run_stage
from vi_bench.runtime import checkpoint as kept
from vi_bench.runtime.environment import forget_programs
from vi_bench.runtime.keys import Key, stream
from vi_bench.runtime.progress import Watcher

FURTHER = "further draws"
"""Name of the stage that makes further draws, for its random key and progress bars."""

FEWEST = 4
"""Draws of a chain, if its time is over: convergence is not diagnosed with fewer."""

PATIENCE = 120.0
"""Seconds that further draws of one method may take."""

MOST = {"mcmc": 20, "particles": 12, "variational": 100, "exact": 100}
"""Kind of a method -> the most batches of draws that it makes."""


@dataclass(frozen=True)
class Place:
    """What all methods of a run share.

    Attributes:
        problem: the posterior, chains, and draws of one batch.
        target: what the run does with draws of that posterior.
        key: random key of the run; a method's own also depends on its label.
        repeats: timed runs of every stage, or None for the default.
        watcher: told of the progress.
        checkpoint: file for the best q so far, or None.
        budget: seconds that each method may take, compilation apart, or None.
    """

    problem: Problem
    target: Target
    key: Key
    repeats: int | None
    watcher: Watcher
    checkpoint: Path | None = None
    budget: float | None = None


def infer(place: Place, label: str, run: MethodRun) -> None:
    """Prepare a method, run and time its stages, and evaluate its draws.

    The results are put into `run`.

    Raises:
        Unfinished: its time was over before it had anything to show.
    """
    forget_programs()  # free those of earlier runs, if very many
    key = stream(place.key, label)
    keep = None
    if place.checkpoint is not None and jax.process_index() == 0:
        keep = partial(write_checkpoint, place.checkpoint, label)
    begun = time.perf_counter()
    stages = prepare(run.method, place.problem, key)
    run.setup_s = time.perf_counter() - begun
    run.resumption = resumption = Resumption()
    place.watcher.stage(label, "compilation", 0, len(stages))
    ready = compile_stages(stages, key, place.problem.posterior)

    def timed(stage: Stage, keys: Key, posterior: Posterior, carry: Any) -> Any:
        place.watcher.stage(label, stage.name, stages.index(stage), len(stages))
        found, run.stages[stage.name], program = run_stage(
            stage,
            keys,
            posterior,
            carry,
            place.repeats,
            place.watcher.tick,
            keep,
            left(place, run),
            ready.get(stage.name),
        )
        if run.stages[stage.name].cut:
            if stage.cut is None:
                made = run.stages[stage.name].calls
                raise Unfinished(
                    f"{stopped(place)}, after {made} of {stage.calls} parts of its "
                    f"{stage.name}: raise budget"
                )
            found = stage.cut(found)
        if stage.again:
            resumption.carry = carry if stage.again == "same" else found
        if stage.again or resumption.stages:
            resumption.stages.append((stage, program))
        return found

    raw: Draws = drive(stages, key, place.problem.posterior, timed)
    if run.cut and (made := _draws_each(raw)) < FEWEST:
        raise Unfinished(f"{stopped(place)}, with {made} draws a chain: raise budget")
    take(place, run, raw)
    settle(place, run)
    if raw.factors is not None and run.outcome.converged:
        run.response = place.target.response(raw)
        run.outcome = _ended(place, run)


def prolong(place: Place, label: str, run: MethodRun, batches: int) -> None:
    """Draw until a method has so many batches, or a limit, PATIENCE or MOST, is met.

    The programs are those of the first batch; nothing is compiled. Batches that are
    finished before an interrupt are kept.
    """
    resumption = run.resumption
    if resumption is None or not resumption.stages or run.cut:
        return
    most = min(batches, MOST[run.method.kind])
    begun = time.perf_counter() - resumption.spent
    of_budget = left(place, run)
    if of_budget is not None and of_budget <= resumption.spent:
        return
    patience = PATIENCE if of_budget is None else min(of_budget, PATIENCE)
    try:
        while len(resumption.batches) < most:
            place.watcher.stage(label, FURTHER, len(resumption.batches), most)
            started = time.perf_counter()
            raw = _further(place, label, resumption)
            run.further_s += time.perf_counter() - started
            ended = run.method.outcome(jax.tree.map(np.asarray, raw))
            if ended.status in ("failed", "not finite"):
                break  # the batches before it stay as they are
            take(place, run, raw)
            # processes that share the rows draw alike, whatever their clocks say
            alone = jax.process_count() == 1
            if alone and time.perf_counter() - begun > patience:
                break
    finally:
        resumption.spent = time.perf_counter() - begun
        settle(place, run)
        for stage, _ in resumption.stages:
            run.stages[stage.name].batches = len(resumption.batches)
    place.watcher.end(label, run.outcome.status)


def _further(place: Place, label: str, resumption: Resumption) -> Draws:
    """Make one more batch of draws."""
    key = stream(stream(place.key, label), FURTHER)
    key = jax.random.fold_in(key, len(resumption.batches))
    programs = {stage.name: program for stage, program in resumption.stages}
    first = resumption.stages[0][0]

    def again(stage: Stage, keys: Key, posterior: Posterior, carry: Any) -> Any:
        program = programs[stage.name]
        carry = call_until_done(
            stage, program, keys, posterior, carry, place.watcher.tick
        ).carry
        if stage is first and stage.again == "onward":
            resumption.carry = carry
        return carry

    stages = [stage for stage, _ in resumption.stages]
    found: Draws = drive(stages, key, place.problem.posterior, again, resumption.carry)
    return found


def take(place: Place, run: MethodRun, raw: Draws) -> None:
    """Keep a batch of draws, in the coordinates of the data, and its evaluation.

    The posterior evaluates draws in its own coordinates, so that comes first.
    """
    assert run.resumption is not None
    able = hasattr(run.method, "log_q") and getattr(run.method, "evaluates_q", True)
    method: Any = run.method if able else None
    evaluation = place.target.evaluate(raw, method)
    host = jax.tree.map(np.asarray, raw)
    moved = host._replace(
        parameters=place.target.uncentred(host.parameters),
        variational=place.target.uncentred(host.variational),
    )
    run.resumption.batches.append((moved, evaluation))


def settle(place: Place, run: MethodRun) -> None:
    """Join all batches of draws, their evaluations and reports, and the outcome."""
    assert run.resumption is not None
    batches = run.resumption.batches
    axis = 0 if run.method.kind == "particles" else 1
    draws = _joined([d for d, _ in batches], run.method, axis)
    evaluation = _evaluated([e for _, e in batches], axis)
    run.draws, run.evaluation = draws, evaluation
    run.outcome = _ended(place, run)
    run.shown = draws.report.summary() if isinstance(draws.report, Report) else {}
    run.posterior = place.target.subject.reported(draws.parameters, evaluation.made)


def left(place: Place, run: MethodRun) -> float | None:
    """Seconds of the budget that a method has not spent; None without a budget."""
    if place.budget is None:
        return None
    own = (timed for timed in run.stages.values() if timed.part_of_inference)
    return place.budget - run.setup_s - sum(timed.first_s for timed in own)


def stopped(place: Place) -> str:
    """Says of a method that its time was over."""
    return f"stopped when its budget of {place.budget:g} s was spent"


def _draws_each(raw: Draws) -> int:
    return int(next(iter(raw.parameters.values())).shape[1])


def _ended(place: Place, run: MethodRun) -> Outcome:
    """How a method ended: by itself, by its time, by its draws, by linear response."""
    found, draws = _judged(run), run.draws
    assert draws is not None
    if not run.cut or found.status in ("failed", "not finite"):
        return found
    if found.status == "iteration limit":  # what it says is of another limit
        made = told(draws.report, "iterations")
        after = "" if made is None else f" after {int(made)} iterations"
        return Outcome("iteration limit", f"{stopped(place)}{after}: raise budget")
    said = f"{found.sentence}; {stopped(place)}"
    if run.method.kind == "mcmc":
        number, asked = _draws_each(draws), place.problem.draws
        said += f", with {number} of {asked} draws a chain"
    return Outcome(found.status, said)


def _judged(run: MethodRun) -> Outcome:
    """How a method ended: by itself, by its draws, and by linear response at its q."""
    draws = run.draws
    assert draws is not None
    found: Outcome = run.method.outcome(draws)
    finite = all(np.all(np.isfinite(v)) for v in draws.parameters.values())
    if not finite and found.status != "not finite":
        return Outcome("not finite", "some draws are not finite")
    if found.converged and run.response is not None and run.response.gain > 0:
        return Outcome("suspect", run.response.refused)
    return found


def _joined(batches: Sequence[Draws], method: Any, axis: int) -> Draws:
    """Join batches along the axis of chains (0) or draws (1); combine their reports."""
    first = batches[0]
    if len(batches) == 1:
        return first
    reports = [b.report for b in batches]
    combined = method.combine(reports) if isinstance(method, Combines) else first.report

    def along(*parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts, axis=axis)

    return first._replace(
        parameters=jax.tree.map(along, *(b.parameters for b in batches)),
        sample_stats=jax.tree.map(along, *(b.sample_stats for b in batches)),
        log_q=None if first.log_q is None else along(*(b.log_q for b in batches)),  # type: ignore[arg-type]
        report=combined,
    )


def _evaluated(batches: Sequence[Evaluation], axis: int) -> Evaluation:
    """Join the evaluations of batches.

    Log densities by row, which leave-one-out needs, stay those of the first batch:
    rows, not draws, dominate the error of that estimate.
    """
    first = batches[0]
    if len(batches) == 1:
        return first

    def along(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        known = [p for p in parts if p is not None]
        return np.concatenate(known, axis=axis) if known else None

    similar = [b.similarity for b in batches if b.similarity is not None]
    similarity = None
    if similar:
        joined = np.concatenate(similar) if axis == 0 else np.mean(similar, axis=0)
        similarity = np.asarray(joined)
    held_out = along([b.held_out for b in batches])
    assert held_out is not None
    evaluated, draws = first.evaluated, first.held_out.shape[1]
    if axis == 1:
        evaluated = np.concatenate([evaluated + i * draws for i in range(len(batches))])
    return first._replace(
        evaluated=evaluated,
        log_joint=along([b.log_joint for b in batches]),
        similarity=similarity,
        held_out=held_out,
        log_q_symmetric=along([b.log_q_symmetric for b in batches]),
        made={
            name: np.concatenate([b.made[name] for b in batches], axis=axis)
            for name in first.made
        },
    )


def write_checkpoint(path: Path, label: str, values: Mapping[str, Any]) -> None:
    """Write a method's current q, with its label, to a checkpoint file."""
    kept.write(
        path,
        {"method": np.asarray(label)} | {k: np.asarray(v) for k, v in values.items()},
    )
