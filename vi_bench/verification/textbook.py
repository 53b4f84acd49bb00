"""CAVI for the known-variance Gaussian mixture by its formulas, in NumPy and 64 bits.

Blei, Kucukelbir and McAuliffe (2017), section 3, in d dimensions, all variances 1:
mu_k ~ N(0, sigma^2 I), c_i uniform, x_i ~ N(mu_{c_i}, I); q(mu_k) = N(m_k, s2_k I) and
q(c_i) = phi_i. It shares no code with the package's kernels and does not use JAX.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, softmax, xlogy

Fit = tuple[np.ndarray, np.ndarray, np.ndarray]
"""m (K, d), s2 (K,), phi (N, K)."""


def responsibilities(x: np.ndarray, m: np.ndarray, s2: np.ndarray) -> np.ndarray:
    """The optimal phi (N, K) for m and s2; equation 26, in d dimensions."""
    found: np.ndarray = softmax(_scores(x, m, s2), axis=1)
    return found


def means(
    x: np.ndarray, phi: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """The optimal m (K, d) and s2 (K,) for phi; equation 34."""
    s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
    return s2[:, None] * (phi.T @ x), s2


def elbo(
    x: np.ndarray, m: np.ndarray, s2: np.ndarray, phi: np.ndarray, sigma: float
) -> float:
    """The ELBO in nats, every constant included; equation 21."""
    K, d = m.shape
    kl = 0.5 * np.sum(
        (d * s2 + np.sum(m**2, axis=1)) / sigma**2 - d - d * np.log(s2 / sigma**2)
    )
    rows = -0.5 * d * np.log(2 * np.pi) - 0.5 * _square(x, m, s2) - np.log(K)
    return float(np.sum(phi * rows) - np.sum(xlogy(phi, phi)) - kl)


def row_scale(x: np.ndarray, m: np.ndarray, s2: np.ndarray) -> np.ndarray:
    """The size (N,) of the terms that the usual formulas sum for each row.

    They expand E |x_i - mu_k|^2 / 2 to |x_i|^2 / 2 - x_i m_k + (|m_k|^2 + d s2_k) / 2;
    these terms are larger than their sum where the data are far from 0.
    """
    d = m.shape[1]
    length, each = np.linalg.norm(x, axis=1), np.linalg.norm(m, axis=1)
    terms = length[:, None] * each + 0.5 * (each**2 + d * s2)
    found: np.ndarray = 0.5 * length**2 + terms.max(axis=1) + d
    return found


def scale(x: np.ndarray, m: np.ndarray, s2: np.ndarray, sigma: float) -> float:
    """The size of the terms that the usual formulas of the ELBO sum, nats."""
    return float(row_scale(x, m, s2).sum() + _prior_scale(m, s2, sigma))


def centred_scale(
    x: np.ndarray, m: np.ndarray, s2: np.ndarray, phi: np.ndarray, sigma: float
) -> float:
    """The size of the terms that `elbo` sums, nats; it subtracts before it squares."""
    rows = 0.5 * np.sum(phi * _square(x, m, s2)) + x.size
    return float(rows + _prior_scale(m, s2, sigma))


def _prior_scale(m: np.ndarray, s2: np.ndarray, sigma: float) -> float:
    """The size of the terms of KL(q(mu) || p(mu)), nats."""
    d, ratio = m.shape[1], s2 / sigma**2
    terms = d * (ratio + np.abs(np.log(ratio)) + 1) + np.sum(m**2, axis=1) / sigma**2
    return float(np.sum(terms))


def divergence(m: np.ndarray, s2: np.ndarray, m0: np.ndarray, s20: np.ndarray) -> float:
    """KL(N(m, s2 I) || N(m0, s20 I)) in nats, summed over components."""
    d, off = m.shape[1], s2 / s20 - 1
    away = np.sum((m - m0) ** 2, axis=1) / s20
    return float(0.5 * np.sum(d * (off - np.log1p(off)) + away))


def log_joint(x: np.ndarray, labels: np.ndarray, K: int, sigma: float) -> float:
    """Log p(X, c) in nats, with the means integrated out."""
    total = -len(x) * np.log(K)
    for k in range(K):
        own = x[labels == k]
        n = len(own)
        if n:
            total += log_block(own.sum(axis=0), np.sum(own**2), n, sigma)
    return float(total)


def log_block(s: np.ndarray, square: float, n: int, sigma: float) -> float:
    """Log density of n rows of one component, by their sum (d,) and sum of squares."""
    d = len(s)
    shrink = sigma**2 / (1 + n * sigma**2)
    return float(
        -0.5 * n * d * np.log(2 * np.pi)
        - 0.5 * d * np.log1p(n * sigma**2)
        - 0.5 * (square - shrink * (s @ s))
    )


def log_evidence(x: np.ndarray, K: int, sigma: float) -> float:
    """Log p(X) in nats, summed over all assignments by recursion over sets of rows."""
    n = len(x)
    if n == 0:
        return 0.0
    sets = np.arange(2**n)
    member = (sets[:, None] >> np.arange(n)) & 1
    block = np.array(
        [
            log_block(member[i] @ x, member[i] @ np.sum(x**2, axis=1), k, sigma)
            if (k := int(member[i].sum()))
            else 0.0
            for i in sets
        ]
    )
    so_far = block
    for _ in range(K - 1):
        following = np.empty_like(block)
        for whole in sets:
            parts = sets[(sets & whole) == sets]
            following[whole] = np.logaddexp.reduce(block[parts] + so_far[whole ^ parts])
        so_far = following
    return float(so_far[-1] - n * np.log(K))


def _scores(x: np.ndarray, m: np.ndarray, s2: np.ndarray) -> np.ndarray:
    found: np.ndarray = log_softmax(-0.5 * _square(x, m, s2), axis=1)
    return found


def _square(x: np.ndarray, m: np.ndarray, s2: np.ndarray) -> np.ndarray:
    """E |x_i - mu_k|^2 (N, K)."""
    apart: np.ndarray = np.sum((x[:, None] - m) ** 2, axis=2) + m.shape[1] * s2
    return apart


def ascend(x: np.ndarray, phi: np.ndarray, sigma: float) -> float:
    """The ELBO, nats, at which coordinate ascent from these responsibilities ends."""
    before = -np.inf
    for _ in range(1000):
        m, s2 = means(x, phi, sigma)
        phi = responsibilities(x, m, s2)
        bound = elbo(x, m, s2, phi, sigma)
        if bound - before < 1e-9 * (1 + abs(bound)):
            break
        before = bound
    return bound


def best_elbo(x: np.ndarray, K: int, sigma: float, starts: int = 10) -> float:
    """The highest ELBO, nats, of ascents from several starts at random rows."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(starts if K > 1 and len(x) else 1):
        seeds = x[random.permutation(len(x))[:K]]
        m = np.concatenate([seeds, np.zeros((K - len(seeds), x.shape[1]))])
        found.append(ascend(x, responsibilities(x, m, np.ones(K)), sigma))
    return max(found)
