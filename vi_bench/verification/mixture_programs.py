"""Programs by which an answer on a mixture is analysed: ELBOs, ascents, densities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.nn import logsumexp
from jax.scipy.stats import multivariate_normal
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import by_component as by_each
from vi_bench.data.table import feature_names
from vi_bench.mixture.compared_quantities import Coordinates, columns_of, quantities
from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.numpyro_model import (
    constrain,
    log_joint_by_component,
    prior_factors,
    unconstrain,
)
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes
from vi_bench.verification.finding import SWEEPS
from vi_bench.verification.mixtures import EXACT

STARTS = 10
"""Number of starts of the ascents that q's bound is compared with."""

LONG = 300
"""Sweeps of each of these ascents."""

NARROW = 0.7
"""Scale, in q's sds, of the normal density by which q's normalisation is tested."""


@jax.jit
def by_component(mixture: Mixture, draws: Parameters) -> Any:
    """Every scalar parameter of draws, each component's by itself."""
    columns, shared = columns_of(mixture, draws, _coordinates(mixture))
    return by_each({label: v[None] for label, v in columns.items()}) | shared


@jax.jit
def invariants(mixture: Mixture, draws: Parameters) -> Any:
    """The scalars of draws that no permutation of the components changes."""
    return quantities(mixture, draws, _coordinates(mixture))


def _coordinates(mixture: Mixture) -> Coordinates:
    return mixture.family.coordinates(feature_names(mixture.features))


@jax.jit
def of_factors(mixture: Mixture, q: Factors, key: Key) -> Parameters:
    """EXACT draws of a q that is made of the family's own factors."""
    return mixture.draw(key, q, (EXACT,))


@jax.jit
def ascent(mixture: Mixture, q: Factors, key: Key) -> tuple[Array, ...]:
    """ELBO of q, after SWEEPS sweeps, and the best of all; log p(X, c); phi (N, K)."""
    rows, K = mixture.rows, mixture.components
    flat = jnp.ones(K, mixture.log_base.dtype)

    def start(key: Key) -> Any:
        return mixture.from_responsibilities(jax.random.dirichlet(key, flat, (rows,)))

    def climb(at: Factors) -> tuple[Array, Array, Array]:
        def sweeps(at: Factors, number: int) -> Any:
            return jax.lax.fori_loop(0, number, lambda _, q: mixture.step(q)[1], at)

        on = sweeps(at, SWEEPS)
        end = sweeps(on, LONG)
        first, further, last = (mixture.step(q)[0] for q in (at, on, end))
        return first, further, last

    starts = jax.vmap(start)(jax.random.split(key, STARTS - 1))
    lanes = jax.tree.map(lambda one, all_: jnp.append(one[None], all_, 0), q, starts)
    first, further, last = over_lanes(climb, lanes)
    phi = mixture.responsibilities(q)
    known = jax.nn.one_hot(jnp.argmax(phi, axis=1), K, dtype=phi.dtype)
    expected = (mixture.statistics() @ known).T
    conjugate = mixture.update(mixture.prior(), expected)[0]
    bound, _ = mixture.step(conjugate)
    return first[0], further[0], jnp.max(last), bound, phi


