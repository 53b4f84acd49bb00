"""Group effects: densities by SciPy, evidence and moments by quadrature."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from tests.models.response import responded
from tests.models.test_cavi_models import sweeps
from vi_bench.data.built_in import built_in
from vi_bench.models.hierarchical_normal import HierarchicalNormal
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = HierarchicalNormal(mean=1.0, sd=2.0, a=2.5, b=1.5)
HALF = HierarchicalNormal(sd=5.0, half_cauchy=5.0)


@pytest.mark.parametrize("own", [OWN, HALF])
def test_the_density_is_scipys(own, random):
    data = OWN.example(random, 6)
    y, sigma = data["y"], data["sigma"]
    draws = {
        "mu": random.normal(size=100),
        "tau": random.gamma(2.0, size=100),
        "theta": random.normal(size=(100, 6)),
    }
    expected = stats.norm.logpdf(draws["mu"], own.mean, own.sd)
    a, b = own.a, own.b
    if own is HALF:
        draws["rate"] = random.gamma(2.0, size=100)
        expected += stats.gamma.logpdf(draws["rate"], 0.5, scale=25.0)
        a, b = 0.5, draws["rate"]
    expected += stats.gamma.logpdf(draws["tau"], a, scale=1 / b)
    middle, sd = draws["mu"][:, None], draws["tau"][:, None] ** -0.5
    expected += stats.norm.logpdf(draws["theta"], middle, sd).sum(1)
    expected += stats.norm.logpdf(y, draws["theta"], sigma).sum(1)
    posterior = CAVIPosterior.bound(own, data)
    joint = jax.jit(jax.vmap(posterior.log_joint))(draws)
    np.testing.assert_allclose(joint, expected, rtol=1e-9)


@pytest.mark.slow
def test_the_scale_of_the_effects_is_half_cauchy():
    """The prior of Gamma(1/2, rate), the rate integrated out by draws."""
    random = np.random.default_rng(0)
    rate = random.gamma(0.5, 25.0, size=200_000)
    scale = random.gamma(0.5, 1 / rate) ** -0.5
    found = stats.kstest(scale, stats.halfcauchy(scale=5.0).cdf)
    assert found.pvalue > 1e-3  # the false-alarm rate, with this seed


def test_samplers_see_effects_in_units_of_their_spread(random):
    posterior = CAVIPosterior.bound(OWN, OWN.example(random, 6))
    free = jax.jit(posterior.point)(jax.random.key(0))
    theta, log_jacobian = posterior.constrain(free)
    back = posterior.unconstrain(theta)
    for name, value in free.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-10)
    moved = (theta["theta"] - theta["mu"]) * theta["tau"] ** 0.5
    np.testing.assert_allclose(moved, free["theta"], rtol=1e-10)

    def flat(values):
        made, _ = posterior.constrain(values)
        return np.concatenate([np.ravel(made[k]) for k in sorted(made)])

    names = sorted(free)
    start = np.concatenate([np.ravel(free[k]) for k in names])
    sizes = [np.size(free[k]) for k in names]

    def at(vector):
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        return {
            k: p.reshape(np.shape(free[k])) for k, p in zip(names, parts, strict=True)
        }

    step = 1e-6
    columns = [
        (flat(at(start + step * e)) - flat(at(start - step * e))) / (2 * step)
        for e in np.eye(len(start))
    ]
    _, expected = np.linalg.slogdet(np.stack(columns))
    np.testing.assert_allclose(log_jacobian, expected, rtol=1e-6)


def grid(own, y, sigma):
    """Log tau on a grid, log p(y, log tau), and E and Var of mu and theta given tau."""
    log_tau = np.linspace(-14, 14, 2801)
    values, moments = [], []
    groups = len(y)
    for tau in np.exp(log_tau):
        if own.half_cauchy is None:
            value = stats.gamma.logpdf(tau, own.a, scale=1 / own.b) + np.log(tau)
        else:  # of the scale tau^(-1/2)
            scale = tau**-0.5
            value = stats.halfcauchy.logpdf(scale, scale=own.half_cauchy)
            value += np.log(scale / 2)
        each = 1 / (sigma**2 + 1 / tau)
        precision = own.sd**-2 + each.sum()
        middle = (own.mean / own.sd**2 + (each * y).sum()) / precision
        value += stats.norm.logpdf(y, own.mean, each**-0.5).sum()
        shift = (each * (y - own.mean)).sum()
        value += -0.5 * np.log(precision * own.sd**2) + 0.5 * shift**2 / precision
        share = tau / (tau + sigma**-2)
        theta = share * middle + (1 - share) * y
        spread = 1 / (tau + sigma**-2) + share**2 / precision
        values.append(value)
        moments.append((middle, 1 / precision, theta, spread))
    assert groups == len(theta)
    return log_tau, np.array(values), moments


def moments_of(own, y, sigma):
    """Log p(y); mean and sd of mu, theta and log tau."""
    log_tau, values, parts = grid(own, y, sigma)
    total = logsumexp(values)
    weight = np.exp(values - total)
    middle, variance, theta, spread = (np.array(v) for v in zip(*parts, strict=True))

    def both(means, variances):
        mean = weight @ means
        return mean, np.sqrt(weight @ (variances + (means - mean) ** 2))

    found = {"mu": both(middle, variance), "theta": both(theta, spread)}
    found["log_tau"] = both(log_tau, 0 * log_tau)
    return total + np.log(log_tau[1] - log_tau[0]), found


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 6])
def test_the_bound_is_below_the_evidence(groups):
    gaps = []
    for seed in range(50):
        data = OWN.example(np.random.default_rng(seed), groups)
        bounds, _ = sweeps(OWN, data, jax.random.key(seed), 200)
        exact, _ = moments_of(OWN, data["y"], data["sigma"])
        assert bounds[-1] <= exact + 1e-6
        gaps.append(exact - bounds[-1])
    assert np.median(gaps) < 1.5  # it is no empty bound


@pytest.mark.slow
def test_linear_response_has_the_sds_of_quadrature():
    """Of many groups; q, whose effects do not move with their mean, is too narrow."""
    model = HierarchicalNormal(mean=1.0, sd=2.0, a=1000.0, b=1500.0)
    data = model.example(np.random.default_rng(3), 100)
    _, sds, own = responded(model, data, ("mu", "theta", "log_tau"))
    _, exact = moments_of(model, data["y"], data["sigma"])
    assert own["mu[0]"] < 0.8 * exact["mu"][1]
    np.testing.assert_allclose(sds["mu[0]"], exact["mu"][1], rtol=2e-3)
    np.testing.assert_allclose(sds["theta[0]"], exact["theta"][1][0], rtol=2e-3)
    np.testing.assert_allclose(sds["log_tau[0]"], exact["log_tau"][1], rtol=5e-3)


@pytest.mark.slow
def test_eight_schools_by_quadrature_are_those_of_posteriordb():
    """posteriordb, eight_schools-eight_schools_centered: mu 4.41 (sd 3.3), tau 3.6."""
    data = built_in("eight-schools").values
    _, exact = moments_of(HALF, data["y"], data["sigma"])
    mean, sd = exact["mu"]
    assert mean == pytest.approx(4.4, abs=0.1)
    assert sd == pytest.approx(3.3, abs=0.1)
