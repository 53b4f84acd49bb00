"""What Markov chain methods share: they sample in parts, and can go on sampling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vi_bench.contract import Stage
from vi_bench.inference.lanes import Lane, stage_of_lanes
from vi_bench.runtime.keys import Key

PARTS = 20
"""Number of calls of the sampling stage, so that progress can be shown."""


def draws_of_a_part(draws: int) -> int:
    """Number of draws that one call of the sampling stage makes."""
    return -(-draws // min(PARTS, draws))


def steps_of_a_part(steps: int, draws: int) -> int:
    """Number of steps that one call of a warm-up makes.

    So it has no more calls than sampling; as many, and one program serves both.
    """
    return -(-steps // _calls(draws))


def sampling(chains: int, draws: int, lane: Lane, *kept: str) -> Stage:
    """The sampling stage, in parts.

    Args:
        chains: number of chains.
        draws: of each.
        lane: a part of the draws of one.
        kept: fields of a chain that hold something of every draw.
    """
    return stage_of_lanes(
        "sample",
        chains,
        lane,
        calls=_calls(draws),
        again="onward",
        cut=partial(first_draws, fields=kept),
    )


def first_draws(chains: Any, fields: Sequence[str]) -> Any:
    """Chains without the room for draws that not all of them have made."""
    number = int(np.min(chains.done))

    def shorter(leaf: Any) -> Any:
        return leaf[:, :number]

    kept = {name: jax.tree.map(shorter, getattr(chains, name)) for name in fields}
    return chains._replace(**kept)


def warmup_and_sampling(
    chains: int, draws: int, steps: int, lane: Lane, *kept: str
) -> tuple[Stage, Stage]:
    """Both stages, in parts: calls of one program.

    Args:
        chains: number of chains.
        draws: of each.
        steps: of a warm-up.
        lane: `steps_of_a_part` further steps of it; once that is over, further draws.
        kept: fields of a chain that hold something of every draw.
    """
    calls = -(-steps // steps_of_a_part(steps, draws))
    warmup = stage_of_lanes("warmup", chains, lane, calls=calls)
    return warmup, sampling(chains, draws, lane, *kept)


def warmup_key(key: Key, done: Array, known: Array) -> Array:
    """Data of the key from which all steps of a warm-up have theirs: its first call's.

    Args:
        key: of this call.
        done: steps of the warm-up before it.
        known: what this gave in the call before.
    """
    return jnp.where(done == 0, jax.random.key_data(key), known)


def _calls(draws: int) -> int:
    return -(-draws // draws_of_a_part(draws))


def with_room(chain: Any, draws: int) -> Any:
    """The chain, or where it has all its draws, one that continues with none yet.

    Chains are named tuples that count in `done` how many draws they hold.
    """
    return chain._replace(done=jnp.where(chain.done >= draws, 0, chain.done))
