"""Parallel tempering against sums over assignments, its parts against identities.

`tempered_truth` sums the tempered posterior of a conjugate family over all K^N
assignments. With S_k and n_k sums over rows that count w_i times each has the mass

    prod_k exp(A(lam_0 + S_k) - A(lam_0)) prod_j B(a_j + n_j, b_j + m_j) / B(a_j, b_j),

m_j the counts after j, or K^{-sum_i w_i} for the second product where weights are 1/K.
"""

from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln, logsumexp

import vi_bench as vb
from tests.compiled import call, draw, driven
from tests.contract.cases import CASES, WEIGHTS, log_evidence
from tests.marks import slow, slow_but
from tests.records import partial_report
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Draws, Problem
from vi_bench.errors import NotApplicable
from vi_bench.methods import gibbs
from vi_bench.methods._bridges import Tally, evidence, log_sum, no_tally
from vi_bench.methods._ladder import Ensemble, equalised, swaps, sweeps, travelled
from vi_bench.methods._particles import widened
from vi_bench.methods._tempering import Way, log_start, log_tempered, sweep, with_counts
from vi_bench.methods.tempered import Tempered, TemperedReport, rounds
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.weights import Uniform
from vi_bench.models.gaussian import Gaussian
from vi_bench.runtime.environment import computing, find_device


def mixture_of(name, n, K, prior="uniform", seed=3, dtype=jnp.float64):
    case = CASES[name]
    x = case.rows(np.random.default_rng(seed), n)
    return bind(case.family, x, K, dtype, WEIGHTS[prior])


def from_prior(mixture, number, seed=3):
    return draw(jax.random.key(seed), mixture, shape=(number,))


POWER = Way(jnp.zeros(6), jnp.ones(()))
"""Six rows that all enter at once."""

COUNTS = np.array([1.0, 0.3, 0.0, 0.8, 0.5])
"""How often each of five rows counts."""


def tempered_truth(mixture, counts):
    """Log Z, statistics by assignment (assignment, K, P), and their probabilities."""
    family, K, N = mixture.family, mixture.components, mixture.rows
    t = counts[:, None] * np.asarray(call(mixture, "statistics")).T
    own = np.eye(K)[np.array(list(product(range(K), repeat=N)))]
    sums = np.einsum("cnk,np->ckp", own, t)
    prior = family.natural_prior()
    log_normaliser = jax.jit(family.log_normaliser)
    blocks = log_normaliser(prior + sums) - log_normaliser(prior)
    terms = np.asarray(blocks).sum(axis=1)
    n = np.einsum("cnk,n->ck", own, counts)
    if isinstance(mixture.weights, Uniform):
        terms = terms - counts.sum() * np.log(K)
    else:
        a, b = np.asarray(mixture.prior_sticks())
        after = counts.sum() - np.cumsum(n, axis=1)[:, :-1]
        terms = terms + np.sum(betaln(a + n[:, :-1], b + after) - betaln(a, b), axis=1)
    total = logsumexp(terms)
    return total, sums, np.exp(terms - total)


def run_chain(mixture, counts, chains, draws):
    """Draws (chain, draw, *dims) of the tempered sweep by itself."""

    def chain(key):
        begin, go_on = jax.random.split(key)
        theta = mixture.draw(begin, mixture.prior(), ())

        def step(theta, key):
            theta = sweep(key, mixture, theta, jnp.asarray(counts))
            return theta, theta

        return jax.lax.scan(step, theta, jax.random.split(go_on, draws))[1]

    return jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(5), chains))


CELLS = [
    ("gaussian", "stick-breaking"),
    ("gaussian-diagonal", "dirichlet"),
    ("poisson", "stick-breaking"),
    ("bernoulli", "uniform"),
    ("gaussian-full", "dirichlet"),
    ("exponential", "stick-breaking"),
]


