"""Linear response: identities, and posteriors known by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.compiled import ascent, call
from tests.contract.cases import CASES, WEIGHTS
from tests.marks import slow
from vi_bench.comparison.quantities import Quantity
from vi_bench.inference import linear_response as response
from vi_bench.inference.linear_response import linear_response
from vi_bench.inference.squarem import RUNNING
from vi_bench.inference.starts import plus_plus_responsibilities
from vi_bench.mixture.mixture import Factors, bind
from vi_bench.mixture.weights import Dirichlet
from vi_bench.models.gaussian import Gaussian

responsibilities = jax.jit(plus_plus_responsibilities, static_argnums=2)


def fixed_point(mixture, seed=0, tol=1e-14):
    x = mixture.data()
    phi = responsibilities(jax.random.key(seed), x, mixture.components)
    end = ascent(mixture, phi, 20_000, tol)
    assert int(end.status) != RUNNING
    return end.point


def respond(family, x, K, weights=None):
    mixture = bind(family, x, K, jnp.float64, weights)
    q = fixed_point(mixture)
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    coordinates = family.coordinates(names)
    found = linear_response(mixture, q, coordinates)
    return mixture, q, found


def two_groups(n=400, half=1.5, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=n)
    return (np.where(labels, half, -half) + random.normal(size=n))[:, None]


def quadrature(x, sigma, nodes=901):
    """Sds and correlation of mu_1 < mu_2 (K = 2, d = 1), on a grid."""
    mu = np.linspace(x.min(), x.max(), nodes)
    terms = -0.5 * (x - mu) ** 2
    log_p = -0.5 * (mu[:, None] ** 2 + mu**2) / sigma**2
    for row in terms:
        log_p += np.logaddexp(row[:, None], row)
    p = np.exp(log_p - log_p.max()) * (mu[:, None] < mu)
    p /= p.sum()
    means = [p.sum(1) @ mu, p.sum(0) @ mu]
    gaps = [mu - means[0], mu - means[1]]
    sds = [np.sqrt(p.sum(1) @ gaps[0] ** 2), np.sqrt(p.sum(0) @ gaps[1] ** 2)]
    return np.array(sds), (gaps[0] @ p @ gaps[1]) / (sds[0] * sds[1])


@pytest.mark.slow
def test_two_overlapping_components_have_the_posteriors_sds_and_correlation():
    """Against quadrature: sds to 1 %, correlation to 0.005; mean field has neither."""
    x = two_groups()
    _, q, found = respond(Gaussian(sigma=3.0, mean=0.0), x, 2)
    truth, correlation = quadrature(x, 3.0)
    order = np.argsort(np.asarray(q.components)[:, 0])
    at = [found.labels.index(f"mu[x0] of component {k}") for k in order]
    block = found.covariance[np.ix_(at, at)]
    sds = np.sqrt(np.diagonal(block))
    np.testing.assert_allclose(sds, truth, rtol=0.01)
    assert abs(block[0, 1] / np.prod(sds) - correlation) < 0.005
    own = found.mean_field[np.ix_(at, at)]
    assert np.all(np.sqrt(np.diagonal(own)) < 0.9 * truth)
    assert abs(own[0, 1]) < 1e-15
    assert not found.overlapping
    assert not found.refused
    assert 0 < found.rate < 1


def test_the_notebooks_sum_of_means_is_right_and_its_components_are_flagged():
    """Against a Gibbs sampler's sds of sum_k mu_k, 0.1951 and 0.1959, to 2 %."""
    from vi_bench.data.load import load

    x = load("notebook").values
    _, _, found = respond(Gaussian(sigma=1.0, mean=0.0), x, 5)
    for j, truth in enumerate((0.1951, 0.1959)):
        label = f"mean mu[x{j}]"
        assert abs(5 * found.sd[label] / truth - 1) < 0.02
        assert 5 * found.mean_field_sd[label] < 0.85 * truth
    assert len(found.overlapping) >= 2
    mu = Quantity("mu", ("x0",))
    assert found.unreliable(mu.of(component=found.overlapping[0]))
    assert not found.unreliable(mu.of(statistic="mean"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gaussian-diagonal", "gaussian-semiconjugate-shared", "categorical"]
)
def test_it_equals_the_inverse_curvature_of_the_bound(name, random):
    """G (-Hessian)^-1 G^T of the bound with the responsibilities profiled out."""
    case = CASES[name]
    x = case.rows(random, 40)
    family = case.family
    mixture, q, found = respond(family, x, 2, Dirichlet(0.9))
    assert not found.refused
    eta, unravel = ravel_pytree(response._natural(mixture.family, q))

    def factors(eta):
        components, sticks = unravel(eta)
        return Factors(mixture.family.from_natural_parameters(components), sticks)

    def bound(eta):
        view = mixture.view(factors(eta))
        logits = view.coefficients @ mixture.statistics()
        return jnp.sum(jax.nn.logsumexp(logits, axis=0)) - view.kl

    def quantities(eta):
        names = tuple(f"x{j}" for j in range(x.shape[1]))
        kinds = response.quantities(mixture, factors(eta), family.coordinates(names))
        return jnp.concatenate([values for _, values in kinds])

    gradient = np.asarray(jax.jacfwd(quantities)(eta))
    curvature = -np.asarray(jax.hessian(bound)(eta))
    covariance = gradient @ np.linalg.lstsq(curvature, gradient.T, rcond=1e-12)[0]
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-7 * scale)


