"""Conjugate exponential families: the identities that every family shares."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.contract import Family, Parameters


def inner(a: Float[Array, "*#b P"], b: Float[Array, "*#b P"]) -> Float[Array, "..."]:
    """The inner product <a, b> over the last axis, leading axes broadcast."""
    return jnp.sum(a * b, axis=-1)


def kl_to_prior(family: Family, lam: Float[Array, "K P"]) -> Float[Array, " K"]:
    """KL(q_k || p) of each component's factor to the prior, in nats.

    With natural parameters lam and lam_0 and the log-normaliser A,
    ``<lam - lam_0, grad A(lam)> - A(lam) + A(lam_0)``.
    """
    prior = family.prior()
    gap = inner(lam - prior, family.moments(lam))
    return gap - family.log_normaliser(lam) + family.log_normaliser(prior)


def log_density(
    family: Family, theta: Parameters, lam: Float[Array, "*b P"]
) -> Float[Array, "..."]:
    """Log of ``exp(<s(theta), lam> - A(lam))`` for each component, normalised.

    The draws' leading axes, if any, come first in the result; `lam` is broadcast.
    """
    return inner(family.natural(theta), lam) - family.log_normaliser(lam)
