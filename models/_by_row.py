"""Minibatches of models whose statistics are sums over rows, with nothing latent."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array


class ByRow:
    """Base class of models with data x (N, p) and y (N,), for `contract.InBatches`."""

    def rows(self, x: Any, y: Any) -> tuple[Array, Array]:
        """The rows themselves."""
        return jnp.asarray(x, float), jnp.asarray(y, float)

    def batch(self: Any, rows: tuple[Array, Array], chosen: Any) -> Any:
        """The statistics of the chosen rows."""
        return self.statistics(*(v[chosen] for v in rows))

    def settle(self, batch: Any, q: dict[str, Any]) -> dict[str, Any]:
        """Q itself: no factor belongs to a row."""
        return q
