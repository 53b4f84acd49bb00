"""Natural-gradient steps on minibatches, for `stochastic-cavi` and a start of CAVI.

Hoffman, Blei, Wang and Paisley (2013): with the statistics S of a minibatch of n of N
rows, the M-step for (N / n) S is a full noisy natural-gradient step, of which q's
natural parameters go the share rho_t = (t + delay)^-forgetting.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
from jax import lax
from jaxtyping import Array, Int

from vi_bench.contract import Posterior
from vi_bench.errors import NotApplicable
from vi_bench.methods._mixture_steps import OfMixture
from vi_bench.methods._model_steps import OfModel
from vi_bench.methods._schedule import Schedule
from vi_bench.mixture.mixture import Mixture
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.runtime.keys import Key

Point = Any
"""A q: a pytree of arrays."""


@runtime_checkable
class Steps(Protocol):
    """A posterior with its steps on minibatches."""

    def begin(self, key: Key) -> Point:
        """A starting point."""

    def advance(
        self, key: Key, q: Point, step: Int[Array, ""], schedule: Schedule
    ) -> Point:
        """One step."""

    def ended(self, q: Point) -> Point:
        """The q of the coordinate ascent at which the steps end."""


def check(posterior: Posterior) -> None:
    """Refuse what has no steps on minibatches.

    Raises:
        NotApplicable: gives the reason.
    """
    if isinstance(posterior, Mixture):
        OfMixture.check(posterior)
    elif isinstance(posterior, CAVIPosterior):
        OfModel.check(posterior)
    else:
        raise NotApplicable("the model has no coordinate ascent")


def steps_of(posterior: Posterior) -> Steps:
    """The steps of a posterior that `check` lets through.

    What they read of the data is made here, once: so call it before a loop.
    """
    if isinstance(posterior, Mixture):
        return OfMixture(posterior)
    assert isinstance(posterior, CAVIPosterior)
    return OfModel.of(posterior)


def run(
    key: Key,
    steps: Steps,
    q: Point,
    first: Array,
    number: int | Array,
    schedule: Schedule,
) -> Point:
    """The point after several steps, of which the first is number `first`."""

    def one(i: Array, q: Point) -> Point:
        return steps.advance(jax.random.fold_in(key, i), q, first + i, schedule)

    found: Point = lax.fori_loop(0, number, one, q)
    return found
