"""Run independent computations of one shape, such as restarts or chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from vi_bench.runtime.environment import backend


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
