"""Finished cells on disk: each is stored as a whole, and is checked when read.

    STORE.json            marks the folder as a sweep's, with its schema
    cells/ab/KEY/         a finished cell: files, and checksums in MANIFEST.json
    tmp/KEY.RANDOM/       a cell that is being written
    locks/KEY.lock        locked (flock) by the process that works on a cell
    attempts/KEY/*.json   failed attempts: when and why
    plans/*.json          sweeps that were asked for, and the keys of their cells
    quarantine/           damaged cells, put aside

A cell is written into a staging folder of the same file system, synced to disk, and
renamed into place: what is in `cells` is complete. A lock is the kernel's and ends with
its process; that a lock's file exists means nothing. Names given by users never become
paths: a key is 32 hexadecimal digits. Symbolic links are not followed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vi_bench.errors import SweepError
from vi_bench.runtime.folder import MANIFEST

SCHEMA = 1

STORE = "STORE.json"

FOLDERS = ("cells", "tmp", "locks", "attempts", "plans", "quarantine")

KEY = re.compile(r"[0-9a-f]{32}")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+=-]{0,200}")
"""Valid name of a file in a cell."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Damaged(Exception):
    """A file of a finished cell is not what was written.

    Attributes:
        key: key of the cell.
        file: name of the file.
        why: what is wrong with it.
    """

    def __init__(self, key: str, file: str, why: str) -> None:
        super().__init__(f"cell {key}: {file} {why}")
        self.key, self.file, self.why = key, file, why

    def record(self) -> dict[str, str]:
        """The fault as plain values, see docs/cli.md."""
        return {"key": self.key, "file": self.file, "why": self.why}


class Full(Exception):
    """No disk space or quota is left; the message says where, and what is free."""


@dataclass(frozen=True)
class Attempt:
    """An attempt at a cell that did not finish it.

    Attributes:
        status: "failed", "crashed" or "timed out".
        reason: one line.
        when: time in UTC, ISO 8601.
        known: further values, such as its "seconds".
    """

    status: str
    reason: str
    when: str
    known: Mapping[str, Any]


