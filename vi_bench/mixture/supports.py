"""Where the parameters live: the stick's distribution, and maps from the real line."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import biject_to, constraints

from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.log_beta import log_beta
from vi_bench.mixture.types import Factor, Parameters
from vi_bench.mixture.weights import STICK


class StickBeta(dist.Distribution):  # type: ignore[misc]
    """The asinh(logit v) of a Beta variable v.

    NumPyro's own simplex and unit interval clip at the machine's precision; a sparse
    Dirichlet's weights lie far beyond, at logits of -1000.
    """

    arg_constraints = {  # noqa: RUF012
        "a": constraints.positive,
        "b": constraints.positive,
    }
    support = constraints.real

    def __init__(self, a: Array, b: Array) -> None:
        self.a, self.b = jnp.broadcast_arrays(a, b)
        super().__init__(batch_shape=self.a.shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws from the logit as the difference of two log Gamma variables."""
        shape = (*sample_shape, *self.batch_shape)
        top, bottom = jax.random.split(key)
        top_draw = jax.random.loggamma(top, self.a, shape)
        return jnp.arcsinh(top_draw - jax.random.loggamma(bottom, self.b, shape))

    def log_prob(self, value: Array) -> Array:
        """Log density: Beta(a, b) at v = sigmoid(sinh(value)), with both Jacobians."""
        logit = jnp.sinh(value)
        size = log_beta(self.a, self.b)
        down, up = jax.nn.softplus(-logit), jax.nn.softplus(logit)
        stretch = jnp.abs(value) + jnp.log1p(jnp.exp(-2 * jnp.abs(value)))
        return stretch - jnp.log(2.0) - self.a * down - self.b * up - size


def with_sticks(
    factors: dict[str, Factor], sticks: Float[Array, "2 S"]
) -> dict[str, Factor]:
    """Factors with those of the sticks added, where there are any."""
    if not sticks.shape[1]:
        return factors
    return factors | {STICK: StickBeta(sticks[0], sticks[1]).to_event(1)}


def constrained(
    factors: Mapping[str, Factor], free: Parameters
) -> tuple[Parameters, Array]:
    """Parameters in the factors' supports from free ones, and the log Jacobian.

    NumPyro's bijections map the real line to each parameter's support.
    """
    theta: Parameters = {}
    log_jacobian = jnp.zeros(())
    for name, factor in factors.items():
        bijection = biject_to(resolve(factor, theta).support)
        theta[name] = bijection(free[name])
        terms = bijection.log_abs_det_jacobian(free[name], theta[name])
        log_jacobian = log_jacobian + jnp.sum(terms)
    return theta, log_jacobian


def unconstrained(factors: Mapping[str, Factor], theta: Parameters) -> Parameters:
    """The inverse of the first result of `constrained`."""
    return {
        name: biject_to(resolve(factor, theta).support).inv(theta[name])
        for name, factor in factors.items()
    }
