"""Recover q's parameters from its log density, where q has the conjugate prior's form.

log q(theta) = sum_k <s(theta_k), lam_k> + sum_s a_s log v_s + b_s log(1 - v_s) + const
is linear in the parameters: least squares over the draws gives lam and the sticks' a
and b to rounding error, without residuals if q has that form. So the parameters of any
implementation's q are known without asking for them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid
from jaxtyping import Array, Float

from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.mixture.weights import STICK, log_cosh
from vi_bench.verification.answer import Answer

TIED = 1e-7
"""Relative difference between components that the least squares may cause."""

LEFT = 1e-6
"""Largest residual of log q, relative to its spread, for q to have that form."""


class Identified(NamedTuple):
    """q as factors, and the nats by which its density exceeds the normalised one."""

    q: Factors
    excess: float


def identify(mixture: Mixture, answer: Answer) -> Identified | None:
    """The factors of q, or None if it does not have the prior's form.

    Args:
        mixture: the mixture.
        answer: the draws and their log density.
    """
    if answer.log_q is None or not isinstance(mixture.family, Conjugate):
        return None
    theta = answer.flat
    columns, known = jax.tree.map(np.asarray, _columns(mixture, theta))
    wanted = answer.log_q.ravel() - known
    scaled, usable, spread = _scaled(columns)
    target = wanted - wanted.mean()
    found = np.linalg.lstsq(scaled, target, rcond=1e-13)[0]
    left = float(np.abs(target - scaled @ found).max())
    slack = 64 * answer.eps * np.abs(answer.log_q).max()
    if not left <= LEFT * (1 + target.std()) + slack:
        return None
    linear = np.zeros(len(usable))
    linear[usable] = found / spread
    sticks = mixture.prior_sticks().shape[1]
    cut = len(linear) - 2 * sticks
    q = Factors(
        jnp.asarray(_tied(linear[:cut].reshape(mixture.components, -1))),
        jnp.asarray(linear[cut:].reshape(2, sticks)),
    )
    proper = np.asarray(_log_q(mixture, theta, q))
    excess = float(np.mean(answer.log_q.ravel() - proper))
    return Identified(q, excess) if np.isfinite(excess) else None


def explained(mixture: Mixture, answer: Answer, values: np.ndarray) -> float:
    """The variance of values (draws,) that q's sufficient statistics explain.

    What they would explain by chance is removed.
    """
    columns, _ = jax.tree.map(np.asarray, _columns(mixture, answer.flat))
    scaled, _, _ = _scaled(columns)
    target = values - values.mean()
    found, _, rank, _ = np.linalg.lstsq(scaled, target, rcond=1e-10)
    fitted = scaled @ found
    by_chance = (target - fitted).var() * rank / len(target)
    return float(fitted.var() - by_chance)


def _scaled(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns that vary, centred and of unit sd; which these are; and their sds."""
    middle, spread = columns.mean(axis=0), columns.std(axis=0)
    usable = spread > 1e-12 * (np.abs(middle) + 1e-300)
    return (columns - middle)[:, usable] / spread[usable], usable, spread[usable]


def _tied(lam: np.ndarray) -> np.ndarray:
    """Make components equal that are equal up to rounding: q may be a saddle point.

    There rounding would grow from sweep to sweep and hide that it is a fixed point.
    """
    size = np.abs(lam).max(axis=0) + 1e-300
    found = lam.copy()
    for k, row in enumerate(lam):
        close = np.flatnonzero((np.abs(lam[:k] - row) <= TIED * size).all(axis=1))
        if len(close):
            found[k] = found[close[0]]
    return found


@jax.jit
def _columns(
    mixture: Mixture, theta: Parameters
) -> tuple[Float[Array, "draws C"], Float[Array, " draws"]]:
    """The columns that log q is linear in, and its known additional term."""
    natural = mixture.family.natural(theta)
    columns = natural.reshape(len(natural), -1)
    if STICK not in theta:
        return columns, jnp.zeros(len(natural))
    u = jnp.sinh(theta[STICK])
    both = jnp.concatenate([columns, log_sigmoid(u), log_sigmoid(-u)], axis=1)
    return both, jnp.sum(log_cosh(theta[STICK]), axis=-1)


@jax.jit
def _log_q(mixture: Mixture, theta: Parameters, q: Factors) -> Float[Array, " draws"]:
    return mixture.log_q(theta, q)
