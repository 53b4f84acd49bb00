"""Distances between two sets of draws, each with its Monte-Carlo standard error.

Draws are (chain, draw); effective sample sizes and standard errors are ArviZ's
(Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy.stats import wasserstein_distance

from vi_bench.comparison.remembered import remembered


@dataclass(frozen=True)
class Estimate:
    """A number and its Monte-Carlo standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class Summary:
    """Mean, sd and quantiles of one quantity with their errors, its ESS and R-hat.

    Attributes:
        mean: mean over all draws.
        sd: standard deviation over all draws.
        ess_bulk: bulk (rank-normalised) effective sample size.
        ess_tail: tail effective sample size, the smaller of the two quantiles'.
        r_hat: rank-normalised split R-hat.
        tails: 5 and 95 % quantiles; None where they were not computed.
    """

    mean: Estimate
    sd: Estimate
    ess_bulk: float
    ess_tail: float
    r_hat: float
    tails: tuple[Estimate, Estimate] | None = None


@dataclass(frozen=True)
class Distance:
    """Differences between a method and the reference in one quantity.

    Attributes:
        mean_difference: (mean - reference mean) / reference sd.
        sd_ratio: sd / reference sd.
        w1: Wasserstein-1 distance over the reference sd.
        w1_floor: w1 between two halves of the reference's draws, scaled to the
            effective sample sizes of the method and of the reference.
        tails: differences of the 5 and 95 % quantiles over the reference sd.
    """

    mean_difference: Estimate
    sd_ratio: Estimate
    w1: Estimate
    w1_floor: float
    tails: tuple[Estimate, Estimate] | None = None


MANY = 8
"""Number of chains from which the spread of their means gives a usable error."""

TAILS = (0.05, 0.95)
"""Probabilities of the two tail quantiles that are compared."""


def _stat(name: str, draws: np.ndarray, **options: Any) -> float:
    function = getattr(array_stats, name)
    # an indicator may be constant within chains: NaN then, without a warning
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(function(draws, chain_axis=0, draw_axis=1, **options))