@pytest.mark.parametrize("cell", slow_but(CELLS[:1], CELLS))
def test_a_sweep_leaves_the_tempered_posterior_invariant(cell):
    """Means of E[s(theta_k) | c], one z-test a coordinate at 5 errors: 2e-5 in all.

    The mean over draws of theta of s(theta_k) is that over assignments of grad A: each
    component by itself, so that stick-breaking's order is held to account as well.
    """
    name, prior = cell
    mixture = mixture_of(name, 5, 2, prior)
    draws = run_chain(mixture, COUNTS, 4, 6000)
    _, sums, share = tempered_truth(mixture, COUNTS)
    family = mixture.family
    each = np.asarray(jax.jit(family.moments)(family.natural_prior() + sums))
    exact = np.einsum("c,ckp->kp", share, each)
    found = np.asarray(jax.jit(family.natural)(draws))
    for k, p in np.ndindex(exact.shape):
        values = found[:, 500:, k, p]
        summary = summarise(values)
        assert summary.ess_bulk > 1000, (k, p)
        z = (summary.mean.value - exact[k, p]) / summary.mean.se
        assert abs(z) < 5, (name, k, p, summary.mean, exact[k, p])


@pytest.mark.slow
def test_a_sweep_that_starts_from_theta_leaves_the_tempered_posterior_invariant():
    """Semiconjugate, against importance sampling; 4 z-tests at 5 errors: 2e-6."""
    mixture = mixture_of("gaussian-semiconjugate", 3, 2, "stick-breaking")
    counts = jnp.array([1.0, 0.4, 0.1])
    theta = from_prior(mixture, 200_000)
    level = jax.vmap(lambda one: log_tempered(mixture, one, counts))
    level = jax.jit(level)(theta)
    share = np.exp(level - logsumexp(level))
    assert 1 / np.sum(share**2) > 5000
    draws = run_chain(mixture, counts, 4, 6000)
    for name, of in {
        "mu": lambda v: v["mu"][..., 0, 0],
        "other mu": lambda v: v["mu"][..., 1, 1],
        "log variance": lambda v: jnp.log(v["variance"][..., 0, 0]),
        "stick": lambda v: v["stick"][..., 0],
    }.items():
        known = np.asarray(of(theta))
        exact = share @ known
        error = np.sqrt(np.sum((share * (known - exact)) ** 2))
        summary = summarise(np.asarray(of(draws))[:, 500:])
        assert summary.ess_bulk > 1000, name
        z = (summary.mean.value - exact) / np.hypot(summary.mean.se, error)
        assert abs(z) < 5, (name, summary.mean, exact, error)


@pytest.mark.parametrize("prior", [slow("dirichlet"), "stick-breaking"])
def test_at_one_a_sweep_is_that_of_gibbs(prior):
    mixture = mixture_of("gaussian-diagonal", 12, 3, prior)
    theta = jax.tree.map(lambda v: v[0], from_prior(mixture, 1))
    key = jax.random.key(2)
    found = Tempered().transition(key, mixture, theta)
    jax.tree.map(np.testing.assert_array_equal, found, gibbs.sweep(key, mixture, theta))


def test_the_level_is_the_log_likelihood_at_one_and_n_log_k_at_zero():
    mixture = mixture_of("poisson", 9, 3, "dirichlet")
    theta = jax.tree.map(lambda v: v[0], from_prior(mixture, 1))
    level = jax.jit(lambda theta, w: log_tempered(mixture, theta, jnp.full(9, w)))
    whole = level(theta, 1.0) + mixture.log_base
    assert whole == pytest.approx(
        float(call(mixture, "log_likelihood", theta)), rel=1e-12
    )
    assert level(theta, 0.0) == log_start(mixture)
    assert log_start(mixture) == pytest.approx(9 * np.log(3), rel=1e-14)
    lost = theta | {"rate": jnp.full_like(theta["rate"], jnp.nan)}
    assert level(lost, 0.0) == log_start(mixture)
    assert level(lost, 1.0) < -1e300


@pytest.mark.slow
def test_at_zero_the_replica_is_drawn_from_the_prior():
    mixture = mixture_of("poisson", 6, 3, "dirichlet")
    theta = from_prior(mixture, 4)
    ladder = jnp.array([0.0, 0.1, 0.5, 1.0])
    key = jax.random.key(2)
    moved = jax.jit(sweeps)(key, mixture, POWER, ladder, theta)
    fresh = draw(jax.random.split(key)[0], mixture, shape=(1,))
    for name, values in moved.items():
        assert values.shape == theta[name].shape
        np.testing.assert_array_equal(values[:1], fresh[name])


