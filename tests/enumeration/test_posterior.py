"""Exact posteriors against enumeration by NumPy and SciPy, quadrature, identities."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp, polygamma, psi

from tests.contract.cases import CASES, WEIGHTS, log_assignment, log_evidence
from tests.marks import slow, slow_but
from vi_bench.enumeration import convolution, subsets
from vi_bench.enumeration.convolution import log_convolve
from vi_bench.enumeration.lattice import (
    Grid,
    count_sets,
    enumerate_lattice,
    find_grid,
)
from vi_bench.enumeration.posterior import pick
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.errors import NotApplicable
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.weights import Dirichlet, Uniform
from vi_bench.models.bernoulli import Bernoulli
from vi_bench.models.categorical import Categorical
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_full import GaussianFull
from vi_bench.models.gaussian_spherical import GaussianSpherical
from vi_bench.models.poisson import Poisson

enumerated = jax.jit(enumerate_subsets)
on_lattice = jax.jit(enumerate_lattice, static_argnums=1)
density = jax.jit(
    lambda posterior, name, index, grid: posterior.density(name, index, grid),
    static_argnums=(1, 2),
)
density_by_draws = jax.jit(
    lambda posterior, *arguments: posterior.density_by_draws(*arguments),
    static_argnums=(2, 3, 5),
)


def mixture_of(family, x, K, weights=None):
    return bind(family.complete(x, K), x, K, jnp.float64, weights)


def brute(x, K, log_block, weights):
    """All assignments (K^N, N), log p(c, X), and for each component its rows."""
    labels = np.array(list(product(range(K), repeat=len(x))))
    known = {}

    def block(c, k):
        rows = tuple(np.flatnonzero(c == k))
        if rows not in known:
            known[rows] = log_block(x[list(rows)])
        return known[rows]

    log_joint = np.array(
        [
            log_assignment(c, K, weights) + sum(block(c, k) for k in range(K))
            for c in labels
        ]
    )
    return labels, log_joint


def total_variance(p, mean, variance):
    """Mean and variance of a mixture with weights p over the first axis."""
    centre = p @ mean
    return centre, p @ variance + p @ (mean - centre) ** 2


def gauss_legendre(*parts):
    """Nodes and weights on intervals, each (number of nodes, from, to)."""
    nodes, weights = [], []
    for number, low, high in parts:
        node, weight = np.polynomial.legendre.leggauss(number)
        nodes.append((low + high + (high - low) * node) / 2)
        weights.append((high - low) / 2 * weight)
    return np.concatenate(nodes), np.concatenate(weights)


@pytest.mark.parametrize(
    ("name", "weights"),
    [slow(name, "dirichlet") for name, case in CASES.items() if case.exact]
    + [(name, "uniform") for name in ("gaussian", "gaussian-full", "poisson")]
    + [("bernoulli", "sparse"), ("categorical", "dirichlet")],
)
def test_the_evidence_is_the_sum_over_all_assignments(name, weights):
    weights = WEIGHTS[weights]
    x = CASES[name].rows(np.random.default_rng(5), 5)
    exact = log_evidence(x, 3, CASES[name], weights)
    found = enumerated(mixture_of(CASES[name].family, x, 3, weights)).log_evidence
    np.testing.assert_allclose(found, exact, rtol=1e-10)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_one_component_two_and_more_than_there_are_rows(K):
    case, weights = CASES["poisson"], Dirichlet(1e-3)
    x = case.rows(np.random.default_rng(2), 3)
    posterior = enumerated(mixture_of(case.family, x, K, weights))
    exact = log_evidence(x, K, case, weights)
    np.testing.assert_allclose(posterior.log_evidence, exact, rtol=1e-12)
    assert posterior.occupancy.shape == (K + 1,)
    occupancy = np.asarray(posterior.occupancy)
    np.testing.assert_allclose(occupancy.sum(), 1, rtol=1e-12)
    np.testing.assert_array_equal(occupancy[min(K, 3) + 1 :], 0)
    if K == 1:
        np.testing.assert_allclose(posterior.log_evidence, case.log_blocks([x]))
        np.testing.assert_allclose(posterior.co_clustering(), 1)


def test_without_rows_the_posterior_is_the_prior():
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), np.zeros((0, 1)), 3, jnp.float64)
    posterior = enumerated(mixture)
    assert posterior.log_evidence == 0
    np.testing.assert_array_equal(posterior.occupancy, [1, 0, 0, 0])
    draws = jax.jit(lambda posterior, key: posterior.draw(key, (5,)))
    assert draws(posterior, jax.random.key(0))["mu"].shape == (5, 3, 1)


GAUSS = np.array([[-1.4, 0.3], [-0.9, -0.8], [0.2, 1.1], [1.0, 0.4], [1.7, -0.6]])


@pytest.fixture(scope="module")
def gaussian():
    """K = 3 under Dirichlet weights: mixture, posterior, assignments, their law."""
    family, weights = Gaussian(sigma=1.7, variance=0.6, mean=0.4), Dirichlet(0.7)
    labels, log_joint = brute(
        GAUSS, 3, lambda rows: CASES["gaussian"].log_blocks([rows]), weights
    )
    mixture = mixture_of(family, GAUSS, 3, weights)
    p = np.exp(log_joint - logsumexp(log_joint))
    return mixture, enumerated(mixture), labels, p


def mean_of_blocks(labels, K):
    """Posterior mean (K^N, K, d) and variance (K^N, K) of mu given an assignment."""
    own = (labels[:, None] == np.arange(K)[:, None]).astype(float)
    c = 0.6 / 1.7**2 + own.sum(axis=2)
    h = 0.6 / 1.7**2 * 0.4 + own @ GAUSS
    return h / c[..., None], 0.6 / c


def test_who_belongs_together_and_how_many_components_have_rows(gaussian):
    _, posterior, labels, p = gaussian
    same = labels[:, :, None] == labels[:, None]
    exact = np.einsum("a,aij->ij", p, same)
    np.testing.assert_allclose(posterior.co_clustering(), exact, rtol=1e-10)
    number = [len(set(c)) for c in labels.tolist()]
    exact = np.bincount(number, p, minlength=4)
    np.testing.assert_allclose(posterior.occupancy, exact, rtol=1e-10)


def test_the_law_of_one_components_rows(gaussian):
    _, posterior, labels, p = gaussian
    sets = (labels == 0) @ (1 << np.arange(5))
    exact = np.bincount(sets, p, minlength=32)
    found = np.exp(posterior.log_weight).ravel()
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_mean_and_variance_of_sums_over_components(gaussian):
    mixture, posterior, labels, p = gaussian
    m, s2 = mean_of_blocks(labels, 3)

    def of_mu(lam):
        q = mixture.family.standard(lam)
        m = q["m"] + GAUSS.mean(axis=0)  # the data are centred
        return m, jnp.broadcast_to(q["s2"][:, None], m.shape)

    found = posterior.moments(*posterior.over_states(of_mu))
    mean, variance = total_variance(p, m.sum(axis=1), s2.sum(axis=1)[:, None])
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-10)

    def of_square(lam):
        m, s2 = of_mu(lam)
        return m**2 + s2, 2 * s2**2 + 4 * m**2 * s2

    found = posterior.moments(*posterior.over_states(of_square))
    square = np.sum(m**2 + s2[..., None], axis=1)
    spread = np.sum(2 * s2[..., None] ** 2 + 4 * m**2 * s2[..., None], axis=1)
    mean, variance = total_variance(p, square, spread)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-10)


def test_by_default_the_moments_are_those_of_the_natural_statistics():
    """Poisson: log rate and -rate, whose Gammas' moments SciPy knows."""
    case, K = CASES["poisson"], 4
    x = case.rows(np.random.default_rng(7), 4)
    labels, log_joint = brute(x, K, lambda rows: case.log_blocks([rows]), Uniform())
    p = np.exp(log_joint - logsumexp(log_joint))
    own = (labels[:, None] == np.arange(K)[:, None]).astype(float)
    a = np.array([1.5, 0.7]) + own @ x
    b = 0.4 + own.sum(axis=2)[..., None]
    log_rate = total_variance(
        p, (psi(a) - np.log(b)).sum(axis=1), polygamma(1, a).sum(axis=1)
    )
    rate = total_variance(
        p, -(a / b).sum(axis=2).sum(axis=1), (a / b**2).sum(axis=2).sum(axis=1)
    )
    found = enumerated(mixture_of(case.family, x, K)).moments()
    for i in range(2):
        exact = np.append(log_rate[i], rate[i])
        np.testing.assert_allclose(found[i], exact, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        slow("gaussian-full", "uniform"),
        ("bernoulli", "dirichlet"),
        slow("poisson", "sparse"),
    ],
)
def test_the_predictive_density_is_a_ratio_of_evidences(name, weights):
    """Log p(x* | X) = log p(X, x*) - log p(X)."""
    case, weights = CASES[name], WEIGHTS[weights]
    x = case.rows(np.random.default_rng(3), 5)
    family = case.family.complete(x, 3)
    centre = x[:-1].mean(axis=0) if family.centred else 0.0
    before = enumerated(mixture_of(family, x[:-1], 3, weights))
    after = enumerated(mixture_of(family, x, 3, weights))
    found = before.log_predictive(jnp.asarray(x[-1:] - centre))
    exact = after.log_evidence - before.log_evidence
    np.testing.assert_allclose(found, exact[None], rtol=1e-10)


