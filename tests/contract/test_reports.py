"""What methods tell of themselves: classes of their own, or a plain dict."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.small import MIXTURES
from vi_bench import catalogue
from vi_bench.contract import Draws, Outcome, Problem, Report, Stage, told
from vi_bench.inference.stages import drive, prepare
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.weights import Dirichlet
from vi_bench.models.gaussian import Gaussian
from vi_bench.runner.sample_stats import NEEDED, sampler

ROWS = np.array([-2.1, -1.4, 1.2, 1.8, 2.4])[:, None]

SHARED = dict.fromkeys(("nuts", "mclmc"), "HamiltonianReport")
"""Methods that share a report with others, and its name."""


def shapes(stage, keys, mixture, carry):
    """A stage's result as shapes alone: nothing is computed."""
    return jax.eval_shape(stage.run, keys[0], mixture, carry)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_method_has_a_report_of_its_own(name):
    method = catalogue.method(name)()
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), ROWS, 2, jnp.float64, Dirichlet())
    key = jax.random.key(0)
    stages = prepare(method, Problem(mixture, 2, 10), key)
    report = drive(stages, key, mixture, shapes).report
    expected = SHARED.get(name, f"{type(method).__name__}Report")
    assert type(report).__name__ == expected
    assert isinstance(report, Report)
    if name not in SHARED:
        assert type(report).__module__ == type(method).__module__
    assert (told(report, "bound") is None) == (told(report, "bound_se") is None)
    evidence = {told(report, f"log_evidence{end}") is None for end in ("", "_se")}
    assert len(evidence) == 1
    assert report.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(report))


TELLS = {
    "bound": -9.0,
    "bound_se": 0.5,
    "log_evidence": -8.0,
    "log_evidence_se": 0.25,
    "log_evidence_df": 7,
    "iterations": 12,
    "accepted_extrapolations": 3,
    "counts": [2.0, 3.0],
    "trace": [-10.0, -9.0],
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Known(Report):
    """Beside what all may tell, entries of summary.json."""

    own: Any = None

    def summary(self):
        optimum = {"bound": self.own, "restarts": 1, "occupied": 2}
        restarts = {
            "bound": [self.own],
            "iterations": [1],
            "converged": [True],
            "counts": [[2.0, 3.0]],
            "optima": [optimum],
            "largest_relative_fall": 0.0,
        }
        return {"restarts": restarts, "sampler": "odd", "unknown": 1, "outcome": "odd"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Broken(Report):
    def summary(self):
        raise ArithmeticError("no summary")


FORMS = {"dict": dict, "report": Report, "known": Known, "broken": Broken}


@dataclass(frozen=True)
class Telling:
    """Draws from the prior, and tells what it is given."""

    form: str = "dict"
    odd: bool = False

    kind: ClassVar[str] = "particles"
    summary: ClassVar[str] = "tells"
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem, key):
        def draw(key, mixture, _):
            theta = mixture.draw(key, mixture.prior(), (problem.chains, problem.draws))
            values = {name: jnp.asarray(v) for name, v in TELLS.items()}
            if self.odd:
                values |= {"iterations": jnp.ones(3), "counts": jnp.ones((2, 2))}
            if self.form == "known":
                values["own"] = values["bound"]
            return Draws(theta, {}, None, {}, FORMS[self.form](**values))

        return (Stage("draw", draw),)

    def outcome(self, draws):
        return Outcome("sampled")


@pytest.fixture(scope="module")
def methods():
    telling = {form: Telling(form) for form in FORMS}
    telling |= {f"odd-{form}": Telling(form, odd=True) for form in ("dict", "report")}
    family = Gaussian(sigma=2.0, mean=0.0)
    result = vb.run(family, ROWS, telling, components=1, draws=20, repeats=1)
    return result.summary["methods"]


def test_a_dict_and_a_report_give_the_same_entries(methods):
    entries = [
        {name: methods[label][name] for name in TELLS if name != "trace"}
        for label in ("dict", "report", "known")
    ]
    assert entries[0] == entries[1] == entries[2]
    assert entries[0] == {k: v for k, v in TELLS.items() if k != "trace"}


def test_a_report_adds_the_entries_that_there_is_a_place_for(methods):
    found = methods["known"]
    assert found["restarts"]["optima"] == [
        {"bound": -9.0, "restarts": 1, "occupied": 2}
    ]
    assert set(found) == set(methods["dict"]) | {"restarts"}
    assert found["outcome"] == "sampled"


@pytest.mark.parametrize("label", ["odd-dict", "odd-report"])
def test_odd_values_are_left_out(methods, label):
    assert methods[label]["iterations"] is None
    assert methods[label]["counts"] is None
    assert methods[label]["bound"] == TELLS["bound"]


def test_a_summary_that_fails_fails_its_own_method_alone(methods):
    assert methods["broken"]["outcome"] == "failed"
    assert "no summary" in methods["broken"]["outcome_sentence"]
    assert methods["dict"]["outcome"] == "sampled"


def test_what_is_not_told_is_the_default():
    for report in (Report(), {}, {"bound": None}, None):
        assert told(report, "bound") is None
        assert told(report, "bound", 3) == 3
    for report in (Report(bound=-1.0), {"bound": -1.0}):
        assert told(report, "bound", 3) == -1.0


def test_any_method_with_these_statistics_has_a_sampler_entry():
    stats = {name: np.full((2, 5), 3.0) for name in NEEDED}
    assert sampler(stats)["gradients"] == 30
    assert sampler(stats)["step_size"].tolist() == [3.0, 3.0]
    for name in NEEDED:
        assert sampler({k: v for k, v in stats.items() if k != name}) is None