def test_swaps_are_accepted_as_the_densities_say_and_theta_alone_moves():
    """One pair, 4000 swaps of a given two: a z-test at 4.5 errors, false alarm 7e-6."""
    mixture = mixture_of("gaussian", 6, 2)
    ladder = jnp.array([0.0, 0.3, 0.5, 1.0])
    theta = from_prior(mixture, 4)
    given = Ensemble(theta, jnp.array([0, 1, 2, 1], jnp.int32), jnp.asarray(True))
    keys = jax.random.split(jax.random.key(3), 4000)
    after, tally = jax.jit(
        jax.vmap(lambda key: swaps(key, mixture, POWER, ladder, given))
    )(keys)

    def level(place, beta):
        one = jax.tree.map(lambda v: v[place], theta)
        return float(jax.jit(log_tempered)(mixture, one, POWER.weights(ladder[beta])))

    there, back, own, other = level(1, 2), level(2, 1), level(1, 1), level(2, 2)
    exact = min(1.0, np.exp(there + back - own - other))
    assert 0.02 < exact < 0.98
    np.testing.assert_allclose(tally.rejected[0], [0, 1 - exact, 0], rtol=1e-9)
    np.testing.assert_array_equal(tally.tries[0], [0, 1, 0])
    assert tally.forward[0, 1] == pytest.approx((there - own) / 2, rel=1e-9)
    assert tally.backward[0, 1] == pytest.approx((back - other) / 2, rel=1e-9)
    assert np.all(np.isneginf(tally.forward[0, [0, 2]]))
    assert not np.any(after.odd)
    swapped = np.asarray(after.phase)[:, 1] == 2
    before, moved = np.asarray(theta["mu"]), np.asarray(after.theta["mu"])
    for by, order in ((swapped, [0, 2, 1, 3]), (~swapped, [0, 1, 2, 3])):
        assert by.any()
        assert np.all(moved[by] == before[order])
    z = (swapped.mean() - exact) / np.sqrt(exact * (1 - exact) / 4000)
    assert abs(z) < 4.5


def test_rows_enter_one_after_the_other_or_all_at_once():
    mixture = mixture_of("gaussian", 6, 2)
    way = Tempered(path="rows")._way(jax.random.key(1), mixture)
    np.testing.assert_array_equal(np.sort(way.rank), np.arange(6))
    found = np.asarray(way.weights(jnp.asarray(2.3 / 6)))
    np.testing.assert_allclose(np.sort(found), [0, 0, 0, 0.3, 1, 1], atol=1e-12)
    for each in (way, POWER, Tempered()._way(jax.random.key(1), mixture)):
        np.testing.assert_array_equal(each.weights(jnp.zeros(())), np.zeros(6))
        np.testing.assert_array_equal(each.weights(jnp.ones(())), np.ones(6))
    np.testing.assert_allclose(POWER.weights(jnp.asarray(0.3)), np.full(6, 0.3))


def test_rows_keep_their_counts_beyond_one_block():
    """700 rows, in blocks and a tail; the level and the statistics of the rows."""
    mixture = mixture_of("gaussian-diagonal", 700, 2)
    assert mixture.blocks.body.shape[0] > 1
    assert mixture.blocks.tail.shape[1] > 0
    counts = np.random.default_rng(1).uniform(size=700)
    theta = jax.tree.map(lambda v: v[0], from_prior(mixture, 1))
    found = jax.jit(lambda theta: log_tempered(mixture, theta, jnp.asarray(counts)))
    t = counts * np.asarray(call(mixture, "statistics"))
    exact = logsumexp(np.asarray(call(mixture, "natural", theta)) @ t, axis=0).sum()
    assert found(theta) == pytest.approx(exact, rel=1e-10)
    weighted = with_counts(mixture, jnp.asarray(counts))
    np.testing.assert_allclose(weighted.statistics(), t, rtol=1e-12)


def test_pairs_are_tried_in_turn():
    mixture = mixture_of("gaussian", 6, 2)
    ladder = jnp.linspace(0, 1, 5)
    theta = from_prior(mixture, 5)
    ensemble = Ensemble(theta, jnp.zeros(5, jnp.int32), jnp.asarray(False))
    step = jax.jit(lambda key, e: swaps(key, mixture, POWER, ladder, e))
    ensemble, first = step(jax.random.key(1), ensemble)
    _, second = step(jax.random.key(2), ensemble)
    np.testing.assert_array_equal(first.tries, [1, 0, 1, 0])
    np.testing.assert_array_equal(second.tries, [0, 1, 0, 1])


