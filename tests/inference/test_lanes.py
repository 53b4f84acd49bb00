"""Lanes of a stage: the same numbers on any number of cores as in one program."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.inference import lanes
from vi_bench.inference.stages import call_until_done, program_of
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.runtime import lanes as runtime_lanes
from vi_bench.runtime.environment import computing, find_device

LANES, CALLS = 5, 4


class Walk(NamedTuple):
    """A random walk: its place, its steps, and how many it is to make."""

    place: jax.Array
    steps: jax.Array
    most: jax.Array


def walk(key: Any, posterior: Any, own: Walk) -> Walk:
    """Two steps, fewer where the walk ends before."""

    def step(i, own):
        further = jax.random.normal(jax.random.fold_in(key, i), (3,), jnp.float64)
        new = own._replace(place=own.place + further, steps=own.steps + 1)
        return jax.tree.map(
            lambda a, b: jnp.where(own.steps < own.most, a, b), new, own
        )

    return jax.lax.fori_loop(0, 2, step, own)


def ended(own: Walk) -> bool:
    return bool(np.all(np.asarray(own.steps) >= np.asarray(own.most)))


STAGE = lanes.stage_of_lanes("walk", LANES, walk, calls=CALLS, done=ended, idle=ended)


@pytest.fixture(autouse=True)
def in_64_bits():
    with computing(find_device("cpu"), 64):
        yield


@pytest.fixture
def here():
    """A posterior, which the lanes share; the walks do not look at it."""
    return bind(Gaussian(sigma=5.0, mean=0.0), np.arange(6.0)[:, None], 2, jnp.float64)


def begin() -> Walk:
    return Walk(
        jnp.zeros((LANES, 3)), jnp.zeros(LANES, int), jnp.asarray([1, 2, 3, 4, 40])
    )


def keys() -> Any:
    return jax.random.split(jax.random.key(3), CALLS)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_lanes_apart_are_the_mapped_stage(cores, here, monkeypatch):
    program = program_of(STAGE)
    jitted = jax.jit(STAGE.run)
    monkeypatch.setattr(runtime_lanes, "cores", lambda: cores)
    apart, calls, _ = call_until_done(STAGE, program, keys(), here, begin())
    whole, *_ = call_until_done(STAGE, jitted, keys(), here, begin())
    assert calls == CALLS
    assert apart.steps.tolist() == [1, 2, 3, 4, 8]
    for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(whole), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_lane_that_is_done_is_not_called_again(here):
    told = []
    call_until_done(
        STAGE, program_of(STAGE), keys(), here, begin(), lambda *at: told.append(at)
    )
    # calls of the five lanes: 1, 1, 2, 2, and all four
    assert max(done for done, _ in told) == 10
    assert {most for _, most in told} == {LANES * CALLS}


def test_no_lane_is_called_again_once_the_time_is_over(here):
    found = call_until_done(STAGE, program_of(STAGE), keys(), here, begin(), within=0.0)
    # the first call ends two of the five
    assert (found.calls, found.cut) == (1, True)
    assert found.carry.steps.tolist() == [1, 2, 2, 2, 2]
    whole = call_until_done(STAGE, program_of(STAGE), keys(), here, begin(), within=1e6)
    assert (whole.calls, whole.cut) == (CALLS, False)


def test_lanes_that_come_first_leave_time_to_the_others(here, monkeypatch):
    """Five lanes on two cores come in three turns, each with a third of the time."""
    asked = []
    monkeypatch.setattr(lanes, "cores_for", lambda stage: 2)
    monkeypatch.setattr(lanes, "over", lambda limit, _: asked.append(limit))
    stage = lanes.stage_of_lanes("walk", LANES, walk, calls=2)
    found = call_until_done(
        stage, program_of(stage), keys()[:2], here, begin(), within=3.0
    )
    assert (found.calls, found.cut) == (2, False)
    assert sorted(asked) == [1.0, 1.0, 2.0, 2.0, 3.0]


def test_lanes_run_beside_one_another_on_two_cores(here, monkeypatch):
    monkeypatch.setattr(runtime_lanes, "cores", lambda: 2)
    meet = threading.Barrier(2, timeout=60)  # passed by two lanes together alone
    met = []

    def idle(own: Walk) -> bool:
        if int(own.steps) == 0:
            met.append(threading.get_ident())
            meet.wait()
        return False

    even = lanes.stage_of_lanes("walk", 4, walk, calls=CALLS, idle=idle)
    program = program_of(even)
    carry = jax.tree.map(lambda v: v[:4], begin())
    call_until_done(even, program, keys(), here, carry)
    assert len(met) == 4
    assert len(set(met)) == 2
    assert min(program.seconds) > 0


def test_lanes_that_are_gathered_after_each_call_are_the_mapped_stage(here):
    """The walks go on from the mean of all; the first is idle after two steps."""

    def spread(_: Any, mean: jax.Array) -> Walk:
        most = jnp.asarray([0, 2, 2, 2, 2])
        place = jnp.broadcast_to(mean, (LANES, 3))
        return Walk(place, jnp.zeros(LANES, int), most)

    def gather(_: Any, posterior: Any, mean: jax.Array, ends: Walk) -> jax.Array:
        return (mean + ends.place.mean(0)) / 2

    stage = lanes.stage_of_lanes(
        "walk", LANES, walk, spread, gather, calls=CALLS, idle=ended
    )
    told = []
    origin = jnp.ones(3)
    apart, *_ = call_until_done(
        stage, program_of(stage), keys(), here, origin, lambda *at: told.append(at)
    )
    whole, *_ = call_until_done(stage, jax.jit(stage.run), keys(), here, origin)
    np.testing.assert_allclose(apart, whole, rtol=1e-13)
    assert told == [(call + 1, CALLS) for call in range(CALLS)]


def test_an_error_in_one_lane_ends_all(here):
    class Enough(Exception):
        pass

    def tick(done, _):
        if done > 2:
            raise Enough

    with pytest.raises(Enough):
        call_until_done(STAGE, program_of(STAGE), keys(), here, begin(), tick)


def test_other_devices_take_the_mapped_program(here, monkeypatch):
    assert lanes.apart(STAGE, here)
    monkeypatch.setattr(runtime_lanes, "backend", lambda: "gpu")
    assert not lanes.apart(STAGE, here)


def test_streamed_rows_are_swept_by_one_lane_at_a_time(here, monkeypatch):
    monkeypatch.setattr(type(here), "streamed", True)
    assert not lanes.apart(STAGE, here)


def test_what_lanes_wait_for_one_another_is_summed_over_all_calls(here, monkeypatch):
    """On one core each of five lanes waits for four others, in each of the calls."""
    monkeypatch.setattr(runtime_lanes, "cores", lambda: 1)

    def idle(own: Walk) -> bool:
        time.sleep(0.01)
        return False

    def gather(_: Any, posterior: Any, carry: Walk, ends: Walk) -> Walk:
        return ends

    stage = lanes.stage_of_lanes("walk", LANES, walk, None, gather, idle, calls=CALLS)
    program = program_of(stage)
    call_until_done(stage, program, keys(), here, begin())
    assert program.waited >= CALLS * (LANES - 1) * 0.01


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 10.0])
def test_calls_in_one_are_the_calls_one_by_one(seconds, here, monkeypatch):
    """Short calls are made several at a time, which changes no draw."""
    monkeypatch.setattr(lanes, "CALL_S", seconds)
    stage = lanes.stage_of_lanes("walk", LANES, walk, calls=CALLS)
    told = []
    apart, calls, _ = call_until_done(
        stage, program_of(stage), keys(), here, begin(), lambda *at: told.append(at)
    )
    whole, *_ = call_until_done(STAGE, jax.jit(STAGE.run), keys(), here, begin())
    assert calls == CALLS
    assert told[-1] == (LANES * CALLS, LANES * CALLS)
    # the first call of a lane tells how long one takes
    assert len(told) == (2 * LANES if seconds == 10.0 else LANES * CALLS)
    for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_compiled_beforehand_is_what_is_called(here):
    made = []

    def heard(event: str, _: float, **told: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            made.append(told.get("fun_name"))

    stage = lanes.stage_of_lanes("walk", LANES, lambda *own: walk(*own), calls=CALLS)
    program = program_of(stage)
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        for lowered in program.lowered(keys()[0], here, begin())[0]:
            lowered.compile()
        before = [name for name in made if name == "jit(calls)"]
        call_until_done(stage, program, keys(), here, begin())
        after = [name for name in made if name == "jit(calls)"]
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert len(before) == len(after) == 1
