"""The replicas of `tempered`: their sweeps and swaps, and the ladder they are on."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vi_bench.methods._bridges import Tally
from vi_bench.methods._tempering import Way, log_tempered, sweep
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

POWER = 5
"""The first ladder is (i / T)^POWER (Friel and Pettitt 2008), and ladders are
interpolated on the scale of its steps."""

LEAST = 1e-3
"""Lower limit of a pair's rejection rate, so that the barrier strictly increases."""


class Ensemble(NamedTuple):
    """One chain: a replica at every temperature, beta = 0 first.

    Attributes:
        theta: parameters (temperature, *dims).
        phase: phase of the replica at each temperature: 0 before it was at beta = 0, 1
            on its way from there to beta = 1, 2 on its way back.
        odd: whether the pairs tried next are those that begin at odd places.
    """

    theta: Parameters
    phase: Int[Array, " temperature"]
    odd: Bool[Array, ""]


def counted(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    ensemble: Ensemble,
    tally: Tally,
) -> tuple[Ensemble, Tally]:
    """A sweep at every temperature, then swaps, whose statistics join the sums."""
    of_sweeps, of_swaps = jax.random.split(key)
    moved = ensemble._replace(
        theta=sweeps(of_sweeps, mixture, way, ladder, ensemble.theta)
    )
    ensemble, own = swaps(of_swaps, mixture, way, ladder, moved)
    return ensemble, Tally(
        jnp.logaddexp(tally.forward, own.forward),
        jnp.logaddexp(tally.backward, own.backward),
        tally.rejected + own.rejected,
        tally.tries + own.tries,
        tally.trips + own.trips,
    )


def sweeps(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    theta: Parameters,
) -> Parameters:
    """A sweep at every temperature; at beta = 0 a draw from the prior."""
    of_prior, others = jax.random.split(key)
    fresh = mixture.draw(of_prior, mixture.prior(), (1,))
    moved = over_lanes(
        lambda key, theta, beta: sweep(key, mixture, theta, way.weights(beta)),
        jax.random.split(others, ladder.shape[0] - 1),
        jax.tree.map(lambda v: v[1:], theta),
        ladder[1:],
    )
    return {name: jnp.concatenate([v, moved[name]]) for name, v in fresh.items()}


def swaps(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    ensemble: Ensemble,
) -> tuple[Ensemble, Tally]:
    """Swaps of every second pair of neighbours, and what they add to the sums.

    Two replicas swap with probability min(1, exp(L_b(theta') + L_b'(theta) -
    L_b(theta) - L_b'(theta'))), assignments marginalised.
    """
    places = jnp.arange(ladder.shape[0])
    begins = (places % 2 == 1) == ensemble.odd
    partner = jnp.where(begins, places + 1, places - 1)
    partner = jnp.clip(
        partner, 0, ladder.shape[0] - 1
    )  # an end without a partner: itself

    def change(theta: Parameters, own: Array, other: Array) -> Float[Array, ""]:
        there = log_tempered(mixture, theta, way.weights(other))
        return there - log_tempered(mixture, theta, way.weights(own))

    gain = over_lanes(change, ensemble.theta, ladder, ladder[partner])
    log_ratio = jnp.minimum(gain + gain[partner], 0.0)
    level = jnp.log(jax.random.uniform(key, (ladder.shape[0] - 1,), ladder.dtype))
    accepted = level < log_ratio[:-1]
    lower = jnp.minimum(places, partner)
    source = jnp.where(accepted[lower], partner, places)
    tried = begins[:-1]
    phase, trips = travelled(ensemble.phase[source])
    theta = jax.tree.map(lambda v: v[source], ensemble.theta)
    return Ensemble(theta, phase, ~ensemble.odd), Tally(
        jnp.where(tried, gain[:-1] / 2, -jnp.inf),
        jnp.where(tried, gain[1:] / 2, -jnp.inf),
        jnp.where(tried, -jnp.expm1(log_ratio[:-1]), 0.0),
        tried.astype(ladder.dtype),
        trips.astype(ladder.dtype),
    )


def travelled(
    phase: Int[Array, " temperature"],
) -> tuple[Int[Array, " temperature"], Bool[Array, ""]]:
    """Phases after the replicas at both ends have arrived; whether a trip has ended."""
    ended = phase[0] == 2
    phase = phase.at[0].set(1)
    return phase.at[-1].set(jnp.where(phase[-1] == 1, 2, phase[-1])), ended


def equalised(
    ladder: Float[Array, " temperature"], tally: Tally
) -> Float[Array, " temperature"]:
    """The ladder of equal rejection rates, estimated from the rates at this one.

    Syed et al. (2022), section 5: the sum of rejection rates up to beta estimates the
    communication barrier, whose inverse is taken at equal steps. The interpolation is
    linear in beta^(1 / POWER), hence monotone.
    """
    tried = jnp.sum(tally.tries, axis=0)
    rate = jnp.sum(tally.rejected, axis=0) / jnp.maximum(tried, 1.0)
    barrier = jnp.cumsum(jnp.maximum(rate, LEAST))
    barrier = jnp.concatenate([jnp.zeros_like(barrier, shape=1), barrier])
    wanted = jnp.linspace(0.0, 1.0, ladder.shape[0], dtype=ladder.dtype) * barrier[-1]
    found = jnp.interp(wanted, barrier, ladder ** (1 / POWER)) ** POWER
    return found.at[0].set(0.0).at[-1].set(1.0)
