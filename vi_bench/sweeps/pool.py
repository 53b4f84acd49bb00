"""Worker processes: spawned, never forked, and replaced when they die.

A worker has a session of its own, so that Ctrl-C reaches only the parent process. Its
standard error goes to a file whose last line tells why it died.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vi_bench.sweeps.work import source

COMMAND = [sys.executable, "-m", "vi_bench.sweeps.work"]

GRACE = 5.0
"""Seconds that a worker has to end by itself when there is no more work."""


class Died(Exception):
    """A worker ended without an answer; the message says how."""


class Worker:
    """A process that answers one job at a time.

    Attributes:
        since: time at which it was given its job, by the monotonic clock, seconds.
        devices: number of devices that its CPU is split into; None before its first
            job.
    """

    def __init__(self) -> None:
        """Start the process."""
        self.errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed in `end`)
        path = os.pathsep.join(
            filter(None, [str(source()), os.environ.get("PYTHONPATH")])
        )
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            # workers that share a card must not take all of its memory each
            env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            | os.environ
            | {"PYTHONPATH": path},
            start_new_session=True,
        )
        self.since = 0.0
        self.devices: int | None = None

    def fileno(self) -> int:
        """File descriptor for a selector: readable once it has answered or died."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def give(self, job: Mapping[str, Any]) -> None:
        """Send a job; that a worker is dead shows when its answer is asked for."""
        assert self.process.stdin is not None
        self.since = time.monotonic()
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the job.

        Raises:
            Died: the process ended without one.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Died(self._epitaph())
        found: dict[str, Any] = json.loads(line)
        return found

    def _epitaph(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines and code >= 0 else ""
        if code >= 0:
            return f"its process ended with exit code {code}{last}"
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Let the process end: there is no more work."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.errors.close()
