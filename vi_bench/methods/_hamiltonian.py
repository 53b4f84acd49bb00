"""Chains of Hamiltonian samplers: their draws, and how they go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from vi_bench.contract import Draws, Outcome, Posterior, Report, Stage, told
from vi_bench.inference import starts
from vi_bench.inference.lanes import stage_of_lanes
from vi_bench.methods._chains import draws_of_a_part, with_room
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key


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
class HamiltonianReport(Report):
    """Of the warm-up.

    Attributes:
        tuning_steps: leapfrog steps of every chain.
    """

    tuning_steps: Int[Array, " chains"]


Kernel = Callable[[Key, Chain], tuple[Any, Mapping[str, Any]]]
"""(key, chain) -> its next state, and statistics of the transition."""


def stages_of(
    chains: int,
    draws: int,
    warmed_up: Callable[[Key, Posterior, Parameters], Chain],
    kernel_of: Callable[[Posterior], Kernel],
) -> tuple[Stage, ...]:
    """The stages start, warmup, sample (in parts) and collect.

    Args:
        chains: number of chains.
        draws: of each.
        warmed_up: (key, posterior, start) -> a chain that is tuned and has no draws.
        kernel_of: the transition on a posterior.
    """
    part = draws_of_a_part(draws)

    def sample(key: Key, posterior: Posterior, chain: Chain) -> Chain:
        kernel = kernel_of(posterior)
        return extend(kernel, key, with_room(chain, draws), part, draws)

    return (
        starts.chains_start(chains),
        stage_of_lanes("warmup", chains, warmed_up),
        stage_of_lanes(
            "sample", chains, sample, calls=-(-draws // part), again="onward"
        ),
        Stage("collect", collect, part_of_inference=False),
    )


def empty_chain(
    state: Any, step_size: Array, metric: Array, draws: int, *further: str
) -> Chain:
    """A warmed-up chain with room for its draws.

    Args:
        state: of the sampler, with `position` and `logdensity`.
        step_size: of an integrator.
        metric: its inverse mass matrix, or the diagonal of that.
        draws: for how many there is room.
        further: names of further statistics, whole numbers.
    """

    def room(leaf: Array) -> Array:
        return jnp.zeros((draws, *leaf.shape), leaf.dtype)

    lp = state.logdensity
    number = jnp.zeros((), jnp.int32)
    stats = {
        "lp": lp,
        "acceptance_rate": lp,
        "energy": lp,
        "diverging": jnp.zeros((), bool),
        "n_steps": number,
        **dict.fromkeys(further, number),
    }
    return Chain(
        state=state,
        step_size=step_size,
        inverse_mass_matrix=metric,
        position=jax.tree.map(room, state.position),
        stats=jax.tree.map(room, stats),
        done=number,
        tuning_steps=number,
    )


def told_of(state: Any, info: Any) -> dict[str, Any]:
    """Statistics of a transition, as ArviZ names them."""
    return {
        "lp": state.logdensity,
        "acceptance_rate": info.acceptance_rate,
        "energy": info.energy,
        "diverging": info.is_divergent,
        "n_steps": info.num_integration_steps,
    }


def extend(kernel: Kernel, key: Key, chain: Chain, part: int, draws: int) -> Chain:
    """`part` more draws, fewer where the chain has room for fewer."""
    keys = jax.random.split(key, part)

    def advance(i: Array, chain: Chain) -> Chain:
        state, stats = kernel(keys[i], chain)

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
    report = HamiltonianReport(tuning_steps=chains.tuning_steps)
    return Draws(theta, stats | {"step_size": step_size}, None, {}, report)


def passes(draws: Draws) -> float:
    """Leapfrog steps of all chains, those of the warm-up too."""
    own = np.asarray(draws.sample_stats["n_steps"]).sum()
    return float(own + np.sum(told(draws.report, "tuning_steps", np.nan)))


def ended(stats: Mapping[str, np.ndarray]) -> Outcome | None:
    """What is wrong with chains, by statistics (chain, draw); None if nothing is."""
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
    return None
