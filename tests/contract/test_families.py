"""What must hold for every family, whatever it is, and every prior on the weights."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.infer.util import potential_energy

from tests.compiled import ascent, call, draw
from tests.contract.cases import CASES, WEIGHTS, log_assignment, log_evidence
from tests.marks import slow_but
from vi_bench.data.table import Table, feature_names
from vi_bench.inference.squarem import NOT_FINITE
from vi_bench.mixture.mixture import Factors, bind
from vi_bench.mixture.numpyro_model import (
    constrain,
    marginal_model,
    prior_factors,
    unconstrain,
)
from vi_bench.mixture.weights import StickBreaking, log_stick_breaking

FEW = ("gaussian-full", "gaussian-semiconjugate-shared", "categorical")
"""Families that share no code; what takes long is tried on them in the quick suite."""

ONE = ("categorical",)
"""What takes longest, on this."""

CONJUGATE = tuple(name for name, case in CASES.items() if case.exact)


def crossed(names, quick, priors=tuple(WEIGHTS)):
    """Families under every prior; in the quick suite some, under one each, in turn."""
    return pytest.mark.parametrize(
        ("name", "weights"),
        [
            pytest.param(
                name,
                WEIGHTS[prior],
                id=f"{name}-{prior}",
                marks=()
                if name in quick and i % len(priors) == j
                else pytest.mark.slow,
            )
            for i, name in enumerate(names)
            for j, prior in enumerate(priors)
        ],
    )


every_family = pytest.mark.parametrize("name", CASES)
conjugate = pytest.mark.parametrize("name", CONJUGATE)
few_in_the_quick_suite = pytest.mark.parametrize("name", slow_but(FEW, CASES))
one_in_the_quick_suite = pytest.mark.parametrize("name", slow_but(ONE, CASES))


def mixture_of(name, x, K, weights=None, dtype=jnp.float64):
    family = CASES[name].family
    table = Table(name, x, feature_names(x.shape[1]))
    if len(x):
        family.check(table)
        family = family.complete(x, K)
    elif name == "multinomial":
        family = family.complete(np.ones((1, x.shape[1])), K)
    return bind(family, x, K, dtype, weights)


def rows(name, n, seed=5):
    return CASES[name].rows(np.random.default_rng(seed), n)


@jax.jit
def climb(mixture, q):
    """Forty plain sweeps: the bounds, the last factors."""

    def sweep(q, _):
        bound, q = mixture.step(q)
        return q, bound

    q, bounds = jax.lax.scan(sweep, q, None, length=40)
    return bounds, q


def some_factors(mixture, seed=0):
    """Factors that rows could have led to."""
    phi = np.random.default_rng(seed).dirichlet(
        np.ones(mixture.components), mixture.rows
    )
    return call(mixture, "from_responsibilities", phi)


@jax.jit
def free_centre(mixture, q):
    return unconstrain(mixture, mixture.centre(q))


def random_free(mixture, seed=1):
    """Unconstrained parameters around a place that the rows support."""
    random = np.random.default_rng(seed)
    centre = free_centre(mixture, some_factors(mixture))
    return jax.tree.map(
        lambda v: np.asarray(v) + 0.3 * random.normal(size=v.shape), centre
    )


@jax.jit
def at_the_centre(mixture, q):
    """Log p(x, theta) - log q(theta) at a central theta."""
    theta = mixture.centre(q)
    return mixture.log_joint(theta) - mixture.log_q(theta, q)


@crossed(CONJUGATE, FEW)
def test_one_component_is_exact(name, weights):
    x = rows(name, 30)
    mixture = mixture_of(name, x, 1, weights)
    bounds, q = climb(mixture, mixture.prior())
    exact = CASES[name].log_blocks([x])
    np.testing.assert_allclose(bounds[-1], exact, rtol=1e-9)
    # so q is the posterior: log p(x, theta) - log q(theta) is log p(x) everywhere
    np.testing.assert_allclose(at_the_centre(mixture, q), exact, rtol=1e-9)


@jax.jit
def bound_given(mixture, phi):
    """The bound for responsibilities after the M-step, which is made until it stays."""
    t = mixture.family.statistics(mixture.data().T)
    q, expected = mixture.update(mixture.prior(), (t @ phi).T)
    # inner coordinate steps, where there are any
    q = jax.lax.fori_loop(0, 60, lambda _, q: mixture.update(q, expected)[0], q)
    view = mixture.view(q)
    return mixture.log_base + jnp.sum(view.coefficients * expected) - view.kl


@crossed(CASES, FEW)
def test_known_assignments_are_exact(name, weights):
    """With phi given, the bound after the M-step is log p(X, c); mean field is exact.

    Not where mean and variance are apart in q: there the bound must be below.
    """
    if isinstance(weights, StickBreaking):
        weights = replace(weights, reorder=False)
    x = rows(name, 12)
    mixture = mixture_of(name, x, 3, weights)
    labels = np.random.default_rng(0).integers(3, size=12)
    bound = bound_given(mixture, np.eye(3)[labels])
    blocks = [x[labels == k] for k in range(3)]
    exact = CASES[name].log_blocks(blocks) + log_assignment(labels, 3, weights)
    if CASES[name].exact:
        np.testing.assert_allclose(bound, exact, rtol=1e-9)
    else:
        assert exact - 2.0 < bound < exact


@crossed(CASES, FEW)
def test_no_rows_give_the_prior_and_elbo_zero(name, weights):
    mixture = mixture_of(name, rows(name, 5)[:0], 3, weights)

    @jax.jit
    def step(mixture):
        prior = mixture.prior()
        return prior, *mixture.step(prior)

    prior, bound, following = step(mixture)
    assert abs(float(bound)) < 1e-12
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), prior, following
    )


@conjugate
def test_the_moments_are_the_gradient_of_the_log_normaliser(name):
    mixture = mixture_of(name, rows(name, 16), 3)

    @jax.jit
    def both(lam):
        gradient = jax.vmap(jax.grad(mixture.family.log_normaliser))(lam)
        return gradient, mixture.family.moments(lam)

    gradient, moments = both(some_factors(mixture).components)
    np.testing.assert_allclose(gradient, moments, rtol=1e-9, atol=1e-12)


@one_in_the_quick_suite
def test_the_bound_is_stationary_at_the_answer(name):
    """Its gradient by autodiff, times what it is taken in, is zero."""
    weights = WEIGHTS["dirichlet"]
    mixture = mixture_of(name, rows(name, 25), 2, weights)
    q = call(mixture, "from_responsibilities", np.eye(2)[np.arange(25) % 2] * 0.8 + 0.1)
    for _ in range(30):
        bounds, q = climb(mixture, q)
        if abs(float(bounds[-1] - bounds[0])) < 1e-13 * abs(float(bounds[-1])):
            break
    gradient = jax.jit(jax.grad(lambda q, m: m.step(q)[0]))(q, mixture)
    size = jax.tree.map(
        lambda g, v: np.max(np.abs(np.asarray(g) * v), initial=0), gradient, q
    )
    assert max(jax.tree.leaves(size)) < 1e-4


DRAWS = 40_000
"""Of one shape wherever there are many, so that one program makes them."""


@jax.jit
def gap_at(mixture, theta, q):
    """Log q(theta) - log p(theta) of draws."""
    return mixture.log_q(theta, q) - jax.vmap(mixture.log_prior)(theta)


@crossed(CASES, ("poisson",))
def test_kl_equals_its_monte_carlo_estimate(name, weights):
    """A z-test at 5 standard errors: false alarm 6e-7 each."""
    mixture = mixture_of(name, rows(name, 16), 3, weights)
    q = some_factors(mixture)
    theta = draw(jax.random.key(2), mixture, q, (DRAWS,))
    gap = np.asarray(gap_at(mixture, theta, q))
    error = gap.std(ddof=1) / np.sqrt(DRAWS)
    z = (gap.mean() - call(mixture, "view", q).kl) / error
    assert error < 0.2
    assert abs(z) < 5


@few_in_the_quick_suite
def test_the_natural_density_is_numpyros(name):
    """Log q in natural form equals NumPyro's density of the usual parameters."""
    mixture = mixture_of(name, rows(name, 16), 3, WEIGHTS["dirichlet"])

    @jax.jit
    def both(q):
        family = mixture.family
        theta = mixture.draw(jax.random.key(3), q, ())
        total, seen = 0.0, {}
        for parameter, factor in family.factors(family.describe(q.components)).items():
            known = factor(seen) if not hasattr(factor, "log_prob") else factor
            total += jnp.sum(known.log_prob(theta[parameter]))
            seen[parameter] = theta[parameter]
        return family.log_q(theta, q.components), total

    np.testing.assert_allclose(*both(some_factors(mixture)), rtol=1e-9)


