"""A run with an arbiter: evidence, gaps, linear response, held-out rows."""

import io
import json
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import vi_bench as vb
from tests.oracles import log_evidence
from vi_bench import catalogue
from vi_bench.contract import Problem
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.reports import sentences
from vi_bench.reports.render_terminal import print_run
from vi_bench.reports.tables import Number, parameters
from vi_bench.runner.reference import Reference, able, choose

X = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0, 0.1, -0.5, 0.4])[:, None]
METHODS = {
    "cavi": {"restarts": 4, "tol": 1e-12},
    "one-start": {"method": "cavi", "restarts": 1, "max_iterations": 2},
}


@pytest.fixture(scope="module")
def arbitrated(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    family = Gaussian(sigma=2.0, mean=0.0)
    fields = {"components": 2, "held_out": 1, "draws": 500, "repeats": 1}
    return vb.run(family, X, METHODS, reference="auto", out=out, **fields), out


@pytest.mark.slow
def test_exact_is_chosen_and_the_evidence_is_right(arbitrated):
    result, _ = arbitrated
    found = result.comparison
    assert found.reference == "exact"
    ladder = found.evidence
    assert ladder.trusted == "exact"
    x = result.table_data.values
    assert len(x) == 10
    truth = log_evidence(x, 2, 2.0)
    assert ladder.evidence["exact"].value == pytest.approx(truth, rel=1e-10)
    assert ladder.evidence["exact"].se == 0
    assert not ladder.violations()


@pytest.mark.slow
def test_the_gap_is_what_lies_between_the_elbo_and_the_evidence(arbitrated):
    result, _ = arbitrated
    ladder = result.comparison.evidence
    elbo = result.runs["cavi"].bound()[0]
    gap = ladder.gaps["cavi"]
    assert gap.total.value == pytest.approx(ladder.evidence["exact"].value - elbo)
    assert gap.optimisation == pytest.approx(0, abs=1e-12)
    assert 0 < gap.symmetry.value <= np.log(2) + 1e-9
    assert gap.mean_field.value > 0
    # two iterations from one start end below what four starts reached
    short = ladder.gaps["one-start"]
    own = result.runs["one-start"].bound()[0]
    assert short.optimisation == pytest.approx(elbo - own)


@pytest.mark.slow
def test_linear_response_stands_beside_mean_field(arbitrated):
    result, _ = arbitrated
    response = result.runs["cavi"].response
    assert not response.refused
    assert "mean mu[x0]" in response.labels
    exact = result.comparison.summaries["exact"]["mean mu[x0]"].sd
    corrected, own = response.sd["mean mu[x0]"], response.mean_field_sd["mean mu[x0]"]
    assert abs(corrected - exact.value) < 0.5 * abs(own - exact.value)
    # a fit that was cut short is no fixed point
    assert result.runs["one-start"].response is None
    table = parameters(result.record)
    at = table.head.index("sd cavi linear response")
    shown = {row[0]: row[at] for row in table.rows if isinstance(row[at], Number)}
    assert shown["mean mu[x0]"].value == pytest.approx(corrected)


@pytest.mark.slow
def test_components_are_named_as_the_comparison_names_them(arbitrated):
    result, _ = arbitrated
    response, found = result.runs["cavi"].response, result.comparison
    for k in range(2):
        label = f"mu[x0] of component {k}"
        drawn = found.summaries["cavi"][label].sd
        assert abs(response.mean_field_sd[label] - drawn.value) < 5 * drawn.se + 0.01


@pytest.mark.slow
def test_the_held_out_row_is_scored(arbitrated):
    result, _ = arbitrated
    found = result.comparison.summaries
    assert "held-out log density" in result.comparison.judged
    at = result.runs["exact"].evaluation.held_out
    assert at.shape == (4, 500, 1)
    assert found["exact"]["held-out log density"].mean.value == pytest.approx(at.mean())
    assert "1 rows held out" in result.table_data.note


@pytest.mark.slow
def test_the_summary_and_the_lines_tell_it(arbitrated):
    result, out = arbitrated
    summary = json.loads((out / "summary.json").read_text())
    assert summary["reference"] == "exact"
    assert summary["evidence"]["trusted"] == "exact"
    assert summary["evidence"]["gaps"]["cavi"]["total"]["value"] > 0
    assert summary["evidence"]["violations"] == []
    response = summary["methods"]["cavi"]["linear_response"]
    assert 0 < response["rate"] < 1
    assert response["quantities"]["mean mu[x0]"]["sd"] > 0
    assert summary["methods"]["exact"]["log_evidence_se"] == 0
    assert summary["methods"]["exact"]["kind"] == "exact"
    assert len(summary["methods"]["cavi"]["modes"]) == 1
    assert "linear rate" in "\n".join(map(str, sentences.further(result.record)))
    for name in ("evidence", "deviations"):
        assert (out / f"{name}.png").stat().st_size > 5000


@pytest.mark.slow
def test_tables_tell_it(arbitrated):
    result, _ = arbitrated
    console = Console(width=200, record=True, file=io.StringIO())
    print_run(result.record, console, details=True)
    told = console.export_text()
    ladder = result.comparison.evidence
    assert "log p(X) and bounds on it, in nats; gaps to exact" in told
    for value in (ladder.evidence["exact"].value, ladder.gaps["cavi"].total.value):
        assert f"{value:.3f}" in told
    joint = result.comparison.examination.joint["cavi"]
    assert f"{joint.sliced.value:.4g}" in told
    assert f"{joint.sliced.floor:.4g}" in told
    assert "PSIS-LOO" in told
    assert "held out" in told


def test_what_is_chosen_where_exact_does_not_reach(random):
    rows = random.normal(size=(60, 2))
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), rows, 3, jnp.float64)
    methods = {"cavi": object()}
    chosen, known = choose(Problem(mixture, 4, 1000), methods)
    assert chosen == Reference("nuts", "gibbs")
    assert list(known) == ["cavi", "nuts", "gibbs"]
    assert list(methods) == ["cavi"]


def test_too_many_rows_held_out_are_refused():
    with pytest.raises(vb.InputError, match="1 rows when 10 are held out"):
        vb.run(Gaussian(2.0), X, ["cavi"], components=2, held_out=10)


def test_a_split_keeps_rows_and_labels_together(random):
    table = vb.simulate(Gaussian(2.0, mean=0.0), rows=30, components=2, seed=1)
    train, held = table.split(7, seed=3)
    assert (len(train.values), len(held.values)) == (23, 7)
    for part in (train, held):
        for row, label in zip(part.values, part.truth["labels"], strict=True):
            at = np.flatnonzero((table.values == row).all(axis=1))[0]
            assert table.truth["labels"][at] == label
    again, _ = table.split(7, seed=3)
    np.testing.assert_array_equal(again.values, train.values)


def test_a_plugin_that_cannot_be_loaded_or_made_has_no_role(monkeypatch):
    """Whoever asks for a reference to be chosen has not asked for it."""

    @dataclass(frozen=True)
    class Needy:
        setting: float
        roles: ClassVar = {"exact": 0}

    def broken():
        raise ImportError("no module named torch")

    known = catalogue.entries("method") | {
        "broken": catalogue.Entry("broken", "elsewhere", "", broken),
        "needy": catalogue.Entry("needy", "elsewhere", "", lambda: Needy),
    }
    monkeypatch.setattr(catalogue, "entries", lambda kind: known)
    assert catalogue.with_role("exact") == ["needy", "exact"]
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), X, 2, jnp.float64)
    assert able("exact", Problem(mixture, 4, 10))[0] == "exact"
