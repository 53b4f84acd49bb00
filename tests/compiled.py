"""A mixture's methods, each as one program.

Called as they are, every operation in them is a program of its own to be compiled.
"""

from functools import partial
from typing import Any

import jax

from vi_bench.mixture.mixture import Mixture


@partial(jax.jit, static_argnames="method")
def call(mixture: Mixture, method: str, *arguments: Any) -> Any:
    """What a method of a mixture gives for some arrays."""
    return getattr(mixture, method)(*arguments)


@partial(jax.jit, static_argnames="shape")
def draw(key: Any, mixture: Mixture, q: Any = None, shape: tuple[int, ...] = ()) -> Any:
    """Draws of theta from q, by default from the prior."""
    return mixture.draw(key, mixture.prior() if q is None else q, shape)
