"""Call an implementation of the plain form, and validate its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_bench.verification.problems import Problem
from vi_bench.verification.sandbox import Broken, array_of, guarded
from vi_bench.verification.textbook import responsibilities

Plain = Callable[..., Mapping[str, Any]]
"""f(data, K, sigma, seed) -> {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace};
"phi" and "elbo" are optional."""


@dataclass(frozen=True)
class Fit:
    """The result of an implementation, in 64 bits.

    Attributes:
        m: (K, d) means of q(mu_k).
        s2: (K,) variances of q(mu_k).
        phi: (N, K) responsibilities as given, or else the optimal ones for m and s2.
        has_phi: whether the responsibilities were given.
        elbo: the ELBO by sweep, nats; possibly empty.
        eps: machine epsilon of the type in which m and the ELBO were given.
    """

    m: np.ndarray
    s2: np.ndarray
    phi: np.ndarray
    has_phi: bool
    elbo: np.ndarray
    eps: float


def call(function: Plain, problem: Problem, limit: float) -> tuple[Fit, list[str]]:
    """Fit one problem; the result, and what the call changed that it must not change.

    Args:
        function: an implementation of the plain form.
        problem: the problem to fit.
        limit: seconds that the call may take.

    Raises:
        Broken: it raised, did not end in time, or its result is not valid.
    """
    data = problem.data.copy()
    given, changed = guarded(
        lambda: function(data, problem.K, problem.sigma, problem.seed), limit
    )
    if not np.array_equal(data, problem.data):
        changed.append("the data that it was given")
    return read(given, problem), changed


def read(given: Any, problem: Problem) -> Fit:
    """Validate the shapes and values of a result.

    Raises:
        Broken: they are wrong; the message says how.
    """
    n, d = problem.data.shape
    if not isinstance(given, Mapping):
        raise Broken(f"returned a {type(given).__name__}, expected a dict")
    if missing := [name for name in ("m", "s2") if given.get(name) is None]:
        raise Broken(f"returned no {missing[0]!r}, only {sorted(given)}")
    m, eps = array_of(given["m"], "m", (problem.K, d))
    s2, _ = array_of(given["s2"], "s2", (problem.K,))
    if not np.all(s2 > 0):
        raise Broken(f"s2 = {s2.tolist()}: variances must be positive")
    phi = None
    if given.get("phi") is not None:
        phi, of_phi = array_of(given["phi"], "phi", (n, problem.K))
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
        elbo, of_elbo = array_of(trace, "elbo", (trace.size,))
        eps = max(eps, of_elbo)
    return Fit(
        m=m,
        s2=s2,
        phi=responsibilities(problem.data, m, s2) if phi is None else phi,
        has_phi=phi is not None,
        elbo=elbo,
        eps=eps,
    )
