"""Trace and compile the stages of a method, all of them before the first one runs.

What a stage takes is known from what the one before it makes, so that the programs of a
method are compiled beside one another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from vi_bench.contract import Posterior, Stage
from vi_bench.inference.lanes import LaneProgram, apart, lane_program
from vi_bench.mixture.blocks import everywhere
from vi_bench.runtime.compiling import Compiled, Submit, compiling
from vi_bench.runtime.keys import Key


@dataclass(frozen=True)
class Program:
    """A stage's program, ready to be called.

    Attributes:
        call: (key, posterior, carry) -> carry.
        compiled: the executable of the stage, or of one of its lanes.
        takes: shapes and kinds of the carry that it was compiled for.
        trace_s: seconds from Python to StableHLO, while other stages are compiled.
        compile_s: its share of the seconds for which its method waited, after tracing,
            for machine code to be made or loaded from the cache.
        cached: whether the persistent cache or this process had it.
    """

    call: Any
    compiled: Any
    takes: Any
    trace_s: float
    compile_s: float
    cached: bool


class _Begun(NamedTuple):
    """A stage that is traced, and whose programs are being compiled."""

    call: LaneProgram | None
    programs: list[Future[Compiled]]
    takes: Any
    makes: Any
    trace_s: float

    def ready(self) -> Program:
        """The program, once it is compiled."""
        made = [one.result() for one in self.programs]
        first = made[0].program
        return Program(
            self.call or first,
            first,
            self.takes,
            self.trace_s,
            sum(one.seconds for one in made),
            all(one.cached for one in made),
        )


def compile_stages(
    stages: Sequence[Stage], key: Key, posterior: Posterior, carry: Any = None
) -> dict[str, Program]:
    """The programs of stages, by name, from the first one on until one is no program.

    Where rows are on several devices or processes it is that of the first alone:
    programs there take carries as they are laid out, of which shapes say nothing.

    Args:
        stages: of a method, all of them or from one on.
        key: of the kind that stages are given.
        posterior: of the run.
        carry: what the first one is given.
    """
    since = time.perf_counter()
    begun: dict[str, _Begun] = {}
    if posterior.mesh is not None or jax.process_count() > 1:
        stages = stages[:1]
    with compiling() as submit:
        for stage in stages:
            if not stage.compiled:
                break
            begun[stage.name] = one = _begin(stage, key, posterior, carry, submit)
            carry = one.makes
    ready = {name: one.ready() for name, one in begun.items()}
    # programs that are made at the same time take longer, each, than the wait for all
    waited = time.perf_counter() - since - sum(p.trace_s for p in ready.values())
    shorter = waited / (sum(p.compile_s for p in ready.values()) or 1.0)
    return {
        name: replace(one, compile_s=shorter * one.compile_s)
        for name, one in ready.items()
    }


def fits(program: Program, carry: Any) -> bool:
    """Whether a program was compiled for a carry such as this one."""
    known: Any = jax.tree.flatten(program.takes)
    found: Any = jax.tree.flatten(_kinds(carry))
    return bool(known == found)


def _begin(
    stage: Stage,
    key: Key,
    posterior: Posterior,
    carry: Any,
    submit: Submit,
) -> _Begun:
    """Trace a stage and hand over its programs."""
    lanes = lane_program(stage) if apart(stage, posterior) else None
    begun = time.perf_counter()
    if lanes:
        lowered, makes = lanes.lowered(key, posterior, carry)
    else:
        # results are replicated on all devices, so that the next call takes them as is
        mesh = posterior.mesh
        jitted = jax.jit(stage.run, out_shardings=mesh and everywhere(mesh))
        lowered = [jitted.lower(key, posterior, carry)]
        makes = lowered[0].out_info
    traced = time.perf_counter() - begun
    programs = [submit(one) for one in lowered]
    return _Begun(lanes, programs, _kinds(carry), _kinds(makes), traced)


def _kinds(tree: Any) -> Any:
    """The tree with the shape and dtype of every array; numbers stay as they are."""

    def kind(leaf: Any) -> Any:
        array = hasattr(leaf, "dtype")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if array else leaf

    return jax.tree.map(kind, tree)
