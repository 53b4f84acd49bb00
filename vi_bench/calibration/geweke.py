"""Geweke's (2004) joint-distribution test of a Markov kernel, perfectly started.

Chains begin at independent draws (theta, X) from the joint law, and by turns theta is
moved by the kernel given X, and X is drawn anew given theta. If the kernel leaves
p(theta | X) invariant, every end is a draw from the joint law again: independent ones,
so a two-sample test against fresh draws is exact.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vi_bench.calibration.programs import Truth, simulate
from vi_bench.calibration.quantities import Coordinates, quantities
from vi_bench.contract import Key, Transition
from vi_bench.mixture import Mixture


def alternate(
    kernel: Transition, template: Mixture, key: Key, start: Truth, turns: int
) -> Truth:
    """Turns of theta <- kernel(theta | X), X <- p(X | theta), from one (theta, X)."""
    rows = start.rows.shape[-2]

    def turn(at: Truth, key: Key) -> tuple[Truth, None]:
        of_kernel, of_rows = jax.random.split(key)
        mixture = template.with_rows(at.rows)
        theta = kernel.transition(of_kernel, mixture, at.theta)
        x, _ = template.simulate(of_rows, rows, theta)
        return Truth(theta, x.astype(at.rows.dtype)), None

    return lax.scan(turn, start, jax.random.split(key, turns))[0]


def joint_quantities(
    template: Mixture, at: Truth, coordinates: Coordinates
) -> Float[Array, " Q"]:
    """The invariants of one (theta, X)."""
    lifted: Any = {name: v[None] for name, v in at.theta.items()}
    named = quantities(template.with_rows(at.rows), lifted, coordinates)
    return jnp.stack([v[0] for v in named.values()])


def one_chain(
    kernel: Transition,
    template: Mixture,
    coordinates: Coordinates,
    rows: int,
    turns: int,
    key: Key,
) -> dict[str, Float[Array, " Q"]]:
    """The invariants at a chain's end ("end"), and of a fresh joint draw ("fresh")."""
    of_start, of_chain, of_fresh = jax.random.split(key, 3)
    start = simulate(template, rows, of_start)
    end = alternate(kernel, template, of_chain, start, turns)
    fresh = simulate(template, rows, of_fresh)
    return {
        "end": joint_quantities(template, end, coordinates),
        "fresh": joint_quantities(template, fresh, coordinates),
    }
