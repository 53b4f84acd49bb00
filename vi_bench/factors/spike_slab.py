"""A switch and a value as one factor of q, for coefficients that may be left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.factors.base import Natural
from vi_bench.factors.gaussian import LOG_2PI, Normal


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SpikeSlab:
    """A switch gamma and a value w, which depends on it, of every element.

    w is one normal where gamma = 1 and another where gamma = 0. Their density is
    exp(gamma (weight + shift w - precision w^2 / 2) + (1 - gamma) (rest_shift w -
    rest_precision w^2 / 2)), but for a constant. The variable of the factor is w;
    entropy and divergence are those of w and gamma together.

    Attributes:
        weight: see the density (...).
        shift: precision times mean of w where gamma = 1 (...).
        precision: the inverse of its variance there (...).
        rest_shift: precision times mean of w where gamma = 0 (...).
        rest_precision: the inverse of its variance there (...).
    """

    weight: Float[Array, "..."]
    shift: Float[Array, "..."]
    precision: Float[Array, "..."]
    rest_shift: Float[Array, "..."]
    rest_precision: Float[Array, "..."]

    @classmethod
    def of(cls, log_odds: Float[Array, "..."], on: Normal, off: Normal) -> Self:
        """The factor of known log odds of the switch, and w where it is on and off."""
        weight = log_odds - (_log_mass(*on.natural()) - _log_mass(*off.natural()))
        return cls(weight, *on.natural(), *off.natural())

    def natural(self) -> Natural:
        """All five."""
        on, off = (self.shift, self.precision), (self.rest_shift, self.rest_precision)
        return self.weight, *on, *off

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """A factor of these parameters."""
        return cls(*natural)

    def scale(self) -> Natural:
        """Log odds are known up to 1, means of 0 up to their sds."""
        one = jnp.ones_like(self.weight)
        return one, *self.on().scale(), *self.off().scale()

    def on(self) -> Normal:
        """W where gamma = 1."""
        return Normal(self.shift, self.precision)

    def off(self) -> Normal:
        """W where gamma = 0."""
        return Normal(self.rest_shift, self.rest_precision)

    def log_odds(self) -> Float[Array, "..."]:
        """Those of gamma = 1."""
        gain = _log_mass(self.shift, self.precision)
        return self.weight + gain - _log_mass(self.rest_shift, self.rest_precision)

    def log_odds_given(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """Those of gamma = 1 where w is known."""
        bend = 0.5 * (self.rest_precision - self.precision)
        return self.weight + (self.shift - self.rest_shift + bend * value) * value

    def inclusion(self) -> Float[Array, "..."]:
        """The probability of gamma = 1."""
        return sigmoid(self.log_odds())

    def effect(self) -> Float[Array, "..."]:
        """E[gamma w]."""
        return self.inclusion() * self.on().mean()

    def spread(self) -> Float[Array, "..."]:
        """Var[gamma w]."""
        off, on = sigmoid(-self.log_odds()), self.on()
        return self.inclusion() * (on.variance() + off * on.mean() ** 2)

    def mean(self) -> Float[Array, "..."]:
        """E[w]."""
        return self.effect() + sigmoid(-self.log_odds()) * self.off().mean()

    def centre(self) -> Float[Array, "..."]:
        """E[w]."""
        return self.mean()

    def distribution(self) -> dist.Distribution:
        """The distribution of w, a mixture of two normals."""
        log_odds, on, off = self.log_odds(), self.on(), self.off()
        logits = jnp.stack([jnp.zeros_like(log_odds), log_odds], axis=-1)
        mean = jnp.stack([off.mean(), on.mean()], axis=-1)
        sd = jnp.stack([off.precision, on.precision], axis=-1) ** -0.5
        return dist.MixtureSameFamily(
            dist.Categorical(logits=logits), dist.Normal(mean, sd)
        )

    def entropy(self) -> Float[Array, ""]:
        """The entropy of w and gamma in nats, summed over copies."""
        log_odds = self.log_odds()
        on, off = sigmoid(log_odds), sigmoid(-log_odds)
        switch = -on * log_sigmoid(log_odds) - off * log_sigmoid(-log_odds)
        logs = on * jnp.log(self.precision) + off * jnp.log(self.rest_precision)
        return jnp.sum(switch + 0.5 * (1 + LOG_2PI - logs))

    def kl(self, prior: SpikeSlab) -> Float[Array, ""]:
        """The divergence to another, of w and gamma, in nats, summed over copies."""
        log_odds, other = self.log_odds(), prior.log_odds()
        on = log_sigmoid(log_odds) - log_sigmoid(other)
        on += _divergence(self.on(), prior.on())
        off = log_sigmoid(-log_odds) - log_sigmoid(-other)
        off += _divergence(self.off(), prior.off())
        return jnp.sum(sigmoid(log_odds) * on + sigmoid(-log_odds) * off)


def _log_mass(shift: Array, precision: Array) -> Array:
    """Log of the integral of exp(shift w - precision w^2 / 2), but for a constant."""
    mass: Array = 0.5 * (shift**2 / precision - jnp.log(precision))
    return mass


def _divergence(one: Normal, other: Normal) -> Array:
    """The divergence of every element."""
    ratio = other.precision / one.precision
    far = other.precision * (one.mean() - other.mean()) ** 2
    return 0.5 * (ratio - 1 - jnp.log(ratio) + far)
