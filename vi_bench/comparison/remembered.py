"""Results of costly functions of arrays, remembered by what the arrays hold.

A run summarises the same draws again and again: whenever draws were added to another
method, when it is compared, and when notes are added. A digest of an array takes a
hundredth of the time of its effective sample sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any

import numpy as np

MOST = 20_000
"""Results kept, of each function; the oldest go first."""


def remembered[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """The same function of arrays and small values, each result worked out once.

    Results must not be changed by those who get them.
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
        if hasattr(value, "__array__"):  # of NumPy, or of JAX, whose text is cut
            value = np.asarray(value)
        if isinstance(value, np.ndarray):
            made.update(f"{value.shape}{value.dtype.str}".encode())
            made.update(np.ascontiguousarray(value).data)
        else:
            made.update(repr(value).encode())
        made.update(b"\0")
    return made.digest()
