"""Shared code of samplers that start from the prior: densities, draws, evidences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc.resampling import systematic
from jaxtyping import Array, Float, Int
from scipy.stats import norm
from scipy.stats import t as student

from vi_bench.contract import Posterior, Problem, Report
from vi_bench.errors import NotApplicable
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

Density = Callable[[Parameters], Float[Array, ""]]


def check_prior(problem: Problem) -> None:
    """Refuse a posterior whose prior cannot be drawn from.

    Raises:
        NotApplicable: the prior is improper, scaled or masked.
    """
    if not problem.posterior.proper:
        raise NotApplicable(
            "the prior is improper, scaled or masked: it cannot be drawn from"
        )


def from_prior(key: Key, posterior: Posterior, number: int) -> Parameters:
    """Draws from the prior, unconstrained: (number, *dims)."""
    return jax.vmap(posterior.unconstrain)(posterior.draw_prior(key, number))


def densities(posterior: Posterior) -> tuple[Density, Density]:
    """Log prior, its Jacobian included, and log likelihood of unconstrained theta.

    Where rounding leaves no finite value, the log likelihood is a very low finite
    number: the particle has no weight, yet 0 times its log likelihood is 0.
    """
    lowest = 0.01 * jnp.finfo(posterior.dtype).min

    def log_prior(free: Parameters) -> Float[Array, ""]:
        theta, log_jacobian = posterior.constrain(free)
        return posterior.log_prior(theta) + log_jacobian

    def log_likelihood(free: Parameters) -> Float[Array, ""]:
        value = posterior.log_likelihood(posterior.constrain(free)[0])
        return jnp.where(jnp.isfinite(value), value, lowest)

    return log_prior, log_likelihood


def constrained(posterior: Posterior, free: Parameters) -> Parameters:
    """Constrained parameters of unconstrained particles (chain, draw, *dims)."""
    return jax.vmap(jax.vmap(lambda one: posterior.constrain(one)[0]))(free)


def resample(
    key: Key, weights: Float[Array, " points"], number: int
) -> Int[Array, " number"]:
    """Indices of equally weighted draws from weighted points, by systematic resampling.

    The points are put into a random order first, and copies of one stay side by side,
    so that the draws' autocorrelation is that of the copies alone.
    """
    shuffle, pick = jax.random.split(key)
    order = jax.random.permutation(shuffle, weights.shape[0])
    chosen: Array = order[systematic(pick, weights[order], number)]
    return chosen


def log_mean_evidence(
    runs: Float[Array, " chain"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Log of the mean of independent runs' evidences, and its standard error.

    Each run's evidence, not its logarithm, is unbiased. The error is the mean's over
    the mean, from the runs' spread; NaN for one run.
    """
    top = jnp.max(runs)
    relative = jnp.exp(runs - top)
    mean = jnp.mean(relative)
    error = jnp.std(relative, ddof=1) / jnp.sqrt(float(runs.shape[0])) / mean
    return top + jnp.log(mean), error


def widened(error: Any, freedom: Any) -> Any:
    """A standard error from a few runs, widened so that +-1.96 of it covers 95 %.

    The spread of n runs is itself an estimate, with n - 1 degrees of freedom: the
    interval is Student's, t_{0.975, n - 1} standard errors wide on either side, and the
    error is multiplied by t over 1.96. For 16 runs that is 1.09, for 4 it is 1.62.
    """
    factor = student.ppf(0.975, freedom) / norm.ppf(0.975) if freedom else np.nan
    return error * float(factor)


def of_runs(runs: Float[Array, " chain"]) -> dict[str, Array]:
    """The report on log p(X) from the log evidences of independent runs.

    Returns:
        "log_evidence", nats; "log_evidence_se", `widened`; and "log_evidence_df", the
        degrees of freedom of that error.
    """
    log_evidence, error = log_mean_evidence(runs)
    freedom = runs.shape[0] - 1
    return {
        "log_evidence": log_evidence,
        "log_evidence_se": widened(error, freedom),
        "log_evidence_df": jnp.asarray(freedom),
    }


def joined[R: Report](reports: Sequence[R]) -> R:
    """The arrays of several reports, concatenated over runs; scalars are left out."""
    by_run: dict[str, Any] = {
        name: np.concatenate([np.asarray(vars(report)[name]) for report in reports])
        for name, value in vars(reports[0]).items()
        if np.ndim(value)
    }
    return replace(reports[0], **by_run)


def host(values: Mapping[str, Any]) -> dict[str, Any]:
    """A report as arrays of NumPy."""
    return {name: np.asarray(value) for name, value in values.items()}


def ended(runs: Any) -> bool:
    """Whether all runs have ended; each tells it in `done`."""
    return bool(np.all(np.asarray(runs.done)))
