"""Right fits in many styles are not accused; faults that hide are found."""

import random as global_random
import sys
from collections import namedtuple
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy.special import digamma, softmax
from scipy.stats import gamma
from typer.testing import CliRunner

import vi_bench as vb
from tests.zoo import families, styles
from tests.zoo.gaussian import MUTANTS, KLMinusHalf, Right, StaleBound
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.errors import InputError, NotApplicable
from vi_bench.verification.finding import side_by_side, stood_still
from vi_bench.verification.mixtures import MixtureProblem, mixture_battery
from vi_bench.verification.problems import battery
from vi_bench.verification.report import verification_lines, verification_record

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

KEPT, LEFT = "keeps its promise", "changes nothing"
FIXED, DEFINED = "a fixed point", "the ELBO is what it says"
RISES = "the trace never falls"

COMPILED = styles.jax_in_32_bits
QUICK = [f for f in styles.RIGHT if f is not COMPILED]
SMALL = [p for p in battery() if p.data.size <= 16]
FAR = next(p for p in battery() if p.about == "far from 0")
MIDDLE = [p for p in battery() if p.K > 1 and len(p.data) == 40]


def noted(report, words):
    return any(words in note for note in report.notes)


# --- right fits


@pytest.mark.parametrize("fit", QUICK)
def test_what_is_right_passes_in_every_style(fit):
    report = vb.verify(fit, seed=0)
    assert report.passed, list(verification_lines(report))


@pytest.mark.slow
@pytest.mark.parametrize("fit", QUICK)
def test_what_is_right_passes_in_every_style_on_20_batteries(fit):
    for seed in range(20):
        report = vb.verify(fit, seed=seed)
        assert report.passed, (seed, list(verification_lines(report)))


@pytest.mark.slow
def test_jax_in_32_bits_passes():
    for seed in range(2):
        report = vb.verify(COMPILED, seed=seed)
        assert report.passed, (seed, list(verification_lines(report)))


def test_there_are_styles_enough():
    assert len(styles.RIGHT) >= 10


def test_digits_lost_far_from_0_are_a_note_and_no_fault():
    report = vb.verify(styles.exp_of_differences, problems=[FAR])
    assert report.passed
    assert noted(report, "numerically fragile: about 5 digits")
    assert "numerically fragile" in report.verdict
    assert not vb.verify(styles.normalised_expanded, problems=[FAR]).notes
    assert not vb.verify(styles.exp_of_differences, problems=SMALL).notes


# --- wrong fits


class RunningMaximum(StaleBound):
    """The largest ELBO so far is reported: falls do not show."""

    def result(self, m, s2, phi, trace):
        return super().result(m, s2, phi, np.maximum.accumulate(trace))


class RunningMaximumOfAnother(KLMinusHalf):
    """The same of a wrong bound."""

    def result(self, m, s2, phi, trace):
        return super().result(m, s2, phi, np.maximum.accumulate(trace))


class EmptyKept(Right):
    """A component with hardly any rows keeps its mean and its variance."""

    least = 1e-2

    def m_step(self, x, phi, sigma):
        m, s2 = super().m_step(x, phi, sigma)
        counts = phi.sum(axis=0)
        same = hasattr(self, "kept") and self.kept[0].shape == m.shape
        if same and not self.first:
            m = np.where(counts[:, None] < self.least, self.kept[0], m)
            s2 = np.where(counts < self.least, self.kept[1], s2)
        self.kept, self.first = (m, s2), False
        return m, s2

    def start(self, x, K, random):
        self.first = True
        return super().start(x, K, random)


class EmptyMeanKept(EmptyKept):
    """The same of components with less than half a row."""

    least = 0.5


class FirstRowsOnly(Right):
    """Only the first 64 rows are used."""

    def m_step(self, x, phi, sigma):
        return super().m_step(x[:64], phi[:64], sigma)


class OneSweepOld(Right):
    """m and s2 are returned as they were one sweep before; an ordinary tolerance."""

    tol = 1e-6
    names = ("m", "s2")

    def m_step(self, x, phi, sigma):
        found = super().m_step(x, phi, sigma)
        self.last = (*getattr(self, "last", ()), found)[-2:]
        return found

    def result(self, m, s2, phi, trace):
        found = super().result(m, s2, phi, trace)
        old = dict(zip(("m", "s2"), self.last[0], strict=True))
        return found | {n: old[n] for n in self.names}

    def start(self, x, K, random):
        self.last = ()
        return super().start(x, K, random)


class MeanOneSweepOld(OneSweepOld):
    """The same of m only."""

    names = ("m",)


