"""CAVI: coordinate-ascent variational inference, written by hand.

Of a mixture mean field q(theta) q(c), both factors optimal given the other; Blei,
Kucukelbir and McAuliffe (2017), algorithm 2, for any conjugate family and in d
dimensions. Other models bring their own sweep and bound (`contract.CAVIModel`). The
ascent, its acceleration, restarts and stopping are the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Predicate
from jax import lax
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
    told,
)
from vi_bench.errors import InputError, SpecError
from vi_bench.inference.climber import Climber, Point, climber_of
from vi_bench.inference.lanes import stage_of_lanes
from vi_bench.inference.restarts import all_apart, distinct_optima
from vi_bench.inference.search import (
    ROUNDS,
    TRIAL,
    Search,
    begun,
    best_point,
    chosen,
    ended,
    following,
    settled,
)
from vi_bench.inference.squarem import (
    CONVERGED,
    NOT_FINITE,
    RUNNING,
    Ascent,
    resolvable,
)
from vi_bench.methods import _stochastic
from vi_bench.methods._factors import InFactors
from vi_bench.methods._schedule import Schedule
from vi_bench.runtime.checkpoint import read_leaves
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

LARGE = 100_000
"""Products of a sweep from which restarts run beside one another: below, the threads
would cost more than they bring."""

SLICE, TERMS = 500, 2e9
"""Iterations of each restart in one call of the fit stage: at most SLICE, fewer where
they exceed TERMS products <t(x_i), M_k>, which take some seconds."""

STEPS, WARM_UP = 300, Schedule(batch=1024, delay=1.0, forgetting=0.6)
"""The number of steps of a stochastic start, and their schedule."""

PART = 10
"""Sweeps between two checks of an ascent's iteration limit."""

CHECKPOINT = ".npz"

Climb = tuple[Ascent, Array]
"""Ascents, and their iteration limits."""


def is_start(start: str) -> bool:
    """Whether a start is valid: "usual", "stochastic" or a checkpoint's PATH.npz.

    Raises:
        ValueError: gives the reason why it is not.
    """
    if start in ("usual", "stochastic"):
        return True
    if not start.endswith(CHECKPOINT):
        raise ValueError("expected 'usual', 'stochastic' or a checkpoint's PATH.npz")
    try:
        read_leaves(start)
    except InputError as error:
        raise ValueError(str(error).removeprefix(f"start {start!r}: ")) from None
    return True


