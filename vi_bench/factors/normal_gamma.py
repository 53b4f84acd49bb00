"""A mean and a precision together: the Normal-Gamma distribution as a factor of q."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.factors.base import Natural, size_of_shift
from vi_bench.factors.gamma import Gamma
from vi_bench.factors.gaussian import LOG_2PI


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NormalGamma:
    """tau ~ Gamma(shape, rate), mu | tau ~ Normal(middle, 1 / (kappa tau)).

    Attributes:
        middle: E[mu] (...).
        kappa: rows that the mean is worth (...).
        shape: that of the precision (...).
        rate: that of the precision (...).
    """

    middle: Float[Array, "..."]
    kappa: Float[Array, "..."]
    shape: Float[Array, "..."]
    rate: Float[Array, "..."]

    @property
    def precision(self) -> Gamma:
        """The factor of tau, whatever mu is."""
        return Gamma(self.shape, self.rate)

    def natural(self) -> Natural:
        """Of tau mu, tau mu^2, log tau and tau, up to factors."""
        far = self.rate + 0.5 * self.kappa * self.middle**2
        return self.kappa * self.middle, self.kappa, self.shape, far

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """The inverse of `natural`."""
        shift, kappa, shape, far = natural
        middle = shift / kappa
        return cls(middle, kappa, shape, far - 0.5 * shift * middle)

    def scale(self) -> Natural:
        """Sizes by which a mean of 0 is known up to its sd."""
        shift, kappa, shape, far = self.natural()
        sd = jnp.sqrt(self.kappa * self.rate / self.shape)
        return size_of_shift(shift, sd), kappa, shape, far

    def square(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[tau (x - mu)^2], where x has further leading axes."""
        return self.shape / self.rate * (x - self.middle) ** 2 + 1 / self.kappa

    def entries(self) -> dict[str, Any]:
        """The precision tau, and the mean mu given it."""

        def mean(tau: Array) -> dist.Distribution:
            return dist.Normal(self.middle, (self.kappa * tau) ** -0.5)

        return {"tau": self.precision.distribution(), "mu": mean}

    def centres(self) -> dict[str, Array]:
        """E[mu], and exp E[log tau]."""
        return {"mu": self.middle, "tau": self.precision.centre()}

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""
        logs = jnp.log(self.kappa) + self.precision.mean_log()
        return self.precision.entropy() + 0.5 * jnp.sum(1 + LOG_2PI - logs)

    def kl(self, prior: NormalGamma) -> Float[Array, ""]:
        """The divergence to another Normal-Gamma in nats, summed over copies."""
        ratio = prior.kappa / self.kappa
        away = self.shape / self.rate * (self.middle - prior.middle) ** 2
        far = 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio) + prior.kappa * away)
        return self.precision.kl(prior.precision) + far
