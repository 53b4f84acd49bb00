"""Pareto-smoothed importance sampling from a variational q: how far q is to be trusted.

With weights w = p(X, theta) / q(theta) at draws of q, the mean of w is p(X), and
averages weighted by w are posterior means. k-hat, the shape of the generalised Pareto
distribution fitted to the largest weights, says whether these can be believed (Yao,
Vehtari, Simpson and Gelman 2018; Vehtari, Simpson, Gelman, Yao and Gabry 2024).
Importance-weighted bounds of the same draws are in `vi_bench.comparison.evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from arviz_stats.base import array_stats

from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.quantities import Quantity

GOOD, USABLE = 0.5, 0.7
"""Limits of k-hat below which the weights have finite variance, and below which errors
still fall usefully with the number of draws."""

LEAST = 25
"""Number of draws below which their tail, a fifth of them, is too small to be fitted.
"""

CONSTANT = 1e-4
"""Sd of the log weights below which they vary by rounding only."""

Word = Literal["good", "usable", "unreliable", "few draws", "constant", "unknown"]

Proposal = Literal["q", "symmetrised q"]


@dataclass(frozen=True)
class Correction:
    """Mean and sd of a quantity under q, and with q's draws importance weighted.

    Under the symmetrised q a component's own quantity becomes that of the posterior in
    which each draw is shared among labellings as q weighs them.

    Attributes:
        raw_mean: mean under q.
        raw_sd: sd under q.
        mean: weighted mean, the smoothed weights normalised to sum to 1.
        sd: weighted sd, likewise.
    """

    raw_mean: Estimate
    raw_sd: Estimate
    mean: Estimate
    sd: Estimate


@dataclass(frozen=True)
class Importance:
    """Importance-sampling diagnostics of one q.

    Errors are those of independent draws; where k-hat exceeds 0.5 the weights have no
    finite variance and errors are too small.

    Attributes:
        word: good, usable or unreliable by k-hat; few draws: more are needed for this
            k-hat; constant: the weights do not vary; unknown: see the sentence.
        khat: Pareto k-hat; NaN where the weights do not vary or are too few, infinite
            where it cannot be fitted.
        sd_log_weights: sd of the finite log weights, nats.
        relative_ess: (sum w)^2 / (S sum w^2), 1 for equal weights.
        proposal: the density in the denominator.
        log_evidence: log of the mean weight, nats. With the symmetrised q the mean
            weight is unbiased for p(X), although draws are q's alone; with q itself it
            lacks the modes that q misses.
        corrected: quantity -> Correction.
        sentence: the diagnosis by k-hat, and its limits.
    """

    word: Word
    khat: float
    sd_log_weights: float
    relative_ess: float
    proposal: Proposal
    log_evidence: Estimate
    corrected: dict[Quantity, Correction] = field(default_factory=dict)
    sentence: str = ""


def weigh(
    log_joint: np.ndarray,
    log_q: np.ndarray,
    values: Mapping[Quantity, np.ndarray],
    log_q_symmetric: np.ndarray | None = None,
) -> Importance:
    """Importance sampling from independent draws of q.

    Args:
        log_joint: log p(X, theta) of each draw (chain, draw).
        log_q: log q(theta) of each draw (chain, draw).
        values: quantity -> its value in each draw (chain, draw).
        log_q_symmetric: log of q averaged over label permutations; replaces `log_q`.
    """
    proposal: Proposal = "q" if log_q_symmetric is None else "symmetrised q"
    below = log_q if log_q_symmetric is None else log_q_symmetric
    log_w = (log_joint - below).ravel()
    # a log weight of -inf is a draw where p vanishes; others not finite are errors
    bad = int(np.sum(np.isnan(log_w) | (log_w == np.inf)))
    if bad or not np.isfinite(log_w.max()):
        why = f"{bad} of {log_w.size} log weights are not finite"
        if not bad:
            why = f"p(X, theta) is 0 at all {log_w.size} draws of q"
        nothing = Estimate(np.nan, np.nan)
        return Importance(
            "unknown", np.nan, np.nan, np.nan, proposal, nothing, {}, f"{why}."
        )
    smoothed, khat = pareto_smooth(log_w)
    sd, share = _sd(log_w), relative_ess(log_w)
    word, said = _judge(khat, sd, log_w.size, share)
    weights = np.exp(smoothed)
    equal = np.full(log_w.size, 1 / log_w.size)
    corrected = {
        name: Correction(*moments(v.ravel(), equal), *moments(v.ravel(), weights))
        for name, v in values.items()
    }
    return Importance(
        word,
        khat,
        sd,
        share,
        proposal,
        log_mean(log_w),
        corrected,
        f"{said} {_blind(proposal)}",
    )


def pareto_smooth(
    log_w: np.ndarray, efficiency: float = 1.0
) -> tuple[np.ndarray, float]:
    """Log weights (S,) that sum to 1, the largest smoothed, and k-hat.

    They are not smoothed where there is no finite k-hat: it is NaN where the weights do
    not vary or are fewer than LEAST, infinite where their tail cannot be fitted.

    Args:
        log_w: log weights (S,), up to a constant.
        efficiency: relative effective sample size of the draws.
    """
    if log_w.size < LEAST or _sd(log_w) < CONSTANT:
        return _normalised(log_w), np.nan
    try:
        with np.errstate(all="ignore"):
            # ArviZ asks for minus log weights, as leave-one-out has them
            smoothed, khat = array_stats.psislw(-log_w, r_eff=efficiency)
    except ValueError:  # the largest weights are all the same
        return _normalised(log_w), np.inf
    if not np.isfinite(khat):
        return _normalised(log_w), np.inf
    return np.asarray(smoothed), float(khat)


def _normalised(log_w: np.ndarray) -> np.ndarray:
    raw = log_w - log_w.max()
    return np.asarray(raw - np.log(np.exp(raw).sum()))


def _sd(log_w: np.ndarray) -> float:
    """Standard deviation of the finite log weights."""
    return float(log_w[np.isfinite(log_w)].std())


def relative_ess(log_w: np.ndarray) -> float:
    """Relative effective sample size (sum w)^2 / (S sum w^2) of log weights (S,)."""
    w = np.exp(log_w - log_w.max())
    return float(w.sum() ** 2 / (w.size * (w**2).sum()))


def log_mean(log_w: np.ndarray) -> Estimate:
    """Log of the mean of independent weights (S,), its error by the delta method."""
    most = log_w.max()
    w = np.exp(log_w - most)
    error = w.std(ddof=1) / (w.mean() * np.sqrt(w.size)) if w.size > 1 else np.nan
    return Estimate(float(most + np.log(w.mean())), float(error))


def moments(values: np.ndarray, weights: np.ndarray) -> tuple[Estimate, Estimate]:
    """Mean and sd of independent weighted draws (S,), weights summing to 1.

    Errors by the delta method for ratios: the sum of w^2 (f - mean)^2 for the mean, and
    of w^2 ((f - mean)^2 - variance)^2 for the variance.
    """
    mean = weights @ values
    square = (values - mean) ** 2
    variance = weights @ square
    sd = np.sqrt(variance)
    mean_se = np.sqrt(weights**2 @ square)
    variance_se = np.sqrt(weights**2 @ (square - variance) ** 2)
    sd_se = variance_se / (2 * sd) if sd > 0 else 0.0
    return Estimate(float(mean), float(mean_se)), Estimate(float(sd), float(sd_se))


def _judge(khat: float, sd: float, draws: int, share: float) -> tuple[Word, str]:
    if sd < CONSTANT:
        return "constant", (
            f"log weights vary by {sd:.1g} only, so k-hat means nothing: q is the "
            "posterior up to a constant where it puts draws."
        )
    if draws < LEAST:
        return "unknown", f"k-hat needs {LEAST} draws of q, there are {draws}."
    found = f"k-hat {khat:.2f}, relative ESS {share:.2g} of {draws} draws:"
    if np.isinf(khat):
        return "unreliable", (
            f"The largest weights fit no tail, so k-hat is infinite, relative ESS "
            f"{share:.2g} of {draws} draws: unreliable."
        )
    if khat >= USABLE:
        return "unreliable", (
            f"{found} unreliable, q is too narrow or misplaced to be corrected by "
            "weights, and errors given here are too small."
        )
    needed = int(np.ceil(10 ** (1 / (1 - max(0.0, khat)))))
    if draws < needed:
        return "few draws", f"{found} such weights need about {needed} draws of q."
    if khat >= GOOD:
        return "usable", f"{found} usable, errors given here may be too small."
    return "good", f"{found} good."


def _blind(proposal: Proposal) -> str:
    missed = "label permutations and other modes" if proposal == "q" else "modes"
    return (
        f"It looks only where q puts draws: {missed} that q misses do not show, in "
        "k-hat or in what is weighted."
    )
