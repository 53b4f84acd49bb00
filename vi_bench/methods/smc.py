"""SMC: adaptive tempered sequential Monte Carlo from the prior, with its evidence.

Del Moral, Doucet and Jasra (2006), by BlackJAX: particles from the prior are weighted,
resampled and moved towards the posterior, each next temperature chosen by the effective
sample size of its weights. The moves are Hamiltonian, in the unconstrained space, with
a metric and a step size that follow the particles (Buchholz, Chopin and Jacob 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Lt
from blackjax.smc import adaptive_tempered, extend_params, resampling
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Role,
    Stage,
    as_it_is,
    remembered,
)
from vi_bench.inference.lanes import stage_of_lanes
from vi_bench.methods._particles import (
    check_prior,
    constrained,
    densities,
    ended,
    from_prior,
    host,
    joined,
    of_runs,
)
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

SLICE = 5
"""Largest number of temperatures of every run in one call of the temper stage."""

STEP = 0.2
"""Step size of `transition`; any value leaves the posterior invariant."""

BATCH = 50
"""Particles moved at once: their (K, block) logits stay in a core's cache."""

GAIN = 2.0
"""How fast the logarithm of the step size follows the acceptance rate."""

LEAST = 0.3
"""Mean acceptance rate at the last temperature below which a run is suspect."""

DISTINCT = 0.05
"""Share of distinct particles below which a run has failed."""


