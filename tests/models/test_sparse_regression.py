"""Spike and slab against sums over all sets of predictors, and a plain fit."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy.special import logsumexp
from scipy.stats import gamma, multivariate_normal, norm
from scipy.stats import t as student

from tests.models.response import chosen, sds_at
from tests.zoo.models import spike_slab
from vi_bench.errors import ModelError
from vi_bench.factors import Gamma
from vi_bench.factors.spike_slab import SpikeSlab
from vi_bench.models.sparse_regression import MOST, OverSets, SparseRegression
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = SparseRegression(pi=0.3, slab=1.5, c=2.0, d=1.5)

SURE = 1e9
"""A prior shape of tau that leaves nothing to learn of it."""


@partial(jax.jit, static_argnums=(0, 3))
def fit(own, data, key, sweeps=300):
    """The best of some starts after so many sweeps, and its bound."""
    s = own.statistics(**data)

    def one(key):
        start = own.init(key, s)
        q = jax.lax.fori_loop(0, sweeps, lambda _, q: own.sweep(s, q), start)
        return q, own.bound(s, q)

    points, bounds = jax.vmap(one)(jax.random.split(key, 8))
    best = jnp.argmax(bounds)
    return jax.tree.map(lambda v: v[best], points), bounds[best]


def simulated(random, rows, size, own=OWN):
    x = random.normal(size=(rows, size)) + 0.7 * random.normal(size=(rows, 1))
    w = (random.random(size) < own.pi) * random.normal(0, own.slab, size)
    tau = random.gamma(own.c, 1 / own.d)
    return {"x": x, "y": random.normal(x @ w, tau**-0.5)}


def known_noise(own, tau):
    """The same with a precision that is known."""
    return SparseRegression(pi=own.pi, slab=own.slab, c=SURE, d=SURE / tau)


def by_sets(own, x):
    """Log prior probability of every set of predictors, and w's part in y's cov."""
    for on in product((0.0, 1.0), repeat=x.shape[1]):
        on = np.array(on)
        log_prior = np.log(np.where(on > 0, own.pi, 1 - own.pi)).sum()
        yield on, log_prior, own.slab**2 * (on * x) @ x.T


def evidence_given(own, x, y, tau):
    """Log p(y | tau), w integrated out in closed form."""
    terms = [
        log_prior
        + multivariate_normal.logpdf(y, np.zeros(len(y)), np.eye(len(y)) / tau + part)
        for _, log_prior, part in by_sets(own, x)
    ]
    return logsumexp(terms)


def evidence_of(own, x, y, nodes=161):
    """Log p(y): tau by the trapezoid rule in its logarithm, all sets summed over."""
    at = np.linspace(-9, 5, nodes)
    tau = np.exp(at)
    prior = gamma.logpdf(tau, own.c, scale=1 / own.d) + at
    terms = []
    for _, log_prior, part in by_sets(own, x):
        sizes, axes = np.linalg.eigh(part)
        variances = 1 / tau[:, None] + np.maximum(sizes, 0)
        each = norm.logpdf(axes.T @ y, 0, np.sqrt(variances)).sum(1)
        terms.append(log_prior + each)
    return logsumexp(np.array(terms) + prior) + np.log(at[1] - at[0])


def test_the_density_is_the_sum_over_all_sets(random):
    data = simulated(random, 9, 4)
    x, y = data["x"], data["y"]
    joint = jax.jit(lambda theta: log_density(OWN.model, (), data, theta)[0])
    for _ in range(100):
        w, tau = random.normal(0, 2, 4), random.gamma(2)
        prior = norm.logpdf(w, 0, OWN.slab).sum()
        prior += gamma.logpdf(tau, OWN.c, scale=1 / OWN.d)
        terms = [
            log_prior + norm.logpdf(y, x @ (on * w), tau**-0.5).sum()
            for on, log_prior, _ in by_sets(OWN, x)
        ]
        found = joint({"w": jnp.asarray(w), "tau": jnp.asarray(tau)})
        assert float(found) == pytest.approx(prior + logsumexp(terms), rel=1e-9)


def test_the_density_of_ten_correlated_predictors_is_that_sum_of_all_rows(random):
    """The present formula has x^T x; here every set has its rows."""
    data = simulated(random, 40, MOST)
    w, tau = random.normal(0, 2, MOST), random.gamma(2)
    found = OverSets(data["x"], jnp.asarray(w), jnp.asarray(tau), OWN.pi)
    terms = [
        log_prior + norm.logpdf(data["y"], data["x"] @ (on * w), tau**-0.5).sum()
        for on, log_prior, _ in by_sets(OWN, data["x"])
    ]
    value = float(found.log_prob(data["y"]))
    assert value == pytest.approx(logsumexp(terms), rel=1e-9)


def test_draws_of_rows_have_the_moments_of_all_sets(random):
    x, w, tau = random.normal(size=(3, 4)), random.normal(0, 2, 4), 2.0
    rows = OverSets(x, jnp.asarray(w), jnp.asarray(tau), OWN.pi)
    drawn = np.asarray(rows.sample(jax.random.key(1), (20_000,)))
    z = (drawn.mean(0) - x @ (OWN.pi * w)) / drawn.std(0) * len(drawn) ** 0.5
    assert np.abs(z).max() < 5  # a false alarm in 600,000
    variance = (x * w) ** 2 @ np.full(4, OWN.pi * (1 - OWN.pi)) + 1 / tau
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.06)


def test_the_density_with_switches_is_the_textbooks(random):
    data = simulated(random, 9, 3)
    for on, log_prior, _ in by_sets(OWN, data["x"]):
        w, tau = random.normal(0, 2, 3), random.gamma(2)
        theta = {"w": jnp.asarray(w), "tau": jnp.asarray(tau), "gamma": jnp.asarray(on)}
        found = log_density(OWN.full, (), data, theta)[0]
        wanted = log_prior + norm.logpdf(w, 0, OWN.slab).sum()
        wanted += gamma.logpdf(tau, OWN.c, scale=1 / OWN.d)
        wanted += norm.logpdf(data["y"], data["x"] @ (on * w), tau**-0.5).sum()
        assert float(found) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence():
    for seed in range(50):
        data = simulated(np.random.default_rng(seed), 8, 3)
        value = float(fit(OWN, data, jax.random.key(seed), 100)[1])
        assert value < evidence_of(OWN, **data)


@pytest.mark.slow
def test_the_bound_of_eight_predictors_is_below_the_evidence(random):
    data = simulated(random, 12, 8)
    value = float(fit(OWN, data, jax.random.key(0))[1])
    evidence = evidence_of(OWN, **data)
    assert value < evidence
    assert evidence_of(OWN, **data, nodes=641) == pytest.approx(evidence, abs=1e-8)


@pytest.mark.slow
def test_of_one_predictor_and_known_noise_it_is_exact(random):
    own = known_noise(OWN, 1.7)
    for _ in range(5):
        data = simulated(random, 6, 1)
        q, value = fit(own, data, jax.random.key(0), 50)
        wanted = evidence_given(own, **data, tau=1.7)
        # the divergence of tau, of which nothing is learnt, is a difference of 1e10
        assert float(value) == pytest.approx(wanted, abs=1e-4)
        likely = [
            log_prior + multivariate_normal.logpdf(data["y"], None, np.eye(6) / 1.7 + p)
            for _, log_prior, p in by_sets(own, data["x"])
        ]
        chance = np.exp(likely[1] - wanted)
        assert float(q["w"].inclusion()[0]) == pytest.approx(chance, rel=1e-6)


@pytest.mark.slow
def test_of_orthogonal_predictors_and_known_noise_it_is_exact(random):
    own = known_noise(OWN, 0.9)
    x, _ = np.linalg.qr(random.normal(size=(8, 3)))
    data = {"x": 3 * x, "y": random.normal(size=8) * 2}
    q, value = fit(own, data, jax.random.key(0), 50)
    wanted = evidence_given(own, **data, tau=0.9)
    assert float(value) == pytest.approx(wanted, abs=1e-4)
    log_p = [
        (
            on,
            log_prior
            + multivariate_normal.logpdf(data["y"], None, np.eye(8) / 0.9 + p),
        )
        for on, log_prior, p in by_sets(own, data["x"])
    ]
    chance = sum(on * np.exp(value - wanted) for on, value in log_p)
    np.testing.assert_allclose(q["w"].inclusion(), chance, rtol=1e-6)


@pytest.mark.slow
def test_draws_say_what_the_bound_is(random):
    """E_q[log p - log q] of the model with its switches, wherever q is."""
    data = simulated(random, 10, 3)
    s = OWN.statistics(**data)

    @jax.jit
    def excess(key, q):
        one, two, three = jax.random.split(key, 3)
        of_w, of_tau = q["w"].distribution(), q["tau"].distribution()
        w, tau = of_w.sample(one, (20_000,)), of_tau.sample(two, (20_000,))
        of_gamma = OWN.local_factors(s, q)["gamma"](w)
        switch = of_gamma.sample(three)
        joint = jax.vmap(
            lambda w, tau, switch: log_density(
                OWN.full, (), data, {"w": w, "tau": tau, "gamma": switch}
            )[0]
        )
        log_q = of_w.log_prob(w).sum(1) + of_tau.log_prob(tau)
        log_q += of_gamma.log_prob(switch).sum(1)
        return joint(w, tau, switch) - log_q, OWN.bound(s, q)

    elsewhere = {
        "w": SpikeSlab(*(jnp.asarray(random.gamma(3, size=3)) for _ in range(5))),
        "tau": Gamma(jnp.asarray(4.0), jnp.asarray(2.5)),
    }
    for q in (fit(OWN, data, jax.random.key(0))[0], elsewhere):
        r, value = map(np.asarray, excess(jax.random.key(2), q))
        assert abs(r.mean() - value) < 5 * r.std() / len(r) ** 0.5


@pytest.mark.slow
def test_a_sweep_is_the_best_of_every_coefficient_in_turn(random):
    """After it, neither the last coefficient nor the precision can gain."""
    data = simulated(random, 10, 3)
    s = OWN.statistics(**data)
    q = OWN.sweep(s, OWN.init(jax.random.key(3), s))

    def slope(name, q):
        return jax.grad(lambda f: OWN.bound(s, q | {name: f}))(q[name])

    tau = slope("tau", q)
    assert abs(float(tau.shape)) < 1e-8
    assert abs(float(tau.rate)) < 1e-8
    before = OWN.init(jax.random.key(3), s)["tau"]
    for value in jax.tree.leaves(slope("w", q | {"tau": before})):
        assert abs(float(value[-1])) < 1e-8


@pytest.mark.slow
def test_one_row():
    """One predictor and one row: the fixed point, iterated in plain Python."""
    x, y = 1.3, 2.1
    mean = 1.0
    for _ in range(500):
        precision = OWN.slab**-2 + mean * x**2
        m = mean * x * y / precision
        odds = OWN.pi / (1 - OWN.pi) * (OWN.slab**2 * precision) ** -0.5
        odds *= np.exp(m**2 * precision / 2)
        on = odds / (1 + odds)
        square = y**2 - 2 * y * x * on * m + x**2 * on * (m**2 + 1 / precision)
        mean = (OWN.c + 0.5) / (OWN.d + 0.5 * square)
    data = {"x": np.array([[x]]), "y": np.array([y])}
    q, _ = fit(OWN, data, jax.random.key(0))
    assert float(q["w"].inclusion()[0]) == pytest.approx(on, rel=1e-9)
    assert float(q["w"].effect()[0]) == pytest.approx(on * m, rel=1e-9)
    assert float(q["tau"].mean()) == pytest.approx(mean, rel=1e-9)


@pytest.mark.slow
def test_no_rows_leave_the_prior():
    data = {"x": np.zeros((0, 3)), "y": np.zeros(0)}
    q, value = fit(OWN, data, jax.random.key(0))
    np.testing.assert_allclose(q["w"].inclusion(), OWN.pi, rtol=1e-12)
    np.testing.assert_allclose(q["w"].effect(), 0, atol=1e-12)
    np.testing.assert_allclose(q["w"].precision, OWN.slab**-2)
    np.testing.assert_allclose([q["tau"].shape, q["tau"].rate], [OWN.c, OWN.d])
    assert float(value) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_the_predictors_order_is_only_that_of_the_sweep(random):
    data = simulated(random, 15, 4)
    order = [2, 0, 3, 1]
    q, value = fit(OWN, data, jax.random.key(0), 1000)
    other, same = fit(OWN, data | {"x": data["x"][:, order]}, jax.random.key(0), 1000)
    assert float(same) == pytest.approx(float(value), abs=1e-8)
    np.testing.assert_allclose(
        other["w"].inclusion(), q["w"].inclusion()[np.array(order)], rtol=1e-6
    )


@pytest.mark.slow
def test_many_predictors_far_from_zero_stay_finite(random):
    """More predictors than rows, of one that is far from zero and hardly varies."""
    data = simulated(random, 20, 40)
    data["x"][:, 0] = 1e4 + random.normal(size=20)
    s = OWN.statistics(**data)
    sweep = jax.jit(OWN.sweep)
    q, bounds = OWN.init(jax.random.key(0), s), []
    for _ in range(50):
        q = sweep(s, q)
        bounds.append(float(OWN.bound(s, q)))
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() > -1e-9 * np.abs(bounds).max()


@pytest.mark.slow
def test_too_many_predictors_to_sum_over_are_refused():
    data = {"x": np.zeros((2, MOST + 1)), "y": np.zeros(2)}
    with pytest.raises(ModelError, match="11 predictors"):
        OWN.model(**data)


@pytest.mark.slow
def test_it_ends_where_a_plain_fit_ends():
    class Plain(spike_slab.Right):
        tol, most = 0, 500

    given = spike_slab.data(seed=2)
    own = known_noise(
        SparseRegression(pi=spike_slab.PI, slab=spike_slab.SLAB), spike_slab.NOISE**-2
    )
    q, value = fit(own, {"x": given["X"], "y": given["y"]}, jax.random.key(0), 500)
    known = Plain()(**given, seed=0)
    np.testing.assert_allclose(q["w"].inclusion(), known["q"]["gamma"].probs, rtol=1e-6)
    slab = known["q"]["beta"](jnp.ones(5))
    w = q["w"]
    np.testing.assert_allclose(w.shift / w.precision, slab.loc, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(w.precision**-0.5, slab.scale, rtol=1e-6)
    np.testing.assert_allclose(w.rest_precision**-0.5, spike_slab.SLAB)
    np.testing.assert_allclose(w.rest_shift, 0)
    assert float(value) == pytest.approx(known["elbo"][-1], abs=1e-4)


def responded(own, data):
    """Sds of w and of log tau by linear response, those under q, and q."""
    q, _ = fit(own, data, jax.random.key(0), 1000)
    of = chosen(["w", "log_tau"])
    found = sds_at(CAVIPosterior.bound(own, data), q, of)
    return *(np.array(list(sds.values())) for sds in found), q


def sds_of(own, x, y, nodes=201):
    """Sds of w and of log tau: sums over all sets, and the trapezoid rule for tau.

    Its nodes are around tau = 1, the precision here, as far as nine sds of log tau.
    """
    reach = 9 * (2 / len(y)) ** 0.5
    values, first, second = [], [], []
    for on, log_prior, _ in by_sets(own, x[:0]):
        used = x * on
        for at in np.linspace(-reach, reach, nodes):
            tau = np.exp(at)
            precision = np.eye(len(on)) / own.slab**2 + tau * used.T @ used
            covariance = np.linalg.inv(precision)
            mean = tau * covariance @ used.T @ y
            value = log_prior + gamma.logpdf(tau, own.c, scale=1 / own.d) + at
            value += 0.5 * (len(y) * at - tau * y @ y + mean @ precision @ mean)
            values.append(value - 0.5 * np.linalg.slogdet(precision)[1])
            first.append(np.r_[mean, at])
            second.append(np.r_[mean**2 + covariance.diagonal(), at**2])
    weight = np.exp(np.array(values) - logsumexp(values))
    return np.sqrt(weight @ second - (weight @ first) ** 2)


@pytest.mark.slow
def test_linear_response_of_many_rows_has_the_sds_of_all_sets():
    """Where it is sure which predictors are on, the posterior is all but normal.

    Off by a share 1/N: 1 % at 100 rows, 0.5 % at 200. A switch that is on with the odds
    exp(300) to 1 has no variance for q to respond with, which is not a flat direction.
    """
    random = np.random.default_rng(1)
    x = random.normal(size=(500, 3))
    x[:, 1] += x[:, 0]
    data = {"x": x, "y": random.normal(x @ [1.0, -0.7, 0.0])}
    linear, under_q, q = responded(OWN, data)
    assert np.asarray(q["w"].log_odds()[:2]).min() > 300
    true = sds_of(OWN, **data)
    np.testing.assert_allclose(linear, true, rtol=3e-3)
    assert max(under_q[:2] / true[:2]) < 0.75  # w_1 and w_2 are correlated


@pytest.mark.slow
def test_linear_response_corrects_nothing_where_q_is_exact(random):
    own = known_noise(OWN, 0.9)
    x, _ = np.linalg.qr(random.normal(size=(8, 3)))
    data = {"x": 3 * x, "y": random.normal(size=8) * 2}
    linear, under_q, q = responded(own, data)
    exact = np.sqrt(q["w"].distribution().variance)
    np.testing.assert_allclose(linear[:3], exact, rtol=1e-6)
    np.testing.assert_allclose(under_q[:3], exact, rtol=1e-9)


def test_some_starts_have_no_predictor():
    """One row, three predictors of size 1e6: with none of them it is explained best."""
    own = SparseRegression()
    x = 1e6 * np.random.default_rng(0).normal(size=(1, 3))
    _, bound = fit(own, {"x": x, "y": np.array([1.3])}, jax.random.key(0))
    # no predictor: a Student t row, and the prior probability of none
    rows = student(2 * own.c, scale=(own.d / own.c) ** 0.5).logpdf(1.3)
    assert bound > rows + 3 * np.log1p(-own.pi) - 0.5
