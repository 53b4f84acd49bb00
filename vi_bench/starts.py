"""Where inference starts: k-means++ and random responsibilities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vi_bench.contract import Key
from vi_bench.mixture import Factors, Mixture


def _squared_distances(
    x: Float[Array, "N d"], centres: Float[Array, "K d"]
) -> Float[Array, "N K"]:
    # centre by centre: (x - c)^2 without cancellation and without an (N, K, d) array
    by_centre: Array = lax.map(lambda c: jnp.sum((x - c) ** 2, axis=1), centres)
    return by_centre.T


def plus_plus(key: Key, x: Float[Array, "N d"], components: int) -> Float[Array, "K d"]:
    """k-means++ seeds: each next one drawn in proportion to the squared distance.

    Arthur and Vassilvitskii (2007). Where every row coincides with a seed, a row is
    drawn uniformly.
    """
    first, rest = jax.random.split(key)
    centre = x[jax.random.randint(first, (), 0, x.shape[0])]

    def add(
        nearest: Float[Array, " N"], key: Key
    ) -> tuple[Float[Array, " N"], Float[Array, " d"]]:
        weights = jnp.where(jnp.any(nearest > 0), nearest, 1.0)
        chosen = x[jax.random.categorical(key, jnp.log(weights))]
        distance = jnp.sum((x - chosen) ** 2, axis=1)
        return jnp.minimum(nearest, distance), chosen

    distance = jnp.sum((x - centre) ** 2, axis=1)
    _, others = lax.scan(add, distance, jax.random.split(rest, components - 1))
    return jnp.concatenate([centre[None], others])


def nearest(x: Float[Array, "N d"], centres: Float[Array, "K d"]) -> Int[Array, " N"]:
    """The index of each row's nearest centre."""
    return jnp.argmin(_squared_distances(x, centres), axis=1)


def plus_plus_responsibilities(
    key: Key, x: Float[Array, "N d"], components: int
) -> Float[Array, "N K"]:
    """Each row given wholly to its nearest k-means++ seed."""
    seeds = plus_plus(key, x, components)
    return jax.nn.one_hot(nearest(x, seeds), components, dtype=x.dtype)


def random_responsibilities(
    key: Key, x: Float[Array, "N d"], components: int
) -> Float[Array, "N K"]:
    """Every row's responsibilities drawn uniformly from the simplex."""
    draws = jax.random.exponential(key, (x.shape[0], components), x.dtype)
    return draws / jnp.sum(draws, axis=1, keepdims=True)


def k_means(
    key: Key, x: Float[Array, "N d"], components: int, tries: int = 8, rounds: int = 10
) -> Float[Array, "K d"]:
    """Centres of the best of several short k-means runs, in random order.

    A start for methods that follow one path (SVI, a NUTS chain). Centres left without
    rows stay where they are.
    """

    def improve(_: Array, centres: Float[Array, "K d"]) -> Float[Array, "K d"]:
        owner = jax.nn.one_hot(nearest(x, centres), components, dtype=x.dtype)
        counts = jnp.sum(owner, axis=0)[:, None]
        return jnp.where(counts > 0, owner.T @ x / jnp.maximum(counts, 1), centres)

    def attempt(key: Key) -> tuple[Float[Array, ""], Float[Array, "K d"]]:
        centres = lax.fori_loop(0, rounds, improve, plus_plus(key, x, components))
        inertia = jnp.sum(jnp.min(_squared_distances(x, centres), axis=1))
        return inertia, centres

    attempts, order = jax.random.split(key)
    inertia, centres = lax.map(attempt, jax.random.split(attempts, tries))
    return jax.random.permutation(order, centres[jnp.argmin(inertia)])


def k_means_factors(key: Key, mixture: Mixture) -> Factors:
    """The M-step after `k_means`; the prior where there are no rows."""
    if mixture.rows == 0:
        return mixture.prior()
    x = mixture.some()
    owner = nearest(x, k_means(key, x, mixture.components))
    phi = jax.nn.one_hot(owner, mixture.components, dtype=x.dtype)
    return mixture.from_responsibilities(phi, x)
