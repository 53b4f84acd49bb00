"""Posteriors with several modes: what a run says of references that miss one."""

import numpy as np
import pytest

import vi_bench as vb
from benchmarks.designs import DESIGNS
from tests.small import METHODS, ROWS
from vi_bench.comparison.coverage import Coverage
from vi_bench.methods.exact import Exact
from vi_bench.models.gaussian import Gaussian
from vi_bench.runner.infer import FURTHER
from vi_bench.runtime.progress import Silent

QUICK = {"cavi": {"restarts": 4}, "nuts": {"warmup": 100}}
FIELDS = {"components": 2, "draws": 1000, "repeats": 1}


@pytest.fixture(scope="module")
def corners():
    return DESIGNS["corners"]()


@pytest.fixture(scope="module")
def torn(corners):
    """NUTS as the reference, as it is by default."""
    return vb.run(data=corners.values, methods=QUICK, **corners.settings | FIELDS)


@pytest.mark.slow
def test_chains_in_both_modes_are_no_reference(torn):
    found = torn.comparison
    assert found.verdicts["cavi"].word == "reference unreliable"
    assert "2 different modes" in found.verdicts["cavi"].reason
    assert len(found.modes["nuts"]) == 2


@pytest.mark.slow
def test_both_optima_are_listed_with_who_visits_them(torn):
    seen = torn.comparison.coverage
    best, other = seen.optima
    assert best.bound == pytest.approx(-103.7208, abs=1e-3)
    assert best.bound - other.bound == pytest.approx(0.408, abs=1e-2)
    assert all(0 < share < 1 for share in seen.visits["nuts"])
    assert sum(seen.visits["nuts"]) == pytest.approx(1)
    assert torn.summary["optima"]["optima"][1]["bound"] == other.bound


@pytest.mark.slow
def test_no_gap_is_put_down_to_mean_field_where_a_mode_is_missing(torn):
    ladder = torn.comparison.evidence
    assert ladder.trusted is None
    assert not ladder.gaps
    assert "2 optima lie within" in torn.comparison.coverage.beside()


@pytest.mark.slow
def test_a_chosen_reference_has_both_modes(corners, monkeypatch):
    """Exact sums out of reach, NUTS and Gibbs torn: the tempered sampler stands in."""
    monkeypatch.setattr(Exact, "seconds", lambda *_: np.inf)
    result = vb.run(
        data=corners.values,
        methods=QUICK,
        reference="auto",
        **corners.settings | FIELDS,
    )
    found = result.comparison
    assert found.reference == "tempered"
    assert "nuts failed the reference diagnostics" in found.note
    assert found.verdicts["cavi"].word == "differs"
    share = corners.first(result.runs["tempered"].posterior).mean()
    assert share == pytest.approx(corners.mass, abs=0.1)
    assert found.coverage.missed == {}


class Watched(Silent):
    """Remembers which methods made further draws."""

    def __init__(self):
        self.further = set()

    def stage(self, method, name, index, of):
        if name == FURTHER:
            self.further.add(method)


@pytest.fixture(scope="module")
def rows():
    """Two clusters, as many rows as `corners` has: both run the same programs."""
    random = np.random.default_rng(8)
    return np.r_[random.normal(size=(8, 2)), 6 + random.normal(size=(8, 2))]


@pytest.fixture(scope="module")
def precise(rows):
    """Draws decided by their errors."""
    from vi_bench.runner.execute import execute
    from vi_bench.runner.specify import specify

    methods = QUICK | {"svi": {"steps": 100}}
    family = Gaussian(sigma=5.0, mean=0.0)
    spec, table = specify(
        family, rows, methods, {"components": 2, "repeats": 1, "draws": "auto"}
    )
    watcher = Watched()
    return execute(spec, table, watcher), watcher


@pytest.mark.slow
def test_draws_are_added_until_errors_are_small(precise):
    """Under a tenth of every margin, of judged means and sds, give or take an error."""
    result, watcher = precise
    found = result.comparison
    assert watcher.further == {"cavi", "svi", "nuts"}
    for label, run in result.runs.items():
        chains, draws = run.shape()
        assert (chains, draws % 1000) == (4, 0)
        assert draws > 1000
        for name in found.judged:
            own, unit = found.summaries[label][name], found.summaries["nuts"][name]
            assert own.mean.se < 0.0112 * unit.sd.value, (label, name)
            assert own.sd.se < 0.0112 * 1.054 * own.sd.value, (label, name)
    assert found.verdicts["cavi"].word in ("agrees", "differs", "at the margin")


@pytest.mark.slow
def test_all_that_is_known_of_draws_grows_with_them(precise):
    result, _ = precise
    for run in result.runs.values():
        shape = run.shape()
        assert run.log_joint.shape == shape
        if run.draws.log_q is not None:
            assert run.draws.log_q.shape == shape
            assert run.evaluation.log_q_symmetric.shape == shape
        assert all(v.shape == shape for v in run.draws.sample_stats.values())
        drawn = [s for s in run.stages.values() if s.batches > 1]
        assert drawn
        assert {s.batches for s in drawn} == {shape[1] // 1000}
        assert run.resumption is None
        assert run.further_s > 0
    assert result.summary["methods"]["nuts"]["draws"] == list(
        result.runs["nuts"].shape()
    )


@pytest.mark.slow
def test_the_first_batch_is_what_a_fixed_number_gives(precise, rows):
    result, _ = precise
    again = vb.run(
        Gaussian(sigma=5.0, mean=0.0),
        rows,
        QUICK,
        components=2,
        repeats=1,
        draws=1000,
    )
    for label in ("cavi", "nuts"):
        first = result.runs[label].draws.parameters["mu"][:, :1000]
        np.testing.assert_array_equal(first, again.runs[label].draws.parameters["mu"])


def test_without_a_reference_nothing_is_searched():
    given = {"cavi": METHODS["cavi"]}
    result = vb.run("gaussian", ROWS, given, components=2, repeats=1)
    assert result.comparison is None
    assert result.runs["cavi"].shape() == (4, 1000)
    assert Coverage().beside() == ""


@pytest.mark.slow
def test_a_fit_in_a_poor_optimum_is_said():
    """k-means finds the clusters; with equal weights halves of the large are better."""
    random = np.random.default_rng(2)
    small = random.normal(size=(20, 2)) + np.repeat([[14, 5], [14, -5]], 10, axis=0)
    x = np.r_[random.normal(size=(400, 2)), small]
    result = vb.run(
        Gaussian(sigma=5.0, mean=0.0),
        x,
        {"cavi": {"restarts": 8}, "svi": {}},
        components=3,
        repeats=1,
        draws=200,
    )
    outcome = result.runs["svi"].outcome
    assert outcome.status == "suspect"
    assert "a poor optimum" in outcome.sentence
    assert "nats below that of cavi" in outcome.sentence
    assert result.runs["cavi"].outcome.status == "converged"
