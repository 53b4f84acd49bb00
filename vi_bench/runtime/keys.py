"""Independent random keys by name."""

from __future__ import annotations

import zlib

import jax
from jaxtyping import Array

Key = Array
"""A typed JAX PRNG key, ``jax.random.key(seed)``."""


def stream(key: Key, name: str) -> Key:
    """The key of a name, derived from `key` and the name only."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
