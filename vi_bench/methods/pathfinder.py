"""Pathfinder: normal approximations along quasi-Newton paths, importance resampled.

Zhang, Carpenter, Gelman and Vehtari (2022), algorithm 2: from each start L-BFGS
maximises the log density; of the normals N(theta + H grad, H) along its path, H being
the inverse Hessian estimated there, the one with the best ELBO is sampled. The draws of
all paths are weighted, the weights smoothed (PSIS), and resampled. L-BFGS, the factors
of H and PSIS are BlackJAX's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from blackjax.diagnostics import psis_weights
from blackjax.optimizers.lbfgs import (
    bfgs_sample,
    lbfgs_inverse_hessian_factors,
    minimize_lbfgs,
)
from jax import lax
from jax.flatten_util import ravel_pytree
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
from vi_bench.inference.lanes import stage_of_lanes
from vi_bench.inference.starts import dispersed_start
from vi_bench.methods._particles import constrained, resample
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

BATCH = 50
"""Draws whose density is evaluated at once."""

USABLE = 0.7
"""k-hat above which importance weights are unreliable (Vehtari et al. 2024)."""


EQUAL = 1e-3
"""Sd of the log weights, in nats, up to which they count as equal."""


class Path(NamedTuple):
    """The best normal on one path, of mean position + H gradient and covariance H.

    Attributes:
        position: a point of the path.
        gradient: gradient of the log density there.
        alpha: H is diag(alpha) + beta gamma beta^T.
        beta: see alpha.
        gamma: see alpha.
        bound: its ELBO, nats, from the draws by which it was chosen.
        iterations: number of iterations of L-BFGS.
    """

    position: Float[Array, " D"]
    gradient: Float[Array, " D"]
    alpha: Float[Array, " D"]
    beta: Float[Array, "D twice_history"]
    gamma: Float[Array, "twice_history twice_history"]
    bound: Float[Array, ""]
    iterations: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PathfinderReport(Report):
    """Of the paths, and of the importance weights; the bound is the best path's.

    Attributes:
        khat: Pareto shape of the weights' tail.
        log_weight_sd: of the log weights, nats.
        path_bound: ELBO of each path's normal, nats.
        path_iterations: of L-BFGS on each path.
        best_iterations: of L-BFGS on the best path.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    khat: Float[Array, ""]
    log_weight_sd: Float[Array, ""]
    path_bound: Float[Array, " paths"]
    path_iterations: Int[Array, " paths"]
    best_iterations: Int[Array, ""]


