"""Error against time: what each method would have told, had it been stopped earlier.

A fit is looked at after a growing number of its steps: draws of q as it is then are
compared with the reference. Of a Markov chain the first draws are. A method that can be
stopped nowhere has one point, its end. The reference has its own Monte-Carlo error,
under which no distance from it means anything; its own curve compares one half of its
chains with the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from vi_bench.comparison.budgets import (
    Curve,
    Curves,
    Floor,
    floor,
    judged,
    point,
    within,
)
from vi_bench.comparison.measured import measure
from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.sample import Sample
from vi_bench.contract import Counts, Draws, Stage, Stoppable
from vi_bench.inference.stages import call_until_done, compiled
from vi_bench.runner.infer import Place, settle, take
from vi_bench.runner.result import MethodRun, Resumption
from vi_bench.runner.samples import sample_of
from vi_bench.runtime.keys import stream

GROWTH, LEAST = 2**0.5, 1.1
"""Factor between the budgets of two points, and that between their times at least."""

FEWEST = 8
"""Draws of a chain that are compared at least."""


@dataclass(frozen=True)
class Early:
    """What a method tells when it is stopped early."""

    seconds: float
    passes: float | None
    sample: Sample
    bound: Estimate | None = None


def curves(
    place: Place, runs: Mapping[str, MethodRun], reference: str, margin: float
) -> Curves:
    """Error against time of all methods that have draws.

    Args:
        place: what all methods of the run share.
        runs: label -> its finished run.
        reference: label of the reference.
        margin: error of a mean, in reference sds, that counts as none.
    """
    target = place.target
    trusted = sample_of(runs[reference], target)
    floors: list[Floor] = []
    found: dict[str, Curve] = {}
    for label, run in runs.items():
        if not run.usable:
            continue
        place.watcher.stage(label, "error against time", 0, 1)
        early, theirs = _early(place, label, run), trusted
        if label == reference:
            half = trusted.shape[0] // 2
            if not half:
                continue  # a single chain has no halves
            theirs = trusted.part(slice(half, None))
            early = [replace(e, sample=e.sample.part(slice(0, half))) for e in early]
        named = {f"budget {i}": e.sample for i, e in enumerate(early)}
        known = measure({"reference": theirs, **named}, "reference")
        points = tuple(
            point(e.seconds, e.passes, judged(known, name), e.bound)
            for name, e in zip(named, early, strict=True)
        )
        found[label] = Curve(points, within(points, margin))
        if label != reference:
            floors.append(floor(known, list(named)[-1]))
    # that of W1 depends on the draws of the other side, too
    least = min(floors, key=lambda f: f.w1, default=Floor(0.0, 0.0, 0.0))
    return Curves(reference, margin, least, found)


def _early(place: Place, label: str, run: MethodRun) -> list[Early]:
    """A method at growing budgets, the whole of its run the last."""
    onward = [stage for stage, _ in run.resumption.stages] if run.resumption else []
    end = Early(_seconds(run), _passes(run), sample_of(run, place.target), _bound(run))
    if isinstance(run.method, Stoppable):
        return [*_early_fits(place, label, run), end]
    if onward and onward[0].again == "onward":
        return _early_draws(run, onward[0].name, end)
    return [end]


def _early_fits(place: Place, label: str, run: MethodRun) -> Iterator[Early]:
    """A fit after growing numbers of its calls, before the last."""
    key = stream(place.key, label)
    method: Any = run.method
    stages = method.finely(place.problem, stream(key, "prepare"))
    programs = compiled(stages)
    posterior = place.problem.posterior

    def whole(stage: Stage, carry: Any) -> Any:
        keys = jax.random.split(stream(key, stage.name), stage.calls)
        return call_until_done(
            stage, programs[stage.name], keys, posterior, carry
        ).carry

    carry, spent, kept = None, 0.0, list[tuple[float, Any]]()
    fit = next((i for i, stage in enumerate(stages) if stage.calls > 1), None)
    if fit is None:
        return
    for stage in stages[:fit]:
        carry = whole(stage, carry)
    stage, program = stages[fit], programs[stages[fit].name]
    keys = jax.random.split(stream(key, stage.name), stage.calls)
    jax.block_until_ready(program(keys[0], posterior, carry))  # compiled by that
    due = 1.0
    for call in range(stage.calls):
        begun = time.perf_counter()
        carry = jax.block_until_ready(program(keys[call], posterior, carry))
        spent += time.perf_counter() - begun
        if stage.done and stage.done(carry):
            break
        if place.budget is not None and spent > place.budget:
            break
        if call + 1 >= due:
            kept.append((spent, carry))
            due = max(due * GROWTH, call + 2)
    before = sum(_steady(run, s.name) for s in stages[:fit])
    for seconds, state in kept:
        raw: Any = state
        for later in stages[fit + 1 :]:
            if later.part_of_inference or later.again:
                raw = whole(later, raw)
        stopped = replace(run, resumption=Resumption(), response=None)
        take(place, stopped, raw)
        settle(place, stopped)
        if all(np.isfinite(v).all() for v in stopped.posterior.values()):
            share = seconds / spent
            yield Early(
                before + share * _steady(run, stage.name),
                _passes(stopped),
                sample_of(stopped, place.target),
                _bound(stopped),
            )


def _early_draws(run: MethodRun, sampling: str, end: Early) -> list[Early]:
    """A Markov chain after growing numbers of its draws."""
    assert run.draws is not None
    _, number = end.sample.shape
    warm_up = sum(_steady(run, name) for name in run.stages if name != sampling)
    found: list[Early] = []
    count = float(FEWEST)
    while count < number:
        draws = int(count)
        seconds = warm_up + _steady(run, sampling) * draws / number
        stats = {k: v[:, :draws] for k, v in run.draws.sample_stats.items()}
        shorter = run.draws._replace(sample_stats=stats)
        passes = _passes(replace(run, draws=shorter))
        if not found or seconds > LEAST * found[-1].seconds:
            found.append(Early(seconds, passes, end.sample.part(draws=draws)))
        count *= GROWTH
    return [*found, end]


def _steady(run: MethodRun, name: str) -> float:
    """Seconds of a steady run of a stage, if it is part of the inference."""
    timed = run.stages.get(name)
    if timed is None or not timed.part_of_inference or not timed.runs_s:
        return 0.0
    return float(np.median(timed.steady()))


def _seconds(run: MethodRun) -> float:
    steady = run.steady()
    return steady["median"] if steady else 0.0


def _passes(run: MethodRun) -> float | None:
    if not isinstance(run.method, Counts) or run.draws is None:
        return None
    draws: Draws = run.draws
    found = float(run.method.passes(draws))
    return found if np.isfinite(found) else None


def _bound(run: MethodRun) -> Estimate | None:
    value, error = run.marginal_bound()
    return None if value is None or error is None else Estimate(value, error)