def test_a_round_trip_is_from_the_prior_to_the_posterior_and_back():
    phase = jnp.array([0, 0, 0])
    trips = []
    # one replica walks 0, 1, 2, 1, 0; the others stay between
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1], [0, 2, 1], [1, 0, 2]):
        phase, ended = travelled(phase[jnp.array(order)])
        trips.append(bool(ended))
    assert trips == [False, False, False, False, True]
    # the one that was first at beta = 1 had not been at beta = 0
    assert not travelled(jnp.array([0, 1, 2]))[1]


def test_the_ladder_is_moved_to_equal_rejections():
    """A barrier that is known: rates r(b, b') = h(b') - h(b), h = 3 beta^(1/5)."""

    def rates(ladder):
        return jnp.diff(3 * ladder ** (1 / 5))[None]

    ladder = jnp.linspace(0, 1, 9)
    tally = no_tally((1,), 8, ladder.dtype)
    found = equalised(
        ladder, tally._replace(rejected=rates(ladder), tries=jnp.ones((1, 8)))
    )
    np.testing.assert_allclose(rates(found)[0], 3 / 8, rtol=1e-9)
    assert (found[0], found[-1]) == (0, 1)
    # nothing refused anywhere, nothing tried somewhere: still a ladder
    flat = equalised(ladder, tally)
    assert np.all(np.diff(flat) > 0)


def test_rounds_double_and_add_up():
    for total in (1, 7, 8, 9, 100, 501):
        assert sum(rounds(total)) == total
        assert min(rounds(total)) >= min(total, 4)
    assert rounds(500) == (7, 8, 16, 31, 63, 125, 250)


def some_tally(random, shape, shift=0.0):
    log = [random.normal(size=shape) - 500 + shift for _ in range(2)]
    tries = np.full(shape, 5.0)
    return Tally(*log, 0.4 * tries, tries, np.ones(shape[:2]))


def test_the_evidence_is_the_product_of_bridges(random):
    tally = some_tally(random, (3, 8, 2))
    found = evidence(tally, -40.0)
    up, down = (logsumexp(v, axis=(0, 1)) for v in tally[:2])
    assert found["log_evidence"] == pytest.approx(-40 + np.sum(up - down), rel=1e-12)
    up, down = (logsumexp(v, axis=1) for v in tally[:2])
    np.testing.assert_allclose(
        found["run_log_evidence"], -40 + np.sum(up - down, axis=1), rtol=1e-12
    )
    on_device = evidence(Tally(*map(jnp.asarray, tally)), jnp.asarray(-40.0))
    for name, value in found.items():
        np.testing.assert_allclose(on_device[name], value, rtol=1e-9)


def test_the_error_is_that_of_the_logarithm(random):
    """Against the spread of 400 repetitions, to a fifth: 4 chains of 5 batches each."""
    values, errors = [], []
    for _ in range(400):
        log = np.log(random.gamma(4.0, size=(2, 4, 20, 3)))
        tally = Tally(*log, *np.ones((2, 4, 20, 3)), np.ones((4, 20)))
        found = evidence(tally, 0.0)
        values.append(found["log_evidence"])
        plain = found["log_evidence_se"] / widened(1.0, found["log_evidence_df"])
        errors.append(plain if found["log_evidence_df"] == 19 else np.nan)
    ratio = np.nanmean(np.square(errors)) / np.var(values)
    assert 0.7 < ratio < 1.2
    share = np.mean(np.isnan(errors))
    assert 0.3 < share < 0.5  # chi-square of 3 degrees over 3 above one of 19 over 19


def test_chains_that_differ_set_the_error(random):
    tally = some_tally(random, (4, 20, 2))
    apart = tally._replace(forward=tally.forward + np.arange(4.0)[:, None, None])
    alike, differing = evidence(tally, 0.0), evidence(apart, 0.0)
    assert differing["log_evidence_df"] == 3
    assert differing["log_evidence_se"] > 2 * alike["log_evidence_se"]
    alone = evidence(Tally(*(v[:1] for v in tally)), 0.0)
    assert alone["log_evidence_df"] == 4
    assert np.isfinite(alone["log_evidence_se"])


def test_a_sum_of_nothing_is_minus_infinity():
    terms = np.array([[-np.inf, 0.0], [np.log(2), 0.0]])
    np.testing.assert_allclose(log_sum(terms, 0), np.log([2, 2]))


