"""`--json`: one strict JSON document on stdout, the one that is stored where one is."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from tests.sweeps.stand_in import COMMAND
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.runtime.strict_json import document, plain
from vi_bench.sweeps import pool

ROOT = Path(__file__).parents[2]

PAGE = "".join(
    (ROOT / "docs" / page).read_text(encoding="utf-8")
    for page in ("cli.md", "summary.md", "calibration.md")
)

LOUD = (
    "from vi_bench.methods.exact import Exact\n"
    "from dataclasses import dataclass\n"
    "print('loaded')\n"
    "@dataclass(frozen=True)\nclass METHOD(Exact):\n"
    "    def prepare(self, problem, key):\n"
    "        print('prepared')\n"
    "        return super().prepare(problem, key)\n"
)


def refused(token):
    raise AssertionError(f"{token} is not JSON")


def ask(*given, code=0):
    """The document that a command prints, and what it says beside."""
    done = CliRunner().invoke(app, [*map(str, given), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.exit_code == code, done.output
    told = json.loads(done.stdout, parse_constant=refused)
    for key in told:
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", key)
        assert f"`{key}`" in PAGE, key
    assert done.stdout.endswith("}\n")
    return told, done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, made by the command; its method prints."""
    folder = tmp_path_factory.mktemp("json")
    # shapes and settings of `tests.runner.test_reference`: the programs are the same
    rows = "".join(f"{i % 2 * 8 + i / 50}\n" for i in range(10))
    (folder / "mine.csv").write_text(rows)
    (folder / "loud.py").write_text(LOUD)
    (folder / "mine.toml").write_text(
        f"data = '{folder / 'mine.csv'}'\ncomponents = 2\ndraws = 500\n"
        "reference = 'loud'\n[methods.cavi]\nrestarts = 4\ntol = 1e-12\n"
    )
    loud = ("--method", folder / "loud.py")
    out = folder / "done"
    with catalogue.scope():
        told, done = ask(
            *("run", folder / "mine.toml", "--out", out, "--methods", "loud,cavi"),
            *("--repeats", 1, "--quiet", *loud),
        )
        yield folder, told, done


@pytest.mark.slow
def test_a_run_is_the_summary_that_is_stored(run):
    folder, told, done = run
    assert done.stdout == (folder / "done" / "summary.json").read_text()
    assert set(told["methods"]) == {"loud", "cavi"}
    assert "loaded\n" in done.stderr
    assert "prepared\n" in done.stderr


@pytest.mark.slow
def test_a_run_again_tells_what_became_of_its_numbers(run):
    folder, _, _ = run
    loud = ("--method", folder / "loud.py")
    told, _ = ask("rerun", folder / "done", *loud, "--quiet")
    assert told["same"]
    assert told["methods"]["loud"] == {"word": "bitwise the same", "sentence": ""}
    for change in told["changes"]:
        assert set(change) == {"what", "was", "is"}


@pytest.mark.slow
def test_a_report_names_what_was_written(run):
    folder, _, _ = run
    told, done = ask("report", folder / "done", "--tables", folder / "tables")
    assert told == {"written": [str(folder / "tables")]}
    assert f"written to {folder / 'tables'}" in done.stderr


def test_a_comparison_is_what_out_writes(tmp_path):
    files = []
    for seed, name in enumerate(("a", "b")):
        values = np.random.default_rng(seed).normal(size=(2, 50, 2))
        mu = xr.DataArray(values, dims=("chain", "draw", "component"))
        tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": mu})})
        tree.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        files.append(tmp_path / f"{name}.nc")
    out = tmp_path / "out.json"
    told, done = ask("compare", *files, "--reference", "b", "--out", out)
    assert done.stdout == out.read_text()
    assert done.stderr == ""
    assert told["reference"] == "b"


def test_a_verification_tells_every_check_and_the_smallest_failure(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tests.zoo.gaussian import NoConstant\n"
        "def bad(data, K, sigma, seed):\n"
        "    print('hello')\n"
        "    return NoConstant()(data, K, sigma, seed)\n"
    )
    told, done = ask("verify", f"{tmp_path / 'mine.py'}:bad", code=1)
    assert not told["passed"]
    assert told["verdict"].startswith("wrong: ")
    assert "hello" in done.stderr
    checks = {check["check"]: check for check in told["checks"]}
    assert checks["keeps its promise"]["failed"] == 0
    first = told["failures"][0]
    assert checks[first["check"]]["failed"] > 0
    assert "check_cavi" in first["script"]
    assert told["z_threshold"] is None


