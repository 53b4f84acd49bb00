"""Fits by hand: the forms that are taken, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from vi_bench.errors import InputError
from vi_bench.posterior.fit import distribution, draw, read_fit
from vi_bench.posterior.structure import Site

SITES = (
    Site("mu", (2,), ("mu_dim_0",), False, (2,)),
    Site("tau", (), (), False, ()),
    Site("z", (5,), ("row",), True, (5,)),
)
MU = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("mu", "tau"),
    [
        (dist.Normal(MU, 0.5), dist.Gamma(3.0, 2.0)),
        (stats.norm(MU, 0.5), stats.gamma(3.0, scale=0.5)),
        ({"loc": MU, "scale": 0.5}, {"concentration": 3, "rate": 2}),
        (dist.MultivariateNormal(MU, 0.25 * np.eye(2)), stats.gamma(a=3, scale=1 / 2)),
        (
            stats.multivariate_normal(MU, 0.25 * np.eye(2)),
            {"concentration": np.float64(3), "rate": np.float64(2)},
        ),
        ({"loc": MU, "covariance_matrix": 0.25 * np.eye(2)}, dist.Gamma(3.0, 2.0)),
    ],
)
def test_the_same_q_in_any_form_has_the_same_density(mu, tau):
    fit = read_fit({"q": {"mu": mu, "tau": tau}, "elbo": 3.0}, SITES, "fit")
    theta, log_q = draw(jax.random.key(0), fit.q)
    expected = stats.norm(MU, 0.5).logpdf(theta["mu"]).sum()
    expected += stats.gamma(3, scale=0.5).logpdf(theta["tau"])
    np.testing.assert_allclose(log_q, expected, rtol=1e-9)
    assert fit.elbo.tolist() == [3.0]


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (stats.beta(2, 3), dist.Beta(2, 3)),
        (stats.invgamma(2, scale=3), dist.InverseGamma(2, 3)),
        (stats.lognorm(0.5, scale=np.exp(1)), dist.LogNormal(1, 0.5)),
        (stats.t(4, 1, 2), dist.StudentT(4, 1, 2)),
        (stats.expon(scale=2), dist.Exponential(0.5)),
        (stats.halfnorm(scale=2), dist.HalfNormal(2)),
        (stats.uniform(0.1, 0.8), dist.Uniform(0.1, 0.9)),
    ],
)
def test_scipys_distributions_are_numpyros(given, same):
    site = Site("v", (), (), False, ())
    fit = read_fit({"q": {"v": given}}, [site], "fit")
    at = jnp.array([0.2, 0.5, 0.8])
    np.testing.assert_allclose(fit.q["v"].log_prob(at), same.log_prob(at), rtol=1e-9)
    np.testing.assert_allclose(given.logpdf(at), same.log_prob(at), rtol=1e-6)


def test_scipys_dirichlet_is_taken_and_discrete_sites_may_be_there():
    sites = [Site("w", (3,), ("w_dim_0",), False, (2,)), SITES[2]]
    q = {"w": stats.dirichlet([1, 2, 3]), "z": {"probs": np.full((5, 2), 0.5)}}
    fit = read_fit({"q": q, "elbo": [1.0, 2.0]}, sites, "fit")
    assert list(fit.q) == ["w"]
    at = jnp.array([0.2, 0.3, 0.5])
    expected = stats.dirichlet([1, 2, 3]).logpdf(at)
    np.testing.assert_allclose(fit.q["w"].log_prob(at), expected)


GOOD = {"mu": dist.Normal(MU, 1), "tau": dist.Gamma(1.0, 1.0)}


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "returned a NoneType; expected {'q'"),
        ((1, 2), "returned a tuple"),
        ({"q": GOOD, "trace": []}, "unknown key 'trace' in fit"),
        ({"q": [1]}, "q is a list"),
        ({"q": GOOD | {"mo": 1}}, "unknown site 'mo' in q of fit: did you mean 'mu'?"),
        ({"q": {"mu": GOOD["mu"]}}, "q has no 'tau'; expected a distribution for each"),
        (
            {"q": GOOD | {"mu": dist.Normal(0, 1)}},
            "'mu' has the shape (); expected (2,)",
        ),
        ({"q": GOOD | {"tau": {"a": 1, "b": 2}}}, "parameters a, b; expected one of"),
        ({"q": GOOD | {"tau": 3.0}}, "a float; expected a distribution of NumPyro"),
        ({"q": GOOD | {"tau": stats.gamma(1, loc=2)}}, "gamma with loc = 2"),
        ({"q": GOOD | {"tau": stats.weibull_min(1)}}, "SciPy's weibull_min; expected"),
        ({"q": GOOD, "elbo": [[1.0]]}, "elbo has the shape (1, 1)"),
        ({"Q": GOOD}, "unknown key 'Q' in fit: known: bound, elbo, form, q"),
        ({"q": GOOD | {"tau": stats.beta(1, 2, scale=3)}}, "beta with scale = 3"),
    ],
)
def test_other_forms_are_refused_in_one_line(returned, told):
    with pytest.raises(InputError) as refused:
        read_fit(returned, SITES, "fit")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("prior", "given", "kind"),
    [
        (dist.InverseGamma, {"concentration": 2.0, "rate": 1.0}, dist.InverseGamma),
        (dist.Gamma, {"concentration": 2.0, "rate": 1.0}, dist.Gamma),
        (dist.LogNormal, {"loc": 0.0, "scale": 1.0}, dist.LogNormal),
        (dist.Laplace, {"loc": 0.0, "scale": 1.0}, dist.Normal),
    ],
)
def test_parameters_that_two_classes_share_are_read_by_the_prior(prior, given, kind):
    site = Site("v", (), (), False, (), prior)
    assert type(distribution(given, "fit: q of 'v'", site)) is kind


def test_a_normal_of_a_positive_variable_is_refused():
    site = Site("v", (), (), False, (), dist.HalfCauchy)
    with pytest.raises(InputError, match="positive; expected a distribution, such as"):
        distribution({"loc": 0.0, "scale": 1.0}, "fit: q of 'v'", site)
