"""Run a whole method within one compiled program, for many data sets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vi_bench.contract import Draws, Method, Posterior, Problem, Stage
from vi_bench.inference.stages import call_until_done, drive, prepare, traced
from vi_bench.runtime.keys import Key, stream


def through(method: Method, posterior: Posterior, key: Key, draws: int) -> Draws:
    """Prepare a method and run all its stages, for one chain; traceable by JAX.

    Raises:
        NotApplicable: the method cannot work on this problem.
        jax.errors.JAXTypeError: it needs the data on the host.
    """
    stages = prepare(method, Problem(posterior, 1, draws), key)
    # after a stage that is a Python function nothing is traced: compile what follows
    host = any(not stage.compiled for stage in stages)
    found: Draws = drive(stages, key, posterior, alone if host else traced)
    return found


def alone(stage: Stage, keys: Key, posterior: Posterior, carry: Any) -> Any:
    """Runs a stage as a program of its own, or as the Python function that it is."""
    program = jax.jit(stage.run) if stage.compiled else stage.run
    return call_until_done(stage, program, keys, posterior, carry).carry


def keys_of(seed: int, name: str, indices: Array) -> Key:
    """A key for each simulation, from the seed, a name and the simulation's index."""
    base = stream(jax.random.key(seed), name)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(jnp.asarray(indices))
