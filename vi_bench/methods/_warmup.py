"""Warm-up of a Hamiltonian chain, one transition at a time.

In Stan's schedule of windows the step size is tuned by dual averaging (Hoffman and
Gelman 2014), and the metric from the draws of each window, both by BlackJAX's parts.
BlackJAX's loop over them keeps every state and metric, and is one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.metric_recipes import MetricCore, lookup_recipe
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from vi_bench.runtime.keys import Key

FIRST_STEP = 1.0
"""Step size that dual averaging begins with."""


class Tuning(NamedTuple):
    """How far the warm-up of a chain is.

    Attributes:
        key: data of the random key of all its transitions.
        done: number of transitions.
        average: state of dual averaging.
        metric: state of the estimate of the metric.
    """

    key: Array
    done: Int[Array, ""]
    average: Any
    metric: Any


class Tuned(NamedTuple):
    """A warm-up after a transition, and what the next one uses.

    Attributes:
        tuning: the warm-up.
        step_size: of the integrator.
        inverse_mass_matrix: the inverse mass matrix, or its diagonal.
    """

    tuning: Tuning
    step_size: Float[Array, ""]
    inverse_mass_matrix: Array


@dataclass(frozen=True)
class WarmUp:
    """Settings of a warm-up.

    Attributes:
        steps: number of transitions.
        target_acceptance: acceptance rate that the step size is tuned to.
        dense: whether a full mass matrix is adapted, not a diagonal one.
    """

    steps: int
    target_acceptance: float
    dense: bool

    def begin(self, position: Any) -> Tuned:
        """Before the first transition from an unconstrained position."""
        flat = ravel_pytree(position)[0]
        begin, _, _ = self._average()
        metric = self._metric().init(flat.size)
        step_size = jnp.asarray(FIRST_STEP, flat.dtype)
        none = jnp.zeros((), jnp.int32)
        data = jax.random.key_data(jax.random.key(0))
        tuning = Tuning(data, none, begin(step_size), metric)
        return Tuned(tuning, step_size, metric.inverse_mass_matrix)

    def keys(self, tuning: Tuning) -> Key:
        """The random keys of all transitions (steps,)."""
        return jax.random.split(jax.random.wrap_key_data(tuning.key), self.steps)

    def further(self, tuning: Tuning, state: Any, acceptance: Array) -> Tuned:
        """After another transition.

        Args:
            tuning: the warm-up before it.
            state: of the sampler, with `position` and `logdensity_grad`.
            acceptance: the acceptance rate of the transition.
        """
        begin, update, final = self._average()
        core = self._metric()
        slow, ends = build_schedule(self.steps)[tuning.done]
        average = update(tuning.average, acceptance)
        metric = lax.cond(
            slow == 1,
            lambda known: core.update(known, state.position, state.logdensity_grad),
            lambda known: known,
            tuning.metric,
        )
        average, metric = lax.cond(
            ends == 1,
            lambda average, metric: (begin(final(average)), core.final(metric)),
            lambda average, metric: (average, metric),
            average,
            metric,
        )
        done = tuning.done + 1
        # the average of the last window's, once there is nothing more to tune
        log_step = jnp.where(
            done == self.steps, average.log_step_size_avg, average.log_step_size
        )
        tuning = Tuning(tuning.key, done, average, metric)
        return Tuned(tuning, jnp.exp(log_step), metric.inverse_mass_matrix)

    def _average(self) -> Any:
        return dual_averaging_adaptation(self.target_acceptance)

    def _metric(self) -> MetricCore:
        recipe = lookup_recipe("welford_dense" if self.dense else "welford_diag")
        return recipe.build_core()
