"""The digamma function of positive numbers, quick enough for a hot loop."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

SHIFT = 8
"""Numbers below are moved up by this, by the recurrence; above, the series holds."""

SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
"""Minus the coefficients of x^-2, x^-4, ... in psi(x) - log x + 1 / (2 x):
B_2k / (2 k), B being Bernoulli's numbers (Abramowitz and Stegun 1964, 6.3.18)."""


def digamma(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Psi(x) of x > 0, to ten units of rounding (absolute where |psi| < 1).

    JAX's own takes six times as long, since it is for negative numbers, too. Its
    derivatives are those of the formula, and as exact.
    """
    # psi(x) = psi(x + 8) - sum_i 1 / (x + i) for i < 8, as one fraction
    low = jnp.minimum(x, SHIFT)
    above, below = jnp.ones_like(low), low
    for i in range(1, SHIFT):
        above, below = above * (low + i) + below, below * (low + i)
    small = x < SHIFT
    moved = jnp.where(small, low + SHIFT, x)
    inverse = 1 / moved
    square = inverse * inverse
    rest = jnp.zeros_like(square)
    for coefficient in reversed(SERIES):
        rest = (rest + coefficient) * square
    found: Array = jnp.log(moved) - 0.5 * inverse - rest
    return found - jnp.where(small, above / below, 0.0)
