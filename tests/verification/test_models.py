"""Fits of any NumPyro model: faults are named, and nothing right is accused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats
from typer.testing import CliRunner

import vi_bench as vb
from tests.zoo.models import (
    logistic,
    mixture_of_regressions,
    normal_gamma,
    probit,
    spike_slab,
)
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.errors import InputError
from vi_bench.testing import whole_model
from vi_bench.verification.constants import usual_constants
from vi_bench.verification.factors import _closure_names, density
from vi_bench.verification.model_answer import call
from vi_bench.verification.model_battery import VAGUE, model_battery
from vi_bench.verification.model_case import ModelCase
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_rows import permuted, rows_of
from vi_bench.verification.pasted import imported
from vi_bench.verification.report import told, verification_record
from vi_bench.verification.sandwich import sandwich
from vi_bench.verification.stationary import gain_of, slope_of

DATA = normal_gamma.data()
SMALL = [
    ModelProblem(f"{n} rows", normal_gamma.model, {"x": DATA["x"][:n]}, n, rows=n)
    for n in (2, 5)
]
"""Of one size each, so that two programs are compiled for nearly all tests here."""


def few(data, rows):
    """The first rows of arrays by name."""
    return {name: values[:rows] for name, values in data.items()}


def checked(fit, problems=SMALL, **settings):
    return vb.verify(fit, problems=problems, **settings)


def test_a_right_fit_passes_and_every_check_is_made():
    report = checked(normal_gamma.Right())
    assert report.passed, told(report)
    assert set(report.checks) == {
        "keeps its promise",
        "changes nothing",
        "repeatable",
        "q is possible",
        "the ELBO is what it says",
        "every factor is stationary",
        "the trace never falls",
    }
    assert report.z_tests == 2 * 3


class ShortShape(normal_gamma.Right):
    """The shape of tau is short by a half."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        q = found["q"]["tau"]
        found["q"]["tau"] = dist.Gamma(q.concentration - 0.5, q.rate)
        return found | {"elbo": []}


def test_a_fault_is_named_with_its_factor_its_size_and_what_is_off():
    report = checked(ShortShape())
    (name,) = report.failures
    assert name == "every factor is stationary"
    said = report.failures[name].said
    assert said.startswith("q(tau):")
    assert "concentration" in said
    # a step of the natural gradient from a conjugate factor is its update
    for case in report.cases:
        gain = case.gains["tau"]
        (place,) = [
            i
            for i, (name, _) in enumerate(case.answer.factors[1].flat())
            if name == "concentration"
        ]
        assert gain.step[place] == pytest.approx(0.5, abs=0.05)
        assert gain.nats > 100 * gain.noise
    assert any("not checked, as the fit gives no trace" in n for n in report.notes)


def test_the_code_of_a_failure_fails_again():
    report = checked(ShortShape())
    (failure,) = verification_record(report)["failures"]
    assert "# f is the fit that was tested" in failure["script"]
    with pytest.raises(AssertionError, match="every factor is stationary"):
        exec(failure["script"], {"f": ShortShape()})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("here/mine.py:cavi", "from mine import cavi as f"),
        ("mine.py:f", "from mine import f"),
        ("nuts", "f = 'nuts'"),
        (normal_gamma.model, "from tests.zoo.models.normal_gamma import model as f"),
        ("my-file.py:cavi", "# f is the fit that was tested"),
        (lambda x: x, "# f is the fit that was tested"),
    ],
)
def test_the_code_of_a_failure_imports_what_was_tested(given, line):
    assert imported(given, "f", "fit") == line


SHORT = """
from dataclasses import replace

from vi_bench.models.normal import DATA, NormalModel

class ShortNormal(NormalModel):
    def sweep(self, s, q):
        q = super().sweep(s, q)
        return q | {"tau": replace(q["tau"], shape=q["tau"].shape - 0.5)}

MODEL = ShortNormal
"""