@pytest.mark.parametrize(
    "name", ["gaussian", slow("gaussian-full"), "poisson", slow("bernoulli")]
)
def test_one_component_needs_no_correction(name, random):
    """K = 1 is exact: J = 0, and linear response is mean field."""
    case = CASES[name]
    _, _, found = respond(case.family, case.rows(random, 12), 1)
    assert found.rate < 1e-12
    np.testing.assert_allclose(
        found.covariance, found.mean_field, rtol=1e-10, atol=1e-15
    )


def test_variances_of_one_component_are_qs_own(random):
    """Where the quantity is a statistic of q the delta method is exact."""
    case = CASES["gaussian"]
    mixture, q, found = respond(case.family, case.rows(random, 12), 1)
    s2 = float(call(mixture, "describe", q)["s2"][0])
    assert found.sd["mu[x0] of component 0"] == pytest.approx(np.sqrt(s2), rel=1e-12)


def test_it_refuses_what_is_no_fixed_point(random):
    x = two_groups(60)
    family = Gaussian(sigma=3.0, mean=0.0)
    mixture, q, _ = respond(family, x, 2)
    moved = q._replace(components=q.components * 1.01)
    found = linear_response(mixture, moved, family.coordinates(("x",)))
    assert "not at a fixed point" in found.refused
    assert not found.labels


def test_it_refuses_32_bits_and_what_is_too_large(monkeypatch):
    x = two_groups(60)
    family = Gaussian(sigma=3.0, mean=0.0)
    mixture, q, _ = respond(family, x, 2)
    coordinates = family.coordinates(("x",))
    single = bind(family, x, 2, jnp.float32)
    low = jax.tree.map(lambda v: v.astype(jnp.float32), q)
    refused = linear_response(single, low, coordinates).refused
    assert "64 bits" in refused
    monkeypatch.setattr(response, "LARGEST", 3)
    assert "4 natural" in linear_response(mixture, q, coordinates).refused


def test_a_saddle_is_refused():
    """Two components on one spot are a fixed point, and no optimum."""
    x = two_groups(60)
    mixture = bind(Gaussian(sigma=3.0, mean=0.0), x, 2, jnp.float64)
    q = call(mixture, "from_responsibilities", jnp.full((60, 2), 0.5))
    for _ in range(200):
        _, q = call(mixture, "step", q)
    coordinates = mixture.family.coordinates(("x",))
    found = linear_response(mixture, q, coordinates)
    assert "not a strict optimum" in found.refused


@pytest.mark.slow
def test_components_can_be_named_in_another_order():
    x = two_groups(60)
    _, _, found = respond(Gaussian(sigma=3.0, mean=0.0), x, 2, WEIGHTS["dirichlet"])
    swapped = found.reordered([1, 0])
    a, b = "mu[x0] of component 0", "mu[x0] of component 1"
    assert swapped.sd[a] == found.sd[b]
    assert swapped.sd["sum of squared weights"] == found.sd["sum of squared weights"]
    assert swapped.reordered([1, 0]).labels == found.labels
