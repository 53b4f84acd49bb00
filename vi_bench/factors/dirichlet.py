"""The Dirichlet distribution as a factor of q, for weights that sum to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.factors.base import Natural
from vi_bench.factors.special import digamma


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dirichlet:
    """Dirichlet(concentration) along the last axis.

    Attributes:
        concentration: positive (..., K).
    """

    concentration: Float[Array, "... K"]

    def natural(self) -> Natural:
        """The concentrations."""
        return (self.concentration,)

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """A factor of these concentrations."""
        return cls(*natural)

    def scale(self) -> Natural:
        """The concentrations."""
        return (self.concentration,)

    def mean(self) -> Float[Array, "... K"]:
        """E[w]."""
        return self.concentration / jnp.sum(self.concentration, -1, keepdims=True)

    def centre(self) -> Float[Array, "... K"]:
        """E[w]."""
        return self.mean()

    def mean_log(self) -> Float[Array, "... K"]:
        """E[log w]."""
        total = jnp.sum(self.concentration, axis=-1, keepdims=True)
        return digamma(self.concentration) - digamma(total)

    def distribution(self) -> dist.Distribution:
        """The factor as a NumPyro distribution."""
        return dist.Dirichlet(self.concentration)

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""
        return jnp.sum(self._log_beta()) - jnp.sum(
            (self.concentration - 1) * self.mean_log()
        )

    def kl(self, prior: Dirichlet) -> Float[Array, ""]:
        """The divergence to another Dirichlet in nats, summed over copies."""
        moved = (self.concentration - prior.concentration) * self.mean_log()
        return jnp.sum(moved) + jnp.sum(prior._log_beta() - self._log_beta())

    def _log_beta(self) -> Float[Array, "..."]:
        """The log of the normalising constant, of each copy."""
        total = jnp.sum(self.concentration, axis=-1)
        return jnp.sum(gammaln(self.concentration), axis=-1) - gammaln(total)
