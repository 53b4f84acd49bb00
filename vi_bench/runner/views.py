"""The result of a run in Python: its data, and its record, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vi_bench.data.table import Table
from vi_bench.results.stored import StoredRun
from vi_bench.results.summary_schema import Record
from vi_bench.runner.result import RunResult
from vi_bench.runner.summary import record, trees
from vi_bench.runtime.strict_json import document

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from xarray import DataTree


@dataclass
class Result(RunResult):
    """A finished run, see `vi_bench.runner.result.RunResult` for its attributes."""

    _trees: dict[str, DataTree] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunResult) -> Result:
        """The same run as a `Result`."""
        return cls(**{f.name: getattr(run, f.name) for f in fields(RunResult)})

    def __repr__(self) -> str:
        verdicts = self.comparison.verdicts if self.comparison else {}
        words: dict[str, str] = {n: run.outcome.status for n, run in self.runs.items()}
        words |= {label: verdict.word for label, verdict in verdicts.items()}
        found = ", ".join(f"{label} {word}" for label, word in words.items())
        return f"<run of {self.spec.name}: {found}>"

    @property
    def posterior(self) -> dict[str, DataTree]:
        """Label -> ArviZ DataTree, relabelled, of every method that gave draws."""
        if not self._trees:
            self._trees = trees(self)
        return self._trees

    @cached_property
    def record(self) -> Record:
        """The record of the run, as in summary.json."""
        return record(self)

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json as plain values."""
        return self.record.values()

    def predict(self, label: str, rows: int, seed: int = 0) -> Table:
        """Simulate rows from the posterior predictive of a method.

        Args:
            label: label of the method.
            rows: number of rows; each is given a draw chosen at random.
            seed: random seed.

        Raises:
            InputError: the method has no draws.
        """
        from vi_bench.runner.predictive import posterior_predictive

        return posterior_predictive(self, label, rows, seed)

    def log_density(self, label: str, points: Any) -> np.ndarray:
        """Log posterior predictive density of a method, nats.

        Args:
            label: label of the method.
            points: (n, d), in the units of the run's data.

        Returns:
            The log of E[p(x | theta)] over its draws (n,).

        Raises:
            InputError: the method has no draws, or the points do not fit the family.
        """
        from vi_bench.runner.predictive import log_predictive_density

        return log_predictive_density(self, label, points)

    def table(self) -> RichTable:
        """The table that the command line prints; `rich.print` shows it."""
        from vi_bench.reports.render_terminal import verdict_table

        return verdict_table(self.record)

    def figures(self, folder: Path | str) -> list[Path]:
        """Draw the figures into a folder, PNG and PDF; returns their paths."""
        from vi_bench.reports.figures import draw_all

        stored = StoredRun(self.folder or Path(), self.record, self.posterior)
        return draw_all(stored, Path(folder))

    def save_arrays(self, folder: Path | str) -> None:
        """Write the draws alone, a NumPy .npz per method, into a folder.

        They are as drawn, components not relabelled; this needs nothing that the other
        files need, and so works where writing these fails.
        """
        for label, run in self.runs.items():
            if run.usable:
                arrays = dict(run.posterior)
                if run.log_joint is not None:
                    arrays["log_joint"] = run.log_joint
                    arrays["evaluated"] = run.evaluated
                np.savez(Path(folder) / f"{label}.npz", **arrays)  # type: ignore[arg-type]

    def save(self, folder: Path | str, figures: bool = True) -> None:
        """Write summary.json, a DataTree per method and the figures into a folder."""
        target = Path(folder)
        for label, tree in self.posterior.items():
            # into memory first: the library reports a full disk as any other error
            content = tree.to_netcdf(None, engine="netcdf4")
            (target / f"{label}.nc").write_bytes(content)
        if figures:
            self.figures(target)
        text = document(self.summary)
        (target / "summary.json").write_text(text, encoding="utf-8")
