"""One run: prepare, time, collect, compare, write; no branch per method."""

from __future__ import annotations

import time
import traceback
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.compare import Comparison, Sample, compare
from vi_bench.compare.quantities import WEIGHT, flatten
from vi_bench.contract import Draws, Outcome, Problem
from vi_bench.data import Table, load
from vi_bench.environment import computing, describe, find_device
from vi_bench.errors import InputError, NotApplicable
from vi_bench.mixture import Mixture, bind, data_centre
from vi_bench.progress import Watcher
from vi_bench.result import MethodRun, Result
from vi_bench.spec import Spec
from vi_bench.timing import run_stage
from vi_bench.weights import STICK


def stream(key: jax.Array, name: str) -> jax.Array:
    """A key for a name: the same whatever else is run beside it."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def check(spec: Spec, family: Any, table: Table) -> None:
    """Refuse what fits each by itself but not together."""
    rows = len(table.values)
    if spec.components > rows:
        raise InputError(
            f"components = {spec.components}, the data {table.name!r} have {rows} "
            "rows; expected at most as many components as rows"
        )
    family.check(table)
    if spec.precision == 32:
        centred = table.values - data_centre(family, table.values)
        if np.abs(centred).max() > 1e15:
            raise InputError("precision 32: values over 1e15 overflow when squared")


def execute(
    spec: Spec,
    table: Table,
    watcher: Watcher,
) -> Result:
    """Run every method of a spec and compare; files are the caller's business.

    Args:
        spec: what to run.
        table: the data, before `spec.standardise`.
        watcher: told of the progress.
    """
    methods = spec.inference()
    family = spec.family()
    data = load(table, spec.standardise)
    check(spec, family, data)
    family = family.complete(data.values, spec.components)
    weights = spec.mixing()
    device = find_device(spec.device)
    runs = {label: MethodRun(method) for label, method in methods.items()}
    interrupted = False
    with computing(device, spec.precision):
        dtype = jnp.float64 if spec.precision == 64 else jnp.float32
        mixture = bind(family, data.values, spec.components, dtype, weights)
        centre = data_centre(family, data.values)
        problem = Problem(mixture, spec.chains, spec.draws)
        key = jax.random.key(spec.seed)
        for label, run in runs.items():
            try:
                attempt(label, run, problem, stream(key, label), spec.repeats, watcher)
                finish(run, mixture, centre)
            except KeyboardInterrupt:
                run.outcome = Outcome("skipped", "interrupted")
                run.draws = None
                interrupted = True
            except NotApplicable as reason:
                run.outcome = Outcome("skipped", str(reason))
            except Exception as error:
                first = str(error).strip().partition("\n")[0]
                run.outcome = Outcome("failed", f"{type(error).__name__}: {first}")
                run.draws, run.error = None, traceback.format_exc()
            watcher.end(label, run.outcome.status)
            if interrupted:
                break
        environment = describe(device, spec.precision)
    found = _compare(spec, family, data, runs)
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
) -> None:
    """Prepare a method and run its stages, timed."""
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
        )
    run.draws = carry


def finish(run: MethodRun, mixture: Mixture, centre: np.ndarray) -> None:
    """Log joint densities, host arrays, the data's own coordinates, the outcome."""
    assert run.draws is not None

    def each(theta: dict[str, jax.Array]) -> jax.Array:
        flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), theta)
        found: jax.Array = jax.lax.map(mixture.log_joint, flat)
        return found

    log_joint = jax.jit(each)(run.draws.parameters)
    draws: Draws = jax.tree.map(np.asarray, run.draws)
    shape = next(iter(draws.parameters.values())).shape[:2]
    run.log_joint = np.asarray(log_joint).reshape(shape)
    run.outcome = run.method.outcome(draws)
    family = mixture.family
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


def _compare(
    spec: Spec, family: Any, table: Table, runs: Mapping[str, MethodRun]
) -> Comparison | None:
    coordinates = family.coordinates(table.features)
    samples = {}
    for label, run in runs.items():
        if run.usable and run.draws is not None:
            diverging = run.draws.sample_stats.get("diverging")
            share = 0.0 if diverging is None else float(np.mean(diverging))
            known = {k: np.asarray(v, float) for k, v in run.posterior.items()}
            weights = known.pop(WEIGHT, None)
            named = family.compared({k: known[k] for k in family.dims if k in known})
            columns, shared = flatten(named, coordinates)
            if weights is not None:
                columns[WEIGHT] = weights
            samples[label] = Sample(
                columns,
                shared,
                None if run.log_joint is None else run.log_joint.astype(float),
                share,
            )
    reference = spec.held_against
    if reference not in samples:
        return None
    return compare(samples, reference, spec.margin)
