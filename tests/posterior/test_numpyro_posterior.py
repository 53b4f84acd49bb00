"""The posterior of a NumPyro model against densities written out by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import vi_bench as vb
from tests.marks import slow_but
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 2))
Y = X @ [1.0, -0.5] + 0.3 * RANDOM.normal(size=12)
GROUP = np.arange(12) % 3


def regression(x, y):
    beta = numpyro.sample("beta", dist.Normal(0, 2).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def groups(group, y):
    """Asks for the values of its data, and has derived quantities."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(1))
    with numpyro.plate("school", int(group.max()) + 1):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
    theta = numpyro.deterministic("theta", mu + tau * raw)
    numpyro.sample("y", dist.Normal(theta[group], 1), obs=y)


def mixture(y):
    weight = numpyro.sample("weight", dist.Dirichlet(jnp.array([2.0, 3.0])))
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(weight))
        numpyro.sample("y", dist.Normal(mu[z], 1), obs=y)


def bounded(y):
    """A support that depends on another variable, and a factor."""
    low = numpyro.sample("low", dist.Normal(0, 1))
    high = numpyro.sample("high", dist.TruncatedNormal(0, 1, low=low))
    numpyro.factor("penalty", -jnp.square(high))
    numpyro.sample("y", dist.Normal(high - low, 1), obs=y)


CASES = {
    "regression": (regression, X, Y),
    "groups": (groups, GROUP, Y),
    "mixture": (mixture, Y),
    "bounded": (bounded, Y),
}


@cache
def case(name):
    return NumPyroPosterior.of(*CASES[name])


def prior_draws(posterior, number=5):
    drawn = posterior.draw_prior(jax.random.key(0), number)
    return [jax.tree.map(lambda v, i=i: v[i], drawn) for i in range(number)]


def test_the_density_of_a_regression_is_the_one_written_out():
    posterior = case("regression")
    for theta in prior_draws(posterior):
        beta, sigma = np.asarray(theta["beta"]), float(theta["sigma"])
        prior = stats.norm.logpdf(beta, 0, 2).sum() + stats.halfnorm.logpdf(sigma)
        likelihood = stats.norm.logpdf(Y, X @ beta, sigma).sum()
        np.testing.assert_allclose(posterior.log_prior(theta), prior, rtol=1e-10)
        found = posterior.log_likelihood(theta)
        np.testing.assert_allclose(found, likelihood, rtol=1e-9)


def test_discrete_variables_are_summed_out():
    posterior = case("mixture")
    assert [s.name for s in posterior.latent] == ["weight", "mu"]
    for theta in prior_draws(posterior):
        w, mu = np.asarray(theta["weight"]), np.asarray(theta["mu"])
        each = w * stats.norm.pdf(Y[:, None], mu, 1)
        exact = np.log(each.sum(axis=1)).sum()
        np.testing.assert_allclose(posterior.log_likelihood(theta), exact, rtol=1e-9)
        prior = stats.dirichlet.logpdf(w, [2, 3]) + stats.norm.logpdf(mu, 0, 3).sum()
        np.testing.assert_allclose(posterior.log_prior(theta), prior, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_unconstrained_values_and_back_and_the_jacobian(name):
    """The density is the log joint plus the log determinant, by autodiff."""
    posterior = case(name)
    theta = prior_draws(posterior)[3]
    free = posterior.unconstrain(theta)
    back, log_jacobian = posterior.constrain(free)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), theta, back)
    density = posterior.density(free)
    gap = density - posterior.log_joint(back)
    np.testing.assert_allclose(gap, log_jacobian, rtol=1e-6, atol=1e-9)
    flat, rebuild = jax.flatten_util.ravel_pytree(free)

    def open_values(flat):
        found, _ = posterior.constrain(rebuild(flat))
        if "weight" in found:  # a point of the simplex has one coordinate fewer
            found = found | {"weight": found["weight"][:-1]}
        return jax.flatten_util.ravel_pytree(found)[0]

    _, determinant = jnp.linalg.slogdet(jax.jacfwd(open_values)(flat))
    np.testing.assert_allclose(gap, determinant, rtol=1e-6, atol=1e-9)


def test_data_are_leaves_unless_the_model_asks_for_their_values():
    regression_ = case("regression")
    assert [leaf.shape for leaf in jax.tree.leaves(regression_)] == [(12, 2), (12,)]
    # the index asks for its values; what is observed stays a leaf
    assert [leaf.shape for leaf in jax.tree.leaves(case("groups"))] == [(12,)]
    traced = jax.jit(lambda posterior, theta: posterior.log_joint(theta))
    theta = prior_draws(regression_)[0]
    one = traced(regression_, theta)
    np.testing.assert_allclose(one, regression_.log_joint(theta), rtol=1e-12)


