"""What Markov chain methods share: they sample in parts, and can go on sampling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vi_bench.contract import Posterior, Stage
from vi_bench.inference.lanes import Lane, stage_of_lanes
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key

PARTS = 20
"""Calls of the sampling stage at least, so that progress can be shown."""

TERMS = 5e9
"""Terms of rows, components and statistics that one call may go over: some seconds, for
which a budget, or an interrupt, has to wait."""


class Parts(NamedTuple):
    """How warm-up and sampling are cut into calls of one program.

    Attributes:
        draws: of a chain.
        each: how many of them one call makes.
    """

    draws: int
    each: int

    @property
    def calls(self) -> int:
        """Number of calls of the sampling stage."""
        return -(-self.draws // self.each)

    def steps(self, warmup: int) -> int:
        """Steps of a warm-up in one call: it has no more calls than sampling."""
        return -(-warmup // self.calls)


def in_parts(draws: int, most: int | None = None) -> Parts:
    """Parts of as many draws, of `most` at most."""
    each = -(-draws // min(PARTS, draws))
    return Parts(draws, each if most is None else max(1, min(each, most)))


def longest_part(posterior: Posterior, passes: int) -> int | None:
    """Draws that one call may make; None where their cost is not known.

    Args:
        posterior: of a mixture, whose passes cost what its terms are.
        passes: over the rows that a draw takes at most.
    """
    if not isinstance(posterior, Mixture):
        return None
    return int(TERMS / max(posterior.terms * passes, 1))


def sampling(chains: int, parts: Parts, lane: Lane, *kept: str) -> Stage:
    """The sampling stage, in parts.

    Args:
        chains: number of chains.
        parts: how it is cut.
        lane: a part of the draws of one.
        kept: fields of a chain that hold something of every draw.
    """
    return stage_of_lanes(
        "sample",
        chains,
        lane,
        calls=parts.calls,
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
    chains: int, parts: Parts, steps: int, lane: Lane, *kept: str
) -> tuple[Stage, Stage]:
    """Both stages, in parts: calls of one program.

    Args:
        chains: number of chains.
        parts: how sampling is cut.
        steps: of a warm-up.
        lane: `parts.steps` further steps of it; once that is over, further draws.
        kept: fields of a chain that hold something of every draw.
    """
    calls = -(-steps // parts.steps(steps))
    warmup = stage_of_lanes("warmup", chains, lane, calls=calls)
    return warmup, sampling(chains, parts, lane, *kept)


def warmup_key(key: Key, done: Array, known: Array) -> Array:
    """Data of the key from which all steps of a warm-up have theirs: its first call's.

    Args:
        key: of this call.
        done: steps of the warm-up before it.
        known: what this gave in the call before.
    """
    return jnp.where(done == 0, jax.random.key_data(key), known)


def with_room(chain: Any, draws: int) -> Any:
    """The chain, or where it has all its draws, one that continues with none yet.

    Chains are named tuples that count in `done` how many draws they hold.
    """
    return chain._replace(done=jnp.where(chain.done >= draws, 0, chain.done))
