import io
import json
import os
import subprocess
import sys

import arviz
import jax
import numpy as np
import pytest

import vi_bench as vb
from tests.small import FIELDS, MIXTURES, ROWS
from tests.small import METHODS as SMALL
from vi_bench import catalogue
from vi_bench.contract import Problem
from vi_bench.errors import InputError
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.results.summary_schema import SCHEMA

FIELDS = FIELDS | {"name": "small"}


@pytest.fixture(scope="module")
def rows():
    return ROWS


@pytest.fixture(scope="module")
def written(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    return vb.run("gaussian", rows, SMALL, out=out, **FIELDS), out


def test_the_folder_holds_what_is_promised(written):
    _, out = written
    names = {p.name for p in out.iterdir()}
    figures = {"components", "marginals", "bound", "timing"}
    assert {"summary.json", "cavi.nc", "svi.nc", "nuts.nc"} <= names
    assert {f"{f}.{s}" for f in figures for s in ("png", "pdf")} <= names
    assert all((out / name).stat().st_size > 1000 for name in names)
    assert not [p for p in out.parent.iterdir() if p != out], "staging left behind"


def test_a_result_is_shown_in_one_line(written):
    result, _ = written
    assert repr(result).startswith("<run of small: cavi ")
    assert repr(result).endswith(", nuts sampled>")
    assert repr(result.runs["nuts"]) == "<NUTS: sampled>"


def test_the_summary_has_its_schema(written):
    result, out = written
    summary = json.loads((out / "summary.json").read_text())
    assert summary["schema"] == SCHEMA
    assert summary["data"]["shape"] == [45, 2]
    assert summary["data"]["sha256"] == result.table_data.sha256
    assert summary["spec"]["components"] == 2
    assert summary["environment"]["packages"]["jax"]
    assert set(summary["methods"]) == {"cavi", "svi", "nuts"}
    for entry in summary["methods"].values():
        times = entry["time"]
        for name in ("setup_s", "trace_s", "compile_s", "first_s"):
            assert times[name] >= 0
        assert set(times["run_s"]) == {"median", "min", "max", "repeats"}
        assert times["run_s"]["repeats"] == 2
        assert (
            times["run_s"]["min"] <= times["run_s"]["median"] <= times["run_s"]["max"]
        )
        for stage in times["stages"].values():
            wanted = 2 if stage["part_of_inference"] else 1
            assert stage["run_s"]["repeats"] == wanted
        assert entry["memory_bytes"] > 0
        sampler = entry["kind"] in ("mcmc", "particles")
        assert (entry["ess_per_s"] or 0) > 0 if sampler else entry["ess_per_s"] is None
    assert summary["methods"]["cavi"]["bound"] < 0
    assert summary["methods"]["cavi"]["bound_se"] == 0
    assert summary["methods"]["svi"]["bound_se"] > 0
    assert summary["methods"]["nuts"]["bound"] is None
    assert summary["methods"]["nuts"]["converged"] is None
    assert summary["methods"]["cavi"]["converged"] is True
    assert summary["methods"]["cavi"]["restarts"]["optima"][0]["restarts"] >= 1
    sampler = summary["methods"]["nuts"]["sampler"]
    assert 0.5 < sampler["mean_acceptance_rate"] <= 1
    assert len(sampler["step_size"]) == 2
    assert sampler["gradients"] >= 200
    quantities = {(r["method"], r["quantity"]) for r in summary["comparisons"]}
    assert ("cavi", "log joint") in quantities
    assert ("svi", "mu[x0] of component 0") in quantities
    assert set(summary["verdicts"]) == {"cavi", "svi"}


@pytest.mark.parametrize("method", ["cavi", "svi", "nuts"])
def test_arviz_takes_the_trees_as_they_are(written, method):
    result, out = written
    tree = arviz.from_netcdf(out / f"{method}.nc")
    assert tree["posterior"]["mu"].dims == ("chain", "draw", "component", "feature")
    assert list(tree["posterior"]["feature"].values) == ["x0", "x1"]
    summary = arviz.summary(tree, round_to="none")
    assert len(summary) == 4
    # two chains of a hundred draws: R-hat is near 1 once labels are put right
    assert np.all(summary["r_hat"].astype(float) < 1.1)
    arviz.plot_dist(tree, backend="none")
    np.testing.assert_array_equal(
        tree["posterior"]["mu"], result.posterior[method]["posterior"]["mu"]
    )
    attributes = json.loads(tree.attrs["vi_bench"])
    assert attributes["data_sha256"] == result.table_data.sha256
    assert tree["relabelling"]["order"].shape == (2, 100, 2)
    tree.close()


def test_the_relabelled_draws_are_permuted_raw_draws(written):
    result, _ = written
    for label, tree in result.posterior.items():
        raw = result.runs[label].draws.parameters["mu"]
        order = tree["relabelling"]["order"].values[..., None]
        moved = np.take_along_axis(raw, order, axis=2)
        np.testing.assert_array_equal(moved, tree["posterior"]["mu"])


def test_draws_are_in_the_datas_own_coordinates(written, rows):
    result, _ = written
    means = result.posterior["nuts"]["posterior"]["mu"].mean(("chain", "draw")).values
    expected = np.array([rows[:20].mean(axis=0), rows[20:].mean(axis=0)])
    ranked = means[np.argsort(means[:, 0])]
    np.testing.assert_allclose(ranked, expected, atol=0.5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_one_others(rows):
    def draws(seed, methods):
        result = vb.run("gaussian", rows, methods, seed=seed, **FIELDS)
        return result.runs["nuts"].draws.parameters["mu"]

    first = draws(1, {"nuts": SMALL["nuts"]})
    # beside another method too: a stream depends on the method's label alone
    again = draws(1, {k: SMALL[k] for k in ("cavi", "nuts")})
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, draws(2, {"nuts": SMALL["nuts"]}))


def test_a_second_run_of_the_same_shapes_compiles_nothing(rows):
    """Neither methods nor what evaluates their draws; whatever the data and seed."""
    compiled = []

    def listen(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda: 1.0)()
        assert compiled  # they are heard of
        vb.run("gaussian", rows, SMALL, seed=0, **FIELDS)
        compiled.clear()
        found = vb.run("gaussian", rows + 1.0, SMALL, seed=1, **FIELDS)
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    for run in found.runs.values():
        assert all(stage.compile_cached for stage in run.stages.values())


@pytest.mark.parametrize("name", MIXTURES)
def test_equal_settings_give_the_same_stages(rows, name):
    method = catalogue.method(name)()

    def stages(rows, draws):
        mixture = bind(Gaussian(sigma=1.0, mean=0.0), rows, 2, np.float64)
        key = jax.random.key(int(rows[0, 0] * 1e6) % 1000)
        found = method.prepare(Problem(mixture, 2, draws), key)
        return [stage.run for stage in found]

    once = stages(rows[:8], 20)
    assert stages(rows[8:16], 20) == once
    assert stages(rows[:8], 24) != once


def test_the_table_has_a_row_per_method(written):
    from rich.console import Console

    result, _ = written
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    for word in ("cavi", "svi", "nuts", "reference", "ESS/s", "cpu", "verdict"):
        assert word in text


@pytest.mark.slow
def test_float32_runs_in_float32(rows):
    result = vb.run("gaussian", rows, {"cavi": {}}, precision=32, **FIELDS)
    assert result.runs["cavi"].draws.variational["lam"].dtype == np.float32
    assert result.runs["cavi"].outcome.status == "converged"
    assert result.environment["precision"] == 32


def test_a_failing_method_is_a_row_with_its_reason(rows, monkeypatch):
    from vi_bench.methods.svi import SVI

    def broken(self, problem, key):
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(SVI, "prepare", broken)
    result = vb.run("gaussian", rows, {k: SMALL[k] for k in ("svi", "cavi")}, **FIELDS)
    assert result.runs["svi"].outcome.status == "failed"
    assert result.runs["svi"].outcome.sentence == "RuntimeError: no such luck"
    assert "Traceback" in result.runs["svi"].error
    assert result.runs["cavi"].outcome.status == "converged"
    assert result.comparison is None
    assert result.summary["methods"]["svi"]["bound"] is None


def test_an_interrupt_keeps_finished_methods(rows, monkeypatch, tmp_path):
    from vi_bench.methods.svi import SVI

    def interrupt(self, problem, key):
        raise KeyboardInterrupt

    monkeypatch.setattr(SVI, "prepare", interrupt)
    chosen = {k: SMALL[k] for k in ("cavi", "svi", "nuts")}
    result = vb.run("gaussian", rows, chosen, out=tmp_path / "r", **FIELDS)
    assert result.interrupted
    assert (tmp_path / "r" / "cavi.nc").is_file()
    assert not (tmp_path / "r" / "svi.nc").exists()
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["interrupted"]
    assert result.runs["nuts"].outcome.sentence == "not started"


def test_an_interrupt_before_anything_finished_writes_nothing(
    rows, monkeypatch, tmp_path
):
    from vi_bench.methods.cavi import CAVI

    def interrupt(self, problem, key):
        raise KeyboardInterrupt

    monkeypatch.setattr(CAVI, "prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        vb.run("gaussian", rows, ["cavi"], out=tmp_path / "r", **FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_components_and_rows_must_fit(rows):
    with pytest.raises(InputError, match=r"components = 46.* 45 rows"):
        vb.run("gaussian", rows, ["cavi"], components=46)
    with pytest.raises(InputError, match="mean has 3 numbers"):
        vb.run({"name": "gaussian", "mean": (1.0, 2.0, 3.0)}, rows, ["cavi"])


def test_a_device_that_is_not_there_is_refused(rows):
    with pytest.raises(InputError, match="'tpu' is not here; JAX sees: cpu"):
        vb.run("gaussian", rows, ["cavi"], device="tpu")


@pytest.mark.slow
def test_a_big_offset_with_the_prior_moved_changes_no_comparison(rows):
    """The offset is a power of two and rows are rounded, so that none is lost."""
    x = np.round(rows * 1024) / 1024
    chosen = {k: SMALL[k] for k in ("cavi", "nuts")}
    here = vb.run({"name": "gaussian", "mean": 0.0}, x, chosen, **FIELDS)
    offset = 2.0**27
    there = vb.run({"name": "gaussian", "mean": offset}, x + offset, chosen, **FIELDS)
    name = "mu[x0] of component 0"
    a = here.comparison.distances["cavi"][name]
    b = there.comparison.distances["cavi"][name]
    assert a.mean_difference.value == pytest.approx(b.mean_difference.value, abs=1e-4)
    assert a.sd_ratio.value == pytest.approx(b.sd_ratio.value, rel=1e-4)


@pytest.mark.slow
def test_the_programs_do_not_depend_on_the_hash_seed():
    """Else the compilation cache misses, and one seed gives other last digits."""
    code = """
import hashlib, jax, numpy as np
from vi_bench.contract import Problem
from vi_bench.methods.cavi import CAVI
from vi_bench.methods.nuts import NUTS
from vi_bench.methods.svi import SVI
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
x = np.random.default_rng(0).normal(size=(9, 2))
mixture = bind(Gaussian(sigma=1.0, mean=0.0), x, 2, np.float32)
key = jax.random.key(0)
for method in (CAVI(restarts=2), NUTS(warmup=20), SVI(steps=100, bound_draws=2)):
    carry = None
    for stage in method.prepare(Problem(mixture, 2, 4), key):
        lowered = jax.jit(stage.run).lower(key, mixture, carry)
        print(hashlib.md5(lowered.as_text().encode()).hexdigest())
        carry = jax.eval_shape(stage.run, key, mixture, carry)
"""
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "3")
    ]
    assert len(found[0]) == 11
    assert found[0] == found[1]
