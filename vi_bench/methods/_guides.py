"""SVI's guides: NumPyro's on unconstrained parameters, and q of the prior's family.

Here is also the ELBO that they are fitted by, with its sum in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.handlers import block, replay, seed, substitute
from numpyro.infer import ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.util import log_density

from vi_bench.contract import Posterior
from vi_bench.inference import starts
from vi_bench.mixture import conjugate
from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.numpyro_model import sample_parameters
from vi_bench.mixture.supports import with_sticks
from vi_bench.mixture.types import Factor, Parameters, Standard
from vi_bench.runtime.keys import Key

STICK_CONSTRAINTS = dict.fromkeys(("stick_a", "stick_b"), constraints.positive)
"""Constraints of the sticks' Beta parameters, beside the family's own."""


class OrderedELBO(ELBO):  # type: ignore[misc]
    """NumPyro's Trace_ELBO for reparametrised sites, its sum in a fixed order.

    Trace_ELBO adds up the sites in the order of a Python set, which changes with the
    hash seed of the process, and with it the compiled program and the last digits.

    Attributes:
        weighted: whether to take the log of the mean of the weights of all particles,
            the importance-weighted bound (Burda, Grosse and Salakhutdinov 2016), not
            the mean of their logs.
    """

    def __init__(self, num_particles: int, weighted: bool = False) -> None:
        super().__init__(num_particles=num_particles)
        self.weighted = weighted

    def loss_with_mutable_state(
        self, rng_key: Key, param_map: Any, model: Any, guide: Any, *args: Any
    ) -> dict[str, Any]:
        """Minus the bound, from log p - log q of all particles."""

        def particle(key: Key) -> Array:
            of_guide, of_model = jax.random.split(key)
            log_q, trace = log_density(seed(guide, of_guide), args, {}, param_map)
            replayed = replay(seed(model, of_model), trace)
            log_p, _ = log_density(replayed, args, {}, param_map)
            return jnp.asarray(log_p - log_q)

        keys = jax.random.split(rng_key, self.num_particles)
        terms = jax.vmap(particle)(keys)
        if self.weighted:
            bound = jax.nn.logsumexp(terms) - jnp.log(float(self.num_particles))
        else:
            bound = jnp.mean(terms)
        return {"loss": -bound, "mutable_state": None}


def free_model(posterior: Posterior, like: Parameters) -> None:
    """Any posterior as a NumPyro model of its unconstrained parameters."""
    free = {
        name: numpyro.sample(
            name, dist.ImproperUniform(constraints.real, (), jnp.shape(v))
        )
        for name, v in like.items()
    }
    with block():  # the model's own sites are none of this one's
        density = posterior.density(free)
    numpyro.factor("density", density)


def packed(params: Any) -> dict[str, Array]:
    """The guide's parameters by name, nested ones under names with dots."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {_name(path): leaf for path, leaf in leaves}


def unpacked(variational: Mapping[str, Any], like: Any) -> Any:
    """The inverse of `packed`, given parameters of the same structure."""
    leaves = jax.tree_util.tree_leaves_with_path(like)
    named = [jnp.asarray(variational[_name(path)]) for path, _ in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), named)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def start_parameters(key: Key, posterior: Posterior) -> tuple[Parameters, Standard]:
    """Where the guide starts: of a mixture, `parameters_of` a short k-means run."""
    if isinstance(posterior, Mixture):
        return parameters_of(posterior, starts.k_means_factors(key, posterior))
    return starts.one_start(key, posterior), {}


def parameters_of(mixture: Mixture, q: Factors) -> tuple[Parameters, Standard]:
    """A central theta under q, and the usual parameters of q's own factors."""
    named = mixture.family.constraints() | STICK_CONSTRAINTS
    standard = {k: v for k, v in mixture.describe(q).items() if k in named}
    return mixture.centre(q), standard


def same_family_factors(
    mixture: Mixture, params: Mapping[str, Array]
) -> dict[str, Factor]:
    """q(theta) from the prior's family: NumPyro distributions, in sampling order."""
    factors = mixture.family.factors(dict(params))
    if "stick_a" not in params:
        return factors
    sticks = jnp.stack([params["stick_a"], params["stick_b"]])
    return with_sticks(factors, sticks)


def same_family_guide(mixture: Mixture, start: Standard) -> None:
    """q(theta_k) from the prior's family, as a NumPyro guide."""
    named = mixture.family.constraints() | STICK_CONSTRAINTS
    params = {
        name: numpyro.param(name, value, constraint=named[name])
        for name, value in start.items()
    }
    sample_parameters(mixture, same_family_factors(mixture, params))


def same_family_draw(
    mixture: Mixture, key: Key, params: dict[str, Any]
) -> tuple[Parameters, Array]:
    """One draw from the same-family guide and its log density."""
    theta = conjugate.draw(key, same_family_factors(mixture, params))
    return theta, same_family_log_q(mixture, theta, params)


def same_family_log_q(
    mixture: Mixture, theta: Parameters, params: Mapping[str, Any]
) -> Float[Array, ""]:
    """Log density of the same-family guide at a constrained theta."""
    factors = same_family_factors(mixture, params)
    terms = [jnp.sum(resolve(f, theta).log_prob(theta[n])) for n, f in factors.items()]
    return jnp.sum(jnp.stack(terms))


def guide_draw(
    posterior: Posterior,
    guide: Any,
    like: Parameters,
    key: Key,
    params: dict[str, Any],
) -> tuple[Parameters, Array]:
    """One draw from a guide on the unconstrained space, constrained, and log q of it.

    A flow's log density comes with the draw: not every flow can be inverted.
    """
    q = unconstrained_q(guide, params, like)
    _, unravel = ravel_pytree(like)
    if isinstance(q, dist.TransformedDistribution):
        flat, steps = q.sample_with_intermediates(key)
        log_q = q.log_prob(flat, steps)
    else:
        flat = q.sample(key)
        log_q = q.log_prob(flat)
    theta, log_jacobian = posterior.constrain(unravel(flat))
    return theta, log_q - log_jacobian


def guide_log_q(
    posterior: Posterior,
    guide: Any,
    like: Parameters,
    theta: Parameters,
    params: Mapping[str, Any],
) -> Float[Array, ""]:
    """Log density of a guide on the unconstrained space at a constrained theta."""
    flat, _ = ravel_pytree(free := posterior.unconstrain(theta))
    _, log_jacobian = posterior.constrain(free)
    q = unconstrained_q(guide, params, free)
    log_q: Array = q.log_prob(flat) - log_jacobian
    return log_q


def unconstrained_q(guide: Any, params: Mapping[str, Any], like: Parameters) -> Any:
    """A fitted guide's distribution on the unconstrained space, flat as `like` is."""
    if isinstance(guide, AutoNormal):
        loc, _ = ravel_pytree({n: params[f"{n}_auto_loc"] for n in like})
        scale, _ = ravel_pytree({n: params[f"{n}_auto_scale"] for n in like})
        return dist.Normal(loc, scale).to_event(1)
    if isinstance(guide, AutoMultivariateNormal):
        root = params["auto_scale_tril"]
        return dist.MultivariateNormal(params["auto_loc"], scale_tril=root)
    return substitute(guide._get_posterior, params)()


def numpyro_density(
    model: Callable[..., None], mixture: Mixture, values: dict[str, Array]
) -> Float[Array, ""]:
    """NumPyro's own log density of a model at constrained values."""
    return log_density(model, (mixture,), {}, values)[0]  # type: ignore[no-any-return]
