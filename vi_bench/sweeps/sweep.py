"""Run a grid of cells into a store: what is finished stays finished.

Cells are independent. One that fails, dies or takes too long is noted, and the others
go on; the same command later runs what is not finished.
"""

from __future__ import annotations

import itertools
import json
import os
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.data import load
from vi_bench.errors import InputError
from vi_bench.provenance import provenance
from vi_bench.sweeps.grid import Point, Sweep, key_of, points, said, versions
from vi_bench.sweeps.index import refresh
from vi_bench.sweeps.pool import Died, Worker
from vi_bench.sweeps.store import STORE, Damaged, Full, Store
from vi_bench.sweeps.work import CELL


@dataclass(frozen=True)
class Cell:
    """A cell that is to be there in the end.

    Attributes:
        key: what identifies it.
        point: of the grid.
        sha256: of its data.
    """

    key: str
    point: Point
    sha256: str


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


Tell = Callable[[Progress, str], None]
"""Told of the progress after each cell, with a line about that one or an empty one."""


def plan(sweep: Sweep, device: Callable[[str], str]) -> list[Cell]:
    """All cells of a sweep, those with one answer once.

    Args:
        sweep: whose.
        device: a spec's `device` -> its kind here.

    Raises:
        InputError: a combination, or data, cannot be used.
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
            kinds[spec.device] = device(spec.device)
        key = key_of(spec, data[at], kinds[spec.device], packages)
        found.setdefault(key, Cell(key, point, data[at]))
    return list(found.values())


def described(sweep: Sweep, cells: Sequence[Cell]) -> dict[str, Any]:
    """A plan as plain values: the sweep, and key and choice of every cell."""
    return sweep.model_dump(mode="json") | {
        "cells": [{"key": c.key, "choice": dict(c.point.choice)} for c in cells]
    }


def shard(cells: Sequence[Cell], index: int, of: int) -> list[Cell]:
    """Part `index`, from 1, of `of` parts."""
    if not 1 <= index <= of:
        raise InputError(f"shard {index}/{of}: expected 1/{of} to {of}/{of}")
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
        tell: told of the progress.

    Raises:
        InputError: something given cannot be used; nothing was run.
        Full: the disk is; finished cells are safe.
    """
    if timeout is not None and not timeout > 0:
        raise InputError(f"cell timeout = {timeout}: expected seconds over 0")
    crew = _Crew(_size(jobs, timed), timed)
    try:
        planned = plan(sweep, crew.device)
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
        crew.run(store, todo, timeout, progress, tell)
    except BaseException:
        crew.kill()
        raise
    crew.end()
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
) -> str:
    """How many cells a sweep has, and how long what is left may take; runs nothing.

    The estimate is the mean time of this folder's finished cells.
    """
    crew = _Crew(_size(jobs, timed), timed)
    try:
        cells = shard(plan(sweep, crew.device), *part)
    finally:
        crew.kill()
    there, times = 0, list[float]()
    if (Path(folder) / STORE).is_file():
        store = Store(folder, create=False)
        there = sum(store.has(cell.key) for cell in cells)
        times = _times(store)
    left = len(cells) - there
    found = f"{len(cells)} cells, {there} there, {left} to run"
    if not left:
        return found
    if not times:
        return f"{found}; no finished cell to tell from how long that takes"
    seconds = left * sum(times) / len(times) / crew.size
    return f"{found}; about {seconds:.0f} s, as {len(times)} finished cells took"


def _size(jobs: int | None, timed: bool) -> int:
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs = {jobs}: expected at least 1")
    return 1 if timed else jobs or len(os.sched_getaffinity(0))


def _times(store: Store, most: int = 1000) -> list[float]:
    """Seconds that some finished cells took."""
    found = []
    for key in itertools.islice(store.finished(), most):
        with suppress(Damaged, ValueError, KeyError):
            found.append(float(json.loads(store.read(key, CELL))["seconds"]))
    return found


