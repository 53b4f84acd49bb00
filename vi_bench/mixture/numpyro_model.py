"""The same mixture written with NumPyro's own distributions.

It shares nothing with `mixture_pass`: priors and components are the family's NumPyro
distributions, and `MixtureSameFamily` marginalises the assignments. Agreement of the
two log densities at random points shows that all methods have the same target. The
models take the mixture, whose data may be centred, as their argument.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Factor, Parameters


def prior_factors(mixture: Mixture) -> dict[str, Factor]:
    """NumPyro distributions of the prior, in sampling order."""
    return mixture.prior_factors()


def sample_parameters(mixture: Mixture, factors: Mapping[str, Factor]) -> Parameters:
    """Sample all parameters inside a NumPyro model or guide."""
    dims = mixture.family.dims
    theta: Parameters = {}
    for name, factor in factors.items():
        distribution = resolve(factor, theta)
        if "component" in dims.get(name, ()):
            with numpyro.plate("component", mixture.components):
                theta[name] = numpyro.sample(name, distribution)
        else:
            theta[name] = numpyro.sample(name, distribution)
    # without the barrier XLA fuses the random bits of a draw into the loop over rows
    # and recomputes them for every row, at several times the cost of a step
    together: Parameters = jax.lax.optimization_barrier(theta)
    return together


def marginal_model(mixture: Mixture) -> None:
    """The model with the assignments marginalised."""
    theta = sample_parameters(mixture, prior_factors(mixture))
    if not mixture.rows:  # a plate cannot be empty
        return
    log_weights = mixture.weights.log_weights(theta, mixture.components)
    component = mixture.family.component(theta)
    rows = mixture.data()
    with numpyro.plate("row", mixture.rows):
        marginal = dist.MixtureSameFamily(
            dist.Categorical(logits=log_weights), component
        )
        numpyro.sample("x", marginal, obs=rows)


def assigned_model(mixture: Mixture, start: Parameters) -> None:
    """The model with the assignments in q, enumerated: the bound that CAVI optimises.

    ``E_q(c) [log p(x, c | theta) - log q(c)]`` is summed over c exactly. q(c) is the
    parameter "assignment_logits" (N, K), optimised along with the guide's; it begins
    at p(c | x, start).
    """
    theta = sample_parameters(mixture, prior_factors(mixture))
    logits = numpyro.param(
        "assignment_logits", lambda _: log_joint_by_component(mixture, start)
    )
    log_phi = jax.nn.log_softmax(logits, axis=1)
    log_joint = log_joint_by_component(mixture, theta)
    numpyro.factor("assigned", jnp.sum(jnp.exp(log_phi) * (log_joint - log_phi)))


def log_joint_by_component(mixture: Mixture, theta: Parameters) -> Float[Array, "N K"]:
    """Log p(x_i, c_i = k | theta) by NumPyro's component distribution."""
    component = mixture.family.component(theta)
    densities = component.log_prob(mixture.data()[:, None])
    log_weights = mixture.weights.log_weights(theta, mixture.components)
    return densities + log_weights  # type: ignore[no-any-return]


def constrain(mixture: Mixture, free: Parameters) -> tuple[Parameters, Array]:
    """Constrained parameters from unconstrained ones, and the log Jacobian."""
    return mixture.constrain(free)


def unconstrain(mixture: Mixture, theta: Parameters) -> Parameters:
    """The inverse of `constrain`'s first result."""
    return mixture.unconstrain(theta)
