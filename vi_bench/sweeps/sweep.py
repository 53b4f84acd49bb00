"""Run the cells of a sweep and store each finished one.

Cells fail independently: one that fails, crashes or takes too long is recorded, and the
others go on. The same command run later computes the cells that are not finished.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.errors import InputError, SweepError
from vi_bench.runner.launch import data_of
from vi_bench.runtime.provenance import provenance
from vi_bench.sweeps.crew import Answer, Crew, Job, Makers
from vi_bench.sweeps.grid import Point, Sweep, key_of, points, said, versions
from vi_bench.sweeps.index import refresh
from vi_bench.sweeps.scheduler import Scheduler
from vi_bench.sweeps.store import STORE, Damaged, Full, Store
from vi_bench.sweeps.work import CELL


@dataclass(frozen=True)
class Cell:
    """A planned cell.

    Attributes:
        key: its key, see `key_of`.
        point: its settings from the grid, and its spec.
        sha256: SHA-256 of its data.
        kind: kind of its device.
    """

    key: str
    point: Point
    sha256: str
    kind: str


@dataclass
class Progress:
    """The progress of a sweep, in numbers of cells.

    Attributes:
        cells: cells of this sweep, or of this shard of it.
        there: cells that were finished before it began.
        done: cells that it has finished.
        failed: key -> reason, of cells that failed.
        left: cells that failed before and are not tried again.
        elsewhere: cells that another process is computing.
    """

    cells: int
    there: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    elsewhere: int = 0

    @property
    def ended(self) -> int:
        """Number of cells for which nothing is left to do here."""
        return self.there + self.done + len(self.failed) + self.left + self.elsewhere

    def note(self, job: Job, answer: Answer) -> str:
        """Count a cell that has ended; returns a line if it failed, else an empty one.

        Raises:
            Full: no disk space is left.
        """
        match answer["status"]:
            case "done":
                self.done += 1
            case "there":
                self.there += 1
            case "elsewhere":
                self.elsewhere += 1
            case "full":
                raise Full(answer["reason"])
            case status:
                self.failed[job["key"]] = answer["reason"]
                return f"{said(job['choice'])}: {status}: {answer['reason']}"
        return ""

    def line(self) -> str:
        """The progress in one line."""
        parts = {
            "done": self.done,
            "there before": self.there,
            "failed": len(self.failed),
            "failed before (--retry tries them again)": self.left,
            "made by another process": self.elsewhere,
        }
        said = [f"{n} {word}" for word, n in parts.items() if n]
        return f"{self.cells} cells: {', '.join(said) or 'nothing done'}"

    @property
    def well(self) -> bool:
        """Whether no cell has failed."""
        return not self.failed and not self.left

    def record(self) -> dict[str, Any]:
        """The progress as plain values, see docs/cli.md."""
        return asdict(self) | {
            "failed": [{"key": k, "reason": why} for k, why in self.failed.items()]
        }


@dataclass(frozen=True)
class Forecast:
    """The size of a sweep, and the time that it may take.

    Attributes:
        cells: cells of this sweep, or of this shard of it.
        there: cells that are finished already.
        seconds: estimated time for the others; None without any finished cell.
        finished: number of finished cells that the estimate rests on.
    """

    cells: int
    there: int
    seconds: float | None
    finished: int

    well = True
    """As in `Progress`; a forecast runs nothing, so nothing has failed."""

    @property
    def left(self) -> int:
        """Number of cells to be run."""
        return self.cells - self.there

    def line(self) -> str:
        """The forecast in one line."""
        found = f"{self.cells} cells, {self.there} there, {self.left} to run"
        if not self.left:
            return found
        if self.seconds is None:
            return f"{found}; no finished cell to tell from how long that takes"
        took = f"as {self.finished} finished cells took"
        return f"{found}; about {self.seconds:.0f} s, {took}"

    def record(self) -> dict[str, Any]:
        """The forecast as plain values, see docs/cli.md."""
        return {
            "cells": self.cells,
            "there": self.there,
            "to_run": self.left,
            "seconds": self.seconds,
            "finished": self.finished,
        }


Tell = Callable[[Progress, str], None]
"""Called after each cell with the progress, and a line on that cell if it failed."""


Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Puts a question, see `work.answer`, to a process that has loaded JAX."""

FREE = {"name", "seed", "chains", "draws", "repeats", "margin", "sd_margin"}
"""Fields of a spec that have no influence on whether it can be run."""


def plan(sweep: Sweep, ask: Ask) -> list[Cell]:
    """All cells of a sweep; combinations with the same key are one cell.

    Raises:
        InputError: a combination, data or a device cannot be used.
    """
    data: dict[tuple[Any, ...], str] = {}
    kinds: dict[str, str] = {}
    packages = versions()
    found: dict[str, Cell] = {}
    for point in points(sweep):
        spec = point.spec
        at = (spec.data, spec.stream, spec.layout, spec.numpyro)
        if at not in data:
            data[at] = data_of(spec).sha256
        if spec.device not in kinds:
            answer = ask({"device": spec.device})
            if "refused" in answer:
                raise SweepError(answer["refused"])
            kinds[spec.device] = str(answer["kind"])
        key = key_of(spec, data[at], kinds[spec.device], packages)
        found.setdefault(key, Cell(key, point, data[at], kinds[spec.device]))
    check_specs(sweep, [cell.point for cell in found.values()], ask)
    return list(found.values())


