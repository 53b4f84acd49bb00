"""Compile programs beside one another: much of XLA's work on each is on one core."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple

import jax

from vi_bench.runtime.environment import backend, settings_here
from vi_bench.runtime.provenance import cores


class Compiled(NamedTuple):
    """A program that was compiled.

    Attributes:
        program: of JAX, to be called.
        seconds: that it took, from StableHLO to machine code; 0 if this process had it.
        cached: whether the persistent cache or this process had it.
    """

    program: Any
    seconds: float
    cached: bool


Submit = Callable[[Any], Future[Compiled]]
"""Hands over a lowered program."""


@contextmanager
def compiling() -> Iterator[Submit]:
    """A context that compiles what is handed to it on every core, and ends with it.

    A program that is handed over twice is compiled once. For an accelerator they are
    compiled in turn, as XLA times kernels on it to choose some. What is not begun when
    the context is left by an exception is not compiled.
    """
    settings = settings_here()
    threads = (cores() or 1) if backend() == "cpu" else 1
    with _compilations() as made, ThreadPoolExecutor(threads) as pool:

        def compiled(lowered: Any) -> Compiled:
            own = made[get_ident()]
            own.clear()
            with settings():
                begun = time.perf_counter()
                program = lowered.compile()
                seconds = time.perf_counter() - begun
            return Compiled(program, seconds if own else 0.0, not any(own))

        try:
            yield lambda lowered: pool.submit(compiled, lowered)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _compilations() -> Iterator[dict[int, list[bool]]]:
    """Thread -> of each of its compilations inside this context, whether it is new.

    False stands for one from the persistent cache. Programs that this process has
    already compiled are not in the lists.
    """
    hits: dict[int, list[str]] = defaultdict(list)
    made: dict[int, list[bool]] = defaultdict(list)

    def on_event(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits[get_ident()].append(event)

    def on_duration(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            made[get_ident()].append(not hits.pop(get_ident(), None))

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    try:
        yield made
    finally:
        jax.monitoring.unregister_event_listener(on_event)
        jax.monitoring.unregister_event_duration_listener(on_duration)
