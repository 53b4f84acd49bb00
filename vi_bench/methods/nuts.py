"""NUTS: BlackJAX's No-U-Turn sampler on the marginalised log density.

For a mixture the density is the hand-written one: one pass over the data gives value
and gradient.
Hoffman and Gelman (2014); window adaptation as in Stan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import blackjax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt
from jax.flatten_util import ravel_pytree

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Role,
    Stage,
    remembered,
)
from vi_bench.methods._chains import Parts, in_parts, longest_part
from vi_bench.methods._hamiltonian import (
    Chain,
    Kernel,
    empty_chain,
    ended,
    passes,
    stages_in_parts,
    told_of,
)
from vi_bench.methods._warmup import WarmUp
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

STEP = 0.3
"""Step size of `transition`; any value leaves the posterior invariant."""


@dataclass(frozen=True)
class NUTS:
    """Settings of NUTS.

    Attributes:
        warmup: adaptation steps per chain, which are discarded.
        target_acceptance: acceptance rate that the step size is tuned to.
        max_tree_depth: largest number of doublings of a trajectory.
        dense_mass: adapt a full mass matrix instead of a diagonal one.
    """

    warmup: Annotated[int, Ge(20)] = 500
    target_acceptance: Annotated[float, Gt(0), Lt(1)] = 0.8
    max_tree_depth: Annotated[int, Gt(0)] = 10
    dense_mass: bool = False

    kind: ClassVar[Kind] = "mcmc"
    summary: ClassVar[str] = "BlackJAX NUTS, window adaptation, assignments summed out"
    roles: ClassVar[Mapping[Role, int]] = {"sampler": 1}
    references: ClassVar[tuple[str, ...]] = ("hoffman2014", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, begin, warmup and sample (in parts), and collect."""
        most = longest_part(problem.posterior, 2**self.max_tree_depth)
        return self._stages(problem.chains, in_parts(problem.draws, most))

    @remembered
    def _stages(self, chains: int, parts: Parts) -> tuple[Stage, ...]:
        warm_up = WarmUp(self.warmup, self.target_acceptance, self.dense_mass)

        def begin(posterior: Posterior, theta: Parameters) -> Chain:
            position = posterior.unconstrain(theta)
            state = blackjax.nuts.init(position, posterior.density)
            tuning, step_size, metric = warm_up.begin(position)
            return empty_chain(
                state, step_size, metric, parts.draws, "tree_depth", tuning=tuning
            )

        return stages_in_parts(chains, parts, begin, warm_up, self._kernel)

    def passes(self, draws: Draws) -> float:
        """Leapfrog steps of all chains, those of the warm-up too."""
        return passes(draws)

    def transition(
        self, key: Key, posterior: Posterior, theta: Parameters
    ) -> Parameters:
        """One NUTS transition with step size STEP and the unit metric."""
        density, free = posterior.density, posterior.unconstrain(theta)
        metric = jnp.ones_like(ravel_pytree(free)[0])
        state = blackjax.nuts.init(free, density)
        step = jnp.asarray(STEP, metric.dtype)
        chain = empty_chain(state, step, metric, 1, "tree_depth")
        moved, _ = self._kernel(posterior)(key, chain)
        return posterior.constrain(moved.position)[0]

    def _kernel(self, posterior: Posterior) -> Kernel:
        density = posterior.density
        step = blackjax.nuts.build_kernel()

        def kernel(key: Key, chain: Chain) -> tuple[Any, dict[str, Any]]:
            metric = chain.inverse_mass_matrix
            depth = self.max_tree_depth
            state, info = step(
                key, chain.state, density, chain.step_size, metric, depth
            )
            depths = {"tree_depth": info.num_trajectory_expansions}
            return state, told_of(state, info) | depths

        return kernel

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, or suspect: divergences, stuck chains, collapsed step sizes."""
        stats = {name: np.asarray(v) for name, v in draws.sample_stats.items()}
        if (wrong := ended(stats)) is not None:
            return wrong
        deep = int((stats["tree_depth"] >= self.max_tree_depth).sum())
        if deep:
            total = stats["tree_depth"].size
            return Outcome(
                "suspect", f"{deep} of {total} draws hit max_tree_depth: raise it"
            )
        depth = stats["tree_depth"].mean()
        return Outcome("sampled", f"no divergence, mean tree depth {depth:.1f}")


METHOD = NUTS
