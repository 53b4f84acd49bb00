"""Call a user's code with a time limit, and restore JAX's settings after it."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from vi_bench.errors import NotApplicable


class Broken(Exception):
    """An implementation failed or gave an invalid result; the message says how."""


def guarded(function: Callable[[], Any], limit: float) -> tuple[Any, list[str]]:
    """The result of a call, and the settings of JAX that it had changed.

    Args:
        function: the function to call.
        limit: seconds that the call may take.

    Raises:
        Broken: it raised, or took longer.
        NotApplicable: it raised that.
    """
    before = _jax_settings()
    try:
        result = limited(function, limit)
    finally:
        changed = _restore(before)
    return result, changed


def limited(function: Callable[[], Any], limit: float) -> Any:
    """The result of a call that may take `limit` seconds.

    In a call that takes longer TimeoutError is raised: Python code stops at its next
    line; other code goes on in its thread.

    Raises:
        Broken: it raised, or took longer.
        NotApplicable: it raised that.
    """
    done: dict[str, Any] = {}
    precision = _precision_of_this_thread()

    def run() -> None:
        try:
            with precision:
                done["result"] = function()
        except BaseException as error:  # SystemExit is a way to fail, too
            done["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeoutError)
        )
        thread.join(0.5)
        raise Broken(f"has not ended after {limit:g} s")
    if "error" in done:
        error = done["error"]
        if isinstance(error, NotApplicable):
            raise error
        text = str(error).partition("\n")[0]
        raise Broken(f"raised {type(error).__name__}: {text}")
    return done["result"]


def _precision_of_this_thread() -> AbstractContextManager[None]:
    """A context with this thread's precision of JAX, for use in another thread."""
    if (jax := sys.modules.get("jax")) is None:
        return nullcontext()
    found: AbstractContextManager[None] = jax.enable_x64(jax.config.jax_enable_x64)
    return found


def array_of(given: Any, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """An array as float64, and the machine epsilon of the type that it was given in.

    Raises:
        Broken: it is not a finite array of that shape.
    """
    try:
        raw = np.asarray(given)
        values = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise Broken(f"{name} is not an array of numbers: {error}") from None
    if values.shape != shape:
        raise Broken(f"{name} has the shape {values.shape}, expected {shape}")
    if not np.isfinite(values).all():
        raise Broken(
            f"{name} has {int(np.sum(~np.isfinite(values)))} values not finite"
        )
    single = raw.dtype.kind == "f" and raw.dtype.itemsize < 8
    return values, float(np.finfo(raw.dtype if single else np.float64).eps)


def _jax_settings() -> dict[str, Any]:
    """JAX's global settings; empty if JAX was not imported."""
    return dict(sys.modules["jax"].config.values) if "jax" in sys.modules else {}


def _restore(before: dict[str, Any]) -> list[str]:
    """Restore JAX's settings; returns a description of each that had been changed."""
    changed = []
    after = _jax_settings()
    for name, value in before.items():
        if after.get(name) != value:
            sys.modules["jax"].config.update(name, value)
            changed.append(f"JAX's setting {name}: {value!r} to {after.get(name)!r}")
    return changed
