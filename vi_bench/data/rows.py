"""Rows in files, read piece by piece, for data that do not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vi_bench.errors import InputError, ScalingError, SpecError, unknown

PIECE = 2**23
"""About how many bytes are read at once."""


@runtime_checkable
class Rows(Protocol):
    """The interface of an (N, d) array of rows, in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def __getitem__(self, place: slice, /) -> Any:
        """The rows start:stop (n, d)."""


def pieces(rows: Rows, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Cut rows into ranges [start, stop) of about PIECE bytes.

    Args:
        rows: the rows to be cut.
        multiple: number that divides the length of each range but the last.
    """
    total, features = rows.shape
    fit = PIECE // max(features * np.dtype(rows.dtype).itemsize, 1)
    size = max(fit // multiple, 1) * multiple
    for start in range(0, total, size):
        yield start, min(start + size, total)


def take(rows: Rows, places: np.ndarray) -> np.ndarray:
    """The rows at ascending indices."""
    if isinstance(rows, np.ndarray):
        return np.asarray(rows[places])
    found = [
        np.asarray(rows[start:stop])[inside - start]
        for start, stop in pieces(rows)
        if len(inside := places[(places >= start) & (places < stop)])
    ]
    return np.concatenate(found) if found else np.empty((0, rows.shape[1]))


class NumpyFile:
    """A .npy file of rows, read rather than memory-mapped.

    A mapped page counts as the process's own memory for as long as it is mapped, and a
    file that shrinks meanwhile kills the process; a read does neither.
    """

    def __init__(self, path: Path) -> None:
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise _unreadable(path, ".npy", error) from None
        if not isinstance(mapped, np.ndarray):
            mapped.close()
            raise ScalingError(
                f"data {str(path)!r}: cannot be read as .npy: it is an .npz of several "
                "arrays"
            )
        if mapped.ndim == 2 and not mapped.flags.c_contiguous:
            raise ScalingError(
                f"data {str(path)!r}: is stored column by column; to be streamed it "
                "has to be row by row (numpy.ascontiguousarray before numpy.save)"
            )
        self.path, self.shape, self.dtype = path, mapped.shape, mapped.dtype
        self._offset = int(getattr(mapped, "offset", 0))

    def __getitem__(self, place: slice) -> np.ndarray:
        start, stop, _ = place.indices(self.shape[0])
        features = self.shape[1]
        width = features * self.dtype.itemsize
        found = np.fromfile(
            self.path,
            self.dtype,
            (stop - start) * features,
            offset=self._offset + start * width,
        )
        if len(found) < (stop - start) * features:
            raise ScalingError(f"data {str(self.path)!r}: has become shorter")
        return found.reshape(-1, features)


class ParquetFile:
    """A parquet file of numeric columns, decoded one row group at a time."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise SpecError(
                f"data {str(path)!r}: reading parquet needs pyarrow; "
                "install it with: pip install 'vi-bench[parquet]'"
            ) from None
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise _unreadable(path, "parquet", error) from None
        schema = self._file.schema_arrow
        self.names = list(schema.names)
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise SpecError(f"data {str(path)!r}: column {min(twice)!r} occurs twice")
        kinds = []
        for name, kind in zip(self.names, schema.types, strict=True):
            if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
                raise SpecError(f"data {str(path)!r}: column {name!r} is not numeric")
            kinds.append(kind.to_pandas_dtype())
        if not self.names:
            raise SpecError(f"data {str(path)!r}: has no columns")
        about = self._file.metadata
        sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        self._ends = np.cumsum(sizes, dtype=int)
        self.path, self.dtype = path, np.result_type(*kinds)
        self.shape = (int(about.num_rows), len(self.names))
        self._held: tuple[int, np.ndarray] | None = None

    def _group(self, index: int) -> np.ndarray:
        """The rows of one row group; the last one is cached, as pieces are smaller."""
        held = self._held
        if held is not None and held[0] == index:
            return held[1]
        group = self._file.read_row_group(index)
        found = np.empty((group.num_rows, len(self.names)), self.dtype)
        for column, name in enumerate(self.names):
            cells = group.column(name)
            if cells.null_count:
                first = int(np.argmax(cells.is_null().to_numpy()))
                row = int(self._ends[index]) - group.num_rows + first + 1
                raise SpecError(
                    f"data {str(self.path)!r}: no value at row {row}, column {name!r}"
                )
            found[:, column] = cells.to_numpy()
        self._held = (index, found)
        return found

    def __getitem__(self, place: slice) -> np.ndarray:
        start, stop, _ = place.indices(self.shape[0])
        found = [np.empty((0, self.shape[1]), self.dtype)]
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            rows = self._group(index)
            first = int(self._ends[index]) - len(rows)
            part = rows[start - first : stop - first]
            found.append(part)
            start += len(part)
            index += 1
        return found[1] if len(found) == 2 else np.concatenate(found)


def open_zarr(path: Path) -> Rows:
    """Open a Zarr array of rows; needs the extra `zarr`.

    Raises:
        InputError: it cannot be read, or zarr is not installed.
    """
    try:
        import zarr
    except ImportError:
        raise SpecError(
            f"data {str(path)!r}: reading Zarr needs zarr; "
            "install it with: pip install 'vi-bench[zarr]'"
        ) from None
    try:
        return _Zarr(path, zarr.open_array(path, mode="r"))
    except Exception as error:  # zarr raises many kinds
        raise _unreadable(path, "a Zarr array", error) from None


class _Zarr:
    """A Zarr array that reports a damaged chunk as an InputError when it is read."""

    def __init__(self, path: Path, array: Any) -> None:
        self.path, self._array = path, array
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)

    def __getitem__(self, place: slice) -> Any:
        try:
            return self._array[place]
        except Exception as error:  # from zarr or any codec
            raise _unreadable(self.path, "a Zarr array", error) from None


def _unreadable(path: Path, kind: str, error: Exception) -> InputError:
    first = str(error).partition("\n")[0]
    return SpecError(f"data {str(path)!r}: cannot be read as {kind}: {first}")


SOURCES: dict[str, Callable[[Path], Rows]] = {
    ".npy": NumpyFile,
    ".parquet": ParquetFile,
    ".zarr": open_zarr,
}
"""File extension -> reader, of files that can be read piece by piece."""


def open_rows(path: Path) -> Rows:
    """The rows of a file that can be read piece by piece.

    Raises:
        InputError: it cannot be read, or holds anything else than rows of numbers.
    """
    source = SOURCES.get(path.suffix.lower())
    if source is None:
        kinds = [f"a {s} file" for s in SOURCES]
        raise unknown("data to be streamed", str(path), kinds, error=SpecError)
    if not path.exists():
        raise SpecError(f"data {str(path)!r}: there is no such file")
    rows = source(path)
    if rows.dtype.kind not in "fiu":
        raise SpecError(
            f"data {str(path)!r}: holds {rows.dtype} values, expected real numbers"
        )
    if len(rows.shape) != 2:
        raise SpecError(
            f"data {str(path)!r}: has {len(rows.shape)} dimensions, expected rows x "
            "features"
        )
    if 0 in rows.shape:
        raise SpecError(f"data {str(path)!r}: is empty, shape {tuple(rows.shape)}")
    return rows
