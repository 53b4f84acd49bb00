"""Sizes of stochastic steps, and a step of that size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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


def towards[T](share: Float[Array, ""], here: T, goal: T) -> T:
    """Natural parameters that have gone a share of the way to a goal."""
    moved: T = jax.tree.map(lambda a, b: (1 - share) * a + share * b, here, goal)
    return moved