class _Crew:
    """The workers of one sweep."""

    def __init__(self, size: int, fresh: bool) -> None:
        self.size, self.fresh = size, fresh
        self.workers: list[Worker] = []

    def device(self, name: str) -> str:
        """The kind of a device, by asking a worker: this process loads no JAX."""
        if not self.workers:
            self.workers.append(Worker())
        worker = self.workers[0]
        worker.devices = 1  # once JAX is asked a processor cannot be split any more
        worker.give({"device": name})
        try:
            found = worker.answer()
        except Died as died:
            raise InputError(
                f"device {name!r} could not be asked for: {died}"
            ) from None
        if "refused" in found:
            raise InputError(found["refused"])
        return str(found["kind"])

    def run(
        self,
        store: Store,
        todo: Iterable[Cell],
        timeout: float | None,
        progress: Progress,
        tell: Tell,
    ) -> None:
        """Give out cells until none is left and every worker has answered."""
        waiting, at_work = iter(todo), dict[Worker, Cell]()
        shared = self.size > 1
        more = True
        while more or at_work:
            while more and len(at_work) < self.size:
                cell = next(waiting, None)
                if cell is None:
                    more = False
                    break
                worker = self._free(cell, at_work)
                worker.give(_job(store, cell, shared))
                at_work[worker] = cell
            for worker in self._answered(at_work, timeout):
                cell = at_work.pop(worker)
                self._settle(store, worker, cell, timeout, progress, tell)

    def _free(self, cell: Cell, at_work: dict[Worker, Cell]) -> Worker:
        """A worker that is warm, or a new one."""
        devices = cell.point.spec.devices
        for worker in [w for w in self.workers if w not in at_work]:
            # a processor is split into devices once in the life of a process
            if worker.devices in (None, devices):
                worker.devices = devices
                return worker
            self._dismiss(worker)
        worker = Worker()
        worker.devices = devices
        self.workers.append(worker)
        return worker

    def _answered(
        self, at_work: dict[Worker, Cell], timeout: float | None
    ) -> list[Worker]:
        """Those that have answered, died, or taken too long."""
        if not at_work:
            return []
        wait = None
        if timeout is not None:
            ends = min(w.since for w in at_work) + timeout
            wait = max(0.0, ends - time.monotonic())
        with selectors.DefaultSelector() as selector:
            for worker in at_work:
                selector.register(worker, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(wait)]
        now = time.monotonic()
        return [
            w
            for w in at_work
            if w in ready or (timeout is not None and now - w.since >= timeout)
        ]

    def _settle(
        self,
        store: Store,
        worker: Worker,
        cell: Cell,
        timeout: float | None,
        progress: Progress,
        tell: Tell,
    ) -> None:
        """Note how a cell ended."""
        took = time.monotonic() - worker.since
        choice = said(cell.point.choice)
        if timeout is not None and took >= timeout and not _has_answer(worker):
            self._dismiss(worker)
            reason = f"took over {timeout:g} s"
            store.fail(cell.key, "timed out", reason, seconds=took)
            progress.failed[cell.key] = reason
            tell(progress, f"{choice}: timed out: {reason}")
            return
        try:
            found = worker.answer()
        except Died as died:
            self._dismiss(worker)
            if store.has(cell.key):  # it died after the last byte was safe
                progress.done += 1
                tell(progress, "")
                return
            store.fail(cell.key, "crashed", str(died), seconds=took)
            progress.failed[cell.key] = str(died)
            tell(progress, f"{choice}: crashed: {died}")
            return
        if self.fresh:
            self._dismiss(worker)
        match found["status"]:
            case "done":
                progress.done += 1
                tell(progress, "")
            case "there":
                progress.there += 1
                tell(progress, "")
            case "elsewhere":
                progress.elsewhere += 1
                tell(progress, "")
            case "full":
                raise Full(found["reason"])
            case _:
                progress.failed[cell.key] = found["reason"]
                tell(progress, f"{choice}: failed: {found['reason']}")

    def _dismiss(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.kill()

    def kill(self) -> None:
        """End all, now."""
        for worker in self.workers:
            worker.kill()

    def end(self) -> None:
        """Let all end."""
        for worker in self.workers:
            worker.end()


def _has_answer(worker: Worker) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        return bool(selector.select(0))


def _job(store: Store, cell: Cell, shared: bool) -> dict[str, Any]:
    return {
        "folder": str(store.folder.absolute()),
        "key": cell.key,
        "spec": cell.point.spec.model_dump(mode="json"),
        "sha256": cell.sha256,
        "choice": dict(cell.point.choice),
        "shared": shared,
        "command": provenance()["command"],
        "plugins": catalogue.files(),
    }
