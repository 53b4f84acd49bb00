"""Linear regression of disease progression, with a CAVI by hand.

The data are the diabetes study of Efron, Hastie, Johnstone and Tibshirani (2004), as
scikit-learn ships them: 442 patients, of which body mass index, blood pressure and a
blood measurement are used, standardised, and the response is standardised too.

The prior of the weights given the precision is conjugate, so the posterior is known in
closed form (Murphy 2007, section 9): tau is Gamma, w given tau is Normal.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.special import digamma, gammaln

A, B, V = 2.0, 1.0, 4.0  # tau ~ Gamma(A, B), w given tau ~ N(0, V / tau)


def data():
    """A column of ones and three covariates X (442, 4), and the response y (442,)."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    X = found.data[:, [2, 3, 8]]
    X, y = (v - v.mean(axis=0) for v in (X, found.target))
    return {"X": np.c_[np.ones(len(y)), X / X.std(axis=0)], "y": y / y.std()}


def model(X, y):
    """The weights w (4,) and the precision tau of the noise."""
    tau = numpyro.sample("tau", dist.Gamma(A, B))
    scale = jnp.sqrt(V / tau)
    w = numpyro.sample("w", dist.Normal(0, scale).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(X @ w, tau**-0.5), obs=y)


def cavi(X, y):
    """Mean field: q(w) q(tau); Bishop (2006), section 10.3, with this prior."""
    n, p = X.shape
    precision = X.T @ X + np.eye(p) / V  # of w, in units of tau
    m = np.linalg.solve(precision, X.T @ y)
    inverse = np.linalg.inv(precision)
    log_det = np.linalg.slogdet(precision)[1]
    a = A + (n + p) / 2
    square = np.sum((y - X @ m) ** 2) + m @ m / V
    mean_tau, trace = A / B, []
    while len(trace) < 2 or trace[-1] - trace[-2] > 1e-10:
        # E |y - X w|^2 + E |w|^2 / V; the covariance of w is inverse / mean_tau
        b = B + (square + p / mean_tau) / 2
        covariance = inverse / mean_tau
        log_tau = digamma(a) - np.log(b)
        expected = (n + p) / 2 * log_tau - a / b * (b - B)
        expected -= (n + p) / 2 * np.log(2 * np.pi) + p / 2 * np.log(V)
        expected += A * np.log(B) - gammaln(A) + (A - 1) * log_tau - B * a / b
        of_w = p / 2 * (1 + np.log(2 * np.pi) - np.log(mean_tau)) - log_det / 2
        of_tau = a - np.log(b) + gammaln(a) + (1 - a) * digamma(a)
        trace.append(expected + of_w + of_tau)
        mean_tau = a / b
    q = {"w": dist.MultivariateNormal(m, covariance), "tau": dist.Gamma(a, b)}
    return {"q": q, "elbo": trace}


def closed_form(X, y):
    """Moments of the exact posterior, and log p(y)."""
    n, p = X.shape
    precision = X.T @ X + np.eye(p) / V
    m = np.linalg.solve(precision, X.T @ y)
    a, b = A + n / 2, B + (y @ y - m @ precision @ m) / 2
    evidence = A * np.log(B) - a * np.log(b) + gammaln(a) - gammaln(A)
    evidence -= (np.linalg.slogdet(precision)[1] + p * np.log(V)) / 2
    evidence -= n / 2 * np.log(2 * np.pi)
    return {
        "w": (m, np.sqrt(np.diag(np.linalg.inv(precision)) * b / (a - 1))),
        "tau": (a / b, np.sqrt(a) / b),
        "log evidence": evidence,
    }
