"""A calibration as a whole: resumed, refused, on threads, and by the command line."""

import json
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import vi_bench as vb
from vi_bench.calibration.examine import Examiner
from vi_bench.calibration.programs import keys_of
from vi_bench.calibration.report import calibration_lines, calibration_record
from vi_bench.calibration.settings import settle
from vi_bench.calibration.simulators import MixtureSimulator
from vi_bench.calibration.store import Store
from vi_bench.calibration.study import _Runner, _truths, study
from vi_bench.cli.app import app
from vi_bench.contract import Draws, Outcome, Stage
from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.mixture import bind
from vi_bench.runtime.environment import find_device
from vi_bench.runtime.progress import Silent

SMALL = {
    "sims": 30,
    "chunk": 10,
    "rows": 6,
    "independent": 200,
    "draws": 20,
    "thin": 2,
    "geweke": 0,
}
CHEAP = {"cavi": {"restarts": 2, "max_iterations": 500}, "exact": {}}


class Impatient(Silent):
    """Interrupts at the second chunk."""

    def tick(self, done, of):
        if done == 2:
            raise KeyboardInterrupt


def run(folder=None, watcher=None, threads=2, methods=CHEAP, **fields):
    settings = settle("gaussian", SMALL | fields, methods)
    store = Store(folder, settings.model_dump(mode="json"))
    return study(settings, store, watcher or Silent(), threads)


def same(one, two):
    assert one.pits.keys() == two.pits.keys()
    for label, pits in one.pits.items():
        for name, u in pits.items():
            np.testing.assert_array_equal(u, two.pits[label][name])
    record = [calibration_record(found) for found in (one, two)]
    assert record[0]["rows"] == record[1]["rows"]
    assert record[0]["asymmetry"] == record[1]["asymmetry"]


@pytest.fixture(scope="module")
def whole():
    """A calibration that several slow tests look at."""
    return run(threads=1)


@pytest.mark.slow
def test_it_does_not_depend_on_threads_or_interruptions(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Impatient(), threads=1)
    finished = sorted(f.name for f in (tmp_path / "chunks").iterdir())
    assert "cavi-00000.npz" in finished
    assert "exact-00000.npz" not in finished
    before = (tmp_path / "chunks" / "cavi-00000.npz").stat().st_mtime_ns
    same(run(tmp_path, threads=2), whole)
    after = (tmp_path / "chunks" / "cavi-00000.npz").stat().st_mtime_ns
    assert before == after


def test_a_finished_one_is_read_not_computed(tmp_path, monkeypatch):
    methods = {"exact": {}}
    whole = run(tmp_path / "whole", threads=1, methods=methods)
    monkeypatch.setattr(
        "vi_bench.calibration.study._Runner._program", lambda *_: pytest.fail("ran")
    )
    same(run(tmp_path / "whole", methods=methods), whole)


@pytest.mark.slow
def test_a_method_beside_it_changes_nothing(whole):
    alone = run(methods={"exact": {}})
    for name, u in alone.pits["exact"].items():
        np.testing.assert_array_equal(u, whole.pits["exact"][name])


@dataclass(frozen=True)
class Prior:
    """Draws from the prior, whatever the data."""

    kind: ClassVar[str] = "exact"
    summary: ClassVar[str] = "draws from the prior"
    bound_keeps_labels: ClassVar[bool] = False

    def outcome(self, draws):
        return Outcome("sampled", "")

    def prepare(self, problem, key):
        def draw(key, mixture, _):
            theta = mixture.draw(key, mixture.prior(), (1, problem.draws))
            return Draws(theta, {}, None, {}, {})

        return (Stage("draw", draw),)


class HostPrior(Prior):
    """The same, but it looks at the data first, so that it cannot be traced."""

    def prepare(self, problem, key):
        assert np.isfinite(np.asarray(problem.mixture.data())).all()
        return super().prepare(problem, key)


