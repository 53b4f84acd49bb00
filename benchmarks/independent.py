"""The library's and the mixtures' models, written for PyMC.

They share no code with vi_bench's: priors and likelihoods are PyTensor's or written out
here, and latent variables are summed out in another way where there is one. A sampler
of another library draws from them, to which reference draws are held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt

Data = Mapping[str, np.ndarray]
LOG_2PI = float(np.log(2 * np.pi))


def mixture(family: Any, weights: Any, K: int, x: np.ndarray) -> pm.Model:
    """A mixture of a vi_bench family with its settings, of rows x (N, d)."""
    name = type(family).__name__
    with pm.Model() as model:
        if type(weights).__name__ == "Uniform":
            log_weights = pt.as_tensor(np.full(K, -np.log(K)))
        else:
            weight = pm.Dirichlet("weight", np.full(K, weights.concentration))
            log_weights = pt.log(weight)
        terms = FAMILIES[name](family, K, x)  # (N, K)
        rows = pm.math.logsumexp(terms + log_weights, axis=1)
        pm.Potential("rows", rows.sum())
    return model


def _normal(x: np.ndarray, mu: Any, precision: Any) -> Any:
    """Log densities (N, K) of rows x (N, d), means (K, d), precisions (K, d)."""
    square = precision * (x[:, None, :] - mu[None]) ** 2
    return 0.5 * (pt.log(precision) - LOG_2PI - square).sum(axis=-1)


def _full(x: np.ndarray, mu: Any, precision: list[Any]) -> Any:
    """Log densities (N, K), a precision matrix (d, d) for each component."""
    found = []
    for k, matrix in enumerate(precision):
        away = x - mu[k]
        square = ((away @ matrix) * away).sum(axis=1)
        log_det = pt.linalg.slogdet(matrix)[1]
        found.append(0.5 * (log_det - x.shape[1] * LOG_2PI - square))
    return pt.stack(found, axis=1)


def _wishart(name: str, df: float, scale: np.ndarray) -> Any:
    """A draw of Wishart(df, scale^-1), by Bartlett's decomposition."""
    d = len(scale)
    root = np.linalg.cholesky(np.linalg.inv(scale))
    square = pm.ChiSquared(f"{name}_square", df - np.arange(d), shape=d)
    lower = pt.diag(pt.sqrt(square))
    if d > 1:
        rows, columns = np.tril_indices(d, -1)
        below = pm.Normal(f"{name}_below", shape=len(rows))
        lower = pt.set_subtensor(lower[rows, columns], below)
    factor = root @ lower
    return factor @ factor.T


def _gaussian(f: Any, K: int, x: np.ndarray) -> Any:
    mu = pm.Normal("mu", np.asarray(f.mean), f.sigma, shape=(K, x.shape[1]))
    return _normal(x, mu, np.full((K, x.shape[1]), 1 / f.variance))


def _spherical(f: Any, K: int, x: np.ndarray) -> Any:
    precision = pm.Gamma("precision", f.shape, f.rate, shape=K)
    each = precision[:, None] * np.ones(x.shape[1])
    z = pm.Normal("z", shape=(K, x.shape[1]))
    mu = pm.Deterministic("mu", np.asarray(f.mean) + z / pt.sqrt(f.kappa * each))
    return _normal(x, mu, each)


def _diagonal(f: Any, K: int, x: np.ndarray) -> Any:
    size = (K, x.shape[1])
    precision = pm.Gamma("precision", f.shape, np.asarray(f.rate), shape=size)
    z = pm.Normal("z", shape=size)
    mu = pm.Deterministic("mu", np.asarray(f.mean) + z / pt.sqrt(f.kappa * precision))
    return _normal(x, mu, precision)


def _full_conjugate(f: Any, K: int, x: np.ndarray) -> Any:
    d = x.shape[1]
    each = _precisions(f, K, d)
    z = pm.Normal("z", shape=(K, d))
    away = [
        pt.linalg.solve_triangular(pt.linalg.cholesky(m).T, z[k], lower=False)
        for k, m in enumerate(each)
    ]
    mu = np.asarray(f.mean) + pt.stack(away) / np.sqrt(f.kappa)
    return _full(x, pm.Deterministic("mu", mu), each)