@pytest.mark.slow
def test_a_calibration_is_the_summary_that_is_stored(tmp_path):
    sizes = ("--sims", 20, "--rows", 4, "--geweke", 0, "--seed", 1)
    options = ("--methods", "exact", "--out", tmp_path / "c", "--quiet")
    told, done = ask("calibrate", "gaussian", *sizes, *options)
    assert done.stdout == (tmp_path / "c" / "summary.json").read_text()
    assert told["settings"]["sims"] == 20


@pytest.mark.parametrize(
    "kind", ["models", "methods", "weights", "data", "experiments"]
)
def test_a_list_has_name_summary_and_origin(kind):
    told, done = ask("list", kind)
    assert told["kind"] == kind
    lines = CliRunner().invoke(app, ["list", kind]).stdout.splitlines()
    assert len(lines) == len(told["entries"])
    for line, entry in zip(lines, told["entries"], strict=True):
        assert set(entry) == {"name", "summary", "origin"}
        assert line.split()[0] == entry["name"].split()[0]
        assert entry["summary"] in line
    assert done.stderr == ""


def test_a_sweep_and_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "COMMAND", COMMAND)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spec, folder = tmp_path / "grid.toml", tmp_path / "s"
    spec.write_text(
        "[base]\nmethods = ['cavi']\ndata = 'galaxies'\n[grid]\nseed = [0, 1]\n"
    )
    ahead, _ = ask("sweep", spec, "--out", folder, "--jobs", 1, "--dry-run")
    assert ahead["to_run"] == ahead["cells"] == 2
    assert ahead["seconds"] is None
    assert not folder.exists()
    told, _ = ask("sweep", spec, "--out", folder, "--jobs", 1)
    assert (told["cells"], told["done"], told["failed"]) == (2, 2, [])
    assert told["folder"] == str(folder)
    (sweep,) = ask("status", folder)[0]["sweeps"]
    assert (sweep["name"], sweep["done"], sweep["failed"]) == ("grid", 2, [])
    assert ask("status", folder, "--check")[0]["damaged"] == []
    told, _ = ask("query", folder, "SELECT 1 AS n, 9e999 AS far, x'0aff' AS raw")
    assert told == {"columns": ["n", "far", "raw"], "rows": [[1, None, "0aff"]]}
    told, _ = ask("reindex", folder, code=1)  # a stand-in's cells have no summary
    assert told["cells"] == 0
    assert [set(one) for one in told["damaged"]] == [{"key", "file", "why"}] * 2
    file = next(f for f in (folder / "cells").rglob("*.*") if "MANIFEST" not in f.name)
    file.write_text("other")
    (damaged,) = ask("status", folder, "--check", code=1)[0]["damaged"]
    assert (damaged["key"], damaged["file"]) == (file.parent.name, file.name)


def test_cells_that_failed_are_told_with_their_attempts(tmp_path, monkeypatch):
    from tests.sweeps.stand_in import REFUSED

    monkeypatch.setattr(pool, "COMMAND", COMMAND)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spec, folder = tmp_path / "grid.toml", tmp_path / "s"
    spec.write_text(
        "[base]\nmethods = ['cavi']\ndata = 'galaxies'\n"
        f"[grid]\nseed = [0, {REFUSED}]\n"
    )
    told, _ = ask("sweep", spec, "--out", folder, "--jobs", 1, code=1)
    (failed,) = told["failed"]
    (sweep,) = ask("status", folder)[0]["sweeps"]
    (known,) = sweep["failed"]
    assert known["key"] == failed["key"]
    assert known["choice"] == {"seed": REFUSED}
    assert known["attempts"][0]["reason"] == failed["reason"]
    again, _ = ask("sweep", spec, "--out", folder, "--jobs", 1, code=1)
    assert (again["there"], again["left"], again["failed"]) == (1, 1, [])


@pytest.mark.parametrize(
    "command", ["list model", "query nowhere 'SELECT 1'", "run nothing", "doctor --x"]
)
def test_a_refusal_leaves_stdout_empty(command):
    done = CliRunner().invoke(app, [*command.split(maxsplit=2), "--json"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_values_become_strict_json():
    given = {"a": np.array([1.0, np.nan]), "b": (math.inf, {np.float64(2)}), 3: None}
    assert plain(given) == {"a": [1.0, None], "b": [None, [2.0]], "3": None}
    assert json.loads(document(given | {"truth": np.bool_(True)}))["truth"] is True
