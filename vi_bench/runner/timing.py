"""Time a stage: tracing, compilation, first run and steady runs separately.

One loop times every method, so that all are timed alike. Every run ends in
`block_until_ready` on the whole result: JAX returns before the work is done.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from vi_bench.contract import Posterior, Stage
from vi_bench.inference.lanes import (
    Called,
    LaneProgram,
    Tick,
    cores_for,
)
from vi_bench.inference.stages import Keep, call_until_done
from vi_bench.runner.programs import Program, compile_stages, fits
from vi_bench.runtime.keys import Key


@dataclass
class StageTime:
    """Seconds, flops and bytes of one stage.

    Attributes:
        trace_s: from Python to StableHLO, while other stages are compiled.
        compile_s: the stage's share of the seconds for which the method waited, after
            tracing, for machine code to be made or loaded from the cache.
        compile_cached: whether the persistent cache or this process had the program.
        first_s: the first run.
        runs_s: every steady run.
        calls: calls of the program in one run.
        flops: XLA's count for one call, or None.
        temporary_bytes: memory of one call beyond arguments and results, or None.
        output_bytes: memory of the result, or None.
        part_of_inference: whether the stage counts towards the method's run time.
        batches: batches of draws that the stage was run for; times are of one batch.
        compiled: whether it is a compiled program, not a Python function.
        cores: on how many its lanes, such as chains, ran beside one another.
        lane_s: the first run less the time for which the lane that took longest waited
            for others: about what a core for every lane would take.
        cut: whether a budget ended it before it was done; it is not run again then.
    """

    trace_s: float
    compile_s: float
    compile_cached: bool
    first_s: float = 0.0
    runs_s: list[float] = field(default_factory=list)
    calls: int = 1
    flops: float | None = None
    temporary_bytes: int | None = None
    output_bytes: int | None = None
    part_of_inference: bool = True
    batches: int = 1
    compiled: bool = True
    cores: int = 1
    lane_s: float | None = None
    cut: bool = False

    def steady(self) -> list[float]:
        """Seconds of each steady run, times the number of batches."""
        return [self.batches * s for s in self.runs_s]

    def record(self) -> dict[str, Any]:
        """The times as plain values, with the steady runs summarised."""
        plain = asdict(self)
        plain["run_s"] = spread(plain.pop("runs_s"))
        return plain


def spread(*stages: list[float]) -> dict[str, float]:
    """Seconds of steady runs: median, min and max, each summed over the stages.

    "repeats" is the least number of runs of any stage.
    """
    return {
        "median": sum(float(np.median(runs)) for runs in stages),
        "min": sum(min(runs) for runs in stages),
        "max": sum(max(runs) for runs in stages),
        "repeats": min(len(runs) for runs in stages),
    }


REPEATS, PATIENCE, LONG = 3, 0.5, 5.0
"""Unless a number of repeats is asked for, a stage is repeated REPEATS times, or until
the repeats have taken PATIENCE seconds; one whose first run, of the compiled program,
took over LONG seconds is not run again. Stages that are no part of the inference are
repeated once."""


def run_stage(
    stage: Stage,
    keys: Key,
    posterior: Posterior,
    carry: Any,
    repeats: int | None,
    tick: Tick,
    keep: Keep | None = None,
    within: float | None = None,
    ready: Program | None = None,
) -> tuple[Any, StageTime, Any]:
    """Compile and run a stage, then run it again with the same keys, timed.

    Args:
        stage: of a method.
        keys: one for each call.
        posterior: of the run.
        carry: what the stage is given.
        repeats: timed runs after the first, or None for the default.
        tick: told of the first run's calls.
        keep: writes a checkpoint between these.
        within: seconds after which the first run makes no further call.
        ready: its program, if that is compiled; it is not used if it does not fit.

    Returns:
        The stage's result, its times, and its compiled program.
    """
    keys = jax.block_until_ready(keys)
    program: Any = stage.run
    timed = StageTime(0.0, 0.0, False, compiled=stage.compiled)
    if stage.compiled:
        if ready is None or not fits(ready, carry):
            ready = compile_stages([stage], keys[0], posterior, carry)[stage.name]
        program = ready.call
        timed.trace_s, timed.compile_s = ready.trace_s, ready.compile_s
        timed.compile_cached = ready.cached
        lanes = isinstance(program, LaneProgram)
        timed.cores = cores_for(stage) if lanes else 1
        _describe(ready.compiled, timed, stage.lanes if lanes else 1)
    timed.part_of_inference = stage.part_of_inference

    waited = program.waited if isinstance(program, LaneProgram) else 0.0
    (result, timed.calls, timed.cut), timed.first_s = _run(
        stage, program, keys, posterior, carry, tick, keep, within
    )
    tick(stage.calls, stage.calls)
    if isinstance(program, LaneProgram):
        timed.lane_s = timed.first_s - (program.waited - waited)
    wanted = (repeats or REPEATS) if stage.part_of_inference else 1
    # processes that share the work make the same calls, whatever their clocks say
    by_clock = repeats is None and jax.process_count() == 1
    if timed.cut or (by_clock and timed.first_s > LONG):
        timed.runs_s, wanted = [timed.first_s], 0
    for _ in range(wanted):
        _, seconds = _run(stage, program, keys, posterior, carry, None)
        timed.runs_s.append(seconds)
        if by_clock and sum(timed.runs_s) >= PATIENCE:
            break
    return result, timed, program


def _run(
    stage: Stage,
    program: Any,
    keys: Key,
    posterior: Posterior,
    carry: Any,
    tick: Tick | None,
    keep: Keep | None = None,
    within: float | None = None,
) -> tuple[Called, float]:
    """Run a stage once, and its seconds; garbage collection is off."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter()
        called = call_until_done(
            stage, program, keys, posterior, carry, tick, keep, within
        )
        return called, time.perf_counter() - begun
    finally:
        if collecting:
            gc.enable()


def _describe(program: Any, timed: StageTime, lanes: int) -> None:
    """Flops and bytes of a stage, of whose lanes `program` runs one at a time."""
    cost = program.cost_analysis() or {}
    if (flops := cost.get("flops")) is not None:
        timed.flops = lanes * flops
    memory = program.memory_analysis()
    if memory is not None:
        timed.temporary_bytes = timed.cores * int(memory.temp_size_in_bytes)
        timed.output_bytes = lanes * int(memory.output_size_in_bytes)