def _semiconjugate(f: Any, K: int, x: np.ndarray) -> Any:
    size = (K, x.shape[1])
    mu = pm.Normal("mu", np.asarray(f.mean), np.asarray(f.sd), shape=size)
    variance = pm.InverseGamma("variance", f.shape, np.asarray(f.scale), shape=size)
    return _normal(x, mu, 1 / variance)


def _semiconjugate_full(f: Any, K: int, x: np.ndarray) -> Any:
    d = x.shape[1]
    mu = pm.Normal("mu", np.asarray(f.mean), np.asarray(f.sd), shape=(K, d))
    each = _precisions(f, K, d)
    return _full(x, mu, each)


def _precisions(f: Any, K: int, d: int) -> list[Any]:
    """Precision matrices (d, d) of all components, from their Wishart prior."""
    df, scale = f.degrees_of_freedom, _matrix(f.scale, d)
    each = [_wishart(f"w{k}", df, scale) for k in range(K)]
    pm.Deterministic("precision", pt.stack(each))
    return each


def _matrix(scale: Any, d: int) -> np.ndarray:
    """A scale matrix (d, d) from a number or a matrix."""
    given = np.asarray(scale, float)
    return given * np.eye(d) if given.ndim == 0 else given


def _poisson(f: Any, K: int, x: np.ndarray) -> Any:
    rate = pm.Gamma("rate", np.asarray(f.shape), f.rate, shape=(K, x.shape[1]))
    return pm.logp(pm.Poisson.dist(rate[None]), x[:, None, :]).sum(axis=-1)


def _exponential(f: Any, K: int, x: np.ndarray) -> Any:
    rate = pm.Gamma("rate", f.shape, np.asarray(f.rate), shape=(K, x.shape[1]))
    return (pt.log(rate)[None] - rate[None] * x[:, None, :]).sum(axis=-1)


def _bernoulli(f: Any, K: int, x: np.ndarray) -> Any:
    p = pm.Beta("probability", f.a, f.b, shape=(K, x.shape[1]))
    return x @ pt.log(p).T + (1 - x) @ pt.log1p(-p).T


FAMILIES: dict[str, Callable[[Any, int, np.ndarray], Any]] = {
    "Gaussian": _gaussian,
    "GaussianSpherical": _spherical,
    "GaussianDiagonal": _diagonal,
    "GaussianFull": _full_conjugate,
    "GaussianSemiconjugate": _semiconjugate,
    "GaussianSemiconjugateFull": _semiconjugate_full,
    "Poisson": _poisson,
    "Exponential": _exponential,
    "Bernoulli": _bernoulli,
}
"""Class of a family -> log densities (N, K) of rows, priors sampled."""


def _of_normal(m: Any, data: Data) -> None:
    mu = pm.Normal("mu", m.mean, m.kappa**-0.5)
    tau = pm.Gamma("tau", m.a, m.b)
    pm.Deterministic("log_tau", pt.log(tau))
    pm.Normal("x", mu, tau**-0.5, observed=data["x"])


def _linear_regression(m: Any, data: Data) -> None:
    alpha = pm.Gamma("alpha", m.a, m.b, shape=data["x"].shape[1])
    z = pm.Normal("z", shape=data["x"].shape[1])
    w = pm.Deterministic("w", z / pt.sqrt(alpha))
    tau = pm.Gamma("tau", m.c, m.d)
    pm.Deterministic("log_alpha", pt.log(alpha))
    pm.Deterministic("log_tau", pt.log(tau))
    pm.Normal("y", data["x"] @ w, tau**-0.5, observed=data["y"])


