"""What coordinate ascent from many starts needs of a posterior.

`climber_of` gives it for mixtures, and for models that bring their own ascent; the
driver (`inference.search`, the method `cavi`) knows neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vi_bench.contract import CAVIModel, Posterior
from vi_bench.errors import NotApplicable
from vi_bench.factors import base
from vi_bench.inference import starts
from vi_bench.inference.squarem import Ascent, ascend, begin, coordinate_ascent
from vi_bench.mixture.mixture import Mixture, Move
from vi_bench.mixture.types import Parameters
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

Point = Any
"""A q: a pytree of arrays."""


@runtime_checkable
class Climber(Protocol):
    """A posterior with its coordinate ascent."""

    @property
    def products(self) -> int:
        """About how many multiplications one sweep takes."""

    @property
    def recombined(self) -> bool:
        """Whether components of optima can be merged and split."""

    def starts(self, key: Key, number: int) -> Point:
        """The best points (number, ...) of many, each after a few sweeps."""

    def begin(self, q: Point, most: int) -> Ascent:
        """The state before the first of up to `most` sweeps."""

    def onward(self) -> Callable[..., Ascent]:
        """(state, sweeps, tolerance, accelerate) -> the state after these sweeps."""

    def proposals(self) -> Callable[[Key, Point], Point]:
        """(key, an optimum) -> a point with two components merged, another split."""

    def bound(self, q: Point) -> Float[Array, ""]:
        """The ELBO at q, nats."""

    def swept(self, q: Point) -> Point:
        """Q after one sweep."""

    def counts(self, q: Point) -> Float[Array, " K"]:
        """Expected rows by component; none (0,) where there are no components."""

    def draw(self, key: Key, q: Point, shape: tuple[int, ...]) -> Parameters:
        """Draws from q: name -> (*shape, ...)."""

    def log_q(self, theta: Parameters, q: Point) -> Float[Array, "*b"]:
        """Log q of draws (*b, ...), nats."""

    def describe(self, q: Point) -> dict[str, Array]:
        """The variational parameters by name."""

    def like(self) -> Point:
        """A q of the right shapes and types."""


def climber_of(posterior: Posterior) -> Climber:
    """The coordinate ascent of a posterior.

    Raises:
        NotApplicable: it is of a model that has none.
    """
    if isinstance(posterior, Mixture):
        return OfMixture(posterior)
    if isinstance(posterior, CAVIPosterior):
        return OfModel(posterior)
    raise NotApplicable(
        "the model has no coordinate ascent: expected a mixture or a model of the "
        "library (`vi-bench list models`); for a CAVI of your own, --fit mine.py:cavi"
    )


@dataclass(frozen=True)
class OfMixture:
    """The coordinate ascent of a mixture."""

    mixture: Mixture

    @property
    def products(self) -> int:
        """Rows times components."""
        return self.mixture.rows * self.mixture.components

    @property
    def recombined(self) -> bool:
        """Whether there are components to merge."""
        return self.mixture.components > 1 and self.mixture.rows > 0

    def starts(self, key: Key, number: int) -> Point:
        """The best of starts of five kinds."""
        return starts.best_of_many(key, self.mixture, number)

    def begin(self, q: Point, most: int) -> Ascent:
        """The state before the first of up to `most` sweeps."""
        return begin(q, self.mixture.view(q), most)

    def onward(self) -> Callable[..., Ascent]:
        """Further sweeps over the rows."""
        return coordinate_ascent(self.mixture)

    def proposals(self) -> Callable[[Key, Point], Point]:
        """Merge two components and split another, by rows that represent all."""
        x = self.mixture.some(starts.ROWS)
        return lambda key, q: starts.split_and_merge(key, self.mixture, x, q)

    def bound(self, q: Point) -> Float[Array, ""]:
        """The ELBO at q with its optimal responsibilities, nats."""
        return self.mixture.step(q)[0]

    def swept(self, q: Point) -> Point:
        """Q after one sweep."""
        return self.mixture.step(q)[1]

    def counts(self, q: Point) -> Float[Array, " K"]:
        """Expected rows by component."""
        return self.mixture.counts(q)

    def draw(self, key: Key, q: Point, shape: tuple[int, ...]) -> Parameters:
        """Draws from q: name -> (*shape, ...)."""
        return self.mixture.draw(key, q, shape)

    def log_q(self, theta: Parameters, q: Point) -> Float[Array, "*b"]:
        """Log q of draws (*b, ...), nats."""
        return self.mixture.log_q(theta, q)

    def describe(self, q: Point) -> dict[str, Array]:
        """The usual parameters of q."""
        return self.mixture.describe(q)

    def like(self) -> Point:
        """The prior's factors."""
        return self.mixture.prior()


