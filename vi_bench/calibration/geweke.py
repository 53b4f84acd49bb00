"""Geweke's (2004) joint-distribution test of a Markov kernel, started exactly.

Chains begin at independent draws (theta, X) from the joint distribution; in turns X is
redrawn given theta, and theta is moved by the kernel given X. If the kernel leaves
p(theta | X) invariant, the ends of the chains are independent draws from the joint
distribution again, so a two-sample test against fresh draws is exact. The last step is
the kernel's: after a redraw of X, theta and X would agree whatever the kernel does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vi_bench.calibration.programs import Truth, simulate
from vi_bench.contract import Transition
from vi_bench.mixture.compared_quantities import Coordinates, quantities
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key


def alternate(
    kernel: Transition, template: Mixture, key: Key, start: Truth, turns: int
) -> Truth:
    """Alternate X ~ p(X | theta) and theta ~ kernel(theta, X), from one (theta, X)."""
    rows = start.rows.shape[-2]

    def turn(at: Truth, key: Key) -> tuple[Truth, None]:
        of_rows, of_kernel = jax.random.split(key)
        x, _ = template.simulate(of_rows, rows, at.theta)
        x = x.astype(at.rows.dtype)
        theta = kernel.transition(of_kernel, template.with_rows(x), at.theta)
        return Truth(theta, x), None

    return lax.scan(turn, start, jax.random.split(key, turns))[0]


def joint_quantities(
    template: Mixture, at: Truth, coordinates: Coordinates
) -> Float[Array, " Q"]:
    """The label-invariant quantities (Q,) of one (theta, X)."""
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
    """Quantities (Q,) at the "end" of a chain, and of a "fresh" joint draw."""
    of_start, of_chain, of_fresh = jax.random.split(key, 3)
    start = simulate(template, rows, of_start)
    end = alternate(kernel, template, of_chain, start, turns)
    fresh = simulate(template, rows, of_fresh)
    return {
        "end": joint_quantities(template, end, coordinates),
        "fresh": joint_quantities(template, fresh, coordinates),
    }
