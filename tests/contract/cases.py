"""Every family with hyperparameters, rows of its kind, and truths from elsewhere.

`log_blocks` is log p(rows of each component | assignment), all parameters integrated
out, from NumPy and SciPy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import integrate, stats
from scipy.special import betaln, gammaln, logsumexp, multigammaln

from tests.oracles import log_block as known_variance_block
from vi_bench.mixture.weights import Dirichlet, StickBreaking, Uniform
from vi_bench.models.bernoulli import Bernoulli
from vi_bench.models.categorical import Categorical
from vi_bench.models.exponential import Exponential
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_diagonal import GaussianDiagonal
from vi_bench.models.gaussian_full import GaussianFull
from vi_bench.models.gaussian_semiconjugate import GaussianSemiconjugate
from vi_bench.models.gaussian_semiconjugate_full import GaussianSemiconjugateFull
from vi_bench.models.gaussian_spherical import GaussianSpherical
from vi_bench.models.poisson import Poisson

Blocks = Sequence[np.ndarray]


@dataclass(frozen=True)
class Case:
    family: Any
    rows: Callable[[np.random.Generator, int], np.ndarray]
    log_blocks: Callable[[Blocks], float]
    exact: bool = True
    """Whether mean field is exact for one component."""


def each(log_block: Callable[[np.ndarray], float]) -> Callable[[Blocks], float]:
    return lambda blocks: sum(log_block(x) for x in blocks)


def real(random, n):
    centres = np.array([[-1.5, 0.5], [1.0, -1.0], [2.5, 2.0]])
    return centres[random.integers(3, size=n)] + 0.7 * random.normal(size=(n, 2))


def sequential_t(x, m, kappa, a, b):
    """One feature's Normal-Gamma marginal as a product of predictive t densities."""
    total = 0.0
    for value in x:
        scale = np.sqrt(b * (kappa + 1) / (a * kappa))
        total += stats.t.logpdf(value, 2 * a, m, scale)
        b += 0.5 * kappa * (value - m) ** 2 / (kappa + 1)
        m = (kappa * m + value) / (kappa + 1)
        kappa, a = kappa + 1, a + 0.5
    return total


def diagonal_block(x):
    return sum(
        sequential_t(x[:, j], m, 0.3, 2.5, b)
        for j, (m, b) in enumerate([(0.4, 0.8), (-0.2, 1.7)])
    )


def spherical_block(x):
    """Predictive multivariate t, one row after the other."""
    m, kappa, a, b = np.array([0.4, -0.2]), 0.3, 2.5, 0.8
    total = 0.0
    for row in x:
        shape = np.eye(2) * b * (kappa + 1) / (a * kappa)
        total += stats.multivariate_t.logpdf(row, m, shape, 2 * a)
        b += 0.5 * kappa * np.sum((row - m) ** 2) / (kappa + 1)
        m = (kappa * m + row) / (kappa + 1)
        kappa, a = kappa + 1, a + 1
    return total


SCALE = np.array([[1.3, 0.4], [0.4, 0.9]])


def full_block(x):
    m, kappa, nu, psi = np.array([0.4, -0.2]), 0.3, 4.5, SCALE
    total = 0.0
    for row in x:
        free = nu - 1
        shape = psi * (kappa + 1) / (kappa * free)
        total += stats.multivariate_t.logpdf(row, m, shape, free)
        gap = row - m
        psi = psi + np.outer(gap, gap) * kappa / (kappa + 1)
        m = (kappa * m + row) / (kappa + 1)
        kappa, nu = kappa + 1, nu + 1
    return total


def variance_grid(a, b):
    """Nodes and log weights for integrals over an inverse-Gamma(a, b) variance."""
    log_v, step = np.linspace(np.log(b) - 6, np.log(b) + 14, 4001, retstep=True)
    v = np.exp(log_v)
    return v, stats.invgamma.logpdf(v, a, scale=b) + log_v + np.log(step)


def given_variance(x, mean, sd, v):
    """log N(x; mean, v I + sd^2 11^T) for every variance of a grid."""
    n = len(x)
    if n == 0:
        return np.zeros_like(v)
    gap = x - mean
    denominator = v + n * sd**2
    square = (gap @ gap) / v - sd**2 * gap.sum() ** 2 / (v * denominator)
    return -0.5 * (
        n * np.log(2 * np.pi) + (n - 1) * np.log(v) + np.log(denominator) + square
    )


