"""Several processes that share the rows of a run, and what happens when one is lost."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vi_bench as vb
from tests.small import FIELDS, METHODS, ROWS
from vi_bench.errors import InputError
from vi_bench.runtime.checkpoint import read_leaves, write
from vi_bench.runtime.cluster import Cluster, _pass_on, farewell, lost

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1, "127.0.0.1:9000", 0), "hosts = 1: expected at least 2"),
        ((2, "127.0.0.1:9000", 2), "rank = 2: expected 0 to 1 of 2"),
        ((2, "127.0.0.1", 1), "expected HOST:PORT"),
        ((2, "127.0.0.1:99999", 1), "expected HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Cluster(*given).check()


def test_a_port_that_is_taken_is_refused_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="rank 0 cannot listen there"):
            Cluster(2, f"127.0.0.1:{port}", 0).check()
        Cluster(2, f"127.0.0.1:{port}", 1).check()


def test_what_native_code_logs_is_kept_from_users():
    lines = [
        "rank 0: all 2 processes are there",
        "[Gloo] Rank 0 is connected to 1 peer ranks.",
        "E1127 04:52:44.084009    6661 client.cc:86] heartbeat",
        "F1127 04:52:44.084009    6661 client.h:86] Terminating process because",
        "Additional GRPC error information",
        "vi-bench: rank 0: another process of this run is lost, so it ended",
    ]
    shown, said = io.StringIO(), []
    _pass_on(io.StringIO("".join(f"{line}\n" for line in lines)), shown, said)
    assert shown.getvalue().splitlines() == [lines[0], lines[5]]
    assert said == lines


def test_the_last_line_names_the_checkpoint_if_there_is_one(tmp_path):
    path = tmp_path / "x.checkpoint.npz"
    assert "no checkpoint was written yet" in farewell(0, path)
    path.write_bytes(b"")
    assert str(path) in farewell(0, path)
    assert "rank 0 keeps the last checkpoint" in farewell(1, path)


def test_only_a_peers_silence_counts_as_lost():
    kind = type("JaxRuntimeError", (Exception,), {})
    assert lost(kind("UNKNOWN: Gloo all-reduce failed: Connection reset by peer"))
    assert not lost(kind("RESOURCE_EXHAUSTED: out of memory"))
    assert not lost(ValueError("Gloo"))


@pytest.mark.slow
def test_cavi_goes_on_from_a_checkpoint(tmp_path):
    """From the optimum that one run kept another one has nothing left to climb."""
    from vi_bench.runner.launch import launch
    from vi_bench.spec import make

    kept = tmp_path / "kept.npz"
    # so close together that it takes some sweeps
    np.savetxt(tmp_path / "rows.csv", ROWS / 3, delimiter=",")
    values = {
        "data": str(tmp_path / "rows.csv"),
        "methods": {"cavi": METHODS["cavi"]},
        **FIELDS,
    }
    spec = make(values, "test")
    first = launch(spec, checkpoint=kept).runs["cavi"]
    with np.load(kept) as held:
        assert str(held["method"]) == "cavi"
        assert float(held["bound"]) == pytest.approx(first.bound()[0], rel=1e-12)
    again = launch(spec.starting_from(kept)).runs["cavi"]
    assert again.bound()[0] == pytest.approx(first.bound()[0], rel=1e-12)
    report = again.draws.report
    assert int(report.restart_iterations[0]) < 5
    assert int(report.restart_iterations[0]) < int(first.draws.report.iterations)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    def cavi(start):
        return vb.run("gaussian", "faithful", {"cavi": {"start": str(start)}})

    with pytest.raises(InputError, match="there is no such file"):
        cavi(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is not a checkpoint"):
        cavi(tmp_path / "bad.npz")
    write(tmp_path / "empty.npz", {"bound": np.zeros(())})
    with pytest.raises(InputError, match="holds no q"):
        cavi(tmp_path / "empty.npz")
    write(tmp_path / "other.npz", {"q_0": np.zeros(3)})
    assert len(read_leaves(str(tmp_path / "other.npz"))) == 1
    with pytest.raises(InputError, match="holds q of shapes"):
        cavi(tmp_path / "other.npz")
    with pytest.raises(InputError, match="start"):
        cavi("somewhere")


def test_what_several_processes_need_is_asked_for(tmp_path, capfd):
    done = subprocess.run(
        [sys.executable, "-m", "vi_bench", "run", "faithful", "--hosts", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "--coordinator, --rank, --out missing" in done.stderr
    assert not list(tmp_path.iterdir())


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def start(folder, spec, port, rank, *options):
    command = [sys.executable, "-m", "vi_bench", "run", str(spec), "--hosts", "2"]
    command += ["--coordinator", f"127.0.0.1:{port}", "--rank", str(rank)]
    return subprocess.Popen(
        [*command, "--out", str(folder / "out"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )


def specify(folder, random, rows, **settings):
    x = 4.0 * random.integers(3, size=(rows, 1)) + random.normal(size=(rows, 2))
    np.save(folder / "x.npy", x)
    lines = "".join(f"{k} = {v}\n" for k, v in settings.items())
    text = f"""
