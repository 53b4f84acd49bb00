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

from vi_bench.calibration.simulators import Simulator, Truth
from vi_bench.contract import Transition
from vi_bench.runtime.keys import Key


def alternate(
    kernel: Transition, simulator: Simulator, key: Key, start: Truth, turns: int
) -> Truth:
    """Alternate X ~ p(X | theta) and theta ~ kernel(theta, X), from one (theta, X)."""

    def turn(at: Truth, key: Key) -> tuple[Truth, None]:
        of_rows, of_kernel = jax.random.split(key)
        x = simulator.redraw(of_rows, at.theta)
        posterior: Any = simulator.posterior(x)
        return Truth(kernel.transition(of_kernel, posterior, at.theta), x), None

    return lax.scan(turn, start, jax.random.split(key, turns))[0]


def joint_quantities(simulator: Simulator, at: Truth) -> Float[Array, " Q"]:
    """The label-invariant quantities (Q,) of one (theta, X)."""
    lifted: Any = {name: v[None] for name, v in at.theta.items()}
    named = simulator.quantities(simulator.posterior(at.rows), lifted)
    return jnp.stack([v[0] for v in named.values()])


def one_chain(
    kernel: Transition, simulator: Simulator, turns: int, key: Key
) -> dict[str, Float[Array, " Q"]]:
    """Quantities (Q,) at the "end" of a chain, and of a "fresh" joint draw."""
    of_start, of_chain, of_fresh = jax.random.split(key, 3)
    start = simulator.joint(of_start)
    end = alternate(kernel, simulator, of_chain, start, turns)
    fresh = simulator.joint(of_fresh)
    return {
        "end": joint_quantities(simulator, end),
        "fresh": joint_quantities(simulator, fresh),
    }
