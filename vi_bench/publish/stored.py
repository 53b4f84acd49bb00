"""A run as its folder holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from xarray import DataTree

from vi_bench.comparison.quantities import WEIGHT, by_component, flatten
from vi_bench.external import read_draws
from vi_bench.repeat import read_summary


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, read.

    Attributes:
        folder: where it is.
        summary: the content of summary.json, docs/summary.md.
        trees: label -> what LABEL.nc holds, of methods that gave draws.
    """

    folder: Path
    summary: dict[str, Any]
    trees: dict[str, DataTree]
    _draws: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the run."""
        return str(self.summary["spec"]["name"])

    @property
    def reference(self) -> str | None:
        """The method that others were held against."""
        found = self.summary["reference"]
        return found if found in self.trees else None

    @property
    def rows(self) -> np.ndarray | None:
        """The data (N, d), as they were used; None where no method gave draws."""
        for tree in self.trees.values():
            return np.asarray(tree["observed_data"]["x"])
        return None

    @property
    def features(self) -> list[str]:
        """Their names."""
        return list(self.summary["data"]["features"])

    def draws(self, label: str) -> dict[str, np.ndarray]:
        """Quantity -> draws (chain, draw), invariant ones first, then by component."""
        if label not in self._draws:
            self._draws[label] = _quantities(self.trees[label])
        return self._draws[label]

    def location(self, label: str) -> np.ndarray | None:
        """Relabelled means of the components (chain, draw, K, d), where there are any.

        Those of components that hold a row on average; the others' are the prior's.
        """
        posterior = self.trees[label]["posterior"]
        if "mu" not in posterior or posterior["mu"].ndim != 4:
            return None
        means = np.asarray(posterior["mu"])
        if WEIGHT in posterior:
            share = np.asarray(posterior[WEIGHT]).mean(axis=(0, 1))
            means = means[:, :, share * self.summary["data"]["shape"][0] >= 1]
        return means


def open_run(folder: Path | str) -> StoredRun:
    """Read a run.

    Raises:
        InputError: it is not there, cannot be read, or is of another schema.
    """
    folder = Path(folder)
    summary = read_summary(folder)
    known = {label: folder / f"{label}.nc" for label in summary["methods"]}
    trees = {label: read_draws(p) for label, p in known.items() if p.is_file()}
    return StoredRun(folder, summary, trees)


def _quantities(tree: DataTree) -> dict[str, np.ndarray]:
    found = {}
    if "invariants" in tree:
        found = {str(k): np.asarray(v) for k, v in tree["invariants"].items()}
    posterior = tree["posterior"].to_dataset()
    named = {
        str(name): (np.asarray(v), tuple(map(str, v.dims[2:])))
        for name, v in posterior.items()
    }
    coordinates: Mapping[str, Any] = {
        str(dim): np.asarray(values).tolist()
        for dim, values in posterior.coords.items()
    }
    columns, shared = flatten(named, coordinates)
    return found | {k: np.asarray(v) for k, v in shared.items()} | by_component(columns)
