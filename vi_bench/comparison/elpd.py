"""Expected log predictive density: by leave-one-out, and of rows that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from vi_bench.comparison.importance import pareto_smooth
from vi_bench.comparison.measures import Estimate, summarise


@dataclass(frozen=True)
class Elpd:
    """Log predictive densities of rows, nats.

    Attributes:
        points: log predictive density of each row (n,); NaN where a draw gives a row
            density 0, which leaves the leave-one-out density undefined.
        mc_error: Monte-Carlo standard error of their sum, from the number of draws; it
            is not the error over rows.
        khat: of each row's leave-one-out weights (n,); infinite where they cannot be
            fitted, NaN where they do not vary. None for rows that were held out.
        p_loo: effective number of parameters; None for rows that were held out.
    """

    points: np.ndarray
    mc_error: float
    khat: np.ndarray | None = None
    p_loo: float | None = None

    @property
    def total(self) -> Estimate:
        """The sum over rows, and its standard error over rows."""
        return _sum(self.points)

    @property
    def worst_khat(self) -> float:
        """The largest k-hat; NaN where there is none."""
        if self.khat is None or np.isnan(self.khat).all():
            return np.nan
        return float(np.nanmax(self.khat))


def psis_loo(log_lik: np.ndarray, log_w: np.ndarray | None = None) -> Elpd:
    """Leave-one-out predictive densities by Pareto-smoothed importance sampling.

    Vehtari, Gelman and Gabry (2017). With `log_w`, draws of a q are weighted to the
    posterior as well (Magnusson, Andersen, Jonasson and Vehtari 2019); without it, they
    are treated as posterior draws.

    Args:
        log_lik: log p(x_i | theta) of each draw (chain, draw, n).
        log_w: log p(X, theta) - log q(theta) of independent draws of q (chain, draw);
            None for draws of the posterior.
    """
    shape, n = log_lik.shape[:2], log_lik.shape[2]
    flat = log_lik.reshape(-1, n)
    given = np.zeros(len(flat)) if log_w is None else log_w.ravel()
    efficiency = np.ones(n) if log_w is not None else _efficiency(log_lik)
    points, khat, influence = np.empty(n), np.empty(n), np.zeros(len(flat))
    for i, row in enumerate(np.ascontiguousarray(flat.T)):
        if not np.isfinite(row).all():
            points[i], khat[i] = np.nan, np.inf
            continue
        smoothed, khat[i] = pareto_smooth(given - row, efficiency[i])
        terms = smoothed + row
        most = terms.max()
        shares = np.exp(terms - most)
        total = shares.sum()
        points[i] = most + np.log(total)
        influence += shares / total - np.exp(smoothed)
    log_pd = logsumexp(flat + (given - logsumexp(given))[:, None], axis=0)
    error = summarise(len(flat) * influence.reshape(shape)).mean.se
    error = error if np.isfinite(points).all() else np.nan
    return Elpd(points, error, khat, float(np.sum(log_pd - points)))


def held_out(log_lik: np.ndarray) -> Elpd:
    """Log of the mean density over draws, of rows that the draws have not seen.

    Args:
        log_lik: log p(x_i | theta) of each draw (chain, draw, n).
    """
    points = logsumexp(log_lik, axis=(0, 1)) - np.log(log_lik[..., 0].size)
    known = np.isfinite(points)
    influence = np.exp(log_lik[..., known] - points[known]).sum(axis=-1)
    return Elpd(points, summarise(influence).mean.se if known.all() else np.nan)


def difference(a: Elpd, b: Elpd) -> Estimate:
    """Elpd of a minus that of b, with the paired standard error over rows.

    Raises:
        ValueError: the numbers of rows differ.
    """
    if a.points.shape != b.points.shape:
        raise ValueError(f"{a.points.size} rows against {b.points.size}")
    return _sum(a.points - b.points)


def _sum(points: np.ndarray) -> Estimate:
    """The sum over rows, and its standard error for rows sampled at random."""
    n = points.size
    known = n > 1 and np.isfinite(points).all()
    error = np.sqrt(n) * points.std(ddof=1) if known else np.nan
    return Estimate(float(points.sum()), float(error))


def _efficiency(log_lik: np.ndarray) -> np.ndarray:
    """Relative effective sample size of each row's likelihood (n,), at most 1."""
    most = log_lik.max(axis=(0, 1))
    likelihood = np.exp(log_lik - np.where(np.isfinite(most), most, 0.0))
    ess = array_stats.ess(likelihood, chain_axis=0, draw_axis=1, method="mean")
    share = np.asarray(ess) / likelihood[..., 0].size
    return np.where(np.isfinite(share), np.minimum(share, 1.0), 1.0)
