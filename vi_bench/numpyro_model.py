"""The same mixture written with NumPyro's own distributions.

It shares nothing with `mixture_pass`: priors come from the family's NumPyro
distributions, the assignments are summed out by `MixtureSameFamily`. That the two log
densities agree at random points is what makes the comparison a comparison. The models
take the mixture, whose data are centred, as their argument.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import biject_to

from vi_bench.contract import Parameters
from vi_bench.mixture import Mixture


def sample_components(mixture: Mixture, distributions: dict[str, Any]) -> Parameters:
    """Sample parameters of all components, inside a NumPyro model or guide."""
    with numpyro.plate("component", mixture.components):
        theta = {name: numpyro.sample(name, d) for name, d in distributions.items()}
    # without the barrier XLA fuses the random bits of a draw into the loop over rows
    # and makes them anew for every row: several times the cost of a step
    together: Parameters = jax.lax.optimization_barrier(theta)
    return together


def marginal_model(mixture: Mixture) -> None:
    """The model with the assignments summed out."""
    theta = sample_components(mixture, mixture.family.numpyro_prior())
    equal = jnp.ones(mixture.components) / mixture.components
    component = mixture.family.numpyro_component(theta)
    rows = mixture.data()
    with numpyro.plate("row", mixture.rows):
        marginal = dist.MixtureSameFamily(dist.Categorical(probs=equal), component)
        numpyro.sample("x", marginal, obs=rows)


def assigned_model(mixture: Mixture, start: Parameters) -> None:
    """The model with the assignments in q, enumerated: the bound that CAVI optimises.

    ``E_q(c) [log p(x, c | theta) - log q(c)]`` is summed over c exactly. q(c) is the
    parameter "assignment_logits" (N, K), optimised along with the guide's; it begins
    at p(c | x, start).
    """
    theta = sample_components(mixture, mixture.family.numpyro_prior())
    logits = numpyro.param(
        "assignment_logits", lambda _: log_joint_by_component(mixture, start)
    )
    log_phi = jax.nn.log_softmax(logits, axis=1)
    log_joint = log_joint_by_component(mixture, theta)
    numpyro.factor("assigned", jnp.sum(jnp.exp(log_phi) * (log_joint - log_phi)))


def log_joint_by_component(mixture: Mixture, theta: Parameters) -> Float[Array, "N K"]:
    """Log p(x_i, c_i = k | theta) by NumPyro's component distribution."""
    component = mixture.family.numpyro_component(theta)
    densities = component.log_prob(mixture.data()[:, None])
    return densities - jnp.log(float(mixture.components))  # type: ignore[no-any-return]


def bijections(mixture: Mixture) -> dict[str, Any]:
    """NumPyro's own bijection from the real line to each parameter's support."""
    priors = mixture.family.numpyro_prior()
    return {name: biject_to(prior.support) for name, prior in priors.items()}


def constrain(mixture: Mixture, free: Parameters) -> tuple[Parameters, Array]:
    """Unconstrained parameters to constrained ones, and the log Jacobian's sum."""
    theta, log_jacobian = {}, jnp.zeros(())
    for name, bijection in bijections(mixture).items():
        theta[name] = bijection(free[name])
        terms = bijection.log_abs_det_jacobian(free[name], theta[name])
        log_jacobian = log_jacobian + jnp.sum(terms)
    return theta, log_jacobian


def unconstrain(mixture: Mixture, theta: Parameters) -> Parameters:
    """The inverse of `constrain`'s first result."""
    return {name: b.inv(theta[name]) for name, b in bijections(mixture).items()}