@pytest.mark.slow
def test_the_code_of_a_failure_of_a_plug_in_imports_its_file(tmp_path, monkeypatch):
    (tmp_path / "short_normal.py").write_text(SHORT)
    monkeypatch.syspath_prepend(tmp_path)
    name = catalogue.add_file("model", tmp_path / "short_normal.py")
    own = catalogue.model(name)(kappa=0.5)
    problem = ModelProblem("2 rows", whole_model(own), {"x": DATA["x"][:2]}, rows=2)
    report = vb.verify("cavi", problems=[problem])
    failure = verification_record(report)["failures"][0]
    assert "from short_normal import ShortNormal" in failure["script"]
    assert "kappa=0.5" in failure["script"]
    with pytest.raises(AssertionError, match="every factor is stationary"):
        exec(failure["script"], {})


class Gammas:
    """It has a shape, as Gamma distributions have, that is not an array's."""

    shape = np.array([2.0, 3.0])


def test_names_of_arrays_around_a_factor_pass_over_what_is_no_array():
    gammas, middle = Gammas(), np.array([0.5, 1.5])

    def factor(tau):
        return dist.Normal(middle, gammas.shape * tau)

    assert _closure_names(factor, [jnp.asarray(middle)]) == ("middle",)


def test_a_bound_of_jaakkola_and_jordan_on_few_rows_is_known_by_its_value():
    """The optima of both forms are within 1e-3 nats of one another there."""

    class Unstated(logistic.Right):
        def __call__(self, X, y, seed):
            found = super().__call__(X, y, seed)
            return {"q": found["q"], "elbo": found["elbo"]}

    few = logistic.data() | {
        "X": np.array([[0.6, -0.1, 0.05], [0.6, -0.5, -0.5]]),
        "y": np.array([0, 1]),
    }
    problem = ModelProblem("2 rows", logistic.model, few, rows=2)
    report = vb.verify(Unstated(), problems=[problem])
    assert report.passed, told(report)


def test_a_right_elbo_of_a_q_that_is_no_optimum_is_not_held_to_another_bound():
    """A Laplace approximation: it maximises neither the ELBO nor Jaakkola and Jordan's.

    The mode of N(0, 4) with one success and the curvature there; the ELBO by
    Gauss-Hermite quadrature.
    """

    def model(y):
        b = numpyro.sample("b", dist.Normal(0, 2))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Bernoulli(logits=b), obs=y)

    def laplace(y):
        b = 0.0
        for _ in range(50):
            p = 1 / (1 + np.exp(-b))
            curvature = len(y) * p * (1 - p) + 1 / 4
            b += (np.sum(y) - len(y) * p - b / 4) / curvature
        s = curvature**-0.5
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        at = b + s * nodes
        rows = np.sum(y) * at - len(y) * np.logaddexp(0, at)
        log_p = rows + stats.norm.logpdf(at, 0, 2)
        elbo = (
            weights @ log_p / weights.sum() + np.log(s) + np.log(2 * np.pi * np.e) / 2
        )
        return {"q": {"b": {"loc": b, "scale": s}}, "elbo": elbo}

    problem = ModelProblem("2 rows", model, {"y": np.array([1, 1])}, rows=2)
    report = vb.verify(laplace, problems=[problem])
    assert set(report.failures) == {"every factor is stationary"}
    assert "Laplace" in told(report)
    assert not any("Jaakkola" in note for note in report.notes)


def test_a_q_on_half_of_the_real_line_is_judged_there():
    """NumPyro gives HalfNormal a density below 0, too."""

    def half(x, more=0.0):
        s2, mean = 1.0, np.sqrt(2 / np.pi)
        expected = -0.5 * np.sum(x**2 - 2 * x * mean + s2)
        expected += -0.5 * len(x) * np.log(2 * np.pi)
        expected += -0.5 * np.log(2 * np.pi) - s2 / 2
        entropy = 0.5 * np.log(np.pi * s2 / 2) + 0.5
        bound = expected + entropy + more
        return {"q": {"mu": dist.HalfNormal(1.0)}, "elbo": [bound]}

    def rows(x):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.Normal(mu, 1), obs=x)

    problem = ModelProblem("2 rows", rows, {"x": DATA["x"][:2]}, rows=2)
    assert "the ELBO is what it says" not in checked(half, [problem]).failures
    wrong = checked(lambda x: half(x, 5.0), [problem])
    assert "the ELBO is what it says" in wrong.failures


