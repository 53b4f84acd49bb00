"""A run as its folder holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import DataTree

from vi_bench import catalogue
from vi_bench.comparison.quantities import WEIGHT, by_component, flatten
from vi_bench.external import read_draws
from vi_bench.record import read_summary
from vi_bench.spec import validated

if TYPE_CHECKING:
    from vi_bench.result import Result


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, read.

    Attributes:
        folder: where it is.
        summary: the content of summary.json, docs/summary.md.
        trees: label -> what LABEL.nc holds, of methods that gave draws.
        family: the component family; None where its code is not here.
    """

    folder: Path
    summary: dict[str, Any]
    trees: Mapping[str, DataTree]
    family: Any = None
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
        if self.family is None:
            return None
        posterior = self.trees[label]["posterior"]
        known = {str(name): np.asarray(v) for name, v in posterior.items()}
        where = self.family.location(known)
        if where is None:
            return None
        means = np.asarray(where)
        if WEIGHT in known:
            rows = known[WEIGHT].mean(axis=(0, 1)) * self.summary["data"]["shape"][0]
            means = means[:, :, rows >= 1]
        return means

    def trace(self, label: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Seconds and bounds, by iteration, of what was optimised."""
        if "optimisation" not in self.trees[label]:
            return None
        found = self.trees[label]["optimisation"]
        return np.asarray(found["seconds"]), np.asarray(found["bound"])


def as_stored(result: Result) -> StoredRun:
    """A run as it would be stored."""
    folder = result.folder or Path()
    return StoredRun(folder, result.summary, result.posterior, result.family)


def open_run(folder: Path | str) -> StoredRun:
    """Read a run.

    Raises:
        InputError: it is not there, cannot be read, or is of another schema.
    """
    folder = Path(folder)
    summary = read_summary(folder)
    known = {label: folder / f"{label}.nc" for label in summary["methods"]}
    trees = {label: read_draws(p) for label, p in known.items() if p.is_file()}
    return StoredRun(folder, summary, trees, _family(summary["model"]))


def _family(described: Mapping[str, Any]) -> Any:
    values = {k: v for k, v in described.items() if k != "name"}
    name = str(described.get("name"))
    if name not in catalogue.names("model"):
        return None
    return validated(catalogue.model(name), values, f"model {name}")


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
