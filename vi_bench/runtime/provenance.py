"""The origin of a result: command, repository, processor, limits on threads."""

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
"""Environment variables that limit the threads of XLA and of NumPy."""

PATIENCE = 5.0
"""Seconds that git may take."""


def provenance() -> dict[str, Any]:
    """The origin of this process's results, as plain values.

    "command" is the words of the command line; "git" the commit of the repository that
    the working folder is in and whether it has uncommitted changes, None without one;
    "threads" the limits that are set; "load" the system's load averages over 1, 5 and
    15 minutes, None where it has none.
    """
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": repository(Path.cwd()),
        "threads": {name: os.environ[name] for name in LIMITS if name in os.environ},
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """The model name of the CPU."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int | None:
    """Number of cores that this process may use; None if unknown."""
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
    """The commit of a folder's repository and whether it is dirty, when first asked."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    """The output of a git command; None if it fails."""
    # take no lock on the index that could block the user's own git
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
