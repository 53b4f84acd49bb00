"""A user's own file: names of any kind, known labels, and nothing that is lost."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import vi_bench as vb
from tests.small import FIELDS, ROWS
from vi_bench.cli.app import app
from vi_bench.comparison.quantities import Quantity
from vi_bench.errors import ResultsError
from vi_bench.results.stored import open_run
from vi_bench.results.trees import SLASH
from vi_bench.runner import views

CAVI = {"cavi": {"restarts": 3}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What the command says of rows with slashes in names and a column of labels."""
    folder = tmp_path_factory.mktemp("own")
    kinds = np.repeat(["u", "v"], [20, 25])
    lines = [f"{a},{b},{kind}" for (a, b), kind in zip(ROWS, kinds, strict=True)]
    (folder / "mine.csv").write_text("\n".join(["km/h,c/d,kind", *lines]))
    (folder / "mine.toml").write_text(
        f"data = '{folder / 'mine.csv'}'\nlabels = 'kind'\ncomponents = 2\n"
        "draws = 100\nchains = 2\nrepeats = 1\n[methods.cavi]\nrestarts = 3\n"
    )
    given = ["run", str(folder / "mine.toml"), "--out", str(folder / "out"), "--quiet"]
    told = CliRunner().invoke(app, given)
    assert told.exit_code == 0, told.output
    return folder / "out"


def test_components_are_held_against_known_labels(done):
    known = json.loads((done / "summary.json").read_text())["labels"]
    assert (known["column"], known["rows"], known["draws"]) == ("kind", 45, 200)
    index = known["adjusted_rand"]["cavi"]
    assert index["mean"] > 0.95  # clusters eight sds apart
    assert 0 <= index["sd"] < 0.05
    page = done / "page.html"
    CliRunner().invoke(app, ["report", str(done), "--out", str(page)])
    assert "agreement with the known labels in" in page.read_text()


def test_names_are_made_safe_in_files_and_shown_as_given(done):
    run = open_run(done)
    assert list(run.record.data.features) == ["km/h", "c/d"]
    stored = run.trees["cavi"]["compared"]
    assert f"mu[km{SLASH}h]" in stored
    from vi_bench.results.stored import _quantities

    names = set(_quantities(run.trees["cavi"]))
    assert Quantity("mu[km/h] of component 0") in names
    assert not any(SLASH in name for name in names)


def test_labels_change_nothing_else(done):
    table = vb.load(ROWS)
    found = vb.run("gaussian", table, CAVI, **FIELDS | {"repeats": 1})
    stored = open_run(done).record.methods["cavi"]
    assert found.record.methods["cavi"].bound == stored.bound
    assert "labels" not in found.summary


def test_labels_that_no_data_have_are_refused_before_anything_is_computed():
    with pytest.raises(vb.InputError, match=r"labels = 'kind': the data .* no such"):
        vb.run("gaussian", ROWS, CAVI, labels="kind", **FIELDS)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(views.Result, "save", full)
    monkeypatch.setattr(views.Result, "save_arrays", full)
    with pytest.raises(OSError, match="No space left"):
        vb.run("gaussian", ROWS, CAVI, out=tmp_path / "r", **FIELDS | {"repeats": 1})
    assert list(tmp_path.iterdir()) == []


def test_what_was_computed_is_kept_where_it_cannot_be_written(tmp_path, monkeypatch):
    def broken(result):
        raise ValueError("a name that no file can hold")

    monkeypatch.setattr(views, "trees", broken)
    out = tmp_path / "out"
    with pytest.raises(ResultsError, match=r"a name that no file.*out\.kept'") as error:
        vb.run("gaussian", ROWS, CAVI, out=out, **FIELDS | {"repeats": 1})
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["out.kept"]
    with np.load(tmp_path / "out.kept" / "cavi.npz") as kept:
        assert kept["mu"].shape == (2, 100, 2, 2)
        assert kept["log_joint"].shape == (2, 100)
    assert "Traceback" in (tmp_path / "out.kept" / "error.txt").read_text()
