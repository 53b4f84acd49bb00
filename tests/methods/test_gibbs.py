"""Gibbs against enumeration, its parts against formulas and simulation."""

from dataclasses import replace
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln, logsumexp

import vi_bench as vb
from tests.compiled import call, draw
from tests.contract.cases import CASES, HALF, WEIGHTS, given_variance, variance_grid
from tests.marks import slow
from tests.methods.test_nuts import drawn_moments, exact_moments
from tests.oracles import log_evidence
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Draws, Problem
from vi_bench.errors import NotApplicable
from vi_bench.methods._assignments import assigned_statistics, new_order
from vi_bench.methods.gibbs import (
    Gibbs,
    GibbsReport,
    chib,
    log_full_conditional,
    log_mean_exp,
    log_permanent,
)
from vi_bench.mixture import weights
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.mixture_pass import mixture_pass
from vi_bench.models.gaussian import Gaussian


def mixture_of(name, n, K, prior="uniform", seed=3):
    case = CASES[name]
    x = case.rows(np.random.default_rng(seed), n)
    return bind(case.family, x, K, jnp.float64, WEIGHTS[prior])


@pytest.mark.slow
def test_moments_and_evidence_equal_enumeration():
    """Three z-tests at 4.5 standard errors: false alarm 2e-5; ESS is checked first."""
    x = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0])[:, None]
    family = Gaussian(sigma=2.0, mean=0.0)
    result = vb.run(
        family, x, ["gibbs"], components=2, draws=4000, repeats=1, reference="gibbs"
    )
    found = drawn_moments(result, "gibbs")
    for name, exact in exact_moments(x, 2, 2.0).items():
        summary = summarise(found[name])
        assert summary.ess_bulk > 4000, name
        assert summary.r_hat < 1.01, name
        z = (summary.mean.value - exact) / summary.mean.se
        assert abs(z) < 4.5, f"{name}: {summary.mean} against {exact}"
    run = result.runs["gibbs"]
    assert "effective draws" in run.outcome.sentence
    report = run.draws.report
    assert report.evidence_ess > 1000
    assert report.log_evidence_se < 0.05
    z = (report.log_evidence - log_evidence(x, 2, 2.0)) / report.log_evidence_se
    assert abs(z) < 4.5, report


@pytest.mark.slow
def test_the_evidence_is_symmetric_where_no_label_is_switched():
    """Two clusters far apart and no permutation: unsymmetrised it is off by log 2.

    All draws have the same assignments, so but for others' mass there is no error.
    """
    x = np.array([-9.0, -8.4, -9.3, -8.8, 8.1, 9.2, 8.8])[:, None]
    family = Gaussian(sigma=8.0, mean=0.0)
    method = Gibbs(permute=False, warmup=50)
    result = vb.run(
        family, x, {"gibbs": method}, components=2, chains=2, draws=500, repeats=1
    )
    run = result.runs["gibbs"]
    mu = run.posterior["mu"][..., 0]
    switched = np.sign(mu) != np.sign(mu[:, :1])
    assert not switched.any()
    found = run.draws.report.log_evidence
    assert found == pytest.approx(log_evidence(x, 2, 8.0), abs=1e-6)


@pytest.mark.slow
def test_assigned_statistics_add_up_and_have_the_expected_mean():
    """12 z-tests at 5 standard errors: false alarm 7e-6; rows beyond one block."""
    mixture = mixture_of("gaussian-diagonal", 700, 3)
    theta = draw(jax.random.key(1), mixture)
    coefficients = 0.2 * mixture.natural(theta)
    keys = jax.random.split(jax.random.key(2), 300)
    found = jax.jit(
        jax.vmap(lambda key: assigned_statistics(key, mixture, coefficients))
    )(keys)
    total = mixture.statistics().sum(axis=1)
    np.testing.assert_allclose(
        found.sum(axis=1), np.tile(total, (300, 1)), rtol=1e-9, atol=1e-9
    )
    _, expected = mixture_pass(mixture.family.statistics, mixture.blocks, coefficients)
    error = found.std(axis=0, ddof=1) / np.sqrt(300)
    z = (found.mean(axis=0) - expected) / np.maximum(error, 1e-12)
    assert np.all(np.asarray(error)[:, -1] > 0)
    assert np.max(np.abs(z)) < 5


def test_a_permanent_is_a_sum_over_permutations(random):
    terms = 30 * random.normal(size=(4, 4))
    by_hand = logsumexp(
        [sum(terms[j, s[j]] for j in range(4)) for s in permutations(range(4))]
    )
    assert jax.jit(log_permanent)(terms) == pytest.approx(by_hand, rel=1e-12)


@jax.jit
def assigned(mixture, theta):
    """Statistics by component, of assignments drawn given theta."""
    return assigned_statistics(jax.random.key(2), mixture, mixture.natural(theta))


@jax.jit
def conditional(mixture, theta, expected):
    """Log p(theta | x, c) in the order that the components have."""
    q = mixture.family.update(mixture.prior().components, expected)
    sticks = mixture.weights.update(expected[:, -1])
    return mixture.family.log_q(theta, q) + weights.log_density(theta, sticks)


