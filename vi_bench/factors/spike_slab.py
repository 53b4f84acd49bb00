"""A switch and a value as one factor of q, for coefficients that may be left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import log_sigmoid, sigmoid
from jaxtyping import Array, Float

from vi_bench.factors.base import Natural
from vi_bench.factors.gaussian import LOG_2PI


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SpikeSlab:
    """A switch gamma and a value w, which depends on it, of every element.

    w is normal where gamma = 1, and normal around 0 where gamma = 0. Their density is
    exp(gamma (weight + shift w - precision w^2 / 2) - (1 - gamma) rest w^2 / 2), but
    for a constant. The variable of the factor is w; entropy and divergence are those of
    w and gamma together.

    Attributes:
        weight: see the density (*b).
        shift: precision times mean of w where gamma = 1 (*b).
        precision: the inverse of its variance there (*b).
        rest: the inverse of its variance where gamma = 0 (*b).
    """

    weight: Float[Array, "*b"]
    shift: Float[Array, "*b"]
    precision: Float[Array, "*b"]
    rest: Float[Array, "*b"]

    @classmethod
    def of(
        cls,
        log_odds: Float[Array, "*b"],
        shift: Float[Array, "*b"],
        precision: Float[Array, "*b"],
        rest: Float[Array, "*b"],
    ) -> Self:
        """The factor of known log odds of the switch."""
        return cls(log_odds - _gain(shift, precision, rest), shift, precision, rest)

    def natural(self) -> Natural:
        """Weight, shift, precision and rest."""
        return self.weight, self.shift, self.precision, self.rest

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """A factor of these parameters."""
        return cls(*natural)

    def scale(self) -> Natural:
        """Log odds are known up to 1, a mean of 0 up to its sd."""
        shift = jnp.abs(self.shift) + jnp.sqrt(self.precision)
        return jnp.ones_like(self.weight), shift, self.precision, self.rest

    def log_odds(self) -> Float[Array, "*b"]:
        """Those of gamma = 1."""
        return self.weight + _gain(self.shift, self.precision, self.rest)

    def log_odds_given(self, value: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Those of gamma = 1 where w is known."""
        wide = 0.5 * (self.rest - self.precision)
        return self.weight + (self.shift + wide * value) * value

    def inclusion(self) -> Float[Array, "*b"]:
        """The probability of gamma = 1."""
        return sigmoid(self.log_odds())

    def mean(self) -> Float[Array, "*b"]:
        """E[w], which is E[gamma w] too."""
        return self.inclusion() * self.shift / self.precision

    def centre(self) -> Float[Array, "*b"]:
        """E[w]."""
        return self.mean()

    def spread(self) -> Float[Array, "*b"]:
        """Var[gamma w]."""
        on, off = self.inclusion(), sigmoid(-self.log_odds())
        square: Array = (self.shift / self.precision) ** 2
        return on * (1 / self.precision + off * square)

    def distribution(self) -> dist.Distribution:
        """The distribution of w, a mixture of two normals."""
        zero, log_odds = jnp.zeros_like(self.shift), self.log_odds()
        switch = dist.Categorical(logits=jnp.stack([zero, log_odds], axis=-1))
        mean = jnp.stack([zero, self.shift / self.precision], axis=-1)
        sd = jnp.stack([self.rest, self.precision], axis=-1) ** -0.5
        return dist.MixtureSameFamily(switch, dist.Normal(mean, sd))

    def entropy(self) -> Float[Array, ""]:
        """The entropy of w and gamma in nats, summed over copies."""
        log_odds, on = self.log_odds(), self.inclusion()
        switch = -on * log_sigmoid(log_odds) - (1 - on) * log_sigmoid(-log_odds)
        logs = on * jnp.log(self.precision) + (1 - on) * jnp.log(self.rest)
        return jnp.sum(switch + 0.5 * (1 + LOG_2PI - logs))

    def kl(self, prior: SpikeSlab) -> Float[Array, ""]:
        """The divergence to another, of w and gamma, in nats, summed over copies."""
        log_odds, other = self.log_odds(), prior.log_odds()
        away = self.shift / self.precision - prior.shift / prior.precision
        on = log_sigmoid(log_odds) - log_sigmoid(other)
        on += _normal_kl(self.precision, prior.precision, away)
        off = log_sigmoid(-log_odds) - log_sigmoid(-other)
        off += _normal_kl(self.rest, prior.rest, jnp.zeros_like(away))
        return jnp.sum(sigmoid(log_odds) * on + sigmoid(-log_odds) * off)


def _gain(shift: Array, precision: Array, rest: Array) -> Array:
    """The log of the slab's normalising constant over that of the rest."""
    gain: Array = 0.5 * (shift**2 / precision - jnp.log(precision / rest))
    return gain


def _normal_kl(precision: Array, other: Array, away: Array) -> Array:
    """The divergence of a normal to another, whose mean is so far away, by element."""
    ratio = other / precision
    return 0.5 * (ratio - 1 - jnp.log(ratio) + other * away**2)
