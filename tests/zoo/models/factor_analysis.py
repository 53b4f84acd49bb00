"""Factor analysis with a precision per column of loadings: CAVI by hand.

y_n = W z_n + noise; tau are the noise's precisions, alpha those of W's columns.
Every mutant overrides one step of `Right`. Its docstring names the fault.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats
from scipy.special import digamma, gammaln

FACTORS = 2
SHAPE, RATE = 3.0, 2.0  # of tau and of alpha
LOG_2_PI = np.log(2 * np.pi)


def model(y):
    """alpha (2,), loadings W (D, 2), precisions tau (D,), factors z (N, 2)."""
    n, d = y.shape
    with numpyro.plate("factor", FACTORS):
        alpha = numpyro.sample("alpha", dist.Gamma(SHAPE, RATE))
    with numpyro.plate("feature", d):
        tau = numpyro.sample("tau", dist.Gamma(SHAPE, RATE))
        W = numpyro.sample("W", dist.Normal(jnp.zeros(2), alpha**-0.5).to_event(1))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([n, FACTORS]).to_event(2))
    numpyro.sample("y", dist.Normal(z @ W.T, tau**-0.5).to_event(2), obs=y)


def data(seed=0):
    """Rows y (20, 4) of two factors."""
    random = np.random.default_rng(seed + 9)  # both factors stay
    alpha, tau = random.gamma(SHAPE, 1 / RATE, 2), random.gamma(SHAPE, 1 / RATE, 4)
    W = random.normal(size=(4, 2)) / np.sqrt(alpha)
    z = random.normal(size=(20, 2))
    return {"y": z @ W.T + random.normal(size=(20, 4)) / np.sqrt(tau)}


class Right:
    """Bishop (1999), variational principal components, with a noise per feature."""

    tol = 1e-11
    most = 8000

    def __call__(self, y, seed):
        y = np.asarray(y, float)
        q, trace = self.start(y, np.random.default_rng(seed)), []
        for _ in range(self.most):
            q = self.sweep(y, q)
            trace.append(self.bound(y, q))
            if len(trace) > 1 and self.ended(trace):
                break
        return self.result(q, trace)

    def ended(self, trace):
        return trace[-1] - trace[-2] < self.tol

    def start(self, y, random):
        d = y.shape[1]
        return {
            "W": random.normal(size=(d, FACTORS)),
            "cov_W": np.tile(np.eye(FACTORS) / 10, (d, 1, 1)),
            "a": np.full(FACTORS, SHAPE),
            "b": np.full(FACTORS, RATE),
            "c": np.full(d, SHAPE),
            "e": np.full(d, RATE),
        }

    def sweep(self, y, q):
        q = q | dict(zip(("z", "cov_z"), self.factors(y, q), strict=True))
        q = q | dict(zip(("W", "cov_W"), self.loadings(y, q), strict=True))
        q = q | {"c": self.shape_tau(y), "e": self.rate_tau(y, q)}
        return q | {"a": self.shape_alpha(y), "b": self.rate_alpha(q)}

    def factors(self, y, q):
        """Means (N, K) and the common covariance of z."""
        tau = q["c"] / q["e"]
        precision = np.eye(FACTORS) + np.einsum("d,dkl->kl", tau, self.square_W(q))
        cov = np.linalg.inv(precision)
        return (y * tau) @ q["W"] @ cov, cov

    def loadings(self, y, q):
        """Means (D, K) and covariances (D, K, K) of the rows of W."""
        tau, alpha = q["c"] / q["e"], q["a"] / q["b"]
        precision = np.diag(alpha) + tau[:, None, None] * self.square_z(y, q)
        cov = np.linalg.inv(precision)
        return np.einsum("dkl,dl->dk", cov, tau[:, None] * (y.T @ q["z"])), cov

    def square_W(self, q):
        """E[w w'] of each row (D, K, K)."""
        return q["W"][:, :, None] * q["W"][:, None, :] + q["cov_W"]

    def square_z(self, y, q):
        """Sum of E[z z'] (K, K)."""
        return q["z"].T @ q["z"] + len(y) * q["cov_z"]

    def shape_tau(self, y):
        return np.full(y.shape[1], SHAPE + len(y) / 2)

    def rate_tau(self, y, q):
        return RATE + self.residual(y, q) / 2

    def residual(self, y, q):
        """Expected sum of squares of the noise by feature (D,)."""
        cross = np.sum(q["W"] * (y.T @ q["z"]), axis=1)
        fitted = np.einsum("dkl,kl->d", self.square_W(q), self.square_z(y, q))
        return (y**2).sum(axis=0) - 2 * cross + fitted

    def shape_alpha(self, y):
        return np.full(FACTORS, SHAPE + y.shape[1] / 2)

    def rate_alpha(self, q):
        return RATE + np.einsum("dkk->k", self.square_W(q)) / 2

    def log_tau(self, q):
        return digamma(q["c"]) - np.log(q["e"])

    def likelihood(self, y, q):
        tau = q["c"] / q["e"]
        found = len(y) * (self.log_tau(q) - LOG_2_PI) - tau * self.residual(y, q)
        return found.sum() / 2

    def kl_z(self, y, q):
        log_det = np.linalg.slogdet(q["cov_z"])[1]
        square = np.trace(self.square_z(y, q))
        return (square - len(y) * (FACTORS + log_det)) / 2

    def kl_W(self, q):
        alpha, log_alpha = q["a"] / q["b"], digamma(q["a"]) - np.log(q["b"])
        square = np.einsum("dkk,k->d", self.square_W(q), alpha)
        log_det = np.linalg.slogdet(q["cov_W"])[1]
        return np.sum(square - log_alpha.sum() - FACTORS - log_det) / 2

    def kl_gamma(self, a, b):
        terms = (a - SHAPE) * digamma(a) - gammaln(a) + gammaln(SHAPE)
        return np.sum(terms + SHAPE * np.log(b / RATE) + a * (RATE - b) / b)

    def kl_tau(self, q):
        return self.kl_gamma(q["c"], q["e"])

    def kl_alpha(self, q):
        return self.kl_gamma(q["a"], q["b"])

    def bound(self, y, q):
        kl = self.kl_W(q) + self.kl_tau(q) + self.kl_alpha(q)
        return self.likelihood(y, q) - self.kl_z(y, q) - kl

    def result(self, q, trace):
        found = {
            "alpha": dist.Gamma(q["a"], q["b"]),
            "tau": dist.Gamma(q["c"], q["e"]),
            "W": dist.MultivariateNormal(q["W"], q["cov_W"]),
        }
        if len(q["z"]):
            found["z"] = dist.MultivariateNormal(q["z"], q["cov_z"])
        else:
            found["z"] = dist.Normal(jnp.zeros(q["z"].shape), 1.0).to_event(2)
        return {"q": found, "elbo": np.array(trace)}


class LoadingsFirst(Right):
    """Another order: alpha, tau and W before z; dicts and SciPy's Gamma as q."""

    def start(self, y, random):
        z = random.normal(size=(len(y), FACTORS))
        return super().start(y, random) | {"z": z, "cov_z": np.eye(FACTORS)}

    def sweep(self, y, q):
        q = q | {"a": self.shape_alpha(y), "b": self.rate_alpha(q)}
        q = q | {"c": self.shape_tau(y), "e": self.rate_tau(y, q)}
        q = q | dict(zip(("W", "cov_W"), self.loadings(y, q), strict=True))
        return q | dict(zip(("z", "cov_z"), self.factors(y, q), strict=True))

    def result(self, q, trace):
        found = super().result(q, trace)
        found["q"]["alpha"] = stats.gamma(q["a"], scale=1 / q["b"])
        found["q"]["tau"] = {"concentration": q["c"], "rate": q["e"]}
        found["q"]["W"] = {"loc": q["W"], "covariance_matrix": q["cov_W"]}
        return found


class RightJax:
    """One compiled loop; the bound from NumPyro's divergences."""

    def __call__(self, y, seed):
        y = jnp.asarray(y, float)
        n, d = y.shape
        W = jax.random.normal(jax.random.key(seed), (d, FACTORS))
        tau, alpha = (jnp.full(k, SHAPE / RATE) for k in (d, FACTORS))
        start = W, jnp.tile(jnp.eye(FACTORS), (d, 1, 1)), tau, alpha
        trace, count, q = _fit(y, start)
        tau, alpha, W, (z, cov) = q
        tril = jnp.linalg.cholesky(cov)
        if n:
            q_z = dist.MultivariateNormal(z, scale_tril=tril)
        else:
            q_z = dist.Normal(jnp.zeros((0, FACTORS)), 1.0).to_event(2)
        found = {"tau": dist.Gamma(*tau), "alpha": dist.Gamma(*alpha), "z": q_z}
        found["W"] = dist.MultivariateNormal(W[0], precision_matrix=W[1])
        return {"q": found, "elbo": np.array(trace[: int(count)])}


def _sweep(y, state):
    n, d = y.shape
    W, cov_W, tau, alpha = state
    square_W = W[:, :, None] * W[:, None, :] + cov_W
    precision_z = jnp.eye(FACTORS) + jnp.tensordot(tau, square_W, 1)
    cov_z = jnp.linalg.inv(precision_z)
    z = jnp.linalg.solve(precision_z, W.T @ (y * tau).T).T
    square_z = z.T @ z + n * cov_z
    precision_W = jnp.diag(alpha) + tau[:, None, None] * square_z
    cov_W = jnp.linalg.inv(precision_W)
    W = jnp.linalg.solve(precision_W, (tau[:, None] * (y.T @ z))[..., None])[..., 0]
    square_W = W[:, :, None] * W[:, None, :] + cov_W
    noise = ((y - z @ W.T) ** 2).sum(0)
    noise += jnp.einsum("dkl,kl->d", square_W, n * cov_z)
    noise += jnp.einsum("dkl,nk,nl->d", cov_W, z, z)
    of_tau = jnp.full(d, SHAPE + n / 2), RATE + noise / 2
    of_alpha = (
        jnp.full(FACTORS, SHAPE + d / 2),
        RATE + jnp.einsum("dkk->k", square_W) / 2,
    )
    q = of_tau, of_alpha, (W, precision_W), (z, cov_z)
    means = of_tau[0] / of_tau[1], of_alpha[0] / of_alpha[1]
    psi, half = jax.scipy.special.digamma, jnp.linalg.slogdet
    log_tau = psi(of_tau[0]) - jnp.log(of_tau[1])
    log_alpha = psi(of_alpha[0]) - jnp.log(of_alpha[1])
    bound = jnp.sum(n * (log_tau - LOG_2_PI) - means[0] * noise) / 2
    bound -= (jnp.trace(square_z) - n * FACTORS + n * half(precision_z)[1]) / 2
    weighted = jnp.einsum("dkk,k->", square_W, means[1])
    bound -= (weighted - d * (log_alpha.sum() + FACTORS)) / 2
    bound -= half(precision_W)[1].sum() / 2
    prior = dist.Gamma(SHAPE, RATE)
    for own in (of_tau, of_alpha):
        bound -= dist.kl_divergence(dist.Gamma(*own), prior).sum()
    return (W, cov_W, *means), q, bound


@jax.jit
def _fit(y, start):
    most = 8000

    def rising(carry):
        _, _, trace, i = carry
        return (i < most) & ((i < 2) | (trace[i - 1] - trace[i - 2] >= 1e-11))

    def step(carry):
        state, _, trace, i = carry
        state, q, bound = _sweep(y, state)
        return state, q, trace.at[i].set(bound), i + 1

    state, q, bound = _sweep(y, start)
    trace = jnp.zeros(most).at[0].set(bound)
    _, q, trace, count = jax.lax.while_loop(rising, step, (state, q, trace, 1))
    return trace, count, q


class DiagonalFactors(Right):
    """Coarse: the covariance of z is diagonal, the means those of all at once."""

    def factors(self, y, q):
        tau = q["c"] / q["e"]
        precision = np.eye(FACTORS) + np.einsum("d,dkl->kl", tau, self.square_W(q))
        means = np.linalg.solve(precision, ((y * tau) @ q["W"]).T).T
        return means, np.diag(1 / np.diag(precision))

    def result(self, q, trace):
        found = super().result(q, trace)
        if len(q["z"]):
            scale = np.sqrt(np.diag(q["cov_z"]))
            found["q"]["z"] = dist.Normal(q["z"], scale).to_event(1)
        return found


class DiagonalLoadings(Right):
    """Coarse: the entries of W are independent; each in turn."""

    def loadings(self, y, q):
        tau, alpha = q["c"] / q["e"], q["a"] / q["b"]
        square, right = self.square_z(y, q), tau[:, None] * (y.T @ q["z"])
        W = q["W"].copy()
        precision = alpha + tau[:, None] * np.diag(square)
        for k in range(FACTORS):
            others = tau * (W @ square[:, k] - W[:, k] * square[k, k])
            W[:, k] = (right[:, k] - others) / precision[:, k]
        return W, np.stack([np.diag(v) for v in 1 / precision])

    def result(self, q, trace):
        found = super().result(q, trace)
        scale = np.sqrt(np.einsum("dkk->dk", q["cov_W"]))
        found["q"]["W"] = dist.Normal(q["W"], scale)
        return found


class NoiseAsPoint(Right):
    """Coarse: tau is a point, at the maximum of the expected log joint."""

    def shape_tau(self, y):
        return super().shape_tau(y) - 1

    def log_tau(self, q):
        return np.log(q["c"] / q["e"])

    def kl_tau(self, q):
        return -stats.gamma.logpdf(q["c"] / q["e"], SHAPE, scale=1 / RATE).sum()

    def result(self, q, trace):
        found = super().result(q, trace)
        found["q"]["tau"] = dist.Delta(q["c"] / q["e"])
        return found


class NoCovarianceOfLoadings(Right):
    """The update of z has w w' for E[w w']."""

    def factors(self, y, q):
        return super().factors(y, q | {"cov_W": np.zeros_like(q["cov_W"])})


class NoCovarianceOfFactors(Right):
    """The update of W has the sum of z z' without the covariance of z."""

    def loadings(self, y, q):
        return super().loadings(y, q | {"cov_z": np.zeros_like(q["cov_z"])})


class OneCovarianceOfFactors(Right):
    """The covariance of z is added once, not N times."""

    def square_z(self, y, q):
        return q["z"].T @ q["z"] + q["cov_z"]


class ResidualOfMeans(Right):
    """The noise's sum of squares is that of the means of W and z."""

    def residual(self, y, q):
        return ((y - q["z"] @ q["W"].T) ** 2).sum(axis=0)


class ResidualOfMeansInUpdate(Right):
    """The update of tau has the residual of the means; the bound is right."""

    def rate_tau(self, y, q):
        return RATE + ((y - q["z"] @ q["W"].T) ** 2).sum(axis=0) / 2


class NoHalfInShape(Right):
    """N for N / 2 in the shape of tau."""

    def shape_tau(self, y):
        return super().shape_tau(y) + len(y) / 2


class NoHalfInRate(Right):
    """The residual is not halved in the rate of tau."""

    def rate_tau(self, y, q):
        return RATE + self.residual(y, q)


class NoHalfInRateOfAlpha(Right):
    """E[w^2] is not halved in the rate of alpha."""

    def rate_alpha(self, q):
        return RATE + np.einsum("dkk->k", self.square_W(q))


class AlphaCountsFactors(Right):
    """The shape of alpha counts the factors, not the features."""

    def shape_alpha(self, y):
        return np.full(FACTORS, SHAPE + FACTORS / 2)


class AlphaWithoutCovariance(Right):
    """The rate of alpha has the squares of the means of W only."""

    def rate_alpha(self, q):
        return RATE + (q["W"] ** 2).sum(axis=0) / 2


class StaleMoments(Right):
    """tau's residual is with W of the sweep before; eight sweeps."""

    most = 8

    def sweep(self, y, q):
        older = q
        q = super().sweep(y, q)
        old = q | {"W": older["W"], "cov_W": older["cov_W"]}
        return q | {"e": RATE + self.residual(y, old) / 2}


class PriorOfFactorsForgotten(Right):
    """The identity of z's prior is missing in its precision."""

    def factors(self, y, q):
        _, cov = super().factors(y, q)
        cov = np.linalg.inv(np.linalg.inv(cov) - np.eye(FACTORS))
        return (y * q["c"] / q["e"]) @ q["W"] @ cov, cov


class LogOfMean(Right):
    """log E[tau] for E[log tau] in the bound: off by what the shape alone tells."""

    constant = True

    def log_tau(self, q):
        return np.log(q["c"] / q["e"])


class NoKLOfFactors(Right):
    """The divergence of z is left out of the bound."""

    def kl_z(self, y, q):
        return 0.0


class NoEntropyOfFactors(Right):
    """The entropy of z lacks its covariance's determinant."""

    def kl_z(self, y, q):
        log_det = np.linalg.slogdet(q["cov_z"])[1]
        return super().kl_z(y, q) + len(y) * log_det / 2


class OneDeterminant(Right):
    """The determinant of z's covariance is counted for one row."""

    def kl_z(self, y, q):
        log_det = np.linalg.slogdet(q["cov_z"])[1]
        return super().kl_z(y, q) + (len(y) - 1) * log_det / 2


class NoConstant(Right):
    """log 2 pi is dropped from the likelihood."""

    constant = True

    def likelihood(self, y, q):
        return super().likelihood(y, q) + y.size * LOG_2_PI / 2


class NoNormaliserOfPriors(Right):
    """The normaliser of the Gamma priors is dropped."""

    constant = True

    def kl_gamma(self, a, b):
        dropped = np.size(a) * (gammaln(SHAPE) - SHAPE * np.log(RATE))
        return super().kl_gamma(a, b) - dropped


class ScaleForRate(Right):
    """The Gamma of tau that is returned has the scale in the place of the rate."""

    def result(self, q, trace):
        return super().result(q | {"e": 1 / q["e"]}, trace)


class PrecisionForCovariance(Right):
    """The precision of W's rows is returned as their covariance."""

    def result(self, q, trace):
        return super().result(q | {"cov_W": np.linalg.inv(q["cov_W"])}, trace)


class CovarianceForScale(Right):
    """The covariance of z is returned as its Cholesky factor."""

    def result(self, q, trace):
        return super().result(q | {"cov_z": q["cov_z"] @ q["cov_z"]}, trace)


class DiagonalReturned(Right):
    """The covariance of z is fitted full, and returned without its cross terms."""

    def result(self, q, trace):
        return super().result(q | {"cov_z": np.diag(np.diag(q["cov_z"]))}, trace)


class LastRowIgnored(Right):
    """The last row is left out of the loadings."""

    def loadings(self, y, q):
        return super().loadings(y[:-1], q | {"z": q["z"][:-1]})


class StoppedEarly(Right):
    """Stopped after three sweeps."""

    most = 3


RIGHT = [Right, RightJax, LoadingsFirst]
COARSE = [DiagonalFactors, DiagonalLoadings, NoiseAsPoint]
MUTANTS = [
    NoCovarianceOfLoadings,
    NoCovarianceOfFactors,
    OneCovarianceOfFactors,
    ResidualOfMeans,
    ResidualOfMeansInUpdate,
    NoHalfInShape,
    NoHalfInRate,
    NoHalfInRateOfAlpha,
    AlphaCountsFactors,
    AlphaWithoutCovariance,
    StaleMoments,
    PriorOfFactorsForgotten,
    LogOfMean,
    NoKLOfFactors,
    NoEntropyOfFactors,
    OneDeterminant,
    NoConstant,
    NoNormaliserOfPriors,
    ScaleForRate,
    PrecisionForCovariance,
    CovarianceForScale,
    DiagonalReturned,
    LastRowIgnored,
    StoppedEarly,
]
