"""The table that queries ask: what it holds, and that it is never the truth."""

import json

import pytest

from tests.records import method, record
from vi_bench.errors import InputError
from vi_bench.sweeps.index import FILE, frame, query, refresh
from vi_bench.sweeps.store import Store

KEYS = [f"{i:032x}" for i in range(5)]


def summary(seed, verdict="agrees"):
    """A summary.json whose numbers depend on the seed."""
    known = dict.fromkeys(("mean_mcse", "sd", "sd_mcse", "ess_bulk", "ess_tail"), 0.5)
    quantities = {"mean mu": known | {"mean": 1.0 + seed, "r_hat": None}}
    row = dict.fromkeys(
        ("mean_difference", "mean_difference_se", "sd_ratio", "sd_ratio_se", "w1_se"),
        None,
    ) | {"method": "cavi", "quantity": "mean mu", "judged": True, "w1": 0.25}
    found = record(
        methods={"cavi": method(bound=-10.0 - seed, quantities=quantities)},
        verdicts={"cavi": {"word": verdict, "reason": "because"}},
        comparisons=[row | {"w1_floor": None}],
        reference="nuts",
    )
    found["spec"]["seed"] = seed
    found["data"]["name"] = "it's"
    return found


def put(store, index, content=None):
    own = {"choice": {"seed": index}, "shared": index % 2 == 1, "seconds": 1.5}
    with store.write(KEYS[index]) as folder:
        (folder / "cell.json").write_text(json.dumps(own))
        text = json.dumps(summary(index) if content is None else content)
        (folder / "summary.json").write_text(text)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "st'o%re")
    for i in range(3):
        put(made, i)
    return made


def test_a_query_sees_every_cell_method_and_quantity(store):
    sql = "SELECT seed, bound, run_s, mean, w1, verdict, shared, data FROM quantities "
    sql += "JOIN methods USING (key, method) JOIN cells USING (key) ORDER BY seed"
    names, rows = query(store, sql)
    assert names[:3] == ["seed", "bound", "run_s"]
    assert rows[1] == (1, -11.0, 0.2, 2.0, 0.25, "agrees", 1, "it's")
    assert len(rows) == 3


def test_it_follows_the_cells(store):
    assert refresh(store) == (3, [])
    put(store, 3)
    assert refresh(store) == (1, [])
    store.put_aside(KEYS[0])
    assert query(store, "SELECT seed FROM cells ORDER BY 1")[1] == [(1,), (2,), (3,)]
    assert query(store, "SELECT count(*) FROM quantities")[1] == [(3,)]
    assert refresh(store, anew=True) == (3, [])


def test_attempts_are_there_too(store):
    store.fail(KEYS[4], "crashed", "SIGSEGV")
    found = query(store, "SELECT key, status, reason FROM attempts")[1]
    assert found == [(KEYS[4], "crashed", "SIGSEGV")]
    assert len(query(store, "SELECT * FROM attempts")[1]) == 1


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough" * 99])
def test_a_damaged_index_is_made_anew(store, content):
    refresh(store)
    (store.folder / FILE).write_bytes(content)
    assert query(store, "SELECT count(*) FROM cells")[1] == [(3,)]


def test_an_index_of_other_tables_is_made_anew(store):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(store.folder / FILE)) as old, old:
        old.execute("CREATE TABLE cells (key, other)")
        old.execute("PRAGMA user_version = 99")
    assert query(store, "SELECT count(*) FROM cells")[1] == [(3,)]


def test_a_damaged_cell_is_named_and_the_others_are_there(store):
    place = store.path(KEYS[1]) / "summary.json"
    place.write_bytes(place.read_bytes()[:-5])
    put(store, 3, {"schema": "of another time"})
    added, damaged = refresh(store)
    assert added == 2
    assert [d.key for d in damaged] == [KEYS[1], KEYS[3]]
    assert "summary.json is not understood" in str(damaged[1])


def test_a_frame_has_a_row_a_cell_method_and_quantity(store):
    found = frame(store.folder)
    assert list(found["seed"]) == [0, 1, 2]
    assert list(found["mean"]) == [1.0, 2.0, 3.0]
    assert list(found["shared"]) == [False, True, False]
    assert found.columns.is_unique
    with pytest.raises(InputError, match="is not the folder of a sweep"):
        frame(store.folder / "cells")
