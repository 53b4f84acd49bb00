"""Every number of the text comes from what a script published."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import study, verdicts
from vi_bench.sweeps.grid import points, sweep_of

ROOT = Path(__file__).parent.parent


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_page_of_the_study_is_that_of_its_tables():
    assert page("docs/study.md") == study.text(study.PUBLISHED)


def test_a_published_study_has_all_cells_of_its_specs():
    for name, cells in {"phase": 120, "arbiters": 9, "growth": 15}.items():
        sweep = sweep_of(tomllib.loads(page(f"results/published/study/{name}.toml")))
        keys = study.read(study.PUBLISHED, name, "cells")["key"].unique()
        assert len(keys) == len(list(points(sweep))) == cells


def test_the_readmes_table_is_one_that_was_printed():
    printed = page("results/published/study/run.txt").rstrip()
    assert study.readme(printed) == page("README.md")


def test_the_calibrations_table_is_one_that_was_printed():
    printed = page("results/published/study/calibrate.txt").splitlines()
    shown = re.search(r"## The table\n\n((?:     .*\n)+)", page("docs/calibration.md"))
    for line in shown[1].splitlines():
        assert line.strip() in map(str.strip, printed), line


@pytest.mark.parametrize("row", ["of the same posterior", *verdicts.CHANGES])
def test_how_often_the_word_is_wrong_was_counted(row):
    found = json.loads(page("results/published/verdicts.json"))
    if row == "of the same posterior":
        words, of = found["same"], found["problems"]
    else:
        words, of = found["changed"][row], found["power"]
    (shown,) = re.findall(
        rf"^\| {row} \| (.*) \|$", page("docs/design.md"), re.MULTILINE
    )
    cells = shown.split(" | ")
    assert [int(cells[0]), int(cells[1])] == [of, words.get("differs", 0)]
    low, high = verdicts.interval(words.get("differs", 0), of)
    assert cells[2] == f"{100 * low:.3g} to {100 * high:.3g} %"
    if row == "of the same posterior":
        assert [int(c) for c in cells[3:]] == [words["agrees"], words["inconclusive"]]