FOUND_BY = [
    (RunningMaximum, RISES),
    (RunningMaximumOfAnother, DEFINED),
    (EmptyKept, FIXED),
    (EmptyMeanKept, FIXED),
    (FirstRowsOnly, FIXED),
    (OneSweepOld, DEFINED),
    (MeanOneSweepOld, DEFINED),
]


@pytest.mark.parametrize(("kind", "check"), FOUND_BY)
def test_faults_that_hide_are_found(kind, check):
    assert check in vb.verify(kind()).failures


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "check"), FOUND_BY)
def test_faults_that_hide_are_found_on_20_batteries(kind, check):
    for seed in range(20):
        assert not vb.verify(kind(), seed=seed).passed, (check, seed)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_fault_is_found_on_20_batteries(mutant):
    for seed in range(20):
        assert not vb.verify(mutant(), seed=seed).passed, seed


def seeds_numpy(data, K, sigma, seed):
    np.random.seed(seed)
    return Right()(data, K, sigma, seed)


def draws_from_numpy(data, K, sigma, seed):
    np.random.random()
    return Right()(data, K, sigma, seed)


def seeds_python(data, K, sigma, seed):
    global_random.seed(seed)
    return Right()(data, K, sigma, seed)


def draws_from_python(data, K, sigma, seed):
    found = Right()(data, K, sigma, seed)
    return found | {"m": found["m"] + 1e-5 * global_random.random()}


def test_draws_from_pythons_generator_are_not_repeatable():
    report = vb.verify(draws_from_python, problems=SMALL[:3])
    assert "repeatable" in report.failures
    assert LEFT not in report.failures


@pytest.mark.parametrize(
    ("function", "whose"),
    [(seeds_numpy, "NumPy"), (draws_from_numpy, "NumPy"), (seeds_python, "Python")],
)
def test_global_generators_are_left_alone(function, whose):
    before = np.random.get_state()[1].copy(), global_random.getstate()
    said = vb.verify(function, problems=SMALL[:3]).failures[LEFT].said
    assert f"{whose}'s global generator" in said
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert global_random.getstate() == before[1]


# --- what is reported


def test_problems_are_counted_not_findings():
    def wrong(data, K, sigma, seed):
        return {"m": np.ones((K, data.shape[1])), "s2": np.full(K, 0.3)}

    for row in verification_record(vb.verify(wrong, problems=SMALL))["checks"]:
        assert row["failed"] <= row["problems"]


