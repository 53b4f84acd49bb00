"""Reference draws of posteriordb: JSON, a list of chains of named lists of numbers.

https://github.com/stan-dev/posteriordb. A scalar goes by its name, an element of an
array by name and indices, "mu[1]" or "sigma[1,2]", counted from 1.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from arviz_base import from_dict
from xarray import DataTree

from vi_bench.errors import InputError

MOST_BYTES = 2**30
"""Largest size of a file's contents once unpacked."""

PLACES = (
    "posterior_database/reference_posteriors/draws/draws",
    "reference_posteriors/draws/draws",
    "draws/draws",
    "draws",
    "",
)
"""Folders of the draws, relative to the database's root or to a folder within it."""

_SIZE = r"(?:0|[1-9]\d{0,8})"
INDEXED = re.compile(rf"(?P<name>.+)\[(?P<index>{_SIZE}(?:,{_SIZE})*)\]")

EXPECTED = 'a list of chains, each {"mu[1]": [numbers], "theta": [numbers]}'


def read(path: Path) -> DataTree:
    """Read the draws in a .json or .zip file, their .info.json as an attribute.

    Raises:
        InputError: the file cannot be read, or is not of the expected form.
    """
    arrays, coords, dims = assembled(_scalars(_parse(path), path), path)
    tree = from_dict({"posterior": arrays}, coords=coords, dims=dims)
    if (info := _info(path)) is not None:
        tree.attrs["posteriordb"] = json.dumps(info)
    return tree


def assembled(
    scalars: Mapping[str, np.ndarray], path: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, list[str]]]:
    """Arrays, coordinates and names of dimensions from the draws of scalars.

    Args:
        scalars: "theta", "mu[1]" or "sigma[1,2]" -> draws (chain, draw).
        path: the file, for messages.

    Raises:
        InputError: an element of an array is missing, or a name cannot be used.
    """
    arrays, coords, dims = {}, {}, {}
    for name, values in _arrays(scalars, path).items():
        arrays[name] = values
        dims[name] = [f"{name}_dim_{i}" for i in range(values.ndim - 2)]
        for dim, size in zip(dims[name], values.shape[2:], strict=True):
            coords[dim] = np.arange(1, size + 1)
    return arrays, coords, dims


def too_large(path: Path) -> InputError:
    """The error for a file that unpacks to over MOST_BYTES."""
    return InputError(
        f"draws {str(path)!r}: unpacks to over {MOST_BYTES / 2**30:.3g} GiB; expected "
        "less: thin the draws, or keep fewer variables"
    )


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"draws {str(path)!r}: {what}; expected {EXPECTED}")


def _parse(path: Path) -> Any:
    text = _text(path)
    try:
        return json.loads(text, object_pairs_hook=partial(_once, path))
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise _wrong(path, "not JSON that can be read") from None


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _wrong(path, f"{twice!r} is there twice")
    return found


def _text(path: Path) -> bytes:
    """The JSON in a file, or in the one member of a zip that is JSON."""
    try:
        if path.suffix == ".zip":
            text = _unzip(path)
        else:
            with path.open("rb") as stream:
                text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _wrong(path, f"not a zip that can be read ({error})") from None
    if len(text) > MOST_BYTES:
        raise too_large(path)
    return text


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        member = _member(archive, path)
        with archive.open(member) as stream:
            return stream.read(MOST_BYTES + 1)


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of draws in a zip; it is read in place, never unpacked to disk."""
    found = [
        m
        for m in archive.infolist()
        if m.filename.endswith(".json")
        and not m.filename.endswith(".info.json")
        and not m.filename.startswith("__MACOSX/")
    ]
    if len(found) != 1:
        names = ", ".join(repr(m.filename) for m in found[:5]) or "none"
        raise InputError(
            f"draws {str(path)!r}: expected one .json inside, found {names}"
        )
    (member,) = found
    name = Path(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise _wrong(path, f"member {member.filename!r} points out of the zip")
    if member.flag_bits & 1:
        raise _wrong(path, "the zip is encrypted")
    if member.file_size > MOST_BYTES:
        raise too_large(path)
    return member


def _scalars(chains: Any, path: Path) -> dict[str, np.ndarray]:
    """Name -> draws of a scalar (chain, draw)."""
    if not isinstance(chains, list) or not chains:
        raise _wrong(path, "no list of chains")
    if not all(isinstance(chain, dict) and chain for chain in chains):
        raise _wrong(path, "a chain is not an object of named lists")
    found: dict[str, list[np.ndarray]] = {name: [] for name in chains[0]}
    for number, chain in enumerate(chains, 1):
        if odd := sorted(set(chain) ^ set(found)):
            raise _wrong(path, f"{odd[0]!r} is not in every chain")
        for name, values in chain.items():
            if (draws := _numbers(values)) is None:
                what = f"{name!r} of chain {number} is not a list of numbers"
                raise _wrong(path, what)
            found[name].append(draws)
    lengths = {len(draws) for each in found.values() for draws in each}
    if len(lengths) > 1:
        few, many = min(lengths), max(lengths)
        raise _wrong(path, f"lists of {few} and of {many} draws, not equally many")
    if lengths == {0}:
        raise _wrong(path, "no draws")
    return {name: np.stack(each) for name, each in found.items()}


def _numbers(values: Any) -> np.ndarray | None:
    """A list of numbers as (draw,), or None."""
    if not isinstance(values, list):
        return None
    try:
        found = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        return None
    return found.astype(float)


def _arrays(scalars: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Assemble scalars into arrays: name -> draws (chain, draw, *shape)."""
    parts: dict[str, dict[tuple[int, ...], np.ndarray]] = {}
    for label, draws in scalars.items():
        match = INDEXED.fullmatch(label)
        name, index = (match["name"], match["index"]) if match else (label, "")
        if not name or "/" in name or name in ("chain", "draw"):
            raise _wrong(path, f"{label!r} cannot be the name of a variable")
        key = tuple(int(i) for i in index.split(",")) if index else ()
        parts.setdefault(name, {})[key] = draws
    return {name: _assemble(name, cells, path) for name, cells in parts.items()}


def _assemble(
    name: str, cells: Mapping[tuple[int, ...], np.ndarray], path: Path
) -> np.ndarray:
    ranks = sorted({len(key) for key in cells})
    if len(ranks) > 1:
        raise _wrong(
            path, f"{name!r} has elements of {ranks[0]} and {ranks[-1]} indices"
        )
    if any(0 in key for key in cells):
        raise _wrong(path, f"{name!r} has an index 0, indices count from 1")
    shape = tuple(max(indices) for indices in zip(*cells, strict=True))
    if len(cells) != math.prod(shape):
        # one of the first len(cells) + 1 is missing, however large the largest index is
        places = (_place(i, shape) for i in range(len(cells) + 1))
        gap = next(place for place in places if place not in cells)
        raise _wrong(path, f"{name}[{','.join(map(str, gap))}] is missing")
    ordered = [cells[_place(i, shape)] for i in range(len(cells))]
    stacked = np.stack(ordered, axis=-1)
    return stacked.reshape(*stacked.shape[:2], *shape)


def _place(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Indices from 1 of a position in row-major order."""
    indices = []
    for size in reversed(shape):
        position, index = divmod(position, size)
        indices.append(index + 1)
    return tuple(reversed(indices))


def _info(path: Path) -> Any:
    """The contents of the draws' .info.json file, or None where there is none."""
    name = path.name.removesuffix(".zip").removesuffix(".json") + ".info.json"
    for place in (path.parent / name, path.parent.parent / "info" / name):
        if place.is_file():
            return _parse(place)
    return None
