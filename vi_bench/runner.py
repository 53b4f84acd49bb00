"""One run: prepare, time, collect, compare, write; no branch per method."""

from __future__ import annotations

import json
import time
import traceback
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.compare import Comparison, Sample, compare
from vi_bench.contract import Draws, Method, Outcome, Problem
from vi_bench.data import Table, load
from vi_bench.environment import computing, describe, find_device
from vi_bench.errors import InputError
from vi_bench.mixture import Mixture, bind, data_centre
from vi_bench.progress import Silent, Watcher
from vi_bench.spec import Spec
from vi_bench.timing import StageTime, run_stage, spread

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from xarray import DataTree

SCHEMA = 1
"""Version of summary.json; docs/summary.md describes it."""


NOT_STARTED = Outcome("skipped", "not started")


@dataclass
class MethodRun:
    """What one method gave.

    Attributes:
        method: its settings.
        outcome: how it ended.
        setup_s: host work before the first stage.
        stages: stage -> its times.
        draws: as host arrays, uncentred; None unless it finished.
        log_joint: log p(X, theta) of each draw (chain, draw).
        error: the traceback of a failure.
    """

    method: Method
    outcome: Outcome = NOT_STARTED
    setup_s: float = 0.0
    stages: dict[str, StageTime] = field(default_factory=dict)
    draws: Draws | None = None
    log_joint: np.ndarray | None = None
    error: str = ""

    @property
    def usable(self) -> bool:
        """Whether there are finite draws to compare."""
        return self.draws is not None and self.outcome.status != "not finite"

    def bound(self) -> tuple[float | None, float | None]:
        """The bound as the method reports it, and its error."""
        if self.draws is None or "bound" not in self.draws.report:
            return None, None
        report = self.draws.report
        return float(report["bound"]), float(report["bound_se"])

    def marginal_bound(self) -> tuple[float | None, float | None]:
        """E_q [log p(X, theta) - log q(theta)] from the draws, and its error.

        The assignments are summed out, for every variational method alike, so these
        can be held against each other; CAVI's own bound lies below its marginal one.
        """
        if self.draws is None or self.draws.log_q is None or self.log_joint is None:
            return None, None
        terms = (self.log_joint - np.asarray(self.draws.log_q)).ravel()
        return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(terms.size))

    def steady(self) -> dict[str, float] | None:
        """Seconds of the steady runs, stages of the inference itself added up."""
        timed = [s.runs_s for s in self.stages.values() if s.part_of_inference]
        return spread(*timed) if timed and all(timed) else None

    def time(self) -> dict[str, Any]:
        """Seconds by kind: the inference's stages added up, and each stage apart."""
        own = [s for s in self.stages.values() if s.part_of_inference]
        return {
            "setup_s": self.setup_s,
            "trace_s": sum(s.trace_s for s in own),
            "compile_s": sum(s.compile_s for s in own),
            "compile_cached": bool(own) and all(s.compile_cached for s in own),
            "first_s": sum(s.first_s for s in own),
            "run_s": self.steady(),
            "stages": {name: s.record() for name, s in self.stages.items()},
        }

    def memory_bytes(self) -> int | None:
        """The most that one program of the method needs beyond its arguments."""
        found = [
            s.temporary_bytes + (s.output_bytes or 0)
            for s in self.stages.values()
            if s.temporary_bytes is not None
        ]
        return max(found) if found else None