@dataclass(frozen=True)
class CAVI(InFactors):
    """Settings of CAVI.

    Attributes:
        restarts: number of restarts, run in one compiled program; the best bound is
            kept. They are the best of several times as many starts of five kinds after
            a few sweeps; from the best optima components are then split and merged for
            as long as that raises the bound.
        max_iterations: iteration limit of each restart.
        tol: tolerance on both the relative change of the ELBO and the fixed-point
            residual; raised to what the precision resolves.
        accelerate: extrapolate after every second sweep (SQUAREM), and accept where the
            ELBO rises.
        start: "usual"; or "stochastic", for many rows: every restart begins with STEPS
            natural-gradient steps on minibatches; or PATH.npz, a checkpoint of the same
            data as the starting point of the first restart.
    """

    restarts: Annotated[int, Gt(0)] = 20
    max_iterations: Annotated[int, Gt(0)] = 10_000
    tol: Annotated[float, Gt(0)] = 1e-10
    accelerate: bool = True
    start: Annotated[str, Predicate(is_start)] = "usual"

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "coordinate ascent, hand-written kernel, many restarts"
    references: ClassVar[tuple[str, ...]] = ("blei2017",)
    bound_keeps_labels: ClassVar[bool] = True

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, fit (in slices) and draw.

        Raises:
            NotApplicable: the model has no coordinate ascent, or no steps on
                minibatches for a stochastic start.
        """
        slice_ = TERMS / max(climber_of(problem.posterior).products, 1)
        return self._prepared(problem, int(np.clip(slice_, 1, SLICE)))

    def finely(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The same, with an iteration of every restart in a call of the fit."""
        return self._prepared(problem, 1)

    def passes(self, draws: Draws) -> float:
        """Iterations of all restarts."""
        return float(told(draws.report, "total_iterations", np.nan))

    def _prepared(self, problem: Problem, slice_: int) -> tuple[Stage, ...]:
        climber = climber_of(problem.posterior)
        if self.start == "stochastic":
            _stochastic.check(problem.posterior)
        shape = problem.chains, problem.draws
        start, *others = self.stages(shape, slice_, climber.products >= LARGE)
        if self.start.endswith(CHECKPOINT):
            first = stored_point(self.start, climber.like())
            usual = start.run
            start = replace(
                start, run=lambda key, posterior, _: usual(key, posterior, first)
            )
        return (start, *others)

    @remembered
    def stages(
        self, shape: tuple[int, int], slice_: int = SLICE, apart: bool = False
    ) -> tuple[Stage, ...]:
        """The stages for (chains, draws); they hold no data.

        The first stage takes the starting point of the first restart, or None.

        Args:
            shape: number of chains and of draws in each.
            slice_: iterations of every restart in one call.
            apart: whether restarts are run beside one another, on the cores of a CPU.
        """

        def start(key: Key, posterior: Posterior, first: Point | None) -> Search:
            climber = climber_of(posterior)
            if self.start == "stochastic":
                keys = jax.random.split(key, self.restarts)
                steps = _stochastic.steps_of(posterior)
                points = over_lanes(lambda key: warmed_up(key, steps), keys)
            else:
                points = climber.starts(key, self.restarts)
            if first is not None:
                points = jax.tree.map(lambda p, f: p.at[0].set(f), points, first)
            return begun(climber, points, self.max_iterations)

        def climb(_: Key, posterior: Posterior, own: Climb) -> Climb:
            state, limit = own
            climber = climber_of(posterior)
            tolerance = resolvable(self.tol, posterior.dtype)
            onward = climber.onward()
            part = min(PART, slice_)

            def further(_: Array, state: Ascent) -> Ascent:
                return onward(state, part, tolerance, self.accelerate)

            left = jnp.minimum(slice_, limit - state.iteration)
            return lax.fori_loop(0, -(-left // part), further, state), limit

        def spread(_: Posterior, search: Search) -> Climb:
            return search.lanes, self._limits(search.tried)

        def idle(own: Climb) -> bool:
            return bool(ended(*own))

        def gather(
            key: Key, posterior: Posterior, search: Search, ends: Climb
        ) -> Search:
            climber = climber_of(posterior)
            lanes, limits = ends
            search = search._replace(lanes=lanes)
            if not climber.recombined:
                return search
            after: Search = lax.cond(
                jnp.all(ended(search.lanes, limits)),
                lambda: following(key, climber, search, self.max_iterations),
                lambda: search,
            )
            return after

        def draw(key: Key, posterior: Posterior, search: Search) -> Draws:
            return best_draws(key, climber_of(posterior), search, shape)

        def done(search: Search) -> bool:
            tried, lanes = np.asarray(search.tried), search.lanes
            running = np.asarray(lanes.status) == RUNNING
            short = np.asarray(lanes.iteration) < np.asarray(self._limits(tried))
            over = not np.any(running & short)
            return over and not tried.any() and int(search.left) == 0

        full, trial = (-(-n // slice_) for n in (self.max_iterations, TRIAL))
        calls = 2 * full + ROUNDS * (trial + 1)
        several = stage_of_lanes(
            "fit",
            self.restarts,
            climb,
            spread,
            gather,
            idle,
            calls=calls,
            done=done,
            keep=best_point,
            cut=as_it_is,
        )
        return (
            Stage("start", start),
            several if apart else replace(several, lane=None),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _limits(self, tried: Array | np.ndarray) -> Array:
        """Iteration limit of each ascent (restart,), lower during a split and merge."""
        most = self.max_iterations
        return jnp.where(tried, min(TRIAL, most), most)

    def outcome(self, draws: Draws) -> Outcome:
        """Converged, iteration limit or not finite, by the end of the best restart."""
        report: CAVIReport = draws.report
        status = int(report.status)
        iterations, residual = int(report.iterations), float(report.residual)
        precision = report.bound.dtype
        if status == NOT_FINITE or not np.isfinite(report.bound):
            return Outcome(
                "not finite",
                f"the ELBO was not finite after {iterations} iterations: "
                "look at the scale of the data and of the prior",
            )
        if status == CONVERGED:
            tol = resolvable(self.tol, precision)
            note = f" (tolerance {tol:.1e}, the finest {precision} resolves)"
            after = f"after {iterations} iterations{note if tol > self.tol else ''}"
            found = np.asarray(report.restart_bound), np.asarray(report.restart_counts)
            if all_apart(*found):
                after += (
                    f"; every one of the {self.restarts} restarts ended in another "
                    "optimum: raise restarts"
                )
            return Outcome("converged", after)
        return Outcome(
            "iteration limit",
            f"max_iterations = {self.max_iterations} reached with residual "
            f"{residual:.1e}, tolerance {self.tol:.1e}: raise max_iterations",
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CAVIReport(Report):
    """Of the best restart, and of every one.

    Attributes:
        residual: largest relative |F(point) - point|.
        change: last change of the bound over max(1, |bound|).
        restart_iterations: sweeps of each.
        restart_status: how each ended.
        restart_counts: expected rows by component of each.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    iterations: Int[Array, ""]
    accepted_extrapolations: Int[Array, ""]
    counts: Float[Array, " K"]
    trace: Float[Array, " most"]
    total_iterations: Int[Array, ""]
    fall: Float[Array, ""]
    status: Int[Array, ""]
    residual: Float[Array, ""]
    change: Float[Array, ""]
    restart_bound: Float[Array, " restart"]
    restart_iterations: Int[Array, " restart"]
    restart_status: Int[Array, " restart"]
    restart_counts: Float[Array, "restart K"]

    def summary(self) -> dict[str, Any]:
        """The table of restarts and the distinct optima they ended in, best first."""
        bounds, counts = np.asarray(self.restart_bound), np.asarray(self.restart_counts)
        restarts = {
            "bound": bounds,
            "iterations": self.restart_iterations,
            "converged": np.asarray(self.restart_status) == CONVERGED,
            "counts": counts,
            "optima": [
                {"bound": value, "restarts": count, "occupied": full}
                for value, count, full in distinct_optima(bounds, counts)
            ],
            "largest_relative_fall": self.fall,
        }
        return {"restarts": restarts}


def stored_point(path: str, like: Point) -> Point:
    """The q of a checkpoint.

    Args:
        path: the checkpoint.
        like: a q of the expected shapes and types.

    Raises:
        InputError: it cannot be read, or its q has other shapes.
    """
    known, structure = jax.tree.flatten(like)
    leaves = read_leaves(path)
    shapes, expected = [v.shape for v in leaves], [v.shape for v in known]
    if shapes != expected:
        raise SpecError(
            f"start {path!r}: holds q of shapes {shapes}; expected {expected}"
        )
    return jax.tree.unflatten(
        structure, [jnp.asarray(v, w.dtype) for v, w in zip(leaves, known, strict=True)]
    )


def warmed_up(key: Key, steps: _stochastic.Steps) -> Point:
    """A point after STEPS natural-gradient steps on minibatches."""
    place, along = jax.random.split(key)
    none = jnp.zeros((), jnp.int32)
    q = _stochastic.run(along, steps, steps.begin(place), none, STEPS, WARM_UP)
    return steps.ended(q)


def best_draws(
    key: Key, climber: Climber, search: Search, shape: tuple[int, int]
) -> Draws:
    """Independent draws from the q of the restart with the best bound."""
    lanes = settled(search)
    which = chosen(lanes)
    best = jax.tree.map(lambda leaf: leaf[which], lanes)
    counts = over_lanes(climber.counts, lanes.point)
    bound = climber.bound(best.point)
    theta = climber.draw(key, best.point, shape)
    report = CAVIReport(
        bound=jnp.where(best.status == NOT_FINITE, jnp.nan, bound),
        bound_se=jnp.zeros_like(bound),
        counts=counts[which],
        iterations=best.iteration,
        accepted_extrapolations=best.extrapolations,
        total_iterations=search.spent + jnp.sum(lanes.iteration, dtype=jnp.int32),
        residual=best.residual,
        change=best.change,
        fall=jnp.max(lanes.fall),
        status=best.status,
        trace=best.trace,
        restart_bound=lanes.bound,
        restart_iterations=lanes.iteration,
        restart_status=lanes.status,
        restart_counts=counts,
    )
    variational = climber.describe(best.point)
    log_q = climber.log_q(theta, best.point)
    return Draws(theta, {}, log_q, variational, report, best.point, optima=lanes.point)


METHOD = CAVI
