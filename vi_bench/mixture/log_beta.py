"""Log of the Beta function, accurate to rounding.

JAX's `betaln` switches to an expansion once the larger argument passes 8, and is off by
1e-6 there: an ELBO would decrease as a count passes 8. Differences of log Gammas lose
accuracy where arguments are large.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

LARGE = 10.0
"""Argument from which the truncated Stirling series is exact to rounding."""

STIRLING = (
    1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156,
)  # fmt: skip
"""Coefficients B_2n / (2n (2n - 1)) of 1 / x^(2n - 1), for n = 1, 2, ..."""


def log_beta(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Log B(a, b) of positive arguments; Didonato and Morris (1992), section 2.

    With log Gamma(x) = (x - 1/2) log x - x + log(2 pi) / 2 + c(x) nothing large is left
    to cancel.
    """
    small, large = jnp.minimum(a, b), jnp.maximum(a, b)
    plain = gammaln(small) + gammaln(large) - gammaln(small + large)
    # arguments are clipped where a branch is not taken: a gradient goes through all
    y = jnp.maximum(large, LARGE)
    x = jnp.maximum(small, LARGE)
    z = jnp.minimum(small, LARGE)
    one = _rest(y) - _rest(z + y) - (z + y - 0.5) * jnp.log1p(z / y)
    mixed = gammaln(z) + one + z - z * jnp.log(y)
    both = _rest(x) + _rest(y) - _rest(x + y) + 0.5 * np.log(2 * np.pi)
    both = both - 0.5 * jnp.log(y) - (x - 0.5) * jnp.log1p(y / x) - y * jnp.log1p(x / y)
    found: Array = jnp.where(
        large < LARGE, plain, jnp.where(small < LARGE, mixed, both)
    )
    return found


def _rest(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """c(x), the remainder of Stirling's formula for log Gamma(x), x >= LARGE."""
    square, total = 1 / x**2, jnp.zeros_like(x)
    for coefficient in reversed(STIRLING):
        total = total * square + coefficient
    return total / x