def test_the_predictive_density_integrates_to_one():
    x = np.array([0.0, 1.0, 2.0, 7.0])[:, None]
    posterior = enumerated(mixture_of(Poisson(), x, 3, Dirichlet(0.5)))
    counts = jnp.arange(400.0)[:, None]
    total = np.exp(logsumexp(posterior.log_predictive(counts)))
    np.testing.assert_allclose(total, 1, rtol=1e-10)


def test_marginal_densities_integrate_to_one_and_have_the_moments_mean(gaussian):
    mixture, posterior, _, _ = gaussian
    grid, step = np.linspace(-25, 25, 4001, retstep=True)
    found = density(posterior, "mu", (1,), jnp.asarray(grid))
    np.testing.assert_allclose(found.sum() * step, 1, rtol=1e-10)
    q = posterior.over_states(mixture.family.standard)
    mean = posterior.moments(q["m"], jnp.zeros_like(q["m"])).mean / 3
    np.testing.assert_allclose((found * grid).sum() * step, mean[1], rtol=1e-10)


def test_a_probability_of_a_category_has_a_marginal_density():
    x = np.array([0.0, 0, 1, 2, 2])[:, None]
    family = Categorical(concentration=2.0, levels=(3,))
    posterior = enumerated(mixture_of(family, x, 2))
    grid, weight = gauss_legendre((60, 0, 1))
    name = next(iter(family.dims))
    found = density(posterior, name, (2,), jnp.asarray(grid))
    np.testing.assert_allclose(found @ weight, 1, rtol=1e-10)


