"""One replica of `tempered`: its target at an inverse temperature, and its sweep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.methods import gibbs
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.mixture_pass import Statistics, log_marginal
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key


class Way(NamedTuple):
    """How rows enter with beta: row i has the weight clip(slope beta - rank_i, 0, 1).

    Attributes:
        rank: place of each row in the order of entry, from 0; 0 if all enter at once.
        slope: N where rows enter one after the other, 1 if all enter at once.
    """

    rank: Float[Array, " N"]
    slope: Float[Array, ""]

    def weights(self, beta: Float[Array, ""]) -> Float[Array, " N"]:
        """The weight of each row at an inverse temperature (N,)."""
        return jnp.clip(self.slope * beta - self.rank, 0.0, 1.0)


@dataclass(frozen=True)
class Counted:
    """The part of a family that passes over weighted rows use."""

    of: Statistics

    def statistics(self, x: Float[Array, "e n"]) -> Float[Array, "P n"]:
        """t(x_i) times the row's weight, which is the last feature of x."""
        return x[-1:] * self.of(x[:-1])


def sweep(
    key: Key, mixture: Mixture, theta: Parameters, counts: Float[Array, " N"]
) -> Parameters:
    """One Gibbs sweep that leaves pi_beta invariant: c, their order, sticks, theta_k.

    It equals `gibbs.sweep` where every row counts once. A row that counts w times adds
    w to its component's count, so the sticks' Betas, and with them the order of the
    labels, use the weighted counts.

    Args:
        key: random key of the sweep.
        mixture: the mixture whose tempered posterior is left invariant.
        theta: the state of the replica.
        counts: how often each row counts.
    """
    return gibbs.sweep(key, mixture, theta, weighted=with_counts(mixture, counts))


def with_counts(mixture: Mixture, counts: Float[Array, " N"]) -> Mixture:
    """The mixture of rows that count so many times, for passes over the data only.

    The counts become the last feature of its blocks, in the blocks' order.
    """
    body, tail = mixture.blocks.body, mixture.blocks.tail
    whole = body.shape[0] * body.shape[2]
    in_body = counts[:whole].reshape(body.shape[0], 1, body.shape[2])
    blocks = replace(
        mixture.blocks,
        body=jnp.concatenate([body, in_body], axis=1),
        tail=jnp.concatenate([tail, counts[None, whole:]]),
    )
    family: Any = Counted(mixture.family.statistics)
    return replace(mixture, family=family, blocks=blocks)


def log_tempered(
    mixture: Mixture, theta: Parameters, counts: Float[Array, " N"]
) -> Float[Array, ""]:
    """L_beta(theta) = sum_i logsumexp_k w_i <t(x_i), M_k>.

    At beta = 0 it is N log K for every theta. Elsewhere it is a very low finite number
    where rounding leaves no finite one: such a replica does not move towards beta = 1.
    """
    weighted = with_counts(mixture, counts)
    value = log_marginal(
        weighted.family.statistics, weighted.blocks, mixture.natural(theta)
    )
    lowest = 0.01 * jnp.finfo(value.dtype).min
    value = jnp.where(jnp.isfinite(value), value, lowest)
    return jnp.where(jnp.any(counts > 0), value, log_start(mixture))


def log_start(mixture: Mixture) -> Float[Array, ""]:
    """Log of the normaliser at beta = 0: N log K."""
    return mixture.rows * jnp.log(
        jnp.asarray(mixture.components, mixture.log_base.dtype)
    )
