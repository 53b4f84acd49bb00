"""CAVI for the known-variance Gaussian mixture as one function call."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.contract import Draws, Outcome, Stage
from vi_bench.data.load import load
from vi_bench.data.table import Table, feature_names
from vi_bench.errors import InputError
from vi_bench.inference.stages import calling, compiled, drive
from vi_bench.methods.cavi import CAVI, LARGE, CAVIReport
from vi_bench.mixture.mixture import Factors, Mixture, bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.runtime.environment import computing, find_device
from vi_bench.runtime.keys import stream
from vi_bench.spec import build

LABEL = "cavi"
"""Of the method in a run: with one seed both fit from the same starts."""


class CAVIFit(NamedTuple):
    """The best of several CAVI fits of the known-variance Gaussian mixture.

    Attributes:
        m: (K, d) means of q(mu_k) = N(m_k, s2_k I).
        s2: (K,) variances of q(mu_k).
        phi: (N, K) responsibilities, optimal for m and s2.
        elbo: the ELBO by sweep, in nats, every constant included; the last value
            belongs to m, s2 and phi.
        outcome: whether it converged, and a sentence.
        restart_elbo: the final ELBO of every restart, nats (restarts,).
    """

    m: np.ndarray
    s2: np.ndarray
    phi: np.ndarray
    elbo: np.ndarray
    outcome: Outcome
    restart_elbo: np.ndarray


def cavi(
    data: Any,
    K: int,
    sigma: float = 1.0,
    *,
    variance: float = 1.0,
    mean: float | tuple[float, ...] = 0.0,
    seed: int = 0,
    precision: int = 64,
    **settings: Any,
) -> CAVIFit:
    """Fit mu_k ~ N(mean, sigma^2 I), x_i ~ N(mu_{c_i}, variance I), c_i uniform.

    Blei, Kucukelbir and McAuliffe (2017), algorithm 2, in d dimensions.

    Args:
        data: (N, d) array, or anything that `vi_bench.load` takes; (0, d) is allowed
            and gives the prior.
        K: number of components.
        sigma: prior standard deviation of a component's mean.
        variance: variance of a row around its component's mean, in each feature.
        mean: prior mean of the components' means.
        seed: random seed of the restarts, the same as of `vi-bench run --seed`.
        precision: 64 or 32 bits.
        **settings: of `vi_bench.methods.cavi.CAVI`: restarts, max_iterations, tol,
            accelerate.

    Raises:
        InputError: an argument cannot be used; the message is one line.
    """
    table = _table(data)
    values = table.values
    if not isinstance(K, int | np.integer) or K < 1:
        raise InputError(f"K = {K!r}: expected an integer of at least 1")
    if len(values) and len(values) < K:
        raise InputError(f"K = {K}: more components than the {len(values)} rows")
    if precision not in (32, 64):
        raise InputError(f"precision = {precision!r}: expected 64 or 32")
    given = {"sigma": sigma, "variance": variance, "mean": mean}
    family = build(Gaussian, given, "cavi()")
    family.check(table)
    method = build(CAVI, settings, "cavi()")
    with computing(find_device("auto"), precision):
        dtype = jnp.float64 if precision == 64 else jnp.float32
        mixture = bind(family, values, int(K), dtype)
        key = stream(jax.random.key(seed), LABEL)
        stages, programs = _programs(method, len(values) * K >= LARGE)
        found: Draws = drive(stages, key, mixture, calling(programs))
        q = mixture.uncentred(found.variational)
        phi = _responsibilities(mixture, found.variational["lam"])
        report: CAVIReport = found.report
        return CAVIFit(
            m=np.asarray(q["m"]),
            s2=np.asarray(q["s2"]),
            phi=np.asarray(phi),
            elbo=np.asarray(report.trace)[: int(report.iterations)],
            outcome=method.outcome(found),
            restart_elbo=np.asarray(report.restart_bound),
        )


@jax.jit
def _responsibilities(
    mixture: Mixture, lam: Float[Array, "K P"]
) -> Float[Array, "N K"]:
    phi: Array = mixture.responsibilities(Factors(lam, mixture.prior_sticks()))
    return phi


@cache
def _programs(
    method: CAVI, apart: bool = False
) -> tuple[tuple[Stage, ...], dict[str, Any]]:
    """Stages and programs, cached by settings: another call compiles nothing."""
    stages = method.stages((1, 1), apart=apart)
    return stages, compiled(stages)


def _table(data: Any) -> Table:
    raw = np.asarray(data) if not isinstance(data, str) else None
    if raw is not None and raw.ndim == 2 and raw.shape[0] == 0 and raw.shape[1] > 0:
        return Table("array", raw.astype(np.float64), feature_names(raw.shape[1]))
    return load(data)
