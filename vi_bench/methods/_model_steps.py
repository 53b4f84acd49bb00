"""Natural-gradient steps of a model that can learn from some of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from vi_bench.contract import InBatches, Local
from vi_bench.errors import NotApplicable
from vi_bench.factors import base
from vi_bench.methods._schedule import Schedule, towards
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.runtime.keys import Key

Point = dict[str, Any]


@dataclass(frozen=True)
class OfModel:
    """The steps of an `InBatches`. Its q holds factors alone until `ended`.

    Attributes:
        posterior: of the model.
        rows: what minibatches are taken of, made once for all steps.
    """

    posterior: CAVIPosterior
    rows: Any

    @classmethod
    def of(cls, posterior: CAVIPosterior) -> OfModel:
        """The steps of a posterior that `check` lets through."""
        own: Any = posterior.own
        return cls(posterior, own.rows(**posterior.arguments()))

    @staticmethod
    def check(posterior: CAVIPosterior) -> None:
        """Refuse a model whose rows cannot be taken a few at a time.

        Raises:
            NotApplicable: it is no `InBatches`.
        """
        if not isinstance(posterior.own, InBatches):
            raise NotApplicable("the model has no steps on minibatches: use cavi")

    @property
    def own(self) -> Any:
        """The model, a `CAVIModel` and an `InBatches`."""
        return self.posterior.own

    @property
    def number(self) -> int:
        """Number of rows."""
        return len(next(iter(self.posterior.arguments().values())))

    def begin(self, key: Key) -> Point:
        """A start of the ascent."""
        return dict(base.factors_of(self.own.init(key, self.posterior.statistics())))

    def advance(
        self, key: Key, q: Point, step: Int[Array, ""], schedule: Schedule
    ) -> Point:
        """One step: the rows' own factors go all the way, the others a share."""
        every = jnp.arange(self.number)
        size = min(schedule.batch, self.number)
        drawn = jax.random.randint(key, (size,), 0, max(self.number, 1))
        batch = self.own.batch(self.rows, every if size == self.number else drawn)
        q = self.own.settle(batch, q)
        times = self.number / max(size, 1)
        share = schedule.share(step, self.posterior.dtype)
        moved = {
            name: type(goal).from_natural(
                *towards(share, q[name].natural(), goal.natural())
            )
            for name, goal in self.own.shared(batch, q, times).items()
        }
        return {**q, **moved}

    def ended(self, q: Point) -> Point:
        """A q of the ascent: what belongs to the rows is optimal given the rest."""
        q = self.own.settle(self.own.batch(self.rows, jnp.arange(self.number)), q)
        if isinstance(self.own, Local):
            q = self.own.local(self.posterior.statistics(), q)
        return q
