"""Checks of a fit of any NumPyro model, by draws of its q alone.

They need no exact answer: the bound is the mean of log p - log q over draws of q, its
gradient the covariance of that with the scores of each factor. A q of a restricted form
is held to its own form only.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from vi_bench.verification.finding import CONVERGED, Checks, Measured, side_by_side
from vi_bench.verification.model_answer import AUGMENTED, ELBO, FORMS
from vi_bench.verification.model_case import ModelCase
from vi_bench.verification.stationary import Gain

check: Checks[ModelCase] = Checks()
MODEL_PROVES = check.proves

POSSIBLE = "q is possible"
BOUND = "the ELBO is what it says"
STATIONARY = "every factor is stationary"
RISING = "the trace never falls"
BELOW = "below the evidence"

SANDWICHED = (2, 20)
"""Numbers of rows of simulated data for which log p(X) is bounded, a dear thing."""

FIRM = 0.02
"""Nats: a gain whose noise is larger has not been judged."""

LIKELY = {
    POSSIBLE: "a factor whose support is not the site's, scale and rate exchanged",
    BOUND: "a term of log p or an entropy missing or counted twice, a factor 2 or a "
    "sign, log of a mean for the mean of a log (log for digamma), a bound of other "
    "iterates than those returned",
    STATIONARY: "a wrong update of that factor (a count or a half missing, a second "
    "moment without its variance, log for digamma, precision for variance), an update "
    "from stale moments, too few iterations; or a factor that is not meant to maximise "
    "the ELBO, such as a Laplace approximation",
    RISING: "a wrong update, or a bound and an update that belong to different models "
    "or iterates",
    BELOW: "a bound that lacks a negative term",
}
"""Check -> kinds of mistakes that look like its failure."""


@check(POSSIBLE, "every draw of q is possible under the model")
def _possible(case: ModelCase) -> Measured:
    share = case.impossible
    yield (
        share,
        0.0,
        f"{share:.2%} of the draws of q have no finite density under the model: q's "
        "support is not the model's, or q is so wide that the model overflows",
    )


@check(BOUND, "the last ELBO = E_q[log p - log q] of the returned q")
def _definition(case: ModelCase) -> Measured:
    trace = case.answer.elbo
    if not trace.size or not case.judged:
        return
    mean, error = case.bound
    if case.form == AUGMENTED:
        above = float(trace[-1]) - mean
        yield (
            excess(above, CONVERGED + case.slack, error),
            None,
            f"the bound {trace[-1]:.6f} exceeds E_q[log p - log q] of the returned q, "
            f"{mean:.6f} +- {error:.1g}, by {above:.3g} nats",
        )
        return
    said, own, off = side_by_side(float(trace[-1]), mean)
    guessed = ', which q is nearest to; if it is another, return "form": "elbo"'
    guessed = "" if case.answer.form else guessed
    of = "" if case.form == ELBO else f" ({FORMS[case.form]}{guessed})"
    yield (
        excess(abs(float(trace[-1]) - mean), CONVERGED + case.slack, error),
        None,
        f"ELBO {said}, of the returned q it is {own} +- {error:.1g}{of}: {off} nats",
    )


@check(STATIONARY, "no factor's natural gradient gains anything")
def _stationary(case: ModelCase) -> Measured:
    if not case.judged or case.form == AUGMENTED:
        return
    smallest = np.sqrt(2 * (CONVERGED + case.slack))
    # the one with the most to gain first: it is the one that a report names
    for site, gain in sorted(case.gains.items(), key=lambda item: -item[1].nats):
        score = excess(gain.slope, float(smallest), gain.error)
        yield score, None, f"q({site}): {described(case, site, gain)}"
    for site, one in case.reassigned.items():
        at = f"[{', '.join(map(str, one.element))}]" if one.element else ""
        yield (
            excess(one.nats, CONVERGED + case.slack, one.error),
            None,
            f"q({site}): the best q of each element given all others gains "
            f"{one.nats:.3g} +- {max(one.error, 1e-12):.1g} nats; most by {site}{at}, "
            f"whose probability of {one.category} is {one.has:.3g} and would be "
            f"{one.best:.3g}",
        )


@check(RISING, "every iteration raises the ELBO, or leaves it")
def _rising(case: ModelCase) -> Measured:
    trace = case.answer.elbo
    if trace.size > 1:
        step = int(np.argmin(np.diff(trace)))
        fall = float(trace[step] - trace[step + 1])
        allowed = 1e-9 + (case.slack if case.judged else 0.0)
        yield (
            fall,
            allowed,
            f"the ELBO falls by {fall:.6g} nats in iteration {step + 2} of "
            f"{trace.size}",
        )


@check(BELOW, "simulated data: no ELBO exceeds the upper bound on log p(X)")
def _below(case: ModelCase) -> Measured:
    trace = case.answer.elbo
    rows = case.problem.rows
    if not trace.size or (rows is not None and rows not in SANDWICHED):
        return
    known = case.evidence
    if known is None:
        return
    above = float(trace.max()) - known.upper
    # Markov: so high an upper bound or less has probability exp(-above) at most
    score = float(norm.isf(0.5 * np.exp(-max(above, 0.0))))
    yield (
        score if above > 0 else 0.0,
        None,
        f"ELBO {trace.max():.3f} exceeds an upper bound on log p(X), {known.upper:.3f} "
        f"by bidirectional Monte Carlo, by {above:.3f} nats",
    )


def excess(value: float, allowed: float, error: float) -> float:
    """By how many standard errors a value exceeds what is allowed; at least 0."""
    if value <= allowed:
        return 0.0
    return (value - allowed) / max(error, 1e-12)


def described(case: ModelCase, site: str, gain: Gain) -> str:
    """What a step of a factor's natural gradient gains, and in which direction."""
    factor = next(f for f in case.answer.factors if f.site == site)
    name, value = factor.flat()[int(np.argmax(gain.share))]
    step = gain.step[int(np.argmax(gain.share))]
    return (
        f"a step of its natural gradient gains {max(gain.nats, 0.0):.3g} +- "
        f"{max(gain.spread, 1e-12):.1g} nats; most by {name} = {value:.5g}, which it "
        f"moves by about {step:+.2g}"
    )