@jax.jit
def estimates(
    mixture: Mixture, theta: Parameters, log_q: Float[Array, " draws"]
) -> Float[Array, "2 2"]:
    """ELBO and marginal ELBO, each with its standard error, by NumPyro's densities.

    In the ELBO the assignments have their optimal q: its part for the rows is sum_i
    log sum_k exp E_q[log p(x_i, c_i = k | theta)], a function of means, whose bias is
    removed to second order in their errors.
    """
    draws, rows = log_q.shape[0], mixture.rows

    def one(theta: Parameters) -> tuple[Array, Array]:
        joint = (
            log_joint_by_component(mixture, theta)
            if rows
            else jnp.zeros((0, mixture.components))
        )
        return _log_prior(mixture, theta), joint

    log_prior, joint = jax.vmap(one)(theta)
    gap = log_prior - log_q

    def summary(terms: Array, mean: Array) -> Array:
        return jnp.stack([mean, jnp.std(terms, ddof=1) / jnp.sqrt(float(draws))])

    outside = gap + jnp.sum(logsumexp(joint, axis=2), axis=1)
    middle = jnp.mean(joint, axis=0)
    phi = jax.nn.softmax(middle, axis=1)
    each = jnp.sum(phi * (joint - middle), axis=2)
    within = jnp.sum(phi * jnp.var(joint, axis=0)) - jnp.sum(jnp.var(each, axis=0))
    inside = jnp.mean(gap) + jnp.sum(logsumexp(middle, axis=1)) - within / (2 * draws)
    of_inside = summary(gap + jnp.sum(each, axis=1), inside)
    # at an optimum the terms are all equal, and the error is of second order
    of_inside = of_inside.at[1].set(jnp.hypot(of_inside[1], within / draws))
    return jnp.stack([of_inside, summary(outside, jnp.mean(outside))])


def _log_prior(mixture: Mixture, theta: Parameters) -> Float[Array, ""]:
    """Log p(theta) by NumPyro's distributions."""
    terms = [
        jnp.sum(resolve(factor, theta).log_prob(theta[name]))
        for name, factor in prior_factors(mixture).items()
    ]
    return jnp.sum(jnp.stack(terms))


@jax.jit
def log_joint(mixture: Mixture, theta: Parameters) -> Float[Array, " draws"]:
    """Log p(X, theta), the assignments summed out, by NumPyro's densities."""

    def one(theta: Parameters) -> Array:
        prior = _log_prior(mixture, theta)
        if not mixture.rows:
            return prior
        joint = log_joint_by_component(mixture, theta)
        return prior + jnp.sum(logsumexp(joint, axis=1))

    found: Array = jax.vmap(one)(theta)
    return found


@jax.jit
def slopes(mixture: Mixture, theta: Parameters) -> Parameters:
    """Gradient of log p(X, c, theta), averaged over c, in unconstrained theta, by draw.

    Its mean under q is the change of the bound as all of q is translated: 0 at the
    optimum of any form of q that can be. NumPyro's densities are used.
    """
    joint = jax.vmap(lambda theta: log_joint_by_component(mixture, theta))(theta)
    phi = jax.nn.softmax(jnp.mean(joint, axis=0), axis=1)

    def density(free: Parameters) -> Array:
        theta, log_jacobian = constrain(mixture, free)
        rows = jnp.sum(phi * log_joint_by_component(mixture, theta))
        return _log_prior(mixture, theta) + log_jacobian + rows

    def one(theta: Parameters) -> Parameters:
        slope: Parameters = jax.grad(density)(unconstrain(mixture, theta))
        return slope

    return jax.vmap(one)(theta)


@jax.jit
def log_ratio(
    mixture: Mixture, theta: Parameters, log_q: Float[Array, " draws"]
) -> Float[Array, " half"]:
    """Log r / q at every second draw, in unconstrained theta; r fitted to the others.

    r is normal with their mean and NARROW times their sds: E_q[r / q] = 1 if q is
    normalised and the draws are from it (Gelfand and Dey 1994).
    """

    def free(theta: Parameters) -> tuple[Array, Array]:
        own = unconstrain(mixture, theta)
        return ravel_pytree(own)[0], constrain(mixture, own)[1]

    flat, log_jacobian = jax.vmap(free)(theta)
    fitted, tested = flat[::2], flat[1::2]
    spread = NARROW**2 * jnp.atleast_2d(jnp.cov(fitted.T))
    middle = jnp.mean(fitted, axis=0)
    log_r = multivariate_normal.logpdf(tested, middle, spread)
    return jnp.asarray(log_r - (log_q + log_jacobian)[1::2])