def test_numbers_are_shown_with_the_digits_that_differ():
    one, other, off = side_by_side(-12.5, -12.5 - 3e-9)
    assert one != other
    assert off == "+3e-09"
    assert side_by_side(1.0, 1.0)[2] == "+0"
    assert side_by_side(1.0, np.nan)[1] == "nan"

    def shifted(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        return found | {"s2": found["s2"] * (1 + 1e-2), "elbo": found["elbo"] + 4e-6}

    report = vb.verify(shifted, problems=[p for p in SMALL if p.K == 1])
    for finding in report.failures.values():
        assert "0.000000 nats" not in finding.said
        assert "is 1 times" not in finding.said


def test_a_standstill_before_a_rise_is_not_of_coordinate_ascent():
    assert stood_still(np.array([-9.0, -5.0, -5.0, -5.0, -4.0, -3.9]), 1e-3) == (3, 1.0)
    rising = -(0.5 ** np.arange(40.0))
    assert stood_still(rising, 1e-3) is None
    assert stood_still(np.append(rising, rising[-1:]), 1e-3) is None
    assert stood_still(np.repeat(rising[:6], 5), 1e-3) is None
    assert stood_still(np.array([-9.0, -5.0, -5.0, -5.0 + 1e-9, -4.0]), 1e-3) is None


# --- what is not returned


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"elbo": []}, "for want of elbo: the ELBO is what it says"),
        ({"elbo": None}, "for want of elbo: the ELBO is what it says"),
        ({}, "for want of a trace in elbo"),
        ({"phi": None}, "for want of phi: that responsibilities"),
    ],
)
def test_what_cannot_be_checked_is_named(changed, words):
    def function(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        last = {"elbo": found["elbo"][-1]}
        return found | (changed or last)

    report = vb.verify(function, problems=SMALL)
    assert noted(report, f"not checked {words}")
    assert any("not checked" in line for line in verification_lines(report))
    assert "not everything could be checked" in report.verdict


def test_what_is_missing_on_some_problems_only_is_counted():
    def function(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        return found if K > 1 else found | {"elbo": []}

    number = sum(p.K == 1 for p in SMALL)
    report = vb.verify(function, problems=SMALL)
    assert noted(report, f"({number} of {len(SMALL)} problems)")


# --- few rows, one dimension


def from_rows(data, K, sigma, seed):
    np.random.default_rng(seed).choice(len(data), K, replace=False)
    return Right()(data, K, sigma, seed)


def from_the_middle(data, K, sigma, seed):
    found = Right()(data, K, sigma, seed)
    return found | {"m": found["m"] + 0 * (data.sum(axis=0) / len(data))}


@pytest.mark.parametrize("function", [from_rows, from_the_middle])
def test_problems_with_too_few_rows_are_left_out_and_that_is_said(function):
    report = vb.verify(function, problems=SMALL)
    assert report.passed, report.verdict
    assert report.left_out == sum(not len(p.data) for p in SMALL)
    assert noted(report, "left out: it cannot take so few rows, it")
    with pytest.raises(InputError, match="none of the problems: "):
        vb.verify(function, problems=[p for p in SMALL if not len(p.data)])


def only_one_dimension(data, K, sigma, seed):
    if data.shape[1] > 1:
        raise NotApplicable("one feature only")
    return Right()(data, K, sigma, seed)


def test_a_fit_for_one_dimension():
    report = vb.verify(only_one_dimension)
    assert report.passed
    assert noted(report, "the method does not apply: one feature only")

    def crashing(data, K, sigma, seed):
        (x,) = data.T
        return Right()(x[:, None], K, sigma, seed)

    report = vb.verify(crashing)
    assert any("--features 1" in line for line in verification_lines(report))
    report = vb.verify(crashing, features=1)
    assert report.passed
    assert not report.left_out
    vb.testing.check_cavi(crashing, features=1)
    with pytest.raises(InputError, match=r"features = 7: .* one of \[1, 2, 3, 5, 8\]"):
        vb.verify(crashing, features=7)


# --- one door for what is returned


class Tensor:
    """Refuses to be an array, as a tensor that requires a gradient does."""

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class Strange(Exception):
    def __str__(self):
        raise ValueError


class Stranger(Tensor):
    def __array__(self, *_, **__):
        raise Strange


Named = namedtuple("Named", "m s2 phi elbo")


class Fitted:
    def __init__(self, found):
        self.m, self.s2 = found["m"], found["s2"]


def given(**changed):
    def function(data, K, sigma, seed):
        found = Right()(data, K, sigma, seed)
        return found | {name: f(found[name]) for name, f in changed.items()}

    return function


def returned(made):
    return lambda *arguments: made(Right()(*arguments))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (given(m=lambda v: Tensor()), "m, a Tensor, is not an array of numbers: Runt"),
        (given(s2=lambda v: Stranger()), "s2, a Stranger, is not an array of numbers"),
        (given(phi=lambda v: [Tensor()] * len(v)), "phi"),
        (given(elbo=lambda v: [Tensor(), *v]), "elbo[0], a Tensor"),
        (given(elbo=lambda v: Tensor()), "elbo, a Tensor"),
        (given(elbo=lambda v: [np.ones(2), *v]), "elbo[0] has the shape (2,)"),
        (given(elbo=lambda v: np.ones((3, 2))), "elbo has the shape (3, 2)"),
        (given(elbo=lambda v: (x for x in v)), "elbo, a generator"),
        (given(elbo=lambda v: "high"), "elbo, a str"),
        (given(elbo=lambda v: [None, *v]), "elbo[0]"),
        (given(elbo=lambda v: {"a": 1}), "elbo, a dict"),
        (given(m=lambda v: v + 1j), "m, a ndarray, is not an array of numbers"),
        (given(m=lambda v: [[1.0], [1.0, 2.0]]), "m, a list, is not an array"),
        (given(m=lambda v: v * np.inf), "the first is m[0, 0]"),
        (given(elbo=lambda v: np.append(v, np.nan)), "is elbo["),
        (returned(lambda f: {1: 2, "m": f["m"]}), "returned no 's2', only ['1', 'm']"),
        (returned(lambda f: Named(**f)), "a Named, a named tuple of m, s2, phi, elbo"),
        (
            returned(lambda f: (f["m"], f["s2"])),
            "a tuple of 2 values (ndarray, ndarray)",
        ),
        (returned(Fitted), "a Fitted with the attributes m, s2, expected a dict"),
        (returned(lambda f: Fitted), "returned the class Fitted"),
        (returned(lambda f: None), "returned a NoneType, expected a dict"),
    ],
)
def test_what_is_returned_is_read_or_refused_in_one_line(function, words):
    problems = [p for p in SMALL if len(p.data) > p.K > 1]
    said = vb.verify(function, problems=problems).failures[KEPT].said
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "read",
    [
        lambda v: [np.array([v[0]]), *v[1:]],
        lambda v: [np.array([[v[0]]]), *map(float, v[1:])],
        lambda v: v[:, None],
        lambda v: tuple(v),
        lambda v: [-np.inf, *v],
    ],
)
def test_traces_of_many_kinds_are_read(read):
    report = vb.verify(given(elbo=read), problems=SMALL)
    assert report.passed, report.verdict
    assert RISES in report.checks