class NoTwoPi(normal_gamma.Right):
    """The rows' log 2 pi is dropped."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        dropped = 0.5 * len(x) * np.log(2 * np.pi)
        return found | {"elbo": np.asarray(found["elbo"]) + dropped}


def test_a_mirrored_half_line_is_judged_there():
    """Its support says that it is the whole line, as far as NumPyro knows."""
    base = dist.LeftTruncatedDistribution(dist.Normal(jnp.ones(2), 1.0), low=0.0)
    sign = dist.transforms.AffineTransform(0, jnp.array([1.0, -1.0]))
    mirrored = dist.TransformedDistribution(base, sign)
    inside, real = np.array([0.5, -0.5]), dist.constraints.real

    def at(values):
        given = jnp.asarray(values)
        return jax.jit(lambda v: density(mirrored, v, real))(given)

    np.testing.assert_allclose(at(inside), mirrored.log_prob(inside).sum())
    for place, value in ((0, -0.1), (1, 0.1)):
        outside = inside.copy()
        outside[place] = value
        assert at(outside) == -np.inf


@pytest.mark.slow
def test_a_bound_of_halves_of_the_line_is_not_excused():
    problem = ModelProblem("2 rows", probit.model, few(probit.data(), 2), 1, rows=2)
    report = checked(probit.LatentConstant(), problems=[problem])
    (note,) = [n for n in report.notes if "constant" in n]
    assert "-(p/2) log 2 pi of the prior of z" in note


def test_a_constant_that_is_dropped_is_named_and_no_fault_unless_asked():
    report = checked(NoTwoPi())
    assert report.passed, told(report)
    assert "right up to a constant" in report.verdict
    (note,) = [n for n in report.notes if "constant" in n]
    assert "-(n/2) log 2 pi of the observations" in note
    strict = checked(NoTwoPi(), strict_constants=True)
    assert set(strict.failures) == {"the ELBO is what it says"}


class SumOfSquares(normal_gamma.Right):
    """A term of the data alone, but no usual one, is added."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        off = 0.3 * np.sum(x**2)

        def bound(q):
            mu, tau = q["mu"], q["tau"]
            own = {"m": mu.loc, "v": mu.scale**2, "a": tau.concentration, "b": tau.rate}
            return float(self.bound(x, own)) + off

        return found | {"elbo": np.asarray(found["elbo"]) + off, "bound": bound}


def test_a_constant_that_has_no_name_is_seen_by_the_bound_as_a_function_of_q():
    others = ModelProblem("others", normal_gamma.model, {"x": DATA["x"][5:10]}, rows=5)
    report = checked(SumOfSquares(), [*SMALL[1:], others])
    assert report.passed, told(report)
    assert any("does not depend on q" in note for note in report.notes)


class OffByTwo(normal_gamma.Right):
    """A number is added."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        return found | {"elbo": np.asarray(found["elbo"]) + 2.0}


def test_a_number_that_is_the_same_on_all_data_is_a_constant():
    sizes = [
        ModelProblem(f"{n} rows", normal_gamma.model, {"x": DATA["x"][:n]}, n, rows=n)
        for n in (3, 4)
    ]
    report = checked(OffByTwo(), [*SMALL, *sizes])
    assert report.passed, told(report)
    (note,) = [n for n in report.notes if "constant" in n]
    assert "a number that is the same on all data (stated minus true: +2.00" in note
    assert "pass but a constant" in told(report)
    assert repr(report) == f"<verification: {report.verdict}>"
    assert not any(f.said for f in report.findings if f.check != list(report.checks)[4])


class LogOfMeanOfTau(normal_gamma.Right):
    """E[log tau] in the likelihood's part: its Gamma's shape depends on n alone."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        shape = float(found["q"]["tau"].concentration)
        off = len(x) / 2 * (np.log(shape) - special.digamma(shape))
        return found | {"elbo": np.asarray(found["elbo"]) + off}


