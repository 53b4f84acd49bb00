"""Who makes cells: worker processes of this machine, each given one cell at a time."""

from __future__ import annotations

import itertools
import os
import selectors
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from vi_bench.errors import SweepError
from vi_bench.sweeps.pool import Died, Worker
from vi_bench.sweeps.store import Store

Job = dict[str, Any]
"""What `work.cell` takes."""

Answer = dict[str, Any]
"""How a cell ended: "status" and, where it is no success, "reason".

The status is done, there (it was before), elsewhere (another process makes it), full
(the disk), failed, crashed or timed out; the last three are in the store, too.
"""


class Makers(Protocol):
    """Who makes a sweep's cells."""

    @property
    def size(self) -> int:
        """Cells at once."""

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What a worker answers to one of the questions of `work.answer`.

        Raises:
            InputError: none answers.
        """

    def each(
        self, jobs: Iterable[Job], timeout: float | None
    ) -> Iterator[tuple[Job, Answer]]:
        """Every job with how it ended, in the order in which they end."""

    def kill(self) -> None:
        """End all, now."""

    def end(self) -> None:
        """Let all end."""


class Crew:
    """Worker processes of this machine."""

    def __init__(self, size: int | None = None, fresh: bool = False) -> None:
        """With `fresh` every cell has a process of its own; by default one a core."""
        self.size = size or len(os.sched_getaffinity(0))
        self.fresh = fresh
        self.workers: list[Worker] = []

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Of the first worker: this process loads no JAX."""
        if not self.workers:
            self.workers.append(Worker())
        worker = self.workers[0]
        worker.devices = 1  # once JAX is asked a processor cannot be split any more
        worker.give(question)
        try:
            return worker.answer()
        except Died as died:
            raise SweepError(f"a worker could not be asked: {died}") from None

    def each(
        self, jobs: Iterable[Job], timeout: float | None
    ) -> Iterator[tuple[Job, Answer]]:
        """Every worker is given its next job when it has answered."""
        waiting, at_work = iter(jobs), dict[Worker, Job]()
        while True:
            for job in itertools.islice(waiting, self.size - len(at_work)):
                worker = self._free(int(job["spec"]["devices"]), at_work)
                worker.give(job)
                at_work[worker] = job
            if not at_work:
                return
            for worker in answered(at_work, timeout):
                job = at_work.pop(worker)
                yield job, self._answer(worker, job, timeout)

    def _free(self, devices: int, at_work: dict[Worker, Job]) -> Worker:
        """A worker that is warm, or a new one."""
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

    def _answer(self, worker: Worker, job: Job, timeout: float | None) -> Answer:
        """How a cell ended whose worker has answered, died or taken too long."""
        took = time.monotonic() - worker.since
        try:
            if timeout is not None and took >= timeout and not has_answer(worker):
                status, reason = "timed out", f"took over {timeout:g} s"
            else:
                found = worker.answer()
                if self.fresh:
                    self._dismiss(worker)
                return found
        except Died as died:
            status, reason = "crashed", str(died)
        self._dismiss(worker)
        store = Store(job["folder"], create=False)
        if store.has(job["key"]):  # it ended after the last byte was safe
            return {"status": "done"}
        store.fail(job["key"], status, reason, seconds=took)
        return {"status": status, "reason": reason}

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


def answered(at_work: dict[Worker, Job], timeout: float | None) -> list[Worker]:
    """Waits for, and gives, those that have answered, died, or taken too long."""
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


def has_answer(worker: Worker) -> bool:
    """Whether there is something to be read, or it has died."""
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        return bool(selector.select(0))
