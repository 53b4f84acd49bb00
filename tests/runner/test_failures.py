"""A method that fails says why, and the others of the run are as without it."""

import json

import numpy as np
import pytest

import vi_bench as vb
from tests.small import FIELDS, METHODS, ROWS
from vi_bench.reports import figures
from vi_bench.results.stored import open_run

GOOD = {name: METHODS[name] for name in ("cavi", "nuts")}
BAD = {
    # Adam's steps are as long as the learning rate: parameters overflow
    "bad-svi": {"method": "svi", "learning_rate": 1e3} | METHODS["svi"],
    # a step size at which one in a hundred transitions would be accepted
    "bad-nuts": {"method": "nuts", "warmup": 20, "target_acceptance": 0.01},
    # from the prior to the posterior at once, and moves that are refused
    "bad-smc": {"method": "smc", "steps": 1, "target_ess": 0.01, "leapfrog": 100}
    | {"target_acceptance": 0.01},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with methods that fail, one without them, and the folder of the first."""
    place = tmp_path_factory.mktemp("failures") / "run"

    def run(methods):
        return vb.run("gaussian", ROWS, methods, **FIELDS | {"repeats": 1})

    place.mkdir()
    failed = run(BAD | GOOD)
    failed.save(place, figures=False)
    return failed, run(GOOD), place


@pytest.mark.parametrize(
    ("label", "status", "cause"),
    [
        ("bad-svi", "not finite", "the loss was not finite in"),
        ("bad-nuts", "failed", "of 200 transitions diverged, 2 of 2 chains never"),
        ("bad-smc", "failed", "1 distinct particles of 25 are left"),
    ],
)
def test_what_fails_says_why_and_is_not_compared(runs, label, status, cause):
    found, _, place = runs
    summary = json.loads((place / "summary.json").read_text())
    row = summary["methods"][label]
    assert row["outcome"] == status
    assert cause in row["outcome_sentence"]
    assert not (place / f"{label}.nc").exists()
    assert label not in summary["verdicts"]
    assert label not in found.posterior


@pytest.mark.parametrize("label", GOOD)
def test_the_others_are_as_without_it(runs, label):
    with_, without = (r.posterior[label] for r in runs[:2])
    for group in ("posterior", "sample_stats"):
        for name, values in without[group].data_vars.items():
            np.testing.assert_array_equal(with_[group][name], values)
    one, two = (r.summary["methods"][label]["bound"] for r in runs[:2])
    assert one == two


def test_of_many_rows_a_figure_shows_some_and_says_so(runs, monkeypatch):
    monkeypatch.setattr(figures, "DRAWN", 20)
    run = open_run(runs[2])
    (axes,) = figures.components(run).axes
    points = axes.lines[0]
    assert points.get_label() == "15 of 45 rows"
    assert len(points.get_xdata()) == 15


def test_a_figure_that_cannot_be_drawn_is_a_warning(runs, tmp_path, monkeypatch):
    def broken(result):
        raise ZeroDivisionError("no span")

    monkeypatch.setitem(figures.FIGURES, "timing", broken)
    with pytest.warns(UserWarning, match="timing is not drawn: ZeroDivisionError"):
        paths = runs[0].figures(tmp_path)
    assert {p.stem for p in paths} >= {"components", "bound"}
    assert "timing" not in {p.stem for p in paths}
