"""Nested sampling: the evidence by shrinking the prior; BlackJAX's slice sampler.

Skilling (2006); inner moves by Yallup, Kroupa and Handley (2026). Live points are drawn
from the prior; repeatedly those of lowest likelihood are removed and replaced by new
ones of higher likelihood than all of these. The removed points, weighted by likelihood
times the prior volume they represent, sample the posterior; the sum of these weights is
the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Lt
from jax import lax
from jax.nn import logsumexp
from jaxtyping import Array, Bool, Float, Int
from scipy.stats import chi2

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
    told,
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
    resample,
    widened,
)
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

SLICE = 20
"""Largest number of batches that every run replaces in one call of the shrink stage."""

CLOSE = 0.01
"""Level of the test of whether runs lie closer together than their volumes allow."""

SIMULATIONS = 200
"""Simulated sequences of prior volumes, from which a run's error is estimated."""

STUCK = 0.05
"""Share of slice moves without a new point above which a run is suspect."""


class Run(NamedTuple):
    """The state of one population.

    Attributes:
        state: BlackJAX's: live points, its running evidence, the inner kernel's metric.
        position: removed points in order, with room for further ones.
        log_likelihood: log likelihoods of removed points, -inf where there is none yet.
        batches: number of batches removed so far.
        moved: sum over batches of the share of slice moves that found a point.
        done: whether the live points' share of the evidence is negligible.
    """

    state: Any
    position: Parameters
    log_likelihood: Float[Array, " dead"]
    batches: Int[Array, ""]
    moved: Float[Array, ""]
    done: Bool[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NestedReport(Report):
    """Of the runs, and their evidences together once their errors are known.

    Attributes:
        run_log_evidence: of each run, nats; NaN where it was cut short.
        run_volume_se: the error that its volumes leave, nats.
        kish_ess: Kish's effective number of its weighted points.
        done: whether it ended by itself.
        batches: that it put aside.
        moved: mean share of its slice moves that found a point.
    """

    run_log_evidence: Float[Array, " runs"]
    run_volume_se: Float[Array, " runs"] | None = None
    kish_ess: Float[Array, " runs"]
    done: Bool[Array, " runs"]
    batches: Int[Array, " runs"]
    moved: Float[Array, " runs"]


@dataclass(frozen=True)
class Nested:
    """Settings of nested sampling, of which each chain has several independent runs.

    Only the spread of independent runs includes every source of error, and a few runs
    do not estimate it well: so `runs` of them share the draws of a chain, and the draws
    have the shape (chains * runs, draws / runs).

    Attributes:
        runs: independent populations in place of each chain.
        live: live points of each run; the error of log p(X) falls with the square root
            of their number over all runs.
        share: share of the live points that are replaced at once.
        sweeps: sweeps for a new point, each of one slice move per parameter; too few
            bias the evidence.
        remaining: a run ends when its live points hold less than this share of the
            evidence.
        max_batches: largest number of batches that each run replaces.
    """

    runs: Annotated[int, Gt(0)] = 4
    live: Annotated[int, Gt(4)] = 100
    share: Annotated[float, Gt(0), Lt(1)] = 0.2
    sweeps: Annotated[int, Gt(0)] = 3
    remaining: Annotated[float, Gt(0), Lt(1)] = 0.05
    max_batches: Annotated[int, Gt(0)] = 1000

    kind: ClassVar[Kind] = "particles"
    summary: ClassVar[str] = "BlackJAX nested slice sampling, with the evidence"
    references: ClassVar[tuple[str, ...]] = ("skilling2006", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    @property
    def batch(self) -> int:
        """The number of live points replaced at once."""
        return min(max(1, round(self.share * self.live)), self.live - 1)

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, shrink (in slices), draw and volumes."""
        check_prior(problem)
        draws = -(-problem.draws // self.runs)
        return self._stages(problem.chains * self.runs, draws)

    @remembered
    def _stages(self, number: int, draws: int) -> tuple[Stage, ...]:
        def start(key: Key, posterior: Posterior, _: Any) -> Run:
            return self._begin(key, posterior)

        def shrink(key: Key, posterior: Posterior, run: Run) -> Run:
            last = jnp.minimum(run.batches + SLICE, self.max_batches)
            end: Run = lax.while_loop(
                lambda run: ~run.done & (run.batches < last),
                lambda run: self._advance(key, posterior, run),
                run,
            )
            return end

        def draw(key: Key, posterior: Posterior, runs: Run) -> tuple[Run, Draws]:
            return runs, self._draw(key, posterior, runs, draws)

        def volumes(key: Key, _: Posterior, carry: tuple[Run, Draws]) -> Draws:
            return self._with_errors(key, *carry)

        slices = -(-self.max_batches // SLICE)
        return (
            stage_of_lanes("start", number, start, again="same"),
            stage_of_lanes(
                "shrink",
                number,
                shrink,
                calls=slices,
                done=ended,
                idle=ended,
                cut=as_it_is,
            ),
            Stage("draw", draw),
            Stage("volumes", volumes, part_of_inference=False),
        )

    def _sampler(self, posterior: Posterior) -> Any:
        """BlackJAX's slice sampler along coordinates, as wide as the live points.

        Directions from the live points' covariance would be those between modes, far
        too long within one, and mix slowly.
        """
        return blackjax.nsswig(*densities(posterior), self.sweeps, self.batch)

    def _begin(self, key: Key, posterior: Posterior) -> Run:
        place, own = jax.random.split(key)
        points = from_prior(place, posterior, self.live)
        state = self._sampler(posterior).init(points, own)
        room = self.max_batches * self.batch
        return Run(
            state=state,
            position=jax.tree.map(
                lambda v: jnp.zeros((room, *v.shape[1:]), v.dtype), points
            ),
            log_likelihood=jnp.full(room, -jnp.inf, posterior.dtype),
            batches=jnp.zeros((), jnp.int32),
            moved=jnp.zeros((), posterior.dtype),
            done=jnp.zeros((), bool),
        )

    def _advance(self, key: Key, posterior: Posterior, run: Run) -> Run:
        """Replace one batch of live points."""
        step = self._sampler(posterior).step
        state, info = step(jax.random.fold_in(key, run.batches), run.state)
        at = run.batches * self.batch

        def put(room: Array, dead: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(room, dead, at, 0)

        left = state.integrator.logZ_live - state.integrator.logZ
        return Run(
            state=state,
            position=jax.tree.map(put, run.position, info.particles.position),
            log_likelihood=put(run.log_likelihood, info.particles.loglikelihood),
            batches=run.batches + 1,
            moved=run.moved
            + jnp.mean(info.update_info.is_accepted, dtype=run.moved.dtype),
            done=left < jnp.log(self.remaining),
        )

    def _draw(self, key: Key, posterior: Posterior, runs: Run, draws: int) -> Draws:
        """Draws resampled from the weighted points, and each run's evidence."""

        def one(key: Key, run: Run) -> tuple[Parameters, Array, Array]:
            position, _ = self._points(run)
            log_weights = self._log_weights(run)
            weights = jax.nn.softmax(log_weights)
            chosen = resample(key, weights, draws)
            kept = jax.tree.map(lambda v: v[chosen], position)
            return kept, logsumexp(log_weights), 1 / jnp.sum(weights**2)

        keys = jax.random.split(key, runs.done.shape[0])
        free, log_evidence, kish = over_lanes(one, keys, runs)
        report = NestedReport(
            run_log_evidence=jnp.where(runs.done, log_evidence, jnp.nan),
            kish_ess=kish,
            done=runs.done,
            batches=runs.batches,
            moved=runs.moved / runs.batches.astype(runs.moved.dtype),
        )
        return Draws(constrained(posterior, free), {}, None, {}, report)

    def _with_errors(self, key: Key, runs: Run, draws: Draws) -> Draws:
        """Add each run's error from its volumes, and the evidence of all runs."""
        report: NestedReport = draws.report
        own = report.run_log_evidence
        keys = jax.random.split(key, own.shape[0])
        volume = over_lanes(self._volume_error, keys, runs)
        known = replace(report, run_volume_se=volume, **together(own, volume))
        return draws._replace(report=known)

    def _points(self, run: Run) -> tuple[Parameters, Float[Array, " all"]]:
        """Positions and log likelihoods of all points, the live ones last, sorted."""
        live = run.state.particles
        order = jnp.argsort(live.loglikelihood)
        position = jax.tree.map(
            lambda dead, alive: jnp.concatenate([dead, alive[order]]),
            run.position,
            live.position,
        )
        return position, jnp.concatenate(
            [run.log_likelihood, live.loglikelihood[order]]
        )

    def _log_weights(self, run: Run) -> Float[Array, " all"]:
        """Log of likelihood times prior volume; their sum estimates p(X) unbiasedly.

        Each of n live points represents one n-th of the volume that is left, and a
        batch of m removes the share m/n; for m = 1 see Walter (2017).
        """
        _, log_likelihood = self._points(run)
        log_kept = jnp.log1p(-self.batch / self.live)
        before = jnp.arange(run.log_likelihood.shape[0]) // self.batch
        dead = before.astype(log_likelihood.dtype) * log_kept
        live = jnp.full(self.live, run.batches.astype(dead.dtype) * log_kept)
        log_volume = jnp.concatenate([dead, live]) - jnp.log(self.live)
        return log_likelihood + log_volume

    def _volume_error(self, key: Key, run: Run) -> Float[Array, ""]:
        """Standard deviation of log p(X) over simulated sequences of volumes.

        The volume shrinks by the largest of n uniforms when the least likely of n
        points goes; within a batch n falls by one each time.
        """
        _, log_likelihood = self._points(run)
        room = run.log_likelihood.shape[0]
        dead = self.live - jnp.arange(room) % self.batch
        number = jnp.concatenate([dead, self.live - jnp.arange(self.live)])
        number = number.astype(log_likelihood.dtype)
        real = log_likelihood > -jnp.inf

        def one(key: Key) -> Float[Array, ""]:
            uniform = jax.random.uniform(key, number.shape, log_likelihood.dtype)
            shrinkage = jnp.where(real, jnp.log1p(-uniform) / number, 0.0)
            before = jnp.cumsum(shrinkage) - shrinkage
            shell = before + jnp.log(-jnp.expm1(shrinkage))
            return logsumexp(jnp.where(real, log_likelihood + shell, -jnp.inf))

        return jnp.std(lax.map(one, jax.random.split(key, SIMULATIONS)), ddof=1)

    def combine(self, reports: Sequence[NestedReport]) -> NestedReport:
        """The runs of all batches as one report."""
        runs = joined(reports)
        own = jnp.asarray(runs.run_log_evidence)
        known = together(own, jnp.asarray(runs.run_volume_se))
        return replace(runs, **host(known))

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, iteration limit, or suspect moves."""
        report: NestedReport = draws.report
        if not report.done.all():
            return Outcome(
                "iteration limit",
                f"max_batches = {self.max_batches} spent while the live points hold "
                f"over {self.remaining:.0%} of the evidence: raise it",
            )
        if not np.isfinite(told(report, "log_evidence", np.nan)):
            return Outcome("not finite", "the evidence is not finite: look at the data")
        stuck = 1 - float(report.moved.min())
        if stuck > STUCK:
            return Outcome(
                "suspect",
                f"{stuck:.0%} of the slice moves found no point: raise sweeps",
            )
        return Outcome(
            "sampled",
            f"{report.batches.max()} batches of {self.batch}, Kish's effective size "
            f"{report.kish_ess.min():.0f} in each run",
        )


def together(
    own: Float[Array, " runs"], volume: Float[Array, " runs"]
) -> dict[str, Array]:
    """The report on log p(X), from every run's own and the error its volumes leave.

    The error comes from the runs' spread, which has everything in it. If the runs lie
    closer together than their volumes allow, by a chi-squared test at CLOSE, the
    volumes' error is stated, as it is of a single run.
    """
    report = of_runs(own)
    runs = own.shape[0]
    if runs == 1:
        return report | {"log_evidence_se": volume[0]}
    mean_square = jnp.mean(volume**2)
    share = jnp.var(own, ddof=1) / mean_square
    close = share < chi2.ppf(CLOSE, runs - 1) / (runs - 1)
    freedom = runs * (SIMULATIONS - 1)
    stated = widened(jnp.sqrt(mean_square / runs), freedom)
    return report | {
        "log_evidence_se": jnp.where(close, stated, report["log_evidence_se"]),
        "log_evidence_df": jnp.where(close, freedom, report["log_evidence_df"]),
    }


METHOD = Nested
