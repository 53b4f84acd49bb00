"""Marginal likelihoods of the rows of one component, with the weights' factor.

``m(T) = exp(A(lam_0 + sum_{i in T} t(x_i)) - A(lam_0))`` for a conjugate family, the
parameters integrated out. Under a symmetric Dirichlet(alpha) the weights' integral
factorises too, ``p(c) = Gamma(K alpha) / Gamma(K alpha + N) prod_k Gamma(alpha + n_k) /
Gamma(alpha)``, and the component's factor of it is included in m(T).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from vi_bench.errors import NotApplicable
from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.weights import Dirichlet, Uniform

ABSENT = -1e300
"""A finite stand-in for log 0, so that sums and differences are never NaN."""


def check(mixture: Mixture) -> None:
    """Refuse mixtures that cannot be enumerated, whatever their size.

    Raises:
        NotApplicable: gives the reason, and what to do.
    """
    family, weights = mixture.family, mixture.weights
    instead = "use smc, gibbs or nuts"
    if not isinstance(family, Conjugate):
        raise NotApplicable(
            f"{type(family).__name__} has no closed-form marginal of the rows of a "
            f"component: {instead}"
        )
    if not isinstance(weights, Uniform | Dirichlet):
        raise NotApplicable(
            f"under {type(weights).__name__} weights the components are not "
            f"exchangeable, so one law does not serve all: {instead}"
        )
    if mixture.log_base.dtype != jnp.float64:
        raise NotApplicable(
            "an exact answer needs double precision, which precision 32 switches off: "
            "use precision 64"
        )


def log_block_weight(mixture: Mixture, counts: Float[Array, "*b"]) -> Array:
    """A component's log factor of p(c): log (Gamma(alpha + n) / Gamma(alpha))."""
    if not isinstance(mixture.weights, Dirichlet):
        return jnp.zeros_like(counts)
    alpha = jnp.asarray(mixture.weights.concentration)
    return gammaln(alpha + counts) - gammaln(alpha)


def log_block_marginals(
    mixture: Mixture,
    outer: Float[Array, "C P"],
    inner: Float[Array, "c P"],
    possible: Bool[Array, "C c"],
) -> Float[Array, "C c"]:
    """Log m(T) = A(lam_0 + sum_{i in T} t_i) - A(lam_0), and the weights' factor.

    The term sum_i log h(x_i), which all assignments share, is left out. States that are
    not possible have 0.
    """
    family: Any = mixture.family
    prior = family.natural_prior()

    def given(lam: Float[Array, "c P"]) -> Float[Array, " c"]:
        size: Array = family.log_normaliser(lam) - family.log_normaliser(prior)
        return log_block_weight(mixture, lam[:, -1] - prior[-1]) + size

    found: Array = over_states(mixture, outer, inner, possible, given)
    return found


def log_constant(mixture: Mixture) -> Float[Array, ""]:
    """The log factor of all assignments: sum_i log h(x_i), and the constant of p(c)."""
    N, K = mixture.rows, mixture.components
    if not isinstance(mixture.weights, Dirichlet):
        return mixture.log_base - N * math.log(K)
    total = K * jnp.asarray(mixture.weights.concentration)
    return mixture.log_base + gammaln(total) - gammaln(total + N)


def log_joining(mixture: Mixture, counts: Float[Array, "*b"]) -> Array:
    """Log of K P(a new row joins a component that has `counts` rows)."""
    if not isinstance(mixture.weights, Dirichlet):
        return jnp.zeros_like(counts)
    alpha, K = jnp.asarray(mixture.weights.concentration), mixture.components
    return jnp.log(K * (alpha + counts) / (K * alpha + mixture.rows))


def over_states(
    mixture: Mixture,
    outer: Float[Array, "C P"],
    inner: Float[Array, "c P"],
    possible: Bool[Array, "C c"],
    function: Callable[..., Any],
    *arrays: Array,
) -> Any:
    """Apply a function to ``lam`` (c, P) for each row of `outer`, one after the other.

    States that are not `possible` get the prior's lam, which has a density.
    """
    prior = mixture.family.natural_prior()  # type: ignore[attr-defined]

    def one(packed: Any) -> Any:
        offset, possible, *slices = packed
        lam = jnp.where(possible[:, None], (prior + offset)[None] + inner, prior[None])
        return function(lam, *slices)

    return lax.map(one, (outer, possible, *arrays))
