"""The posterior of any NumPyro model, read by NumPyro's own tools.

Latent variables that are discrete are summed out by NumPyro's enumeration (funsor), so
that what is left has a density that can be differentiated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import util

from vi_bench.errors import ModelError
from vi_bench.posterior.structure import (
    Site,
    Structure,
    cannot_run,
    is_array,
    is_plain,
    outcomes,
    places_of,
    read_model,
    run_once,
)
from vi_bench.runtime.keys import Key

Values = dict[str, Array]
"""Name of a site -> its value."""

TRIES = 50
"""Starting points that are tried for every chain, of which the first good one is taken.
"""

RADIUS = 2.0
"""Half-width of the uniform distribution of starting points, unconstrained, as Stan's.
"""


@partial(
    jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["structure"]
)
@dataclass(frozen=True)
class NumPyroPosterior:
    """A NumPyro model with its data: a pytree whose leaves are the data's arrays.

    Attributes:
        structure: the model, and what was found of it.
        data: the arrays among its arguments.
    """

    structure: Structure
    data: tuple[Array, ...]

    @classmethod
    def of(
        cls, model: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> NumPyroPosterior:
        """The posterior of a model given its arguments.

        Arrays become leaves, so that data sets of one shape share programs. Where the
        model asks for their values, as in `int(group.max())`, they stay constants.

        Raises:
            InputError: the model cannot be called or traced, has parameters to be
                optimised, no latent variable, nothing observed or something impossible,
                a subsample, or a discrete latent variable that cannot be enumerated.
        """
        leaves, shape = jax.tree.flatten((args, kwargs))
        moving = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
        trace = run_once(model, args, kwargs)
        known = read_model(model, args, kwargs, trace)
        found = places_of(outcomes(trace), (args, kwargs))
        for chosen in (moving, sorted(set(found.values())), []):

            def call(
                data: tuple[Any, ...], chosen: list[int] = chosen
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                filled = list(leaves)
                for place, value in zip(chosen, data, strict=True):
                    filled[place] = value
                whole: tuple[tuple[Any, ...], dict[str, Any]]
                whole = jax.tree.unflatten(shape, filled)
                return whole

            places = {n: chosen.index(i) for n, i in found.items() if i in chosen}
            structure = replace(known, call=call, places=places)
            made = cls(structure, tuple(jnp.asarray(leaves[i]) for i in chosen))
            error = made._untraceable()
            if error is None:
                return made
            if not chosen:
                raise cannot_run(model, error) from error
        raise AssertionError

    def _untraceable(self) -> Exception | None:
        """Why the model does not work where values are not known; None if it does."""
        try:
            free = jax.eval_shape(lambda p: p.point(jax.random.key(0)), self)
            jax.eval_shape(lambda p, free: p.density(free), self, free)
        except Exception as error:  # a user's code may raise anything
            return error
        return None

    @property
    def dtype(self) -> Any:
        """The type of floating-point arrays."""
        return jnp.zeros(()).dtype

    @property
    def mesh(self) -> None:
        """None: the data are not shared by devices."""
        return None

    @property
    def proper(self) -> bool:
        """Whether the prior can be drawn from."""
        return self.structure.proper

    @property
    def compared(self) -> tuple[str, ...] | None:
        """Variables that are compared where none are named; None for all."""
        return None

    def check_observations(self) -> None:
        """Check that other data can be put in the place of the observed ones.

        Raises:
            InputError: an observed site's values are none of the model's arguments.
        """
        places = self.structure.places
        if lost := [n for n in self.structure.observed if n not in places]:
            raise ModelError(
                f"model {self.structure.name!r}: data cannot be simulated: {lost[0]!r} "
                "is a factor, or its values are none of the arguments or equal those "
                "of several; expected obs = an argument"
            )

    def observations(self) -> dict[str, Array]:
        """The values of the observed sites that arguments have."""
        return {n: self.data[place] for n, place in self.structure.places.items()}

    def with_observations(self, values: Mapping[str, Array]) -> Self:
        """The posterior given other values of the observed sites, which may be traced.

        Raises:
            InputError: see `check_observations`.
        """
        self.check_observations()
        data = list(self.data)
        for name, place in self.structure.places.items():
            value = jnp.asarray(values[name])
            real = jnp.issubdtype(value.dtype, jnp.floating)
            data[place] = value if real else value.astype(self.data[place].dtype)
        return replace(self, data=tuple(data))

    def arguments(self) -> dict[str, Any]:
        """The model's arguments by name, those in order included."""
        args, kwargs = self.structure.call(self.data)
        names = list(inspect.signature(self.structure.model).parameters)
        return dict(zip(names, args, strict=False)) | kwargs

    @property
    def latent(self) -> tuple[Site, ...]:
        """The latent variables that are not summed out."""
        return tuple(s for s in self.structure.sites if not s.discrete)

    def _model(self, key: Key) -> Callable[..., Any]:
        """The model, what is not given being drawn."""
        model = self.structure.model
        if self._enumerates:
            from numpyro.contrib import funsor  # late: takes a second to import

            model = funsor.config_enumerate(model)
        seeded: Callable[..., Any] = handlers.seed(model, key)
        return seeded

    @property
    def _enumerates(self) -> bool:
        return any(site.discrete for site in self.structure.sites)

    def density(self, free: Values) -> Float[Array, ""]:
        """Log p(x, theta) of unconstrained values, the log Jacobian included."""
        # not NumPyro's own potential, which scales the Jacobian of a scaled site too
        theta, log_jacobian = self.constrain(free)
        return self.log_joint(theta) + log_jacobian

    def log_joint(self, theta: Values) -> Float[Array, ""]:
        """Log p(x, theta), discrete latent variables summed out."""
        return self._summed_out(self.structure.model, theta)

    def _summed_out(self, model: Callable[..., Any], theta: Values) -> Float[Array, ""]:
        """The log density of a model at theta, discrete latent variables summed out."""
        args, kwargs = self.structure.call(self.data)
        found: Array
        if self._enumerates:
            from numpyro.contrib import funsor  # late: takes a second to import

            nested = -self.structure.nesting - 1
            model = funsor.enum(funsor.config_enumerate(model), nested)
            found = funsor.log_density(model, args, kwargs, theta)[0]
        else:
            found = util.log_density(model, args, kwargs, theta)[0]
        return found

    def log_prior(self, theta: Values) -> Float[Array, ""]:
        """Log p(theta) of the latent variables that are not summed out."""
        if self._enumerates:  # their prior may depend on what is summed out
            hidden = list(self.structure.observed)
            latent = handlers.block(self.structure.model, hide=hidden)
            return self._summed_out(latent, theta)
        return self._of_sites(theta, [site.name for site in self.latent])

    def log_likelihood(self, theta: Values) -> Float[Array, ""]:
        """Log p(x | theta), factors of the model included."""
        if self._enumerates:
            return self.log_joint(theta) - self.log_prior(theta)
        return self._of_sites(theta, self.structure.observed)

    def _of_sites(self, theta: Values, names: Sequence[str]) -> Float[Array, ""]:
        """The sum of some sites' log densities, each with its scale."""
        trace = self._trace(jax.random.key(0), theta)
        total = jnp.zeros(())
        for name in names:
            site = trace[name]
            scale = 1.0 if site.get("scale") is None else site["scale"]
            total += jnp.sum(scale * site["fn"].log_prob(site["value"]))
        return total

    def log_likelihoods(self, theta: Values) -> Float[Array, " n"]:
        """Log p(x_i | theta) of each observation, flat.

        None of a factor, or of a site that is scaled or masked; none at all (n = 0)
        where discrete variables are summed out: they tie observations.
        """
        if self._enumerates:
            return jnp.zeros(0)
        trace = self._trace(jax.random.key(0), theta)
        sites = [trace[name] for name in self.structure.observed]
        terms = [
            jnp.ravel(site["fn"].log_prob(site["value"]))
            for site in sites
            if is_plain(site) and not isinstance(site["fn"], dist.Unit)
        ]
        return jnp.concatenate(terms) if terms else jnp.zeros(0)

    def constrain(self, free: Values) -> tuple[Values, Float[Array, ""]]:
        """Values in the supports of their sites, and the log Jacobian."""
        args, kwargs = self.structure.call(self.data)
        model = self._model(jax.random.key(0))
        made = util.constrain_fn(model, args, kwargs, free)
        theta = {site.name: made[site.name] for site in self.latent}
        trace = self._trace(jax.random.key(0), theta)
        log_jacobian = jnp.zeros(())
        for site in self.latent:
            bijection = biject_to(trace[site.name]["fn"].support)
            log_jacobian += jnp.sum(
                bijection.log_abs_det_jacobian(free[site.name], theta[site.name])
            )
        return theta, log_jacobian

    def unconstrain(self, theta: Values) -> Values:
        """The inverse of the first result of `constrain`."""
        args, kwargs = self.structure.call(self.data)
        model = self._model(jax.random.key(0))
        found: Values = util.unconstrain_fn(model, args, kwargs, theta)
        return found

    def deterministic(self, theta: Values) -> Values:
        """What the model makes of latent values (`numpyro.deterministic`)."""
        trace = self._trace(jax.random.key(0), theta)
        return {
            name: jnp.asarray(site["value"])
            for name, site in trace.items()
            if site["type"] == "deterministic"
        }

    def draw_prior(self, key: Key, number: int) -> Values:
        """Draws from the prior: name of a latent variable -> (number, ...)."""

        def one(key: Key) -> Values:
            trace = self._trace(key, {})
            return {site.name: trace[site.name]["value"] for site in self.latent}

        found: Values = jax.vmap(one)(jax.random.split(key, number))
        return found

    def joint(self, key: Key) -> tuple[Values, Values]:
        """Latent values from the prior, and data from the same run of the model."""
        trace = self._trace(key, {}, observed=False)
        theta = {site.name: trace[site.name]["value"] for site in self.latent}
        return theta, {name: trace[name]["value"] for name in self.structure.observed}

    def simulate(self, key: Key, theta: Values) -> Values:
        """Data given latent values: name of an observed site -> its value.

        Discrete variables are drawn from their prior: where theta depends on them
        (`Structure.tied`), that is not their distribution given theta.
        """
        trace = self._trace(key, theta, observed=False)
        return {name: trace[name]["value"] for name in self.structure.observed}

    def starts(self, key: Key, chains: int) -> Values:
        """Starting points of chains (chains, ...), each of a finite density.

        Uniform within RADIUS of 0 in every unconstrained coordinate, as Stan's are;
        the first of TRIES where the density and its gradient are finite.
        """

        def of_chain(key: Key) -> Values:
            tried = jax.vmap(self.point)(jax.random.split(key, TRIES))
            density, slope = jax.vmap(jax.value_and_grad(self.density))(tried)
            good = jnp.isfinite(density)
            for leaf in jax.tree.leaves(slope):
                good &= jnp.all(jnp.isfinite(leaf.reshape(TRIES, -1)), axis=1)
            first = jnp.argmax(good)
            return self.constrain(jax.tree.map(lambda v: v[first], tried))[0]

        found: Values = jax.lax.map(of_chain, jax.random.split(key, chains))
        return found

    def point(self, key: Key) -> Values:
        """An unconstrained point, uniform within RADIUS of 0."""
        return {
            site.name: jax.random.uniform(
                jax.random.fold_in(key, i),
                site.free,
                self.dtype,
                -RADIUS,
                RADIUS,
            )
            for i, site in enumerate(self.latent)
        }

    def _trace(
        self, key: Key, theta: Mapping[str, Array], observed: bool = True
    ) -> dict[str, Any]:
        args, kwargs = self.structure.call(self.data)
        model = handlers.substitute(self._model(key), data=dict(theta))
        if not observed:
            model = handlers.uncondition(model)
        found: dict[str, Any] = handlers.trace(model).get_trace(*args, **kwargs)
        return found