def run(family, x, K, prior="uniform", method=None, **fields):
    """The result and the method's run; no error."""
    given = {"draws": 2000, "repeats": 1, "reference": "tempered"}
    result = vb.run(
        family,
        x,
        {"tempered": method or Tempered(temperatures=8, warmup=200)},
        components=K,
        weights=WEIGHTS[prior],
        **given | fields,
    )
    found = result.runs["tempered"]
    assert not found.error, found.error
    return result, found


def z_score(report, exact):
    """Of the evidence. Its error has 19 degrees or is larger than one of 19."""
    assert report.log_evidence_se < 0.1
    return (report.log_evidence - exact) / report.log_evidence_se


POSTERIORS = [
    ("gaussian", "dirichlet", 2, 8),
    ("gaussian-diagonal", "stick-breaking", 3, 8),
    ("poisson", "uniform", 3, 7),
    ("bernoulli", "dirichlet", 3, 7),
    ("gaussian-full", "stick-breaking", 2, 9),
    ("gaussian-semiconjugate-shared", "dirichlet", 2, 6),
]

PATHS = {
    name: Tempered(temperatures=12, warmup=200, path=name) for name in ("rows", "power")
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", POSTERIORS)
@pytest.mark.parametrize("path", PATHS)
def test_the_evidence_is_the_sum_over_assignments(cell, path):
    """t of 19 degrees at 6: false alarm 9e-6 a cell; the error is asked for first."""
    name, prior, K, n = cell
    method = PATHS[path]
    draws = driven(method, mixture_of(name, n, K, prior), 4, 2000)
    report, outcome = draws.report, method.outcome(draws)
    assert outcome.status == "sampled", outcome
    assert np.min(report.round_trips) > 50
    x = CASES[name].rows(np.random.default_rng(3), n)
    exact = log_evidence(x, K, CASES[name], WEIGHTS[prior])
    assert abs(z_score(report, exact)) < 6, report


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        ("gaussian", "uniform", 3, 12),
        ("gaussian-diagonal", "dirichlet", 2, 14),
        ("poisson", "dirichlet", 3, 12),
    ],
)
def test_invariant_quantities_have_the_exact_means(cell):
    """z-tests at 4.5 errors of at most 20 quantities: 1.4e-4 a cell; ESS first."""
    name, prior, K, n = cell
    case = CASES[name]
    x = case.rows(np.random.default_rng(4), n)
    methods = {"tempered": Tempered(temperatures=10), "exact": {}}
    result = vb.run(
        case.family,
        x,
        methods,
        weights=WEIGHTS[prior],
        components=K,
        draws=4000,
        repeats=1,
        reference="exact",
    )
    exact = result.runs["exact"].draws.report.log_evidence
    assert abs(z_score(result.runs["tempered"].draws.report, exact)) < 6
    summaries = result.comparison.summaries
    for quantity, truth in summaries["exact"].items():
        own = summaries["tempered"][quantity]
        assert own.ess_bulk > 1000, quantity
        assert own.r_hat < 1.01, quantity
        error = np.hypot(own.mean.se, truth.mean.se)
        assert abs(own.mean.value - truth.mean.value) < 4.5 * error, quantity


def corners(each, random):
    """Four tight groups at the corners of a square: two components split x or y."""
    places = np.array([(a, b) for a in (-2.5, 2.5) for b in (-2.5, 2.5)])
    shift = np.array([[0.02, 0.0]]) * np.sign(places)
    return np.concatenate([places + shift] * each) + 0.1 * random.normal(
        size=(4 * each, 2)
    )


def share_along_x(theta):
    """Whether the components differ more along x than along y (chain, draw)."""
    gap = np.abs(theta["mu"][:, :, 0] - theta["mu"][:, :, 1])
    return (gap[..., 0] > gap[..., 1]).astype(float)


@pytest.mark.slow
def test_modes_that_gibbs_seldom_leaves_have_their_exact_shares(random):
    """16 rows: the two ways to pair the corners, by enumeration; a z-test at 4.5.

    A power of all rows keeps the two in proportion on the way; a few rows may not.
    """
    x = corners(4, random)
    family = Gaussian(sigma=5.0, mean=0.0, variance=1.0)
    method = Tempered(temperatures=12)
    _, found = run(family, x, 2, method=method, draws=4000)
    exact = vb.run(family, x, ["exact"], components=2, draws=20_000, repeats=1)
    truth = np.mean(share_along_x(exact.runs["exact"].posterior))
    own = summarise(share_along_x(found.posterior))
    assert own.ess_bulk > 800
    error = np.hypot(own.mean.se, np.sqrt(truth * (1 - truth) / 80_000))
    assert abs(own.mean.value - truth) < 4.5 * error
    report = exact.runs["exact"].draws.report
    assert abs(z_score(found.draws.report, report.log_evidence)) < 6


