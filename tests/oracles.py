"""Truths that share no code with the package: NumPy, SciPy, textbook formulas."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal


def factors(lam: np.ndarray) -> Any:
    """Natural parameters of the components as CAVI's factors, weights 1/K."""
    from vi_bench.mixture.mixture import Factors

    return Factors(jnp.asarray(lam), jnp.zeros((2, 0)))


def log_block(x: np.ndarray, sigma: float, variance: float, mean: float) -> float:
    """log p(rows of one component), the mean integrated out; 0 without rows.

    Each feature of the stacked rows is N(mean, variance I + sigma^2 11^T).
    """
    n, d = x.shape
    if n == 0:
        return 0.0
    covariance = variance * np.eye(n) + sigma**2 * np.ones((n, n))
    centre = np.full(n, mean)
    return float(
        sum(multivariate_normal.logpdf(x[:, j], centre, covariance) for j in range(d))
    )


def enumerate_assignments(
    x: np.ndarray, K: int, sigma: float, variance: float = 1.0, mean: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Every assignment (K^N, N) and its log joint with the data, all constants in."""
    n = len(x)
    blocks = {}
    assignments = np.array(list(product(range(K), repeat=n)))
    log_joint = np.full(len(assignments), -n * np.log(K))
    for i, c in enumerate(assignments):
        for k in range(K):
            rows = tuple(np.flatnonzero(c == k))
            if rows not in blocks:
                blocks[rows] = log_block(x[list(rows)], sigma, variance, mean)
            log_joint[i] += blocks[rows]
    return assignments, log_joint


def log_evidence(
    x: np.ndarray, K: int, sigma: float, variance: float = 1.0, mean: float = 0.0
) -> float:
    """log p(X) summed over all K^N assignments."""
    return float(logsumexp(enumerate_assignments(x, K, sigma, variance, mean)[1]))


def textbook_elbo(
    x: np.ndarray,
    m: np.ndarray,
    s2: np.ndarray,
    phi: np.ndarray,
    sigma: float,
    variance: float = 1.0,
    mean: float = 0.0,
) -> float:
    """E log p(mu) + E log p(c) + E log p(x | c, mu) + H(q(c)) + H(q(mu)), term by term.

    Blei, Kucukelbir and McAuliffe (2017), equation 21, in d dimensions.
    """
    n, d = x.shape
    K = len(m)
    prior = -0.5 * d * np.log(2 * np.pi * sigma**2) - (
        np.sum((m - mean) ** 2, axis=1) + d * s2
    ) / (2 * sigma**2)
    square = np.sum((x[:, None] - m) ** 2, axis=2) + d * s2
    likelihood = -0.5 * d * np.log(2 * np.pi * variance) - square / (2 * variance)
    labels = -np.sum(phi * np.log(np.where(phi > 0, phi, 1.0)))
    means = np.sum(0.5 * d * np.log(2 * np.pi * np.e * s2))
    return float(
        prior.sum() - n * np.log(K) + np.sum(phi * likelihood) + labels + means
    )
