"""One run: prepare, time, collect, compare, write; no branch per method."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench import checkpoint as kept
from vi_bench.cluster import PeerLost, lost
from vi_bench.comparison import Comparison, Margin, Sample
from vi_bench.comparison.modes import Mode
from vi_bench.comparison.quantities import WEIGHT, flatten
from vi_bench.contract import Draws, Outcome, Problem
from vi_bench.data import load
from vi_bench.environment import (
    computing,
    describe,
    find_device,
    find_mesh,
    forget_programs,
)
from vi_bench.errors import InputError, NotApplicable, one_line
from vi_bench.evaluate import WORK, best_draw, bound_from, evaluate
from vi_bench.mixture import Mixture, bind, centre_at
from vi_bench.progress import Watcher
from vi_bench.reference import Reference, choose, hold_against
from vi_bench.response import linear_response
from vi_bench.result import MethodRun, Result
from vi_bench.spec import AUTO, Spec
from vi_bench.streams import stream
from vi_bench.table import Table
from vi_bench.timing import run_stage
from vi_bench.weights import STICK


def check(spec: Spec, family: Any, table: Table) -> None:
    """Refuse what fits each by itself but not together."""
    rows = len(table) - spec.held_out
    if spec.components > rows:
        left = f" when {spec.held_out} are held out" if spec.held_out else ""
        raise InputError(
            f"components = {spec.components}, the data {table.name!r} have "
            f"{max(rows, 0)} rows{left}; expected at most as many components as rows"
        )
    centre = centre_at(family, table.mean)
    for part in table.parts():
        family.check(part)
        if spec.precision == 32 and np.abs(part.values - centre).max() > 1e15:
            raise InputError("precision 32: values over 1e15 overflow when squared")


def execute(
    spec: Spec,
    table: Table,
    watcher: Watcher,
    checkpoint: Path | None = None,
) -> Result:
    """Run every method of a spec and compare; files are the caller's business.

    Args:
        spec: what to run.
        table: the data, before `spec.standardise`.
        watcher: told of the progress.
        checkpoint: file for the best q so far of the method that runs.

    Raises:
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
    interrupted = False
    with computing(device, spec.precision):
        dtype = jnp.float64 if spec.precision == 64 else jnp.float32
        centre = centre_at(family, data.mean)
        mixture = bind(
            family,
            data.values if data.whole is None else data.whole.rows,
            spec.components,
            dtype,
            weights,
            mesh,
            centre=centre,
            stream=spec.stream,
        )
        coordinates = family.coordinates(data.features)
        reference = Reference(spec.held_against)
        if spec.reference == AUTO:
            reference = choose(mixture, methods)
        runs = {label: MethodRun(method) for label, method in methods.items()}
        problem = Problem(mixture, spec.chains, spec.draws)
        key = jax.random.key(spec.seed)
        for label, run in runs.items():
            try:
                own = stream(key, label)
                attempt(label, run, problem, own, spec.repeats, watcher, checkpoint)
                finish(run, mixture, centre, coordinates, held_out - centre)
            except KeyboardInterrupt:
                run.outcome = Outcome("skipped", "interrupted")
                run.draws = None
                interrupted = True
            except NotApplicable as reason:
                run.outcome = Outcome("skipped", str(reason))
            except InputError:
                raise
            except Exception as error:
                if lost(error):
                    raise PeerLost(str(error)) from error
                run.outcome = Outcome("failed", one_line(error))
                run.draws, run.error = None, traceback.format_exc()
            watcher.end(label, run.outcome.status)
            if interrupted:
                break
        environment = describe(device, spec.precision)
        samples = {
            label: sample_of(run, family, coordinates)
            for label, run in runs.items()
            if run.usable
        }
        ask = partial(mode_bounds, mixture, runs, centre)
        margin = Margin(spec.margin, spec.sd_margin)
        found = hold_against(samples, reference, margin, ask)
        if found is not None:
            align(runs, found)
            found = dataclasses.replace(found, note=noted(found.note, samples))
    return Result(
        spec,
        family,
        weights,
        data,
        runs,
        found,
        environment,
        spec.plugins(),
        interrupted,
    )


