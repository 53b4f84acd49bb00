"""One run: its methods are run and compared, all by the same code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax

from vi_bench.contract import Problem
from vi_bench.data.arrays import Arrays
from vi_bench.data.table import Table
from vi_bench.runner.infer import Place
from vi_bench.runner.inquiry import Inquiry
from vi_bench.runner.mixture_target import mixture_target
from vi_bench.runner.model_target import model_target
from vi_bench.runner.reference import Reference, choose
from vi_bench.runner.result import MethodRun
from vi_bench.runner.target import Target
from vi_bench.runner.views import Result
from vi_bench.runtime.environment import computing, describe, find_device, find_mesh
from vi_bench.runtime.progress import Watcher
from vi_bench.spec import AUTO, Spec


def execute(
    spec: Spec,
    data: Table | Arrays,
    watcher: Watcher,
    checkpoint: Path | None = None,
) -> Result:
    """Run every method of a spec and compare them; nothing is written.

    Args:
        spec: what to run.
        data: rows, before `spec.standardise`; or the data of a NumPyro model.
        watcher: told of the progress.
        checkpoint: file for the best q so far of the method that runs.

    Raises:
        InputError: the spec and the data do not fit each other.
        PeerLost: a process that shares the rows does not answer.
    """
    methods = spec.inference()
    mesh = find_mesh(spec.device, spec.devices)
    device = find_device(spec.device)
    with computing(device, spec.precision):
        target: Target
        if isinstance(data, Arrays):
            target = model_target(spec, data)
        else:
            target = mixture_target(spec, data, mesh)
        problem = Problem(target.posterior, spec.chains, spec.batch)
        reference = Reference(spec.held_against)
        if spec.reference == AUTO:
            reference, methods = choose(problem, methods)
        place = Place(
            problem,
            target,
            jax.random.key(spec.seed),
            spec.repeats,
            watcher,
            checkpoint,
            spec.budget,
        )
        runs = {label: MethodRun(method) for label, method in methods.items()}
        settings = partial(computing, device, spec.precision)
        inquiry = Inquiry(spec, place, runs, reference, settings)
        inquiry.run_all()
        found = inquiry.compare()
        curves, found = inquiry.curves(found)
        known = None if inquiry.interrupted else target.agreement(runs)
        for run in runs.values():
            run.resumption = None  # programs and batches are not part of a result
        environment = describe(device, spec.precision)
    return Result(
        spec,
        target.subject,
        runs,
        found,
        environment,
        spec.plugins(),
        inquiry.interrupted,
        known,
        curves=curves,
    )