@pytest.mark.parametrize("prior", [slow("uniform"), "dirichlet"])
def test_the_full_conditional_is_averaged_over_orders_of_the_rows(prior):
    mixture = mixture_of("poisson", 20, 3, prior)
    theta = draw(jax.random.key(1), mixture)
    expected = assigned(mixture, theta)
    terms = [
        conditional(mixture, theta, expected[jnp.asarray(order)])
        for order in permutations(range(3))
    ]
    by_hand = logsumexp(terms) - np.log(6)
    found = jax.jit(log_full_conditional)(mixture, theta, expected)
    assert found == pytest.approx(by_hand, rel=1e-10)


def test_sticks_are_not_exchangeable_and_the_full_conditional_is_not_averaged():
    mixture = mixture_of("poisson", 20, 3, "stick-breaking")
    theta = draw(jax.random.key(1), mixture)
    expected = assigned(mixture, theta)
    found = jax.jit(log_full_conditional)(mixture, theta, expected)
    assert found == pytest.approx(float(conditional(mixture, theta, expected)))


def test_labels_are_swapped_as_often_as_their_prior_says():
    """Two labels, two proposals; one z-test at 4.5 errors: false alarm 7e-6."""
    mixture = mixture_of("gaussian", 8, 2, "stick-breaking")
    counts, gamma = jnp.array([3.0, 5.0]), 1.6
    # B(1 + n_1, gamma + n_2) of the swapped order over that of this one
    ratio = np.exp(betaln(6, gamma + 3) - betaln(4, gamma + 5))
    there, back = min(1, ratio), min(1, 1 / ratio)
    exact = there * (1 - back) + (1 - there) * there
    keys = jax.random.split(jax.random.key(3), 20_000)
    orders = jax.jit(jax.vmap(lambda key: new_order(key, mixture, counts)))(keys)
    assert np.all(np.sort(orders, axis=1) == [0, 1])
    share = float(jnp.mean(orders[:, 0] == 1))
    assert abs(share - exact) < 4.5 * np.sqrt(exact * (1 - exact) / 20_000)


def test_under_exchangeable_weights_every_order_is_as_likely():
    """Six orders at 4.5 standard errors: false alarm 4e-5."""
    mixture = mixture_of("gaussian", 8, 3, "dirichlet")
    keys = jax.random.split(jax.random.key(3), 6000)
    counts = jnp.array([6.0, 2.0, 0.0])
    orders = jax.jit(jax.vmap(lambda key: new_order(key, mixture, counts)))(keys)
    _, found = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(found) == 6
    assert np.all(np.abs(found - 1000) < 4.5 * np.sqrt(6000 * 5 / 36))


@pytest.mark.parametrize("shared", [False, True])
def test_the_semiconjugate_step_has_the_posterior_that_a_grid_gives(shared):
    """Rows of one component: mean of mu and log variance, 4 z-tests at 4.5 errors."""
    name = "gaussian-semiconjugate" + ("-shared" if shared else "")
    mixture = mixture_of(name, 6, 1)
    expected = call(mixture, "statistics").sum(axis=1)[None]
    family = mixture.family

    def step(theta, key):
        theta = family.resample(key, theta, expected)
        return theta, theta

    start = draw(jax.random.key(0), mixture)
    keys = jax.random.split(jax.random.key(1), 8000)
    _, draws = jax.jit(lambda keys: jax.lax.scan(step, start, keys))(keys)
    x = np.asarray(mixture.data())
    for j, (mean, sd, b) in enumerate(HALF):
        mean = float(family.mean[j])  # moved along with the centred rows
        v, log_weight = variance_grid(2.5, b)
        share = log_weight + given_variance(x[:, j], mean, sd, v)
        share = np.exp(share - logsumexp(share))
        precision = 1 / sd**2 + len(x) / v
        mu = (mean / sd**2 + x[:, j].sum() / v) / precision
        sampled = {
            "mu": (draws["mu"][:, 0, j], share @ mu),
            "log variance": (
                np.log(draws["variance"][..., j].reshape(-1)),
                share @ np.log(v),
            ),
        }
        for label, (values, exact) in sampled.items():
            found = summarise(np.asarray(values).reshape(4, -1))
            assert found.ess_bulk > 2000, label
            z = (found.mean.value - exact) / found.mean.se
            assert abs(z) < 4.5, (label, j, found.mean, exact)


def test_errors_are_those_of_batch_means(random):
    """Against the known error of an AR(1) chain's mean, to a third."""
    noise = random.normal(size=(8, 5000))
    values = np.zeros_like(noise)
    for i in range(1, 5000):
        values[:, i] = 0.7 * values[:, i - 1] + noise[:, i]
    terms = jnp.log(100 + jnp.asarray(values))
    log_mean, error = log_mean_exp(terms)
    assert log_mean == pytest.approx(np.log(100 + values.mean()), rel=1e-12)
    exact = 1 / (1 - 0.7) / np.sqrt(8 * 5000) / 100
    assert exact * 2 / 3 < error < exact * 4 / 3


