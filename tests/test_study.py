"""Every number of the text comes from what a script published."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import errors, modes, study, study_text, verdicts
from benchmarks.designs import DESIGNS
from vi_bench.calibration.priors import usual_prior
from vi_bench.sweeps.grid import points, sweep_of

PAGE = "docs/verdicts.md"
ROOT = Path(__file__).parent.parent


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_page_of_the_study_is_that_of_its_tables():
    assert page("docs/study.md") == study_text.text(study.PUBLISHED)


def test_a_published_study_has_all_cells_of_its_specs():
    cells_of = {
        "phase": 300, "arbiters": 60, "families": 200, "real": 20, "models": 65,
        "sensitivity": 150, "growth": 27,
    }  # fmt: skip
    assert set(cells_of) == set(study.SWEEPS)
    published = page("docs/study.md")
    for name, cells in cells_of.items():
        sweep = sweep_of(tomllib.loads(page(f"results/published/study/{name}.toml")))
        assert len(list(points(sweep))) == cells
        if f"`{name}`" in published.partition("no results are published yet")[0]:
            assert not (study.PUBLISHED / name).exists()
            continue
        keys = study_text.read(study.PUBLISHED, name, "cells")["key"].unique()
        assert len(keys) == cells


def test_the_usual_priors_are_those_of_the_families_sweep():
    sweep = sweep_of(tomllib.loads(page("results/published/study/families.toml")))
    for model in sweep.grid["model"]:
        assert usual_prior(model["name"]) == {
            k: v for k, v in model.items() if k != "name"
        }


@pytest.mark.parametrize("shown", study.SHOWING, ids=lambda path: path.name)
def test_the_table_of_a_first_run_is_one_that_was_printed(shown):
    printed = page("results/published/study/run.txt").rstrip()
    assert study.with_table(shown, printed) == shown.read_text(encoding="utf-8")


def test_the_numbers_of_the_verdicts_page_are_the_published_runs():
    """Of the notebook's data: the sds are in a table, the rest is in the summary."""
    known = study_text.read(study.PUBLISHED, "notebook", "parameters").set_index(
        "quantity"
    )
    row = known.loc["mean mu[x0]"]
    run = json.loads(page("results/published/study/notebook/summary.json"))
    cavi, moved = run["methods"]["cavi"], run["methods"]["nuts"]["relabelling"]
    (optimum,) = cavi["restarts"]["optima"]
    (modes,) = run["methods"]["nuts"]["modes"]
    assert modes["chains"] == [0, 1, 2, 3]
    said = (
        f"All {optimum['restarts']} starts end in one optimum. Chains mix, "
        f"{moved['moved']:.0%} of NUTS' draws were relabelled and "
        f"{moved['ambiguous']:.0%} are near ties, so label-invariant quantities are "
        "judged. What is left is mean field: CAVI's linear rate is "
        f"{cavi['linear_response']['rate']:.3f}; the sd of the mean of the first "
        f"coordinate over components is {row['sd cavi mean field']:.4f} by mean field, "
        f"{row['sd cavi linear response']:.4f} by linear response, and "
        f"{row['sd nuts']:.4f} ± {row['sd nuts se']:.4f} by NUTS"
    )
    assert said.replace("%", " %") in " ".join(page("docs/verdicts.md").split())


def test_linear_response_takes_back_what_the_readme_says():
    assert "takes about half of that back" in page("README.md")
    dispersion, method = {}, ""
    for line in page("results/published/study/calibrate.txt").splitlines():
        method = line[:10].strip() or method
        if "mean mu[x0]" in line or "log rms mu[x0]" in line:
            found = re.search(r" (\d\.\d\d)±", line)
            dispersion.setdefault(method, []).append(float(found[1]) - 1)
    for before, after in zip(dispersion["cavi"], dispersion["cavi+lr"], strict=True):
        assert 0.4 < 1 - after / before < 0.6


def test_the_calibrations_table_is_one_that_was_printed():
    printed = page("results/published/study/calibrate.txt").splitlines()
    shown = re.search(r"## The table\n\n((?:     .*\n)+)", page("docs/calibration.md"))
    for line in shown[1].splitlines():
        assert line.strip() in map(str.strip, printed), line


@pytest.mark.parametrize("table", [0, 1])
def test_how_often_the_word_is_wrong_was_counted(table):
    found = json.loads(page("results/published/verdicts.json"))
    assert verdicts.pages(found)[table] in page(PAGE)


def test_references_of_posteriors_with_two_modes_were_counted():
    found = json.loads(page("results/published/modes.json"))
    assert modes.page(found) in page(PAGE)
    runs = {case["name"]: len(case["runs"]) for case in found["cases"]}
    assert set(runs) == set(DESIGNS)
    assert min(runs.values()) >= 20


def test_the_stated_errors_are_those_that_were_counted():
    """Over 60 seeds of every method: z-scores whose root mean square is about 1."""
    found = json.loads(page("results/published/errors.json"))
    assert errors.page(found) in page(PAGE)
    names = {(case["problem"], case["method"]) for case in found["cases"]}
    assert names == {
        (problem, method)
        for problem, case in errors.cases().items()
        for method in errors.METHODS
        if case.modes == 1 or method not in errors.ONE_MODE
    }
    for case in found["cases"]:
        assert case["seeds"] >= 60
        for kind, (rms, _, _) in case["rms"].items():
            assert 0.9 <= round(rms, 2) <= 1.15, (case["name"], kind)
