"""What a run is about, on the host: how its draws are reported, compared and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vi_bench.comparison.quantities import Quantity
from vi_bench.data.arrays import Arrays
from vi_bench.data.table import Table

Named = Mapping[str, np.ndarray]
"""Name -> array (chain, draw, ...)."""

Compared = tuple[dict[Quantity, np.ndarray], dict[Quantity, np.ndarray]]
"""Columns (chain, draw, K) of what each component has, and scalars (chain, draw)."""


@dataclass(frozen=True)
class Stored:
    """How draws are stored beside the arrays themselves.

    Attributes:
        dims: name of a variable -> names of its dimensions.
        coordinates: dimension -> coordinates along it.
        observed: name of observed data -> (dimensions, values).
        location: E[x | component] (chain, draw, component, feature), if it is not
            itself a variable.
        attributes: entries of the DataTree's own attributes.
    """

    dims: dict[str, tuple[str, ...]]
    coordinates: dict[str, Any]
    observed: dict[str, tuple[tuple[str, ...], np.ndarray]]
    location: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


class Subject(Protocol):
    """What a run is about, on the host: a model, its prior and its data."""

    @property
    def data(self) -> Table | Arrays:
        """The rows of a mixture, or named arrays."""

    def reported(self, parameters: Named, made: Named) -> dict[str, np.ndarray]:
        """Draws as they are reported: parameters, and quantities made of them.

        Args:
            parameters: draws, in the coordinates of the user's data.
            made: of an evaluation.
        """

    def compared(self, reported: Named) -> Compared:
        """The quantities of reported draws that are compared."""

    def stored(self, posterior: Named) -> Stored:
        """How reported draws, relabelled if they were compared, are stored."""

    def described(self) -> dict[str, Any]:
        """The parts `model`, `weights` and `data` of the record."""