class Run(NamedTuple):
    """The state of one population.

    Attributes:
        state: BlackJAX's particles, their weights and the inverse temperature.
        step_size: size of the next leapfrog steps.
        log_evidence: sum of the log increments of the evidence so far, nats.
        temperatures: inverse temperatures so far, NaN beyond.
        acceptance: mean acceptance rate at each of them, NaN beyond.
        steps: number of temperatures so far.
        done: whether the particles were resampled and moved at temperature 1.
    """

    state: Any
    step_size: Float[Array, ""]
    log_evidence: Float[Array, ""]
    temperatures: Float[Array, " most"]
    acceptance: Float[Array, " most"]
    steps: Int[Array, ""]
    done: Bool[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SMCReport(Report):
    """Of the runs, and their evidences together.

    Attributes:
        run_log_evidence: of each run, nats; NaN short of temperature 1.
        done: whether it was moved at temperature 1.
        steps: its temperatures.
        temperatures: its inverse temperatures, NaN beyond the last.
        reached: the last of these.
        acceptance: mean acceptance rates at them, NaN beyond the last.
        last_acceptance: the last of these.
    """

    log_evidence: Float[Array, ""]
    log_evidence_se: Float[Array, ""]
    log_evidence_df: Int[Array, ""]
    run_log_evidence: Float[Array, " runs"]
    done: Bool[Array, " runs"]
    steps: Int[Array, " runs"]
    temperatures: Float[Array, "runs most"]
    reached: Float[Array, " runs"]
    acceptance: Float[Array, "runs most"]
    last_acceptance: Float[Array, " runs"]


@dataclass(frozen=True)
class SMC:
    """Settings of SMC, of which each chain has several independent runs.

    Only the spread of independent runs includes every source of error, and a few runs
    do not estimate it well: so `runs` of them share the draws of a chain, and the draws
    have the shape (chains * runs, draws / runs).

    Attributes:
        runs: independent populations in place of each chain.
        particles: smallest number of particles of each run; more if it has more draws.
        target_ess: relative effective sample size of the weights at the next
            temperature; higher ones take more temperatures.
        steps: Hamiltonian moves per temperature.
        leapfrog: leapfrog steps per move.
        target_acceptance: acceptance rate to which the step size is adapted.
        max_temperatures: largest number of temperatures of each run.
    """

    runs: Annotated[int, Gt(0)] = 4
    particles: Annotated[int, Gt(1)] = 250
    target_ess: Annotated[float, Gt(0), Lt(1)] = 0.8
    steps: Annotated[int, Gt(0)] = 4
    leapfrog: Annotated[int, Gt(0)] = 5
    target_acceptance: Annotated[float, Gt(0), Lt(1)] = 0.8
    max_temperatures: Annotated[int, Gt(1)] = 300

    kind: ClassVar[Kind] = "particles"
    summary: ClassVar[str] = "BlackJAX tempered SMC from the prior, with the evidence"
    roles: ClassVar[Mapping[Role, int]] = {"check": 2, "between modes": 2}
    references: ClassVar[tuple[str, ...]] = ("delmoral2006", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, temper (in slices) and collect."""
        check_prior(problem)
        draws = -(-problem.draws // self.runs)
        return self._stages(problem.chains * self.runs, draws)

    @remembered
    def _stages(self, runs: int, draws: int) -> tuple[Stage, ...]:
        number = max(draws, self.particles)

        def start(key: Key, posterior: Posterior, _: Any) -> Run:
            return self._begin(key, posterior, number)

        def temper(key: Key, posterior: Posterior, run: Run) -> Run:
            kernel = self._kernel(posterior)
            last = jnp.minimum(run.steps + SLICE, self.max_temperatures)
            end: Run = lax.while_loop(
                lambda run: ~run.done & (run.steps < last),
                lambda run: self._advance(key, posterior, kernel, run),
                run,
            )
            return end

        slices = -(-self.max_temperatures // SLICE)
        return (
            stage_of_lanes("start", runs, start, again="same"),
            stage_of_lanes(
                "temper",
                runs,
                temper,
                calls=slices,
                done=ended,
                idle=ended,
                cut=as_it_is,
            ),
            Stage("collect", partial(collect, draws), part_of_inference=False),
        )

    def _begin(self, key: Key, posterior: Posterior, number: int) -> Run:
        dtype = posterior.dtype
        state = adaptive_tempered.init(from_prior(key, posterior, number))
        empty = jnp.full(self.max_temperatures, jnp.nan, dtype)
        return Run(
            state=state._replace(
                weights=state.weights.astype(dtype),
                tempering_param=jnp.zeros((), dtype),
            ),
            step_size=jnp.ones((), dtype),
            log_evidence=jnp.zeros((), dtype),
            temperatures=empty,
            acceptance=empty,
            steps=jnp.zeros((), jnp.int32),
            done=jnp.zeros((), bool),
        )

    def transition(
        self, key: Key, posterior: Posterior, theta: Parameters
    ) -> Parameters:
        """One Hamiltonian move at temperature 1, of step size about STEP."""
        log_prior, log_likelihood = densities(posterior)

        def density(free: Parameters) -> Float[Array, ""]:
            return log_prior(free) + log_likelihood(free)

        free = posterior.unconstrain(theta)
        metric = jnp.ones_like(ravel_pytree(free)[0])
        state, step = blackjax.hmc.init(free, density), jnp.asarray(STEP, metric.dtype)
        moved, _ = self._move()(key, state, density, step, metric)
        return posterior.constrain(moved.position)[0]

    def _move(self) -> Callable[..., tuple[Any, Any]]:
        """A Hamiltonian move of jittered step size, with its acceptance rate."""
        move = blackjax.hmc.build_kernel()

        def step(
            key: Key, state: Any, density: Any, step_size: Array, metric: Array
        ) -> tuple[Any, Array]:
            jitter, own = jax.random.split(key)
            size = step_size * jax.random.uniform(jitter, (), minval=0.5, maxval=1.5)
            state, info = move(own, state, density, size, metric, self.leapfrog)
            return state, info.acceptance_rate

        return step

    def _kernel(self, posterior: Posterior) -> Callable[..., tuple[Any, Any]]:
        """BlackJAX's step: resample, move, and weigh for the next temperature."""
        kernel: Callable[..., tuple[Any, Any]] = adaptive_tempered.build_kernel(
            *densities(posterior),
            self._move(),
            blackjax.hmc.init,
            resampling.systematic,
            self.target_ess,
            batch_size=BATCH,
        )
        return kernel

    def _advance(
        self, key: Key, posterior: Posterior, kernel: Callable[..., Any], run: Run
    ) -> Run:
        """One temperature. At temperature 1 the step resamples, moves and ends."""
        tuning = {"step_size": run.step_size, "metric": inverse_mass(posterior, run)}
        state, info = kernel(
            jax.random.fold_in(key, run.steps),
            run.state,
            self.steps,
            extend_params(tuning),
        )
        rate = jnp.nanmean(info.update_info)
        follow = jnp.exp(GAIN * (rate - self.target_acceptance))
        reached = state.tempering_param
        return Run(
            state=state,
            step_size=run.step_size * follow,
            log_evidence=run.log_evidence + info.log_likelihood_increment,
            temperatures=run.temperatures.at[run.steps].set(reached),
            acceptance=run.acceptance.at[run.steps].set(rate),
            steps=run.steps + 1,
            done=run.state.tempering_param >= 1 - 4 * jnp.finfo(reached.dtype).eps,
        )

    def combine(self, reports: Sequence[SMCReport]) -> SMCReport:
        """The runs of all batches as one report."""
        runs = joined(reports)
        return replace(runs, **host(of_runs(jnp.asarray(runs.run_log_evidence))))

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, iteration limit short of temperature 1, or suspect moves."""
        report: SMCReport = draws.report
        if not report.done.all():
            return Outcome(
                "iteration limit",
                f"max_temperatures = {self.max_temperatures} spent at inverse "
                f"temperature {report.reached.min():.2g}: raise it",
            )
        if not np.isfinite(report.log_evidence):
            return Outcome("not finite", "the evidence is not finite: look at the data")
        particles = np.asarray(next(iter(draws.parameters.values())))
        distinct = min(len(np.unique(run, axis=0)) for run in particles)
        if distinct < max(2.0, DISTINCT * particles.shape[1]):
            return Outcome(
                "failed",
                f"{distinct} distinct particles of {particles.shape[1]} are left: "
                "moves are refused; raise steps, look at the data's scale",
            )
        rate, steps = report.last_acceptance.min(), report.steps.max()
        if rate < LEAST:
            return Outcome(
                "suspect",
                f"{rate:.0%} of the last moves were accepted: raise steps, or chains "
                "to see by how much the runs differ",
            )
        return Outcome(
            "sampled", f"{steps} temperatures, {rate:.0%} of the last moves accepted"
        )


def inverse_mass(posterior: Posterior, run: Run) -> Float[Array, " D"]:
    """One over the mean square of the tempered log density's gradient, by coordinate.

    That mean is the mean curvature. Unlike the particles' variance it is local: far
    modes, such as those that differ by their labels, do not widen it.
    """
    log_prior, log_likelihood = densities(posterior)
    weights, temperature = run.state.weights, run.state.tempering_param

    def tempered(free: Parameters) -> Float[Array, ""]:
        value: Array = log_prior(free) + temperature * log_likelihood(free)
        return value

    def slope(free: Parameters) -> Float[Array, " D"]:
        found: Array = ravel_pytree(jax.grad(tempered)(free))[0]
        return found

    slopes = lax.map(slope, run.state.particles, batch_size=BATCH)
    squares = weights @ jnp.where(jnp.isfinite(slopes), slopes, 0.0) ** 2
    inverse: Array = 1 / jnp.maximum(squares, jnp.finfo(squares.dtype).eps)
    return inverse


def collect(draws: int, _: Key, posterior: Posterior, runs: Run) -> Draws:
    """Particles in their order, which keeps copies side by side, and the evidences.

    Where there are more particles than draws, evenly spaced ones are taken. A run that
    did not reach temperature 1 has no evidence.
    """
    own = jnp.where(runs.done, runs.log_evidence, jnp.nan)
    last = jnp.maximum(runs.steps - 1, 0)[:, None]
    number = runs.state.weights.shape[1]
    taken = jnp.arange(draws) * number // draws
    free = jax.tree.map(lambda v: v[:, taken], runs.state.particles)
    report = SMCReport(
        **of_runs(own),
        run_log_evidence=own,
        done=runs.done,
        steps=runs.steps,
        temperatures=runs.temperatures,
        reached=runs.state.tempering_param,
        acceptance=runs.acceptance,
        last_acceptance=jnp.take_along_axis(runs.acceptance, last, 1)[:, 0],
    )
    return Draws(constrained(posterior, free), {}, None, {}, report)


METHOD = SMC
