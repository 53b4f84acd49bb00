"""Where a result comes from: command, repository, processor, limits on threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIMITS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("PJRT_NPROC", "NPROC"),
)
"""Variables that limit the threads of XLA and of NumPy."""

PATIENCE = 5.0
"""Seconds that git may take."""


def provenance() -> dict[str, Any]:
    """Plain values.

    "command" is the command line's words; "git" the commit of the repository that the
    working folder belongs to and whether something in it was changed, None without one;
    "threads" the limits that were set; "load" how many processes have wanted a core, on
    average over the last 1, 5 and 15 minutes, where the system tells.
    """
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": repository(Path.cwd()),
        "threads": {name: os.environ[name] for name in LIMITS if name in os.environ},
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """The CPU's model, as the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int | None:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


@cache
def version_of(package: str) -> str | None:
    """An installed package's version; None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def repository(folder: Path) -> dict[str, Any] | None:
    """The commit of a folder's repository and whether it is dirty, as first seen."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    """What git says, or None where it says nothing of use."""
    # a lock on the index would be in the user's way
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