def test_a_constant_that_is_too_high_is_told_with_its_values_and_its_likely_cause():
    further = [
        ModelProblem("others", normal_gamma.model, {"x": DATA["x"][5 : 5 + n]}, rows=n)
        for n in (2, 5)
    ]
    report = checked(LogOfMeanOfTau(), [*SMALL, *further])
    assert report.passed
    (note,) = [n for n in report.notes if "constant" in n]
    assert "off by a constant that depends on the sizes of the data alone" in note
    assert note.count("nats on model") == 2
    assert "the log of a mean in place of the mean of a log" in note
    assert "no lower bound" in note


class LogOfMean(normal_gamma.Right):
    """A term of the bound that depends on q is wrong."""

    def __call__(self, x, seed):
        found = super().__call__(x, seed)
        q = found["q"]["tau"]
        off = np.log(float(q.rate)) * 0.5
        return found | {"elbo": np.asarray(found["elbo"]) + off}


def test_what_depends_on_q_is_no_constant():
    report = checked(LogOfMean())
    assert set(report.failures) == {"the ELBO is what it says"}


def test_a_bound_that_falls_is_found():
    class Falls(normal_gamma.Right):
        def __call__(self, x, seed):
            found = super().__call__(x, seed)
            elbo = np.asarray(found["elbo"])
            return found | {"elbo": np.concatenate([elbo[-1:] + 1, elbo])}

    assert "the trace never falls" in checked(Falls()).failures


def test_a_point_estimate_is_an_honest_form():
    report = checked(normal_gamma.PointPrecision(), SMALL[1:])
    assert report.passed, told(report)

    class Off(normal_gamma.PointPrecision):
        def __call__(self, x, seed):
            found = super().__call__(x, seed)
            value = found["q"]["tau"].v * 1.3
            found["q"]["tau"] = dist.Delta(value)
            return found | {"elbo": []}

    report = checked(Off(), SMALL[1:])
    assert "q(tau)" in report.failures["every factor is stationary"].said


@pytest.mark.slow
def test_factors_that_are_functions_of_others_are_held_to_their_form():
    data = spike_slab.data()
    few = {n: v[:5] if np.ndim(v) else v for n, v in data.items()}
    problem = ModelProblem("5 rows", spike_slab.model, few, rows=5)
    report = vb.verify(spike_slab.Right(), problems=[problem])
    assert report.passed, told(report)

    class Narrow(spike_slab.Right):
        def __call__(self, seed, **given):
            found = super().__call__(**given, seed=seed)
            own = found["q"]["beta"]

            def beta(gamma):
                right = own(gamma)
                return dist.Normal(right.loc, 0.7 * right.scale)

            found["q"]["beta"] = beta
            return found | {"elbo": []}

    report = vb.verify(Narrow(), problems=[problem])
    assert "q(beta)" in report.failures["every factor is stationary"].said


def test_jaakkola_and_jordans_bound_is_recognised():
    data = logistic.data()
    few = {n: v[:5] if np.ndim(v) else v for n, v in data.items()}
    problem = ModelProblem("5 rows", logistic.model, few, rows=5)

    def unstated(seed, **given):
        found = dict(logistic.Right()(**given, seed=seed))
        found.pop("form", None)
        return found

    report = vb.verify(unstated, problems=[problem])
    assert report.passed, told(report)
    assert any("Jaakkola" in note for note in report.notes)


@pytest.mark.slow
def test_discrete_sites_are_drawn_or_summed_out():
    module = mixture_of_regressions
    data = module.data()
    few = {n: v[:5] if np.ndim(v) else v for n, v in data.items()}
    problem = ModelProblem("5 rows", module.model, few, rows=5)
    report = vb.verify(module.Right(), problems=[problem])
    assert report.passed, told(report)

    class LeftOut(module.Right):
        def __call__(self, seed, **given):
            found = super().__call__(**given, seed=seed)
            return found | {"q": {n: d for n, d in found["q"].items() if n != "z"}}

    report = vb.verify(LeftOut(), problems=[problem])
    assert report.passed, told(report)
    assert any("q leaves out z" in note for note in report.notes)
    assert "not everything could be checked" in report.verdict


def returned(value):
    def fit(x):
        return value

    return fit


