"""Shared code of methods whose q is the mixture's own `Factors`."""

from __future__ import annotations

from jaxtyping import Array, Float

from vi_bench.contract import Draws
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters


class InFactors:
    """Base class of methods whose q is in `Draws.factors`."""

    def log_q(
        self, mixture: Mixture, draws: Draws, theta: Parameters
    ) -> Float[Array, ""]:
        """Log q(theta) at any theta."""
        found: Array = mixture.log_q(theta, draws.factors)
        return found