def test_an_infinite_start_is_noted_and_the_rest_is_checked():
    report = vb.verify(given(elbo=lambda v: [-np.inf, *v]), problems=SMALL)
    assert noted(report, "element 0 of elbo is -inf")
    wrong = vb.verify(given(elbo=lambda v: [np.nan, *(v + 0.1)]), problems=SMALL)
    assert set(wrong.failures) >= {KEPT, DEFINED}
    assert "elbo[0] = nan" in wrong.failures[KEPT].said


# --- the loader


def test_a_file_is_loaded_as_python_would(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vi-bench", "verify", "--seed", "3"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, shift in (("one", 0.0), ("two", 1.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "my_sibling.py").write_text(f"SHIFT = {shift}\n")
        (folder / "my_late_sibling.py").write_text(f"SHIFT = {shift}\n")
        (folder / "fit.py").write_text(
            "import argparse\n"
            "from my_sibling import SHIFT\n"
            "from tests.zoo.gaussian import Right\n"
            "parser = argparse.ArgumentParser()\n"
            "parser.add_argument('--rows', type=int, default=3)\n"
            "assert parser.parse_args().rows == 3\n"
            "def fit(data, K, sigma, seed):\n"
            "    import my_late_sibling\n"
            "    found = Right()(data, K, sigma, seed)\n"
            "    return found | {'m': found['m'] + SHIFT}\n"
        )
    right = catalogue.function(f"{tmp_path / 'one' / 'fit.py'}:fit")
    wrong = catalogue.function(f"{tmp_path / 'two' / 'fit.py'}:fit")
    assert vb.verify(right, problems=SMALL).passed
    assert not vb.verify(wrong, problems=SMALL).passed
    assert sys.argv[0] == "vi-bench"
    assert sys.path[0] != str(tmp_path / "two")


def test_the_command_line_restricts_dimensions(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.zoo.gaussian import Right\n"
        "def fit(data, K, sigma, seed):\n"
        "    assert data.shape[1] == 1\n"
        "    return Right()(data, K, sigma, seed) | {'elbo': []}\n"
    )
    found = CliRunner().invoke(app, ["verify", f"{file}:fit", "--features", "1"])
    assert found.exit_code == 0, found.output
    assert "not checked for want of elbo" in " ".join(found.output.split())
    assert CliRunner().invoke(app, ["verify", f"{file}:fit"]).exit_code == 1


# --- the full form


OVERLAPPING = MixtureProblem(
    "overlapping",
    {"name": "poisson", "shape": 2.0, "rate": 0.5},
    np.array([0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0])[:, None],
    2,
)


class PlugIn(families.PoissonCAVI):
    """log(a / b) for digamma(a) - log b."""

    def moments(self, q):
        return np.log(q["a"] / q["b"]), q["a"] / q["b"]


def without_bound(kind, **more):
    def function(problem):
        found = kind()(problem)
        return SimpleNamespace(sample=found.sample, log_prob=found.log_prob, **more)

    return function


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"keeps_labels": True}])
def test_a_fixed_point_is_asked_for_without_a_bound(more):
    wrong = vb.verify(without_bound(PlugIn, **more), problems=[OVERLAPPING])
    assert FIXED in wrong.failures
    right = vb.verify(
        without_bound(families.PoissonCAVI, **more), problems=[OVERLAPPING]
    )
    assert right.passed, right.verdict
    assert FIXED in right.checks
    assert noted(right, "not checked for want of a bound: the ELBO is what it says")
    assert "not everything could be checked" in right.verdict


@pytest.mark.slow
def test_a_q_of_another_form_is_asked_for_its_slopes_only_if_it_states_its_optimum():
    diagonal = mixture_battery(0, ["gaussian-diagonal"])
    problem = next(p for p in diagonal if p.about == "overlapping")
    stated = vb.verify(
        without_bound(families.IndependentMeans, keeps_labels=True), problems=[problem]
    )
    assert stated.passed, stated.verdict
    assert FIXED in stated.checks
    unstated = vb.verify(without_bound(families.IndependentMeans), problems=[problem])
    assert unstated.passed
    assert noted(
        unstated, "for want of a trace, as q is of another form: a fixed point"
    )


