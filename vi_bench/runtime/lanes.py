"""Run independent computations of one shape, such as restarts or chains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from jax import lax

from vi_bench.runtime.environment import backend, settings_here
from vi_bench.runtime.provenance import cores


def over_lanes[T](function: Callable[..., T], *arguments: Any) -> T:
    """Map a function over the leading axis of its arguments, such as restarts.

    On a CPU it runs one lane after the other (`lax.map`): each stays in cache and stops
    when it is done. On an accelerator it runs all at once (`vmap`), to fill it.
    """
    if backend() == "cpu":
        mapped: T = lax.map(lambda packed: function(*packed), arguments)
    else:
        mapped = jax.vmap(function)(*arguments)
    return mapped


def beside[T, R](function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The function of every item, by a thread on each core, JAX's settings the same."""
    settings = settings_here()

    def settled(item: T) -> R:
        with settings():
            return function(item)

    with ThreadPoolExecutor(cores() or 1) as pool:
        return list(pool.map(settled, items))


def can_share(posterior: Any) -> bool:
    """Whether threads may compute with a posterior beside one another.

    Not where its rows are on several devices or processes, which take all calls in the
    same order, or stay in their file, which one sweep at a time reads.
    """
    shared = posterior.mesh is not None or jax.process_count() > 1
    return (
        backend() == "cpu" and not shared and not getattr(posterior, "streamed", False)
    )
