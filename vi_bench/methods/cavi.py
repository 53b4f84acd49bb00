"""CAVI: coordinate-ascent variational inference with the hand-written kernel.

Mean field q(theta) q(c), both factors optimal given the other; Blei, Kucukelbir and
McAuliffe (2017), algorithm 2, for any conjugate family and in d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Predicate
from jaxtyping import Array

from vi_bench import starts
from vi_bench.checkpoint import LEAF, read_leaves
from vi_bench.contract import (
    Draws,
    Key,
    Kind,
    Outcome,
    Problem,
    Stage,
    remembered,
)
from vi_bench.errors import InputError
from vi_bench.iterate import (
    CONVERGED,
    NOT_FINITE,
    Ascent,
    begin,
    over_lanes,
    resolvable,
)
from vi_bench.methods import _stochastic
from vi_bench.methods._factors import InFactors
from vi_bench.methods._stochastic import Schedule
from vi_bench.mixture import Factors, Mixture

SLICE, TERMS = 500, 2e9
"""Iterations each restart may spend between two looks at the clock: up to SLICE, fewer
where they are over TERMS terms <t(x_i), M_k>, some seconds."""

STEPS, WARM_UP = 300, Schedule(batch=1024, delay=1.0, forgetting=0.6)
"""Of a stochastic start."""

TIE = 1e-9
"""Bounds that differ by less than this share are as good as each other."""

SAME_OPTIMUM = 1e-4
"""Nats: bounds that differ by less belong to one optimum."""


CHECKPOINT = ".npz"


def is_start(start: str) -> bool:
    """Whether CAVI can start so: "usual", "stochastic" or a PATH.npz.

    Raises:
        ValueError: it cannot; why.
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
        restarts: independent starts in one compiled program; the best bound is kept.
            The first half, rounded up, starts from k-means++, the others from random
            responsibilities.
        max_iterations: cap on the iterations of each restart.
        tol: on the relative change of the ELBO and on the fixed-point residual, both;
            raised to what the precision resolves.
        accelerate: leap ahead after every second sweep (SQUAREM), where the ELBO rises.
        start: "usual"; or "stochastic", STEPS natural-gradient steps on minibatches of
            every restart first, for many rows; or a checkpoint's path, PATH.npz, of
            the same data, for the first restart.
    """

    restarts: Annotated[int, Gt(0)] = 20
    max_iterations: Annotated[int, Gt(0)] = 10_000
    tol: Annotated[float, Gt(0)] = 1e-10
    accelerate: bool = True
    start: Annotated[str, Predicate(is_start)] = "usual"

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "coordinate ascent, hand-written kernel, many restarts"
    bound_keeps_labels: ClassVar[bool] = True

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """Start, fit (in slices), draw.

        Raises:
            NotApplicable: a stochastic start needs q's natural parameters.
        """
        if self.start == "stochastic":
            _stochastic.check(problem.mixture)
        mixture = problem.mixture
        slice_ = TERMS / max(mixture.rows * mixture.components, 1)
        shape = (problem.chains, problem.draws)
        start, *others = self.stages(shape, int(np.clip(slice_, 1, SLICE)))
        if self.start.endswith(CHECKPOINT):
            first = stored_point(self.start, mixture)
            usual = start.run
            start = replace(
                start, run=lambda key, mixture, _: usual(key, mixture, first)
            )
        return (start, *others)

    @remembered
    def stages(self, shape: tuple[int, int], slice_: int = SLICE) -> tuple[Stage, ...]:
        """The stages for (chains, draws); they hold no data.

        What the first one is given, if anything, is where the first restart starts.

        Args:
            shape: of the draws.
            slice_: iterations of every restart in one call.
        """
        begun = warmed_up if self.start == "stochastic" else start_point

        def start(key: Key, mixture: Mixture, first: Factors | None) -> Ascent:
            points = over_lanes(
                lambda kind, key: begun(kind, key, mixture),
                jnp.arange(self.restarts) >= (self.restarts + 1) // 2,
                jax.random.split(key, self.restarts),
            )
            if first is not None:
                points = jax.tree.map(lambda p, f: p.at[0].set(f), points, first)
            return jax.vmap(
                lambda point: begin(point, mixture.view(point), self.max_iterations)
            )(points)

        def fit(_: Key, mixture: Mixture, lanes: Ascent) -> Ascent:
            tolerance = resolvable(self.tol, mixture.log_base.dtype)
            onward = mixture.climber()

            def climb(state: Ascent) -> Ascent:
                return onward(state, slice_, tolerance, self.accelerate)

            return over_lanes(climb, lanes)

        def draw(key: Key, mixture: Mixture, lanes: Ascent) -> Draws:
            return best_draws(key, mixture, lanes, shape)

        return (
            Stage("start", start),
            Stage(
                "fit",
                fit,
                calls=-(-self.max_iterations // slice_),
                done=all_done,
                keep=best_point,
            ),
            Stage("draw", draw),
        )

    def outcome(self, draws: Draws) -> Outcome:
        """Converged, budget spent or not finite, as the best restart ended."""
        report = draws.report
        status = int(report["status"])
        iterations, residual = int(report["iterations"]), float(report["residual"])
        precision = report["bound"].dtype
        if status == NOT_FINITE or not np.isfinite(report["bound"]):
            return Outcome(
                "not finite",
                f"the ELBO was not finite after {iterations} iterations: "
                "look at the scale of the data and of the prior",
            )
        if status == CONVERGED:
            tol = resolvable(self.tol, precision)
            note = f" (tolerance {tol:.1e}, the finest {precision} resolves)"
            return Outcome(
                "converged",
                f"after {iterations} iterations{note if tol > self.tol else ''}",
            )
        return Outcome(
            "budget spent",
            f"max_iterations = {self.max_iterations} reached with residual "
            f"{residual:.1e}, tolerance {self.tol:.1e}: raise max_iterations",
        )


def all_done(lanes: Ascent) -> bool:
    """Whether no restart is still running."""
    return bool(np.all(np.asarray(lanes.status) != 0))


def chosen(lanes: Ascent) -> Array:
    """Which restart has the best bound; of those in one optimum the first."""
    # a restart whose bound is NaN is never the best; all NaN: the first, and said so
    ranked = jnp.where(jnp.isfinite(lanes.bound), lanes.bound, -jnp.inf)
    # of restarts in one optimum the first, so that rounding does not choose
    as_good = ranked >= jnp.max(ranked) - TIE * jnp.abs(jnp.max(ranked))
    return jnp.argmax(as_good)


def best_point(lanes: Ascent) -> dict[str, Any]:
    """The best restart's q, for a checkpoint."""
    host = jax.tree.map(np.asarray, lanes)
    best = int(chosen(host))
    leaves = [leaf[best] for leaf in jax.tree.leaves(host.point)]
    known = {"bound": host.bound[best], "iteration": host.iteration[best]}
    return known | {LEAF.format(i): leaf for i, leaf in enumerate(leaves)}


