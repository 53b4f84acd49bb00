"""Call an implementation of the plain form, and validate its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_bench.verification import textbook
from vi_bench.verification.finding import ROUNDING
from vi_bench.verification.problems import Problem
from vi_bench.verification.sandbox import (
    Broken,
    array_of,
    described,
    guarded,
    trace_of,
)

Plain = Callable[..., Mapping[str, Any]]
"""f(data, K, sigma, seed) -> {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace};
"phi" and "elbo" are optional. It raises NotApplicable for a problem that it is not for,
such as one with more than one feature."""

EXPECTED = 'a dict {"m": (K, d), "s2": (K,), "phi": (N, K), "elbo": trace}'
"""What a function of the plain form returns."""


@dataclass(frozen=True)
class Fit:
    """The result of an implementation, in 64 bits.

    Attributes:
        m: (K, d) means of q(mu_k).
        s2: (K,) variances of q(mu_k).
        phi: (N, K) responsibilities as given, or else the optimal ones for m and s2.
        has_phi: whether the responsibilities were given.
        elbo: the ELBO by sweep, nats, finite; possibly empty.
        eps: machine epsilon of the least precise type in which any of them was given:
            a number in 64 bits that follows from one in 32 is no better.
        trace_eps: that of m and the ELBO: a trace does not follow from how s2 and phi
            were stored.
        unsummed: by how much a row of phi may miss 1, because it was computed from
            scores that are rounded.
        remarks: what is worth knowing of the result, and no fault.
        faults: promises that were broken, though the checks can be made.
    """

    m: np.ndarray
    s2: np.ndarray
    phi: np.ndarray
    has_phi: bool
    elbo: np.ndarray
    eps: float
    trace_eps: float
    unsummed: float = 0.0
    remarks: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def call(function: Plain, problem: Problem, limit: float) -> tuple[Fit, list[str]]:
    """Fit one problem; the result, and what the call changed that it must not change.

    Args:
        function: an implementation of the plain form.
        problem: the problem to fit.
        limit: seconds that the call may take.

    Raises:
        Broken: it raised, did not end in time, or its result is not valid.
        NotApplicable: it does not apply to this problem.
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
        raise Broken(f"returned {described(given)}, expected {EXPECTED}")
    parts = {name: given[name] for name in NAMES if name in given}
    parts = {name: part for name, part in parts.items() if part is not None}
    if missing := [name for name in ("m", "s2") if name not in parts]:
        raise Broken(
            f"returned no {missing[0]!r}, only {sorted(map(str, given))}; expected "
            f"{EXPECTED}"
        )
    m, trace_eps = array_of(parts["m"], "m", (problem.K, d))
    s2, of_s2 = array_of(parts["s2"], "s2", (problem.K,))
    if not np.all(s2 > 0):
        raise Broken(f"s2 = {s2.tolist()}: variances must be positive")
    eps = max(trace_eps, of_s2)
    rows = textbook.row_scale(problem.data, m, s2)
    phi = None
    # what a row of exp(scores - logsumexp(scores)) may miss, see `rows`
    unsummed = 4 * eps * float(rows.max(initial=0.0))
    if "phi" in parts:
        phi, of_phi = array_of(parts["phi"], "phi", (n, problem.K))
        eps = max(eps, of_phi)
        unsummed = _add_up(phi, ROUNDING * eps * (problem.K + rows))
    elbo, remark, fault = np.zeros(0), "", ""
    if "elbo" in parts:
        elbo, of_elbo, remark, fault = trace_of(parts["elbo"], "elbo")
        eps, trace_eps = max(eps, of_elbo), max(trace_eps, of_elbo)
    return Fit(
        m=m,
        s2=s2,
        phi=textbook.responsibilities(problem.data, m, s2) if phi is None else phi,
        has_phi=phi is not None,
        elbo=elbo,
        eps=eps,
        trace_eps=trace_eps,
        unsummed=unsummed,
        remarks=tuple(filter(None, [remark])),
        faults=tuple(filter(None, [fault])),
    )


NAMES = ("m", "s2", "phi", "elbo")


def _add_up(phi: np.ndarray, slack: np.ndarray) -> float:
    """The largest distance of a row's sum from 1.

    Raises:
        Broken: a row (N, K) is not made of probabilities, to within its slack (N,).
    """
    if not len(phi):
        return 0.0
    off = np.abs(phi.sum(axis=1) - 1)
    wrong = np.maximum(off, -phi.min(axis=1)) > slack
    if wrong.any():
        worst = int(np.argmax(np.where(wrong, off - phi.min(axis=1), -np.inf)))
        raise Broken(
            f"phi of row {worst} is {phi[worst].tolist()}: expected probabilities "
            f"that add up to 1, the sum is 1 {phi[worst].sum() - 1:+.3g}"
        )
    return float(off.max())
