"""A normal q of the unconstrained parameters: its draws, and its bound from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vi_bench.contract import Posterior
from vi_bench.inference.starts import origin
from vi_bench.methods._guides import start_parameters
from vi_bench.methods._particles import constrained
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

BATCH = 50
"""Draws whose density is evaluated at once."""


class NormalDraws(NamedTuple):
    """Draws of a normal q, constrained.

    Attributes:
        parameters: name -> (chain, draw, ...).
        log_q: their log density, constrained (chain, draw).
        bound: mean of log p - log q, nats.
        bound_se: its standard error.
    """

    parameters: Parameters
    log_q: Float[Array, "chain draw"]
    bound: Float[Array, ""]
    bound_se: Float[Array, ""]


def flat_density(
    posterior: Posterior,
) -> tuple[Callable[[Array], Parameters], Callable[[Array], Array]]:
    """What makes parameters of a flat unconstrained point, and the log density there.

    The density includes the log Jacobian.
    """
    rebuild = ravel_pytree(origin(posterior))[1]

    def density(flat: Array) -> Array:
        value: Array = posterior.density(rebuild(flat))
        return value

    return rebuild, density


def flat_start(key: Key, posterior: Posterior) -> Float[Array, " D"]:
    """Where a normal starts, unconstrained and flat."""
    free = posterior.unconstrain(start_parameters(key, posterior)[0])
    found: Array = ravel_pytree(free)[0]
    return found


def normal_draws(
    key: Key,
    posterior: Posterior,
    mean: Float[Array, " D"],
    root: Float[Array, "D D"],
    shape: tuple[int, int],
) -> NormalDraws:
    """Draws from N(mean, root root^T), and its bound estimated from them.

    Args:
        key: a random key.
        posterior: the posterior that it approximates.
        mean: unconstrained and flat.
        root: a triangular root of the covariance.
        shape: numbers of chains and of draws.
    """
    size = mean.shape[0]
    noise = jax.random.normal(key, (*shape, size), mean.dtype).reshape(-1, size)
    flat = mean[None] + noise @ root.T
    rebuild, density = flat_density(posterior)

    def log_jacobian(flat: Array) -> Array:
        return posterior.constrain(rebuild(flat))[1]

    half = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(root))))
    squares = jnp.sum(noise**2, axis=1)
    log_q = -half - 0.5 * (squares + size * jnp.log(2 * jnp.pi))
    terms = lax.map(density, flat, batch_size=BATCH) - log_q
    free: Parameters = jax.vmap(rebuild)(flat)
    free = jax.tree.map(lambda v: v.reshape(*shape, *v.shape[1:]), free)
    own = log_q - lax.map(log_jacobian, flat, batch_size=BATCH)
    return NormalDraws(
        constrained(posterior, free),
        own.reshape(shape),
        jnp.mean(terms),
        jnp.std(terms, ddof=1) / jnp.sqrt(float(terms.size)),
    )
