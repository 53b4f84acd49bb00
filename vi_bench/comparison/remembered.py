"""A cache of costly functions of arrays, keyed by the arrays' contents.

A run summarises the same draws repeatedly: whenever draws are added to another method,
at the comparison, and when notes are added. A digest of an array takes a hundredth of
the time of its effective sample sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any

import numpy as np

MOST = 20_000
"""Results kept for each function; the oldest are dropped first."""


def remembered[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Cache a function of arrays and small values.

    Callers must not modify the results.
    """
    known: dict[bytes, T] = {}
    lock = Lock()

    @wraps(function)
    def recall(*args: P.args, **options: P.kwargs) -> T:
        key = _digest((*args, *sorted(options.items())))
        with lock:
            if key in known:
                return known[key]
        result = function(*args, **options)
        with lock:
            while len(known) >= MOST:
                known.pop(next(iter(known)))
            known[key] = result
        return result

    return recall


def _digest(values: tuple[Any, ...]) -> bytes:
    """A digest of arrays by their contents, and of other values by their text."""
    made = hashlib.blake2b(digest_size=16)
    for value in values:
        if hasattr(value, "__array__"):  # NumPy, or JAX, whose repr is truncated
            value = np.asarray(value)
        if isinstance(value, np.ndarray):
            made.update(f"{value.shape}{value.dtype.str}".encode())
            made.update(np.ascontiguousarray(value).data)
        else:
            made.update(repr(value).encode())
        made.update(b"\0")
    return made.digest()
