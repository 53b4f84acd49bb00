"""The method `exact`: where it applies, what it reports, and that draws follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.compiled import call
from tests.contract.cases import CASES, WEIGHTS, log_evidence
from vi_bench.contract import Problem
from vi_bench.enumeration.single import conjugate_posterior
from vi_bench.errors import InputError, NotApplicable
from vi_bench.methods.exact import Exact, cost, duration
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.poisson import Poisson


def mixture_of(family, x, K, weights="uniform", dtype=jnp.float64):
    return bind(family.complete(x, K), x, K, dtype, WEIGHTS[weights])


def test_draws_and_evidence_of_few_rows():
    """6 z-tests at 5 standard errors of independent draws: false alarm 3.5e-6."""
    case = CASES["gaussian"]
    x = case.rows(np.random.default_rng(1), 6)
    result = vb.run(
        case.family, x, ["exact"], components=3, chains=2, draws=2000, repeats=1
    )
    run = result.runs["exact"]
    assert run.outcome.status == "sampled"
    assert run.outcome.sentence == "N = 6: summed over 64 sets of rows"
    assert list(run.stages) == ["enumerate", "draw"]
    report = run.draws.report
    exact = log_evidence(x, 3, case, WEIGHTS["uniform"])
    np.testing.assert_allclose(report.log_evidence, exact, rtol=1e-10)
    assert report.log_evidence_se == 0
    np.testing.assert_allclose(np.diag(report.similarity), 1, rtol=1e-12)
    np.testing.assert_allclose(report.occupancy.sum(), 1, rtol=1e-12)
    mu = run.posterior["mu"].reshape(4000, 3, 2)
    # labels are exchangeable: differences between components have mean 0
    for d in (mu[:, 0] - mu[:, 1], mu[:, 1] - mu[:, 2], mu[:, 0] ** 2 - mu[:, 2] ** 2):
        z = d.mean(axis=0) / d.std(axis=0, ddof=1) * np.sqrt(4000)
        assert np.all(np.abs(z) < 5)


@pytest.mark.slow
def test_two_components_of_counts_reach_hundreds_of_rows():
    random = np.random.default_rng(5)
    x = random.poisson(np.where(random.uniform(size=(200, 1)) < 0.4, 2.0, 7.0))
    result = vb.run(
        "poisson",
        x.astype(float),
        ["exact"],
        components=2,
        weights="dirichlet",
        chains=2,
        draws=50,
        repeats=1,
    )
    run = result.runs["exact"]
    states = 201 * (x.sum() + 1)
    assert run.outcome.sentence == (
        f"N = 200: summed over {states:,} values of the statistics"
    )
    assert run.draws.report.similarity is None
    assert run.posterior["rate"].shape == (2, 50, 2, 1)
    assert len(np.unique(run.posterior["weight"])) == 200
    assert np.all(np.isfinite(run.log_joint))
    assert np.isfinite(run.draws.report.log_evidence)


@pytest.mark.parametrize(
    ("family", "rows", "K", "weights", "reason"),
    [
        ("gaussian-semiconjugate", 6, 2, "uniform", "no closed-form marginal"),
        ("gaussian", 6, 2, "stick-breaking", "not exchangeable"),
        ("gaussian", 19, 3, "uniform", "19 rows: .* 12 seconds; use at most 18 rows"),
        ("gaussian", 23, 2, "uniform", "23 rows have 1e7 sets.* lie on no lattice"),
        ("poisson", 40, 2, "uniform", "lie on no lattice"),
    ],
)
def test_what_is_out_of_reach_says_why(family, rows, K, weights, reason):
    case = CASES[family]
    x = case.rows(np.random.default_rng(0), rows)
    mixture = mixture_of(case.family, x, K, weights)
    with pytest.raises(NotApplicable, match=reason) as caught:
        cost(mixture)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotApplicable):
        Exact().seconds(Problem(mixture, 4, 10))


def test_lattices_that_are_too_fine_or_too_long():
    random = np.random.default_rng(0)
    fine = mixture_of(Gaussian(), np.round(random.normal(size=(200, 1)), 6), 2)
    with pytest.raises(NotApplicable, match=r"\d\.\de\+\d+ states.* round the data"):
        cost(fine)
    long = mixture_of(Poisson(), random.poisson(3.0, size=(1000, 1)).astype(float), 2)
    with pytest.raises(NotApplicable, match="reach 990 rows"):
        cost(long)


def test_single_precision_is_refused():
    x = CASES["poisson"].rows(np.random.default_rng(0), 5)
    mixture = mixture_of(CASES["poisson"].family, x, 2, dtype=jnp.float32)
    with pytest.raises(NotApplicable, match="use precision 64"):
        cost(mixture)


def test_the_cost_grows_as_the_terms_do():
    random = np.random.default_rng(0)
    x = random.normal(size=(18, 2))
    before, after = (mixture_of(Gaussian(), x[:n], 5) for n in (17, 18))
    assert cost(after)[0] == "subsets"
    assert cost(after)[1] / cost(before)[1] == pytest.approx(3, rel=1e-2)
    counts = random.poisson(3.0, size=(300, 1)).astype(float)
    way, time = cost(mixture_of(Poisson(), counts, 2))
    assert way == "lattice"
    assert 0 < time < 60


def test_times_in_words():
    assert duration(np.log(50)) == "50 seconds"
    assert duration(np.log(2 * 3600)) == "2 hours"
    assert duration(np.log(3e7)) == "347 days"
    assert duration(600.0) == "1e253 years"


def test_the_only_method_that_does_not_apply_is_refused(overlapping):
    with pytest.raises(InputError, match="method 'exact': 60 rows have 1e18 sets"):
        vb.run("gaussian", overlapping, ["exact"], components=2)


def test_one_component_is_conjugate_whatever_the_rows():
    """K = 1: log p(X) is CAVI's ELBO, and the moments are q's, to rounding."""
    case = CASES["gaussian-diagonal"]
    x = case.rows(np.random.default_rng(2), 40)
    mixture = mixture_of(case.family, x, 1, "dirichlet")
    assert cost(mixture) == ("single", 0.0)
    found = conjugate_posterior(mixture)
    q = call(mixture, "from_responsibilities", jnp.ones((40, 1)))
    elbo, _ = call(mixture, "step", q)
    np.testing.assert_allclose(found.log_evidence, elbo, rtol=1e-12)
    np.testing.assert_allclose(
        found.moments().mean, mixture.family.moments(q.components)[0], rtol=1e-12
    )
    assert found.drawn_statistics(jax.random.key(0), 3).shape == (
        3,
        1,
        q.components.shape[1],
    )
    np.testing.assert_array_equal(found.occupancy, [0, 1])
