"""Identities that hold for a right implementation, however coarse its q is.

Each check gives a statistic and a threshold, in nats or in standard deviations; failing
one is a bug. A q of a coarser form is accepted: variances that are all equal are kept
equal, and responsibilities that are all 0 or 1 are kept so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vi_bench.verification import textbook
from vi_bench.verification.finding import (
    CONVERGED,
    HARD,
    ROUNDING,
    SWEEPS,
    Checks,
    Measured,
    Quality,
    hardness,
)
from vi_bench.verification.plain import Fit
from vi_bench.verification.problems import Problem


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
        """Nats of difference that rounding explains."""
        p, f = self.problem, self.fit
        size = textbook.scale(p.data, f.m, f.s2, f.phi, p.sigma)
        return ROUNDING * f.eps * size

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

    def further(self) -> float:
        """The ELBO, nats, after SWEEPS more sweeps that keep the form of q."""
        p, f = self.problem, self.fit
        m, s2, phi = f.m, f.s2, f.phi
        for _ in range(SWEEPS):
            m, s2 = textbook.means(p.data, phi, p.sigma)
            if self.equal_variances:
                s2 = np.full(p.K, p.K / np.sum(1 / s2))
            phi = textbook.responsibilities(p.data, m, s2)
            if self.hard:
                phi = np.eye(p.K)[np.argmax(phi, axis=1)]
        return textbook.elbo(p.data, m, s2, phi, p.sigma)


check: Checks[Case] = Checks()
PROVES = check.proves


@check("prior without rows", "N = 0: q is the prior, the ELBO is 0")
def _prior(case: Case) -> Measured:
    p, f = case.problem, case.fit
    if len(p.data):
        return
    off = max(np.abs(f.m).max() / p.sigma, np.abs(f.s2 / p.sigma**2 - 1).max())
    yield (
        float(off),
        ROUNDING * f.eps,
        f"m is off by up to {np.abs(f.m).max():.3g}, s2 is {f.s2.tolist()}, the prior "
        f"has 0 and {p.sigma**2:g}",
    )
    if f.elbo.size:
        yield abs(f.elbo[-1]), case.slack, f"ELBO {f.elbo[-1]:.6g}, expected 0"


@check("one component is exact", "K = 1: q is the posterior, the ELBO is log p(X)")
def _single(case: Case) -> Measured:
    p, f = case.problem, case.fit
    if p.K > 1 or not len(p.data):
        return
    m, s2 = textbook.means(p.data, np.ones((len(p.data), 1)), p.sigma)
    yield from _factors(case, m, s2, "the posterior")
    if f.elbo.size:
        off = f.elbo[-1] - case.evidence
        yield (
            abs(off),
            case.slack,
            f"ELBO {f.elbo[-1]:.6f}, log p(X) {case.evidence:.6f}: {off:+.6f} nats",
        )


@check("known assignments", "components apart: conjugate answers, ELBO = log p(X, c)")
def _separated(case: Case) -> Measured:
    p, f = case.problem, case.fit
    soft = textbook.responsibilities(p.data, f.m, f.s2)
    if p.K == 1 or not len(p.data) or hardness(soft) > HARD:
        return
    labels = np.argmax(soft, axis=1)
    m, s2 = textbook.means(p.data, np.eye(p.K)[labels], p.sigma)
    yield from _factors(
        case, m, None if case.equal_variances else s2, "the conjugate posterior"
    )
    if f.elbo.size and not case.equal_variances:
        exact = textbook.log_joint(p.data, labels, p.K, p.sigma)
        off = f.elbo[-1] - exact
        yield (
            abs(off),
            1e-6 + case.slack,
            f"ELBO {f.elbo[-1]:.6f}, log p(X, c) {exact:.6f}: {off:+.6f} nats",
        )


@check("the ELBO is what it says", "last ELBO = E_q[log p(X, c, mu) - log q(c, mu)]")
def _definition(case: Case) -> Measured:
    trace = case.fit.elbo
    if trace.size:
        off = trace[-1] - case.bound
        yield (
            abs(off),
            CONVERGED + case.slack,
            f"ELBO {trace[-1]:.6f}, of the returned q it is {case.bound:.6f}: "
            f"{off:+.6f} nats",
        )


@check("below the evidence", "no ELBO of the trace exceeds log p(X), by enumeration")
def _below(case: Case) -> Measured:
    trace = case.fit.elbo
    if trace.size and case.problem.enumerable:
        step = int(np.argmax(trace))
        excess = trace[step] - case.evidence
        yield (
            float(excess),
            case.slack,
            f"ELBO {trace[step]:.6f} of sweep {step} exceeds log p(X) = "
            f"{case.evidence:.6f} by {excess:.6f} nats",
        )


@check("the trace never falls", "every sweep raises the ELBO, or leaves it")
def _rising(case: Case) -> Measured:
    trace = case.fit.elbo
    if trace.size > 1:
        step = int(np.argmin(np.diff(trace)))
        fall = trace[step] - trace[step + 1]
        yield (
            float(fall),
            case.slack,
            f"the ELBO falls by {fall:.6g} nats in sweep {step + 1} of {trace.size}",
        )


@check("a fixed point", f"{SWEEPS} more sweeps gain nothing that q's form allows")
def _fixed(case: Case) -> Measured:
    gain = case.further() - case.bound
    yield (
        gain,
        CONVERGED + case.slack,
        f"{SWEEPS} textbook sweeps from the returned q gain {gain:.6g} nats",
    )


def _factors(case: Case, m: np.ndarray, s2: np.ndarray | None, what: str) -> Measured:
    """Compare means, in posterior sds, and variances, by log ratio, with exact ones."""
    p, f = case.problem, case.fit
    unit = np.sqrt(f.s2 if s2 is None else s2)
    # rounding is relative to the sums whose quotient is m
    size = 1 + np.abs(p.data).max() / unit.min() * len(p.data)
    off = float(np.max(np.abs(f.m - m) / unit[:, None]))
    yield (
        off,
        1e-6 + ROUNDING * f.eps * size,
        f"m is {off:.3g} sds of {'q' if s2 is None else what} from that of {what}",
    )
    if s2 is not None:
        ratio = f.s2 / s2
        worst = int(np.argmax(np.abs(np.log(ratio))))
        yield (
            float(np.abs(np.log(ratio)).max()),
            1e-6 + ROUNDING * f.eps,
            f"s2 of component {worst} is {ratio[worst]:.6g} times that of {what}",
        )
