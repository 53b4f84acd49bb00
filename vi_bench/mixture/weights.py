"""Priors on the mixture's weights: fixed, Dirichlet, or truncated stick-breaking.

All are K - 1 independent sticks ``v_k ~ Beta(a_k, b_k)`` with ``w_k = v_k prod_{j<k}
(1 - v_j)`` and v_K = 1, or none. A symmetric Dirichlet(alpha) is a_k = alpha, b_k =
(K - k) alpha; the Dirichlet process truncated at K (Ishwaran and James 2001) is a_k =
1, b_k = gamma. In both the optimal q(v_k) is Beta(a_k + n_k, b_k + n_{>k}).

Under a sparse prior log w has mean and sd of about -1/alpha and 1/alpha: weights are
held as logarithms, and a stick is sampled as ``asinh(logit v)``, which is the logit
where that is small and its logarithm far out, so that a steep fall at -5 and a tail to
-5000 are of one scale to a gradient-based sampler and to a Gaussian guide.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge
from jax.nn import log_sigmoid
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float, Int

from vi_bench.mixture.broadcast import aligned
from vi_bench.mixture.log_beta import log_beta
from vi_bench.mixture.types import Parameters, Weights
from vi_bench.runtime.keys import Key

LEAST = 1e-200
"""Smallest concentration: digammas of far smaller ones, near -1e300, swamp the ELBO."""

STICK = "stick"
"""The name of the sampled parameter, asinh(logit v)."""


def log_stick_breaking(
    log_v: Float[Array, "*b S"], log_rest: Float[Array, "*b S"]
) -> Float[Array, "*b K"]:
    """Log weights (or their expectations) from those of v and 1 - v; K = S + 1."""
    end = jnp.zeros_like(log_v, shape=(*log_v.shape[:-1], 1))
    left = jnp.concatenate([end, jnp.cumsum(log_rest, axis=-1)], axis=-1)
    return jnp.concatenate([log_v, end], axis=-1) + left


def sticks_of(log_weights: Float[Array, "*b K"]) -> Float[Array, "*b S"]:
    """The sampled parameter asinh(logit v) for given log weights."""
    behind = jax.lax.cumlogsumexp(log_weights, axis=log_weights.ndim - 1, reverse=True)
    return jnp.arcsinh(log_weights[..., :-1] - behind[..., 1:])


def expected_logs(q: Float[Array, "2 S"]) -> Float[Array, "2 S"]:
    """E log v and E log(1 - v) under Beta factors q."""
    return digamma(q) - digamma(jnp.sum(q, axis=0, keepdims=True))


def kl(q: Float[Array, "2 S"], prior: Float[Array, "2 S"]) -> Float[Array, ""]:
    """KL of the sticks' Beta factors to the prior's, nats; 0 without sticks."""
    gap = jnp.sum((q - prior) * expected_logs(q), axis=0)
    return jnp.sum(gap - log_beta(*q) + log_beta(*prior))


def log_density(
    theta: Parameters, q: Float[Array, "2 S"]
) -> Float[Array, "*b"] | Float[Array, ""]:
    """Log density of the sticks under Beta factors, Jacobians included; 0 without."""
    if STICK not in theta:
        return jnp.zeros(())
    t, a, b = aligned(theta[STICK], *q)
    u = jnp.sinh(t)
    terms = a * log_sigmoid(u) + b * log_sigmoid(-u) - log_beta(a, b)
    return jnp.sum(terms + log_cosh(t), axis=-1)


def log_volume(theta: Parameters) -> Float[Array, "*b"] | Float[Array, ""]:
    """Log |d weights / d sticks|, of all weights but the last; 0 without sticks.

    It is found from a flat Dirichlet, whose density of the weights is Gamma(K).
    """
    if STICK not in theta:
        return jnp.zeros(())
    t = theta[STICK]
    flat = Dirichlet(1.0).prior(t.shape[-1] + 1).astype(t.dtype)
    return log_density(theta, flat) - gammaln(t.shape[-1] + 1.0)


def log_cosh(t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Log cosh, which is log |d sinh(t) / dt|, without overflow."""
    return jnp.logaddexp(t, -t) - jnp.log(2.0)


def residual(q: Float[Array, "2 S"], new: Float[Array, "2 S"]) -> Float[Array, ""]:
    """Largest relative change of the sticks' parameters; 0 without sticks."""
    return jnp.max(jnp.abs(new - q) / q, initial=0.0)


def bind(prior: Weights, dtype: Any) -> Weights:
    """The same prior with its numbers as arrays."""
    bound: Weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), prior)
    return bound


