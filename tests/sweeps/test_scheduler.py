"""Sweeps on a Dask cluster: what the cluster loses is made all the same."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.sweeps import stand_in
from tests.sweeps.stand_in import BROKEN, CRASH, ROOT, SLOW, STUCK, cells, seeds
from vi_bench.errors import InputError
from vi_bench.sweeps import pool, scheduler
from vi_bench.sweeps.sweep import foresee, run_sweep


@contextmanager
def running(*arguments):
    """Its process, address and the pids of two workers whose cells take no time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sweeps.cluster", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address, *pids = process.stdout.readline().split()
        yield process, address, [int(pid) for pid in pids]
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def cluster():
    with running("tests.sweeps.preload") as (_, address, pids):
        yield address, pids


def test_what_befalls_a_cell_is_as_it_is_on_one_machine(tmp_path, cluster):
    address, _ = cluster
    sweep = seeds(*range(6), CRASH, BROKEN, STUCK)
    lines = []
    found = run_sweep(
        sweep,
        tmp_path / "s",
        timeout=2.0,
        scheduler=address,
        tell=lambda progress, line: lines.append(line) if line else None,
    )
    assert (found.done, len(found.failed), found.ended) == (6, 3, 9)
    said = "\n".join(sorted(lines))
    assert f"seed = {CRASH}: crashed: its process was killed by SIGKILL" in said
    assert f"seed = {BROKEN}: failed: ZeroDivisionError: first line" in said
    assert f"seed = {STUCK}: timed out: took over 2 s" in said
    made = cells(tmp_path / "s")
    assert sorted(c["seed"] for c in made) == list(range(6))
    assert len({c["pid"] for c in made}) <= 5  # of two workers, and their successors
    said = foresee(sweep, tmp_path / "s", scheduler=address).line()
    assert said.startswith("9 cells, 6 there, 3 to run")


def test_timed_cells_have_a_fresh_process_each(tmp_path, cluster):
    run_sweep(seeds(*range(3)), tmp_path / "s", timed=True, scheduler=cluster[0])
    assert len({c["pid"] for c in cells(tmp_path / "s")}) == 3


def test_a_worker_of_the_cluster_killed_midway_costs_no_cell(tmp_path, cluster):
    address, pids = cluster
    listed = [*range(60), *[SLOW + 1000 * i for i in range(1, 60)]]
    killed = []

    def kill_one(progress, line):
        if progress.done >= 20 and not killed:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(time.monotonic())

    found = run_sweep(seeds(*listed), tmp_path / "s", scheduler=address, tell=kill_one)
    assert killed
    assert (found.ended, found.failed) == (len(listed), {})
    assert sorted(c["seed"] for c in cells(tmp_path / "s")) == sorted(listed)
    assert os.listdir(tmp_path / "s" / "tmp") == []


@pytest.fixture
def workers(monkeypatch):
    """Of this machine, whose cells take no time."""
    monkeypatch.setattr(pool, "COMMAND", stand_in.COMMAND)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:1"])
def test_where_no_scheduler_answers_nothing_is_written(tmp_path, monkeypatch, address):
    monkeypatch.setattr(scheduler, "PATIENCE", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        run_sweep(seeds(0), tmp_path / "s", scheduler=address)
    assert not (tmp_path / "s").exists()


def test_a_clusters_size_is_its_own(tmp_path):
    with pytest.raises(InputError, match="jobs = 2: a cluster's size is its own"):
        run_sweep(seeds(0), tmp_path / "s", jobs=2, scheduler="tcp://127.0.0.1:1")


def test_a_cluster_without_workers_is_refused(tmp_path):
    with (
        running("--none") as (_, address, _),
        pytest.raises(InputError, match="has no workers yet"),
    ):
        run_sweep(seeds(0), tmp_path / "s", scheduler=address)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_scheduler_that_is_gone_ends_the_sweep_which_goes_on_elsewhere(
    tmp_path, workers
):
    sweep = seeds(*range(40), *[SLOW + 1000 * i for i in range(1, 40)])
    with running("tests.sweeps.preload") as (process, address, _):

        def kill(progress, line):
            if progress.done == 10:
                process.kill()

        with pytest.raises(scheduler.Lost, match="does not answer any more"):
            run_sweep(sweep, tmp_path / "s", scheduler=address, tell=kill)
    some = len(cells(tmp_path / "s"))
    assert 10 <= some < 79
    found = run_sweep(sweep, tmp_path / "s", jobs=2)
    assert found.there >= some
    assert found.there + found.done == 79