@every_family
def test_the_prior_is_what_its_hyperparameters_say(name):
    mixture = mixture_of(name, rows(name, 16), 3)
    described = mixture.family.describe(mixture.family.prior(3))
    for key, value in mixture.family.hyperparameters().items():
        got = described[key]
        np.testing.assert_allclose(got, jnp.broadcast_to(value, got.shape), rtol=1e-12)


@crossed(CASES, FEW, ("dirichlet", "uniform", "stick-breaking"))
def test_numpyros_density_equals_the_passes(name, weights):
    """In the constrained and the unconstrained space, Jacobians included; gradients."""
    mixture = mixture_of(name, rows(name, 16), 3, weights)

    def ours(free):
        theta, log_jacobian = constrain(mixture, free)
        return mixture.log_joint(theta) + log_jacobian

    def numpyros(free):
        return -potential_energy(marginal_model, (mixture,), {}, free)

    @jax.jit
    def both(free):
        return [jax.value_and_grad(density)(free) for density in (ours, numpyros)]

    for seed in range(5):
        (mine, gradient), (theirs, other) = both(random_free(mixture, seed))
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7),
            gradient,
            other,
        )


@crossed(CASES, FEW)
def test_the_elbo_is_below_the_exact_evidence(name, weights):
    x = rows(name, 6, seed=11)
    K = 2
    mixture = mixture_of(name, x, K, weights)
    exact = log_evidence(x, K, CASES[name], weights)
    best = -np.inf
    together = call(mixture, "from_responsibilities", np.ones((6, 1)) * [1.0, 0.0])
    for start in [together, *(some_factors(mixture, seed) for seed in range(5))]:
        bounds, _ = climb(mixture, start)
        assert np.all(bounds <= exact + 1e-9 * abs(exact))
        best = max(best, float(bounds[-1]))
    assert best > exact - 6  # and no empty bound


