"""Streams of random numbers by name."""

from __future__ import annotations

import zlib

import jax
from jaxtyping import Array

Key = Array
"""A typed JAX PRNG key, ``jax.random.key(seed)``."""


def stream(key: Key, name: str) -> Key:
    """A key for a name: the same whatever else is run beside it."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
