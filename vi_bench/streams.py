"""Streams of random numbers by name."""

from __future__ import annotations

import zlib

import jax

from vi_bench.contract import Key


def stream(key: Key, name: str) -> Key:
    """A key for a name: the same whatever else is run beside it."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
