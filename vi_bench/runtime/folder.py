"""A run's folder: written beside its final place and moved there as a whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from vi_bench.errors import ResultsError

MANIFEST = "MANIFEST.json"
"""File in a sweep's cell with checksums of the others; it is written last."""


def default_folder(name: str) -> Path:
    """results/NAME-TIME under the working folder, TIME in UTC."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return free(Path("results") / f"{name}-{stamp}")


def free(path: Path) -> Path:
    """The path, or with a number behind its name where there is such a file already."""
    taken = 1
    found = path
    while found.exists():
        taken += 1
        found = path.with_name(f"{path.name}-{taken}")
    return found


class RunFolder:
    """A context that gives a staging folder, which on a clean exit becomes `target`.

    Raises:
        InputError: on entry: the target exists and may not be replaced, or its parent
            cannot be written.
    """

    def __init__(self, target: Path, overwrite: bool = False) -> None:
        self.target = target
        self.overwrite = overwrite

    def __enter__(self) -> Path:
        if os.path.lexists(self.target) and not self.overwrite:
            raise ResultsError(
                f"output folder {str(self.target)!r} exists; give another --out, or "
                "--overwrite to replace it"
            )
        if os.path.lexists(self.target) and not _replaceable(self.target):
            raise ResultsError(
                f"output {str(self.target)!r} is not the folder of a run (it has no "
                "summary.json), so --overwrite leaves it alone; give another --out"
            )
        self._made = [p for p in self.target.absolute().parents if not p.exists()]
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            staged = tempfile.mkdtemp(
                prefix=f".{self.target.name}.", dir=self.target.parent
            )
        except OSError as error:
            self._forget_parents()
            raise ResultsError(
                f"output folder {str(self.target)!r} cannot be written: "
                f"{error.strerror}"
            ) from None
        self.path = Path(staged)
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._forget_parents()
            return
        self.path.chmod(0o755)
        if self.overwrite and self.target.exists():
            old = Path(
                tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=self.target.parent)
            )
            self.target.rename(old / "old")
            self.path.rename(self.target)
            shutil.rmtree(old)
        else:
            self.path.rename(self.target)

    def _forget_parents(self) -> None:
        for parent in self._made:
            try:
                parent.rmdir()
            except OSError:
                return


def _replaceable(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / "summary.json").is_file() or not any(folder.iterdir())
