"""Call a user's code with a time limit, restore global state, read what it returned."""

from __future__ import annotations

import ctypes
import random
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from vi_bench.errors import NotApplicable


class Broken(Exception):
    """An implementation failed or gave an invalid result; the message says how."""


class Raised(Broken):
    """An implementation raised an ordinary exception."""


class NotFinite(Broken):
    """An implementation returned NaN, or an infinite number."""


class Unreadable(Broken):
    """What an implementation returned is not of the form that is expected."""


def guarded(function: Callable[[], Any], limit: float) -> tuple[Any, list[str]]:
    """The result of a call, and the global state that it had changed.

    That is JAX's settings, and the global generators of NumPy and of Python.

    Args:
        function: the function to call.
        limit: seconds that the call may take.

    Raises:
        Broken: it raised, or took longer.
        NotApplicable: it raised that.
    """
    before, generators = _jax_settings(), _generators()
    try:
        result = limited(function, limit)
    finally:
        changed = _restore(before) + _restore_generators(generators)
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
        if isinstance(error, Broken):
            raise error
        text = f"raised {type(error).__name__}: {first_line(error)}"
        raise Raised(text) if isinstance(error, Exception) else Broken(text)
    return done["result"]


def _precision_of_this_thread() -> AbstractContextManager[None]:
    """A context with this thread's precision of JAX, for use in another thread."""
    if (jax := sys.modules.get("jax")) is None:
        return nullcontext()
    found: AbstractContextManager[None] = jax.enable_x64(jax.config.jax_enable_x64)
    return found


def first_line(error: BaseException) -> str:
    """The message of an exception, its first line."""
    try:
        return str(error).partition("\n")[0]
    except Exception:  # of a class that somebody else wrote
        return "its message cannot be read"


def array_of(given: Any, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """An array as float64, and the machine epsilon of the type that it was given in.

    Raises:
        Broken: it is not a finite array of that shape.
    """
    values, eps = _numbers(given, name)
    if values.shape != shape:
        raise Broken(f"{name} has the shape {values.shape}, expected {shape}")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        where = f"[{', '.join(map(str, wrong[0]))}]" if values.ndim else ""
        raise NotFinite(
            f"{name} has {len(wrong)} values not finite, the first is "
            f"{name}{where} = {values[tuple(wrong[0])]}"
        )
    return values, eps


def trace_of(given: Any, name: str) -> tuple[np.ndarray, float, str, str]:
    """A number or a trace (n,) as float64, without its values that are not finite.

    Arrays of one element count as their element, as do axes of length 1.

    Returns:
        The trace; the machine epsilon of its type; a remark, if its first values are
        -inf; and what is wrong with it, if others are not finite.

    Raises:
        Broken: it is not made of numbers, one a sweep.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        each = [_numbers(v, f"{name}[{i}]") for i, v in enumerate(given)]
        for i, (value, _) in enumerate(each):
            if value.size != 1 and len(each) > 1:
                raise Broken(
                    f"{name}[{i}] has the shape {value.shape}, expected one number"
                )
        values = np.concatenate([v.ravel() for v, _ in each] or [np.zeros(0)])
        eps = max((e for _, e in each), default=DOUBLE)
    else:
        values, eps = _numbers(given, name)
        if values.size != max(values.shape, default=1) and values.size:
            raise Broken(
                f"{name} has the shape {values.shape}, expected one number a sweep"
            )
        values = values.ravel()
    begun = int(np.argmax(values != -np.inf)) if (values != -np.inf).any() else 0
    remark = f"element 0 of {name} is -inf, and is not looked at" if begun else ""
    rest = values[begun:]
    wrong = np.flatnonzero(~np.isfinite(rest))
    fault = ""
    if len(wrong):
        first = begun + int(wrong[0])
        fault = (
            f"{name} has {len(wrong)} values not finite, the first is "
            f"{name}[{first}] = {values[first]}"
        )
    return rest[np.isfinite(rest)], eps, remark, fault


DOUBLE = float(np.finfo(np.float64).eps)
"""Machine epsilon of 64 bits."""


def _numbers(given: Any, name: str) -> tuple[np.ndarray, float]:
    """Anything as a float64 array, and the machine epsilon of its type.

    Raises:
        Broken: it cannot be read as real numbers, whatever exception that raises.
    """
    try:
        raw = np.asarray(given)
        if raw.dtype.kind not in "biufO" and raw.dtype.name != "bfloat16":
            raise TypeError(f"its type is {raw.dtype}")
        values = raw.astype(np.float64)
    except Exception as error:  # somebody else's type may raise anything
        kind = type(error).__name__
        raise Broken(
            f"{name}, a {type(given).__name__}, is not an array of numbers: {kind}: "
            f"{first_line(error)}"
        ) from None
    if raw.dtype.kind in "fV" and raw.dtype.itemsize < 8:
        return values, 2.0**-7 if raw.dtype.kind == "V" else float(
            np.finfo(raw.dtype).eps
        )
    return values, DOUBLE


def described(given: Any) -> str:
    """What a result is, in words, for a message that says what was expected."""
    kind = type(given).__name__
    if isinstance(given, tuple) and hasattr(given, "_fields"):
        return f"a {kind}, a named tuple of {', '.join(given._fields)}"
    if isinstance(given, (tuple, list)):
        types = ", ".join(type(v).__name__ for v in given[:6])
        return f"a {kind} of {len(given)} values ({types})"
    if isinstance(given, Mapping):
        return f"a {kind} with {sorted(map(str, given))}"
    if isinstance(given, type):
        return f"the class {given.__name__}"
    fields = [n for n in getattr(given, "__dict__", {}) if not n.startswith("_")]
    fields = fields or list(getattr(type(given), "__slots__", ()))
    return f"a {kind}" + (f" with the attributes {', '.join(fields)}" if fields else "")


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


def _generators() -> tuple[Any, Any]:
    """The states of the global generators of NumPy and of Python."""
    return np.random.get_state(), random.getstate()


def _restore_generators(before: tuple[Any, Any]) -> list[str]:
    """Restore the global generators; returns a description of each that had changed.

    Draws from Python's are no change: type checkers such as beartype make some. They
    are not undone, so that a result which depends on them is not repeatable.
    """
    changed = []
    of_numpy, of_python = _generators()
    if not all(map(np.array_equal, before[0], of_numpy)):
        np.random.set_state(before[0])
        changed.append("NumPy's global generator (np.random.seed, or draws from it)")
    if not _only_drawn(before[1], of_python):
        random.setstate(before[1])
        changed.append("Python's global generator (random.seed)")
    return changed


def _only_drawn(before: Any, after: Any) -> bool:
    """Whether draws, at most some hundred thousand, lead from one state to another."""
    generator = random.Random()
    generator.setstate(before)
    for _ in range(500):
        if generator.getstate()[1][:-1] == after[1][:-1]:
            return True
        generator.getrandbits(32 * 624)  # all that one state holds
    return False
