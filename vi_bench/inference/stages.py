"""Run the stages of a method: the one loop, and the one way of making their keys.

`run`, `vi_bench.cavi`, `calibrate` and `verify` all go through here. They differ in how
one stage is run: timed, by a program compiled before, or traced into a larger one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from vi_bench.contract import Method, Posterior, Problem, Stage
from vi_bench.inference.lanes import Called, LaneProgram, Tick, lane_program, over
from vi_bench.runtime.keys import Key, stream

Each = Callable[[Stage, Key, Posterior, Any], Any]
"""Runs one stage: (stage, a key for each of its calls, posterior, carry) -> carry."""

Keep = Callable[[Mapping[str, Any]], None]
"""Called between calls with what of the carry a checkpoint holds."""


def prepare(method: Method, problem: Problem, key: Key) -> tuple[Stage, ...]:
    """A method's host work, and its stages.

    Raises:
        NotApplicable: the method cannot work on this problem.
    """
    return method.prepare(problem, stream(key, "prepare"))


def drive(
    stages: Sequence[Stage],
    key: Key,
    posterior: Posterior,
    each: Each,
    carry: Any = None,
) -> Any:
    """Run stages in order, each on what the one before it made.

    Args:
        stages: of a method, all of them or from one on.
        key: of the method; the keys of a stage depend on this and on its name alone.
        posterior: the mixture.
        each: how one stage is run.
        carry: what the first one is given.
    """
    for stage in stages:
        keys = jax.random.split(stream(key, stage.name), stage.calls)
        carry = each(stage, keys, posterior, carry)
    return carry


def call_until_done(
    stage: Stage,
    program: Any,
    keys: Key,
    posterior: Posterior,
    carry: Any,
    tick: Tick | None = None,
    keep: Keep | None = None,
    within: float | None = None,
) -> Called:
    """All calls of a stage's program, the first one and those that begin in time."""
    if isinstance(program, LaneProgram) and program.free(posterior):
        return program.all_calls(keys, posterior, carry, tick, within)
    begun = time.perf_counter()
    for call in range(stage.calls):
        if call and over(within, begun):
            return Called(carry, call, cut=True)
        carry = jax.block_until_ready(program(keys[call], posterior, carry))
        if tick:
            tick(call + 1, stage.calls)
        if keep and stage.keep:
            keep(stage.keep(carry))
        if stage.done and stage.done(carry):
            break
    return Called(carry, call + 1, cut=False)


def compiled(stages: Sequence[Stage]) -> dict[str, Any]:
    """Name -> program of each stage, which is compiled when it is first called."""
    return {stage.name: program_of(stage) for stage in stages}


def program_of(stage: Stage) -> Any:
    """The program of a stage, which is compiled when it is first called."""
    if stage.lane is not None:
        return lane_program(stage)
    return jax.jit(stage.run) if stage.compiled else stage.run


def calling(programs: Mapping[str, Any]) -> Each:
    """Runs stages by their programs."""

    def each(stage: Stage, keys: Key, posterior: Posterior, carry: Any) -> Any:
        return call_until_done(
            stage, programs[stage.name], keys, posterior, carry
        ).carry

    return each


def traced(stage: Stage, keys: Key, posterior: Posterior, carry: Any) -> Any:
    """Runs a stage inside a trace; one whose work is done leaves its carry as it is."""
    if stage.calls == 1:
        return stage.run(keys[0], posterior, carry)
    return lax.fori_loop(
        0, stage.calls, lambda i, carry: stage.run(keys[i], posterior, carry), carry
    )