HALF = ((0.4, 2.0, 0.8), (-0.2, 3.0, 1.7))
"""Mean, sd and scale of the semiconjugate prior by feature."""


def semiconjugate_block(x):
    total = 0.0
    for j, (mean, sd, b) in enumerate(HALF):
        v, log_weight = variance_grid(2.5, b)
        total += logsumexp(given_variance(x[:, j], mean, sd, v) + log_weight)
    return total


def shared_blocks(blocks):
    total = 0.0
    for j, (mean, sd, b) in enumerate(HALF):
        v, log_weight = variance_grid(2.5, b)
        terms = sum(given_variance(x[:, j], mean, sd, v) for x in blocks)
        total += logsumexp(terms + log_weight)
    return total


def mean_grid():
    """Nodes (G, 2) and log weights for integrals over the prior of a mean."""
    axes, logs = [], []
    for mean, sd, _ in HALF:
        axis, step = np.linspace(mean - 8 * sd, mean + 8 * sd, 361, retstep=True)
        axes.append(axis)
        logs.append(stats.norm.logpdf(axis, mean, sd) + np.log(step))
    first, second = np.meshgrid(*axes, indexing="ij")
    return np.c_[first.ravel(), second.ravel()], np.add.outer(*logs).ravel()


MEANS = mean_grid()


def semiconjugate_full_block(x):
    """Given the mean the precision is integrated out: a ratio of two normalisers."""
    if not len(x):
        return 0.0
    mu, log_weight = MEANS
    n, d, nu = len(x), 2, 4.5
    centre = x.mean(axis=0)
    psi, gap = SCALE + (x - centre).T @ (x - centre), centre - mu
    # the determinant of psi + n gap gap^T
    lean = np.einsum("gi,ij,gj->g", gap, np.linalg.inv(psi), gap)
    log_det = np.linalg.slogdet(psi)[1] + np.log1p(n * lean)
    size = multigammaln((nu + n) / 2, d) - multigammaln(nu / 2, d)
    size += nu / 2 * np.linalg.slogdet(SCALE)[1] - n * d / 2 * np.log(np.pi)
    return float(logsumexp(log_weight - (nu + n) / 2 * log_det) + size)


def poisson_block(x):
    total = 0.0
    for j, a in enumerate([1.5, 0.7]):
        s, n, b = x[:, j].sum(), len(x), 0.4
        total += gammaln(a + s) - gammaln(a) + a * np.log(b) - (a + s) * np.log(b + n)
        total -= gammaln(x[:, j] + 1).sum()
    return total


def exponential_block(x):
    """Lomax predictives, one row after the other."""
    total = 0.0
    for j, b in enumerate([1.5, 0.7]):
        a = 1.8
        for value in x[:, j]:
            total += stats.lomax.logpdf(value, a, scale=b)
            a, b = a + 1, b + value
    return total


def bernoulli_block(x):
    n, ones = len(x), x.sum(axis=0)
    return float(np.sum(betaln(0.8 + ones, 1.4 + n - ones) - betaln(0.8, 1.4)))


def dirichlet_block(counts, alpha):
    prior = np.full(len(counts), alpha)
    a, a0 = (prior + counts), prior
    log_b = gammaln(a).sum() - gammaln(a.sum())
    return log_b - gammaln(a0).sum() + gammaln(a0.sum())


def categorical_block(x):
    return sum(
        dirichlet_block(np.bincount(x[:, j].astype(int), minlength=size), 0.6)
        for j, size in enumerate([3, 2])
    )


def multinomial_block(x):
    ways = gammaln(x.sum(axis=1) + 1).sum() - gammaln(x + 1).sum()
    return ways + dirichlet_block(x.sum(axis=0), 0.6)


SEMI: dict[str, Any] = {
    "mean": tuple(h[0] for h in HALF),
    "sd": tuple(h[1] for h in HALF),
    "shape": 2.5,
    "scale": tuple(h[2] for h in HALF),
}