GOOD = {"mu": dist.Normal(0, 1), "tau": dist.Gamma(2, 1)}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "returned a NoneType; expected {'q': {site: distribution}"),
        ({"q": {"mu": GOOD["mu"]}}, "q has no 'tau'; expected a distribution for each"),
        ({"q": GOOD | {"nu": GOOD["mu"]}}, "did you mean 'mu'?"),
        (
            {"q": GOOD | {"mu": dist.Normal(np.zeros(2), 1)}},
            "q of 'mu' has the shape (2,); expected ()",
        ),
        ({"q": GOOD | {"mu": 3.0}}, "a float; expected a distribution of NumPyro"),
        ({"q": GOOD | {"mu": lambda nu: dist.Normal(nu, 1)}}, "a function of 'nu'"),
        ({"q": GOOD, "form": "elbow"}, "form = 'elbow': expected one of elbo"),
        ({"q": GOOD, "trace": []}, "'trace'"),
    ],
)
def test_what_a_fit_must_return_is_told_in_one_line(value, said):
    """An adapter that is wrong is no fault of the algorithm."""
    with pytest.raises(InputError, match=re.escape(said)):
        checked(returned(value), SMALL[1:])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"q": GOOD | {"mu": {"loc": np.nan, "scale": 1}}}, "q of 'mu'"),
        (
            {"q": GOOD | {"tau": {"concentration": 1.0, "rate": np.nan}}},
            "invalid rate parameter: 1 of 1 values not finite",
        ),
        (
            {"q": GOOD | {"tau": {"concentration": 1.0, "rate": -2.0}}},
            "invalid rate parameter: the least is -2",
        ),
        ({"q": GOOD, "elbo": [0.0, np.nan]}, "elbo[1] = nan"),
        ({"q": GOOD, "elbo": [[1.0, 2.0], [3.0]]}, "expected one number"),
    ],
)
def test_numbers_that_are_none_break_the_promise(value, said):
    report = checked(returned(value), SMALL[1:])
    assert said in report.failures["keeps its promise"].said


def test_a_support_that_is_not_the_models_is_told():
    report = checked(returned({"q": GOOD | {"tau": dist.Normal(0.5, 1)}}), SMALL[1:])
    assert (
        "have no finite density under the model"
        in report.failures["q is possible"].said
    )


def test_other_forms_of_distributions_are_taken():
    found = normal_gamma.Right()(**SMALL[1].data, seed=0)["q"]
    m, s = float(found["mu"].loc), float(found["mu"].scale)
    a, b = float(found["tau"].concentration), float(found["tau"].rate)
    forms = (
        {"mu": stats.norm(m, s), "tau": stats.gamma(a, scale=1 / b)},
        {"mu": {"loc": m, "scale": s}, "tau": {"concentration": a, "rate": b}},
    )
    for form in forms:
        assert checked(returned({"q": form}), SMALL[1:]).passed


def test_data_that_are_changed_and_generators_that_are_seeded_are_told():
    def fit(x):
        found = normal_gamma.Right()(x, 0)
        x[0] = 0.0
        np.random.seed(1)
        return found

    said = checked(fit, SMALL[1:]).failures["changes nothing"].said
    assert "the data 'x' that it was given" in said


def test_a_fit_that_cannot_take_few_rows_is_not_accused_of_that():
    def fit(x, seed):
        np.random.default_rng(0).choice(len(x), 3, replace=False)
        return normal_gamma.Right()(x, seed)

    report = checked(fit)
    assert report.passed
    assert any("not tried: 2 rows: the fit raised" in n for n in report.notes)
    with pytest.raises(InputError, match="it can take none of the problems"):
        checked(fit, SMALL[:1])


def vague(x):
    """A prior that nearly all draws of overflow."""
    tau = numpyro.sample("tau", dist.Gamma(1e-4, 1e-4))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(0, tau**-0.5), obs=x)


def test_what_is_not_tried_has_its_reason_once():
    _, left = model_battery(vague, DATA)
    reasons = [item.why for item in left]
    assert reasons.count("a NumPyro plate cannot be empty") == 1
    assert any(why == VAGUE for why in reasons)