@dataclass
class Result:
    """A finished run.

    Attributes:
        spec: what was asked for.
        family: the component family with its settings.
        table_data: the rows.
        runs: label -> what the method gave.
        comparison: against the reference; None where it has no draws.
        environment: device, versions, precision.
        interrupted: whether Ctrl-C ended it; finished methods are kept.
        folder: where it was written, or None.
    """

    spec: Spec
    family: Any
    table_data: Table
    runs: dict[str, MethodRun]
    comparison: Comparison | None
    environment: dict[str, Any]
    interrupted: bool = False
    folder: Path | None = None
    _trees: dict[str, DataTree] = field(default_factory=dict)

    @property
    def posterior(self) -> dict[str, DataTree]:
        """Label -> ArviZ DataTree, relabelled, of every method that gave draws."""
        if not self._trees:
            from vi_bench.results import trees

            self._trees = trees(self)
        return self._trees

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json as plain values."""
        from vi_bench.results import summary

        return summary(self)

    def table(self) -> RichTable:
        """The table that the command line prints; `rich.print` shows it."""
        from vi_bench.report.table import table

        return table(self)

    def figures(self, folder: Path | str) -> list[Path]:
        """Draw the figures into a folder, PNG and PDF; returns their paths."""
        from vi_bench.report.figures import draw_all

        return draw_all(self, Path(folder))

    def save(self, folder: Path | str) -> None:
        """Write summary.json, a DataTree per method and the figures into a folder."""
        target = Path(folder)
        for label, tree in self.posterior.items():
            tree.to_netcdf(target / f"{label}.nc", engine="h5netcdf")
        self.figures(target)
        text = json.dumps(self.summary, indent=2, allow_nan=False)
        (target / "summary.json").write_text(text + "\n", encoding="utf-8")


def stream(key: jax.Array, name: str) -> jax.Array:
    """A key for a name: the same whatever else is run beside it."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def check(spec: Spec, family: Any, table: Table) -> None:
    """Refuse what fits each by itself but not together."""
    rows, features = table.values.shape
    if spec.components > rows:
        raise InputError(
            f"components = {spec.components}, the data {table.name!r} have {rows} "
            "rows; expected at most as many components as rows"
        )
    family.check(features)
    if spec.precision == 32:
        centred = table.values - data_centre(table.values)
        if np.abs(centred).max() > 1e15:
            raise InputError("precision 32: values over 1e15 overflow when squared")


def execute(
    spec: Spec,
    table: Table | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Run every method of a spec and compare; files are the caller's business.

    Args:
        spec: what to run.
        table: the data, where they are not what `spec.data` names.
        watcher: told of the progress.
    """
    watcher = watcher or Silent()
    methods = spec.inference()
    family = spec.family()
    data = load(spec.data if table is None else table, spec.standardise)
    check(spec, family, data)
    device = find_device(spec.device)
    runs = {label: MethodRun(method) for label, method in methods.items()}
    interrupted = False
    with computing(device, spec.precision):
        dtype = jnp.float64 if spec.precision == 64 else jnp.float32
        mixture = bind(family, data.values, spec.components, dtype)
        centre = data_centre(data.values)
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
            except Exception as error:
                first = str(error).strip().partition("\n")[0]
                run.outcome = Outcome("failed", f"{type(error).__name__}: {first}")
                run.draws, run.error = None, traceback.format_exc()
            watcher.end(label, run.outcome.status)
            if interrupted:
                break
        environment = describe(device, spec.precision)
    return Result(
        spec, family, data, runs, _compare(spec, data, runs), environment, interrupted
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
    uncentre = mixture.family.uncentre
    as_numpy: dict[str, Any] = {
        field: {k: np.asarray(v) for k, v in uncentre(values, centre).items()}
        for field, values in (
            ("parameters", draws.parameters),
            ("variational", draws.variational),
        )
    }
    run.draws = draws._replace(**as_numpy)
    finite = all(np.all(np.isfinite(v)) for v in draws.parameters.values())
    if not finite and run.outcome.status != "not finite":
        run.outcome = Outcome("not finite", "some draws are not finite")


def coordinates(family: Any, table: Table) -> dict[str, list[list[object]]]:
    """Parameter -> coordinates of its dimensions after the component's."""
    known: dict[str, list[object]] = {"feature": list(table.features)}
    return {name: [known[d] for d in dims] for name, dims in family.dims.items()}


def _compare(
    spec: Spec, table: Table, runs: Mapping[str, MethodRun]
) -> Comparison | None:
    samples = {}
    for label, run in runs.items():
        if run.usable and run.draws is not None:
            diverging = run.draws.sample_stats.get("diverging")
            share = 0.0 if diverging is None else float(np.mean(diverging))
            samples[label] = Sample(
                {k: np.asarray(v, float) for k, v in run.draws.parameters.items()},
                None if run.log_joint is None else run.log_joint.astype(float),
                share,
            )
    reference = spec.held_against
    if reference not in samples:
        return None
    return compare(samples, reference, coordinates(spec.family(), table), spec.margin)
