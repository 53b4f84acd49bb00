"""The top of a function: L-BFGS from several starts, then Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.optimizers.lbfgs import minimize_lbfgs
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float, Int

from vi_bench.contract import Outcome
from vi_bench.runtime.lanes import over_lanes

Height = Callable[[Array], Array]
"""A point (D,) -> what is maximised, nats."""


STATIONARY = 1e-3
"""Length of a further Newton step, in sds, at which a maximum is reached."""


class Peak(NamedTuple):
    """A maximum, and the curvature there.

    Attributes:
        position: the maximum.
        root: Cholesky factor of minus the Hessian; NaN where it is not positive
            definite.
        left: the length of a further Newton step in the metric of that Hessian, sds of
            the normal that it is the precision of.
        height: at the end of each L-BFGS run, nats.
        iterations: of L-BFGS in each run.
    """

    position: Float[Array, " D"]
    root: Float[Array, "D D"]
    left: Float[Array, ""]
    height: Float[Array, " starts"]
    iterations: Int[Array, " starts"]


def climbed(
    height: Height,
    starts: Float[Array, "starts D"],
    iterations: int,
    tolerance: float,
    newton_steps: int,
) -> Peak:
    """The highest end of L-BFGS (BlackJAX's) from some starts, after Newton steps.

    Args:
        height: what is maximised; twice differentiable.
        starts: where the runs start.
        iterations: limit of each run.
        tolerance: a run ends when the height changes by less, relatively.
        newton_steps: from the highest end, each where it goes up.
    """

    def run(start: Array) -> tuple[Array, Array, Array]:
        (end, state), _ = minimize_lbfgs(
            lambda at: -height(at), start, maxiter=iterations, ftol=tolerance
        )
        value = height(end)
        value = jnp.where(jnp.isfinite(value), value, -jnp.inf)
        return end, value, state.iter_num

    ends, heights, done = over_lanes(run, starts)

    def newton(_: Any, at: Array) -> Array:
        """A step, where the curvature is that of a maximum and it goes up."""
        step = ascent(height, at)[1]
        there = at + step
        return jnp.where(height(there) >= height(at), there, at)

    top = ends[jnp.argmax(heights)]
    top = lax.fori_loop(0, newton_steps, newton, top)
    root, step = ascent(height, top)
    return Peak(top, root, jnp.linalg.norm(root.T @ step), heights, done)


def at_the_top(height: np.ndarray) -> str:
    """How many of the runs ended at the greatest height: "4 of 8 starts"."""
    same = int(np.sum(height > height.max() - 1e-3))
    return f"{same} of {len(height)} starts"


def short_of_the_top(left: float, bound: float, why: str, top: str) -> Outcome | None:
    """How a climb ended that is not at a maximum; None if it is.

    Args:
        left: of the peak.
        bound: of the normal there, nats; not finite if some draw of it is impossible.
        why: there may be no maximum.
        top: what the maximum is called.
    """
    if not np.isfinite(left):
        return Outcome(
            "not finite",
            f"the curvature at the highest point is not that of a maximum: {why}",
        )
    if not np.isfinite(bound):
        return Outcome("suspect", "some draws are impossible under the model")
    if left > STATIONARY:
        return Outcome(
            "iteration limit",
            f"the {top} is {left:.2g} sds away: raise max_iterations",
        )
    return None


def ascent(height: Height, at: Float[Array, " D"]) -> tuple[Array, Array]:
    """Cholesky factor of minus the Hessian, and the Newton step; NaN if indefinite."""
    root = jnp.linalg.cholesky(-jax.hessian(height)(at))
    return root, cho_solve((root, True), jax.grad(height)(at))