def draw(key: Key, q: Float[Array, "2 S"], shape: tuple[int, ...]) -> Parameters:
    """Draws of the sticks from q (*shape, S); an empty dictionary without sticks."""
    if not q.shape[1]:
        return {}
    # a Beta's logit is the difference of two log Gammas, exact however small v is
    size = (2, *shape, q.shape[1])
    wide = q.reshape(2, *(1,) * len(shape), -1)
    top, bottom = jax.random.loggamma(key, wide, size, q.dtype)
    return {STICK: jnp.arcsinh(top - bottom)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Uniform:
    """Fixed weights: every weight is 1/K."""

    def prior(self, components: int) -> Float[Array, "2 S"]:
        """An empty array (2, 0), as there are no sticks."""
        return jnp.zeros((2, 0))

    def update(self, counts: Float[Array, " K"]) -> Float[Array, "2 S"]:
        """An empty array (2, 0), as there are no sticks."""
        return jnp.zeros((2, 0), counts.dtype)

    def expected_log(
        self, q: Float[Array, "2 S"], components: int
    ) -> Float[Array, " K"]:
        """Log weights: -log K for every component."""
        return jnp.full(components, -jnp.log(float(components)), q.dtype)

    def log_weights(self, theta: Parameters, components: int) -> Float[Array, " K"]:
        """Log weights: -log K for every component."""
        return jnp.full(components, -jnp.log(float(components)))

    def order(self, counts: Float[Array, " K"]) -> None:
        """None, as all orders are equally good."""


class _Sticks(ABC):
    """Base class of priors with sticks, which differ in `prior`."""

    @abstractmethod
    def prior(self, components: int) -> Float[Array, "2 S"]:
        """The prior's Beta parameters a_k and b_k."""

    def update(self, counts: Float[Array, " K"]) -> Float[Array, "2 S"]:
        """The optimal q for expected counts: Beta(a_k + n_k, b_k + n_{>k})."""
        after = jnp.cumsum(counts[::-1])[::-1][1:]
        return self.prior(counts.shape[0]) + jnp.stack([counts[:-1], after])

    def expected_log(
        self, q: Float[Array, "2 S"], components: int
    ) -> Float[Array, " K"]:
        """E log w_k = E log v_k + sum_{j<k} E log(1 - v_j)."""
        return log_stick_breaking(*expected_logs(q))

    def log_weights(self, theta: Parameters, components: int) -> Float[Array, "*b K"]:
        """Log w, finite also where w itself is not representable."""
        if STICK not in theta:  # one component
            return jnp.zeros(1)
        u = jnp.sinh(theta[STICK])
        return log_stick_breaking(log_sigmoid(u), log_sigmoid(-u))

    def order(self, counts: Float[Array, " K"]) -> Int[Array, " K"] | None:
        """None, as all orders are equally good under an exchangeable prior."""
        return None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dirichlet(_Sticks):
    """w ~ Dirichlet(concentration, ..., concentration).

    Attributes:
        concentration: alpha of each weight; far under 1 leaves components empty.
    """

    concentration: Annotated[float, Ge(LEAST)] = 1.0

    def prior(self, components: int) -> Float[Array, "2 S"]:
        """Beta parameters alpha and (K - k) alpha."""
        alpha = jnp.asarray(self.concentration)
        behind = jnp.arange(components - 1, 0, -1, dtype=alpha.dtype)
        return alpha * jnp.stack([jnp.ones_like(behind), behind])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StickBreaking(_Sticks):
    """v_k ~ Beta(1, concentration): a Dirichlet process truncated at K.

    Attributes:
        concentration: gamma; larger ones spread the mass over more components.
        reorder: whether CAVI puts the components into the ELBO-maximising order after
            every sweep; the prior is not exchangeable.
    """

    concentration: Annotated[float, Ge(LEAST)] = 1.0
    reorder: bool = field(default=True, metadata={"static": True})

    def prior(self, components: int) -> Float[Array, "2 S"]:
        """Beta parameters 1 and gamma."""
        gamma = jnp.asarray(self.concentration)
        ones = jnp.ones((components - 1,), gamma.dtype)
        return jnp.stack([ones, gamma * ones])

    def order(self, counts: Float[Array, " K"]) -> Int[Array, " K"] | None:
        """The order with the highest sum of log Beta functions of the counts.

        Swapping neighbours shows that larger counts come first, except that any
        component may be best in the last place, whose stick is 1: all K are tried.
        """
        if not self.reorder:
            return None
        by_size = jnp.argsort(-counts)
        places = jnp.arange(counts.shape[0])

        def with_last(rank: Array) -> tuple[Array, Array]:
            kept = jnp.where(places < rank, places, places + 1)
            order = by_size[kept.at[-1].set(rank)]
            return jnp.sum(log_beta(*self.update(counts[order]))), order

        gain, orders = jax.vmap(with_last)(places)
        # ties go to the plain order by size
        best = places[-1] - jnp.argmax(gain[::-1])
        return orders[best]
