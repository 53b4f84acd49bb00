"""NUTS: BlackJAX's No-U-Turn sampler on the marginalised log density.

For a mixture the density is the hand-written one: one pass over the data gives value
and gradient.
Hoffman and Gelman (2014); window adaptation as in Stan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Role,
    Stage,
    remembered,
    told,
)
from vi_bench.inference import starts
from vi_bench.methods._chains import draws_of_a_part, with_room
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

STEP = 0.3
"""Step size of `transition`; any value leaves the posterior invariant."""


class Chain(NamedTuple):
    """One chain: its state, its tuning, its draws (draw, *dims) and their number.

    `tuning_steps` are the leapfrog steps of its warm-up.
    """

    state: Any
    step_size: Array
    inverse_mass_matrix: Array
    position: Parameters
    stats: dict[str, Array]
    done: Array
    tuning_steps: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NUTSReport(Report):
    """Of the warm-up.

    Attributes:
        tuning_steps: leapfrog steps of every chain.
    """

    tuning_steps: Int[Array, " chains"]


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
        """The stages start, warmup, sample (in parts) and collect."""
        return self._stages(problem.chains, problem.draws)

    @remembered
    def _stages(self, chains: int, draws: int) -> tuple[Stage, ...]:
        part = draws_of_a_part(draws)

        def warm_up(key: Key, posterior: Posterior, first: Parameters) -> Chain:
            adaptation = blackjax.window_adaptation(
                blackjax.nuts,
                posterior.density,
                is_mass_matrix_diagonal=not self.dense_mass,
                target_acceptance_rate=self.target_acceptance,
                max_num_doublings=self.max_tree_depth,
            )

            def chain(key: Key, theta: Parameters) -> Chain:
                position = posterior.unconstrain(theta)
                (state, tuned), course = adaptation.run(key, position, self.warmup)
                metric = tuned["inverse_mass_matrix"]
                chain = empty_chain(state, tuned["step_size"], metric, draws)
                steps = jnp.sum(course.info.num_integration_steps)
                return chain._replace(tuning_steps=steps.astype(jnp.int32))

            keys = jax.random.split(key, chains)
            return over_lanes(chain, keys, first)

        def sample(key: Key, posterior: Posterior, so_far: Chain) -> Chain:
            kernel = self._kernel(posterior)
            keys = jax.random.split(key, chains)
            return over_lanes(
                lambda key, chain: extend(
                    kernel, key, with_room(chain, draws), part, draws
                ),
                keys,
                so_far,
            )

        return (
            starts.chains_start(chains),
            Stage("warmup", warm_up),
            Stage("sample", sample, calls=-(-draws // part), again="onward"),
            Stage("collect", collect, part_of_inference=False),
        )

    def passes(self, draws: Draws) -> float:
        """Leapfrog steps of all chains, those of the warm-up too."""
        own = np.asarray(draws.sample_stats["n_steps"]).sum()
        return float(own + np.sum(told(draws.report, "tuning_steps", np.nan)))

    def transition(
        self, key: Key, posterior: Posterior, theta: Parameters
    ) -> Parameters:
        """One NUTS transition with step size STEP and the unit metric."""
        density, free = posterior.density, posterior.unconstrain(theta)
        metric = jnp.ones_like(ravel_pytree(free)[0])
        state = blackjax.nuts.init(free, density)
        step = jnp.asarray(STEP, metric.dtype)
        chain = empty_chain(state, step, metric, 1)
        moved, _ = self._kernel(posterior)(key, chain)
        return posterior.constrain(moved.position)[0]

    def _kernel(self, posterior: Posterior) -> Callable[[Key, Chain], tuple[Any, Any]]:
        density = posterior.density
        step = blackjax.nuts.build_kernel()

        def kernel(key: Key, chain: Chain) -> tuple[Any, Any]:
            metric = chain.inverse_mass_matrix
            depth = self.max_tree_depth
            return step(key, chain.state, density, chain.step_size, metric, depth)  # type: ignore[no-any-return]

        return kernel

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, or suspect: divergences, stuck chains, collapsed step sizes."""
        stats = {name: np.asarray(v) for name, v in draws.sample_stats.items()}
        total = stats["diverging"].size
        diverging = int(stats["diverging"].sum())
        if not np.all(np.isfinite(stats["lp"])):
            return Outcome("not finite", "log densities of draws are not finite")
        chains, draws_each = stats["lp"].shape
        stuck = [c for c, lp in enumerate(stats["lp"]) if len(np.unique(lp)) < 2]
        if draws_each == 1:  # a single draw cannot show it
            stuck = []
        if diverging == total or len(stuck) == chains:
            return Outcome(
                "failed",
                f"{diverging} of {total} transitions diverged, {len(stuck)} of "
                f"{chains} chains never moved: look at the data's scale, raise warmup",
            )
        if stuck:
            return Outcome(
                "suspect", f"chains {stuck} never moved: look at the data's scale"
            )
        if diverging:
            return Outcome(
                "suspect",
                f"{diverging} of {total} transitions diverged: raise target_acceptance",
            )
        deep = int((stats["tree_depth"] >= self.max_tree_depth).sum())
        if deep:
            return Outcome(
                "suspect", f"{deep} of {total} draws hit max_tree_depth: raise it"
            )
        depth = stats["tree_depth"].mean()
        return Outcome("sampled", f"no divergence, mean tree depth {depth:.1f}")


