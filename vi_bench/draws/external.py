"""External draws: any file or object with posterior draws, as an ArviZ DataTree.

Supported are netCDF files and Zarr folders as ArviZ writes them, zipped ones too, CSV
files of CmdStan, reference draws of posteriordb and those that ship. Nothing that is
read is ever executed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset, DataTree, open_datatree

from vi_bench.draws import cmdstan, posteriordb, published
from vi_bench.errors import InputError

ZARR = ("zarr.json", ".zgroup", ".zmetadata")
"""File names of which every Zarr folder holds at least one."""

HDF5 = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an HDF5 file."""

DRAWS = ("chain", "draw")

LARGE = 2**26
"""Bytes from which a group other than the posterior and the data is not read."""

WANTED = ("posterior", "observed_data")
"""Groups that are read whatever their size, up to the largest that a file may have."""


def opened(given: Any, label: str) -> DataTree:
    """Draws as a DataTree, whatever holds them.

    Args:
        given: a path, see `read_draws`; a DataTree; a Dataset, which is taken for the
            posterior; an older ArviZ InferenceData; a mapping from names to arrays
            (chain, draw, ...).
        label: name of these draws in messages.

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    if isinstance(given, str | Path):
        return read_draws(given)
    if isinstance(given, DataTree):
        return given
    if isinstance(given, Dataset):
        return DataTree.from_dict({"posterior": given})
    if isinstance(given, Mapping):
        return _of_arrays(given, label)
    if isinstance(posterior := getattr(given, "posterior", None), Dataset):
        stats = getattr(given, "sample_stats", None)
        groups = {"posterior": posterior}
        if isinstance(stats, Dataset):
            groups["sample_stats"] = stats
        return DataTree.from_dict(groups)
    raise InputError(
        f"{label}: a {type(given).__name__}; expected a path, a DataTree, a Dataset or "
        "a mapping from names to arrays (chain, draw, ...)"
    )


def _of_arrays(given: Mapping[Any, Any], label: str) -> DataTree:
    arrays = {}
    for name, values in given.items():
        try:
            array = np.asarray(values)
        except ValueError:
            raise InputError(
                f"{label}: {name!r} has chains of different lengths; expected numbers "
                "(chain, draw, ...)"
            ) from None
        if array.ndim < 2 or array.dtype.kind not in "fiub":
            raise InputError(
                f"{label}: {name!r} has the shape {array.shape} and the type "
                f"{array.dtype}; expected numbers (chain, draw, ...)"
            )
        dims = [f"{name}_dim_{i}" for i in range(array.ndim - 2)]
        arrays[str(name)] = ((*DRAWS, *dims), array)
    try:
        return DataTree.from_dict({"posterior": Dataset(arrays)})
    except ValueError as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{label}: arrays do not fit each other: {why}") from None


def read_draws(path: Path | str) -> DataTree:
    """Read the draws in a file or folder into memory.

    Groups of over LARGE bytes, such as log likelihoods, are left out; the attribute
    "not_read" names them.

    Args:
        path: a .nc file; a Zarr folder or .zarr.zip; a CSV file of CmdStan, or a
            pattern such as "fit_*.csv" for its chains; a .json, .json.zip or .zip of
            posteriordb's reference draws; a folder in posteriordb's layout, or any
            that holds one file of draws or CSV files of CmdStan alone; or
            "reference:NAME", one of `vi-bench list references`.

    Raises:
        InputError: it cannot be found or read, or holds no draws.
    """
    if str(path).startswith(published.PREFIX) and not Path(path).exists():
        path = published.path(str(path))
    if has_magic(str(path)) and not Path(path).exists():
        found = sorted(Path(p) for p in glob(str(path)))
        if not found:
            raise InputError(f"draws {str(path)!r}: no file has such a name")
        if any(p.suffix != ".csv" for p in found):
            raise InputError(
                f"draws {str(path)!r}: a pattern is for the chains of CmdStan; "
                "expected CSV files alone"
            )
        return cmdstan.read(found)
    path = Path(path)
    if not path.exists():
        raise InputError(f"draws {str(path)!r}: there is no such file or folder")
    if path.is_dir():
        if any((path / name).exists() for name in ZARR):
            return _read_zarr(path)
        tables = sorted(path.glob("*.csv"))
        if tables and not any(p.suffix in (".nc", ".json") for p in path.iterdir()):
            return cmdstan.read(tables)
        path = _only_file(path)
    kind = path.suffix.lower()
    if kind == ".csv":
        return cmdstan.read([path])
    if path.name.lower().endswith(".zarr.zip"):
        return _read_zarr(path)
    if kind in (".json", ".zip"):
        return posteriordb.read(path)
    if kind == ".nc":
        return _read_netcdf(path)
    raise InputError(
        f"draws {str(path)!r}: unknown kind of file; expected .nc, .csv of CmdStan, "
        ".zarr.zip, .json, .json.zip, .zip or a folder"
    )


def _read_zarr(path: Path) -> DataTree:
    if importlib.util.find_spec("zarr") is None:
        raise InputError(
            f"draws {str(path)!r}: a Zarr folder; to read it, install zarr, or give "
            "the draws as .nc"
        )
    with _zarr_store(path) as store:
        return _read_tree(path, store, engine="zarr", consolidated=False)


@contextmanager
def _zarr_store(path: Path) -> Iterator[Any]:
    """What xarray opens: the folder, or the store in a zip."""
    if path.is_dir():
        yield path
        return
    from zarr.storage import ZipStore

    try:
        store = ZipStore(path, mode="r")
        store._sync_open()
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"draws {str(path)!r}: cannot be read ({why})") from None
    try:
        yield store
    finally:
        store.close()


def _read_netcdf(path: Path) -> DataTree:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(HDF5))
    except OSError as error:
        raise InputError(
            f"draws {str(path)!r}: cannot be read ({error.strerror})"
        ) from None
    if start != HDF5:
        raise InputError(
            f"draws {str(path)!r}: not an HDF5 file; expected netCDF-4, as ArviZ "
            "writes it"
        )
    return _read_tree(path, path, engine="netcdf4")


def _read_tree(path: Path, source: Any, **options: Any) -> DataTree:
    try:
        with open_datatree(source, decode_times=False, **options) as tree:
            skipped = [
                name
                for name, group in tree.children.items()
                if name not in WANTED and group.nbytes > LARGE
            ]
            for name in skipped:
                del tree[name]
            if tree.nbytes > posteriordb.MOST_BYTES:
                raise posteriordb.too_large(path)
            tree.load()
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"draws {str(path)!r}: cannot be read ({why}); expected a netCDF-4 file or "
            "Zarr folder as ArviZ writes it"
        ) from None
    if not tree.children and any("draw" in v.dims for v in tree.data_vars.values()):
        tree = DataTree.from_dict({"posterior": tree.to_dataset()})  # without groups
    if skipped:
        tree.attrs["not_read"] = ", ".join(skipped)
    check_posterior(tree, f"draws {str(path)!r}")
    return tree


def _only_file(folder: Path) -> Path:
    """The one file of draws in a folder."""
    for place in posteriordb.PLACES:
        found = sorted(
            p
            for kind in ("*.json", "*.json.zip", "*.nc")
            for p in (folder / place).glob(kind)
            if not p.name.endswith(".info.json")
        )
        if len(found) > 1:
            names = ", ".join(p.name for p in found[:5])
            more = ", ..." if len(found) > 5 else ""
            raise InputError(
                f"draws {str(folder)!r}: holds {len(found)} files of draws; pass one "
                f"of {names}{more}"
            )
        if found:
            return found[0]
    raise InputError(
        f"draws {str(folder)!r}: holds no draws; expected a .json, .json.zip or .nc "
        "file, CSV files of CmdStan, a Zarr folder, or posteriordb's layout"
    )


def check_posterior(tree: DataTree, label: str) -> Dataset:
    """The posterior group, which has variables that are drawn.

    Raises:
        InputError: it is not there, or none of its variables has draws.
    """
    if "posterior" not in tree.children:
        raise InputError(
            f"{label}: no posterior group; expected an ArviZ DataTree, found the "
            f"groups: {', '.join(tree.children) or 'none'}"
        )
    posterior = tree.children["posterior"].to_dataset()
    if not posterior.data_vars:
        raise InputError(f"{label}: the posterior group holds no variables")
    if not any("draw" in v.dims for v in posterior.data_vars.values()):
        name, values = next(iter(posterior.data_vars.items()))
        found = ", ".join(map(str, values.dims)) or "none"
        raise InputError(
            f"{label}: {name!r} has the dimensions {found}; expected chain and draw"
        )
    return posterior
