"""A path of Gaussian states, and values observed along it with the path summed out."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from vi_bench.contract import Key
from vi_bench.factors.kalman import StateSpace, backward, filtered, log_likelihood


class GaussianPath(dist.Distribution):  # type: ignore[misc]
    """States (T, d), each Normal(gain times the one before + shift, root root^T).

    Of the first state, the one before is 0. With `reverse` the path runs from the last
    state to the first, as that of states given observations does.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_matrix
    pytree_data_fields = ("gain", "shift", "root")
    pytree_aux_fields = ("reverse",)

    def __init__(
        self,
        gain: Float[Array, "T d d"],
        shift: Float[Array, "T d"],
        root: Float[Array, "T d d"],
        reverse: bool = False,
    ) -> None:
        """All are in the order of time; roots are Cholesky factors."""
        self.gain, self.shift, self.root, self.reverse = gain, shift, root, reverse
        super().__init__((), shift.shape)

    @classmethod
    def of(cls, space: StateSpace, steps: int) -> Self:
        """The states of so many times, of which nothing is observed."""
        shape = (steps, *space.transition.shape)
        shift = jnp.zeros(shape[:2]).at[0].set(space.mean)
        moves = jnp.broadcast_to(jnp.linalg.cholesky(space.process), shape)
        root = moves.at[0].set(jnp.linalg.cholesky(space.covariance))
        return cls(jnp.broadcast_to(space.transition, shape), shift, root)

    @classmethod
    def given(cls, space: StateSpace, y: Float[Array, " T"]) -> Self:
        """The states given the values that are observed."""
        found = filtered(space, y)
        back = backward(space, found)
        shift = back.shift.at[-1].set(found.mean[-1])
        own = back.covariance.at[-1].set(found.covariance[-1])
        return cls(back.gain, shift, jnp.linalg.cholesky(own), reverse=True)

    @property
    def mean(self) -> Float[Array, "T d"]:
        """E[x]."""
        return self._along(self.shift)

    def log_prob(self, value: Array) -> Float[Array, "*b"]:
        """Log p of paths (*b, T, d)."""
        onward, first = (-1, -1) if self.reverse else (1, 0)
        before = jnp.roll(value, onward, axis=-2).at[..., first, :].set(0.0)
        away = value - self.shift - jnp.einsum("tij,...tj->...ti", self.gain, before)
        unit = jnp.broadcast_to(jnp.eye(value.shape[-1]), self.root.shape)
        inverse = solve_triangular(self.root, unit, lower=True)
        scaled = jnp.einsum("tij,...tj->...ti", inverse, away)
        each = dist.Normal(0.0, 1.0).log_prob(scaled)
        sizes = jnp.diagonal(self.root, axis1=-2, axis2=-1)
        return jnp.sum(each - jnp.log(sizes), axis=(-2, -1))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Paths, state by state."""
        drawn = jax.random.normal(key, (*sample_shape, *self.shift.shape))
        return self._along(
            self.shift + jnp.einsum("tij,...tj->...ti", self.root, drawn)
        )

    def _along(self, own: Array) -> Array:
        """The states (*b, T, d), once what is each one's own is known."""

        def step(before: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            gain, shift = now
            new = shift + jnp.einsum("ij,...j->...i", gain, before)
            return new, new

        given = self.gain, jnp.moveaxis(own, -2, 0)
        none = jnp.zeros_like(own[..., 0, :])
        path = lax.scan(step, none, given, reverse=self.reverse)[1]
        return jnp.moveaxis(path, 0, -2)


class LinearGaussian(dist.Distribution):  # type: ignore[misc]
    """Values (T,) observed along a path of states."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    pytree_data_fields = ("space",)
    pytree_aux_fields = ("steps",)

    def __init__(self, space: StateSpace, steps: int) -> None:
        """A linear Gaussian model at so many times T."""
        self.space, self.steps = space, steps
        super().__init__((), (steps,))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Values along a path that is drawn."""
        along, errors = jax.random.split(key)
        states = GaussianPath.of(self.space, self.steps).sample(along, sample_shape)
        noise = jax.random.normal(errors, states.shape[:-1])
        return states @ self.space.observation + noise * jnp.sqrt(self.space.noise)

    def log_prob(self, value: Array) -> Float[Array, "*b"]:
        """Log p of values (*b, T), by the Kalman filter."""
        each = jnp.vectorize(partial(log_likelihood, self.space), signature="(t)->()")
        found: Array = each(value)
        return found
