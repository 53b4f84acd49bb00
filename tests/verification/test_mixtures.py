"""The full form: any family, any method; faults are found, what is right passes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import vi_bench as vb
from tests.compiled import call, draw
from tests.zoo import families as zoo
from tests.zoo.kernel import KernelOfFamilies
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.errors import InputError, NotApplicable
from vi_bench.methods.cavi import CAVI
from vi_bench.methods.exact import Exact
from vi_bench.mixture.mixture import Factors
from vi_bench.mixture.types import SmallProblem
from vi_bench.verification import verifier
from vi_bench.verification.answer import registered
from vi_bench.verification.finding import CONVERGED
from vi_bench.verification.identify import identify
from vi_bench.verification.levels import effective
from vi_bench.verification.mixture_case import MixtureCase
from vi_bench.verification.mixtures import (
    MixtureProblem,
    accurately,
    covered,
    mixture_battery,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of mutants

PROBLEMS = {
    name: tuple(p for p in mixture_battery(0, [name]) if p.data.size <= 24)
    for name in ("poisson", "bernoulli", "gaussian-diagonal", "gaussian-full")
}
"""Made once, so that their exact posteriors are, too."""


def tried(kind, **settings):
    (family,) = kind.families
    return vb.verify(kind(), problems=PROBLEMS[family], **settings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.RIGHT)
def test_what_is_right_passes(kind):
    report = tried(kind)
    assert report.passed, report.verdict
    assert report.z_tests > 10


@pytest.mark.slow  # of updates and bounds see test_plain
@pytest.mark.parametrize("kind", zoo.MUTANTS)
def test_every_fault_is_found(kind):
    assert kind.__doc__
    report = tried(kind)
    assert not report.passed
    assert "wrong" in report.verdict


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.APPROXIMATIONS)
def test_a_coarser_q_is_no_fault_and_its_loss_is_told(kind):
    report = tried(kind)
    assert report.passed, report.verdict
    assert "nats below" in report.verdict
    assert max(q.below_evidence or 0.0 for q in report.quality) > 0.5
    if kind is zoo.IndependentMeans:
        assert "not of the prior's form" in report.verdict


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*zoo.RIGHT, KernelOfFamilies])
def test_what_is_right_passes_on_the_whole_battery(kind):
    report = vb.verify(kind(), families=kind.families)
    assert report.passed, report.verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cavi", "svi", "nuts", "exact", "gibbs"])
def test_registered_methods_pass(name):
    report = vb.verify(name)
    assert report.passed, report.verdict
    assert len(report.cases) + report.left_out == len(mixture_battery())


@pytest.mark.slow
def test_draws_in_many_dimensions_are_not_weighed_to_a_normal_density():
    """A few of them would have all the weight, and right code would be accused."""
    many = max(mixture_battery(0, ["gaussian-diagonal"]), key=lambda p: p.data.size)
    report = vb.verify(zoo.IndependentMeans(), problems=[many])
    assert report.passed
    assert any("so many dimensions" in note for note in report.notes)


def test_what_a_method_is_not_for_is_left_out_and_said():
    one = mixture_battery(0, ["gaussian-semiconjugate"])[0]
    other = PROBLEMS["poisson"][0]
    report = vb.verify(Exact(), problems=[one, other])
    assert (report.passed, report.left_out) == (True, 1)
    with pytest.raises(InputError, match="applies to none"):
        vb.verify(Exact(), problems=[one])


@pytest.mark.slow
def test_a_q_is_read_off_its_density_to_rounding():
    for name in ("poisson", "gaussian-diagonal"):
        problem = PROBLEMS[name][-1]
        answer = registered(CAVI(restarts=2))(problem)
        mixture = problem.mixture
        with accurately():
            found = identify(mixture, answer)
            assert found is not None
            exact = np.asarray(mixture.step(found.q)[0])
            again = jax.random.normal(jax.random.key(1), found.q.components.shape)
            moved = Factors(found.q.components * (1 + 0.01 * again), found.q.sticks)
            lower = np.asarray(mixture.step(moved)[0])
        np.testing.assert_allclose(exact, answer.bound[-1], rtol=0, atol=1e-8)
        assert lower < exact - CONVERGED
        assert abs(found.excess) < 1e-8


def given(problem, **changed):
    """The prior as q, in draws and density: right without rows, and finite."""
    with accurately():
        mixture = problem.mixture
        prior = call(mixture, "prior")
        draws = draw(jax.random.key(0), mixture, prior, (4000,))
        log_q = np.asarray(call(mixture, "log_q", draws, prior))
    usual = {
        "sample": lambda key, n: {k: np.asarray(v) for k, v in draws.items()},
        "log_prob": lambda theta: log_q,
        "bound": 0.0,
    }
    return SimpleNamespace(**(usual | changed))


NO_ROWS = next(p for p in mixture_battery(0, ["gaussian"]) if not len(p.data))


def test_the_prior_is_right_where_there_are_no_rows():
    report = vb.verify(given, problems=[NO_ROWS])
    assert report.passed, report.verdict
    assert {"prior without rows", "log_prob is of the draws"} <= set(report.checks)


ONE = next(p for p in mixture_battery(0, ["gaussian"]) if p.K == 1)


def nan(key, n):
    return {"mu": np.full((n, 1, 3), np.nan)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sample": None}, "expected an object with sample(key, n)"),
        ({"sample": lambda key, n: 3}, "sample gave a int, expected a dict"),
        ({"sample": lambda key, n: {}}, "sample gave [], expected ['mu']"),
        ({"sample": lambda key, n: {"mu": np.zeros((n, 2))}}, "has the shape"),
        ({"sample": nan}, "12000 values not finite"),
        ({"log_prob": lambda theta: np.zeros(3)}, "log_prob has the shape (3,)"),
        ({"bound": "high"}, "not an array of numbers"),
        ({"bound": np.inf}, "not finite"),
        ({"chains": 7}, "chains = 7: expected a divisor of 4000"),
        ({"log_prob": lambda theta: 1 / 0}, "raised ZeroDivisionError"),
    ],
)
def test_what_breaks_its_promise_is_told(changed, words):
    report = vb.verify(lambda problem: given(problem, **changed), problems=[ONE])
    assert words in report.failures["keeps its promise"].said


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"bound": 0.01}, "below the evidence"),
        ({"bound": -0.5}, "the ELBO is what it says"),
        ({"bound": np.array([0.0, -0.1, 0.0])}, "the trace never falls"),
        ({"log_prob": lambda theta: np.zeros(4000)}, "log_prob is of the draws"),
        ({"log_prob": None, "log_evidence": 0.1}, "the evidence is right"),
    ],
)
def test_a_wrong_number_fails_its_check(changed, check):
    report = vb.verify(lambda problem: given(problem, **changed), problems=[NO_ROWS])
    assert check in report.failures


def test_what_changes_its_problem_or_jax_is_told():
    def meddling(problem):
        found = given(problem, log_prob=None, bound=None, approximate=True)
        data = problem.data
        data += 1
        jax.config.update("jax_default_matmul_precision", "bfloat16")
        return found

    report = vb.verify(meddling, problems=[PROBLEMS["bernoulli"][0]])
    assert "jax_default_matmul" in report.failures["changes nothing"].said
    assert "the data that it was given" in report.failures["changes nothing"].said
    assert jax.config.jax_default_matmul_precision is None


def test_weights_are_probabilities():
    problem = next(p for p in PROBLEMS["poisson"] if "weight" in p.dims)
    assert problem.dims == {"rate": (2, 1), "weight": (2,)}

    def unnormalised(problem):
        rate, weight = np.ones((4000, 2, 1)), np.full((4000, 2), 0.7)
        return SimpleNamespace(sample=lambda key, n: {"rate": rate, "weight": weight})

    report = vb.verify(unnormalised, problems=[problem])
    assert "probabilities that add up to 1" in report.failures["keeps its promise"].said


@pytest.mark.slow
def test_a_failure_can_be_pasted_as_a_test():
    finding = tried(zoo.NoFactorials).failures["the ELBO is what it says"]
    names = {
        "np": np,
        "MixtureProblem": MixtureProblem,
        "check_cavi": vb.testing.check_cavi,
    }
    wrong = names | {"f": zoo.NoFactorials()}
    with pytest.raises(AssertionError, match="the ELBO is what it says"):
        exec(finding.problem.script(), wrong)
    np.testing.assert_array_equal(wrong["data"], finding.problem.data)
    exec(finding.problem.script(), names | {"f": zoo.PoissonCAVI()})


def test_the_battery_is_as_wide_as_it_says():
    problems = mixture_battery()
    sizes = {(len(p.data), p.data.shape[1], p.K) for p in problems}
    assert {n for n, _, _ in sizes} >= {0, 40, 80}
    assert {d for _, d, _ in sizes} == {1, 2, 3, 8}
    assert {K for _, _, K in sizes} == {1, 2, 3, 4, 5}
    assert sorted(problems, key=lambda p: p.size) == problems
    assert {p.model["name"] for p in problems} == set(covered())
    assert len({p.weights["name"] for p in problems}) == 3
    with pytest.raises(InputError, match="unknown model 'plugged'"):
        vb.verify(Exact(), families=["plugged"])


def test_effective_draws_are_counted_by_how_draws_depend():
    random = np.random.default_rng(0)
    free = random.normal(size=(16, 250))
    assert effective(free, "independent") == 4000
    assert effective(free, "chains") > 2500
    slow = np.cumsum(free, axis=1)
    assert effective(slow, "chains") < 200
    shifted = free + 3 * random.normal(size=(16, 1))
    assert effective(shifted, "runs") < 40
    assert effective(np.ones((4, 10)), "chains") == 0


def test_not_applicable_is_for_the_method_to_say():
    def choosy(problem):
        if problem.K > 1:
            raise NotApplicable("one component only")
        return given(problem, log_prob=None, bound=None, approximate=True)

    report = vb.verify(choosy, problems=PROBLEMS["bernoulli"])
    assert (len(report.cases), report.left_out) == (1, 1)


def test_programs_of_earlier_problems_are_forgotten(monkeypatch):
    """Whoever compiled them: a process cannot map those of a whole battery."""
    counted = []
    monkeypatch.setattr(verifier, "forget_programs", lambda: counted.append(True))

    def none(problem):
        raise NotApplicable("not this one")

    with pytest.raises(InputError, match="it applies to none of the problems"):
        vb.verify(none, problems=PROBLEMS["poisson"])
    assert len(counted) == len(PROBLEMS["poisson"])


@pytest.mark.slow
def test_single_precision_is_no_fault():
    right = zoo.PoissonCAVI()

    def single(problem):
        found = right(problem)
        return SimpleNamespace(
            sample=lambda key, n: {
                k: v.astype(np.float32) for k, v in found.sample(key, n).items()
            },
            log_prob=lambda theta: found.log_prob(theta).astype(np.float32),
            bound=found.bound.astype(np.float32),
        )

    report = vb.verify(single, problems=[p for p in PROBLEMS["poisson"] if p.K == 1])
    assert report.passed, report.verdict


@pytest.mark.slow
def test_slopes_are_the_gradient_of_the_bound(random):
    """Moving all draws of q moves the bound as its slopes say."""
    problem = PROBLEMS["gaussian-diagonal"][1]
    answer = registered(CAVI(restarts=2))(problem)
    case = MixtureCase(problem, answer)
    q = case.identified.q
    with accurately():
        mixture = problem.mixture
        lam = mixture.family.describe(q.components)["m"]
        assert jnp.all(jnp.isfinite(lam))
    largest = max(
        abs(float(v.mean())) / (float(v.std()) / np.sqrt(len(v)))
        for v in case.slopes.values()
    )
    assert largest < 4.5  # at the optimum there are none: of 8 in 1e-4 of cases
    assert set(case.slopes) >= {"mu[0, 0]", "precision[1, 1]"}


@pytest.mark.slow
def test_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from tests.zoo.families import BernoulliCAVI, KLOtherWay\n"
        "good, bad = BernoulliCAVI(), KLOtherWay()\n"
    )
    right = CliRunner().invoke(
        app, ["verify", f"{file}:good", "--families", "bernoulli"]
    )
    assert right.exit_code == 0, right.output
    assert "call a right implementation wrong in at most 0.001" in right.output
    wrong = CliRunner().invoke(
        app, ["verify", f"{file}:bad", "--families", "bernoulli"]
    )
    assert wrong.exit_code == 1
    assert "MixtureProblem('overlapping'" in wrong.output
    refused = CliRunner().invoke(app, ["verify", "cavi", "--families", "poison"])
    assert refused.exit_code == 2
    assert "did you mean 'poisson'?" in refused.output


def test_a_plug_in_joins_the_battery_while_it_is_there_and_a_broken_one_spoils_nothing(
    monkeypatch,
):
    shipped = mixture_battery(0)

    class Mine(catalogue.model("poisson")):
        verification = (SmallProblem("few rows", 5, 1, 2),)

    def broken():
        raise ImportError("no module named torch")

    with monkeypatch.context() as patch:
        known = catalogue.entries("model") | {
            "broken": catalogue.Entry("broken", "elsewhere", "", broken),
            "mine": catalogue.Entry("mine", "elsewhere", "", lambda: Mine),
        }
        patch.setattr(catalogue, "entries", lambda kind: known)
        found = mixture_battery(0)
        (own,) = (p for p in found if p.model["name"] == "mine")
        assert own.data.shape == (5, 1)
        others = [p for p in found if p is not own]
        for one, other in zip(others, shipped, strict=True):
            assert str(one) == str(other)
            np.testing.assert_array_equal(one.data, other.data)
    assert "mine" not in covered()


@pytest.mark.parametrize(("held", "passes"), [(35, True), (250, False)])
def test_slow_mixing_is_no_fault_but_hardly_moving_is(held, passes):
    """Exact draws, each held for so long that few of them are independent."""
    battery = mixture_battery(0, ["gaussian"])
    problem = next(p for p in battery if p.truth and p.K > 1 and len(p.data))
    exact = problem.truth.draws

    def sample(key, n):
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        size = len(next(iter(exact.values())))
        chosen = np.repeat(random.integers(size, size=-(-n // held)), held)[:n]
        return {name: np.asarray(values)[chosen] for name, values in exact.items()}

    def fit(_):
        return SimpleNamespace(sample=sample, chains=4)

    report = vb.verify(fit, problems=[problem])
    assert report.passed is passes
    assert any("200 effective draws" in note for note in report.notes)
    assert ("enough effective draws" in report.failures) is not passes
