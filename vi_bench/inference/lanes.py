"""Stages of independent lanes, such as chains: one program, called on all cores.

XLA runs a loop over lanes on one core of a CPU. Here the program is that of a single
lane, and several threads call it on the same posterior, of which there are no copies.
What a lane computes depends neither on the cores nor on the number of lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from threading import Event, Lock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from vi_bench.contract import Posterior, Stage
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import beside, can_share, over_lanes
from vi_bench.runtime.provenance import cores

Lane = Callable[[Key, Any, Any], Any]
"""One lane of a stage: (key, posterior, carry) -> carry, without the leading axis."""

CALL_S = 0.02
"""Seconds that the program of a lane is to take at least: handing it over takes up to a
millisecond, in which the threads wait for one another."""

Tick = Callable[[int, int], None]
"""Called with (calls done, calls at most) between calls of a stage's program."""


class Called(NamedTuple):
    """A stage whose program was called until it was done.

    Attributes:
        carry: what it made.
        calls: how many there were; of lanes, of that with the most.
        cut: whether the time was over before it was done.
    """

    carry: Any
    calls: int
    cut: bool


def over(within: float | None, since: float) -> bool:
    """Whether more than `within` seconds have passed since `perf_counter` said so."""
    return within is not None and time.perf_counter() - since > within


def stage_of_lanes(
    name: str,
    number: int,
    lane: Lane,
    spread: Callable[[Any, Any], Any] | None = None,
    gather: Callable[[Key, Any, Any, Any], Any] | None = None,
    idle: Callable[[Any], bool] | None = None,
    **further: Any,
) -> Stage:
    """A stage that does the same for each of `number` lanes.

    Args:
        name: of the stage.
        number: of lanes.
        lane: what one does.
        spread: (posterior, carry) -> what the lanes begin with (number, ...); the carry
            itself by default.
        gather: (key, posterior, carry, what the lanes ended with) -> carry; by default
            that is what they ended with. Without this and `spread` each lane goes
            through all calls by itself.
        idle: whether a lane would be left as it is, by its own carry; it is not called.
        further: of the stage. `done` is asked of all lanes together.
    """

    def run(key: Key, posterior: Posterior, carry: Any) -> Any:
        begins = spread(posterior, carry) if spread else carry
        keys = jax.random.split(key, number)
        ends = over_lanes(lambda key, own: lane(key, posterior, own), keys, begins)
        return gather(key, posterior, carry, ends) if gather else ends

    return Stage(
        name,
        run,
        lane=lane,
        lanes=number,
        spread=spread,
        gather=gather,
        idle=idle,
        **further,
    )


def apart(stage: Stage, posterior: Posterior) -> bool:
    """Whether the lanes of a stage are run one by one, by the threads of a CPU."""
    return stage.lane is not None and can_share(posterior)


def cores_for(stage: Stage) -> int:
    """On how many cores the lanes of a stage are run, if they are."""
    return min(cores() or 1, stage.lanes)


@lru_cache(maxsize=64)
def lane_program(stage: Stage) -> LaneProgram:
    """The program of a stage; equal stages share what is compiled."""
    return LaneProgram(stage)


