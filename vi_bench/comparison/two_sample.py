"""Distances between two samples (n, D) of equal size, draws taken as independent.

Noise floors are in `vi_bench.comparison.joint`.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist

ONE_AT_A_TIME = Lock()
"""Held by the one classifier that is at work: it sets threads and warnings of all."""

DIRECTIONS, PERMUTATIONS, FOLDS = 200, 199, 5
"""Random directions of `sliced`, permutations of a test, folds of cross-validation."""

PRODUCTS = 12
"""Number of columns up to which the classifier uses products of two, beyond it squares.
"""


def sliced(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Mean Wasserstein-1 distance of two (n, D) samples over random directions."""
    directions = np.random.default_rng(seed).normal(size=(x.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    one, other = (np.sort(v @ directions, axis=0) for v in (x, y))
    return float(np.abs(one - other).mean())


def transport(x: np.ndarray, y: np.ndarray) -> float:
    """Wasserstein-1 distance, Euclidean, of two samples (n, D) of equal size."""
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


def energy(x: np.ndarray, y: np.ndarray) -> float:
    """Energy distance of two (n, D) samples (V-statistic, never negative)."""
    within = cdist(x, x).mean() + cdist(y, y).mean()
    return float(2 * cdist(x, y).mean() - within)


def median_distance(y: np.ndarray) -> float:
    """The median distance between two draws; 1 where that is 0."""
    return float(np.median(pdist(y))) or 1.0


def gaussian(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """The Gaussian kernel between all pairs (n, m)."""
    return np.asarray(np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2)))


def mmd(x: np.ndarray, y: np.ndarray, width: float) -> float:
    """Squared maximum mean discrepancy of two (n, D) samples, unbiased."""
    pairs = len(x) * (len(x) - 1)
    within = sum((gaussian(v, v, width).sum() - len(v)) / pairs for v in (x, y))
    return float(within - 2 * gaussian(x, y, width).mean())


def labellings(n: int, seed: int, number: int = PERMUTATIONS) -> np.ndarray:
    """Sample labels +1 and -1 (1 + number, 2n): the true ones, then permutations."""
    true = np.repeat([1.0, -1.0], n)
    rows = np.tile(true, (number, 1))
    return np.vstack([true, np.random.default_rng(seed).permuted(rows, axis=1)])


def p_value(similarity: np.ndarray, labels: np.ndarray) -> float:
    """Permutation p-value: share of labellings whose statistic is at least the first's.

    The statistic is the sum of s_i s_j similarity_ij: similarity within samples less
    that across. With equal sizes MMD^2 and energy distance are increasing in it.
    """
    alike = np.einsum("pi,pi->p", labels @ similarity, labels)
    # a permutation may repeat the true labelling, summed in another order
    return float(np.mean(alike >= alike[0] - 1e-9 * abs(alike[0])))


def classify(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Out-of-fold accuracy of a classifier between two (n, D) samples of equal size.

    Logistic regression on the columns, their squares and, up to PRODUCTS columns, their
    products; shuffled folds, each with as many of both.
    """
    # late: scikit-learn takes a second to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    whose = np.repeat([1, 0], len(x))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    seen = features(np.concatenate([x, y]))
    # several threads are slower on so little work; both settings are the process's
    with ONE_AT_A_TIME, threadpool_limits(1):
        told = cross_val_predict(model, seen, whose, cv=folds)
    return float(np.mean(told == whose))


def features(x: np.ndarray) -> np.ndarray:
    """Columns with their products of two, or squares beyond PRODUCTS, (n, F)."""
    i, j = np.triu_indices(x.shape[1])
    if x.shape[1] > PRODUCTS:
        i = j = np.arange(x.shape[1])
    return np.hstack([x, x[:, i] * x[:, j]])
