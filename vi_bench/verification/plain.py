"""Call an implementation of the plain form, and hold what it gives to its promise."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_bench.verification.problems import Problem
from vi_bench.verification.textbook import responsibilities

Plain = Callable[..., Mapping[str, Any]]
"""f(data, K, sigma, seed) -> {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace};
"phi" and "elbo" may be missing."""


@dataclass(frozen=True)
class Fit:
    """What an implementation gave, in 64 bits.

    Attributes:
        m: (K, d) means of q(mu_k).
        s2: (K,) variances.
        phi: (N, K) as given, or the optimal ones for m and s2.
        has_phi: whether they were given.
        elbo: the trace, possibly empty.
        eps: relative rounding of the type that m and the trace came in.
    """

    m: np.ndarray
    s2: np.ndarray
    phi: np.ndarray
    has_phi: bool
    elbo: np.ndarray
    eps: float


class Broken(Exception):
    """An implementation did not give what it promises; what it did instead."""


def call(function: Plain, problem: Problem, limit: float) -> tuple[Fit, list[str]]:
    """One fit, and what was changed that is not the implementation's to change.

    Args:
        function: of the plain form.
        problem: what to fit.
        limit: seconds.

    Raises:
        Broken: it raised, did not end, or returned something else.
    """
    data = problem.data.copy()
    before = _jax_settings()
    try:
        given = limited(
            lambda: function(data, problem.K, problem.sigma, problem.seed), limit
        )
    finally:
        changed = _restore(before)
    if not np.array_equal(data, problem.data):
        changed.append("the data that it was given")
    return read(given, problem), changed


def limited(function: Callable[[], Any], limit: float) -> Any:
    """The result of a call that may take `limit` seconds.

    A call that takes longer is told to stop: Python code does, at its next line; other
    code is left behind in its thread.

    Raises:
        Broken: it raised, or takes longer.
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
        text = str(error).partition("\n")[0]
        raise Broken(f"raised {type(error).__name__}: {text}")
    return done["result"]


def _precision_of_this_thread() -> AbstractContextManager[None]:
    """JAX's precision here: a `with` that has changed it holds for one thread only."""
    if (jax := sys.modules.get("jax")) is None:
        return nullcontext()
    found: AbstractContextManager[None] = jax.enable_x64(jax.config.jax_enable_x64)
    return found


def read(given: Any, problem: Problem) -> Fit:
    """Check shapes and values of what was returned.

    Raises:
        Broken: what is wrong with it.
    """
    n, d = problem.data.shape
    if not isinstance(given, Mapping):
        raise Broken(f"returned a {type(given).__name__}, expected a dict")
    if missing := [name for name in ("m", "s2") if given.get(name) is None]:
        raise Broken(f"returned no {missing[0]!r}, only {sorted(given)}")
    m, eps = _array(given, "m", (problem.K, d))
    s2, _ = _array(given, "s2", (problem.K,))
    if not np.all(s2 > 0):
        raise Broken(f"s2 = {s2.tolist()}: variances must be positive")
    phi = None
    if given.get("phi") is not None:
        phi, of_phi = _array(given, "phi", (n, problem.K))
        slack = 16 * problem.K * max(eps, of_phi)
        if n and (phi.min() < -slack or np.abs(phi.sum(axis=1) - 1).max() > slack):
            worst = int(np.argmax(np.abs(phi.sum(axis=1) - 1)))
            raise Broken(
                f"phi of row {worst} is {phi[worst].tolist()}: expected probabilities "
                "that add up to 1"
            )
    elbo = np.zeros(0)
    if given.get("elbo") is not None:
        trace = np.atleast_1d(np.asarray(given["elbo"]))
        elbo, of_elbo = _array({"elbo": trace}, "elbo", (trace.size,))
        eps = max(eps, of_elbo)
    return Fit(
        m=m,
        s2=s2,
        phi=responsibilities(problem.data, m, s2) if phi is None else phi,
        has_phi=phi is not None,
        elbo=elbo,
        eps=eps,
    )


def _array(
    given: Mapping[str, Any], name: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, float]:
    """As float64, and the rounding of the type that it came in."""
    try:
        raw = np.asarray(given[name])
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
