"""Shared code of Gaussian families: real-valued rows, which may be shifted."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.contract import Parameters

LOG_2PI = float(np.log(2 * np.pi))


class RealRows:
    """Data that may be shifted together with the means; log h is -(d/2) log(2 pi)."""

    centred: ClassVar[bool] = True
    located: ClassVar[tuple[str, ...]] = ("mean", "mu", "m")

    @staticmethod
    def rows_around(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
        """Rows at the levels, with standard normal noise."""
        return np.asarray((level + random.normal(size=level.shape)).round(2))

    def log_base(self, x: Float[Array, "d n"]) -> Float[Array, " n"]:
        """Log base measure -(d/2) log(2 pi); precision is part of the parameters."""
        return jnp.full(x.shape[1:], -0.5 * x.shape[0] * LOG_2PI, x.dtype)

    def location(self, theta: Parameters) -> Any:
        """E[x | theta] of each component, mu (..., K, d)."""
        return theta["mu"]
