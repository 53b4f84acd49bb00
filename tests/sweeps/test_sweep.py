"""Sweeps: whatever befalls a cell, a worker or the sweep, the others get finished."""

import hashlib
import json
import os
import random as chance
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner
from xarray import open_datatree

from tests.marks import slow
from tests.sweeps.stand_in import (
    BROKEN,
    COMMAND,
    CRASH,
    GONE,
    LARGE,
    REFUSED,
    ROOT,
    SEGFAULT,
    SLOW,
    STUCK,
    cells,
    seeds,
)
from vi_bench import catalogue
from vi_bench.cli import sweep as command
from vi_bench.cli.app import app
from vi_bench.errors import InputError
from vi_bench.sweeps import pool
from vi_bench.sweeps.grid import sweep_of
from vi_bench.sweeps.index import frame
from vi_bench.sweeps.status import status
from vi_bench.sweeps.store import Full, Store
from vi_bench.sweeps.sweep import Progress, foresee, plan, run_sweep, shard


def answer(question):
    """As a stand-in would."""
    return {"kind": "cpu"}


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    """Stand-ins, whose cells take no time."""
    monkeypatch.setattr(pool, "COMMAND", COMMAND)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(sweep, folder, jobs=2, **options):
    lines = []
    found = run_sweep(
        sweep,
        folder,
        jobs=jobs,
        tell=lambda progress, line: lines.append(line) if line else None,
        **options,
    )
    return found, lines


def test_every_cell_is_made_once_by_workers_that_stay(tmp_path):
    found, lines = run(seeds(*range(12)), tmp_path / "s")
    assert (found.cells, found.done, found.ended, lines) == (12, 12, 12, [])
    made = cells(tmp_path / "s")
    assert sorted(c["seed"] for c in made) == list(range(12))
    assert 1 <= len({c["pid"] for c in made}) <= 2
    again, _ = run(seeds(*range(13)), tmp_path / "s")
    assert (again.there, again.done) == (12, 1)
    assert "13 cells: 1 done, 12 there before" in again.line()


def test_timed_cells_have_a_fresh_process_each_one_at_a_time(tmp_path):
    run(seeds(*range(3)), tmp_path / "s", timed=True)
    assert len({c["pid"] for c in cells(tmp_path / "s")}) == 3


@pytest.mark.parametrize(
    ("seed", "kind", "said"),
    [
        (CRASH, "crashed", "was killed by SIGKILL, as the system does when memory"),
        (SEGFAULT, "crashed", "was killed by SIGSEGV"),
        (GONE, "crashed", "ended with exit code 3: the end is near"),
        (STUCK, "timed out", "took over 1 s"),
        (BROKEN, "failed", "ZeroDivisionError: first line"),
        (REFUSED, "failed", "data: not today"),
    ],
)
def test_what_befalls_a_cell_is_its_own_affair(tmp_path, seed, kind, said):
    sweep = seeds(0, seed, 1, 2)
    found, lines = run(sweep, tmp_path / "s", timeout=1.0 if seed == STUCK else None)
    assert (found.done, len(found.failed), found.ended) == (3, 1, 4)
    assert lines[0].startswith(f"seed = {seed}: {kind}: ")
    assert said in lines[0]
    assert "\n" not in lines[0]
    assert sorted(c["seed"] for c in cells(tmp_path / "s")) == [0, 1, 2]

    (known,) = status(Store(tmp_path / "s", create=False))
    assert (known.cells, known.done, known.waiting) == (4, 3, 0)
    (failure,) = known.failures
    assert failure.choice == {"seed": seed}
    assert failure.attempts[0].status == kind
    assert said in failure.line()
    # it is not tried again but when that is asked for
    assert run(sweep, tmp_path / "s")[0].left == 1
    if seed != STUCK:
        assert len(run(sweep, tmp_path / "s", retry=True)[0].failed) == 1
        assert "2 attempts" in status(Store(tmp_path / "s"))[0].failures[0].line()