def test_derived_quantities_are_reported():
    posterior = case("groups")
    theta = prior_draws(posterior)[0]
    made = posterior.deterministic(theta)
    assert list(made) == ["theta"]
    np.testing.assert_allclose(made["theta"], theta["mu"] + theta["tau"] * theta["raw"])
    dims = {s.name: s.dims for s in posterior.latent}
    assert dims == {"mu": (), "tau": (), "raw": ("school",)}


@pytest.mark.parametrize("name", slow_but(("groups",), CASES))
def test_chains_start_where_the_density_is_finite(name):
    posterior = case(name)
    starts = jax.jit(lambda p: p.starts(jax.random.key(1), 4))(posterior)
    density = jax.vmap(posterior.log_joint)(starts)
    assert density.shape == (4,)
    assert np.all(np.isfinite(density))


def test_simulated_data_follow_the_model():
    """The mean of 4000 simulated rows, 5 standard errors."""
    posterior = NumPyroPosterior.of(regression, np.ones((4000, 2)), np.ones(4000))
    theta = {"beta": jnp.array([1.0, 2.0]), "sigma": jnp.array(0.5)}
    rows = np.asarray(posterior.simulate(jax.random.key(0), theta)["y"])
    assert abs(rows.mean() - 3) < 5 * 0.5 / np.sqrt(4000)
    assert abs(rows.std() - 0.5) < 0.05


def scaled(y):
    with numpyro.handlers.scale(scale=3.0):
        tau = numpyro.sample("tau", dist.Gamma(2.0, 3.0))
    numpyro.sample("y", dist.Normal(0, tau**-0.5), obs=y)


def test_a_scale_is_of_the_density_and_not_of_the_jacobian():
    posterior = NumPyroPosterior.of(scaled, np.array([1.0]))
    free = 0.3
    tau = np.exp(free)
    prior = 3 * stats.gamma(2, scale=1 / 3).logpdf(tau)
    joint = prior + stats.norm(0, tau**-0.5).logpdf(1.0)
    theta = {"tau": jnp.asarray(tau)}
    np.testing.assert_allclose(posterior.log_prior(theta), prior, rtol=1e-9)
    np.testing.assert_allclose(posterior.log_joint(theta), joint, rtol=1e-9)
    density = posterior.density({"tau": jnp.asarray(free)})
    np.testing.assert_allclose(density, joint + free, rtol=1e-9)
    assert not posterior.proper


def given_a_state(y):
    z = numpyro.sample("z", dist.Bernoulli(0.3))
    mu = numpyro.sample("mu", dist.Normal(jnp.where(z == 1, 3.0, -1.0), 1))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def test_a_prior_that_depends_on_a_discrete_variable_is_marginal():
    posterior = NumPyroPosterior.of(given_a_state, np.array([1.0]))
    prior = 0.7 * stats.norm.pdf(0.4, -1, 1) + 0.3 * stats.norm.pdf(0.4, 3, 1)
    theta = {"mu": jnp.asarray(0.4)}
    np.testing.assert_allclose(posterior.log_prior(theta), np.log(prior), rtol=1e-9)
    likelihood = stats.norm.logpdf(1.0, 0.4, 1)
    np.testing.assert_allclose(posterior.log_likelihood(theta), likelihood, rtol=1e-9)
    assert posterior.structure.tied
    assert not case("mixture").structure.tied


def with_a_factor(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.factor("penalty", -50.0)
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def test_a_factor_is_no_observation():
    posterior = NumPyroPosterior.of(with_a_factor, np.zeros(5))
    theta = {"mu": jnp.asarray(0.5)}
    rows = posterior.log_likelihoods(theta)
    np.testing.assert_allclose(rows, np.full(5, stats.norm.logpdf(0.5)))
    whole = posterior.log_likelihood(theta)
    np.testing.assert_allclose(whole, rows.sum() - 50)


def nothing_latent(y):
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


def nothing_observed(y):
    numpyro.sample("mu", dist.Normal(0, 1))


def optimised(y):
    scale = numpyro.param("scale", 1.0)
    mu = numpyro.sample("mu", dist.Normal(0, scale))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def counted(y):
    rate = numpyro.sample("rate", dist.Gamma(1, 1))
    n = numpyro.sample("n", dist.Poisson(rate))
    numpyro.sample("y", dist.Normal(n, 1), obs=y)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nothing_latent, "has no continuous latent variable"),
        (nothing_observed, "nothing is observed"),
        (optimised, "'scale' is a param"),
        (counted, "'n' is discrete and cannot be enumerated"),
        (regression, "cannot be run: TypeError"),
    ],
)
def test_models_that_are_no_posteriors_are_refused(model, said):
    with pytest.raises(vb.InputError, match=said) as found:
        NumPyroPosterior.of(model, Y)
    assert "\n" not in str(found.value)
    assert model.__name__ in str(found.value)