@remembered
def summarise(draws: np.ndarray) -> Summary:
    """Mean, sd, quantiles, their errors, ESS and R-hat of draws (chain, draw)."""
    # draws that are constant up to rounding are known exactly, and have no R-hat
    if np.ptp(draws) <= 16 * np.finfo(float).eps * np.abs(draws).max():
        constant = float(draws.flat[0])
        known = Estimate(constant, 0.0)
        return Summary(known, Estimate(0.0, 0.0), 1.0, 1.0, np.nan, (known, known))
    several, centre = draws, draws.mean()
    sd = float(draws.std(ddof=1))
    if len(draws) == 1:  # R-hat compares the two halves of a single chain
        several = draws[:, : draws.shape[1] // 2 * 2].reshape(2, -1)
    return Summary(
        mean=Estimate(float(centre), error_of_mean(draws)),
        sd=Estimate(
            sd,
            _at_least_spread(
                _stat("mcse", draws, method="sd"), (draws - centre) ** 2 / (2 * sd)
            ),
        ),
        ess_bulk=_stat("ess", draws, method="bulk"),
        ess_tail=_stat("ess", draws, method="tail", prob=TAILS),
        r_hat=_stat("rhat", several, method="rank"),
        tails=(_quantile(draws, TAILS[0]), _quantile(draws, TAILS[1])),
    )


def error_of_mean(draws: np.ndarray) -> float:
    """The Monte-Carlo standard error of the mean of draws (chain, draw)."""
    return _at_least_spread(_stat("mcse", draws, method="mean"), draws)


def _quantile(draws: np.ndarray, q: float) -> Estimate:
    """A quantile; the spread of many chains scales its error as that of a share.

    ArviZ's error is half the distance of two draws, and 0 where both are copies of one
    draw that was resampled often; then the chains' own quantiles give the error.
    """
    value = float(np.quantile(draws, q))
    error = _stat("mcse", draws, method="quantile", prob=q)
    if error == 0 and len(draws) > 1:
        own = np.quantile(draws, q, axis=1)
        return Estimate(value, float(own.std(ddof=1) / np.sqrt(len(draws))))
    below = (draws <= value).astype(float)
    if len(draws) < MANY or not np.ptp(below):
        return Estimate(value, error)
    own = _stat("mcse", below, method="mean")
    return Estimate(value, error * _at_least_spread(own, below) / own)


def _at_least_spread(error: float, influence: np.ndarray) -> float:
    """The larger of a standard error and that from the spread of many chains' means.

    Chains of a population method are independent runs. An error that all draws of a run
    share, such as that of its prior volumes, does not show in autocorrelation.

    Args:
        error: standard error from autocorrelation, by ArviZ.
        influence: contribution of each draw to the estimate (chain, draw).
    """
    chains = len(influence)
    if chains < MANY:
        return error
    spread = influence.mean(axis=1).std(ddof=1) / np.sqrt(chains)
    return max(error, float(spread))


@remembered
def distance(
    draws: np.ndarray, own: Summary, reference: np.ndarray, theirs: Summary
) -> Distance:
    """Distances of draws (chain, draw) from the reference's, given both summaries."""
    sd = theirs.sd.value
    if sd == 0:
        nothing = Estimate(np.nan, np.nan)
        return Distance(nothing, nothing, nothing, np.nan)
    shift = (own.mean.value - theirs.mean.value) / sd
    # the unit, the reference's sd, is itself an estimate
    of_unit = theirs.sd.se / sd
    shift_se = np.hypot(
        np.hypot(own.mean.se, theirs.mean.se) / sd, abs(shift) * of_unit
    )
    ratio = own.sd.value / sd
    ratio_se = np.hypot(own.sd.se / sd, ratio * of_unit)
    w1 = wasserstein(draws / sd, reference / sd)
    return Distance(
        Estimate(float(shift), float(shift_se)),
        Estimate(float(ratio), float(ratio_se)),
        w1,
        split_half(reference / sd) * _growth(own.ess_bulk, theirs.ess_bulk),
        _tails(own, theirs),
    )


def _growth(own: float, theirs: float) -> float:
    """Noise of W1 relative to that of two samples of the second's ESS, at least 1."""
    if not (np.isfinite(own) and np.isfinite(theirs) and own > 0):
        return 1.0
    return float(max(1.0, np.sqrt((theirs / own + 1) / 2)))


def _tails(own: Summary, theirs: Summary) -> tuple[Estimate, Estimate] | None:
    """Differences of the 5 and 95 % quantiles in reference sds.

    Their errors include that of the reference's sd.
    """
    if own.tails is None or theirs.tails is None:
        return None
    sd = theirs.sd.value
    found = []
    for a, b in zip(own.tails, theirs.tails, strict=True):
        apart = (a.value - b.value) / sd
        error = np.hypot(np.hypot(a.se, b.se), abs(apart) * theirs.sd.se) / sd
        found.append(Estimate(float(apart), float(error)))
    return found[0], found[1]


def wasserstein(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Wasserstein-1 distance of two (chain, draw) samples and its standard error.

    W1 is the integral of |F - G|, so a draw x of the first sample moves it by
    -H(x), where H integrates sign(F - G) from the left, and one of the second by
    +H(x): the error is that of the mean of H over each sample. Where F and G are
    equal but for noise the value is noise too: compare it with the floor.
    """
    draws = np.concatenate([a, b], axis=None)
    order = np.argsort(draws, kind="stable")
    of_first = np.cumsum(order < a.size)  # draws of the first sample up to each draw
    of_second = np.arange(1, draws.size + 1) - of_first
    apart = of_first / a.size - of_second / b.size  # F - G
    steps = np.diff(draws[order])  # 0 between draws that are equal
    influence = np.empty(draws.size)
    influence[order[0]] = 0.0
    influence[order[1:]] = np.cumsum(np.sign(apart[:-1]) * steps)
    moved = influence[: a.size].reshape(a.shape), influence[a.size :].reshape(b.shape)
    of_a, of_b = (error_of_mean(h) if np.ptp(h) else 0.0 for h in moved)
    value = np.sum(np.abs(apart[:-1]) * steps)
    return Estimate(float(value), float(np.hypot(of_a, of_b)))


@remembered
def split_half(draws: np.ndarray) -> float:
    """W1 between two halves of a sample, scaled to samples of its full size.

    Half of the chains against the other half, or the halves of a single chain. The
    noise of W1 falls with the square root of the draws, hence the square root of 2.
    """
    chains, length = draws.shape
    if chains > 1:
        first, second = draws[: chains // 2], draws[chains // 2 :]
    else:
        first, second = draws[:, : length // 2], draws[:, length // 2 :]
    return float(wasserstein_distance(first.ravel(), second.ravel()) / np.sqrt(2))