def test_shards_share_the_cells(tmp_path):
    sweep = seeds(*range(7))
    counts = [run(sweep, tmp_path / "s", part=(i, 3))[0].cells for i in (1, 2, 3)]
    assert counts == [3, 2, 2]
    assert len(cells(tmp_path / "s")) == 7
    planned = plan(sweep, answer)
    parts = [shard(planned, i, 3) for i in (1, 2, 3)]
    assert sorted(c.key for part in parts for c in part) == sorted(
        c.key for c in planned
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "jobs = 0: expected at least 1"),
        ({"timeout": 0.0}, "cell timeout = 0.0: expected seconds over 0"),
        ({"timeout": float("nan")}, "cell timeout = nan: expected"),
        ({"part": (0, 2)}, "shard 0/2: expected 1/2 to 2/2"),
        ({"part": (3, 2)}, "shard 3/2: expected"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path, options, said
):
    with pytest.raises(InputError, match=said):
        run_sweep(seeds(0), tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_data_that_are_not_there_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        run_sweep(seeds(0, data="nowhere.csv"), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_code_that_changed_meanwhile_is_not_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('run')\n")
    with pytest.raises(InputError, match=r"mine\.py' changed since"):
        catalogue.add_files([("method", str(file), "0" * 64)])


def test_cells_with_one_answer_are_one_cell(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n3,4\n5,7\n")
    data = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    sweep = sweep_of({"grid": {"data": data, "seed": [0, 1]}})
    assert run(sweep, tmp_path / "s")[0].cells == 2


def test_a_dry_run_counts_estimates_and_writes_nothing(tmp_path):
    sweep = seeds(*range(5))
    said = foresee(sweep, tmp_path / "s", jobs=1).line()
    assert said.startswith("5 cells, 0 there, 5 to run; no finished cell")
    assert not (tmp_path / "s").exists()
    run(seeds(0, 1), tmp_path / "s")
    said = foresee(sweep, tmp_path / "s", jobs=1).line()
    assert said == "5 cells, 2 there, 3 to run; about 0 s, as 2 finished cells took"
    assert foresee(seeds(0), tmp_path / "s").line() == "1 cells, 1 there, 0 to run"


def test_damaged_cells_are_made_again_when_that_is_asked_for(tmp_path):
    sweep = seeds(0, 1, 2)
    run(sweep, tmp_path / "s")
    store = Store(tmp_path / "s")
    one, other, _ = store.finished()
    place = store.path(one) / "cell.json"
    place.write_bytes(place.read_bytes().replace(b"0.01", b"0.02"))
    (store.path(other) / "MANIFEST.json").unlink()
    assert run(sweep, tmp_path / "s")[0].there == 3
    found, _ = run(sweep, tmp_path / "s", repair=True)
    assert (found.there, found.done) == (1, 2)
    assert sorted(c["seed"] for c in cells(tmp_path / "s")) == [0, 1, 2]
    assert len(os.listdir(tmp_path / "s" / "quarantine")) == 2


def contents(folder):
    """Of every cell what does not tell when, where or by whom it was made."""
    store = Store(folder, create=False)
    return {
        key: {
            name: store.read(key, name)
            for name in store.manifest(key)
            if name != "cell.json"
        }
        for key in store.finished()
    }


def test_a_full_disk_ends_the_sweep_and_the_same_command_goes_on(tmp_path):
    sweep = seeds(0, 1, LARGE, 2, 3)
    Store(tmp_path / "s")
    (tmp_path / "s" / "full").touch()
    with pytest.raises(Full, match="no space left"):
        run(sweep, tmp_path / "s", jobs=1)
    assert sorted(c["seed"] for c in cells(tmp_path / "s")) == [0, 1]
    (tmp_path / "s" / "full").unlink()
    found, _ = run(sweep, tmp_path / "s")
    assert (found.there, found.done, found.failed) == (2, 3, {})
    run(sweep, tmp_path / "calm")
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


def begin(tmp_path, spec, jobs=2):
    command = [*COMMAND, str(spec), str(tmp_path / "s"), str(jobs)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("kills", [4, slow(20)], ids=["few", "many"])
def test_a_sweep_killed_at_any_moment_goes_on_as_if_undisturbed(tmp_path, kills):
    count = 15 * kills
    spec = tmp_path / "s.toml"
    listed = [SLOW, *range(count)]
    spec.write_text(f'name = "s"\n[grid]\nseed = {listed}\n')
    moments = chance.Random(kills)
    for _ in range(kills):
        sweep = begin(tmp_path, spec)
        time.sleep(moments.uniform(0.3, 1.2))
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
    found, _ = run(seeds(*listed), tmp_path / "s")
    assert found.ended == count + 1
    assert not found.failed
    made = cells(tmp_path / "s")
    assert sorted(c["seed"] for c in made) == sorted(listed)
    undisturbed, _ = run(seeds(*listed), tmp_path / "calm")
    assert undisturbed.done == count + 1
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


def test_workers_end_with_their_sweep(tmp_path):
    spec = tmp_path / "s.toml"
    spec.write_text(f'name = "s"\n[grid]\nseed = [0, {STUCK}]\n')
    sweep = begin(tmp_path, spec)
    ended = time.monotonic() + 60

    def until(there):
        while not there():
            assert time.monotonic() < ended
            time.sleep(0.05)

    store = tmp_path / "s"
    until(lambda: (store / "cells").is_dir() and len(list(Store(store).finished())))
    (key,) = {c.key for c in plan(seeds(STUCK), answer)}

    def free():
        with Store(store).claim(key) as mine:
            return mine

    until(lambda: not free())
    sweep.kill()
    sweep.wait()
    until(free)


def test_two_sweeps_at_once_lose_no_cell_and_make_none_twice(tmp_path):
    listed = list(range(80))
    spec = tmp_path / "s.toml"
    spec.write_text(f'name = "s"\n[grid]\nseed = {listed}\n')
    both = [begin(tmp_path, spec, jobs=1) for _ in range(2)]
    assert [sweep.wait(120) for sweep in both] == [0, 0]
    assert sorted(c["seed"] for c in cells(tmp_path / "s")) == listed
    assert os.listdir(tmp_path / "s" / "tmp") == []


def vi_bench(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "vi_bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        **options,
    )


def within(*arguments):
    """The same in this process, where nothing but the command counts."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_where_there_is_no_terminal_lines_tell_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(command, "EVERY", 0.0)
    with command._shown(quiet=False) as tell:
        for done in range(4):
            failed = {"a": "why"} if done > 1 else {}
            tell(Progress(10, there=5, done=done, failed=failed), "")
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(",")[0] for line in lines] == [
        "6/10 cells",
        "8/10 cells, 1 failed",
        "9/10 cells, 1 failed",
    ]
    assert all(line.endswith("about 0 minutes left") for line in lines)


def test_the_command_line_refuses_in_one_line(tmp_path):
    spec = tmp_path / "s.toml"
    spec.write_text("[grid]\nseed = [0]\n")
    for arguments, said in [
        (["sweep", tmp_path / "none.toml"], "there is no such file"),
        (["sweep", spec, "--shard", "half"], "shard 'half': expected i/n, as in 1/4"),
        (["sweep", spec, "--jobs", "0", "--out", tmp_path / "s"], "jobs = 0"),
        (["status", tmp_path], "is not the folder of a sweep"),
    ]:
        done = within(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("vi-bench: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_real_cells_after_kills_have_the_bits_of_an_undisturbed_sweep(tmp_path):
    spec = tmp_path / "tiny.toml"
    spec.write_text(
        "[base]\ndraws = 50\nrepeats = 1\nreference = 'gibbs'\n"
        "methods = { cavi = { restarts = 2 }, gibbs = { warmup = 20 } }\n"
        '[grid]\ndata = ["galaxies", "faithful"]\nseed = [0, 1, 2, 3, 4, 5]\n'
    )
    asked = [sys.executable, "-m", "vi_bench", "sweep", str(spec), "--out"]
    moments = chance.Random(7)
    for _ in range(5):
        sweep = subprocess.Popen(
            [*asked, str(tmp_path / "s")], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(2.0, 20.0))
        sweep.kill()
        sweep.wait()
    for folder in ("s", "calm"):
        done = vi_bench(*asked[3:], tmp_path / folder)
        assert done.returncode == 0, done.stderr
    killed, calm = (Store(tmp_path / name) for name in ("s", "calm"))
    keys = list(calm.finished())
    assert list(killed.finished()) == keys
    assert len(keys) == 12
    for key in keys:
        assert not killed.damage(key)
        for file in ("cavi.nc", "gibbs.nc"):
            one, two = (
                open_datatree(store.path(key) / file, engine="netcdf4").load()
                for store in (killed, calm)
            )
            for group in ("posterior", "sample_stats"):
                assert one[group].to_dataset().equals(two[group].to_dataset())


@pytest.mark.slow
def test_a_grid_of_real_runs_by_the_command_line(tmp_path):
    spec = tmp_path / "tiny.toml"
    spec.write_text(
        "[base]\ndraws = 20\nrepeats = 1\ncomponents = 2\n"
        "reference = 'mine'\nmethods = { mine = { restarts = 1 } }\n"
        '[grid]\ndata = ["galaxies"]\nseed = [0, 1]\n'
    )
    mine = tmp_path / "mine.py"
    mine.write_text(
        '"""CAVI again."""\nfrom vi_bench.methods.cavi import CAVI\n\n\n'
        "class METHOD(CAVI):\n    pass\n"
    )
    asked = ("sweep", spec, "--out", tmp_path / "s", "--jobs", "1")
    refused = vi_bench(*asked)
    assert refused.returncode == 2
    assert "unknown method 'mine'" in refused.stderr
    done = vi_bench(*asked, "--method", mine)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 cells: 2 done; in {tmp_path / 's'}\n"
    store = Store(tmp_path / "s", create=False)
    for key in store.finished():
        files = store.manifest(key)
        assert set(files) == {"mine.nc", "cell.json", "summary.json"}
        known = json.loads(store.read(key, "cell.json"))
        summary = json.loads(store.read(key, "summary.json"))
        assert known["choice"]["seed"] == summary["spec"]["seed"]
        assert summary["methods"]["mine"]["outcome"] == "converged"
        assert known["shared"] is False
        (plugin,) = summary["plugins"]
        assert plugin["sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()
    done = within("status", tmp_path / "s", "--check")
    whole = "tiny: 2 cells, 2 done, 0 failed, 0 not yet\nevery byte is as written\n"
    assert done.stdout == whole
    damaged = store.path(key) / "mine.nc"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done = within("status", tmp_path / "s", "--check")
    assert done.exit_code == 1
    assert f"cell {key}: mine.nc has " in done.stdout

    sql = "SELECT seed, method, verdict FROM methods JOIN cells USING (key) ORDER BY 1"
    done = within("query", tmp_path / "s", sql, "--csv")
    assert done.stdout == "seed,method,verdict\n0,mine,\n1,mine,\n"
    assert "seed  method" in within("query", tmp_path / "s", sql).stdout
    found = frame(tmp_path / "s")
    assert set(found["seed"]) == {0, 1}
    assert set(found["quantity"]) == set(summary["methods"]["mine"]["quantities"])
    one = found[(found["key"] == key) & (found["quantity"] == "log joint")].iloc[0]
    known = summary["methods"]["mine"]["quantities"]["log joint"]
    assert (one["mean"], one["sd_mcse"]) == (known["mean"], known["sd_mcse"])
    assert one["bound"] == summary["methods"]["mine"]["bound"]