@pytest.mark.slow
def test_the_density_of_what_is_drawn_given_another_parameter():
    """4 z-tests at 5 errors of 4000 independent draws: false alarm 2e-6.

    The mean of a spherical Gaussian has, given its rows, Student's t density.
    """
    x = GAUSS[:, :1]
    family = GaussianSpherical(mean=0.0, kappa=0.5, shape=3.0, rate=1.0)
    mixture = mixture_of(family, x, 2)
    posterior = enumerated(mixture)
    with pytest.raises(NotApplicable, match="mu is drawn given other parameters"):
        density(posterior, "mu", (0,), jnp.zeros(1))
    grid = np.array([-1.5, -0.3, 0.4, 2.0])
    found, error = density_by_draws(
        posterior, jax.random.key(1), "mu", (0,), jnp.asarray(grid), 4000
    )
    q = jax.tree.map(np.ravel, posterior.over_states(mixture.family.standard))
    scale = np.sqrt(q["b"] / (q["a"] * q["kappa"]))
    each = stats.t.pdf(grid[:, None], 2 * q["a"], q["m"], scale)
    exact = each @ np.exp(posterior.log_weight).ravel()
    assert np.all(error < 0.05 * exact)
    assert np.all(np.abs(found - exact) < 5 * error)
    precision = jnp.linspace(1e-9, 60, 20001)
    found = density(posterior, "precision", (), precision)
    np.testing.assert_allclose(np.trapezoid(found, precision), 1, rtol=1e-6)


@pytest.mark.slow
def test_a_matrix_has_no_density_of_one_coordinate():
    posterior = enumerated(mixture_of(GaussianFull(), GAUSS, 2))
    with pytest.raises(NotApplicable, match="precision has no density"):
        density(posterior, "precision", (0, 0), jnp.ones(1))
    grid, step = np.linspace(-200, 200, 4001, retstep=True)
    found, _ = density_by_draws(
        posterior, jax.random.key(1), "mu", (1,), jnp.asarray(grid), 100
    )
    np.testing.assert_allclose(found.sum() * step, 1, rtol=1e-3)


