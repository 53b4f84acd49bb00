"""What a run says beside its tables, and how much of it a terminal shows first."""

import io

import pytest
from rich.console import Console

from tests.records import method, record
from vi_bench.reports import sentences
from vi_bench.reports.render_terminal import LINES, ROWS, drawn, print_run
from vi_bench.reports.tables import ReportTable
from vi_bench.results.summary_schema import record_of

KNOWN = {
    "mean mu": dict.fromkeys(
        ("mean", "mean_mcse", "sd", "sd_mcse", "ess_bulk", "ess_tail", "r_hat"), 1.0
    )
}


def told(run):
    return [str(sentence) for sentence in sentences.notes(run)]


def test_a_reference_that_is_alone_has_nothing_to_judge():
    run = record_of(
        record(methods={"nuts": method(quantities=KNOWN)}, reference="nuts")
    )
    assert told(run) == ["Nothing was compared: no other method has draws."]


def test_a_reference_without_draws_and_no_reference_are_said():
    without = record_of(record(methods={"nuts": method()}, reference="nuts"))
    assert told(without) == ["The reference nuts has no draws: nothing was compared."]
    none = record_of(record())
    assert told(none) == ["No reference among the methods: nothing was compared."]


@pytest.mark.parametrize("count", [3, 30])
def test_the_first_screen_has_all_verdicts_and_keeps_warnings(count):
    methods = {f"m{i}": method() for i in range(count)}
    evidence = {"bounds": {}, "evidence": {}, "trusted": None, "gaps": {}}
    evidence["violations"] = ["m1: ELBO above log p(X)"]
    run = record_of(record(methods=methods, evidence=evidence, interrupted=True))
    file = io.StringIO()
    print_run(run, Console(file=file, width=150))
    text = file.getvalue()
    lines = text.splitlines()
    for label in methods:
        assert f" {label} " in text
    below = lines[[i for i, line in enumerate(lines) if not line.strip()][-1] + 1 :]
    assert len(below) <= LINES
    assert "the bounds violate their ordering" in text
    assert "The run was interrupted" in text
    assert "--details" in below[-1]


def test_only_long_tables_are_cut():
    rows = tuple((f"q{i}", "x") for i in range(ROWS + 5))
    whole = ReportTable("t", "title", ("quantity", "b"), rows)
    assert drawn(whole).row_count == ROWS + 5
    cut = ReportTable("t", "title", ("quantity", "b"), rows, long=True)
    assert drawn(cut).row_count == ROWS
    assert f"the first {ROWS} of {ROWS + 5}" in str(drawn(cut).title)


def test_of_a_setting_of_many_values_their_number_is_told():
    settings = {"name": "gaussian-full", "mean": [0.0] * 3, "scale": [[1.0] * 9] * 9}
    assert sentences.described(settings) == (
        "gaussian-full, mean = [0.0, 0.0, 0.0], scale = 81 values (in summary.json)"
    )
    assert sentences.described({"name": "poisson"}) == "poisson"
    ragged = {"name": "mine", "groups": [[0, 1], [2]]}
    assert sentences.described(ragged) == "mine, groups = [[0, 1], [2]]"