def test_the_battery_has_rows_of_the_data_and_simulated_ones():
    problems, _ = model_battery(normal_gamma.model, DATA)
    sizes = [problem.rows for problem in problems]
    assert {1, 2, 5, 20} <= set(sizes)
    assert sizes == sorted(sizes)
    assert sum("simulated" in problem.about for problem in problems) >= 3
    again, _ = model_battery(normal_gamma.model, DATA, seed=1)
    assert not np.array_equal(problems[1].data["x"], again[1].data["x"])
    for problem in problems:
        if problem.truth is not None:
            assert set(problem.truth) == {"mu", "tau"}


def effects(y, b=None):
    """Normal effects by group, which may be told."""
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    with numpyro.plate("row", len(y)):
        b = numpyro.sample("b", dist.Normal(mu, 1), obs=b)
        numpyro.sample("y", dist.Normal(b, 0.5), obs=y)


def by_conjugacy(y, b=None, prior=0.25):
    """q(mu) q(b), or the posterior of mu where b is known; with its bound."""
    n = len(y)
    s2 = 1 / (prior + n)
    if b is not None:
        m = s2 * b.sum()
        rows = stats.norm.logpdf(b, m, 1).sum() - n * s2 / 2
        rows += stats.norm.logpdf(y, b, 0.5).sum()
        prior = stats.norm.logpdf(m, 0, 2) - s2 / 8
        bound = rows + prior + stats.norm(m, s2**0.5).entropy()
        return {"q": {"mu": dist.Normal(m, s2**0.5)}, "elbo": [bound]}
    m = 0.0
    for _ in range(500):
        e = (m + 4 * y) / 5
        m = s2 * e.sum()
    q = {"mu": dist.Normal(m, s2**0.5), "b": dist.Normal(e, np.full(n, 0.2**0.5))}
    return {"q": q}


@pytest.mark.slow
def test_a_latent_site_that_the_model_can_be_told_is_told():
    data = {"y": np.random.default_rng(3).normal(1, 1, 5)}
    problems, _ = model_battery(effects, data)
    known = [p for p in problems if p.known]
    assert known
    for problem in known:
        assert problem.about.endswith("simulated, b known")
        assert set(problem.truth) == {"mu"}
        np.testing.assert_array_equal(problem.data["b"].shape, [problem.rows])
    report = checked(by_conjugacy, problems=known)
    assert report.passed, told(report)
    wrong = checked(lambda y, b=None: by_conjugacy(y, b, prior=0.5), problems=known)
    assert "every factor is stationary" in wrong.failures
    # the q of known effects is exact, so that log p - log q is the same at all draws
    exact = ModelCase(known[-1], call(by_conjugacy, known[-1], 60.0)[0])
    assert exact.ratio.std() < 1e-9

    def untold_fit(y):
        return by_conjugacy(y)

    report = checked(untold_fit, problems=problems)
    assert report.passed, told(report)
    assert any("the fit has no argument 'b'" in note for note in report.notes)


def test_models_that_depend_on_the_order_of_rows_are_known():
    assert permuted(SMALL[1]) is not None

    def walk(y):
        s = numpyro.sample("s", dist.GaussianRandomWalk(1.0, num_steps=len(y)))
        numpyro.sample("y", dist.Normal(s, 1), obs=y)

    problem = ModelProblem("walk", walk, {"y": np.arange(4.0) ** 2})
    assert rows_of(problem) == (4, ("y",))
    # a walk from 0 is not the same read backwards
    assert permuted(problem) is None


def test_an_order_that_matters_at_few_draws_of_the_prior_is_known():
    """Of these rows, in reverse, a change before the third or fourth is as likely."""

    def change(y):
        k = numpyro.sample("k", dist.Categorical(probs=np.full(5, 0.2)))
        later = np.arange(len(y)) >= k
        numpyro.sample("y", dist.Normal(1.0 * later, 1), obs=y)

    assert permuted(ModelProblem("change", change, {"y": np.arange(5.0) ** 2})) is None
    even = {"y": np.array([3.0, 0.0, 1.0, 1.0, 2.0])}
    for seed in range(4):
        assert permuted(ModelProblem("change", change, even, seed)) is None


