"""The benchmarks run, at toy size; what they measure is not looked at."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import (
    accelerator,
    cell,
    cores,
    library,
    measure,
    optimum,
    page,
    peers,
    reference_files,
    runs,
    samplers,
    settings,
    speed,
    stream,
    sweeps,
    zoo,
    zoo_models,
)
from tests.zoo import gaussian

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gaussian", "gaussian-full"])
def test_the_pass_is_measured_against_the_floor_and_a_peer(model, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 1e-3)
    case = {"model": model, "N": 300, "K": 3, "d": 2, "dtype": "float64"}
    found = speed.child(case, rounds=2)
    assert found["P"] == {"gaussian": 3, "gaussian-full": 7}[model]
    assert set(found["ms"]) >= {"ours", "pass", "gradient", "floor", "sklearn full"}
    for low, middle, high in [*found["ms"].values(), *found["ratios"].values()]:
        assert 0 < low <= middle <= high
    assert "sklearn full / ours" in found["ratios"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nuts", "cavi", "nested"])
def test_lanes_are_timed_apart_from_what_they_begin_with(method):
    few = {"method": method, "N": 100, "draws": 8, "lanes": 2, "seed": 0}
    found = cores.child(cores.SMALL | few, rounds=2)
    assert len(found) == 2
    assert min(found) > 0


@pytest.mark.slow
def test_whole_commands_are_timed(tmp_path):
    small = [case | {"rows": 500, "draws": 50} for case in runs.CASES]
    cases = {case["name"]: case for case in small}
    one = runs.many_rows(tmp_path, cases["many-rows"])
    assert 0 < one["one_s"] < one["s"]
    assert runs.compare(tmp_path, cases["compare"])["s"] > 0
    first = runs.first(tmp_path, {"words": "faithful --methods cavi"})
    assert 0 < first["trace_s"] + first["compile_s"] < first["s"]


@pytest.mark.slow
@pytest.mark.parametrize("module", [cell, stream, sweeps], ids=lambda m: m.__name__)
def test_a_benchmark_in_processes_of_its_own_runs_and_writes_nothing(module, tmp_path):
    module.main(["--quick", "--rounds", "1", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_accelerator_is_held_against_its_floor_and_the_cores(monkeypatch):
    """A processor takes its place."""
    monkeypatch.setattr(measure, "SECONDS", 1e-3)
    case = accelerator.CASES[0] | {"N": 100, "K": 2}
    found = accelerator.held(case, jax.devices()[0], 1, rounds=2)
    assert {"ours", "gradient", "4 chains", "1 core", "floor"} <= set(found["ms"])
    for low, middle, high in [*found["ms"].values(), *found["ratios"].values()]:
        assert 0 < low <= middle <= high
    shown = page.of_accelerator(
        {"machine": measure.described(), "device": "cpu: cpu", "cores": 1}
        | {"cases": [found | {"ratios": found["ratios"] | {"all cores / ours": [1]}}]}
    )
    assert "gaussian, 100 x 2, K = 2" in shown


def test_growth_is_the_slope_of_log_time(tmp_path):
    cases = [
        case
        | {
            "P": case["d"] + 1,
            "ms": {
                who: [0.0, share * case["N"] * case["K"] ** 0.9 * case["d"] ** 0.5, 0.0]
                for who, share in (("ours", 2.0), ("floor", 1.0))
            },
            "gflops": [0, 50.0, 0],
            "gbytes_s": [0, 20.0, 0],
        }
        for case in (*speed.CASES, *speed.GROWTH)
    ]
    for axis, power in (("N", 1.0), ("K", 0.9), ("d", 0.5)):
        chosen = speed.along(cases, axis)
        assert len(chosen) >= 4
        np.testing.assert_allclose(speed.exponent(chosen, axis), power)
    speed.figure(cases, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_the_page_of_the_zoo_is_that_of_its_numbers():
    found = published("zoo")
    assert zoo.page(found) == (ROOT / "docs/zoo.md").read_text()
    assert {zoo.label(kind) for kind in zoo.MUTANTS} == set(found["faults"])
    assert all(fault["found_by"] for fault in found["faults"].values())
    assert all(fault["seeds"] == zoo.SEEDS for fault in found["faults"].values())
    caught, batteries = zoo.batteries_of(found)
    assert caught >= 0.95 * batteries
    honest = found["right"] | found["approximations"]
    assert not any(row["alarms"] for row in honest.values())


def test_the_page_of_the_models_zoo_is_that_of_its_numbers():
    """Every fit was verified at its seeds, nearly all faults found, nothing accused."""
    found = published("zoo_models")
    assert zoo_models.page(found) == (ROOT / "docs/zoo_models.md").read_text()
    for group, known in found.items():
        seeds = 20 if group == zoo_models.MUTANT else 3
        fits = {
            f"{model}.{kind.__name__}"
            for model in zoo_models.MODELS
            for kind in getattr(zoo_models.module_of(model), group)
        }
        assert set(known) == fits
        assert all(len(own["seeds"]) >= seeds for own in known.values())
    assert min(zoo_models.shares(found[zoo_models.MUTANT])) >= 0.95
    assert zoo_models.counts(found)[1] == 0


def published(name):
    return json.loads((ROOT / f"results/published/{name}.json").read_text())


def test_the_page_of_the_librarys_settings_is_that_of_the_code():
    assert settings.page() == (ROOT / "docs/library_settings.md").read_text()


def test_the_page_of_the_library_is_that_of_its_numbers():
    found = published("library")
    assert library.page(found) == (ROOT / "docs/library_table.md").read_text()
    assert set(found) == set(library.experiments())
    assert all(own["seconds"] < 120 for own in found.values())
    for own in found.values():
        assert "unreliable" not in own["verdicts"]["cavi"]


def test_the_page_of_references_is_that_of_their_files():
    assert reference_files.page() == (ROOT / "docs/references.md").read_text()


def test_the_page_of_the_peers_is_that_of_its_numbers():
    found = published("peers")
    assert peers.page(found) == (ROOT / "docs/peers.md").read_text()
    assert [c["name"] for c in found["cases"]] == [c["name"] for c in peers.CASES]
    for case in found["cases"]:
        assert max(case["difference"].values()) < 1e-6


def test_the_zoos_numbers_have_their_seeds():
    found = {
        kind: {0: {"found_by": {}, "smallest": {}, "z_tests": 0, "verdict": ""}}
        for kind in zoo.EVERY
    }
    found[gaussian.NoConstant] = zoo.task(gaussian.NoConstant, [0])
    for kind in zoo.APPROXIMATIONS:
        found[kind][0]["nats_below_best"] = 1.0
    result = zoo.summary(found)
    name = "gaussian.NoConstant"
    assert "below the evidence" in result["faults"][name]["found_by"]
    assert result["right"]["gaussian.Right"]["batteries"] == 1
    assert sum(bool(f["found_by"]) for f in result["faults"].values()) == 1
    seeds = {seed for _, some in zoo.planned(200) for seed in some}
    assert seeds == set(range(200))


def test_the_page_of_speed_is_that_of_its_numbers():
    numbers = page.published(ROOT / "results/published")
    assert "speed" in numbers
    assert page.page(numbers) == (ROOT / "docs/speed.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["simulate:K=2,d=1,N=50,seed=0", "galaxies"])
def test_samplers_are_held_against_each_other(data):
    """On data whose true means are known, where chains start, and on others."""
    case = {"name": "toy", "data": data, "K": 2, "draws": 40}
    found = samplers.child(case, rounds=1)
    assert set(found["runs"]) >= {"ours", "numpyro", "numpyro, XLA as it comes"}
    for (run,) in found["runs"].values():
        assert run["ess_per_second"] > 0
        assert run["gradients"] >= 4 * 40
    mu = np.random.default_rng(0).normal(size=(2, 3, 4, 1))
    rows = np.zeros((30, 1))
    one, other = (samplers.invariants(m, rows, 1.0) for m in (mu, mu[:, :, ::-1]))
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sklearn", "stochastic"])
def test_the_way_to_an_optimum_is_timed(name, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 1e-3)
    small = "simulate:K=2,d=2,N=3000,separation=6,seed=0"
    found = optimum.child({"name": name, "data": small, "K": 2, "most": 60}, rounds=1)
    for low, middle, high in found["ratios"].values():
        assert 0 < low <= middle <= high < np.inf


def test_iterations_are_counted_to_within_a_gap():
    assert optimum.first_within(np.array([-9.0, -3.0, -1.5, -1.0]), 0.6) == 3
