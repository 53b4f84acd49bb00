"""Methods whose time is over end with what they have, and say so."""

import numpy as np
import pytest

import vi_bench as vb
from tests.marks import slow_but
from tests.small import FIELDS, METHODS
from vi_bench.errors import ScalingError
from vi_bench.methods import cavi
from vi_bench.results.summary_schema import read_record
from vi_bench.runner import infer
from vi_bench.runner.launch import launch
from vi_bench.runner.rerun import repeats
from vi_bench.runtime import progress
from vi_bench.runtime.cluster import Cluster
from vi_bench.spec import Spec

ROWS = np.random.default_rng(5).normal(size=(45, 2))
"""In one cluster, where two components are found slowly."""

STOPPED = "stopped when its budget of 30 s was spent"
DRAWN = {
    "nuts": METHODS["nuts"],
    "gibbs": {"warmup": 50},
    "tempered": {"warmup": 40, "temperatures": 4},
}
FITTED = {name: METHODS[name] for name in ("cavi", "svi")}
SMC = {"particles": 25, "steps": 1, "target_ess": 0.999}


def run(methods, **given):
    return vb.run("gaussian", ROWS, methods, **FIELDS | {"reference": None} | given)


def over_after(monkeypatch, stage):
    """From now on the time of a method is over once it has run this stage."""
    monkeypatch.setattr(
        infer, "left", lambda _, run: 0.0 if stage in run.stages else None
    )


@pytest.mark.parametrize("label", slow_but(["nuts"], DRAWN))
def test_chains_keep_the_draws_that_all_have_made(label, monkeypatch):
    whole = run({label: DRAWN[label]}).runs[label]
    over_after(monkeypatch, "warmup")
    found = run({label: DRAWN[label]}, budget=30.0).runs[label]
    assert found.cut
    assert found.shape() == (2, 5)  # a twentieth of 100
    assert f"{STOPPED}, with 5 of 100 draws a chain" in found.outcome.sentence
    for name, values in found.posterior.items():
        np.testing.assert_array_equal(values, whole.posterior[name][:, :5])


@pytest.mark.parametrize("label", FITTED)
def test_fits_end_where_they_are(label, monkeypatch):
    over_after(monkeypatch, "start")
    monkeypatch.setattr(cavi, "TERMS", 1.0)  # calls of one iteration
    found = run({label: FITTED[label]}, budget=30.0).runs[label]
    assert found.usable
    assert found.outcome.status == "iteration limit"
    assert found.outcome.sentence.startswith(f"{STOPPED} after ")
    assert found.outcome.sentence.endswith(" iterations: raise budget")


@pytest.mark.slow
def test_particles_that_are_not_done_are_no_posterior(monkeypatch):
    over_after(monkeypatch, "start")
    found = run({"smc": SMC}, budget=30.0).runs["smc"].outcome
    assert (found.status, found.sentence) == (
        "iteration limit",
        f"{STOPPED}: raise budget",
    )


def test_a_warm_up_that_is_not_over_has_nothing_to_show():
    found = run({"nuts": DRAWN["nuts"]}, budget=1e-9).runs["nuts"]
    assert found.outcome.status == "failed"
    expected = "stopped when its budget of 1e-09 s was spent, after 1 of 20 parts of"
    assert found.outcome.sentence == f"{expected} its warmup: raise budget"
    assert not found.usable
    assert not found.error  # no traceback: it is no fault


def test_a_budget_that_is_not_spent_changes_nothing():
    with_, without = (run({"nuts": DRAWN["nuts"]}, budget=b) for b in (1e6, None))
    for name, values in with_.runs["nuts"].posterior.items():
        np.testing.assert_array_equal(values, without.runs["nuts"].posterior[name])
    assert not with_.runs["nuts"].cut


def test_what_the_clock_has_cut_is_not_held_against_a_repetition(tmp_path):
    was, now = tmp_path / "was", tmp_path / "now"
    run({"nuts": DRAWN["nuts"]}, out=now)
    with pytest.MonkeyPatch.context() as patch:
        over_after(patch, "warmup")
        run({"nuts": DRAWN["nuts"]}, budget=30.0, out=was)
    first, second = read_record(was), read_record(now)
    assert first.methods["nuts"].time.cut
    found = repeats(was, first, now, second)["nuts"]
    assert found.word == "cannot tell"
    assert "the speed of the machine decides" in found.sentence


def test_processes_that_share_rows_have_no_common_clock():
    cluster = Cluster(2, "localhost:1", 0)
    with pytest.raises(ScalingError, match="budget: processes that share the rows"):
        launch(Spec(budget=3.0), cluster=cluster)


def test_a_bar_says_how_long_a_stage_may_still_take(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.bars(["nuts"]) as watcher:
        [task] = watcher._shown.tasks
        watcher.stage("nuts", "sample", 1, 2)
        clock[0] += 60  # compiled
        watcher.tick(1, 20)
        assert task.description == "sample"
        clock[0] += 10
        watcher.tick(3, 20)
        assert task.description == "sample, at most 0:01:25 left"
        watcher.tick(20, 20)
        assert task.description == "sample, timed again"
