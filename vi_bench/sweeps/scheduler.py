"""Compute cells on the machines of a Dask cluster.

A task writes its cell into the store itself and returns only how that ended. Within a
task a worker process computes the cell, as on a single machine, so that a crash or a
time limit does not affect the cluster. A task that is lost with its machine is given to
another one; the lock on its cell ended with its process.
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
"""Number of tasks given to the cluster per thread of its workers."""

PATIENCE = 10.0
"""Seconds that a scheduler has to answer in."""


class Lost(Exception):
    """The scheduler does not answer any more; finished cells are in the store."""


_idle: list[Crew] = []
"""Within a process of the cluster: worker processes that wait for a cell."""


class Scheduler:
    """A connection to a running Dask cluster."""

    def __init__(self, address: str, timed: bool = False) -> None:
        """Connect; with `timed` cells run one at a time, each in a fresh process.

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
                # every failed attempt by Dask would leave a thread behind
                where = get_address_host_port(address)
                socket.create_connection(where, timeout=PATIENCE).close()
            self.client: Any = Client(
                address, timeout=PATIENCE, set_as_default=False, name="vi-bench"
            )
        # Dask asserts that its thread runs within 10 s
        except (OSError, ValueError, AssertionError) as error:
            raise SweepError(
                f"--scheduler {address}: no Dask scheduler answers there; expected "
                f"tcp://HOST:PORT ({type(error).__name__})"
            ) from None
        self.address, self.timed = address, timed
        for name in ("distributed", "distributed.client"):
            # it logs a lost connection as tracebacks; here that is one line
            logging.getLogger(name).setLevel(logging.CRITICAL)

    @property
    def size(self) -> int:
        """Number of threads of the cluster's workers, at least 1: more may come."""
        return 1 if self.timed else max(1, sum(self.client.nthreads().values()))

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of one of the cluster's workers, which are taken to be alike.

        A cell that runs on a machine with another kind of device is refused there.

        Raises:
            InputError: the cluster has no workers, or they cannot run vi_bench.
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
        """Compute every job; the cluster holds at most AHEAD jobs per thread at a time.

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
        """Cancel unfinished tasks and disconnect."""
        self.client.close()

    def end(self) -> None:
        """Disconnect; the cluster goes on."""
        self.client.close()


def ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """Dask task: ask a worker process of that machine."""
    crew = _idle.pop() if _idle else Crew(1)
    try:
        return crew.ask(question)
    finally:
        _idle.append(crew)


def perform(job: Job, timeout: float | None, fresh: bool) -> Answer:
    """Dask task: compute one cell, in a worker process of that machine."""
    crew = Crew(1, fresh) if fresh or not _idle else _idle.pop()
    try:
        ((_, answer),) = crew.each([job], timeout)
    except InputError as error:  # that machine does not see the store
        return {"status": "failed", "reason": f"on the cluster: {error}"}
    finally:
        if fresh:
            crew.kill()
        else:
            _idle.append(crew)
    return answer
