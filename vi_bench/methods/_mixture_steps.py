"""Natural-gradient steps of a mixture, on blocks of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.methods._schedule import Schedule, towards
from vi_bench.mixture.blocks import Blocks, blocks_at, from_blocks, whole_blocks
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.mixture_pass import mixture_pass
from vi_bench.mixture.types import ExponentialFactors
from vi_bench.runtime.keys import Key

SEEN = 4096
"""Rows, rounded to whole blocks, on which the starting point is found."""


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


@dataclass(frozen=True)
class OfMixture:
    """The steps of a mixture whose q has natural parameters."""

    mixture: Mixture

    @staticmethod
    def check(mixture: Mixture) -> None:
        """Refuse a family whose q has no natural parameters.

        Raises:
            NotApplicable: the family is no `ExponentialFactors`.
        """
        if not isinstance(mixture.family, ExponentialFactors):
            raise NotApplicable(
                "the family does not give q's natural parameters: use cavi"
            )

    def begin(self, key: Key) -> Factors:
        """Factors by an M-step after k-means on about SEEN rows, scaled up to all.

        The few rounds of k-means cost less than a step on all rows, and without them
        most steps would be spent on separating the centres.
        """
        mixture = self.mixture
        if mixture.rows == 0:
            return mixture.prior()
        of_rows, of_centres = jax.random.split(key)
        rows = from_blocks(minibatch(of_rows, mixture, SEEN)[0]).T
        centres = starts.k_means(of_centres, rows, mixture.components, tries=2)
        owner = starts.nearest(rows, centres)
        phi = jax.nn.one_hot(owner, mixture.components, dtype=rows.dtype)
        return mixture.from_responsibilities(phi, rows)

    def advance(
        self, key: Key, q: Factors, step: Int[Array, ""], schedule: Schedule
    ) -> Factors:
        """One step; the tail, less than a block, is in every minibatch."""
        mixture, family = self.mixture, self.mixture.family
        assert isinstance(family, ExponentialFactors)
        coefficients = mixture.view(q).coefficients
        some, scale = minibatch(key, mixture, schedule.batch)
        _, expected = mixture_pass(family.statistics, some, coefficients)
        if whole_blocks(mixture.blocks):
            none = Blocks(mixture.blocks.body[:0], mixture.blocks.tail)
            _, of_tail = mixture_pass(family.statistics, none, coefficients)
            expected = scale * expected + of_tail
        target = family.natural_update(q.components, expected)
        rho = schedule.share(step, expected.dtype)
        own = family.natural_parameters(q.components)
        components = family.from_natural_parameters(towards(rho, own, target))
        sticks = towards(rho, q.sticks, mixture.weights.update(expected[:, -1]))
        return Factors(components, sticks)

    def ended(self, q: Factors) -> Factors:
        """Q itself: responsibilities are no part of it."""
        return q