@crossed(CASES, ("poisson",), ("dirichlet", "stick-breaking"))
def test_a_mixture_of_its_own_rows_predicts_as_it_was_enumerated(name, weights):
    """Sequentially: log p(x_1..x_n) by draws from the prior, against enumeration.

    A z-test at 5 standard errors of exp(log_density) averaged over prior draws.
    """
    x = rows(name, 1, seed=4)
    mixture = mixture_of(name, rows(name, 16), 3, weights)
    centre = (
        np.zeros(x.shape[1]) if not mixture.family.centred else rows(name, 16).mean(0)
    )
    theta = draw(jax.random.key(5), mixture, call(mixture, "prior"), (DRAWS,))
    density = np.exp(call(mixture, "log_density", theta, x - centre))[:, 0]
    exact = np.exp(log_evidence(x, 3, CASES[name], weights))
    error = density.std(ddof=1) / np.sqrt(DRAWS)
    assert error < 0.1 * exact
    assert abs(density.mean() - exact) < 5 * error


@one_in_the_quick_suite
def test_simulated_rows_are_of_the_families_kind(name):
    mixture = mixture_of(name, rows(name, 16), 3, WEIGHTS["dirichlet"])
    simulate = jax.jit(mixture.simulate, static_argnums=1)
    x, labels = simulate(jax.random.key(0), 500)
    assert x.shape == (500, mixture.features)
    assert set(np.asarray(labels)) <= {0, 1, 2}
    if not mixture.family.centred:
        family = CASES[name].family
        if name == "categorical":
            assert np.asarray(x).max(axis=0).tolist() <= [2, 1]
        family.check(
            Table("simulated", np.asarray(x, float), feature_names(x.shape[1]))
        )
    theta = call(mixture, "centre", some_factors(mixture))
    x, labels = simulate(jax.random.key(1), 20_000, theta)
    where = mixture.family.location(theta)
    if where is not None:  # means of 20 000 rows, 5 standard errors
        for k in range(3):
            mine = np.asarray(x)[np.asarray(labels) == k]
            error = mine.std(axis=0) / np.sqrt(len(mine))
            assert np.all(np.abs(mine.mean(axis=0) - where[k]) < 5 * error)


