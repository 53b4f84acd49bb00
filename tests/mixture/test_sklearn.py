"""scikit-learn's BayesianGaussianMixture, the same priors, the same responsibilities.

With full covariances and a Dirichlet it is used as it is, and in one dimension with
every covariance type. Elsewhere two of its formulas are not those of the model that
it names, and `Corrected` replaces them, each by one line:

- for `diag` and `spherical` it takes E log|precision| of a full Wishart, a sum of
  psi((nu + 1 - j) / 2), where d independent Gammas have d psi(nu / 2), and one Gamma
  for all features d (psi(d nu / 2) - log d);
- its Dirichlet process leaves the last stick a Beta variable, so that weights do not
  sum to one; the truncation of Blei and Jordan (2006) sets it to 1.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma
from sklearn.mixture import BayesianGaussianMixture

import vi_bench as vb
from tests.marks import slow
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.weights import Dirichlet, StickBreaking
from vi_bench.models.gaussian_diagonal import GaussianDiagonal
from vi_bench.models.gaussian_full import GaussianFull
from vi_bench.models.gaussian_spherical import GaussianSpherical

K, CONCENTRATION, KAPPA, MEAN, SCALE = 4, 0.6, 0.3, 0.1, 0.5


class Started(BayesianGaussianMixture):
    """Starts from given responsibilities."""

    def __init__(self, **settings):
        super().__init__(**settings)

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, self.start)


class Corrected(Started):
    def _estimate_log_prob(self, X, xp=None):
        found = super()._estimate_log_prob(X, xp=xp)
        if self.covariance_type == "full":
            return found
        nu, d = self.degrees_of_freedom_, X.shape[1]
        wishart = digamma(0.5 * (nu - np.arange(d)[:, None])).sum(axis=0)
        if self.covariance_type == "diag":
            right = d * digamma(0.5 * nu)
        else:
            right = d * (digamma(0.5 * d * nu) - np.log(d))
        return found + 0.5 * (right - wishart)

    def _estimate_log_weights(self, xp=None):
        if self.weight_concentration_prior_type != "dirichlet_process":
            return super()._estimate_log_weights(xp=xp)
        a, b = self.weight_concentration_
        both = digamma(a + b)
        stick = np.append((digamma(a) - both)[:-1], 0.0)
        return stick + np.append(0.0, np.cumsum(digamma(b) - both)[:-1])


def theirs(kind, process, x, phi, sweeps):
    d = x.shape[1]
    scale = {"full": SCALE * np.eye(d), "diag": np.full(d, SCALE), "spherical": SCALE}
    plain = not process and (kind == "full" or d == 1)
    model = (Started if plain else Corrected)(
        n_components=K,
        covariance_type=kind,
        tol=0,
        reg_covar=0,
        max_iter=sweeps,
        weight_concentration_prior_type="dirichlet_process"
        if process
        else "dirichlet_distribution",
        weight_concentration_prior=CONCENTRATION,
        mean_precision_prior=KAPPA,
        mean_prior=np.full(d, MEAN),
        degrees_of_freedom_prior=d + 1.5,
        covariance_prior=scale[kind],
    )
    model.start = phi
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x)


def ours(kind, process, x, phi, sweeps):
    d = x.shape[1]
    nu, mean = d + 1.5, (MEAN,) * d
    family = {
        "full": GaussianFull(mean, KAPPA, nu, SCALE),
        "diag": GaussianDiagonal(mean, KAPPA, nu / 2, SCALE / 2),
        "spherical": GaussianSpherical(mean, KAPPA, d * nu / 2, d * SCALE / 2),
    }[kind]
    weights = Dirichlet(CONCENTRATION)
    if process:
        weights = StickBreaking(CONCENTRATION, reorder=False)
    mixture = bind(family, x, K, jnp.float64, weights)

    @jax.jit
    def fit(mixture, phi):
        q = mixture.from_responsibilities(phi)
        return jax.lax.fori_loop(0, sweeps, lambda _, q: mixture.step(q)[1], q)

    q = mixture.describe(fit(mixture, jnp.asarray(phi)))
    if kind == "full":
        covariance = q["psi"] / q["nu"][:, None, None]
    elif kind == "diag":
        covariance = q["b"] / q["a"][:, None]
    else:
        covariance = q["b"] / q["a"]
    v = np.append(q["stick_a"] / (q["stick_a"] + q["stick_b"]), 1.0)
    left = np.append(1.0, np.cumprod(1 - v[:-1]))
    return v * left, np.asarray(q["m"]) + x.mean(axis=0), np.asarray(covariance)


@pytest.mark.parametrize("sweeps", [7, slow(1000)])
@pytest.mark.parametrize("process", [False, True], ids=["dirichlet", "process"])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("features", [slow(1), 2])
def test_weights_means_and_covariances_are_scikit_learns(
    kind, process, features, sweeps
):
    """After a fixed number of sweeps, and at convergence."""
    x = vb.load("faithful", standardise=True).values[:, :features]
    phi = np.random.default_rng(0).dirichlet(np.ones(K), len(x))
    model = theirs(kind, process, x, phi, sweeps)
    weights, means, covariances = ours(kind, process, x, phi, sweeps)
    their_weights = model.weights_
    if process:  # it normalises sticks of which the last is not 1
        a, b = model.weight_concentration_
        v = np.append((a / (a + b))[:-1], 1.0)
        their_weights = v * np.append(1.0, np.cumprod(1 - v[:-1]))
    np.testing.assert_allclose(weights, their_weights, atol=1e-6)
    np.testing.assert_allclose(means, model.means_, atol=1e-6)
    np.testing.assert_allclose(covariances, model.covariances_, atol=1e-6)