@pytest.mark.slow
def test_further_draws_go_on_and_fill_the_room_anew():
    mixture = mixture_of("gaussian", 8, 2)
    method = Tempered(temperatures=4, warmup=20, thin=1)
    start, warmup, sample, collect = method.prepare(
        Problem(mixture, 2, 50), jax.random.key(0)
    )
    assert (sample.again, sample.calls, warmup.calls) == ("onward", 17, 3)
    programs = {s.name: jax.jit(s.run) for s in (start, warmup, sample, collect)}

    def calls(stage, carry, seed):
        for key in jax.random.split(jax.random.key(seed), stage.calls):
            carry = programs[stage.name](key, mixture, carry)
        return carry

    run = calls(warmup, calls(start, None, 1), 2)
    assert run.done == 0
    assert np.all(np.diff(run.ladder) > 0)
    first = calls(sample, run, 3)
    again = calls(sample, first, 4)
    assert first.done == again.done == 51
    for batch in (first, again):
        assert len(np.unique(batch.kept["mu"][0, :, 0, 0])) > 45
        neighbours = np.sum(batch.tally.tries, axis=1)[:, :2]
        np.testing.assert_array_equal(neighbours.sum(axis=1), [51, 51])
    assert not np.any(first.kept["mu"] == again.kept["mu"])
    reports = [calls(collect, batch, 5).report for batch in (first, again)]
    both = method.combine(reports)
    trips = sum(np.asarray(r.round_trips) for r in reports)
    np.testing.assert_array_equal(both.round_trips, trips)
    rate = np.mean([r.rejection for r in reports], axis=0)
    np.testing.assert_allclose(both.rejection, rate, rtol=0.1)
    low, high = sorted(float(r.log_evidence) for r in reports)
    assert low < both.log_evidence < high
    alone = method.combine(reports[:1])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9), alone, reports[0])


def test_too_few_round_trips_are_suspect():
    known = partial_report(
        TemperedReport,
        log_evidence=np.array(-3.0),
        round_trips=np.array([12.0, 5.0]),
        rejection=np.array([0.4, 0.5]),
        barrier=np.array(0.9),
    )

    def outcome(**changed):
        draws = Draws({}, {}, None, {}, replace(known, **changed))
        found = Tempered().outcome(draws)
        return found.status, found.sentence

    status, sentence = outcome()
    assert status == "sampled"
    assert sentence.startswith("5 to 12 round trips a chain, barrier 0.9, at most 50%")
    status, sentence = outcome(round_trips=np.array([12.0, 4.0]))
    assert status == "suspect"
    assert sentence.endswith("raise temperatures or draws")
    status, sentence = outcome(rejection=np.array([0.4, 0.81]))
    assert status == "suspect"
    assert sentence.endswith("raise temperatures")
    assert outcome(log_evidence=np.array(np.nan))[0] == "not finite"


def test_what_has_no_gibbs_step_says_so():
    mixture = replace(mixture_of("gaussian", 12, 2), family=object())
    with pytest.raises(NotApplicable, match="resample"):
        Tempered().prepare(Problem(mixture, 1, 10), jax.random.key(0))
    with pytest.raises(NotApplicable, match="resample"):
        Tempered().transition(jax.random.key(0), mixture, {})


@pytest.mark.slow
def test_one_component_in_single_precision_has_the_evidence_of_the_closed_form():
    """K = 1 has the closed form's evidence; t of 19 degrees at 6."""
    case = CASES["poisson"]
    x = case.rows(np.random.default_rng(3), 5)
    with computing(find_device("auto"), 32):
        mixture = mixture_of("poisson", 5, 1, "dirichlet", dtype=jnp.float32)
        draws = driven(Tempered(temperatures=5, warmup=40), mixture, 4, 2000)
    assert draws.parameters["rate"].dtype == np.float32
    assert abs(z_score(draws.report, case.log_blocks([x]))) < 6
