"""Stochastic CAVI: natural-gradient steps on minibatches, for many rows.

Hoffman, Blei, Wang and Paisley (2013), section 2. It comes near an optimum quickly but
converges slowly; CAVI with `start = "stochastic"` continues from such a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Array, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    as_it_is,
    remembered,
)
from vi_bench.inference.climber import Point, climber_of
from vi_bench.methods import _stochastic
from vi_bench.methods._factors import InFactors
from vi_bench.methods._schedule import Schedule
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

WINDOW = 50
"""Steps of every restart in one call of the fit stage."""

SETTLED = 1e-6
"""Largest relative gain of the ELBO by one sweep of all rows at convergence."""


class Lane(NamedTuple):
    """One restart: its q, and the number of its steps so far."""

    q: Point
    step: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StochasticCAVIReport(Report):
    """Of the restart with the best bound, and of every one.

    Attributes:
        gain: what one sweep of all rows would add to the bound, nats.
        run_bound: of each restart, nats.
        run_counts: expected rows by component of each.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    iterations: Int[Array, ""]
    counts: Float[Array, " K"]
    gain: Float[Array, ""]
    run_bound: Float[Array, " restart"]
    run_counts: Float[Array, "restart K"]


@dataclass(frozen=True)
class StochasticCAVI(InFactors):
    """Settings of stochastic CAVI.

    Attributes:
        restarts: independent runs; the best bound is kept.
        steps: number of steps of each.
        batch: rows of a minibatch, in whole blocks.
        delay: larger values make the first steps smaller.
        forgetting: the size of step t is (t + delay)^-forgetting; over 1/2, at most 1.
    """

    restarts: Annotated[int, Gt(0)] = 4
    steps: Annotated[int, Gt(0)] = 2000
    batch: Annotated[int, Gt(0)] = 1024
    delay: Annotated[float, Gt(-1)] = 1.0
    forgetting: Annotated[float, Gt(0.5), Le(1)] = 0.6

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "natural-gradient steps on minibatches, for many rows"
    references: ClassVar[tuple[str, ...]] = ("hoffman2013",)
    bound_keeps_labels: ClassVar[bool] = True

    @property
    def schedule(self) -> Schedule:
        """The schedule of the step sizes."""
        return Schedule(self.batch, self.delay, self.forgetting)

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, fit (in windows) and draw.

        Raises:
            NotApplicable: the family's q has no natural parameters, or the model has
                no steps on minibatches.
        """
        _stochastic.check(problem.posterior)
        return self._stages((problem.chains, problem.draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        def start(key: Key, posterior: Posterior, _: Any) -> Lane:
            steps = _stochastic.steps_of(posterior)

            def one(key: Key) -> Lane:
                return Lane(steps.begin(key), jnp.zeros((), jnp.int32))

            return over_lanes(one, jax.random.split(key, self.restarts))

        def fit(key: Key, posterior: Posterior, lanes: Lane) -> Lane:
            steps = _stochastic.steps_of(posterior)

            def one(key: Key, lane: Lane) -> Lane:
                number = jnp.minimum(WINDOW, self.steps - lane.step)
                q = _stochastic.run(
                    key, steps, lane.q, lane.step, number, self.schedule
                )
                return Lane(q, lane.step + number)

            return over_lanes(one, jax.random.split(key, self.restarts), lanes)

        def draw(key: Key, posterior: Posterior, lanes: Lane) -> Draws:
            return self._draw(key, posterior, lanes, shape)

        return (
            Stage("start", start),
            Stage("fit", fit, calls=-(-self.steps // WINDOW), cut=as_it_is),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _draw(
        self, key: Key, posterior: Posterior, lanes: Lane, shape: tuple[int, int]
    ) -> Draws:
        """Independent draws from the q with the best ELBO on all rows."""
        steps, climber = _stochastic.steps_of(posterior), climber_of(posterior)

        def whole(q: Point) -> tuple[Point, Array, Array, Array]:
            q = steps.ended(q)
            after = climber.bound(climber.swept(q))
            return q, climber.bound(q), after, climber.counts(q)

        points, bounds, after, counts = over_lanes(whole, lanes.q)
        best = jnp.argmax(jnp.where(jnp.isfinite(bounds), bounds, -jnp.inf))
        q = jax.tree.map(lambda leaf: leaf[best], points)
        theta = climber.draw(key, q, shape)
        report = StochasticCAVIReport(
            bound=bounds[best],
            bound_se=jnp.zeros_like(bounds[best]),
            counts=counts[best],
            iterations=lanes.step[best],
            gain=after[best] - bounds[best],
            run_bound=bounds,
            run_counts=counts,
        )
        log_q = climber.log_q(theta, q)
        return Draws(theta, {}, log_q, climber.describe(q), report, q)

    def outcome(self, draws: Draws) -> Outcome:
        """Converged where one CAVI sweep of all rows would gain at most SETTLED."""
        report: StochasticCAVIReport = draws.report
        bound, gain = float(report.bound), float(report.gain)
        steps = int(report.iterations)
        if not np.isfinite(bound):
            return Outcome(
                "not finite", "the ELBO is not finite: look at the scale of the data"
            )
        said = f"after {steps} steps one sweep of all rows would gain {gain:.3g} nats"
        if gain <= SETTLED * max(1.0, abs(bound)):
            return Outcome("converged", said)
        return Outcome(
            "iteration limit",
            f'{said}: raise steps, or take cavi with start = "stochastic"',
        )


METHOD = StochasticCAVI
