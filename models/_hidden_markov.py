"""A hidden Markov path, and rows along it with the path summed out."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from vi_bench.contract import Key
from vi_bench.factors.chain import log_normaliser


class MarkovPath(dist.Distribution):  # type: ignore[misc]
    """States (T,) of a path, by weights of its first state, its moves and its states.

    They need not be normalised: p(z) is proportional to exp(initial[z_0] + sum_t
    moves[z_{t-1}, z_t] + sum_t states[t, z_t]).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"initial": constraints.real_vector}
    pytree_data_fields = ("initial", "moves", "states")

    def __init__(
        self,
        initial: Float[Array, " K"],
        moves: Float[Array, "K K"],
        states: Float[Array, "T K"],
    ) -> None:
        """All are logarithms of weights, or their expectations."""
        self.initial, self.moves, self.states = initial, moves, states
        super().__init__((), (len(states),))

    @constraints.dependent_property(is_discrete=True, event_dim=1)  # type: ignore[untyped-decorator]
    def support(self) -> Any:
        """Whole numbers below K."""
        top = self.initial.shape[-1] - 1
        return constraints.independent(constraints.integer_interval(0, top), 1)

    def log_prob(self, value: Array) -> Float[Array, "*b"]:
        """Log p of paths (*b, T)."""
        z = jnp.asarray(value).astype(int)
        own = self.initial[z[..., 0]] + jnp.sum(self.moves[z[..., :-1], z[..., 1:]], -1)
        own += jnp.sum(self.states[jnp.arange(len(self.states)), z], axis=-1)
        return own - log_normaliser(self.initial, self.moves, self.states)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Paths: backwards the weights of what follows, forwards the states."""

        def back(after: Array, own: Array) -> tuple[Array, Array]:
            ahead = own + after
            return jax.nn.logsumexp(self.moves + ahead, axis=1), ahead

        none = jnp.zeros_like(self.initial)
        first, ahead = lax.scan(back, none, self.states[1:], reverse=True)
        keys = jax.random.split(key, len(self.states))
        logits = self.initial + self.states[0] + first
        state = jax.random.categorical(keys[0], logits, -1, sample_shape)

        def step(state: Array, given: tuple[Key, Array]) -> tuple[Array, Array]:
            new = jax.random.categorical(given[0], self.moves[state] + given[1])
            return new, new

        rest = lax.scan(step, state, (keys[1:], ahead))[1]
        return jnp.moveaxis(jnp.concatenate([state[None], rest]), 0, -1)


class HiddenMarkov(dist.Distribution):  # type: ignore[misc]
    """Rows (T, d) emitted by the states of a hidden path."""

    arg_constraints: ClassVar[dict[str, Any]] = {"initial": constraints.simplex}
    pytree_data_fields = ("initial", "transition", "emission")
    pytree_aux_fields = ("steps",)

    def __init__(
        self,
        initial: Float[Array, " K"],
        transition: Float[Array, "K K"],
        emission: dist.Distribution,
        steps: int,
    ) -> None:
        """The path starts by `initial`, and moves by the rows of `transition`.

        Args:
            initial: probabilities of the first state.
            transition: probabilities of the next state, given that of the row.
            emission: of a row's features in each state, batches (K, d).
            steps: number of rows T.
        """
        self.initial, self.transition = initial, transition
        self.emission, self.steps = emission, steps
        super().__init__((), (steps, emission.batch_shape[-1]))

    @property
    def support(self) -> Any:
        """That of the rows."""
        return constraints.independent(self.emission.support, 2)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Rows along a path that is drawn."""
        if sample_shape:
            keys = jax.random.split(key, sample_shape)
            draw = self.sample
            for _ in sample_shape:
                draw = jax.vmap(draw)
            return draw(keys)
        along, rows = jax.random.split(key)
        nothing = jnp.zeros((self.steps, len(self.initial)))
        path = MarkovPath(jnp.log(self.initial), jnp.log(self.transition), nothing)
        states = path.sample(along)
        every = self.emission.sample(rows, (self.steps,))
        return jnp.take_along_axis(every, states[:, None, None], axis=1)[:, 0]

    def log_prob(self, value: Array) -> Float[Array, ""]:
        """Log p of rows (T, d), by the forward algorithm."""
        each = jnp.sum(self.emission.log_prob(value[:, None, :]), axis=-1)
        return log_normaliser(jnp.log(self.initial), jnp.log(self.transition), each)