@pytest.mark.slow
def test_what_cannot_be_traced_is_run_step_by_step():
    settings = settle("gaussian", SMALL | {"chunk": 2}, CHEAP)
    empty = bind(settings.family(), np.zeros((0, 1)), 2, jnp.float64)
    simulator = MixtureSimulator(empty, settings.rows, {"feature": ["x0"]})
    truth = jax.tree.map(lambda v: v[:2], _truths(settings, simulator))
    runner = _Runner(settings, Store(None, {}), Silent(), 1, find_device("cpu"))
    found = []
    for kind in (HostPrior, Prior):
        examiner = Examiner(kind(), simulator, 200, 1)
        keys = keys_of(0, "one", jnp.arange(2))
        program = runner._program(examiner, (keys, truth))
        assert isinstance(program, partial) == (kind is HostPrior)
        found.append(program(keys, truth))
    slow, fast = found
    assert slow.keys() == fast.keys()
    for name, value in fast.items():
        np.testing.assert_allclose(slow[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_linear_response_is_closer_to_calibrated(whole):
    """The same draws, stretched: each truth lies further inside."""
    plain, stretched = whole.pits["cavi"], whole.pits["cavi+lr"]
    assert set(stretched) == {"mean mu[x0]", "log rms mu[x0]"}
    label = "cavi (same)" if "cavi (same)" in whole.pits else "cavi"
    u, v = whole.pits[label]["mean mu[x0]"], stretched["mean mu[x0]"]
    assert np.mean(np.abs(v - 0.5)) < np.mean(np.abs(u - 0.5))
    assert set(plain) > set(stretched)


def test_a_method_that_does_not_apply_says_why():
    found = run(methods={"exact": {}}, weights="stick-breaking")
    assert "exchangeable" in found.skipped["exact"]
    assert not found.rows
    assert any("skipped" in line for line in calibration_lines(found))


def test_a_method_that_fails_does_not_stop_the_others(monkeypatch):
    def broken(self, problem, key):
        raise RuntimeError("lost\nits way")

    monkeypatch.setattr(CAVI, "prepare", broken)
    found = run()
    assert found.failed == {"cavi": "RuntimeError: lost"}
    assert set(found.rows) == {"exact"}


@pytest.mark.slow
def test_one_component_and_drawn_weights():
    methods = {"cavi": CHEAP["cavi"]}
    found = run(components=1, weights="dirichlet", sims=20, methods=methods)
    assert "sum of squared weights" not in found.rows["cavi"]
    assert set(found.asymmetry["cavi"]) == {"mu[x0]"}


def arguments(folder, *more):
    given = [f"--{k}={v}" for k, v in SMALL.items() if k != "independent"]
    return ["calibrate", "gaussian", "--out", str(folder), *given, *more]


@pytest.fixture
def invoke():
    return lambda *given: CliRunner().invoke(app, list(given))


@pytest.mark.slow
def test_the_command_writes_its_folder(tmp_path, invoke):
    folder = tmp_path / "out"
    more = ("--methods", "gibbs", "--set", "sigma=1.5", "--geweke", "40")
    done = invoke(*arguments(folder, *more))
    assert done.exit_code == 0, done.output
    assert "gibbs: uniform in" in done.output
    assert "gibbs: no fault found by Geweke's test" in done.output
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["settings"]["model"]["sigma"] == 1.5
    assert summary["settings"]["seed"] == 0
    row = summary["rows"]["gibbs"]["log joint"]
    assert row["sims"] == 30
    assert set(row["coverage"]) == {"0.5", "0.8", "0.95"}
    assert set(summary["geweke"]["gibbs"]) == set(summary["rows"]["gibbs"])
    assert (folder / "ecdf.png").stat().st_size > 10_000
    assert (folder / "dispersion.pdf").exists()
    other = invoke(*arguments(folder, *more, "--rows", "7"))
    assert other.exit_code == 2
    assert "was begun with rows = 6, now it is 7" in other.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "nutz"], "unknown method 'nutz'"),
        (["--sims", "3"], "sims = 3"),
        (["--set", "sigma"], "expected name=value"),
        (["--set", "sigma=0"], "sigma = 0"),
        (["--weights", "flat"], "unknown weights 'flat'"),
        (["--level", "1"], "level = 1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, invoke, more, message):
    done = invoke(*arguments(tmp_path / "out", *more))
    assert done.exit_code == 2
    assert done.output.startswith("vi-bench: ")
    assert message in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_programs_folder_is_left_alone(tmp_path, invoke):
    (tmp_path / "precious").write_text("mine")
    done = invoke(*arguments(tmp_path))
    assert done.exit_code == 2
    assert "not the folder of a calibration" in done.output
    assert [f.name for f in tmp_path.iterdir()] == ["precious"]


def test_an_interrupt_is_told_of(tmp_path, invoke, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vi_bench.calibration.study.study", stop)
    done = invoke(*arguments(tmp_path / "out"))
    assert done.exit_code == 130
    assert "the same command goes on" in done.output


@pytest.mark.slow
def test_from_python():
    from vi_bench.models.gaussian import Gaussian

    found = vb.calibrate(Gaussian(sigma=1.5), ["exact"], **SMALL)
    assert found.settings.model["sigma"] == 1.5
    assert found.settings.model["mean"] == 0.0
    assert set(found.rows) == {"exact"}


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["uniform", "dirichlet"])
@pytest.mark.parametrize("name", ["gaussian", "gaussian-diagonal", "poisson"])
def test_samplers_are_uniform(name, weights):
    """A false alarm in at most three of 1000 seeds for each case (three methods)."""
    methods = ["gibbs", "nuts", "exact"]
    found = vb.calibrate(
        name, methods, weights=weights, sims=500, level=1e-3, geweke=1000
    )
    assert not found.failed
    for label in methods:
        assert found.uniform(label), found.rows[label]
    for tests in found.joint.values():
        assert all(joint.kept for joint in tests.values())


@pytest.mark.slow
def test_mean_field_is_overconfident_and_linear_response_less_so():
    """1000 data sets; both differences are over 4.5 standard errors, false 1e-5."""
    found = vb.calibrate("gaussian", ["cavi"], sims=1000, geweke=0)
    plain = found.rows["cavi"]["mean mu[x0]"]
    better = found.rows["cavi+lr"]["mean mu[x0]"]
    assert plain.dispersion - 4.5 * plain.dispersion_se > 1
    assert plain.dispersion - better.dispersion > 0.1
    assert better.coverage[0.95].value > plain.coverage[0.95].value
