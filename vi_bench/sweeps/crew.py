"""Worker processes of this machine that compute cells, each one cell at a time."""

from __future__ import annotations

import itertools
import selectors
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from vi_bench.errors import SweepError
from vi_bench.runtime.provenance import cores
from vi_bench.sweeps.pool import Died, Worker
from vi_bench.sweeps.store import Store

Job = dict[str, Any]
"""A cell to be computed: the argument of `work.cell`."""

Answer = dict[str, Any]
"""How a cell ended: "status" and, if it did not succeed, "reason".

The status is done, there (finished before), elsewhere (another process computes it),
full (no disk space), failed, crashed or timed out; the last three are stored, too.
"""


class Makers(Protocol):
    """Something that computes a sweep's cells."""

    @property
    def size(self) -> int:
        """Number of cells computed at once."""

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """A worker's answer to one of the questions of `work.answer`.

        Raises:
            InputError: no worker answers.
        """

    def each(
        self, jobs: Iterable[Job], timeout: float | None
    ) -> Iterator[tuple[Job, Answer]]:
        """Compute every job; yields each with how it ended, in the order of ending."""

    def kill(self) -> None:
        """End all work at once."""

    def end(self) -> None:
        """Release the workers once there is no more work."""


class Crew:
    """Worker processes of this machine."""

    def __init__(self, size: int | None = None, fresh: bool = False) -> None:
        """Set up `size` processes, one per core by default; `fresh`: one per cell."""
        self.size = size or cores() or 1
        self.fresh = fresh
        self.workers: list[Worker] = []

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the first worker, as this process does not load JAX."""
        if not self.workers:
            self.workers.append(Worker())
        worker = self.workers[0]
        worker.devices = 1  # JAX, once asked, can no longer split the CPU
        worker.give(question)
        try:
            return worker.answer()
        except Died as died:
            raise SweepError(f"a worker could not be asked: {died}") from None

    def each(
        self, jobs: Iterable[Job], timeout: float | None
    ) -> Iterator[tuple[Job, Answer]]:
        """Compute every job: a worker gets its next job when it has answered."""
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
        """An idle worker with its CPU split into so many devices, or a new one."""
        for worker in [w for w in self.workers if w not in at_work]:
            # a process can split its CPU into devices only once
            if worker.devices in (None, devices):
                worker.devices = devices
                return worker
            self._dismiss(worker)
        worker = Worker()
        worker.devices = devices
        self.workers.append(worker)
        return worker

    def _answer(self, worker: Worker, job: Job, timeout: float | None) -> Answer:
        """How a cell ended, once its worker has answered, died or timed out."""
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
        if store.has(job["key"]):  # it was stored before the worker died
            return {"status": "done"}
        store.fail(job["key"], status, reason, seconds=took)
        return {"status": status, "reason": reason}

    def _dismiss(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.kill()

    def kill(self) -> None:
        """Kill all workers at once."""
        for worker in self.workers:
            worker.kill()

    def end(self) -> None:
        """Let all workers end: there is no more work."""
        for worker in self.workers:
            worker.end()


def answered(at_work: dict[Worker, Job], timeout: float | None) -> list[Worker]:
    """Wait for workers that have answered, died or timed out, and return them."""
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
    """Whether a worker has answered or died, without waiting."""
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        return bool(selector.select(0))