def _sparse_regression(m: Any, data: Data) -> None:
    x, y = data["x"], data["y"]
    sets = np.array(list(product([0.0, 1.0], repeat=x.shape[1])))
    w = pm.Normal("w", 0, m.slab, shape=x.shape[1])
    tau = pm.Gamma("tau", m.c, m.d)
    pm.Deterministic("log_tau", pt.log(tau))
    each = sets * w  # (2^p, p)
    square = y @ y - 2 * each @ (x.T @ y) + ((each @ (x.T @ x)) * each).sum(axis=1)
    size = sets.sum(axis=1)
    prior = size * np.log(m.pi) + (x.shape[1] - size) * np.log1p(-m.pi)
    rows = 0.5 * len(y) * (pt.log(tau) - LOG_2PI) - 0.5 * tau * square
    pm.Potential("y", pm.math.logsumexp(prior + rows))


def _logistic_regression(m: Any, data: Data) -> None:
    w = pm.Normal("w", 0, m.alpha**-0.5, shape=data["x"].shape[1])
    pm.Bernoulli("y", logit_p=data["x"] @ w, observed=data["y"])


def _probit_regression(m: Any, data: Data) -> None:
    w = pm.Normal("w", 0, m.alpha**-0.5, shape=data["x"].shape[1])
    sign = np.where(data["y"] > 0, 1.0, -1.0)
    pm.Potential("y", pm.logcdf(pm.Normal.dist(), sign * (data["x"] @ w)).sum())


def _hierarchical_normal(m: Any, data: Data) -> None:
    mu = pm.Normal("mu", m.mean, m.sd)
    if m.half_cauchy is None:
        tau = pm.Gamma("tau", m.a, m.b)
        spread = tau**-0.5
    else:
        spread = pm.HalfCauchy("spread", m.half_cauchy)
        tau = pm.Deterministic("tau", spread**-2)
    pm.Deterministic("log_tau", pt.log(tau))
    z = pm.Normal("z", shape=len(data["y"]))
    theta = pm.Deterministic("theta", mu + spread * z)
    pm.Normal("y", theta, data["sigma"], observed=data["y"])


def _hmm(m: Any, data: Data) -> None:
    y, K = data["y"], m.states
    initial = pm.Dirichlet("initial", np.full(K, m.first))
    moves = m.switch + (m.stay - m.switch) * np.eye(K)
    transition = pm.Dirichlet("transition", moves)
    pm.Deterministic("remain", pt.diag(transition))
    if m.emission == "gaussian":
        size = (K, y.shape[1])
        tau = pm.Gamma("tau", m.a, m.b, shape=size)
        pm.Deterministic("log_tau", pt.log(tau))
        z = pm.Normal("z", shape=size)
        mu = pm.Deterministic("mu", m.mean + z / pt.sqrt(m.kappa * tau))
        rows = _normal(y, mu, tau)
    else:
        rate = pm.Gamma("rate", m.a, m.b, shape=(K, y.shape[1]))
        rows = pm.logp(pm.Poisson.dist(rate[None]), y[:, None, :]).sum(axis=-1)

    def forward(row: Any, before: Any, log_moves: Any) -> Any:
        return row + pm.math.logsumexp(before[:, None] + log_moves, axis=0)

    first = pt.log(initial) + rows[0]
    states = pytensor.scan(
        forward,
        sequences=[rows[1:]],
        outputs_info=[first],
        non_sequences=[pt.log(transition)],
        return_updates=False,
    )
    pm.Potential("y", pm.math.logsumexp(states[-1]))