@dataclass(frozen=True)
class Pathfinder:
    """Settings of multi-path Pathfinder.

    Attributes:
        paths: L-BFGS runs, each from around a k-means start of its own.
        max_iterations: iteration limit of each path.
        tol: a path ends when its log density changes by less, relatively.
        history: number of steps from which the inverse Hessian is estimated.
        bound_draws: draws from which each ELBO along a path is estimated.
        candidates: draws from the paths' normals per draw that is kept.
        batches: batches in place of each chain, resampled from candidates of their own.
            Autocorrelation does not show the whole error of resampling, the spread of
            batches does. The draws have the shape (chains * batches, draws / batches).
    """

    paths: Annotated[int, Gt(0)] = 12
    max_iterations: Annotated[int, Gt(0)] = 200
    tol: Annotated[float, Gt(0)] = 1e-9
    history: Annotated[int, Gt(0)] = 6
    bound_draws: Annotated[int, Gt(1)] = 50
    candidates: Annotated[int, Gt(0)] = 4
    batches: Annotated[int, Gt(0)] = 4

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "normals along L-BFGS paths, importance resampled"
    references: ClassVar[tuple[str, ...]] = ("zhang2022", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages climb, L-BFGS from every start, and draw."""
        draws = -(-problem.draws // self.batches)
        return self._stages((problem.chains * self.batches, draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        def climb(key: Key, posterior: Posterior, _: Any) -> Path:
            return self._path(key, posterior)

        def draw(key: Key, posterior: Posterior, paths: Path) -> Draws:
            return self._draw(key, posterior, paths, shape)

        return (
            stage_of_lanes("climb", self.paths, climb),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _path(self, key: Key, posterior: Posterior) -> Path:
        place, own = jax.random.split(key)
        start, unravel = ravel_pytree(dispersed_start(place, posterior))
        density = posterior.density

        def log_density(flat: Float[Array, " D"]) -> Float[Array, ""]:
            return density(unravel(flat))

        (_, state), path = minimize_lbfgs(
            lambda flat: -log_density(flat),
            start,
            maxiter=self.max_iterations,
            maxcor=self.history,
            ftol=self.tol,
        )
        steps = steps_before(path.x, path.update_mask, self.history)
        turns = steps_before(path.g, path.update_mask, self.history)

        def normal(index: Array) -> Path:
            beta, gamma = lbfgs_inverse_hessian_factors(
                steps(index).T, turns(index).T, path.alpha[index]
            )
            point = Path(
                position=path.x[index],
                # of the log density; BlackJAX's own loop passes that of its objective
                gradient=-path.g[index],
                alpha=path.alpha[index],
                beta=beta,
                gamma=gamma,
                bound=jnp.zeros((), start.dtype),
                iterations=state.iter_num,
            )
            use = jax.random.fold_in(own, index)
            free, log_q = sample(use, point, self.bound_draws)
            bound = jnp.mean(lax.map(log_density, free, batch_size=BATCH) - log_q)
            known = (index <= state.iter_num.astype(index.dtype)) & jnp.isfinite(bound)
            return point._replace(bound=jnp.where(known, bound, -jnp.inf))

        along = lax.map(normal, jnp.arange(self.max_iterations + 1))
        best = jnp.argmax(along.bound)
        chosen: Path = jax.tree.map(lambda leaf: leaf[best], along)
        return chosen

    def _draw(
        self, key: Key, posterior: Posterior, paths: Path, shape: tuple[int, int]
    ) -> Draws:
        """Candidates from every path for each chain, weighted together, resampled."""
        chains, draws = shape
        of_paths, of_chains = jax.random.split(key)
        each = -(-self.candidates * draws // self.paths)
        free, log_q = jax.vmap(lambda key, path: sample(key, path, chains * each))(
            jax.random.split(of_paths, self.paths), paths
        )
        _, unravel = ravel_pytree(dispersed_start(key, posterior))
        density = posterior.density
        flat = free.reshape(-1, free.shape[-1])
        log_p = lax.map(lambda v: density(unravel(v)), flat, batch_size=BATCH)
        terms = log_p.reshape(log_q.shape) - log_q
        log_weights, khat = psis_weights(
            jnp.where(jnp.isfinite(terms), terms, -jnp.inf).ravel()
        )

        def by_chain(leaf: Array) -> Array:
            """Rearrange (paths, chains * each, ...) to (chains, paths * each, ...)."""
            cut = leaf.reshape(self.paths, chains, each, *leaf.shape[2:])
            joined = jnp.moveaxis(cut, 1, 0)
            return joined.reshape(chains, self.paths * each, *leaf.shape[2:])

        chosen = jax.vmap(partial(resample, number=draws))(
            jax.random.split(of_chains, chains),
            jax.nn.softmax(by_chain(log_weights.reshape(terms.shape)), axis=1),
        )
        kept = jax.vmap(lambda pool, rows: pool[rows])(by_chain(free), chosen)
        theta: Parameters = constrained(posterior, jax.vmap(jax.vmap(unravel))(kept))
        best = jnp.argmax(paths.bound)
        bounds = jnp.mean(terms, axis=1)
        errors = jnp.std(terms, axis=1, ddof=1) / jnp.sqrt(float(terms.shape[1]))
        report = PathfinderReport(
            bound=bounds[best],
            bound_se=errors[best],
            khat=khat,
            log_weight_sd=jnp.std(terms),
            path_bound=bounds,
            path_iterations=paths.iterations,
            best_iterations=paths.iterations[best],
        )
        return Draws(theta, {}, None, {}, report)

    def outcome(self, draws: Draws) -> Outcome:
        """Converged, iteration limit, or suspect by k-hat of the importance weights."""
        report: PathfinderReport = draws.report
        khat, bound = float(report.khat), float(report.bound)
        if not np.isfinite(bound):
            return Outcome(
                "not finite", "the best path's bound is not finite: look at the scales"
            )
        # equal weights, as where q is exact, have no tail that k-hat could be fitted to
        if not (khat <= USABLE or float(report.log_weight_sd) <= EQUAL):
            known = f"{khat:.2f}, over {USABLE}" if np.isfinite(khat) else "not known"
            return Outcome(
                "suspect",
                f"k-hat of the importance weights is {known}: the draws are not the "
                "posterior's",
            )
        iterations = int(report.best_iterations)
        if iterations >= self.max_iterations:
            return Outcome(
                "iteration limit",
                f"the best path spent max_iterations = {iterations}: raise it",
            )
        return Outcome(
            "converged", f"best path after {iterations} iterations, k-hat {khat:.2f}"
        )


def steps_before(points: Array, used: Array, history: int) -> Any:
    """A function of an index: the `history` differences of points before that point.

    They are 0 where the path has not begun, and where L-BFGS did not use them.
    """
    steps = jnp.where(used[1:], jnp.diff(points, axis=0), 0.0)
    padded = jnp.pad(steps, ((history, 0), (0, 0)))
    return lambda index: lax.dynamic_slice_in_dim(padded, index, history)


def sample(
    key: Key, path: Path, number: int
) -> tuple[Float[Array, "number D"], Float[Array, " number"]]:
    """Draws from a path's normal, unconstrained, and their log density."""
    free, log_q = bfgs_sample(
        key,
        number,
        path.position,
        path.gradient,
        path.alpha,
        path.beta,
        path.gamma,
    )
    return free, log_q


METHOD = Pathfinder
