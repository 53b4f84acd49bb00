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
from vi_bench.methods._chains import (
    Parts,
    in_parts,
    sampling,
    warmup_and_sampling,
    warmup_key,
    with_room,
)
from vi_bench.methods._warmup import Tuned, Tuning, WarmUp
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes


class Chain(NamedTuple):
    """One chain.

    Attributes:
        state: of the sampler.
        step_size: of the integrator.
        inverse_mass_matrix: the inverse mass matrix, or its diagonal.
        position: draws (draw, *dims) of each parameter.
        stats: of each draw (draw,).
        done: number of draws.
        tuning_steps: leapfrog steps of the warm-up.
        tuning: the warm-up, where it goes a transition at a time.
    """

    state: Any
    step_size: Array
    inverse_mass_matrix: Array
    position: Parameters
    stats: dict[str, Array]
    done: Array
    tuning_steps: Array
    tuning: Tuning | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HamiltonianReport(Report):
    """Of the warm-up.

    Attributes:
        tuning_steps: leapfrog steps of every chain.
    """

    tuning_steps: Int[Array, " chains"]


KEPT = ("position", "stats")
"""What of a chain holds something of every draw."""

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
    parts = in_parts(draws)

    def sample(key: Key, posterior: Posterior, chain: Chain) -> Chain:
        return extend(kernel_of(posterior), key, chain, parts.each, draws)

    warmup = stage_of_lanes("warmup", chains, warmed_up)
    return _stages(chains, warmup, sampling(chains, parts, sample, *KEPT))


def stages_in_parts(
    chains: int,
    parts: Parts,
    begin: Callable[[Posterior, Parameters], Chain],
    warm_up: WarmUp,
    kernel_of: Callable[[Posterior], Kernel],
) -> tuple[Stage, ...]:
    """The stages start, begin, warmup and sample (both in parts), and collect.

    Warm-up and sampling are calls of one program.

    Args:
        chains: number of chains.
        parts: how sampling is cut.
        begin: (posterior, start) -> a chain before its warm-up.
        warm_up: tunes a chain, a transition at a time.
        kernel_of: the transition on a posterior.
    """
    steps, together = warm_up.steps, parts.steps(warm_up.steps)

    def begun(_: Key, posterior: Posterior, theta: Parameters) -> Chain:
        found: Chain = over_lanes(lambda own: begin(posterior, own), theta)
        return found

    def onward(key: Key, posterior: Posterior, chain: Chain) -> Chain:
        kernel, tuning = kernel_of(posterior), chain.tuning
        assert tuning is not None
        first = warmup_key(key, tuning.done, tuning.key)
        chain = chain._replace(tuning=tuning._replace(key=first))
        most = jnp.minimum(together, steps - tuning.done)
        return extend(kernel, key, chain, parts.each, parts.draws, warm_up, most)

    both = warmup_and_sampling(chains, parts, steps, onward, *KEPT)
    return _stages(chains, Stage("begin", begun), *both)


def _stages(chains: int, *between: Stage) -> tuple[Stage, ...]:
    collected = Stage("collect", collect, part_of_inference=False)
    return (starts.chains_start(chains), *between, collected)


def empty_chain(
    state: Any,
    step_size: Array,
    metric: Array,
    draws: int,
    *further: str,
    tuning: Tuning | None = None,
) -> Chain:
    """A chain with room for its draws.

    Args:
        state: of the sampler, with `position` and `logdensity`.
        step_size: of an integrator.
        metric: its inverse mass matrix, or the diagonal of that.
        draws: for how many there is room.
        further: names of further statistics, whole numbers.
        tuning: its warm-up, if that is to come.
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
        tuning=tuning,
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


def extend(
    kernel: Kernel,
    key: Key,
    chain: Chain,
    part: int,
    draws: int,
    warm_up: WarmUp | None = None,
    most: Array | int = 0,
) -> Chain:
    """`part` more draws, fewer where the chain has room for fewer.

    Args:
        kernel: the transition.
        key: a random key.
        chain: where it begins; once it has all its draws, further ones replace them.
        part: number of draws.
        draws: for how many there is room.
        warm_up: of a chain that is tuned first.
        most: number of transitions of its warm-up; draws are made only once that is 0.
    """
    chain = with_room(chain, draws)
    number = jnp.minimum(part, draws - chain.done)
    warming = jnp.asarray(most) > 0
    keys = jax.random.split(key, part)
    if warm_up is not None:
        assert chain.tuning is not None
        first, course = chain.tuning.done, warm_up.keys(chain.tuning)

    def advance(i: Array, chain: Chain) -> Chain:
        own = keys[i]
        if warm_up is not None:
            own = jnp.where(warming, course[first + i], own)
        state, stats = kernel(own, chain)

        def put(room: Array, leaf: Array) -> Array:
            return room.at[chain.done].set(leaf.astype(room.dtype))

        # in a warm-up all of them have the first place, that of the first draw later
        after = chain._replace(
            state=state,
            position=jax.tree.map(put, chain.position, state.position),
            stats={name: put(chain.stats[name], stats[name]) for name in stats},
            done=chain.done + jnp.where(warming, 0, 1),
        )
        return after if warm_up is None else tuned(after, chain, stats)

    def tuned(after: Chain, before: Chain, stats: Mapping[str, Array]) -> Chain:
        assert warm_up is not None
        assert before.tuning is not None
        known = Tuned(before.tuning, before.step_size, before.inverse_mass_matrix)
        now: Tuned = jax.lax.cond(
            warming,
            lambda: warm_up.further(
                known.tuning, after.state, stats["acceptance_rate"]
            ),
            lambda: known,
        )
        steps = jnp.where(warming, stats["n_steps"], 0).astype(jnp.int32)
        return after._replace(
            step_size=now.step_size,
            inverse_mass_matrix=now.inverse_mass_matrix,
            tuning=now.tuning,
            tuning_steps=before.tuning_steps + steps,
        )

    more: Chain = jax.lax.fori_loop(0, jnp.where(warming, most, number), advance, chain)
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
