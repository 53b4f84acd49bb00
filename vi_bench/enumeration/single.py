"""The posterior of one component: conjugate, whatever the number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.enumeration.marginals import log_block_marginals, log_constant
from vi_bench.enumeration.posterior import Posterior
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SinglePosterior(Posterior):
    """The posterior with K = 1; in its only state the component has all rows."""

    def of_others(self, block: Float[Array, "C c Q"]) -> Float[Array, "C c Q"]:
        """Zeros, as there are no other components."""
        return jnp.zeros_like(block)

    def drawn_statistics(self, key: Key, draws: int) -> Float[Array, "draws K P"]:
        """The summed statistics of all rows, the same in every draw."""
        return jnp.broadcast_to(self.outer, (draws, *self.outer.shape))


def conjugate_posterior(mixture: Mixture) -> SinglePosterior:
    """The exact posterior of a mixture of one component.

    Args:
        mixture: a mixture with K = 1 that `marginals.check` accepts.
    """
    whole = jnp.sum(mixture.statistics(), axis=1)[None]
    nothing, one = jnp.zeros_like(whole), jnp.zeros((1, 1))
    possible = jnp.ones((1, 1), bool)
    log_block = log_block_marginals(mixture, whole, nothing, possible)[0, 0]
    filled = float(mixture.rows > 0)
    occupancy = jnp.array([1 - filled, filled])
    evidence = log_block + log_constant(mixture)
    return SinglePosterior(mixture, whole, nothing, one, evidence, occupancy)