def test_the_gain_of_a_normal_factor_is_the_textbooks():
    """q = N(m, s^2) for N(0, 1): the ELBO is -(m^2 + s^2) / 2 + log s + const.

    By (m, s) the Fisher information is diag(1 / s^2, 2 / s^2), so the natural gradient
    is (-m s^2, s (1 - s^2) / 2), and the gain (m^2 s^2 + (1 - s^2)^2 / 2) / 2.
    """
    m, s = 0.3, 0.8
    random = np.random.default_rng(1)
    z = random.normal(size=200_000)
    theta = m + s * z
    scores = np.stack([z / s, (z**2 - 1) / s], axis=1)
    ratio = -(theta**2) / 2 + z**2 / 2 + np.log(s)
    gain = gain_of(scores, ratio)
    exact = (m**2 * s**2 + (1 - s**2) ** 2 / 2) / 2
    assert gain.nats == pytest.approx(exact, abs=5 * np.sqrt(2 * exact * gain.noise))
    assert gain.step == pytest.approx([-m * s**2, s * (1 - s**2) / 2], abs=0.01)
    assert np.sum(gain.share) == pytest.approx(gain.nats + gain.noise)
    assert gain.slope == pytest.approx(np.sqrt(2 * exact), abs=5 * gain.error)


def test_the_error_of_a_gain_is_its_spread_over_repetitions():
    """Of 200 sds a sample's is within 25 % but once in a million, if normal."""
    random = np.random.default_rng(4)
    for moved in (0.05, 0.4):
        found = []
        for _ in range(200):
            z = random.normal(size=4000)
            scores = np.stack([z, z**2 - 1], axis=1)
            ratio = moved * z + 0.5 * random.normal(size=4000)
            found.append(gain_of(scores, ratio))
        spread = np.std([gain.nats for gain in found])
        assert np.mean([g.spread for g in found]) == pytest.approx(spread, rel=0.25)


def test_noise_is_no_gain():
    """Of 400 stationary factors, z-scores beyond 3 are as rare as they should be.

    Half the scores are heavy-tailed, as those of responsibilities near 0 are. The
    number of 800 such z beyond 3 in the positive direction is Poisson with mean 1.1
    under the normal distribution: over 6 has probability 3e-4.
    """
    random = np.random.default_rng(2)
    beyond = 0
    for rare in (0.5, 2e-3) * 400:
        z = random.random((4000, 3)) < rare
        scores = z / rare - 1
        ratio = random.normal(size=4000) * (1 + scores[:, 0] ** 2) ** 0.25
        gain = gain_of(scores, ratio)
        beyond += gain.error > 0 and gain.slope > 3 * gain.error
    assert beyond <= 6


def test_a_rare_category_tells_nothing():
    scores = np.zeros((10_000, 1))
    scores[:3] = 1000.0
    gain = gain_of(scores, np.arange(10_000.0))
    assert gain.nats == 0
    assert gain.slope == 0


def test_the_slope_of_a_point_estimate_is_a_newton_step():
    random = np.random.default_rng(3)
    gradients = np.array([0.4, 0.0]) + random.normal(size=(50_000, 2))
    gain = slope_of(gradients, np.diag([4.0, 1.0]))
    assert gain.step == pytest.approx([0.1, 0.0], abs=0.02)
    assert gain.nats == pytest.approx(0.4**2 / 4 / 2, abs=0.01)


def test_the_sandwich_has_the_evidence_between_its_sides():
    """A conjugate mean, whose evidence is known.

    The upper side is below it by over 7 nats with probability 1e-3 at most, and so is
    the lower side above it.
    """

    def conjugate(x):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        numpyro.sample("x", dist.Normal(mu, 1).expand([len(x)]).to_event(1), obs=x)

    x = np.array([0.5, 1.5, 2.0, 0.7])
    problem = ModelProblem("4 rows", conjugate, {"x": x}, truth={"mu": np.array(1.2)})
    found = sandwich(problem)
    cov = np.eye(4) + 4.0
    exact = stats.multivariate_normal(np.zeros(4), cov).logpdf(x)
    assert exact - 7 < found.lower < exact + 0.5
    assert exact - 0.5 < found.upper < exact + 7
    assert found.upper - found.lower < 1