def check_specs(sweep: Sweep, wanted: Sequence[Point], ask: Ask) -> None:
    """Check that every combination has settings and data that a run accepts.

    Raises:
        InputError: the first combination that cannot be run, and why.
    """
    distinct: dict[str, Point] = {}
    for point in wanted:
        fields = point.spec.model_dump(mode="json", exclude=FREE)
        distinct.setdefault(json.dumps(fields), point)
    # sorted by data, so that each table is read only once
    some = sorted(distinct.values(), key=lambda p: (p.spec.data, p.spec.stream))
    specs = [point.spec.model_dump(mode="json") for point in some]
    found = ask({"specs": specs, "plugins": catalogue.files()})
    if "refused" in found:
        choice = said(some[found["index"]].choice)
        raise SweepError(f"sweep {sweep.name!r}, {choice}: {found['refused']}")


def described(sweep: Sweep, cells: Sequence[Cell]) -> dict[str, Any]:
    """A plan as plain values: the sweep, and the key and choice of each cell."""
    return sweep.model_dump(mode="json") | {
        "cells": [{"key": c.key, "choice": dict(c.point.choice)} for c in cells]
    }


def shard(cells: Sequence[Cell], index: int, of: int) -> list[Cell]:
    """Part number `index`, from 1, of the cells in `of` parts.

    Raises:
        InputError: there is no such part.
    """
    if not 1 <= index <= of:
        raise SweepError(f"shard {index}/{of}: expected 1/{of} to {of}/{of}")
    return list(cells[index - 1 :: of])


def run_sweep(
    sweep: Sweep,
    folder: Path | str,
    *,
    jobs: int | None = None,
    timed: bool = False,
    timeout: float | None = None,
    retry: bool = False,
    repair: bool = False,
    part: tuple[int, int] = (1, 1),
    scheduler: str | None = None,
    tell: Tell = lambda progress, line: None,
) -> Progress:
    """Compute and store every cell of a sweep that is not finished yet.

    Args:
        sweep: the sweep.
        folder: folder of the store; created if it does not exist.
        jobs: cells computed at once; by default one per core.
        timed: one cell at a time, each in a fresh process.
        timeout: seconds that one cell may take; None for no limit.
        retry: try cells again that failed before.
        repair: check every byte of the finished cells; damaged ones are put aside and
            computed again.
        part: (i, n): only the i-th of n parts, from 1.
        scheduler: address of a Dask scheduler whose workers compute the cells; they all
            have to see the folder.
        tell: called with the progress.

    Raises:
        InputError: an argument cannot be used; nothing was run.
        Full: no disk space is left; finished cells are stored.
        Lost: the scheduler does not answer any more; finished cells are stored.
    """
    if timeout is not None and not timeout > 0:
        raise SweepError(f"cell timeout = {timeout}: expected seconds over 0")
    makers = _makers(jobs, timed, scheduler)
    try:
        planned = plan(sweep, makers.ask)
        cells = shard(planned, *part)
        store = Store(folder)
        store.plan(described(sweep, planned))
        store.clean()
        progress = Progress(len(cells))
        todo = []
        for cell in cells:
            if repair and store.has(cell.key) and store.damage(cell.key):
                store.put_aside(cell.key)
                todo.append(cell)
            elif store.has(cell.key):
                progress.there += 1
            elif not retry and store.attempts(cell.key):
                progress.left += 1
            else:
                todo.append(cell)
        tell(progress, "")
        # a cluster may have other work at the same time
        shared = not timed and (makers.size > 1 or scheduler is not None)
        given = (job_of(store, cell, shared) for cell in todo)
        for job, answer in makers.each(given, timeout):
            tell(progress, progress.note(job, answer))
    except BaseException:
        makers.kill()
        raise
    makers.end()
    with suppress(InputError):  # the index can be rebuilt later
        refresh(store)
    return progress


def foresee(
    sweep: Sweep,
    folder: Path | str,
    *,
    jobs: int | None = None,
    timed: bool = False,
    part: tuple[int, int] = (1, 1),
    scheduler: str | None = None,
) -> Forecast:
    """Estimate the number of cells to run, and the time that takes; runs none.

    The estimate uses the mean time of the folder's finished cells.

    Raises:
        InputError: an argument cannot be used.
    """
    makers = _makers(jobs, timed, scheduler)
    try:
        cells = shard(plan(sweep, makers.ask), *part)
        size = makers.size
    finally:
        makers.kill()
    there, times = 0, list[float]()
    if (Path(folder) / STORE).is_file():
        store = Store(folder, create=False)
        there = sum(store.has(cell.key) for cell in cells)
        times = _times(store)
    left = len(cells) - there
    seconds = left * sum(times) / len(times) / size if times else None
    return Forecast(len(cells), there, seconds, len(times))


def _makers(jobs: int | None, timed: bool, scheduler: str | None) -> Makers:
    if jobs is not None and jobs < 1:
        raise SweepError(f"jobs = {jobs}: expected at least 1")
    if scheduler is None:
        return Crew(1 if timed else jobs, timed)
    if jobs is not None:
        raise SweepError(f"jobs = {jobs}: a cluster's size is its own")
    return Scheduler(scheduler, timed)


def _times(store: Store, most: int = 1000) -> list[float]:
    """Seconds that finished cells took, of at most so many."""
    found = []
    for key in itertools.islice(store.finished(), most):
        with suppress(Damaged, ValueError, KeyError):
            found.append(float(json.loads(store.read(key, CELL))["seconds"]))
    return found


def job_of(store: Store, cell: Cell, shared: bool) -> Job:
    """The job of a cell for `work.cell`; `shared`: other cells run at the same time."""
    return {
        "folder": str(store.folder.absolute()),
        "key": cell.key,
        "spec": cell.point.spec.model_dump(mode="json"),
        "sha256": cell.sha256,
        "choice": dict(cell.point.choice),
        "planned": {"kind": cell.kind, **versions()},
        "shared": shared,
        "command": provenance()["command"],
        "plugins": catalogue.files(),
    }
