"""Shared code of methods whose q is that of a coordinate ascent."""

from __future__ import annotations

from jaxtyping import Array, Float

from vi_bench.contract import Draws, Posterior
from vi_bench.inference.climber import climber_of
from vi_bench.mixture.types import Parameters


class InFactors:
    """Base class of methods whose q is in `Draws.factors`."""

    def log_q(
        self, posterior: Posterior, draws: Draws, theta: Parameters
    ) -> Float[Array, ""]:
        """Log q(theta) at any theta."""
        return climber_of(posterior).log_q(theta, draws.factors)