@crossed(CASES, ("poisson",))
def test_the_trace_never_falls(name, weights):
    """50 random data sets, one compiled program; most extrapolations are accepted."""
    taken = []

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 10))
    def check(seed, spread):
        x = rows(name, 16, seed)
        if name.startswith("gaussian") or name == "exponential":
            x = x * spread
        mixture = mixture_of(name, x, 3, weights)
        phi = np.random.default_rng(seed).dirichlet(np.ones(3), 16)
        done = ascent(mixture, phi, 60, 1e-12)
        trace = np.asarray(done.trace)
        trace = trace[np.isfinite(trace)]
        slack = 256 * np.finfo(float).eps * np.abs(trace).max()
        assert np.all(np.diff(trace) >= -slack)
        assert int(done.status) != NOT_FINITE
        taken.append(int(done.extrapolations))

    check()
    assert sum(taken) > 50


@few_in_the_quick_suite
def test_a_permuted_mixture_is_the_same(name):
    mixture = mixture_of(name, rows(name, 16), 3, WEIGHTS["uniform"])
    q = some_factors(mixture)

    def permuted(mixture, q):
        order = jnp.array([2, 0, 1])
        return Factors(mixture.family.permute(q.components, order), q.sticks)

    @jax.jit
    def both(mixture, q):
        pair = jax.tree.map(lambda *v: jnp.stack(v), q, permuted(mixture, q))
        bounds, following = jax.vmap(mixture.step)(pair)
        one, other = (jax.tree.map(lambda v, i=i: v[i], following) for i in (0, 1))
        return bounds, permuted(mixture, one).components, other.components

    bounds, expected, after = both(mixture, q)
    np.testing.assert_allclose(*bounds, rtol=1e-13)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        expected,
        after,
    )


def test_numpyros_dirichlet_is_the_sticks(random):
    """The sticks' density and Jacobian against NumPyro's own Dirichlet and simplex."""
    import numpyro.distributions as dist
    from numpyro.distributions import biject_to

    from vi_bench.mixture.weights import STICK, Dirichlet, log_density

    K, alpha = 4, 0.7
    simplex = dist.Dirichlet(jnp.full(K, alpha))
    bijection = biject_to(simplex.support)
    for _ in range(5):
        t = jnp.asarray(random.normal(size=K - 1))
        u, stretch = jnp.sinh(t), jnp.sum(jnp.log(jnp.cosh(t)))
        ours = log_density({STICK: t}, Dirichlet(alpha).prior(K)) - stretch
        shifted = u + jnp.log(jnp.arange(K - 1, 0, -1))  # NumPyro's balanced mapping
        w = bijection(shifted)
        log_w = log_stick_breaking(jax.nn.log_sigmoid(u), jax.nn.log_sigmoid(-u))
        np.testing.assert_allclose(jnp.exp(log_w), w, rtol=1e-12)
        theirs = simplex.log_prob(w) + bijection.log_abs_det_jacobian(shifted, w)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_factors_of_the_prior_are_all_sampled():
    mixture = mixture_of("gaussian", rows("gaussian", 9), 3, WEIGHTS["dirichlet"])
    assert set(prior_factors(mixture)) == {"mu", "stick"}
