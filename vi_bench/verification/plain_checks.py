"""Identities that hold for a right implementation, however coarse its q is.

Each check gives a statistic and a threshold, in nats; failing one is a bug. A threshold
is the rounding of the terms that the usual formulas sum, and where closeness to an
optimum is asked, what the last sweep of the trace leaves to be gained. A q of a coarser
form is accepted: variances that are all equal are kept equal, and responsibilities that
are all 0 or 1 are kept so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vi_bench.verification import textbook
from vi_bench.verification.finding import (
    CLOSE,
    CONVERGED,
    HARD,
    ROUNDING,
    STEPS_LEFT,
    SWEEPS,
    Checks,
    Measured,
    Quality,
    hardness,
    last_rise,
    side_by_side,
    standing,
)
from vi_bench.verification.plain import Fit
from vi_bench.verification.problems import Problem

TIED = 1e-6
"""Sds, and relative differences of variances, up to which components count as equal."""


@dataclass(frozen=True)
class Case:
    """A problem and the result of an implementation."""

    problem: Problem
    fit: Fit

    @cached_property
    def bound(self) -> float:
        """The ELBO of the returned q by `textbook`, nats."""
        p, f = self.problem, self.fit
        return textbook.elbo(p.data, f.m, f.s2, f.phi, p.sigma)

    @cached_property
    def slack(self) -> float:
        """Nats of difference that the rounding of the usual formulas explains.

        A row of phi that misses 1 by a rounding weighs the whole of its terms with it.
        """
        return self._slack(self.fit.eps, self.fit.unsummed)

    @cached_property
    def trace_slack(self) -> float:
        """Nats of difference between ELBOs of the trace that rounding explains."""
        f = self.fit
        return self._slack(f.trace_eps, f.unsummed * min(f.trace_eps / f.eps, 1.0))

    def _slack(self, eps: float, unsummed: float) -> float:
        p, f = self.problem, self.fit
        size = textbook.scale(p.data, f.m, f.s2, p.sigma)
        rows = float(textbook.row_scale(p.data, f.m, f.s2).sum())
        return ROUNDING * eps * size + 4 * unsummed * rows

    @cached_property
    def centred_slack(self) -> float:
        """Nats of difference that rounding explains if nothing large is subtracted."""
        p, f = self.problem, self.fit
        size = textbook.centred_scale(p.data, f.m, f.s2, f.phi, p.sigma)
        return ROUNDING * f.eps * size

    @cached_property
    def escape(self) -> float:
        """Nats that a sweep may gain after one whose gain is lost in rounding.

        Near a saddle point a sweep multiplies a displacement by at most the largest
        squared distance of the data from their middle, and the gain by its square.
        """
        x = self.problem.data
        apart = np.sum((x - x.mean(axis=0)) ** 2, axis=1).max() if len(x) else 0.0
        return self.trace_slack * float(1 + apart) ** 2

    @cached_property
    def close(self) -> float:
        """Nats from an optimum at which an ascent with this trace may have ended."""
        rise = last_rise(self.fit.elbo)
        return min(CONVERGED, CLOSE + STEPS_LEFT * rise + self.escape)

    @cached_property
    def near_bounds(self) -> tuple[float, float]:
        """The ELBO of q with optimal phi, and with optimal m and s2, nats."""
        p, f = self.problem, self.fit
        phi = textbook.responsibilities(p.data, f.m, f.s2)
        m, s2 = self._means(f.phi)
        return (
            textbook.elbo(p.data, f.m, f.s2, phi, p.sigma),
            textbook.elbo(p.data, m, s2, f.phi, p.sigma),
        )

    @property
    def lags(self) -> bool:
        """Whether the last ELBO may be that of one sweep before the returned q."""
        trace = self.fit.elbo
        behind = self.bound - trace[-1]
        return bool(0 < behind <= 2 * last_rise(trace))

    @cached_property
    def lost(self) -> tuple[float, str] | None:
        """Decimal digits that the result has lost to rounding, and of what.

        These are digits that formulas which subtract before they square would have
        kept. None if there are none, or too few to tell.
        """
        f, found = self.fit, []
        if self.slack > 10 * self.centred_slack:
            size = self.centred_slack / ROUNDING
            if f.has_phi:
                found.append((f.unsummed / f.eps, "the sums of phi over components"))
            if f.elbo.size and not self.lags:
                off = min(abs(f.elbo[-1] - b) for b in (self.bound, *self.near_bounds))
                found.append((off / size, "the ELBO"))
            if f.elbo.size > 1:
                fall = float(-np.diff(f.elbo).min())
                found.append((fall / size, "the ELBO, which falls,"))
        units, what = max(found, default=(0.0, ""))
        if units <= ROUNDING:
            return None
        most = -np.log10(f.eps)
        return float(min(np.log10(units), most)), what

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing of the result."""
        return self.fit.remarks

    @property
    def unmade(self) -> dict[str, str]:
        """What was not returned -> what could therefore not be checked."""
        found = {}
        if not self.fit.elbo.size:
            found["elbo"] = (
                "the ELBO is what it says, below the evidence, the trace never falls, "
                "and the ELBO in prior without rows, one component is exact and known "
                "assignments"
            )
        elif self.fit.elbo.size == 1:
            found["a trace in elbo, which has one value"] = "the trace never falls"
        if not self.fit.has_phi:
            found["phi"] = "that responsibilities add up to 1 and are optimal"
        return found

    @cached_property
    def evidence(self) -> float:
        """Log p(X) in nats, by enumeration."""
        p = self.problem
        return textbook.log_evidence(p.data, p.K, p.sigma)

    @cached_property
    def equal_variances(self) -> bool:
        """Whether q has one variance for all components, though their counts differ."""
        s2, eps = self.fit.s2, self.fit.eps
        same = bool(np.ptp(s2) <= 8 * eps * s2.max())
        counts = self.fit.phi.sum(axis=0)
        return same and self.problem.K > 1 and bool(np.ptp(counts) > 1e-6)

    @cached_property
    def hard(self) -> bool:
        """Whether q has hard assignments, though the optimal ones are not."""
        if not self.fit.has_phi or not len(self.problem.data) or self.problem.K == 1:
            return False
        soft = textbook.responsibilities(self.problem.data, self.fit.m, self.fit.s2)
        return bool(hardness(self.fit.phi) <= HARD < hardness(soft))

    @cached_property
    def quality(self) -> Quality:
        """The accuracy of the approximation."""
        p = self.problem
        form = []
        if self.equal_variances:
            form.append("one variance for all components")
        if self.hard:
            form.append("assignments without doubt")
        best = textbook.best_elbo(p.data, p.K, p.sigma)
        return Quality(
            p,
            max(best - self.bound, 0.0),
            self.evidence - self.bound if p.enumerable else None,
            " and ".join(form),
        )

    def further(self, sweeps: int = SWEEPS) -> float:
        """The ELBO, nats, after more sweeps that keep the form of q."""
        p, f = self.problem, self.fit
        m, s2, phi = f.m, f.s2, f.phi
        leaders = self._leaders
        for _ in range(sweeps):
            m, s2 = self._means(phi)
            m, s2 = m[leaders], s2[leaders]
            phi = textbook.responsibilities(p.data, m, s2)
            if self.hard:
                phi = np.eye(p.K)[np.argmax(phi, axis=1)]
        return textbook.elbo(p.data, m, s2, phi, p.sigma)

    @cached_property
    def _leaders(self) -> np.ndarray:
        """The first component (K,) that each equals, up to rounding; mostly itself.

        Equal components are a saddle point, where rounding grows from sweep to sweep
        and would hide that it is a fixed point.
        """
        m, s2 = self.fit.m, self.fit.s2
        away = np.abs(m[:, None] - m).max(axis=2) / np.sqrt(s2)
        wider = np.abs(np.log(s2[:, None] / s2))
        found: np.ndarray = np.argmax(np.maximum(away, wider) <= TIED, axis=1)
        return found

    def _means(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The optimal m and s2 for phi, of the form of q."""
        p = self.problem
        m, s2 = textbook.means(p.data, phi, p.sigma)
        if self.equal_variances:
            s2 = np.full(p.K, p.K / np.sum(1 / s2))
        return m, s2


check: Checks[Case] = Checks()
PROVES = check.proves


@check("prior without rows", "N = 0: q is the prior, the ELBO is 0")
def _prior(case: Case) -> Measured:
    p, f = case.problem, case.fit
    if len(p.data):
        return
    yield from _factors(case, np.zeros_like(f.m), np.full(p.K, p.sigma**2), "the prior")
    if f.elbo.size:
        last = f.elbo[-1]
        yield abs(last), case.close + case.trace_slack, f"ELBO {last:.6g}, expected 0"


@check("one component is exact", "K = 1: q is the posterior, the ELBO is log p(X)")
def _single(case: Case) -> Measured:
    p, f = case.problem, case.fit
    if p.K > 1 or not len(p.data):
        return
    m, s2 = textbook.means(p.data, np.ones((len(p.data), 1)), p.sigma)
    yield from _factors(case, m, s2, "the posterior")
    if f.elbo.size:
        one, other, off = side_by_side(f.elbo[-1], case.evidence)
        yield (
            abs(f.elbo[-1] - case.evidence),
            case.close + case.slack,
            f"ELBO {one}, log p(X) {other}: {off} nats",
        )


@check("known assignments", "components apart: conjugate answers, ELBO = log p(X, c)")
def _separated(case: Case) -> Measured:
    p, f = case.problem, case.fit
    soft = textbook.responsibilities(p.data, f.m, f.s2)
    if p.K == 1 or not len(p.data) or hardness(soft) > HARD:
        return
    labels = np.argmax(soft, axis=1)
    m, s2 = case._means(np.eye(p.K)[labels])
    yield from _factors(case, m, s2, "the conjugate posterior")
    if f.elbo.size and not case.equal_variances:
        exact = textbook.log_joint(p.data, labels, p.K, p.sigma)
        one, other, off = side_by_side(f.elbo[-1], exact)
        yield (
            abs(f.elbo[-1] - exact),
            case.close + case.slack,
            f"ELBO {one}, log p(X, c) {other}: {off} nats",
        )


@check("the ELBO is what it says", "last ELBO = E_q[log p(X, c, mu) - log q(c, mu)]")
def _definition(case: Case) -> Measured:
    trace = case.fit.elbo
    if not trace.size:
        return
    said = float(trace[-1])
    one, other, off = side_by_side(said, case.bound)
    yield (
        abs(said - case.bound),
        CONVERGED + case.slack,
        f"ELBO {one}, of the returned q it is {other}: {off} nats",
    )
    if not case.lags:
        near = min((case.bound, *case.near_bounds), key=lambda b: abs(said - b))
        yield (
            abs(said - near),
            CLOSE + case.slack,
            f"ELBO {one}, of the returned q it is {other}: {off} nats. With phi "
            "optimal for m and s2, or these for phi, it is not that either, so the "
            "ELBO, m, s2 and phi are not of one sweep",
        )


@check("below the evidence", "no ELBO of the trace exceeds log p(X), by enumeration")
def _below(case: Case) -> Measured:
    trace = case.fit.elbo
    if trace.size and case.problem.enumerable:
        step = int(np.argmax(trace))
        one, other, off = side_by_side(trace[step], case.evidence)
        yield (
            float(trace[step] - case.evidence),
            case.trace_slack,
            f"ELBO {one} of sweep {step} exceeds log p(X) = {other} by {off} nats",
        )


@check("the trace never falls", "every sweep raises the ELBO, or leaves it")
def _rising(case: Case) -> Measured:
    trace = case.fit.elbo
    if trace.size < 2:
        return
    step = int(np.argmin(np.diff(trace)))
    fall = trace[step] - trace[step + 1]
    yield (
        float(fall),
        case.trace_slack,
        f"the ELBO falls by {fall:.6g} nats in sweep {step + 1} of {trace.size}",
    )
    yield from standing(trace, CONVERGED + case.escape)


@check("a fixed point", f"{SWEEPS} more sweeps gain nothing that q's form allows")
def _fixed(case: Case) -> Measured:
    for sweeps, most in ((1, case.close), (SWEEPS, CONVERGED)):
        gain = case.further(sweeps) - case.bound
        number = "one textbook sweep" if sweeps == 1 else f"{sweeps} textbook sweeps"
        said = f"{number} from the returned q gain {gain:.6g} nats"
        if sweeps == 1 and case.fit.elbo.size > 1:
            said += f", the last sweep of its trace {last_rise(case.fit.elbo):.3g}"
        yield gain, most + case.slack, said


def _factors(case: Case, m: np.ndarray, s2: np.ndarray, what: str) -> Measured:
    """Compare q(mu) with exact factors, in nats; the worst parameters are named."""
    p, f = case.problem, case.fit
    units = np.sqrt(s2)
    away = np.abs(f.m - m).max(axis=1) / units
    ratio = f.s2 / s2 - 1
    far, wide = int(np.argmax(away)), int(np.argmax(np.abs(ratio)))
    # rounding is relative to the sums whose quotient is m
    size = 1 + np.abs(p.data).max(initial=0.0) / units.min() * len(p.data)
    rounded = ROUNDING * f.eps * f.m.size * (1 + 0.5 * ROUNDING * f.eps * size**2)
    gap = textbook.divergence(f.m, f.s2, m, s2)
    yield (
        gap,
        case.close + rounded,
        f"q(mu) is {gap:.3g} nats from {what}: m of component {far} is off by "
        f"{away[far]:.3g} sds, s2 of component {wide} is {f.s2[wide]:.6g} and should "
        f"be {s2[wide]:.6g} (1 {ratio[wide]:+.3g} times that)",
    )