class Message(NamedTuple):
    """What a sweep of a model begins with.

    Attributes:
        coefficients: natural parameters of all factors, flat (P,).
        q: the factors themselves.
        bound: the ELBO at q, nats; unknown after an extrapolation.
    """

    coefficients: Float[Array, " P"]
    q: dict[str, Any]
    bound: Float[Array, ""]


@dataclass(frozen=True)
class OfModel:
    """The coordinate ascent of a model of the library, or of a plugin."""

    posterior: CAVIPosterior

    @property
    def own(self) -> CAVIModel:
        """The model."""
        return self.posterior.own

    @property
    def products(self) -> int:
        """The numbers in the data, which every sweep may read."""
        return sum(array.size for array in self.posterior.data)

    recombined = False

    def starts(self, key: Key, number: int) -> Point:
        """The best of POOL times as many, each after EARLY sweeps (number, ...)."""
        statistics = self.posterior.statistics()

        def attempt(key: Key) -> tuple[Point, Float[Array, ""]]:
            q = jax.lax.fori_loop(
                0,
                starts.EARLY,
                lambda _, q: self.own.sweep(statistics, q),
                self.own.init(key, statistics),
            )
            bound = self.own.bound(statistics, q)
            return q, jnp.where(jnp.isfinite(bound), bound, -jnp.inf)

        keys = jax.random.split(key, starts.POOL * number)
        points, bound = over_lanes(attempt, keys)
        best = jnp.argsort(-bound, stable=True)[:number]
        return jax.tree.map(lambda v: v[best], points)

    def begin(self, q: Point, most: int) -> Ascent:
        """The state before the first of up to `most` sweeps."""
        return begin(q, self._message(self.posterior.statistics(), q), most)

    def onward(self) -> Callable[..., Ascent]:
        """Further sweeps, extrapolated in natural parameters.

        A point that is extrapolated out of the domain of its factors gives a bound that
        is not finite, or that of a valid q after the sweep; so it is safe either way.
        """
        statistics = self.posterior.statistics()

        def sweep(_: Point, message: Message) -> Move:
            q = self.own.sweep(statistics, message.q)
            new = self._message(statistics, q)
            moved = new.coefficients - message.coefficients
            residual = jnp.max(jnp.abs(moved) / base.scale_of(q))
            return Move(message.bound, new.bound, q, new, residual)

        def place(wanted: Bool[Array, ""], view: Message, target: Array) -> Message:
            def other() -> Message:
                return Message(target, base.with_natural(view.q, target), view.bound)

            placed: Message = jax.lax.cond(wanted, other, lambda: view)
            return placed

        def climb(
            state: Ascent, sweeps: int, tolerance: float, accelerate: bool = True
        ) -> Ascent:
            weight = 1 / base.scale_of(state.point)
            return ascend(sweep, state, sweeps, tolerance, accelerate, weight, place)

        return climb

    def proposals(self) -> Callable[[Key, Point], Point]:
        """None: a model's components are not merged and split.

        Raises:
            NotApplicable: always.
        """
        raise NotApplicable("components of mixtures alone are merged and split")

    def bound(self, q: Point) -> Float[Array, ""]:
        """The ELBO at q, nats."""
        return self.own.bound(self.posterior.statistics(), q)

    def swept(self, q: Point) -> Point:
        """Q after one sweep."""
        return self.own.sweep(self.posterior.statistics(), q)

    def counts(self, q: Point) -> Float[Array, " K"]:
        """Expected rows by component, of models that have components."""
        counts: Any = getattr(self.own, "counts", None)
        none = jnp.zeros(0, self.posterior.dtype)
        return none if counts is None else counts(q)

    def draw(self, key: Key, q: Point, shape: tuple[int, ...]) -> Parameters:
        """Draws from q: site -> (*shape, ...)."""
        return base.draw(key, q, shape)

    def log_q(self, theta: Parameters, q: Point) -> Float[Array, "*b"]:
        """Log q of draws (*b, ...), nats."""
        return base.log_q(theta, q)

    def describe(self, q: Point) -> dict[str, Array]:
        """The parameters of each factor: "site.parameter" -> value."""
        return {
            f"{site}.{name}": value
            for site, factor in base.factors_of(q).items()
            for name, value in vars(factor).items()
        }

    def like(self) -> Point:
        """A start of the ascent."""
        return self.own.init(jax.random.key(0), self.posterior.statistics())

    def _message(self, statistics: Any, q: Point) -> Message:
        return Message(base.natural_of(q), q, self.own.bound(statistics, q))
