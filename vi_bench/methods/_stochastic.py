"""Natural-gradient steps on minibatches, for `stochastic-cavi` and a start of CAVI.

Hoffman, Blei, Wang and Paisley (2013): with the statistics S of a minibatch of n of N
rows, the M-step for (N / n) S is a full noisy natural-gradient step, of which q's
natural parameters go the share rho_t = (t + delay)^-forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.mixture.blocks import Blocks, blocks_at, from_blocks, whole_blocks
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.mixture_pass import mixture_pass
from vi_bench.mixture.types import ExponentialFactors
from vi_bench.runtime.keys import Key

SEEN = 4096
"""Rows, rounded to whole blocks, on which the starting point is found."""


@dataclass(frozen=True)
class Schedule:
    """Step sizes of Robbins and Monro: their sum diverges, that of their squares not.

    Attributes:
        batch: rows of a minibatch, rounded to whole blocks.
        delay: larger values make the first steps smaller.
        forgetting: exponent of the step sizes, over 1/2, at most 1.
    """

    batch: int
    delay: float
    forgetting: float

    def share(self, step: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        """The step size rho_t of a step, counted from 0."""
        t = step.astype(dtype) + 1
        return jnp.asarray((t + self.delay) ** -self.forgetting, dtype)


def check(mixture: Mixture) -> None:
    """Refuse a family whose q has no natural parameters.

    Raises:
        NotApplicable: the family is no `ExponentialFactors`.
    """
    if not isinstance(mixture.family, ExponentialFactors):
        raise NotApplicable("the family does not give q's natural parameters: use cavi")


def minibatch(key: Key, mixture: Mixture, rows: int) -> tuple[Blocks, Float[Array, ""]]:
    """Blocks drawn with replacement, and the factor from their sums to all blocks'.

    Data without a whole block have only a tail, and are returned complete.
    """
    blocks, dtype = mixture.blocks, mixture.log_base.dtype
    number, size = whole_blocks(blocks), blocks.body.shape[2]
    if not number:
        return blocks, jnp.ones((), dtype)
    chosen = jax.random.randint(key, (max(1, rows // size),), 0, number)
    some = Blocks(blocks_at(blocks, chosen), blocks.tail[:, :0])
    return some, jnp.asarray(number / len(chosen), dtype)


def begin(key: Key, mixture: Mixture) -> Factors:
    """Factors by an M-step after k-means on about SEEN rows, scaled up to all.

    The few rounds of k-means cost less than a step on all rows, and without them most
    steps would be spent on separating the centres.
    """
    if mixture.rows == 0:
        return mixture.prior()
    of_rows, of_centres = jax.random.split(key)
    rows = from_blocks(minibatch(of_rows, mixture, SEEN)[0]).T
    centres = starts.k_means(of_centres, rows, mixture.components, tries=2)
    owner = starts.nearest(rows, centres)
    phi = jax.nn.one_hot(owner, mixture.components, dtype=rows.dtype)
    return mixture.from_responsibilities(phi, rows)


def advance(
    key: Key, mixture: Mixture, q: Factors, step: Int[Array, ""], schedule: Schedule
) -> Factors:
    """One natural-gradient step; the tail, less than a block, is in every minibatch."""
    family: Any = mixture.family
    coefficients = mixture.view(q).coefficients
    some, scale = minibatch(key, mixture, schedule.batch)
    _, expected = mixture_pass(family.statistics, some, coefficients)
    if whole_blocks(mixture.blocks):
        none = Blocks(mixture.blocks.body[:0], mixture.blocks.tail)
        _, of_tail = mixture_pass(family.statistics, none, coefficients)
        expected = scale * expected + of_tail
    target = family.natural_update(q.components, expected)
    rho = schedule.share(step, expected.dtype)

    def towards(at: Array, goal: Array) -> Array:
        return (1 - rho) * at + rho * goal

    own = family.natural_parameters(q.components)
    components = family.from_natural_parameters(jax.tree.map(towards, own, target))
    sticks = towards(q.sticks, mixture.weights.update(expected[:, -1]))
    return Factors(components, sticks)


def run(
    key: Key,
    mixture: Mixture,
    q: Factors,
    first: Array,
    steps: int | Array,
    schedule: Schedule,
) -> Factors:
    """The factors after several steps, of which the first is number `first`."""

    def one(i: Array, q: Factors) -> Factors:
        return advance(jax.random.fold_in(key, i), mixture, q, first + i, schedule)

    found: Factors = lax.fori_loop(0, steps, one, q)
    return found