data = {str(folder / "x.npy")!r}
components = 3
draws = 50
repeats = 1
model = {{ name = "gaussian", sigma = 5.0, mean = 0.0 }}
[methods.cavi]
{lines}"""
    (folder / "spec.toml").write_text(text)
    return folder / "spec.toml"


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path, random):
    spec = specify(tmp_path, random, 9000, restarts=2)
    one = vb.launch(vb.read(str(spec), {}))
    port = free_port()
    ranks = [start(tmp_path, spec, port, rank, "--json") for rank in (0, 1)]
    said = [process.communicate(timeout=300) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert "Gloo" not in "".join("".join(lines) for lines in said)
    assert said[1][0] == ""
    stored = (tmp_path / "out" / "summary.json").read_text()
    assert said[0][0] == stored
    found = json.loads(stored)
    assert found["environment"]["processes"] == 2
    bound = found["methods"]["cavi"]["bound"]
    assert bound == pytest.approx(one.runs["cavi"].bound()[0], rel=1e-10)
    assert not list(tmp_path.glob("*checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_peer_ends_the_run_with_one_line(tmp_path, random, victim):
    spec = specify(
        tmp_path, random, 300_000, restarts=1, tol=1e-300, accelerate="false"
    )
    port = free_port()
    ranks = [start(tmp_path, spec, port, rank) for rank in (0, 1)]
    checkpoint = tmp_path / "out.checkpoint.npz"
    until = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert checkpoint.exists()
    named = ["pgrep", "-f", f"coordinator 127.0.0.1:{port} --rank {victim}"]
    of_both = subprocess.run(named, capture_output=True, text=True).stdout.split()
    (child,) = {int(pid) for pid in of_both} - {ranks[victim].pid}
    os.kill(child, signal.SIGKILL)
    begun = time.monotonic()
    said = [process.communicate(timeout=120) for process in ranks]
    assert time.monotonic() - begun < 90
    assert [process.returncode for process in ranks] == [1, 1]
    lines = said[1 - victim][1].splitlines()
    assert lines[0].endswith("all 2 processes are there")
    assert len(lines) == 2, lines
    assert "another process of this run is lost" in lines[1]
    if victim == 1:
        assert str(checkpoint) in lines[1]
    assert "SIGKILL" in said[victim][1]
    assert not (tmp_path / "out").exists()
    short = ["--start-from", str(checkpoint), "--out", str(tmp_path / "again")]
    text = spec.read_text().replace("tol = 1e-300", "tol = 1e-6")
    spec.write_text(text)
    command = [sys.executable, "-m", "vi_bench", "run", str(spec), *short]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
