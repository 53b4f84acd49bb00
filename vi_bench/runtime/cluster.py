"""Several processes, on one machine or many, that share the rows of one run.

Each is started by hand or by a scheduler as `vi-bench run --hosts N --coordinator
ADDRESS --rank R`. A child of that process computes: when a peer is lost, JAX may abort
the child, which cannot catch that, and the parent reports it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vi_bench.errors import ScalingError

CHILD = "VI_BENCH_CHILD"
"""Environment variable that is set in the process that computes."""

MEETING, BEAT = 120, 20
"""Seconds to wait for the peers at the start, and between two heartbeats."""

NATIVE = re.compile(
    r"[IWEF]\d{4} \d\d:\d\d|[IWEF]0000 |WARNING: All log messages|\[Gloo\]"
)
"""Matches lines that native code logs."""

CRASH = re.compile(r"\*\*\* |Fatal Python error|terminate called|#\d+ 0x|F\d{4} ")
"""Matches the first line of a native crash; users do not see the lines after it."""

OURS = "vi-bench: "
"""The prefix of lines for the user."""

LOST = ("Gloo", "gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination service")
"""Words in JAX's errors when a peer does not answer."""


class PeerLost(Exception):
    """Another process of the run does not answer any more."""


@dataclass(frozen=True)
class Cluster:
    """The place of this process among those that share a run.

    Attributes:
        hosts: number of processes.
        coordinator: HOST:PORT of the process of rank 0.
        rank: rank of this process, from 0.
    """

    hosts: int
    coordinator: str
    rank: int

    def check(self) -> None:
        """Check the values before anything is started.

        Raises:
            InputError: one of them cannot work; the message is one line.
        """
        if self.hosts < 2:
            raise ScalingError(f"hosts = {self.hosts}: expected at least 2")
        if not 0 <= self.rank < self.hosts:
            raise ScalingError(
                f"rank = {self.rank}: expected 0 to {self.hosts - 1} of {self.hosts}"
            )
        host, _, port = self.coordinator.rpartition(":")
        digits = port.isascii() and port.isdigit()
        if not host or not digits or not 0 < int(port) < 2**16:
            raise ScalingError(
                f"coordinator {self.coordinator!r}: expected HOST:PORT, the same for "
                "every rank"
            )
        if self.rank == 0:
            self._check_port(host, int(port))

    def _check_port(self, host: str, port: int) -> None:
        try:
            place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(place[0], place[1]) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place[4])
        except OSError as error:
            raise ScalingError(
                f"coordinator {self.coordinator!r}: rank 0 cannot listen there: "
                f"{error.strerror}"
            ) from None

    def join(self) -> None:
        """Connect to the other processes; to be called before JAX computes anything.

        The coordinator listens on its own address only: JAX's default is every
        interface, and connections are not authenticated.
        """
        import jax

        jax.distributed.initialize(
            coordinator_address=self.coordinator,
            num_processes=self.hosts,
            process_id=self.rank,
            cluster_detection_method="deactivate",
            coordinator_bind_address=self.coordinator if self.rank == 0 else None,
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=BEAT,
            shutdown_timeout_seconds=BEAT,
        )
        print(joined(self), file=sys.stderr, flush=True)


def joined(cluster: Cluster) -> str:
    """The line that the child prints once all processes are connected."""
    return f"rank {cluster.rank}: all {cluster.hosts} processes are there"


def lost(error: Exception) -> bool:
    """Whether an error from JAX means that a peer is lost."""
    return type(error).__name__ == "JaxRuntimeError" and any(
        word in str(error) for word in LOST
    )


def is_child() -> bool:
    """Whether this is the process that computes."""
    return CHILD in os.environ


def supervise(cluster: Cluster, checkpoint: Path) -> int:
    """Run this same command in a child process, and pass on its output and exit code.

    Args:
        cluster: the place of this process, already checked.
        checkpoint: file in which rank 0 keeps the best q so far.

    Returns:
        The exit code: the child's own, or 1 if it was killed.
    """
    own = {CHILD: "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if sys.stdout.isatty():
        own["COLUMNS"] = str(shutil.get_terminal_size().columns)
    child = subprocess.Popen(
        [sys.executable, "-m", "vi_bench", *sys.argv[1:]],
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    readers = [
        threading.Thread(target=_pass_on, args=(source, to, said), daemon=True)
        for source, to in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        code = child.wait()
    except KeyboardInterrupt:
        code = child.wait()  # the terminal sends Ctrl-C to the child too
    for reader in readers:
        reader.join(5)
    explained = any(line.startswith(OURS) for line in said)
    if code >= 0 and (explained or not any(map(CRASH.match, said))):
        return code
    if explained:
        return 1
    if code < 0 and code not in (-signal.SIGABRT, -signal.SIGSEGV):
        name = signal.Signals(-code).name
        print(
            f"{OURS}rank {cluster.rank}: its process was ended by {name}",
            file=sys.stderr,
        )
    elif joined(cluster) in said:
        print(farewell(cluster.rank, checkpoint), file=sys.stderr)
    else:
        print(
            f"{OURS}rank {cluster.rank}: the {cluster.hosts} processes did not "
            f"come together at {cluster.coordinator} within {MEETING} s",
            file=sys.stderr,
        )
    return 1


def farewell(rank: int, checkpoint: Path) -> str:
    """The last line of a run whose peer is lost."""
    line = f"{OURS}rank {rank}: another process of this run is lost, so it ended"
    if rank:
        return f"{line}; rank 0 keeps the last checkpoint of q"
    if checkpoint.is_file():
        return (
            f"{line}; the last checkpoint of q is {checkpoint} (go on with "
            "--start-from)"
        )
    return f"{line}; no checkpoint was written yet"


def _pass_on(source: IO[str] | None, to: IO[str], said: list[str]) -> None:
    """Pass on the lines of the child, except those that native code logs."""
    quiet = False
    for line in source or ():
        quiet = quiet or bool(CRASH.match(line))
        said.append(line.rstrip("\n"))
        if line.startswith(OURS) or not (quiet or NATIVE.match(line)):
            to.write(line)
            to.flush()
