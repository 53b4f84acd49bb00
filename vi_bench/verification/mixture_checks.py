"""Checks of the full form: of q and its bound, and of draws, on any mixture.

Checks without randomness allow `CONVERGED` nats: where q has the prior's form, its
parameters are recovered from its density to rounding error. The others are z-tests.
Draws that are claimed to be from the posterior are ranked among exact ones, quantity by
quantity: ranks are bounded, so heavy tails neither hide a fault nor cause an alarm.
"""

from __future__ import annotations

import numpy as np

from vi_bench.verification.finding import (
    CONVERGED,
    SWEEPS,
    Checks,
    Measured,
    last_rise,
    side_by_side,
    standing,
)
from vi_bench.verification.levels import (
    HARDLY,
    as_normal,
    central,
)
from vi_bench.verification.mixture_case import MixtureCase

READ = 1e-4
"""Nats by which a bound may exceed that of a q whose parameters were recovered."""

check: Checks[MixtureCase] = Checks()
MIXTURE_PROVES = check.proves


@check("log_prob is of the draws", "q is normalised, and its draws are from it")
def _density(case: MixtureCase) -> Measured:
    answer = case.answer
    if answer.log_q is None:
        return
    if case.identified is None:
        if case.too_spread:
            return
        ratio = np.exp(case.log_density_ratio)
        error = max(float(ratio.std(ddof=1)) / np.sqrt(len(ratio)), 1e-300)
        yield (
            abs(float(ratio.mean()) - 1) / error,
            None,
            f"the mean of r / q over the draws, r a narrower normal, is "
            f"{ratio.mean():.4f} +- {error:.4f}, expected 1",
        )
        return
    excess = case.identified.excess
    yield (
        abs(excess),
        CONVERGED + case.slack,
        f"log_prob exceeds the normalised log density by {excess:+.6g} nats",
    )
    for label, levels in case.levels_of_q.items():
        yield from central(label, levels, "independent", "q's")


@check("prior without rows", "N = 0: q is the prior")
def _prior(case: MixtureCase) -> Measured:
    if not len(case.problem.data) and case.identified is not None:
        gap = -case.ascent[0]
        yield (
            gap,
            CONVERGED + case.slack,
            f"KL(q || prior) = {gap:.6g} nats, expected 0",
        )


@check("one component is exact", "K = 1: a q of the posterior's form is the posterior")
def _single(case: MixtureCase) -> Measured:
    p, known = case.problem, case.log_evidence
    if p.K == 1 and len(p.data) and known is not None and case.identified is not None:
        gap = known - case.ascent[0]
        yield (
            abs(gap),
            CONVERGED + case.slack,
            f"KL(q || posterior) = {gap:.6g} nats, expected 0",
        )


@check("known assignments", "components apart: q is conjugate, ELBO = log p(X, c)")
def _separated(case: MixtureCase) -> Measured:
    p = case.problem
    if p.K == 1 or not len(p.data) or case.identified is None:
        return
    own, _, _, joint = case.ascent
    if np.isfinite(joint):
        one, other, off = side_by_side(own, joint)
        yield (
            abs(joint - own),
            CONVERGED + case.slack,
            f"the ELBO of q is {one}, log p(X, c) {other}: {off} nats",
        )


@check("the ELBO is what it says", "the bound = E_q[log p - log q] of the returned q")
def _definition(case: MixtureCase) -> Measured:
    answer = case.answer
    if not answer.bound.size or answer.log_q is None:
        return
    said = float(answer.bound[-1])
    if case.identified is not None and case.labels_in_bound and not answer.bound_se:
        off = said - case.ascent[0]
        one, other, apart = side_by_side(said, case.ascent[0])
        # a bound may lag by a sweep, but is never above that of its q
        lag = min(CONVERGED, READ + 2 * last_rise(answer.bound))
        yield (
            abs(off),
            (READ if off > 0 else lag) + case.slack,
            f"bound {one}, of the returned q it is {other}: {apart} nats",
        )
    mean, error = case.estimates[0 if case.labels_in_bound else 1]
    error = max(float(np.hypot(error, answer.bound_se)), case.slack)
    yield (
        abs(said - mean) / error,
        None,
        f"bound {said:.4f}, by NumPyro's densities over the draws it is {mean:.4f} "
        f"+- {error:.4f}",
    )