def z(draws, exact):
    """Deviations of means over independent draws, in standard errors."""
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    return (draws.mean(axis=0) - exact) / np.where(error > 0, error, 1)


def test_draws_have_the_exact_moments(gaussian):
    """22 z-tests at 5 standard errors, draws independent: false alarm 1.3e-5."""
    mixture, posterior, labels, p = gaussian
    draws = jax.jit(lambda key: posterior.draw(key, (2, 4000)))(jax.random.key(3))
    mu = np.asarray(draws["mu"]).reshape(8000, 3, 2) + GAUSS.mean(axis=0)
    m, s2 = mean_of_blocks(labels, 3)
    own = labels[:, None] == np.arange(3)[:, None]
    n = own.sum(axis=2)
    for found, exact in [
        (mu, p @ m.reshape(-1, 6)),
        (mu.sum(axis=1), p @ m.sum(axis=1)),
        (np.sum(mu**2, axis=(1, 2)), p @ np.sum(m**2 + s2[..., None], axis=(1, 2))),
        (mu.sum(axis=1).prod(axis=1), p @ m.sum(axis=1).prod(axis=1)),
    ]:
        assert np.all(np.abs(z(found.reshape(8000, -1), exact)) < 5)
    logs = mixture.weights.log_weights(draws, 3).reshape(8000, 3)
    weight = np.exp(np.asarray(logs))
    joined = (0.7 + n) / (3 * 0.7 + 5)
    again = joined * (0.7 + n + 1) / (3 * 0.7 + 6)
    assert np.all(np.abs(z(weight, p @ joined)) < 5)
    assert np.all(np.abs(z(weight**2, p @ again)) < 5)
    # a component's weight and its mean are drawn together
    both = np.einsum("ak,akd->ad", joined, m)
    assert np.all(np.abs(z(np.einsum("ak,akd->ad", weight, mu), p @ both)) < 5)


@pytest.mark.slow
def test_assignments_are_drawn_from_their_law(gaussian):
    """Chi-squared over all 3^5 assignments at 1e-5; 20 000 independent draws."""
    _, posterior, labels, p = gaussian
    drawn = np.asarray(posterior.assignments(jax.random.key(8), 20_000))
    np.testing.assert_array_equal(drawn.sum(axis=1), 1)
    codes = drawn.argmax(axis=1) @ 3 ** np.arange(5)[::-1]
    assert np.all(labels @ 3 ** np.arange(5)[::-1] == np.arange(243))
    seen = np.bincount(codes, minlength=243)
    expected = 20_000 * p
    common = expected > 5
    seen = np.append(seen[common], seen[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(seen, expected).pvalue > 1e-5


@pytest.mark.slow
def test_log_marginals_that_differ_by_thousands():
    """Rows 200 sds apart: joining them costs over 5000 nats."""
    x = np.array([-101.0, -100.0, -99.5, 99.0, 100.0, 101.5])[:, None]
    family = Gaussian(sigma=100.0, variance=1.0, mean=0.0)

    def block(rows):
        n, total = len(rows), rows.sum()
        if n == 0:
            return 0.0
        c = 1 / 100.0**2 + n
        size = -0.5 * n * np.log(2 * np.pi) - 0.5 * np.log(c * 100.0**2)
        return size - 0.5 * np.sum(rows**2) + 0.5 * total**2 / c

    @jax.jit
    def derived(posterior):
        predictive = posterior.log_predictive(jnp.array([[0.0], [1e3]]))
        drawn = posterior.assignments(jax.random.key(0), 50)
        return *posterior.moments(), predictive, drawn

    labels, log_joint = brute(x, 3, block, Uniform())
    exact = logsumexp(log_joint)
    assert np.ptp(log_joint) > 5000
    posterior = enumerated(mixture_of(family, x, 3))
    np.testing.assert_allclose(posterior.log_evidence, exact, rtol=1e-12)
    assert np.all(posterior.co_clustering()[:3, 3:] < 1e-300)
    number = [len(set(c)) for c in labels.tolist()]
    number = np.bincount(number, np.exp(log_joint - exact), minlength=4)
    np.testing.assert_allclose(posterior.occupancy, number, rtol=1e-9, atol=1e-300)
    *finite, drawn = derived(posterior)
    assert all(np.all(np.isfinite(v)) for v in finite)
    assert np.all(np.abs((drawn @ x)[drawn.any(axis=2)]) > 90)


@pytest.mark.slow
def test_cut_into_groups_or_not_is_the_same(monkeypatch):
    """The 3^N terms of more than BITS rows are summed in groups."""
    random = np.random.default_rng(4)
    f, g = 30 * random.normal(size=(2, 64))
    exact = [
        logsumexp([f[t] + g[s ^ t] for t in range(64) if t & s == t]) for s in range(64)
    ]
    x = random.normal(size=(6, 1))
    mixture = mixture_of(Gaussian(), x, 4)

    def facts(mixture):
        posterior = enumerate_subsets(mixture)
        weight = posterior.log_weight.ravel()
        predictive = posterior.log_predictive(jnp.array([[0.3], [-2.0]]))
        return weight, *posterior.moments(), predictive

    found = []
    for bits in (2, 6, 9):
        for module in (subsets, convolution):
            monkeypatch.setattr(module, "BITS", bits)
        convolved = log_convolve(jnp.asarray(f), jnp.asarray(g))
        np.testing.assert_allclose(convolved, exact, rtol=1e-13)
        # a new function: a traced one would keep the old BITS
        found.append(jax.jit(lambda mixture: facts(mixture))(mixture))
    for other in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), found[0], other
        )