class Store:
    """A folder of finished cells, which many processes may use at the same time."""

    def __init__(self, folder: Path | str, create: bool = True) -> None:
        """Open a store, or create one.

        Args:
            folder: path of the store.
            create: create it if it does not exist.

        Raises:
            InputError: the folder is something else, of another schema, or cannot be
                written.
        """
        self.folder = Path(folder)
        if not create and not (self.folder / STORE).is_file():
            raise SweepError(
                f"{str(folder)!r} is not the folder of a sweep: it has no {STORE}"
            )
        try:
            self._begin()
        except OSError as error:
            raise SweepError(
                f"folder {str(folder)!r} cannot be written: {error.strerror}"
            ) from None
        self._check()

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / STORE
        if not os.path.lexists(mark):
            if any(self.folder.iterdir()) and not self._half_begun():
                raise SweepError(
                    f"folder {str(self.folder)!r} holds something else (it has no "
                    f"{STORE}); give another --out"
                )
            for name in FOLDERS:
                (self.folder / name).mkdir(exist_ok=True)
            # linked, not renamed: of two processes that create it the first one wins
            draft = self.folder / "tmp" / f"{STORE}.{secrets.token_hex(8)}"
            _write(draft, _text({"vi_bench": "sweep", "schema": SCHEMA}))
            with suppress(FileExistsError):
                os.link(draft, mark)
            draft.unlink()
            _sync(self.folder)

    def _half_begun(self) -> bool:
        """Whether another process seems to be creating this store right now."""
        return {p.name for p in self.folder.iterdir()} <= {*FOLDERS, STORE}

    def _check(self) -> None:
        place = str(self.folder)
        try:
            known = json.loads(_read(self.folder / STORE))
            schema = known["schema"]
        except (OSError, ValueError, KeyError, TypeError):
            raise SweepError(f"{place!r}: {STORE} cannot be read") from None
        if schema != SCHEMA:
            raise SweepError(
                f"{place!r} has schema {schema!r}, this vi-bench reads {SCHEMA}: take "
                "the version that wrote it, or another --out"
            )
        for name in FOLDERS:
            if not _real_folder(self.folder / name):
                raise SweepError(f"{place!r}: {name} is not a folder")

    def path(self, key: str) -> Path:
        """The folder of a cell, once it is finished."""
        return self.folder / "cells" / _valid(key)[:2] / key

    def has(self, key: str) -> bool:
        """Whether a cell is finished."""
        return _real_folder(self.path(key))

    def finished(self) -> Iterator[str]:
        """Keys of all finished cells, sorted."""
        for part in sorted(os.listdir(self.folder / "cells")):
            place = self.folder / "cells" / part
            if _real_folder(place):
                yield from sorted(k for k in os.listdir(place) if KEY.fullmatch(k))

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Lock a cell for this context; gives False if another process has the lock."""
        import fcntl  # only POSIX has it; reading a store takes no lock

        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.folder / "locks" / f"{_valid(key)}.lock", flags, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    @contextmanager
    def write(self, key: str) -> Iterator[Path]:
        """A folder to write a cell's files into; on a clean exit the cell is finished.

        It may hold files only, no folders. If another process has finished the cell in
        the meantime, that result stays.

        Raises:
            Full: no disk space or quota is left.
        """
        staged = self.folder / "tmp" / f"{_valid(key)}.{secrets.token_hex(8)}"
        try:
            staged.mkdir()
            yield staged
            self._commit(key, staged)
        except OSError as error:
            if error.errno not in FULL:
                raise
            free = shutil.disk_usage(self.folder).free
            raise Full(
                f"{str(self.folder)!r}: {os.strerror(error.errno or 0)}, "
                f"{free / 1e6:.1f} MB free"
            ) from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _commit(self, key: str, staged: Path) -> None:
        files = {}
        for name in sorted(os.listdir(staged)):
            if not NAME.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"{name!r} cannot be the name of a cell's file")
            content = _read(staged / name, sync=True)
            files[name] = {"sha256": _digest(content), "bytes": len(content)}
        manifest = {"schema": SCHEMA, "key": key, "files": files}
        _write(staged / MANIFEST, _text(manifest))
        staged.chmod(0o755)
        _sync(staged)
        target = self.path(key)
        target.parent.mkdir(exist_ok=True)
        try:
            os.rename(staged, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return
        _sync(target.parent)
        _sync(target.parent.parent)

    def manifest(self, key: str) -> dict[str, dict[str, Any]]:
        """Names of a cell's files, each with its "sha256" and "bytes".

        Raises:
            Damaged: the manifest is missing, cannot be read, or is not valid.
        """
        try:
            known = json.loads(_read(self.path(key) / MANIFEST))
            schema, named, files = known["schema"], known["key"], known["files"]
            sizes = all({"sha256", "bytes"} <= set(v) for v in files.values())
        except OSError as error:
            raise Damaged(key, MANIFEST, f"cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(key, MANIFEST, "is not what was written") from None
        if schema != SCHEMA:
            raise Damaged(key, MANIFEST, f"has schema {schema!r}, expected {SCHEMA}")
        if named != key or not sizes:
            raise Damaged(key, MANIFEST, "is not what was written")
        found: dict[str, dict[str, Any]] = files
        return found

    def read(self, key: str, name: str) -> bytes:
        """The bytes of a file of a finished cell, checked.

        Raises:
            Damaged: the file is missing, or is not what was written.
        """
        return self._checked(key, name, self.manifest(key))

    def _checked(self, key: str, name: str, files: Mapping[str, Any]) -> bytes:
        if name not in files or not NAME.fullmatch(name):
            raise Damaged(key, name, "is not a file of this cell")
        expected, size = files[name]["sha256"], files[name]["bytes"]
        try:
            content = _read(self.path(key) / name, most=size)
        except OSError as error:
            raise Damaged(key, name, f"cannot be read: {error.strerror}") from None
        if len(content) != size:
            more = "more than " if len(content) > size else f"{len(content)} of "
            raise Damaged(key, name, f"has {more}{size} bytes")
        if _digest(content) != expected:
            raise Damaged(key, name, "has another checksum than was written")
        return content

    def damage(self, key: str) -> list[Damaged]:
        """All faults of a finished cell's files; empty if there are none."""
        try:
            files = self.manifest(key)
        except Damaged as damaged:
            return [damaged]
        found = []
        for name in files:
            try:
                self._checked(key, name, files)
            except Damaged as damaged:
                found.append(damaged)
        for extra in sorted(set(os.listdir(self.path(key))) - {*files, MANIFEST}):
            found.append(Damaged(key, extra, "was not written with it"))
        return found

    def put_aside(self, key: str) -> Path:
        """Move a damaged cell to quarantine; returns its new path."""
        aside = self.folder / "quarantine" / f"{_valid(key)}.{secrets.token_hex(4)}"
        os.rename(self.path(key), aside)
        _sync(self.folder / "quarantine")
        return aside

    def fail(self, key: str, status: str, reason: str, **known: Any) -> None:
        """Store an attempt that did not finish a cell."""
        now = datetime.now(UTC)
        place = self.folder / "attempts" / _valid(key)
        place.mkdir(exist_ok=True)
        entry = {
            "status": status,
            "reason": reason,
            "when": now.isoformat(timespec="seconds"),
        }
        name = f"{now.strftime('%Y%m%dT%H%M%S%f')}-{secrets.token_hex(4)}.json"
        draft = self.folder / "tmp" / f"{key}.{name}"
        _write(draft, _text(entry | {"known": known}))
        os.rename(draft, place / name)
        _sync(place)

    def attempts(self, key: str) -> list[Attempt]:
        """Failed attempts at a cell, the oldest first; unreadable ones are left out."""
        place = self.folder / "attempts" / _valid(key)
        found = []
        for name in sorted(os.listdir(place)) if _real_folder(place) else []:
            with suppress(OSError, ValueError, TypeError):
                found.append(Attempt(**json.loads(_read(place / name))))
        return found

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Store a plan; storing the same one again changes nothing."""
        content = _text(plan)
        name = f"{_digest(content)[:32]}.json"
        place = self.folder / "plans" / name
        if os.path.lexists(place):
            return
        draft = self.folder / "tmp" / f"{secrets.token_hex(8)}.{name}"
        _write(draft, content)
        os.rename(draft, place)
        _sync(place.parent)

    def plans(self) -> list[dict[str, Any]]:
        """All plans, the oldest first: sweeps, with key and choice of their cells.

        Unreadable plans are left out: running the sweep again stores them anew.
        """
        place = self.folder / "plans"
        names = sorted(os.listdir(place), key=lambda n: os.lstat(place / n).st_mtime_ns)
        found = []
        for name in names:
            with suppress(OSError, ValueError, KeyError, TypeError):
                plan = json.loads(_read(place / name))
                found.append(
                    {
                        **plan,
                        "name": str(plan["name"]),
                        "cells": [
                            {"key": str(c["key"]), "choice": dict(c["choice"])}
                            for c in plan["cells"]
                        ],
                    }
                )
        return found

    def failures(self) -> list[str]:
        """Keys of cells that failed at least once, finished or not, sorted."""
        place = self.folder / "attempts"
        return sorted(k for k in os.listdir(place) if KEY.fullmatch(k))

    def clean(self) -> int:
        """Remove cells that dead processes left half written; returns their number."""
        removed = 0
        for name in os.listdir(self.folder / "tmp"):
            key, left = name.partition(".")[0], self.folder / "tmp" / name
            if not KEY.fullmatch(key) or not _real_folder(left):
                continue
            with self.claim(key) as mine:
                if mine:  # a living writer would hold the lock
                    shutil.rmtree(left, ignore_errors=True)
                    removed += 1
        return removed


def _valid(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not the key of a cell")
    return key


def _real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, sync: bool = False, most: int | None = None) -> bytes:
    """The bytes of a regular file, at most `most` + 1 of them; `sync` it to disk."""
    # non-blocking: should the path be a pipe, do not wait for its other end
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with os.fdopen(handle, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        return file.read() if most is None else file.read(most + 1)


def _write(path: Path, content: bytes) -> None:
    """Write a new file and sync it to disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