@check("below the evidence", "no bound exceeds log p(X), all assignments summed")
def _below(case: MixtureCase) -> Measured:
    answer, known = case.answer, case.log_evidence
    if known is None:
        return
    if answer.bound.size:
        step = int(np.argmax(answer.bound))
        excess = float(answer.bound[step]) - known
        one, other, off = side_by_side(answer.bound[step], known)
        said = f"bound {one} exceeds log p(X) = {other} by "
        if answer.bound_se and step == len(answer.bound) - 1:
            z = excess / answer.bound_se
            yield max(z, 0.0), None, f"{said}{excess:.4f} +- {answer.bound_se:.4f} nats"
        elif not answer.bound_se:
            yield excess, 1e-6 + case.slack, f"{said}{off} nats"
    if answer.log_q is not None:
        mean, error = case.estimates[1]
        z = (mean - known) / max(error, 1e-6 + case.slack)
        yield (
            max(z, 0.0),
            None,
            f"E[log p - log q] over the draws is {mean:.4f} +- {error:.4f}, above "
            f"log p(X) = {known:.4f}",
        )


@check("the trace never falls", "every sweep raises the bound, or leaves it")
def _rising(case: MixtureCase) -> Measured:
    trace = case.answer.bound
    if trace.size > 1:
        step = int(np.argmin(np.diff(trace)))
        fall = float(trace[step] - trace[step + 1])
        yield (
            fall,
            case.slack,
            f"the bound falls by {fall:.6g} nats in sweep {step + 1} of {trace.size}",
        )
        yield from standing(trace, CONVERGED + case.escape)


@check("a fixed point", f"{SWEEPS} more sweeps gain nothing")
def _fixed(case: MixtureCase) -> Measured:
    optimum, _ = case.ended
    if optimum == "labels":
        gain = case.left_with_labels
        yield (
            gain,
            CONVERGED + case.slack,
            f"{SWEEPS} sweeps from the returned q gain {gain:.6g} nats",
        )
    elif optimum == "slopes":
        for label, slopes in case.slopes.items():
            error = max(float(slopes.std(ddof=1)) / np.sqrt(len(slopes)), 1e-300)
            yield (
                abs(float(slopes.mean())) / error,
                None,
                f"the bound rises by {slopes.mean():.4f} +- {error:.4f} nats per unit "
                f"that {label}, unconstrained, is moved by",
            )


@check("enough effective draws", f"draws are worth {HARDLY} independent ones")
def _effective(case: MixtureCase) -> Measured:
    for label, size in case.sizes.items():
        yield (
            HARDLY / max(size, 1e-300),
            1.0,
            f"{label}: {case.levels[label].size} draws are worth {size:.0f}",
        )


@check("draws from the posterior", "label-invariant quantities, among exact draws")
def _sampled(case: MixtureCase) -> Measured:
    for label, levels in case.levels.items():
        if label not in case.slow:
            yield from central(label, levels, case.answer.kind, "the posterior's")


@check("the evidence is right", "log p(X) as estimated = as enumerated")
def _evidence(case: MixtureCase) -> Measured:
    answer, known = case.answer, case.log_evidence
    if answer.log_evidence is None or known is None:
        return
    off = answer.log_evidence - known
    one, other, apart = side_by_side(answer.log_evidence, known)
    said = f"log p(X) = {one}, enumerated {other}"
    if answer.log_evidence_se > case.slack:
        score = as_normal(off / answer.log_evidence_se, answer.freedom)
        yield score, None, f"{said}: {off:+.4f} +- {answer.log_evidence_se:.4f} nats"
    else:
        yield abs(off), 1e-6 + case.slack, f"{said}: {apart} nats"