def attempt(
    label: str,
    run: MethodRun,
    problem: Problem,
    key: jax.Array,
    repeats: int | None,
    watcher: Watcher,
    checkpoint: Path | None = None,
) -> None:
    """Prepare a method and run its stages, timed."""
    forget_programs()  # of earlier runs, where there are very many
    keep = None
    if checkpoint is not None and jax.process_index() == 0:
        keep = partial(write_checkpoint, checkpoint, label)
    begun = time.perf_counter()
    stages = run.method.prepare(problem, stream(key, "prepare"))
    run.setup_s = time.perf_counter() - begun
    carry: Any = None
    for index, stage in enumerate(stages):
        watcher.stage(label, stage.name, index, len(stages))
        carry, run.stages[stage.name] = run_stage(
            stage,
            stream(key, stage.name),
            problem.mixture,
            carry,
            repeats,
            watcher.tick,
            keep,
        )
    run.draws = carry


def write_checkpoint(path: Path, label: str, values: Mapping[str, Any]) -> None:
    """Keep what a method has so far."""
    kept.write(
        path,
        {"method": np.asarray(label)} | {k: np.asarray(v) for k, v in values.items()},
    )


def finish(
    run: MethodRun,
    mixture: Mixture,
    centre: np.ndarray,
    coordinates: Mapping[str, Sequence[object]],
    held_out: np.ndarray,
) -> None:
    """What the mixture tells of the draws, host arrays, coordinates, the outcome."""
    assert run.draws is not None
    raw = run.draws
    run.outcome = run.method.outcome(jax.tree.map(np.asarray, raw))
    method: Any = run.method if hasattr(run.method, "log_q") else None
    run.evaluation = evaluate(mixture, raw, held_out, method)
    if raw.factors is not None and run.outcome.converged:
        run.response = linear_response(mixture, raw.factors, centre, coordinates)
    family = mixture.family
    draws: Draws = jax.tree.map(np.asarray, raw)
    moved: dict[str, Any] = {
        field: {k: np.asarray(v) for k, v in family.uncentre(values, centre).items()}
        for field, values in (
            ("parameters", draws.parameters),
            ("variational", draws.variational),
        )
    }
    run.draws = draws._replace(**moved)
    theta = run.draws.parameters
    known = {name: theta[name] for name in family.dims if name in theta}
    run.posterior = {
        name: np.asarray(v) for name, v in (known | family.derived(known)).items()
    }
    if STICK in theta:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        run.posterior[WEIGHT] = np.exp(np.asarray(log_weights, float))
    finite = all(np.all(np.isfinite(v)) for v in draws.parameters.values())
    if not finite and run.outcome.status != "not finite":
        run.outcome = Outcome("not finite", "some draws are not finite")


def noted(note: str, samples: Mapping[str, Sample]) -> str:
    """A comparison's note, and what was left out of it."""
    without = [label for label, sample in samples.items() if sample.log_joint is None]
    if not without:
        return note
    left_out = (
        f"log joints of {', '.join(without)} were not computed, nor what rests on them "
        f"(k-hat, evidence): over {WORK:.0e} terms"
    )
    return "; ".join(filter(None, [note, left_out]))


def sample_of(
    run: MethodRun, family: Any, coordinates: Mapping[str, Sequence[object]]
) -> Sample:
    """A method's draws as the comparison takes them."""
    assert run.draws is not None
    assert run.evaluation is not None
    known = {k: np.asarray(v, float) for k, v in run.posterior.items()}
    weights = known.pop(WEIGHT, None)
    columns, shared = flatten(family.compared(known), coordinates)
    if weights is not None:
        columns[WEIGHT] = weights
    found, draws = run.evaluation, run.draws
    if found.held_out.shape[-1]:
        shared["held-out log density"] = found.held_out.sum(axis=-1)
    diverging = draws.sample_stats.get("diverging")
    best = draws.report.get("restart_bound")
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
    )


def align(runs: Mapping[str, MethodRun], found: Comparison) -> None:
    """Name linear response's components as the comparison names them."""
    for label, run in runs.items():
        if run.response is not None and label in found.relabellings:
            order = found.relabellings[label].usual
            run.response = run.response.reordered(order.tolist())


def mode_bounds(
    mixture: Mixture,
    runs: Mapping[str, MethodRun],
    centre: np.ndarray,
    label: str,
    modes: Sequence[Mode],
) -> dict[int, float]:
    """The ELBO that CAVI reaches from the best draw of each mode."""
    run = runs[label]
    assert run.draws is not None
    if run.log_joint is None:
        return {}
    theta = mixture.family.uncentre(run.draws.parameters, -centre)
    return {
        i: bound_from(mixture, best_draw(theta, run.log_joint, mode.chains))
        for i, mode in enumerate(modes)
    }
