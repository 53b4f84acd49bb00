"""The folder of a calibration: its settings, and finished chunks to resume from."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.errors import CalibrationError

SETTINGS = "settings.json"
CHUNKS = "chunks"


class Store:
    """Storage of finished chunks, each written whole or not at all.

    Without a folder the chunks are kept in memory.

    Raises:
        InputError: the folder has other settings, belongs to something else, or cannot
            be written.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._made: Path | None = None
        self._held: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        if folder is None:
            return
        self._check(folder, settings)
        missing = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
        self._made = missing[-1] if missing else None
        try:
            (folder / CHUNKS).mkdir(parents=True, exist_ok=True)
            if not (folder / SETTINGS).exists():
                text = json.dumps(settings, indent=1) + "\n"
                _put(folder / SETTINGS, text.encode())
        except OSError as error:
            raise CalibrationError(
                f"output folder {str(folder)!r} cannot be written: {error.strerror}"
            ) from None

    def undo(self) -> None:
        """Remove the folder if it was made here: there is nothing to compute."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def _check(self, folder: Path, settings: Mapping[str, Any]) -> None:
        if not os.path.lexists(folder):
            return
        elsewhere = f"output {str(folder)!r}"
        if not folder.is_dir():
            raise CalibrationError(f"{elsewhere} is not a folder; give another --out")
        if not (folder / SETTINGS).is_file():
            if any(folder.iterdir()):
                raise CalibrationError(
                    f"{elsewhere} is not the folder of a calibration (it has no "
                    f"{SETTINGS}); give another --out"
                )
            return
        try:
            there = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CalibrationError(
                f"{elsewhere}: {SETTINGS} cannot be read; give another --out"
            ) from None
        here = json.loads(json.dumps(settings))
        for name in sorted({*here, *there}):
            if here.get(name) != there.get(name):
                raise CalibrationError(
                    f"{elsewhere} was begun with {name} = {_shown(there.get(name))}, "
                    f"now it is {_shown(here.get(name))}; give another --out, or the "
                    "same settings to go on"
                )

    def get(self, name: str, index: int) -> dict[str, np.ndarray] | None:
        """The arrays of a chunk, or None if it is not finished."""
        if self.folder is None:
            return self._held.get((name, index))
        path = self._path(name, index)
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return dict(arrays)

    def put(self, name: str, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the arrays of a finished chunk."""
        if self.folder is None:
            self._held[name, index] = dict(arrays)
            return
        path = self._path(name, index)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".chunk")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)

    def _path(self, name: str, index: int) -> Path:
        assert self.folder is not None
        return self.folder / CHUNKS / f"{name}-{index:05d}.npz"


def _put(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def _shown(value: Any) -> str:
    return json.dumps(value)
