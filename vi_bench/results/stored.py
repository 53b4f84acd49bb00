"""A run that was read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from xarray import DataTree

from vi_bench.comparison.quantities import WEIGHT, Quantity, by_component, flatten
from vi_bench.draws.external import read_draws
from vi_bench.results.summary_schema import Record, read_record
from vi_bench.results.trees import named_variables


@dataclass(frozen=True)
class StoredRun:
    """The content of a run's folder.

    Attributes:
        folder: its path.
        record: the content of summary.json, docs/summary.md.
        trees: label -> the content of LABEL.nc, of methods that gave draws.
    """

    folder: Path
    record: Record
    trees: Mapping[str, DataTree]
    _draws: dict[str, dict[Quantity, np.ndarray]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.record.name

    @property
    def reference(self) -> str | None:
        """The label of the reference, if its draws are in the folder."""
        found = self.record.reference
        return found if found in self.trees else None

    @property
    def rows(self) -> np.ndarray | None:
        """The rows (N, d) that were fitted; None without draws, or of no mixture."""
        if not self.record.is_mixture:
            return None
        for tree in self.trees.values():
            return np.asarray(tree["observed_data"]["x"])
        return None

    @property
    def features(self) -> list[str]:
        """Names of the d features."""
        return list(self.record.data.features)

    def draws(self, label: str) -> dict[Quantity, np.ndarray]:
        """Quantity -> draws (chain, draw): the quantities that are compared.

        Label-invariant ones come first, then those of each component.
        """
        if label not in self._draws:
            self._draws[label] = _quantities(self.trees[label])
        return self._draws[label]

    def location(self, label: str) -> np.ndarray | None:
        """Relabelled component means (chain, draw, K, d); None if the family has none.

        Of drawn weights, components that hold less than one row on average are left
        out: their means follow the prior.
        """
        tree = self.trees[label]
        posterior = tree["posterior"]
        parameter = json.loads(tree.attrs.get("vi_bench", "{}")).get("location")
        if parameter is not None:
            means = np.asarray(posterior[parameter])
        elif "location" in tree:
            means = np.asarray(tree["location"]["location"])
        else:
            return None
        if WEIGHT in posterior:
            share = np.asarray(posterior[WEIGHT]).mean(axis=(0, 1))
            means = means[:, :, share * self.record.data.shape[0] >= 1]
        return means

    def trace(self, label: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Seconds and bounds in nats by iteration; None for methods without them."""
        if "optimisation" not in self.trees[label]:
            return None
        found = self.trees[label]["optimisation"]
        return np.asarray(found["seconds"]), np.asarray(found["bound"])


def open_run(folder: Path | str) -> StoredRun:
    """Read a run's folder.

    Raises:
        InputError: it is not there, cannot be read, or is of another schema.
    """
    folder = Path(folder)
    record = read_record(folder)
    known = {label: folder / f"{label}.nc" for label in record.methods}
    trees = {label: read_draws(p) for label, p in known.items() if p.is_file()}
    return StoredRun(folder, record, trees)


def _quantities(tree: DataTree) -> dict[Quantity, np.ndarray]:
    """Label-invariant scalars, then those of each component."""
    found: dict[Quantity, np.ndarray] = {}
    if "invariants" in tree:
        known = named_variables(tree["invariants"].to_dataset())
        found |= {Quantity(k): v for k, v in known.items()}
    if "compared" in tree:
        known = named_variables(tree["compared"].to_dataset())
        columns = {Quantity(k): v for k, v in known.items()}
        return found | by_component(columns)
    # an older folder has no such groups: take the parameters themselves
    posterior = tree["posterior"].to_dataset()
    named = {
        str(name): (np.asarray(v), tuple(map(str, v.dims[2:])))
        for name, v in posterior.items()
    }
    coordinates = {
        str(dim): np.asarray(known).tolist() for dim, known in posterior.coords.items()
    }
    columns, shared = flatten(named, coordinates)
    return found | shared | by_component(columns)