def test_usual_constants_are_those_of_the_densities():
    case = ModelCase(SMALL[1], call(normal_gamma.Right(), SMALL[1], 60)[0])
    known = usual_constants(case)
    half = 0.5 * np.log(2 * np.pi)
    assert known["-(n/2) log 2 pi of the observations"] == pytest.approx(5 * half)
    assert known["-(p/2) log 2 pi of the prior of mu"] == pytest.approx(half)


FILE = """
import numpyro
import numpyro.distributions as dist
from tests.zoo.models import normal_gamma
from tests.zoo.models.normal_gamma import data, model

cavi = normal_gamma.Right()


def wrong(x, seed):
    found = cavi(x, seed)
    q = found["q"]["tau"]
    return {"q": found["q"] | {"tau": dist.Gamma(q.concentration, 2 * q.rate)}}
"""


@pytest.mark.slow
def test_the_command(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    arguments = ["verify", f"{file}:wrong", "--model", f"{file}:model"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1, found.output
    assert "q(tau)" in found.output
    assert "not checked, as the fit gives no trace" in found.output
    arguments[1] = f"{file}:cavi"
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nothing.py:model"], "nothing.py"),
        (["--model", "{file}:nothing"], "has no function 'nothing'"),
        (["--model", "{file}:model", "--data", "none.npz"], "none.npz"),
        (["--model", "{file}:model", "--families", "poisson"], "families: choose"),
        (["--model", "{file}:model", "--features", "1"], "features: choose"),
        (["--data", "none.npz"], "data: given without a model"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_one_line(tmp_path, arguments, said):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    filled = [a.replace("{file}", str(file)) for a in arguments]
    found = CliRunner().invoke(app, ["verify", f"{file}:cavi", *filled])
    assert found.exit_code == 2
    assert said in found.output


def test_the_record_has_the_notes_and_the_failures():
    record = verification_record(checked(ShortShape(), SMALL[1:]))
    assert not record["passed"]
    assert any("not checked" in note for note in record["notes"])
    (failure,) = record["failures"]
    assert "ModelProblem" in failure["script"]


def test_a_point_estimate_of_a_single_share_has_nothing_that_could_move():
    """Topics of one word, or documents of one topic: a simplex of one corner."""

    def single(y):
        share = numpyro.sample("share", dist.Dirichlet(jnp.ones(1)))
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(mu * share[0], 1.0), obs=y)

    def fit(y):
        precision = 1 + len(y)
        mu = dist.Normal(np.sum(y) / precision, precision**-0.5)
        return {"q": {"share": dist.Delta(np.ones(1)), "mu": mu}}

    report = vb.verify(fit, model=single, data={"y": np.array([0.5, -1.0, 2.0])})
    assert report.passed, told(report)


def test_fits_whose_parameters_have_other_shapes_share_no_program_that_fails():
    """Without rows a scale of each is empty, a scale of all is not."""

    def fit(scale):
        def cavi(X, y, seed):
            eta = np.zeros(len(y))
            far = probit.half_lines(eta, y, scale(eta))
            w = dist.Normal(np.zeros(3), probit.SD).to_event(1)
            return {"q": {"w": w, "z": far}}

        return cavi

    problem = ModelProblem("no rows", probit.model, few(probit.data(), 0), 1, rows=0)
    for scale in (lambda eta: 1.0, lambda eta: 1.0 + eta, lambda eta: 1.0):
        report = checked(fit(scale), problems=[problem])
        assert report.passed, told(report)


def test_two_problems_of_one_row_have_other_covariates():
    """So that a term of the covariates alone is no constant: simulated data keep them.

    A bound of probit regression without the trace of X S X' was one at some seeds.
    """
    for seed in range(5):
        problems, _ = model_battery(probit.model, probit.data(), seed=seed)
        one, other = (p.data["X"] for p in problems if p.rows == 1)
        assert not np.array_equal(one, other)