CASES: dict[str, Case] = {
    "gaussian": Case(
        Gaussian(sigma=1.7, variance=0.6, mean=0.4),
        real,
        each(lambda x: known_variance_block(x, 1.7, 0.6, 0.4)),
    ),
    "gaussian-spherical": Case(
        GaussianSpherical(mean=(0.4, -0.2), kappa=0.3, shape=2.5, rate=0.8),
        real,
        each(spherical_block),
    ),
    "gaussian-diagonal": Case(
        GaussianDiagonal(mean=(0.4, -0.2), kappa=0.3, shape=2.5, rate=(0.8, 1.7)),
        real,
        each(diagonal_block),
    ),
    "gaussian-full": Case(
        GaussianFull(
            mean=(0.4, -0.2),
            kappa=0.3,
            degrees_of_freedom=4.5,
            scale=tuple(map(tuple, SCALE.tolist())),
        ),
        real,
        each(full_block),
    ),
    "gaussian-semiconjugate": Case(
        GaussianSemiconjugate(**SEMI), real, each(semiconjugate_block), exact=False
    ),
    "gaussian-semiconjugate-shared": Case(
        GaussianSemiconjugate(**SEMI, shared=True), real, shared_blocks, exact=False
    ),
    "gaussian-semiconjugate-full": Case(
        GaussianSemiconjugateFull(
            mean=SEMI["mean"],
            sd=SEMI["sd"],
            degrees_of_freedom=4.5,
            scale=tuple(map(tuple, SCALE.tolist())),
        ),
        real,
        each(semiconjugate_full_block),
        exact=False,
    ),
    "poisson": Case(
        Poisson(shape=(1.5, 0.7), rate=0.4),
        lambda random, n: random.poisson(
            np.array([[1.0, 6.0], [8.0, 2.0]])[random.integers(2, size=n)]
        ).astype(float),
        each(poisson_block),
    ),
    "exponential": Case(
        Exponential(shape=1.8, rate=(1.5, 0.7)),
        lambda random, n: random.exponential(
            np.array([[0.3, 4.0], [5.0, 0.8]])[random.integers(2, size=n)]
        ),
        each(exponential_block),
    ),
    "bernoulli": Case(
        Bernoulli(a=0.8, b=1.4),
        lambda random, n: (
            random.uniform(size=(n, 2))
            < np.array([[0.1, 0.7], [0.9, 0.3]])[random.integers(2, size=n)]
        ).astype(float),
        each(bernoulli_block),
    ),
    "categorical": Case(
        Categorical(concentration=0.6, levels=(3, 2)),
        lambda random, n: np.c_[
            random.integers(3, size=n), random.integers(2, size=n)
        ].astype(float),
        each(categorical_block),
    ),
    "multinomial": Case(
        Categorical(concentration=0.6, counts=True, total=9),
        lambda random, n: random.poisson(
            np.array([[1.0, 5.0, 2.0], [6.0, 1.0, 1.0]])[random.integers(2, size=n)]
        ).astype(float),
        each(multinomial_block),
    ),
}

WEIGHTS: dict[str, Any] = {
    "uniform": Uniform(),
    "dirichlet": Dirichlet(0.7),
    "sparse": Dirichlet(1e-3),
    "stick-breaking": StickBreaking(1.6),
}


def log_assignment(labels: np.ndarray, K: int, weights: Any) -> float:
    """log p(c), the weights integrated out, by the textbook for each prior."""
    n = np.bincount(labels, minlength=K)
    N = len(labels)
    if isinstance(weights, Dirichlet):
        alpha = float(weights.concentration)
        ratio = gammaln(K * alpha) - gammaln(K * alpha + N)
        return float(ratio + np.sum(gammaln(alpha + n) - gammaln(alpha)))
    if isinstance(weights, StickBreaking):
        gamma = float(weights.concentration)
        after = N - np.cumsum(n)
        return float(np.sum((betaln(1 + n, gamma + after) - betaln(1, gamma))[:-1]))
    return -N * np.log(K)


def log_evidence(x: np.ndarray, K: int, case: Case, weights: Any) -> float:
    """log p(X) summed over all K^N assignments."""
    terms = []
    for labels in product(range(K), repeat=len(x)):
        c = np.array(labels)
        blocks = [x[c == k] for k in range(K)]
        terms.append(log_assignment(c, K, weights) + case.log_blocks(blocks))
    return float(logsumexp(terms))


def quadrature(function: Callable[[float], float], low: float, high: float) -> float:
    return float(integrate.quad(function, low, high, epsabs=0, epsrel=1e-11)[0])
