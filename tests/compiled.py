"""A mixture's methods, and what is made of them, each as one program.

Called as they are, every operation in them is a program of its own to be compiled.
"""

from functools import partial
from typing import Any

import jax

from vi_bench.contract import Draws, Method, Posterior, Problem
from vi_bench.inference.squarem import Ascent, begin, coordinate_ascent
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.mixture.mixture import Mixture


@partial(jax.jit, static_argnames="method")
def call(mixture: Mixture, method: str, *arguments: Any) -> Any:
    """What a method of a mixture gives for some arrays."""
    return getattr(mixture, method)(*arguments)


@partial(jax.jit, static_argnames="shape")
def draw(key: Any, mixture: Mixture, q: Any = None, shape: tuple[int, ...] = ()) -> Any:
    """Draws of theta from q, by default from the prior."""
    return mixture.draw(key, mixture.prior() if q is None else q, shape)


@partial(jax.jit, static_argnames=("most", "tolerance"))
def ascent(mixture: Mixture, phi: Any, most: int, tolerance: float) -> Ascent:
    """CAVI from responsibilities phi (N, K), of at most `most` sweeps."""
    q = mixture.from_responsibilities(phi)
    start = begin(q, mixture.view(q), most)
    found: Ascent = coordinate_ascent(mixture)(start, most, tolerance)
    return found


def driven(
    method: Method, posterior: Posterior, chains: int, draws: int, seed: int = 0
) -> Draws:
    """A method's draws, without what a run does beside."""
    key = jax.random.key(seed)
    stages = prepare(method, Problem(posterior, chains, draws), key)
    found: Draws = drive(stages, key, posterior, calling(compiled(stages)))
    return found
