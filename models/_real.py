"""What Gaussian families share: rows on the real line, that have a place."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.contract import Parameters

LOG_2PI = float(np.log(2 * np.pi))


class RealRows:
    """Data that may be moved, a mean that moves along; -(d/2) log(2 pi) as log h."""

    centred: ClassVar[bool] = True
    located: ClassVar[tuple[str, ...]] = ("mean", "mu", "m")

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Rows at the levels, with standard normal noise."""
        return np.asarray((level + random.normal(size=level.shape)).round(2))

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """-(d/2) log(2 pi): the precision belongs to the parameters."""
        return jnp.full(x.shape[1:], -0.5 * x.shape[0] * LOG_2PI, x.dtype)

    def location(self, theta: Parameters) -> Any:
        """Mu."""
        return theta["mu"]
