"""Text files of rows as spreadsheets and other programs write them."""

from typing import get_args

import numpy as np
import pytest

from vi_bench.data.load import load
from vi_bench.data.text import SEPARATORS, Layout
from vi_bench.errors import InputError
from vi_bench.spec import Separator


def written(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


AB = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "layout", "features", "values", "said"),
    [
        (",a,b\n0,1,2\n1,3,4\n", {}, "ab", AB, "first column left out as the index"),
        (",a,b\nu,1,2\nv,3,4\n", {}, "ab", AB, "first column left out as the index"),
        ("a b\nu 1 2\nv 3 4\n", {}, "ab", AB, "separated by spaces; first column left"),
        ('"a" "b"\n"1" 1 2\n"2" 3 4\n', {}, "ab", AB, "first column left out"),
        (",0,1\n0,1,2\n1,3,4\n", {}, "01", AB, "first column left out as the index"),
        (
            "id,a\n7,1\n9,3\n",
            {"index": True},
            "a",
            [[1], [3]],
            "column 'id' left",
        ),
        (",a,b\n7,1,2\n9,3,4\n", {"index": False}, None, None, ""),
        ("0,1\n3,4\n", {"header": True}, "01", [[3, 4]], ""),
        ("0,1\n3,4\n", {"header": False}, None, [[0, 1], [3, 4]], ""),
        ("1,2\n3,4\n", {}, None, AB, ""),
        ("a;b\n1;2\n3;4\n", {}, "ab", AB, "cells separated by semicolons"),
        (
            "a;b\n1,0;2\n3;4,0\n",
            {},
            "ab",
            AB,
            "decimal commas read as points",
        ),
        ("1,5;2,5\n1,5;2,5\n", {}, None, [[1.5, 2.5]] * 2, "decimal commas"),
        ("a\tb\n1\t2\n3\t4\n", {}, "ab", AB, "cells separated by tabs"),
        ("a\tb\n1,0\t2,0\n3,0\t4,0\n", {}, "ab", AB, "tabs; decimal commas"),
        ("1  2\n 3 4\n", {}, None, AB, "cells separated by spaces"),
        (
            "# made by hand\na,b\n1,2\n# more\n3,4\n",
            {},
            "ab",
            AB,
            "2 lines",
        ),
        ("\ufeffa,b\n1,2\n3,4\n", {}, "ab", AB, ""),
        ("a,b,\n1,2,\n3,4,\n", {}, "ab", AB, "empty last column left out"),
        ("a/b,c d\n1,2\n3,4\n", {}, ("a/b", "c d"), AB, ""),
        ("year,2019\n1,2\n3,4\n", {"header": True}, ("year", "2019"), AB, ""),
        ("sep=;\na;b\n1,0;2\n3;4\n", {}, "ab", AB, "decimal commas"),
        ("1,5 2,5\n3,5 4,5\n", {}, None, [[1.5, 2.5], [3.5, 4.5]], "spaces"),
        ("1;2,5\n3;4,5\n", {}, None, [[1, 2.5], [3, 4.5]], "semicolons"),
    ],
)
def test_what_only_one_reading_fits_is_recognised_and_said(
    tmp_path, text, layout, features, values, said
):
    if values is None:
        table = load(written(tmp_path, text), layout=Layout(**layout))
        assert table.features == ("column 1", "a", "b")
        return
    table = load(written(tmp_path, text), layout=Layout(**layout))
    np.testing.assert_array_equal(table.values, values)
    width = len(values[0])
    assert table.features == tuple(features or (f"x{i}" for i in range(width)))
    assert said in table.note
    assert bool(table.note) == bool(said) or width == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "0,1,2\n5,6,7\n",
            ["line 1, 0, 1, 2, may be names", "--header or --no-"],
        ),
        ("a,,b\n1,2,3\n", ["line 1, a, (empty), b, may be names"]),
        ("year,2019\n1,2\n3,4\n", ["line 1, year, 2019, may be names", "--header"]),
        ("5.1,?,2.7\n1,2,3\n3,4,5\n", ["line 1, 5.1, ?, 2.7, may be names"]),
        ("NA,1.5\n1,2\n3,4\n", ["line 1, NA, 1.5, may be names"]),
        ("NA\n1\n2\n", ["line 1, NA, may be names"]),
        ("2020-01-01,5\n3,4\n", ["may be names or a row"]),
        (",1.5,2.7\n1,2,3\n3,4,5\n", ["line 1, (empty), 1.5, 2.7, may be names"]),
        ("0\n1.5\n2.5\n", ["line 1, 0, may be names"]),
        ("2019,2020\n1.5,2.25\n", ["line 1, 2019, 2020, may be names"]),
        ("a;b\n1,234;0.5\n999;1.5\n", ["decimal points, as in '0.5', and commas"]),
        ("a,b,a\n1,2,3\n", ["column 'a' occurs twice"]),
        ("a,kind\n1,u\n3,v\n", ["'u' at line 2, column 2", "--labels 'kind'"]),
        ("id,a\nu,1\nv,2\n", ["'u' at line 2, column 1", "--index"]),
        ("year,2019\nA,1\nB,2\n", ["'year' at line 1", "--header"]),
        ("a,b\n1,2\n3,x\n", ["'x' at line 3, column 2 is not a number"]),
        (",a,b\n0,1,2\n1,3,x\n", ["'x' at line 3, column 3 is not a number"]),
        ("a,b\n1,2\n3\n", ["line 3 has 1 cells, expected 2"]),
        ("a,b\n", ["is empty"]),
        ("", ["is empty"]),
        ("# nothing\n", ["is empty"]),
        ("a\tb;c\n1\t2;3\n", ["separated by semicolon or tab; give --separator"]),
        (b"\xff\xfea\x00", ["is not UTF-8 text"]),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_the_option(
    tmp_path, text, words
):
    with pytest.raises(InputError) as found:
        load(written(tmp_path, text))
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_named_separator_decides(tmp_path):
    path = written(tmp_path, "a\tb;c\n1\t2;3\n")
    with pytest.raises(InputError, match="line 2, column 2 is not a number"):
        load(path, layout=Layout(separator="tab"))


def test_known_labels_are_left_out_and_kept_beside(tmp_path):
    path = written(tmp_path, "a,kind,b\n1,v,2\n3,u,4\n5,v,6\n")
    table = load(path, layout=Layout(labels="kind"))
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4], [5, 6]])
    assert table.truth["labels"].tolist() == [1, 0, 1]
    assert table.note == "column 'kind' left out as known labels"
    assert table.standardised().truth["labels"].tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="did you mean 'kind'"):
        load(path, layout=Layout(labels="kin"))
    empty = written(tmp_path, "a,kind\n1,v\n3,\n", "u.csv")
    with pytest.raises(InputError, match="no label at line 3, column 'kind'"):
        load(empty, layout=Layout(labels="kind"))
    assert set(get_args(Separator)) == set(SEPARATORS)
    with pytest.raises(InputError, match="unknown separator 'pipe'"):
        load(path, layout=Layout(separator="pipe"))


def test_other_kinds_of_files_have_a_way_out(tmp_path):
    rows = "1\t2\n3\t4\n"
    for name in ("t.tsv", "t.txt"):
        assert load(written(tmp_path, rows, name)).values.tolist() == AB
    with pytest.raises(InputError, match=r"a spreadsheet; save the sheet as \.csv"):
        load(written(tmp_path, rows, "t.xlsx"))
    with pytest.raises(InputError, match="'faithful': is no text file"):
        load("faithful", layout=Layout(labels="kind"))