def empty_chain(state: Any, step_size: Array, metric: Array, draws: int) -> Chain:
    """A warmed-up chain with room for its draws."""

    def room(leaf: Array) -> Array:
        return jnp.zeros((draws, *leaf.shape), leaf.dtype)

    lp = state.logdensity
    stats = {
        "lp": lp,
        "acceptance_rate": lp,
        "energy": lp,
        "diverging": jnp.zeros((), bool),
        "n_steps": jnp.zeros((), jnp.int32),
        "tree_depth": jnp.zeros((), jnp.int32),
    }
    return Chain(
        state=state,
        step_size=step_size,
        inverse_mass_matrix=metric,
        position=jax.tree.map(room, state.position),
        stats=jax.tree.map(room, stats),
        done=jnp.zeros((), jnp.int32),
        tuning_steps=jnp.zeros((), jnp.int32),
    )


def extend(
    kernel: Callable[[Key, Chain], tuple[Any, Any]],
    key: Key,
    chain: Chain,
    part: int,
    draws: int,
) -> Chain:
    """`part` more transitions, fewer where the chain has room for fewer."""
    keys = jax.random.split(key, part)

    def advance(i: Array, chain: Chain) -> Chain:
        state, info = kernel(keys[i], chain)
        stats = {
            "lp": state.logdensity,
            "acceptance_rate": info.acceptance_rate,
            "energy": info.energy,
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "tree_depth": info.num_trajectory_expansions,
        }

        def put(room: Array, leaf: Array) -> Array:
            return room.at[chain.done].set(leaf.astype(room.dtype))

        return chain._replace(
            state=state,
            position=jax.tree.map(put, chain.position, state.position),
            stats={name: put(chain.stats[name], stats[name]) for name in stats},
            done=chain.done + 1,
        )

    more: Chain = jax.lax.fori_loop(
        0, jnp.minimum(part, draws - chain.done), advance, chain
    )
    return more


def collect(_: Key, posterior: Posterior, chains: Chain) -> Draws:
    """Constrained draws and ArviZ's sample statistics."""
    theta, _ = jax.vmap(jax.vmap(posterior.constrain))(chains.position)
    stats = dict(chains.stats)
    step_size = jnp.broadcast_to(chains.step_size[:, None], stats["lp"].shape)
    report = NUTSReport(tuning_steps=chains.tuning_steps)
    return Draws(theta, stats | {"step_size": step_size}, None, {}, report)


METHOD = NUTS
