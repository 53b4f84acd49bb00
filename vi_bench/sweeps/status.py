"""The progress of the sweeps in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vi_bench.sweeps.grid import said
from vi_bench.sweeps.store import Attempt, Store


@dataclass(frozen=True)
class Failure:
    """A cell that is not finished and has failed.

    Attributes:
        key: key of the cell.
        choice: its settings from the grid: dotted field -> value.
        attempts: all attempts, the oldest first.
    """

    key: str
    choice: Mapping[str, Any]
    attempts: tuple[Attempt, ...]

    def line(self) -> str:
        """The cell, and how its last attempt ended, in one line."""
        last, tries = self.attempts[-1], len(self.attempts)
        times = f", {tries} attempts" if tries > 1 else ""
        return f"{said(self.choice)}: {last.status}: {last.reason}{times} [{self.key}]"

    def record(self) -> dict[str, Any]:
        """The failure as plain values, see docs/cli.md."""
        attempts = [
            {"status": a.status, "reason": a.reason, "at": a.when}
            for a in self.attempts
        ]
        return {"key": self.key, "choice": self.choice, "attempts": attempts}


@dataclass(frozen=True)
class Status:
    """The progress of one plan.

    Attributes:
        name: name of the sweep.
        cells: number of its cells.
        done: number of finished cells.
        failures: cells that failed and are not finished.
    """

    name: str
    cells: int
    done: int
    failures: tuple[Failure, ...]

    @property
    def waiting(self) -> int:
        """Number of cells that were not tried yet, or are being computed."""
        return self.cells - self.done - len(self.failures)

    def record(self) -> dict[str, Any]:
        """The progress as plain values, see docs/cli.md."""
        return {
            "name": self.name,
            "cells": self.cells,
            "done": self.done,
            "waiting": self.waiting,
            "failed": [failure.record() for failure in self.failures],
        }


def status(store: Store) -> list[Status]:
    """The progress of every plan in a store, the oldest first."""
    finished, tried = set(store.finished()), set(store.failures())
    found = []
    for plan in store.plans():
        failures = []
        for cell in plan["cells"]:
            key = cell["key"]
            if key in tried and key not in finished:
                attempts = tuple(store.attempts(key))
                if attempts:
                    failures.append(Failure(key, cell["choice"], attempts))
        done = sum(cell["key"] in finished for cell in plan["cells"])
        cells = len(plan["cells"])
        found.append(Status(plan["name"], cells, done, tuple(failures)))
    return found
