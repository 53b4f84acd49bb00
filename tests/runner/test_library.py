"""Models of the library as users run, refuse, calibrate and verify them."""

from types import SimpleNamespace

import numpy as np
import pytest

import vi_bench as vb
from vi_bench import catalogue
from vi_bench.contract import Draws, Outcome
from vi_bench.data.arrays import arrays
from vi_bench.data.built_in import ARRAYS, built_in
from vi_bench.errors import InputError
from vi_bench.inference.linear_response import refusal
from vi_bench.models.normal import NormalModel
from vi_bench.posterior.bound import bind_model
from vi_bench.reports.latex import entries
from vi_bench.runner.infer import _judged
from vi_bench.runner.result import MethodRun
from vi_bench.spec import make, read

OWN = catalogue.library()
EXPERIMENTS = [n for n in catalogue.experiments() if read(n, {}).numpyro is not None]


@pytest.fixture(scope="module")
def result():
    x = np.random.default_rng(0).normal(1.0, 2.0, 30)
    return vb.run(
        model=NormalModel(kappa=0.1),
        data={"x": x},
        methods={"cavi": {"restarts": 2}, "nuts": {"warmup": 200}},
        draws=400,
        repeats=1,
        progress=False,
    )


def test_a_run_has_cavi_nuts_and_linear_response(result):
    assert list(result.runs) == ["cavi", "nuts"]
    assert result.runs["cavi"].outcome.status == "converged"
    response = result.runs["cavi"].response
    assert not response.refused
    assert {str(q) for q in response.labels} == {"mu", "log_tau"}
    assert all(sd > 0 for sd in response.sd.values())
    assert 0 <= response.rate < 1


def test_the_same_model_by_name_has_its_settings_in_a_spec():
    model = {"name": "hmm", "states": 3, "emission": "poisson"}
    spec = make({"model": model, "data": "waiting"}, "spec")
    assert spec.numpyro == "hmm"
    assert list(spec.methods) == ["cavi", "svi", "nuts"]


@pytest.mark.parametrize("name", OWN)
def test_every_model_has_defaults_for_everything_and_a_summary(name):
    own = catalogue.model(name)()
    assert own.summary
    assert own.compared
    assert set(own.references) <= set(entries())
    assert catalogue.entries("model")[name].summary


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_built_in_arrays_are_finite_and_have_a_source(name):
    known = built_in(name)
    assert known.note
    assert known.source
    assert all(np.all(np.isfinite(v)) for v in known.values.values())


def test_every_model_has_a_built_in_experiment():
    assert {read(name, {}).numpyro for name in EXPERIMENTS} == set(OWN)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_of_the_library_fit_their_data(experiment):
    spec = read(experiment, {})
    settings = {k: v for k, v in spec.model.items() if k != "name"}
    posterior, note = bind_model(spec.numpyro, settings, built_in(spec.data))
    assert not note
    assert posterior.own.compared