@pytest.mark.slow
def test_an_optimum_with_assignments_summed_out_is_not_accused():
    """Gamma factors fitted to E[log p(X, rate) - log q] by natural gradients."""
    x = OVERLAPPING.data
    a0, b0 = OVERLAPPING.model["shape"], OVERLAPPING.model["rate"]

    def function(problem):
        random = np.random.default_rng(0)
        found = np.array(
            [a0 + x.sum() * np.array([0.3, 0.7]), b0 + np.full(2, len(x) / 2)]
        )
        for step in range(3000):
            a, b = found
            rate = random.gamma(a, 1 / b, (500, 2))
            scores = x @ np.log(rate)[:, None, :] - rate[:, None]
            phi = softmax(scores, axis=2)
            target = np.stack(
                [a0 + (phi * x).sum(axis=1), b0 + phi.sum(axis=1)], axis=1
            ).mean(axis=0)
            found += (target - found) * 0.2 / (1 + 0.01 * step)
        return gammas(*found)

    report = vb.verify(function, problems=[OVERLAPPING])
    assert FIXED in report.checks or noted(report, "with assignments summed out")


def gammas(a, b):
    a, b = a[:, None], b[:, None]

    def sample(key, n):
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return {"rate": random.gamma(a, 1 / b, (n, *a.shape))}

    def log_prob(theta):
        rate = np.asarray(theta["rate"])
        return gamma.logpdf(rate, a, scale=1 / b).sum(axis=(1, 2))

    return SimpleNamespace(sample=sample, log_prob=log_prob)


@pytest.mark.slow
def test_a_function_that_cannot_take_few_rows_in_the_full_form():
    none = next(p for p in mixture_battery(0, ["poisson"]) if not len(p.data))

    def function(problem):
        problem.data[0]
        return families.PoissonCAVI()(problem)

    report = vb.verify(function, problems=[none, OVERLAPPING])
    assert report.passed, report.verdict
    assert noted(report, "1 problem left out: it cannot take so few rows")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda f: (f.sample, f.bound), "returned a tuple of 2 values (function, nd"),
        (lambda f: SimpleNamespace(q=1), "a SimpleNamespace with the attributes q"),
        (
            lambda f: SimpleNamespace(sample=f.sample, bound=Tensor()),
            "bound, a Tensor, is not an array of numbers",
        ),
        (
            lambda f: SimpleNamespace(sample=f.sample, chains="two"),
            "chains, a str, is not an array of numbers",
        ),
        (
            lambda f: SimpleNamespace(sample=f.sample, keeps_labels="yes"),
            "keeps_labels is a str, expected True or False",
        ),
        (
            lambda f: SimpleNamespace(sample=lambda key, n: {1: 2, "b": 3}),
            "sample gave ['1', 'b'], expected ['rate']",
        ),
    ],
)
def test_what_the_full_form_returns_is_read_or_refused_in_one_line(made, words):
    def function(problem):
        return made(families.PoissonCAVI()(problem))

    report = vb.verify(function, problems=[OVERLAPPING])
    assert words in report.failures[KEPT].said


@pytest.mark.slow
def test_a_trace_in_the_full_form_may_begin_at_infinity():
    def function(problem):
        found = families.PoissonCAVI()(problem)
        found.bound = [-np.inf, *found.bound]
        return found

    report = vb.verify(function, problems=[OVERLAPPING])
    assert report.passed, report.verdict
    assert noted(report, "element 0 of bound is -inf")


class WishartOfGammas(families.DiagonalCAVI):
    """E log |precision| of a Wishart, for independent Gammas."""

    def scores(self, x, q):
        d = x.shape[1]
        off = digamma(q["a"] - 0.5 * np.arange(d)) - digamma(q["a"])
        return super().scores(x, q) + 0.5 * off.sum(axis=1)


@pytest.mark.slow
def test_many_features_show_what_few_hide():
    problems = mixture_battery(0, ["gaussian-diagonal"])
    wide = [p for p in problems if p.data.shape[1] == 8 and p.K == 5]
    assert FIXED in vb.verify(WishartOfGammas(), problems=wide).failures


def test_every_family_has_problems_with_many_features_and_empty_components():
    for name in {p.model["name"] for p in mixture_battery()}:
        own = mixture_battery(0, [name])
        assert max(p.data.shape[1] for p in own) == 8, name
        assert max(p.K for p in own) == 5, name
        assert max(len(p.data) for p in own) > 64, name