def sampled(method, mixture, draws, batches):
    """What each batch of a sample stage ends in, made by one program."""
    start, begin, warm_up, sample, _ = method.prepare(
        Problem(mixture, 2, draws), jax.random.key(0)
    )
    first = jax.jit(start.run)(jax.random.key(1), mixture, None)
    chain = jax.jit(begin.run)(jax.random.key(1), mixture, first)
    program = jax.jit(sample.run)
    for part in range(warm_up.calls):  # it is of the same lane
        chain = program(jax.random.fold_in(jax.random.key(1), part), mixture, chain)
    assert np.all(chain.done == 0)
    assert np.all(chain.warmed == method.steps)
    ends = []
    for batch in range(batches):
        for part in range(sample.calls):
            key = jax.random.fold_in(jax.random.key(2 + batch), part)
            chain = program(key, mixture, chain)
        ends.append(jax.tree.map(np.asarray, chain))
    assert program._cache_size() == 1
    assert sample.again == "onward"
    return ends


@pytest.mark.slow
def test_thinning_keeps_every_nth_sweep():
    mixture = mixture_of("gaussian", 12, 2)
    (chain,) = sampled(Gibbs(warmup=3, thin=2, permute=False), mixture, 23, 1)
    assert chain.kept["mu"].shape == (2, 23, 2, 2)
    assert np.all(chain.done == 23)
    assert np.all(chain.kept["mu"] != 0)
    assert len(np.unique(chain.kept["mu"][0, :, 0, 0])) == 23


@pytest.mark.slow
def test_further_draws_go_on_from_where_the_chain_is():
    """23 draws in parts of 2; the last of each batch is where the next one starts."""
    mixture = mixture_of("gaussian", 12, 2)
    method = Gibbs(warmup=3)
    once, again = sampled(method, mixture, 23, 2)
    (alone,) = sampled(method, mixture, 23, 1)
    np.testing.assert_array_equal(once.kept["mu"], alone.kept["mu"])
    for chain in (once, again):
        np.testing.assert_array_equal(chain.theta["mu"], chain.kept["mu"][:, -1])
        assert np.all(chain.done == 23)
        assert np.all(np.isfinite(chain.kept["mu"]))
    assert not np.isin(again.kept["mu"], once.kept["mu"]).any()
    # one sweep with the key of the first draw leads from the end of the first batch on
    key = jax.random.fold_in(jax.random.key(3), 0)
    own = jax.random.split(jax.random.split(key, 2)[0], 2)[0]
    theta = {name: jnp.asarray(v[0]) for name, v in once.theta.items()}
    key = jax.random.split(own, 1)[0]
    moved = jax.jit(method.transition)(key, mixture, theta)
    np.testing.assert_allclose(again.kept["mu"][0, 0], moved["mu"], rtol=1e-9)


def test_evidences_of_batches_are_pooled():
    def report(log_evidence, error, size):
        found = GibbsReport(
            log_evidence=log_evidence, log_evidence_se=error, evidence_ess=size
        )
        return jax.tree.map(np.asarray, found)

    several = [report(np.log(2.0) - 800, 0.1, 100.0), report(np.log(4) - 800, 0.2, 80)]
    found = Gibbs().combine(several)
    assert found.log_evidence == pytest.approx(np.log(3) - 800, rel=1e-12)
    error = np.hypot(2 * 0.1, 4 * 0.2) / 6
    assert found.log_evidence_se == pytest.approx(error)
    assert found.evidence_ess == 180
    some = Gibbs().combine([report(np.nan, 0.5, 10.0), several[0]])
    assert some == several[0]
    none = Gibbs().combine([report(np.nan, 0.5, 10.0), report(np.nan, 0.5, 30.0)])
    assert np.isnan(none.log_evidence)
    draws = Draws({}, {}, None, {}, none)
    assert "rest on 30 effective draws" in Gibbs().outcome(draws).sentence
    assert Gibbs().combine([GibbsReport(), GibbsReport()]) == GibbsReport()


def test_what_has_no_gibbs_step_says_so():
    mixture = replace(mixture_of("gaussian", 12, 2), family=object())
    with pytest.raises(NotApplicable, match="resample"):
        Gibbs().prepare(Problem(mixture, 1, 10), jax.random.key(0))


def test_an_evidence_from_few_draws_is_not_given():
    mixture = mixture_of("gaussian", 12, 2)
    theta = draw(jax.random.key(1), mixture, shape=(2, 20))
    report = jax.jit(chib)(jax.random.key(2), mixture, theta)
    assert report.evidence_ess < 50
    assert np.isnan(report.log_evidence)
    draws = Draws({}, {}, None, {}, jax.tree.map(np.asarray, report))
    assert Gibbs().outcome(draws).sentence.startswith("no evidence")
    enough = draws._replace(report=replace(report, evidence_ess=np.array(900.0)))
    assert "rests on 900 effective draws" in Gibbs().outcome(enough).sentence
    without = Gibbs().outcome(draws._replace(report=GibbsReport())).sentence
    assert without.startswith("no evidence: Chib's needs a conjugate family")
