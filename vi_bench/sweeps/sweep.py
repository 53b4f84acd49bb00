"""Run a grid of cells into a store: what is finished stays finished.

Cells are independent. One that fails, dies or takes too long is noted, and the others
go on; the same command later runs what is not finished.
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
from vi_bench.data.load import load
from vi_bench.errors import InputError, SweepError
from vi_bench.runtime.provenance import provenance
from vi_bench.sweeps.crew import Answer, Crew, Job, Makers
from vi_bench.sweeps.grid import Point, Sweep, key_of, points, said, versions
from vi_bench.sweeps.index import refresh
from vi_bench.sweeps.scheduler import Scheduler
from vi_bench.sweeps.store import STORE, Damaged, Full, Store
from vi_bench.sweeps.work import CELL


@dataclass(frozen=True)
class Cell:
    """A cell that is to be there in the end.

    Attributes:
        key: what identifies it.
        point: of the grid.
        sha256: of its data.
        kind: of its device.
    """

    key: str
    point: Point
    sha256: str
    kind: str


@dataclass
class Progress:
    """How far a sweep is.

    Attributes:
        cells: of this sweep, or of this shard of it.
        there: finished before it began.
        done: by it.
        failed: by it, by key: why.
        left: failed before and not tried again.
        elsewhere: being made by another process.
    """

    cells: int
    there: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    elsewhere: int = 0

    @property
    def ended(self) -> int:
        """Cells about which nothing more is to be done."""
        return self.there + self.done + len(self.failed) + self.left + self.elsewhere

    def note(self, job: Job, answer: Answer) -> str:
        """Count a cell that has ended; a line about it if it failed.

        Raises:
            Full: the disk is.
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
        """All of it in a line."""
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
        """Whether no cell is without an answer because it failed."""
        return not self.failed and not self.left

    def record(self) -> dict[str, Any]:
        """As plain values, see docs/cli.md."""
        return asdict(self) | {
            "failed": [{"key": k, "reason": why} for k, why in self.failed.items()]
        }


@dataclass(frozen=True)
class Forecast:
    """What a sweep would do.

    Attributes:
        cells: of this sweep, or of this shard of it.
        there: finished already.
        seconds: that the others may take; None where nothing tells.
        finished: cells that this estimate rests on.
    """

    cells: int
    there: int
    seconds: float | None
    finished: int

    well = True
    """Nothing was run, so nothing has failed."""

    @property
    def left(self) -> int:
        """Cells to be run."""
        return self.cells - self.there

    def line(self) -> str:
        """All of it in a line."""
        found = f"{self.cells} cells, {self.there} there, {self.left} to run"
        if not self.left:
            return found
        if self.seconds is None:
            return f"{found}; no finished cell to tell from how long that takes"
        took = f"as {self.finished} finished cells took"
        return f"{found}; about {self.seconds:.0f} s, {took}"

    def record(self) -> dict[str, Any]:
        """As plain values, see docs/cli.md."""
        return {
            "cells": self.cells,
            "there": self.there,
            "to_run": self.left,
            "seconds": self.seconds,
            "finished": self.finished,
        }


Tell = Callable[[Progress, str], None]
"""Told of the progress after each cell, with a line about that one or an empty one."""


Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Asks where JAX is loaded: `work.answer`."""

FREE = {"name", "seed", "chains", "draws", "repeats", "margin", "sd_margin"}
"""Fields of a spec on which it does not depend whether it can be run."""


def plan(sweep: Sweep, ask: Ask) -> list[Cell]:
    """All cells of a sweep, those with one answer once.

    Raises:
        InputError: a combination, data or a device cannot be used.
    """
    data: dict[tuple[str, bool], str] = {}
    kinds: dict[str, str] = {}
    packages = versions()
    found: dict[str, Cell] = {}
    for point in points(sweep):
        spec = point.spec
        at = (spec.data, spec.stream)
        if at not in data:
            data[at] = load(spec.data, stream=spec.stream).sha256
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
    """Refuse settings, and data, that a run would refuse.

    Raises:
        InputError: the first combination that cannot be run, and why.
    """
    distinct: dict[str, Point] = {}
    for point in wanted:
        fields = point.spec.model_dump(mode="json", exclude=FREE)
        distinct.setdefault(json.dumps(fields), point)
    # those of one table stand together: it is read once
    some = sorted(distinct.values(), key=lambda p: (p.spec.data, p.spec.stream))
    specs = [point.spec.model_dump(mode="json") for point in some]
    found = ask({"specs": specs, "plugins": catalogue.files()})
    if "refused" in found:
        choice = said(some[found["index"]].choice)
        raise SweepError(f"sweep {sweep.name!r}, {choice}: {found['refused']}")


def described(sweep: Sweep, cells: Sequence[Cell]) -> dict[str, Any]:
    """A plan as plain values: the sweep, and key and choice of every cell."""
    return sweep.model_dump(mode="json") | {
        "cells": [{"key": c.key, "choice": dict(c.point.choice)} for c in cells]
    }


def shard(cells: Sequence[Cell], index: int, of: int) -> list[Cell]:
    """Part `index`, from 1, of `of` parts."""
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
    """Make every cell that is not there yet.

    Args:
        sweep: what is to be there.
        folder: of the store; begun where it does not exist.
        jobs: cells at once; by default one a core.
        timed: one cell at a time, each in a fresh process.
        timeout: seconds that one cell may take.
        retry: try cells again that failed before.
        repair: read every byte of the finished cells; damaged ones are put aside and
            made again.
        part: (i, n): only the i-th of n parts, from 1.
        scheduler: address of a Dask scheduler whose workers make the cells; the folder
            is one that they all see.
        tell: told of the progress.

    Raises:
        InputError: something given cannot be used; nothing was run.
        Full: the disk is; finished cells are safe.
        Lost: the scheduler; likewise.
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
        # what else a cluster does at the same time nobody here knows
        shared = not timed and (makers.size > 1 or scheduler is not None)
        given = (job_of(store, cell, shared) for cell in todo)
        for job, answer in makers.each(given, timeout):
            tell(progress, progress.note(job, answer))
    except BaseException:
        makers.kill()
        raise
    makers.end()
    with suppress(InputError):  # the index can be made later
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
    """How many cells a sweep has, and how long what is left may take; runs nothing.

    The estimate is the mean time of this folder's finished cells.
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
    """Seconds that some finished cells took."""
    found = []
    for key in itertools.islice(store.finished(), most):
        with suppress(Damaged, ValueError, KeyError):
            found.append(float(json.loads(store.read(key, CELL))["seconds"]))
    return found


def job_of(store: Store, cell: Cell, shared: bool) -> Job:
    """What `work.cell` is told; `shared` where other cells run at the same time."""
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
