"""Who makes cells: the machines of a Dask cluster.

A task writes its cell into the store itself, and only how it ended comes back. Within a
task the cell is made by a worker process as it is on one machine: what it crashes or
how long it takes is no affair of the cluster. A task that the cluster loses with its
machine is given to another one; the cell's lock has ended with its process.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vi_bench.errors import InputError, SweepError, one_line
from vi_bench.sweeps.crew import Answer, Crew, Job
from vi_bench.sweeps.store import Store

AHEAD = 2
"""Tasks that the cluster is given for every thread of its workers."""

PATIENCE = 10.0
"""Seconds until a scheduler has to answer."""


class Lost(Exception):
    """The cluster is gone; what is finished is in the store."""


_idle: list[Crew] = []
"""In a process of the cluster: worker processes that wait for a cell."""


class Scheduler:
    """A Dask cluster that is there already."""

    def __init__(self, address: str, timed: bool = False) -> None:
        """Connect; with `timed` every cell has a fresh process and no other beside it.

        Raises:
            InputError: Dask is not installed, or nobody answers at the address.
        """
        try:
            from distributed import Client
            from distributed.comm import get_address_host_port, parse_address
        except ImportError:
            raise SweepError(
                f"--scheduler {address}: Dask is not installed: "
                "pip install 'vi-bench[cluster]'"
            ) from None
        try:
            if parse_address(address)[0] in {"tcp", "tls"}:
                # Dask would leave a thread behind for every try
                where = get_address_host_port(address)
                socket.create_connection(where, timeout=PATIENCE).close()
            self.client: Any = Client(
                address, timeout=PATIENCE, set_as_default=False, name="vi-bench"
            )
        # what it asserts is that its thread runs within 10 s
        except (OSError, ValueError, AssertionError) as error:
            raise SweepError(
                f"--scheduler {address}: no Dask scheduler answers there; expected "
                f"tcp://HOST:PORT ({type(error).__name__})"
            ) from None
        self.address, self.timed = address, timed
        for name in ("distributed", "distributed.client"):
            # it tells of a lost connection by tracebacks; here that is one line
            logging.getLogger(name).setLevel(logging.CRITICAL)

    @property
    def size(self) -> int:
        """Threads of the cluster's workers; at least 1, as they may still come."""
        return 1 if self.timed else max(1, sum(self.client.nthreads().values()))

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Of one of the cluster's workers: they are taken to be alike.

        A cell that finds another kind of device where it is made is refused there.
        """
        where = f"--scheduler {self.address}"
        if not self.client.nthreads():
            raise SweepError(f"{where}: has no workers yet; expected at least one")
        try:
            task = self.client.submit(ask, dict(question), pure=False)
            return dict(task.result())
        except Exception as error:
            raise SweepError(
                f"{where}: its workers cannot run vi_bench: {one_line(error)}"
            ) from None

    def each(
        self, jobs: Iterable[Job], timeout: float | None
    ) -> Iterator[tuple[Job, Answer]]:
        """The cluster has AHEAD times as many jobs as it can do at once, no more.

        Raises:
            Lost: the scheduler does not answer any more.
        """
        from distributed import as_completed

        waiting, given = iter(jobs), dict[Any, Job]()
        ended = as_completed(loop=self.client.loop)

        def give() -> None:
            try:
                most = 1 if self.timed else AHEAD * self.size
            except OSError:
                raise self._lost() from None
            for job in itertools.islice(waiting, max(0, most - len(given))):
                task = self.client.submit(
                    perform, job, timeout, self.timed, pure=False, retries=0
                )
                given[task] = job
                ended.add(task)

        give()
        for task in ended:
            job = given.pop(task)
            yield job, self._answer(task, job)
            give()

    def _answer(self, task: Any, job: Job) -> Answer:
        if task.cancelled():
            raise self._lost()
        error = task.exception()
        if error is None:
            found: Answer = task.result()
            return found
        store = Store(job["folder"], create=False)
        if store.has(job["key"]):
            return {"status": "done"}
        status = "crashed"
        reason = f"on the cluster: {one_line(error)}"
        store.fail(job["key"], status, reason, seconds=0.0)
        return {"status": status, "reason": reason}

    def _lost(self) -> Lost:
        return Lost(f"the scheduler at {self.address} does not answer any more")

    def kill(self) -> None:
        """Take back what is not done."""
        self.client.close()

    def end(self) -> None:
        """Leave the cluster as it was."""
        self.client.close()


def ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """A task: what a worker process answers there."""
    crew = _idle.pop() if _idle else Crew(1)
    try:
        return crew.ask(question)
    finally:
        _idle.append(crew)


def perform(job: Job, timeout: float | None, fresh: bool) -> Answer:
    """A task: make one cell, in a process beside the cluster's own."""
    crew = Crew(1, fresh) if fresh or not _idle else _idle.pop()
    try:
        ((_, answer),) = crew.each([job], timeout)
    except InputError as error:  # the store is not there
        return {"status": "failed", "reason": f"on the cluster: {error}"}
    finally:
        if fresh:
            crew.kill()
        else:
            _idle.append(crew)
    return answer
