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
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import biject_to, constraints

from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.log_beta import log_beta
from vi_bench.mixture.mixture import Mixture
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


def prior_factors(mixture: Mixture) -> dict[str, Factor]:
    """NumPyro distributions of the prior, in sampling order."""
    family = mixture.family
    factors = family.factors(family.hyperparameters())
    return with_sticks(factors, mixture.prior_sticks())


def with_sticks(
    factors: dict[str, Factor], sticks: Float[Array, "2 S"]
) -> dict[str, Factor]:
    """Factors with those of the sticks added, where there are any."""
    if not sticks.shape[1]:
        return factors
    return factors | {STICK: StickBeta(sticks[0], sticks[1]).to_event(1)}


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
    """Constrained parameters from unconstrained ones, and the log Jacobian.

    NumPyro's bijections map the real line to each parameter's support.
    """
    theta: Parameters = {}
    log_jacobian = jnp.zeros(())
    for name, factor in prior_factors(mixture).items():
        bijection = biject_to(resolve(factor, theta).support)
        theta[name] = bijection(free[name])
        terms = bijection.log_abs_det_jacobian(free[name], theta[name])
        log_jacobian = log_jacobian + jnp.sum(terms)
    return theta, log_jacobian


def unconstrain(mixture: Mixture, theta: Parameters) -> Parameters:
    """The inverse of `constrain`'s first result."""
    return {
        name: biject_to(resolve(factor, theta).support).inv(theta[name])
        for name, factor in prior_factors(mixture).items()
    }