def test_what_has_no_share_is_never_picked():
    share = jnp.array([0.0, 0.3, 0.0, 0.1, 0.0])
    levels = jnp.array([-1e-17, 0.0, 0.15, 0.3, 0.35, 0.4, 0.4 + 1e-16])
    chosen = [int(pick(level, share)[0]) for level in levels]
    assert chosen == [1, 1, 1, 3, 3, 3, 3]


LATTICES = {
    "poisson": (
        Poisson(shape=1.5, rate=0.4),
        np.r_[0, 3, 1, 5, 2, 0, 9, 7, 1, 1, 4, 2],
        Uniform(),
    ),
    "bernoulli": (
        Bernoulli(a=0.8, b=1.4),
        np.r_[0, 1, 1, 1, 0, 1, 0, 1, 1],
        Dirichlet(0.7),
    ),
    "gaussian": (
        Gaussian(sigma=2.0, variance=0.7, mean=0.3),
        np.r_[-1.35, 0.2, 2.65, 1.1, -0.75, 0.05, 3.1, -2.0, 0.0],
        Dirichlet(1e-3),
    ),
}


@pytest.mark.parametrize("name", slow_but(["poisson"], LATTICES))
def test_sums_over_statistics_are_sums_over_sets(name):
    family, x, weights = LATTICES[name]
    mixture = mixture_of(family, x[:, None].astype(float), 2, weights)
    grid = find_grid(np.asarray(mixture.statistics()))
    np.testing.assert_allclose(grid.spacing, 0.05 if name == "gaussian" else 1)
    parameter = next(iter(family.dims))

    @jax.jit
    def facts(posterior):
        return (
            posterior.log_evidence,
            posterior.occupancy,
            posterior.moments(),
            posterior.log_predictive(jnp.array([[0.0], [1.0]])),
            posterior.density(parameter, (0,), jnp.array([0.2, 0.8])),
        )

    of_both = facts(enumerated(mixture)), facts(on_lattice(mixture, grid))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), *of_both)


@pytest.mark.slow
def test_draws_on_a_lattice_have_the_exact_moments():
    """4 z-tests at 5 standard errors, draws independent: false alarm 2.3e-6."""
    x = np.random.default_rng(1).poisson(np.r_[[2.0] * 15, [6.0] * 10])[:, None]
    family = Poisson(shape=1.5, rate=0.4)
    mixture = mixture_of(family, x.astype(float), 2, Dirichlet(2.0))
    posterior = on_lattice(mixture, Grid(1.0, int((x - x.min()).sum())))
    theta = posterior.draw(jax.random.key(2), (4000,))
    found = mixture.family.natural(theta)
    exact = posterior.moments()
    each = np.asarray(found).sum(axis=1)
    assert np.all(np.abs(z(each, exact.mean)) < 5)
    square = (each - exact.mean) ** 2
    assert np.all(np.abs(z(square, exact.variance)) < 5)


