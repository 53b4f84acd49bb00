"""Permutations of the components: q averaged over all of them.

A mixture posterior under exchangeable weights is symmetric in its components, a q that
sits in one of its K! modes is not. The average of q over all permutations is as good a
density, has the posterior's symmetry, and is never further from the posterior: KL is
convex.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vi_bench.mixture import weights
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.mixture.weights import STICK, StickBreaking

MOST = 6
"""Largest K for which q is averaged over all K! permutations."""


def symmetric(mixture: Mixture) -> bool:
    """Whether q can be averaged: exchangeable components, and not too many."""
    exchangeable = not isinstance(mixture.weights, StickBreaking)
    return exchangeable and 2 <= mixture.components <= MOST


def permute(mixture: Mixture, theta: Parameters, order: Int[Array, " K"]) -> Parameters:
    """One theta with its components, and their weights, in another order."""
    dims = mixture.family.dims
    moved = {
        name: v[order] if "component" in dims.get(name, ()) else v
        for name, v in theta.items()
        if name != STICK
    }
    if STICK in theta:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        moved[STICK] = weights.sticks_of(log_weights[order])
    return moved


def log_symmetric(
    mixture: Mixture,
    log_q: Callable[[Parameters], Float[Array, ""]],
    theta: Parameters,
) -> Float[Array, ""]:
    """Log of q averaged over all K! permutations of the components, at one theta.

    A density of the sticks is with respect to coordinates that depend on the order of
    the components; it is converted to one with respect to the weights, and back.

    Args:
        mixture: the mixture.
        log_q: log density of q at any theta.
        theta: one value of the parameters.
    """
    orders = jnp.asarray(np.array(list(permutations(range(mixture.components)))))

    def term(order: Int[Array, " K"]) -> Float[Array, ""]:
        moved = permute(mixture, theta, order)
        return log_q(moved) - weights.log_volume(moved)

    terms = jax.vmap(term)(orders)
    own = weights.log_volume(theta)
    return jax.nn.logsumexp(terms) - math.log(len(orders)) + own
