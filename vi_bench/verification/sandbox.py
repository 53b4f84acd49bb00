"""Call somebody's code: with a time limit, and with JAX's settings put back."""

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
    """An implementation did not give what it promises; what it did instead."""


def guarded(function: Callable[[], Any], limit: float) -> tuple[Any, list[str]]:
    """The result of a call, and which of JAX's settings it had changed.

    Args:
        function: what is called.
        limit: seconds.

    Raises:
        Broken: it raised, or takes longer.
    """
    before = _jax_settings()
    try:
        result = limited(function, limit)
    finally:
        changed = _restore(before)
    return result, changed


def limited(function: Callable[[], Any], limit: float) -> Any:
    """The result of a call that may take `limit` seconds.

    A call that takes longer is told to stop: Python code does, at its next line; other
    code is left behind in its thread.

    Raises:
        Broken: it raised, or takes longer.
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
    """JAX's precision here: a `with` that has changed it holds for one thread only."""
    if (jax := sys.modules.get("jax")) is None:
        return nullcontext()
    found: AbstractContextManager[None] = jax.enable_x64(jax.config.jax_enable_x64)
    return found


def array_of(given: Any, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """As float64, and the rounding of the type that it came in.

    Raises:
        Broken: it is no finite array of that shape.
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
    """JAX's global settings; none where nothing has imported it."""
    return dict(sys.modules["jax"].config.values) if "jax" in sys.modules else {}


def _restore(before: dict[str, Any]) -> list[str]:
    """Put JAX's settings back; which of them had been changed."""
    changed = []
    after = _jax_settings()
    for name, value in before.items():
        if after.get(name) != value:
            sys.modules["jax"].config.update(name, value)
            changed.append(f"JAX's setting {name}: {value!r} to {after.get(name)!r}")
    return changed