def _linear_gaussian_state_space(m: Any, data: Data) -> None:
    y = data["y"].reshape(-1)
    size = 2 if m.form == "trend" else 1
    process = pm.Gamma("process", m.a, m.b, shape=(2,) if size == 2 else ())
    noise = pm.Gamma("noise", m.c, m.d)
    pm.Deterministic("log_process", pt.log(process))
    pm.Deterministic("log_noise", pt.log(noise))
    move = np.array([[1.0, 1.0], [0.0, m.phi]]) if size == 2 else np.array([[m.phi]])
    powers = [np.eye(size)]
    for _ in range(len(y) - 1):
        powers.append(move @ powers[-1])
    seen = np.array([p[0] for p in powers])  # what y_t has of the first state (T, size)
    first = np.array([m.first_mean, m.slope_mean][:size])
    sds = np.array([m.first_sd, m.slope_sd][:size])
    covariance = pt.as_tensor((seen * sds**2) @ seen.T)
    for j in range(size):
        steps = np.zeros((len(y), len(y) - 1))  # what y_t has of step s
        for s in range(len(y) - 1):
            steps[s + 1 :, s] = seen[: len(y) - 1 - s, j]
        own = process[j] if size == 2 else process
        covariance = covariance + (steps @ steps.T) / own
    covariance = covariance + np.eye(len(y)) / noise
    pm.MvNormal("y", seen @ first, cov=covariance, observed=y)


def _factor_analysis(m: Any, data: Data) -> None:
    x = data["x"]
    d = x.shape[1]
    alpha = pm.Gamma("alpha", m.a, m.b, shape=m.factors)
    z = pm.Normal("z", shape=(d, m.factors))
    w = z / pt.sqrt(alpha)
    mu = pm.Normal("mu", 0, m.precision**-0.5, shape=d)
    tau = pm.Gamma("tau", m.c, m.d, shape=() if m.common else d)
    pm.Deterministic("log_tau", pt.log(tau))
    covariance = w @ w.T + pt.diag(pt.ones(d) / tau)
    pm.Deterministic("covariance", covariance)
    pm.MvNormal("x", mu, cov=covariance, observed=x)


def _poisson_factorisation(m: Any, data: Data) -> None:
    rows, columns = data["counts"].shape
    theta = pm.Gamma("theta", m.a, m.b, shape=(rows, m.factors))
    beta = pm.Gamma("beta", m.c, m.d, shape=(m.factors, columns))
    rate = pm.Deterministic("rate", theta @ beta)
    pm.Poisson("counts", rate, observed=data["counts"])


def _lda(m: Any, data: Data) -> None:
    documents, words = data["counts"].shape
    theta = pm.Dirichlet("theta", np.full((documents, m.topics), m.alpha))
    pm.Deterministic("share", theta.mean(axis=0))
    beta = pm.Dirichlet("beta", np.full((m.topics, words), m.eta))
    pm.Potential("counts", (data["counts"] * pt.log(theta @ beta)).sum())


def _mixture_of_regressions(m: Any, data: Data) -> None:
    x, y, K = data["x"], data["y"], m.components
    weights = pm.Dirichlet("weights", np.full(K, m.concentration))
    w = pm.Normal("w", 0, m.precision**-0.5, shape=(K, x.shape[1]))
    tau = pm.Gamma("tau", m.a, m.b, shape=K)
    pm.Deterministic("log_tau", pt.log(tau))
    square = tau * (y[:, None] - x @ w.T) ** 2
    rows = 0.5 * (pt.log(tau) - LOG_2PI - square) + pt.log(weights)
    pm.Potential("y", pm.math.logsumexp(rows, axis=1).sum())


LIBRARY: dict[str, Callable[[Any, Data], None]] = {
    "normal": _of_normal,
    "linear-regression": _linear_regression,
    "sparse-regression": _sparse_regression,
    "logistic-regression": _logistic_regression,
    "probit-regression": _probit_regression,
    "hierarchical-normal": _hierarchical_normal,
    "hmm": _hmm,
    "linear-gaussian-state-space": _linear_gaussian_state_space,
    "factor-analysis": _factor_analysis,
    "ppca": _factor_analysis,
    "poisson-factorisation": _poisson_factorisation,
    "lda": _lda,
    "mixture-of-regressions": _mixture_of_regressions,
}
"""Name of a model of the library -> its sites, within a PyMC model."""


def of_library(name: str, settings: Any, data: Data) -> pm.Model:
    """A model of the library with its settings, of arrays by name."""
    with pm.Model() as model:
        LIBRARY[name](settings, data)
    return model
