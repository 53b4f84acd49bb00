"""Error against time: what methods would have told, had they been stopped earlier."""

import numpy as np
import pytest

import vi_bench as vb
from tests.small import FIELDS, METHODS, ROWS
from vi_bench.comparison.budgets import Point, log_ratio, within
from vi_bench.comparison.measures import Estimate
from vi_bench.reports.figures import error_against_time
from vi_bench.reports.interactive import pictures
from vi_bench.reports.tables import tables
from vi_bench.results.stored import open_run
from vi_bench.runner import curves as made

GIVEN = METHODS | {
    "svi": {"steps": 1000, "bound_draws": 50, "init_scale": 1.0, "learning_rate": 0.02},
    "laplace": {},
}
SET = FIELDS | {"name": "curves", "repeats": 1, "curves": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    return vb.run("gaussian", ROWS, GIVEN, out=out, **SET), out


def test_every_method_has_a_curve_up_to_its_end(run):
    result, _ = run
    found = result.curves
    assert set(found.methods) == {"cavi", "svi", "nuts", "laplace"}
    assert found.reference == "nuts"
    for label, curve in found.methods.items():
        one = result.runs[label]
        seconds = [p.seconds for p in curve.points]
        assert np.all(np.diff(seconds) > 0)
        assert seconds[-1] == pytest.approx(
            sum(
                np.median(s.steady())
                for s in one.stages.values()
                if s.part_of_inference
            )
        )
        assert all(p.mean.value >= 0 and p.w1.value >= 0 for p in curve.points)
    assert len(found.methods["laplace"].points) == 1


def test_the_last_point_is_what_the_run_says(run):
    result, _ = run
    compared = result.comparison
    for label in ("cavi", "svi"):
        last = result.curves.methods[label].points[-1]
        every = [compared.distances[label][q] for q in compared.judged]
        assert last.mean.value == pytest.approx(
            max(abs(d.mean_difference.value) for d in every)
        )
        assert last.w1.value == pytest.approx(max(d.w1.value for d in every))
        bound, error = result.runs[label].marginal_bound()
        assert last.bound == Estimate(bound, error)


def test_errors_and_bounds_of_a_fit_get_better(run):
    """SVI starts with sds that are several times too large."""
    points = run[0].curves.methods["svi"].points
    assert len(points) > 5
    assert points[0].sd.value > 3 * points[-1].sd.value
    assert points[0].w1.value > points[-1].w1.value
    assert points[0].bound.value < points[-1].bound.value - 1


def test_passes_are_counted(run):
    result, _ = run
    known = result.curves.methods
    assert known["svi"].points[0].passes == 50 * 4
    assert (
        known["svi"].points[-1].passes == result.runs["svi"].draws.report.iterations * 4
    )
    report = result.runs["cavi"].draws.report
    assert known["cavi"].points[-1].passes == int(report.total_iterations)
    draws = result.runs["nuts"].draws
    own = int(np.sum(draws.sample_stats["n_steps"]))
    tuning = int(np.sum(draws.report.tuning_steps))
    assert tuning > 2 * 100  # steps of two warm-ups, at least one a transition
    assert known["nuts"].points[-1].passes == own + tuning
    assert known["laplace"].points[0].passes is None
    for curve in known.values():
        passes = [p.passes for p in curve.points if p.passes is not None]
        assert np.all(np.diff(passes) >= 0)


def test_it_is_stored_drawn_and_printed(run):
    result, out = run
    assert (out / "error_against_time.png").stat().st_size > 10_000
    stored = open_run(out)
    assert stored.record.curves == result.record.curves
    assert error_against_time(stored) is not None
    shown = pictures(stored)["error_against_time"]
    assert set(shown.plots) == {"means", "standard deviations", "Wasserstein-1"}
    table = next(t for t in tables(stored.record) if t.name == "error_against_time")
    assert {row[0] for row in table.rows} == set(result.curves.methods)


def test_a_fault_of_theirs_does_not_lose_the_run(monkeypatch):
    def broken(*_):
        raise ValueError("a fault")

    monkeypatch.setattr(made, "_early", broken)
    result = vb.run("gaussian", ROWS, {k: METHODS[k] for k in ("cavi", "nuts")}, **SET)
    assert result.curves is None
    assert "error against time was not measured: ValueError: a fault" in (
        result.comparison.note
    )
    assert "curves" not in result.record.values()


def test_nothing_is_measured_unasked():
    given = {k: METHODS[k] for k in ("cavi", "nuts")}
    result = vb.run("gaussian", ROWS, given, **SET | {"curves": False})
    assert result.curves is None
    assert all(t.name != "error_against_time" for t in tables(result.record))


@pytest.mark.parametrize(
    ("errors", "since"),
    [([0.3, 0.09, 0.05], 2.0), ([0.05, 0.2, 0.1], 3.0), ([0.1, 0.2], None)],
)
def test_the_time_after_which_the_margin_is_kept(errors, since):
    none = Estimate(0.0, 0.0)
    points = tuple(
        Point(float(i + 1), None, Estimate(e, 0.01), none, none)
        for i, e in enumerate(errors)
    )
    assert within(points, 0.1) == since


def test_a_ratio_of_nothing_is_infinitely_far():
    assert log_ratio(Estimate(0.0, 0.0)).value == np.inf
    found = log_ratio(Estimate(0.5, 0.05))
    assert found.value == pytest.approx(np.log(2))
    assert found.se == pytest.approx(0.1)
