"""What Markov chain methods share: they sample in parts, and can go on sampling."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

PARTS = 20
"""Number of calls of the sampling stage, so that progress can be shown."""


def draws_of_a_part(draws: int) -> int:
    """Number of draws that one call of the sampling stage makes."""
    return -(-draws // min(PARTS, draws))


def calls_of(draws: int) -> int:
    """Number of calls of the sampling stage."""
    return -(-draws // draws_of_a_part(draws))


def with_room(chain: Any, draws: int) -> Any:
    """The chain, or where it has all its draws, one that continues with none yet.

    Chains are named tuples that count in `done` how many draws they hold.
    """
    return chain._replace(done=jnp.where(chain.done >= draws, 0, chain.done))
