"""summary.json: one schema, written and read; older ones are brought to it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.records import method, record
from vi_bench.errors import ResultsError
from vi_bench.reports.figures import marginals
from vi_bench.results.stored import open_run
from vi_bench.results.summary_schema import (
    SCHEMA,
    Record,
    parse,
    read_record,
    record_of,
)
from vi_bench.runner.summary import keys_of, numbers_of, whole

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "study"


def test_what_is_written_is_what_is_read(stored_run):
    text = (stored_run / "summary.json").read_text()
    found = read_record(stored_run)
    assert found.schema_version == SCHEMA
    assert found.values() == json.loads(text)
    assert parse(json.dumps(found.values()), "it") == found


@pytest.mark.parametrize("name", ["faithful", "notebook"])
def test_records_of_schema_2_are_still_read(name):
    """These were stored by that schema; no number is lost, and keys have new names."""
    old = json.loads((PUBLISHED / name / "summary.json").read_text())
    assert old["schema"] == 2
    found = read_record(PUBLISHED / name)
    for label, was in old["methods"].items():
        now = found.methods[label]
        assert now.marginal_elbo == was["marginal_bound"]
        assert now.assignments_in_q == was["bound_keeps_labels"]
        assert now.accepted_extrapolations == was["leaps"]
        assert now.outcome == was["outcome"].replace("budget spent", "iteration limit")
        for quantity, known in was["quantities"].items():
            assert now.quantities[quantity].sd == known["sd"]
    for label, was in old["evidence"]["bounds"].items():
        assert (
            found.evidence.bounds[label].marginal_elbo.value
            == (was["summed_out"]["value"])
        )
    again = found.values()
    assert again["schema"] == SCHEMA
    assert parse(json.dumps(again), "it") == found


def test_arrays_become_lists_and_what_is_not_finite_is_null():
    counts = np.array([3.0, np.nan])
    values = record(methods={"cavi": method(counts=counts, bound=np.float64("inf"))})
    found = record_of(values)
    assert found.methods["cavi"].counts == (3.0, None)
    assert found.methods["cavi"].bound is None
    written = found.values()["methods"]["cavi"]
    assert written["counts"] == [3.0, None]
    assert "sampler" not in written  # nothing is said of what does not apply


def test_the_word_on_a_method_is_its_verdict_or_how_it_ended():
    known = {"mean mu": dict.fromkeys(("mean", "mean_mcse", "sd", "sd_mcse"), 1.0)}
    known["mean mu"] |= dict.fromkeys(("ess_bulk", "ess_tail", "r_hat"), 1.0)
    found: Record = record_of(
        record(
            methods={
                "cavi": method(),
                "nuts": method(quantities=known),
                "gibbs": method(outcome="failed"),
            },
            reference="nuts",
            verdicts={"cavi": {"word": "agrees", "reason": "because"}},
        )
    )
    assert [found.word(k) for k in found.methods] == ["agrees", "reference", "failed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it: summary.json is not JSON"),
        ("[]", "it: has schema None, expected 2 to 3"),
        ('{"schema": 4}', "it: has schema 4, expected 2 to 3"),
        (json.dumps(record(more=1)), "it: summary.json: more: extra inputs are not"),
        (json.dumps(record(note=3)), "it: summary.json: note: input should be a valid"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(text, said):
    with pytest.raises(ResultsError) as error:
        parse(text, "it")
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (7, 7),
        (np.int32(7), 7),
        (np.array(7.0), 7),
        (np.nan, None),
        (np.array([1, 2]), None),
        ("seven", None),
    ],
)
def test_a_count_that_a_method_reports_may_be_anything(given, expected):
    assert whole(given) == expected


def test_other_reports_may_be_anything_too():
    assert numbers_of(np.array([1.0, 2.0])) == [1.0, 2.0]
    assert numbers_of(np.ones((2, 2))) is None
    assert numbers_of(None) is None
    assert keys_of("blei2017") == ("blei2017",)
    assert keys_of(["a", "b"]) == ("a", "b")


def test_a_folder_without_the_compared_quantities_is_read(stored_run, tmp_path):
    """As older versions wrote it: parameters are shown as they are."""
    folder = shutil.copytree(stored_run, tmp_path / "old")
    run = open_run(folder)
    for tree in run.trees.values():
        del tree["compared"]
    found = run.draws("cavi")
    assert any(q.component == 1 and q.name == "mu" for q in found)
    assert marginals(run) is not None
