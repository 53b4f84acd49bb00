"""Every number of the text comes from what a script published."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import study, verdicts
from vi_bench.sweeps.grid import points, sweep_of

PAGE = "docs/verdicts.md"
ROOT = Path(__file__).parent.parent


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_page_of_the_study_is_that_of_its_tables():
    assert page("docs/study.md") == study.text(study.PUBLISHED)


def test_a_published_study_has_all_cells_of_its_specs():
    for name, cells in {"phase": 120, "arbiters": 9, "families": 20}.items():
        sweep = sweep_of(tomllib.loads(page(f"results/published/study/{name}.toml")))
        keys = study.read(study.PUBLISHED, name, "cells")["key"].unique()
        assert len(keys) == len(list(points(sweep))) == cells


@pytest.mark.parametrize("shown", study.SHOWING, ids=lambda path: path.name)
def test_the_table_of_a_first_run_is_one_that_was_printed(shown):
    printed = page("results/published/study/run.txt").rstrip()
    assert study.with_table(shown, printed) == shown.read_text(encoding="utf-8")


def test_the_numbers_of_the_verdicts_page_are_the_published_runs():
    """Of the notebook's data: mean field, linear response, NUTS and its error."""
    known = study.read(study.PUBLISHED, "notebook", "parameters").set_index("quantity")
    row = known.loc["mean mu[x0]"]
    said = (
        f"is {row['sd cavi mean field']:.4f} by mean field, "
        f"{row['sd cavi linear response']:.4f} by linear response, and "
        f"{row['sd nuts']:.4f} ± {row['sd nuts se']:.4f} by NUTS"
    )
    assert said in " ".join(page("docs/verdicts.md").split())


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
    (shown,) = re.findall(rf"^\| {row} \| (.*) \|$", page(PAGE), re.MULTILINE)
    cells = shown.split(" | ")
    assert [int(cells[0]), int(cells[1])] == [of, words.get("differs", 0)]
    ends = verdicts.interval(words.get("differs", 0), of)
    assert cells[2] == "{:g} to {:g} %".format(*(round(100 * e, 1) for e in ends))
    if row == "of the same posterior":
        assert [int(c) for c in cells[3:]] == [words["agrees"], words["inconclusive"]]
        left = found["inconclusive_in"]["mean square"]
        assert f"{words['inconclusive']} `inconclusive` {left} are" in page(PAGE)
