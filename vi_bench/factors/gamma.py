"""The Gamma distribution as a factor of q, for precisions and rates."""

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
class Gamma:
    """Gamma(shape, rate) of every element, ``rate^shape x^(shape - 1) exp(-rate x)``.

    Attributes:
        shape: its shape (...).
        rate: its rate (...), the inverse of the scale.
    """

    shape: Float[Array, "..."]
    rate: Float[Array, "..."]

    def natural(self) -> Natural:
        """The shape and the rate."""
        return self.shape, self.rate

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """A factor of this shape and rate."""
        return cls(*natural)

    def scale(self) -> Natural:
        """The shape and the rate."""
        return self.shape, self.rate

    def mean(self) -> Float[Array, "..."]:
        """E[x]."""
        return self.shape / self.rate

    def centre(self) -> Float[Array, "..."]:
        """Exp E[log x]."""
        return jnp.exp(self.mean_log())

    def mean_log(self) -> Float[Array, "..."]:
        """E[log x]."""
        return digamma(self.shape) - jnp.log(self.rate)

    def distribution(self) -> dist.Distribution:
        """The factor as a NumPyro distribution."""
        return dist.Gamma(self.shape, self.rate)

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""
        a, b = self.shape, self.rate
        return jnp.sum(a - jnp.log(b) + gammaln(a) + (1 - a) * digamma(a))

    def kl(self, prior: Gamma) -> Float[Array, ""]:
        """The divergence to another Gamma in nats, summed over copies."""
        a, b = self.shape, self.rate
        return jnp.sum(
            (a - prior.shape) * digamma(a)
            - gammaln(a)
            + gammaln(prior.shape)
            + prior.shape * (jnp.log(b) - jnp.log(prior.rate))
            + a * (prior.rate / b - 1)
        )
