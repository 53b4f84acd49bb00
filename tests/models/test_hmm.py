"""The hidden Markov model against sums over all paths and an independent fit."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import gammaln

from tests.zoo.models import hmm as zoo
from vi_bench.errors import InputError
from vi_bench.factors import base
from vi_bench.models.hmm import HMM
from vi_bench.posterior.cavi_posterior import CAVIPosterior

KINDS = {
    "gaussian": HMM(mean=1.0, kappa=0.3, a=2.5, b=1.5, first=1.5, switch=0.8, stay=3.0),
    "poisson": HMM(emission="poisson", a=4.0, b=1.0),
    "categorical": HMM(emission="categorical", categories=3, concentration=0.7),
}


@pytest.fixture(params=list(KINDS))
def own(request):
    return KINDS[request.param]


def rows(own, seed, number):
    return own.example(np.random.default_rng(seed), number)["y"]


def log_emissions(own, theta, y):
    """Log p(y_t | state k) by SciPy (T, K)."""
    if own.emission == "gaussian":
        each = stats.norm.logpdf(y[:, None], theta["mu"], theta["tau"] ** -0.5)
    elif own.emission == "poisson":
        each = stats.poisson.logpmf(y[:, None], theta["rate"])
    else:
        p = theta["probability"]
        each = np.log(p[:, np.arange(y.shape[1]), y]).swapaxes(0, 1)
    return each.sum(axis=2)


def log_prior(own, theta):
    k = own.states
    total = stats.dirichlet.logpdf(theta["initial"], np.full(k, own.first))
    for i, row in enumerate(theta["transition"]):
        alpha = np.full(k, own.switch)
        alpha[i] = own.stay
        total += stats.dirichlet.logpdf(row, alpha)
    if own.emission == "gaussian":
        tau, mu = theta["tau"], theta["mu"]
        total += stats.gamma.logpdf(tau, own.a, scale=1 / own.b).sum()
        total += stats.norm.logpdf(mu, own.mean, (own.kappa * tau) ** -0.5).sum()
    elif own.emission == "poisson":
        total += stats.gamma.logpdf(theta["rate"], own.a, scale=1 / own.b).sum()
    else:
        alpha = np.full(own.categories, own.concentration)
        for p in theta["probability"].reshape(-1, own.categories):
            total += stats.dirichlet.logpdf(p, alpha)
    return total


def path_weights(theta, each):
    """Log p(y, z | theta) of all paths."""
    first, moves = np.log(theta["initial"]), np.log(theta["transition"])
    return np.array(
        [
            first[z[0]]
            + sum(moves[a, b] for a, b in itertools.pairwise(z))
            + sum(each[t, k] for t, k in enumerate(z))
            for z in itertools.product(range(len(first)), repeat=len(each))
        ]
    )


def test_the_density_is_the_sum_over_all_paths(own):
    y = rows(own, 0, 6)
    posterior = CAVIPosterior.bound(own, {"y": y})
    draws = jax.jit(posterior.draw_prior, static_argnums=1)(jax.random.key(0), 100)
    joint = jax.jit(jax.vmap(posterior.log_joint))(draws)
    for i in range(100):
        theta = {name: np.asarray(v[i], float) for name, v in draws.items()}
        weights = path_weights(theta, log_emissions(own, theta, y))
        expected = np.logaddexp.reduce(weights) + log_prior(own, theta)
        np.testing.assert_allclose(joint[i], expected, rtol=1e-9)


@pytest.mark.slow
def test_the_bound_is_what_draws_of_q_say(own):
    """With the path as a variable of its own."""
    y = rows(own, 1, 12)

    @jax.jit
    def drawn(key):
        q = own.init(jax.random.key(3), own.statistics(y))
        for _ in range(4):
            q = own.sweep(own.statistics(y), q)
        entries = own.local_factors(own.statistics(y), q)

        def term(key):
            one, other = jax.random.split(key)
            theta = base.draw(one, q, ())
            z = entries["z"].sample(other)
            log_q = base.log_q(theta, q) + entries["z"].log_prob(z)
            return log_density(own.full, (y,), {}, theta | {"z": z})[0] - log_q

        # q(z) is that of the factors before the last update, as the bound has it
        q = own.local(own.statistics(y), q)
        entries = own.local_factors(own.statistics(y), q)
        terms = jax.vmap(term)(jax.random.split(key, 20_000))
        return own.bound(own.statistics(y), q), terms

    bound, terms = map(np.asarray, drawn(jax.random.key(0)))
    assert abs(terms.mean() - bound) < 5 * terms.std() / len(terms) ** 0.5


def log_evidence(own, y):
    """Log p(y): the sum over all paths, each with its parameters integrated out."""
    k, total = own.states, []

    def dirichlet(counts, alpha):
        both = gammaln(alpha + counts).sum() - gammaln((alpha + counts).sum())
        return both - gammaln(alpha).sum() + gammaln(alpha.sum())

    for z in itertools.product(range(k), repeat=len(y)):
        counts = np.zeros((k, k))
        for a, b in itertools.pairwise(z):
            counts[a, b] += 1
        value = dirichlet(np.eye(k)[z[0]], np.full(k, own.first))
        for i in range(k):
            alpha = np.full(k, own.switch)
            alpha[i] = own.stay
            value += dirichlet(counts[i], alpha)
            x = y[np.array(z) == i, 0]
            if own.emission == "poisson":
                a, b, n = own.a, own.b, len(x)
                value += a * np.log(b) - gammaln(a) + gammaln(a + x.sum())
                value -= (a + x.sum()) * np.log(b + n) + gammaln(x + 1).sum()
            elif own.emission == "categorical":
                shown = np.bincount(x, minlength=own.categories)
                value += dirichlet(shown, np.full(own.categories, own.concentration))
            elif len(x):
                scale = own.b / own.a * (np.eye(len(x)) + 1 / own.kappa)
                value += stats.multivariate_t.logpdf(
                    x, np.full(len(x), own.mean), scale, df=2 * own.a
                )
        total.append(value)
    return np.logaddexp.reduce(total)


@partial(jax.jit, static_argnums=(0, 3))
def ascended(own, y, key, number):
    s = own.statistics(y)
    q = jax.lax.fori_loop(0, number, lambda _, q: own.sweep(s, q), own.init(key, s))
    return q, own.bound(s, q)


@pytest.mark.slow
def test_the_bound_is_below_the_evidence(own):
    for seed in range(50):
        y = rows(own, seed, 7)
        bound = float(ascended(own, y, jax.random.key(seed), 40)[1])
        exact = log_evidence(own, y)
        assert bound <= exact + 1e-9 * abs(exact), seed
        assert bound > exact - 6, seed  # log 2 of labels, and some mean field


@pytest.mark.slow
def test_one_state_is_exact(own):
    one = replace(own, states=1)
    y = np.minimum(rows(own, 2, 9), 2)
    q, bound = ascended(one, y, jax.random.key(0), 2)
    np.testing.assert_allclose(bound, log_evidence(one, y), rtol=1e-10)
    assert np.all(np.asarray(q["z"].marginals) == 1)


@pytest.mark.slow
def test_it_ends_where_an_independent_fit_ends():
    """Counts, two states, the priors of the other fit."""
    data = zoo.data(3)
    own = HMM(emission="poisson", a=zoo.SHAPE, b=zoo.RATE, first=1.5, switch=1, stay=3)
    right = zoo.Right()
    right.tol = 1e-14
    fit = right(**data, seed=0)
    y = np.asarray(data["y"])[:, None]
    ends = [ascended(own, y, jax.random.key(k), 400) for k in range(5)]
    q, bound = max(ends, key=lambda end: float(end[1]))
    np.testing.assert_allclose(bound, fit["elbo"][-1], atol=1e-7)
    theirs = {name: fit["q"][name] for name in ("rate", "move")}
    own_rate, own_moves = q["rate"], q["transition"].concentration
    order = np.argsort(np.asarray(own_rate.mean())[:, 0])
    other = np.argsort(np.asarray(theirs["rate"].mean))
    np.testing.assert_allclose(
        np.asarray(own_rate.rate)[order, 0],
        np.asarray(theirs["rate"].rate)[other],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        np.asarray(own_moves)[np.ix_(order, order)],
        np.asarray(theirs["move"].concentration)[np.ix_(other, other)],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        ({"emission": "categorical", "categories": 2}, [[0], [2]], "2 at "),
        ({"emission": "poisson"}, [[1], [-3]], "-3 at "),
        ({"emission": "poisson"}, [[1.5], [3.0]], "1.5 at "),
    ],
)
def test_rows_that_no_state_can_emit_are_refused(settings, rows, said):
    with pytest.raises(InputError, match=said):
        CAVIPosterior.bound(HMM(**settings), {"y": np.array(rows)})
