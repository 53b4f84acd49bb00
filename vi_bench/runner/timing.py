"""Time a stage: trace, compile, first run and steady runs apart.

One loop for every method, so that none can time itself kindly. Every run ends in
`block_until_ready` on the whole result: JAX returns before the work is done.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from vi_bench.contract import Stage
from vi_bench.inference.stages import Keep, Tick, call_until_done
from vi_bench.mixture.blocks import everywhere
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key


@dataclass
class StageTime:
    """Seconds, flops and bytes of one stage.

    Attributes:
        trace_s: Python to StableHLO.
        compile_s: StableHLO to machine code, or loading it from the cache.
        compile_cached: whether the persistent cache had it, or this process.
        first_s: the first run.
        runs_s: every steady run.
        calls: how often the program was called in a run.
        flops: XLA's count for one call, or None.
        temporary_bytes: memory of one call beyond arguments and results, or None.
        output_bytes: the result's.
        part_of_inference: whether the stage counts into the method's run time.
        batches: how often it was run for all draws that were made; times are of one.
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

    def steady(self) -> list[float]:
        """Seconds of the steady runs, of all batches together."""
        return [self.batches * s for s in self.runs_s]

    def record(self) -> dict[str, Any]:
        """As plain values, the steady runs summarised."""
        plain = asdict(self)
        plain["run_s"] = spread(plain.pop("runs_s"))
        return plain


def spread(*stages: list[float]) -> dict[str, float]:
    """Seconds of steady runs: median, min and max, each added up over the stages.

    "repeats" is the least number of runs of any stage.
    """
    return {
        "median": sum(float(np.median(runs)) for runs in stages),
        "min": sum(min(runs) for runs in stages),
        "max": sum(max(runs) for runs in stages),
        "repeats": min(len(runs) for runs in stages),
    }


REPEATS = 3
PATIENCE = 0.5
"""Seconds: unless a number of repeats is asked for, a stage is run REPEATS times more,
fewer once its repeats have taken this long. Stages that only make numbers for the
report are run once more."""


def run_stage(
    stage: Stage,
    keys: Key,
    mixture: Mixture,
    carry: Any,
    repeats: int | None,
    tick: Tick,
    keep: Keep | None = None,
) -> tuple[Any, StageTime, Any]:
    """Compile and run a stage, then run it again with the same keys, timed.

    Returns:
        What the stage made, its times, and its program.
    """
    mesh = mixture.blocks.mesh
    keys = jax.block_until_ready(keys)
    # all that a stage hands on is on every device: its next call takes it as it is
    jitted = jax.jit(stage.run, out_shardings=mesh and everywhere(mesh))
    begun = time.perf_counter()
    lowered = jitted.lower(keys[0], mixture, carry)
    traced = time.perf_counter()
    with _compilations() as made:
        program = lowered.compile()
    compiled = time.perf_counter()
    timed = StageTime(traced - begun, compiled - traced, not any(made))
    timed.part_of_inference = stage.part_of_inference
    _describe(program, timed)

    result, timed.first_s, timed.calls = _run(
        stage, program, keys, mixture, carry, tick, keep
    )
    tick(stage.calls, stage.calls)
    wanted = (repeats or REPEATS) if stage.part_of_inference else 1
    for _ in range(wanted):
        _, seconds, _ = _run(stage, program, keys, mixture, carry, None)
        timed.runs_s.append(seconds)
        # processes that share the work make the same calls, whatever their clocks say
        alone = jax.process_count() == 1
        if repeats is None and alone and sum(timed.runs_s) >= PATIENCE:
            break
    return result, timed, program


def _run(
    stage: Stage,
    program: Any,
    keys: Key,
    mixture: Mixture,
    carry: Any,
    tick: Tick | None,
    keep: Keep | None = None,
) -> tuple[Any, float, int]:
    """All calls against the clock, no garbage collected meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter()
        carry, calls = call_until_done(stage, program, keys, mixture, carry, tick, keep)
        return carry, time.perf_counter() - begun, calls
    finally:
        if collecting:
            gc.enable()


def _describe(program: Any, timed: StageTime) -> None:
    cost = program.cost_analysis() or {}
    timed.flops = cost.get("flops")
    memory = program.memory_analysis()
    if memory is not None:
        timed.temporary_bytes = int(memory.temp_size_in_bytes)
        timed.output_bytes = int(memory.output_size_in_bytes)


@contextmanager
def _compilations() -> Iterator[list[bool]]:
    """Collects what is compiled while it is open: whether anew, or read from the cache.

    What this process has already is neither.
    """
    hits: list[str] = []
    made: list[bool] = []

    def on_event(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    def on_duration(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            made.append(not hits)
            hits.clear()

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    try:
        yield made
    finally:
        jax.monitoring.unregister_event_listener(on_event)
        jax.monitoring.unregister_event_duration_listener(on_duration)