def test_columns_that_are_nothing_else_are_the_matrix():
    columns = {"a": np.ones(4), "y": np.arange(4.0), "b": np.zeros(4)}
    posterior, note = bind_model("linear-regression", {}, arrays(columns))
    assert posterior.arguments()["x"].tolist() == [[1.0, 0.0]] * 4
    assert note == "x: the columns a, b"
    posterior, note = bind_model("hmm", {}, arrays({"y": np.arange(4.0)}))
    assert posterior.arguments()["y"].shape == (4, 1)
    assert note == "y: of one feature"
    # a single array has no name
    posterior, note = bind_model("normal", {}, arrays(np.arange(4.0)))
    assert posterior.arguments()["x"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not note
    # a matrix under another name is no column
    with pytest.raises(InputError, match="needs 'counts', which the data"):
        bind_model("lda", {}, arrays({"words": np.ones((3, 2))}))


def test_a_file_of_data_may_be_that_of_a_model():
    spec = read("mine.npz", {"model": "hmm"})
    assert (spec.name, spec.numpyro, spec.data) == ("mine", "hmm", "mine.npz")
    assert read("speed.csv", {"model": "normal"}).numpyro == "normal"
    with pytest.raises(InputError, match="expected --model with one of the library"):
        read("mine.npz", {})


@pytest.mark.slow
def test_what_is_of_mixtures_says_so():
    with pytest.raises(InputError, match="'exact': is written for mixtures"):
        vb.run("normal", {"x": np.ones(4)}, ["exact"])
    result = vb.run("normal", {"x": np.arange(4.0)}, ["laplace"], draws=50)
    with pytest.raises(InputError, match="is not a mixture"):
        result.log_density("laplace", np.zeros((1, 1)))


@pytest.mark.slow
def test_a_calibration_has_an_example_of_the_model(tmp_path):
    out = tmp_path / "new" / "c"
    bad = {"x": np.ones((3, 1)), "y": np.ones(2)}
    with pytest.raises(InputError, match="y has 2 along"):
        vb.calibrate("linear-regression", ["cavi"], data=bad, out=out)
    assert not out.parent.exists()
    found = vb.calibrate("normal", {"laplace": {}}, sims=20, draws=20)
    assert found.rows["laplace"]


def test_a_gain_by_a_newton_step_stays_suspect_whatever_is_drawn_further():
    method = SimpleNamespace(outcome=lambda _: Outcome("converged"))
    run = MethodRun(method)
    run.draws = Draws({"x": np.zeros((2, 3))}, {}, None, {}, {})
    assert _judged(run).converged
    run.response = refusal("not at an optimum", 0.2).reordered([1, 0])
    assert _judged(run) == Outcome("suspect", "not at an optimum")
    run.draws.parameters["x"][0] = np.nan
    assert _judged(run).status == "not finite"


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("linear-regression", {"x": 4.0, "y": np.ones(4)}, "expected (row, pre"),
        ("normal", {"x": np.ones(0)}, "x has no row; expected at least one"),
        ("normal", {"a": np.ones(3), "b": np.ones(3)}, "needs 'x', which the data"),
        (
            "linear-regression",
            {"x": np.ones((4, 2)), "y": np.ones(5)},
            "y has 5 along row, x has 4",
        ),
        ("linear-regression", {"x": np.ones((4, 2))}, "needs 'y'"),
        ("linear-regression", {"X": np.ones((4, 2)), "y": np.ones(4)}, "needs 'x'"),
        ({"name": "normal", "kapa": 2.0}, {"x": np.ones(4)}, "did you mean 'kappa'"),
        ({"name": "normal", "kappa": -2.0}, {"x": np.ones(4)}, "kappa = -2.0"),
        (
            "lda",
            {"counts": -np.ones((3, 4))},
            "counts is -1.0 at [0, 0]",
        ),
        ("normal", None, "there are no data"),
        ("normall", {"x": np.ones(4)}, "did you mean 'normal'"),
    ],
)
def test_what_does_not_fit_is_one_line(model, data, said):
    with pytest.raises(InputError) as error:
        vb.run(model=model, data=data, methods=["cavi"], progress=False)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_mixtures_are_refused():
    with pytest.raises(InputError, match="components = 3: is a setting of mixtures"):
        vb.run(model="normal", data={"x": np.ones(4)}, components=3, progress=False)


def test_cavi_says_where_a_model_has_none():
    def model(x):
        import numpyro
        import numpyro.distributions as dist

        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("x", dist.Normal(mu, 1).expand([len(x)]).to_event(1), obs=x)

    found = vb.run(
        model=model,
        data={"x": np.ones(4)},
        methods=["cavi", "svi"],
        progress=False,
        draws=50,
        repeats=1,
    )
    assert "no coordinate ascent" in found.runs["cavi"].outcome.sentence


@pytest.mark.slow
def test_calibrate_ranks_a_models_own_draws():
    x = np.random.default_rng(0).normal(size=10)
    found = vb.calibrate("normal", ["cavi"], data={"x": x}, sims=100, geweke=0)
    assert not found.failed
    assert {"mu", "log_tau"} <= set(found.rows["cavi"])


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_verify_proves_the_cavi_of_every_model(name):
    report = vb.verify("cavi", model=name)
    assert report.passed, vb.testing.told(report)
