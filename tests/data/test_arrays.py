"""Named arrays from every kind of file, and what is refused."""

import json
import zipfile

import numpy as np
import pytest

from vi_bench.data.arrays import arrays, read_arrays
from vi_bench.errors import InputError

Y, GROUP = np.array([0.5, 1.25, -2.0]), np.array([0, 1, 1])


def test_the_same_arrays_from_any_file(tmp_path):
    np.savez(tmp_path / "a.npz", y=Y, group=GROUP, N=3)
    text = json.dumps({"y": Y.tolist(), "group": GROUP.tolist(), "N": 3})
    (tmp_path / "a.json").write_text(text)
    with zipfile.ZipFile(tmp_path / "a.json.zip", "w") as archive:
        archive.writestr("a.json", text)
    found = [read_arrays(tmp_path / f"a.{e}") for e in ("npz", "json", "json.zip")]
    for one in found:
        assert one.values["N"] == 3
        assert isinstance(one.values["N"], int)
        np.testing.assert_array_equal(one.values["y"], Y)
        assert one.values["group"].dtype.kind == "i"
    assert len({one.sha256 for one in found}) == 1
    other = arrays({"y": Y, "group": GROUP, "N": 4})
    assert other.sha256 != found[0].sha256


def test_columns_of_text_and_a_single_array(tmp_path):
    (tmp_path / "a.csv").write_text("y,group\n0.5,0\n1.25,1\n-2,1\n")
    found = read_arrays(tmp_path / "a.csv")
    np.testing.assert_array_equal(found.values["y"], Y)
    assert found.values["group"].dtype.kind == "i"  # may be an index
    np.save(tmp_path / "a.npy", Y)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npy").values["data"], Y)


def test_what_is_no_array_is_told_when_it_is_asked_for(tmp_path):
    text = '{"y": [1, 2], "rag": [[1], [1, 2]], "text": "a", "gap": [1, NaN]}'
    (tmp_path / "a.json").write_text(text)
    found = read_arrays(tmp_path / "a.json")
    assert list(found.values) == ["y"]
    assert found.unfit == {
        "rag": "is no array of numbers, all rows alike",
        "text": "is no array of numbers, all rows alike",
        "gap": "is not finite at [1]",
    }
    (tmp_path / "a.csv").write_text("y,site,x\n0.5,a,1\n1.5,b,\n")
    found = read_arrays(tmp_path / "a.csv")
    assert list(found.values) == ["y"]
    assert found.unfit == {
        "site": "'a' at line 2 is no finite number",
        "x": "'' at line 3 is no finite number",
    }


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "[1, 2]", "expected an object of names and values"),
        ("a.json", "{", "cannot be read as .json"),
        ("a.npz", "no zip", "cannot be read as .npz"),
        ("a.xml", "", "expected a file that ends in .npz"),
        ("a.csv", "", "is empty"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as refused:
        read_arrays(path)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_arrays(tmp_path / "a.npz")