def stored_point(path: str, mixture: Mixture) -> Factors:
    """The q of a checkpoint.

    Raises:
        InputError: it is not one of this mixture.
    """
    like, structure = jax.tree.flatten(mixture.prior())
    leaves = read_leaves(path)
    shapes, expected = [v.shape for v in leaves], [v.shape for v in like]
    if shapes != expected:
        raise InputError(
            f"start {path!r}: holds q of shapes {shapes}; expected {expected}"
        )
    point: Factors = jax.tree.unflatten(
        structure, [jnp.asarray(v, w.dtype) for v, w in zip(leaves, like, strict=True)]
    )
    return point


def start_point(random: Array, key: Key, mixture: Mixture) -> Factors:
    """The M-step after k-means++ or, where `random`, after random responsibilities."""
    if mixture.rows == 0:  # nothing to start from: the prior is the answer
        return mixture.prior()
    x = mixture.some()
    phi = jax.lax.cond(
        random,
        lambda: starts.random_responsibilities(key, x, mixture.components),
        lambda: starts.plus_plus_responsibilities(key, x, mixture.components),
    )
    return mixture.from_responsibilities(phi, x)


def warmed_up(_: Array, key: Key, mixture: Mixture) -> Factors:
    """Where STEPS steps on minibatches lead."""
    place, steps = jax.random.split(key)
    q = _stochastic.begin(place, mixture)
    none = jnp.zeros((), jnp.int32)
    return _stochastic.run(steps, mixture, q, none, STEPS, WARM_UP)


def best_draws(
    key: Key, mixture: Mixture, lanes: Ascent, shape: tuple[int, int]
) -> Draws:
    """Independent draws from the q of the restart with the best bound."""
    which = chosen(lanes)
    best = jax.tree.map(lambda leaf: leaf[which], lanes)
    counts = over_lanes(mixture.counts, lanes.point)
    bound, _ = mixture.step(best.point)
    theta = mixture.draw(key, best.point, shape)
    report = {
        "bound": jnp.where(best.status == NOT_FINITE, jnp.nan, bound),
        "bound_se": jnp.zeros_like(bound),
        "counts": counts[which],
        "iterations": best.iteration,
        "leaps": best.leaps,
        "total_iterations": jnp.sum(lanes.iteration),
        "residual": best.residual,
        "change": best.change,
        "fall": jnp.max(lanes.fall),
        "status": best.status,
        "trace": best.trace,
        "restart_bound": lanes.bound,
        "restart_iterations": lanes.iteration,
        "restart_status": lanes.status,
        "restart_counts": counts,
    }
    variational = mixture.describe(best.point)
    log_q = mixture.log_q(theta, best.point)
    return Draws(theta, {}, log_q, variational, report, best.point)


def optima(bounds: np.ndarray, counts: np.ndarray) -> list[tuple[float, int, int]]:
    """Distinct optima among the restarts, best first.

    Neighbours in order less than SAME_OPTIMUM apart, or less than their precision
    resolves, are one optimum; restarts whose bound is not finite count nowhere.

    Args:
        bounds: (restarts,).
        counts: expected rows by component (restarts, K).

    Returns:
        For each optimum its bound, the restarts there, and in the best of them the
        components that hold at least half a row.
    """
    finite = np.flatnonzero(np.isfinite(bounds))
    if not len(finite):
        return []
    order = finite[np.argsort(-bounds[finite], kind="stable")]
    ordered = bounds[order]
    resolved = 16 * np.finfo(bounds.dtype).eps * np.abs(ordered).max()
    apart = max(SAME_OPTIMUM, float(resolved))
    cuts = np.flatnonzero(ordered[:-1] - ordered[1:] > apart) + 1
    return [
        (float(bounds[group[0]]), len(group), occupied(counts[group[0]]))
        for group in np.split(order, cuts)
    ]


def occupied(counts: np.ndarray) -> int:
    """Components that hold at least half a row; the others are empty."""
    return int(np.sum(counts >= 0.5))


METHOD = CAVI
