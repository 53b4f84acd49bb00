"""Laplace: a normal at the posterior's mode, with the curvature there.

Tierney and Kadane (1986), in the unconstrained space: the mode is the best end of
several L-BFGS runs (BlackJAX's) and a few Newton steps; the precision of the normal is
minus the Hessian of the log density there, by autodiff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    remembered,
)
from vi_bench.inference.starts import dispersed_start
from vi_bench.methods._climb import Peak, at_the_top, climbed, short_of_the_top
from vi_bench.methods._normal import flat_density, normal_draws
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LaplaceReport(Report):
    """Of the mode, and the draws.

    Attributes:
        left: the length of a further Newton step, in the normal's sds.
        height: log density at the end of each L-BFGS run, nats.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    iterations: Int[Array, ""]
    left: Float[Array, ""]
    height: Float[Array, " starts"]


@dataclass(frozen=True)
class Laplace:
    """Settings of the Laplace approximation.

    Attributes:
        starts: L-BFGS runs, of which the highest end is taken.
        max_iterations: iteration limit of each.
        tol: a run ends when its log density changes by less, relatively.
        newton_steps: Newton steps from its end.
    """

    starts: Annotated[int, Gt(0)] = 8
    max_iterations: Annotated[int, Gt(0)] = 500
    tol: Annotated[float, Gt(0)] = 1e-12
    newton_steps: Annotated[int, Ge(0)] = 5

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "a normal at the mode, with the curvature there"
    references: ClassVar[tuple[str, ...]] = ("tierney1986", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages climb, to the mode and its curvature, and draw."""
        return self._stages((problem.chains, problem.draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        def climb(key: Key, posterior: Posterior, _: Any) -> Peak:
            return self._peak(key, posterior)

        def draw(key: Key, posterior: Posterior, peak: Peak) -> Draws:
            return drawn(key, posterior, peak, shape)

        return (
            Stage("climb", climb),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _peak(self, key: Key, posterior: Posterior) -> Peak:
        _, height = flat_density(posterior)

        def start(key: Key) -> Array:
            return ravel_pytree(dispersed_start(key, posterior))[0]

        starts = over_lanes(start, jax.random.split(key, self.starts))
        return climbed(height, starts, self.max_iterations, self.tol, self.newton_steps)

    def outcome(self, draws: Draws) -> Outcome:
        """Converged at a maximum, or why not."""
        report: LaplaceReport = draws.report
        short = short_of_the_top(
            float(report.left),
            float(report.bound),
            "the log density has no mode there",
            "mode",
        )
        if short is not None:
            return short
        told = at_the_top(np.asarray(report.height))
        return Outcome("converged", f"{told} ended at the highest mode")


def drawn(key: Key, posterior: Posterior, peak: Peak, shape: tuple[int, int]) -> Draws:
    """Draws from the normal at the mode, and its bound estimated from them."""
    whole = jnp.eye(peak.position.shape[0], dtype=peak.position.dtype)
    root = solve_triangular(peak.root, whole, lower=True, trans=1)
    found = normal_draws(key, posterior, peak.position, root, shape)
    report = LaplaceReport(
        bound=found.bound,
        bound_se=found.bound_se,
        iterations=peak.iterations[jnp.argmax(peak.height)],
        left=peak.left,
        height=peak.height,
    )
    q = {"mode": peak.position, "precision": peak.root @ peak.root.T}
    return Draws(found.parameters, {}, found.log_q, q, report)


METHOD = Laplace