class LaneProgram:
    """The program of a stage's lane, called for all lanes.

    Attributes:
        seconds: of each lane, from its first call to its last, when last run.
        waited: by how many seconds all lanes together took longer than the longest one,
            over all runs: what a core for each would have saved.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        assert stage.lane is not None
        self.jitted: Any = _jitted(stage.lane)
        self.whole: Any = jax.jit(stage.run)
        self.spread: Any = stage.spread and jax.jit(stage.spread)
        self.gather: Any = stage.gather and jax.jit(stage.gather)
        self.seconds: list[float] = []
        self.waited = 0.0

    def lowered(
        self, key: Key, posterior: Posterior, carry: Any
    ) -> tuple[list[Any], Any]:
        """The lane's program, that which gathers and that which spreads, if any.

        They are not compiled yet. With them comes what the stage makes, as shapes.
        """
        begins, before, after = carry, [], []
        if self.spread:
            before = [self.spread.lower(posterior, carry)]
            begins = before[0].out_info
        own = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), begins)
        one = jax.random.key_data(key)
        number = self.stage.calls if self.free(posterior) else 1
        keys = jax.ShapeDtypeStruct((number, *one.shape), one.dtype)
        lane = self.jitted.lower(keys, 0, 1, posterior, own)
        ends = jax.tree.map(
            lambda v: jax.ShapeDtypeStruct((self.stage.lanes, *v.shape), v.dtype),
            lane.out_info,
        )
        if self.gather:
            after = [self.gather.lower(key, posterior, carry, ends)]
            ends = after[0].out_info
        return [lane, *after, *before], ends

    def free(self, posterior: Posterior) -> bool:
        """Whether each lane goes through all calls by itself."""
        alone = self.spread is None and self.gather is None
        return alone and apart(self.stage, posterior)

    def __call__(self, key: Key, posterior: Posterior, carry: Any) -> Any:
        """One call for all lanes."""
        if not apart(self.stage, posterior):
            return self.whole(key, posterior, carry)
        begins = self.spread(posterior, carry) if self.spread else carry
        ends = self.all_calls(key[None], posterior, begins)[0]
        return self.gather(key, posterior, carry, ends) if self.gather else ends

    def all_calls(
        self,
        keys: Key,
        posterior: Posterior,
        carry: Any,
        tick: Tick | None = None,
        within: float | None = None,
    ) -> Called:
        """All calls of each lane, until it is done.

        Args:
            keys: one for each call; a lane's own is split off, as `Stage.run` does it.
            posterior: shared by all lanes.
            carry: what the lanes begin with, with a leading axis.
            tick: told of the calls of all lanes together.
            within: seconds after which no lane is called again. Where there are more
                lanes than cores, those that come first have their share of it only.
        """
        lanes, calls = self.stage.lanes, len(keys)
        # NumPy's views, as each operation on JAX's arrays would be a program; what a
        # lane begins with is of the kind that its program makes
        own_keys = np.asarray(_key_data(keys, lanes))
        host = jax.tree.map(_on_host, carry)
        begins = [
            jax.device_put(jax.tree.map(lambda v: v[i], host))  # noqa: B023
            for i in range(lanes)
        ]
        lowered = self.jitted.lower(own_keys[0], 0, 1, posterior, begins[0])
        program = lowered.compile()
        stop, late, lock = Event(), Event(), Lock()
        made, seconds = [0] * lanes, [0.0] * lanes
        at_once = cores_for(self.stage)
        turns = -(-lanes // at_once)

        def limit(lane: int) -> float | None:
            return within and within * (lane // at_once + 1) / turns

        def run(lane: int) -> Any:
            own, begun, together = begins[lane], time.perf_counter(), 1
            try:
                while (first := made[lane]) < calls and not stop.is_set():
                    if (idle := self.stage.idle) and idle(own):
                        break
                    if first and over(limit(lane), since):
                        late.set()
                        break
                    last, start = min(first + together, calls), time.perf_counter()
                    own = program(own_keys[lane], first, last, posterior, own)
                    jax.block_until_ready(own)
                    if not self.stage.idle:
                        each = (time.perf_counter() - start) / (last - first)
                        together = max(1, int(CALL_S / each))
                    with lock:
                        made[lane] = last
                        if tick:
                            tick(sum(made), calls * lanes)
            except BaseException:
                stop.set()  # the other lanes end after the call that they are in
                raise
            seconds[lane] = time.perf_counter() - begun
            return own

        since = time.perf_counter()
        ends = beside(run, range(lanes))
        self.waited += max(time.perf_counter() - since - max(seconds), 0.0)
        self.seconds = seconds
        return Called(_joined(ends), max(made), late.is_set())


@lru_cache(maxsize=64)
def _jitted(lane: Lane) -> Any:
    """The program of a lane, which stages of the same lane share."""

    def calls(
        keys: Array, first: Array, last: Array, posterior: Posterior, own: Any
    ) -> Any:
        """The calls from `first` to before `last` of a lane whose keys are `keys`."""

        def call(number: Array, own: Any) -> Any:
            return lane(jax.random.wrap_key_data(keys[number]), posterior, own)

        if len(keys) == 1:
            return call(first, own)  # what it makes may be of another kind
        return lax.fori_loop(first, last, call, own)

    return jax.jit(calls)


@partial(jax.jit, static_argnums=1)
def _key_data(keys: Key, lanes: int) -> Array:
    """The keys of every lane, as numbers (lane, call, ...)."""
    own = jax.vmap(lambda key: jax.random.split(key, lanes), out_axes=1)(keys)
    return jax.random.key_data(own)


def _joined(ends: Sequence[Any]) -> Any:
    """The carries of all lanes as one, with a leading axis, on the host."""

    def joined(*leaves: Any) -> Any:
        stack = jnp.stack if _are_keys(leaves[0]) else np.stack
        return stack([_on_host(leaf) for leaf in leaves])

    return jax.tree.map(joined, *ends)


def _on_host(leaf: Any) -> Any:
    """An array of NumPy's; random keys, which NumPy does not know, stay as they are."""
    return leaf if _are_keys(leaf) else np.asarray(leaf)


def _are_keys(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
