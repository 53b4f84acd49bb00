"""Named arrays: the data of a model that is not a mixture of rows."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vi_bench.data.text import Layout, read_columns
from vi_bench.errors import ModelError

Named = dict[str, Any]
"""Name -> array, or a plain number where there is a single one."""

ENDINGS = (".npz", ".npy", ".csv", ".tsv", ".txt", ".json", ".json.zip")
"""Endings of files of named arrays."""


@dataclass(frozen=True)
class Arrays:
    """Data by name, as the arguments of a model.

    Attributes:
        name: short name, for titles and records.
        values: name -> array of numbers, or a plain number.
        note: what a reader should know; empty if nothing.
        unfit: name -> why what has it is no array of finite numbers.
        source: where they come from, and their licence; empty if it is not known.
    """

    name: str
    values: Named
    note: str = ""
    unfit: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def sha256(self) -> str:
        """Hash of all names, shapes and values, in the order of the names."""
        digest = hashlib.sha256()
        for name in sorted(self.values):
            value = np.ascontiguousarray(self.values[name])
            digest.update(f"{name} {value.shape} {value.dtype.str} ".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    @property
    def observed(self) -> dict[str, np.ndarray]:
        """Name -> values, single numbers too."""
        return {name: np.asarray(value) for name, value in self.values.items()}


def arrays(what: Any, name: str = "data") -> Arrays:
    """Named arrays from a mapping or a single array."""
    if isinstance(what, Arrays):
        return what
    if not isinstance(what, Mapping):
        what = {"data": what}
    return _sorted_out(name, {str(k): v for k, v in what.items()})


def read_arrays(path: Path, layout: Layout | None = None) -> Arrays:
    """Read named arrays from a file.

    A .npz has names; so have the columns of a .csv, .tsv or .txt; a .json holds an
    object, as CmdStan and posteriordb write their data; the array of a .npy is called
    "data".

    Args:
        path: the file.
        layout: of a text file, what it does not show itself.

    Raises:
        InputError: the file cannot be read, or can be read in two ways.
    """
    where = f"data {str(path)!r}"
    kind = ending(path)
    if kind is None:
        raise ModelError(f"{where}: expected a file that ends in {', '.join(ENDINGS)}")
    if not path.exists():
        raise ModelError(f"{where}: there is no such file")
    if kind in (".csv", ".tsv", ".txt"):
        columns, unfit, note = read_columns(path, layout)
        named = {name: _whole(v) for name, v in columns.items()}
        return Arrays(path.name, named, note, unfit)
    if layout not in (None, Layout()):
        raise ModelError(
            f"{where}: is no text file; separator, header, index and labels are of "
            ".csv, .tsv and .txt files"
        )
    try:
        found = _numpy(path) if kind in (".npz", ".npy") else _json(path, where)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ModelError):
            raise
        told = str(error).strip().partition("\n")[0]
        raise ModelError(f"{where}: cannot be read as {kind}: {told}") from None
    return _sorted_out(path.name, found)


def _sorted_out(name: str, found: Mapping[str, Any]) -> Arrays:
    """Arrays of finite numbers, and why others are none."""
    values, unfit = {}, {}
    for key, given in found.items():
        try:
            values[key] = _value(given)
        except ValueError as error:
            unfit[key] = str(error)
    return Arrays(name, values, "", unfit)


def ending(path: Path) -> str | None:
    """The one of ENDINGS that a path has; None if none."""
    name = path.name.lower()
    return next((e for e in sorted(ENDINGS, key=len) if name.endswith(e)), None)


def _numpy(path: Path) -> dict[str, Any]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {"data": found}
    with found:
        return dict(found)


def _json(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file, or in the one JSON file of a zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [n for n in archive.namelist() if n.endswith(".json")]
            if len(members) != 1:
                raise ModelError(f"{where}: holds {len(members)} .json files, not one")
            text = archive.read(members[0])
    else:
        text = path.read_bytes()
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ModelError(f"{where}: expected an object of names and values")
    return found


def _value(given: Any) -> Any:
    """An array of finite numbers, or a plain number.

    Raises:
        ValueError: it is ragged, no number, or not finite.
    """
    try:
        value = np.asarray(given)
    except ValueError:  # rows of unequal length
        value = np.empty(0, object)
    if value.dtype.kind not in "biuf":
        raise ValueError("is no array of numbers, all rows alike")
    if not np.all(np.isfinite(value)):
        at = [int(i) for i in np.argwhere(~np.isfinite(value))[0]]
        raise ValueError(f"is not finite at {at}")
    return value if value.ndim else value.item()


def _whole(column: np.ndarray) -> np.ndarray:
    """A column of a text file; one of whole numbers, which may be indices, as such."""
    whole = np.all(column == np.round(column)) and np.all(np.abs(column) < 2**53)
    return column.astype(np.int64) if whole else column
