"""Rows in files, read piece by piece."""

from itertools import pairwise

import numpy as np
import pytest

from vi_bench.data import rows, table
from vi_bench.data.load import load
from vi_bench.data.rows import open_rows, pieces, take
from vi_bench.errors import InputError


def write(folder, kind, values):
    path = folder / f"x.{kind}"
    if kind == "npy":
        np.save(path, values)
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        columns = {f"u{j}": values[:, j] for j in range(values.shape[1])}
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=7)
    else:
        import zarr

        zarr.create_array(path, data=values, chunks=(9, values.shape[1]))
    return path


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(rows, "PIECE", 160)


@pytest.fixture(params=["npy", "parquet", "zarr"])
def kind(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_every_slice_is_that_of_the_array(kind, dtype, tmp_path, random):
    x = (10 * random.normal(size=(40, 2))).astype(dtype)
    found = open_rows(write(tmp_path, kind, x))
    assert tuple(found.shape) == (40, 2)
    assert np.dtype(found.dtype) == dtype
    for start, stop in [(0, 40), (0, 0), (3, 5), (6, 8), (13, 29), (39, 40)]:
        np.testing.assert_array_equal(found[start:stop], x[start:stop])
    np.testing.assert_array_equal(found[:], x)


def test_pieces_cover_all_rows_once(random):
    x = random.normal(size=(41, 2))
    parts = list(pieces(x, multiple=4))
    assert parts[0][0] == 0
    assert parts[-1][1] == 41
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    assert {stop - start for start, stop in parts[:-1]} == {8}
    assert list(pieces(x, multiple=100)) == [(0, 41)]


def test_rows_taken_are_those_of_the_array(kind, tmp_path, random):
    x = random.normal(size=(40, 3))
    places = np.array([0, 1, 8, 20, 39])
    found = open_rows(write(tmp_path, kind, x))
    np.testing.assert_array_equal(take(found, places), x[places])
    np.testing.assert_array_equal(take(x, places), x[places])


def test_a_streamed_table_knows_what_one_in_memory_does(
    kind, tmp_path, random, monkeypatch
):
    monkeypatch.setattr(table, "SAMPLE", 16)
    x = 1e4 + random.normal(size=(50, 2)) * [1.0, 100.0]
    path = write(tmp_path, kind, x)
    whole, streamed = load(path), load(path, stream=True)
    assert len(streamed) == len(whole) == 50
    assert streamed.sha256 == whole.sha256
    assert streamed.features == whole.features
    np.testing.assert_allclose(streamed.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(streamed.whole.spread, x.std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(streamed.values, x[streamed.numbers])
    assert len(streamed.values) == 16
    parts = np.concatenate([part.values for part in streamed.parts()])
    np.testing.assert_array_equal(parts, x)
    scaled = streamed.standardised()
    parts = np.concatenate([part.values for part in scaled.parts()])
    np.testing.assert_allclose(parts, whole.standardised().values, atol=1e-9)


def test_what_is_not_finite_is_found_wherever_it_is(kind, tmp_path, random):
    x = random.normal(size=(50, 2))
    x[33, 1] = np.inf
    with pytest.raises(InputError, match="inf at row 34, column 2"):
        load(write(tmp_path, kind, x), stream=True)


def test_a_part_of_a_streamed_table_knows_its_place(tmp_path, random):
    x = random.normal(size=(50, 2))
    streamed = load(write(tmp_path, "npy", x), stream=True)
    last = list(streamed.parts())[-1]
    row = len(last.values) - 1
    assert last.at(row, 1) == "row 50, column 2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "x.csv", "unknown data to be streamed"),
        (lambda p: p / "none.npy", "there is no such file"),
        (lambda p: write(p, "npy", np.zeros(3)), "has 1 dimensions"),
        (lambda p: write(p, "npy", np.zeros((0, 2))), "is empty"),
        (lambda p: write(p, "npy", np.asfortranarray(np.eye(3))), "column by column"),
        (lambda p: write(p, "npy", np.array([["a"]])), "expected real numbers"),
        (lambda p: write(p, "zarr", np.zeros((3, 2), bool)), "expected real numbers"),
    ],
)
def test_what_cannot_be_streamed_is_refused(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load(make(tmp_path), stream=True)


def test_nonsense_is_refused(kind, tmp_path):
    (tmp_path / f"x.{kind}").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read as"):
        open_rows(tmp_path / f"x.{kind}")


def test_a_missing_value_in_parquet_is_found(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "x.parquet"
    values = pyarrow.table({"u": [1, 2, None, 4], "v": [0.5, 1.5, 2.5, 3.5]})
    pyarrow.parquet.write_table(values, path, row_group_size=2)
    with pytest.raises(InputError, match="no value at row 3, column 'u'"):
        load(path, stream=True)


def test_a_file_that_has_become_shorter_is_noticed(tmp_path, random):
    path = write(tmp_path, "npy", random.normal(size=(40, 2)))
    found = open_rows(path)
    with path.open("rb+") as file:
        file.truncate(200)
    with pytest.raises(InputError, match="has become shorter"):
        found[30:40]


def test_zarr_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "zarr", None)
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(InputError, match=r"vi-bench\[zarr\]"):
        load(tmp_path / "x.zarr")