@pytest.mark.parametrize("n", [50, slow(200)])
def test_hundreds_of_rows_against_quadrature(n):
    """Gauss-Legendre in both means; K = 2, sigma = 2, rows recorded to 0.05."""
    random = np.random.default_rng(n)
    x = random.normal(size=n) + np.where(random.uniform(size=n) < 0.4, -1.2, 1.2)
    x = np.rint(20 * x) / 20
    mu, weight = gauss_legendre((300, -8, 8))
    values, times = np.unique(x, return_counts=True)
    log_p = stats.norm.logpdf(values[:, None], mu) - np.log(2)
    log_likelihood = sum(
        number * np.logaddexp(row[:, None], row)
        for number, row in zip(times, log_p, strict=True)
    )
    prior = stats.norm.logpdf(mu, 0, 2) + np.log(weight)
    log_joint = log_likelihood + prior[:, None] + prior
    exact = logsumexp(log_joint)
    p = np.exp(log_joint - exact)
    mixture = mixture_of(Gaussian(sigma=2.0, mean=0.0), x[:, None], 2)
    grid = find_grid(np.asarray(mixture.statistics()))
    posterior = on_lattice(mixture, grid)
    np.testing.assert_allclose(posterior.log_evidence, exact, rtol=1e-11)
    total = mu[:, None] + mu
    mean = np.sum(p * total)
    variance = np.sum(p * (total - mean) ** 2)
    found = posterior.moments()
    np.testing.assert_allclose(found.mean[0] + 2 * x.mean(), mean, rtol=1e-9)
    np.testing.assert_allclose(found.variance[0], variance, rtol=1e-8)


@pytest.mark.slow
def test_poisson_rates_and_weights_against_quadrature():
    """Gauss-Legendre in the roots of both rates, and in the weight; 300 rows."""
    random = np.random.default_rng(9)
    x = random.poisson(np.where(random.uniform(size=300) < 0.3, 1.5, 6.0))
    root, size = gauss_legendre((240, 0, 4.5), (60, 4.5, 10))
    values, times = np.unique(x, return_counts=True)
    log_p = stats.poisson.logpmf(values[:, None], root**2)
    prior = stats.gamma.logpdf(root**2, 1, scale=5.0) + np.log(2 * root * size)
    terms = []
    for share, of_share in zip(*gauss_legendre((60, 0, 1)), strict=True):
        first, second = np.log(share), np.log1p(-share)
        log_likelihood = sum(
            number * np.logaddexp(first + row[:, None], second + row)
            for number, row in zip(times, log_p, strict=True)
        )
        log_joint = log_likelihood + prior[:, None] + prior
        terms.append(np.log(of_share) + logsumexp(log_joint))
    family, weights = Poisson(shape=1.0, rate=0.2), Dirichlet(1.0)
    mixture = mixture_of(family, x[:, None].astype(float), 2, weights)
    grid = find_grid(np.asarray(mixture.statistics()))
    found = on_lattice(mixture, grid).log_evidence
    np.testing.assert_allclose(found, logsumexp(terms), rtol=1e-12)


def test_sets_are_counted_by_number_and_sum():
    places = np.array([0, 3, 1, 1, 0, 2, 4])
    exact = np.zeros((8, 12))
    for chosen in product([0, 1], repeat=7):
        exact[sum(chosen), places @ chosen] += 1
    np.testing.assert_array_equal(count_sets(jnp.asarray(places), 11), exact)
    np.testing.assert_array_equal(
        count_sets(jnp.asarray(places[:6]), 7)[:, :8].sum(), 2**6
    )


def test_lattices_are_found():
    def found(u):
        return find_grid(np.array([u, np.ones_like(u)]))

    random = np.random.default_rng(0)
    counts = np.array([3.0, 5.0, 9.0])
    assert found(counts) == Grid(2.0, 4)
    assert found(counts + 0.123456789) == Grid(2.0, 4)
    assert found(1e6 * counts) == Grid(2e6, 4)
    fine = found(np.round(random.normal(size=50), 3) - 0.7123)
    np.testing.assert_allclose(fine.spacing, 0.001)
    assert found(np.full(4, 0.3)).total == 0
    assert found(random.normal(size=50)) is None
    assert find_grid(np.ones((3, 5))) is None
