"""Is q of a discrete variable optimal, element by element?

As a function of q(z_i) alone the ELBO is sum_k q_ik (L_ik - log q_ik) and what does not
depend on it, with L_ik = E_q[log p(x, theta, z)] at z_i = k. Its maximum is at
softmax(L_i), or at argmax(L_i) for a hard assignment. Scores do not tell this of
categories that are hardly ever drawn, or never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.special import logsumexp, softmax, xlogy

from vi_bench.verification.finding import HARD

DRAWS = 200
"""Draws of q, half of which find the optimum that the other half is judged by."""

PAIRS = 600
"""Elements times categories that are tried at most."""


@dataclass(frozen=True)
class Reassigned:
    """What the best q of each element alone gains, all together.

    Attributes:
        nats: the gain.
        error: its standard error.
        element: index of the element with the most to gain.
        category: the category whose probability is most off there.
        has: its probability in q.
        best: its probability at the optimum.
        tried: share of the elements that was tried.
    """

    nats: float
    error: float
    element: tuple[int, ...]
    category: int
    has: float
    best: float
    tried: float


def reassigned(
    program: Callable[..., Any],
    shape: tuple[int, ...],
    categories: np.ndarray,
) -> Reassigned | None:
    """The gain of moving q(z_i) of every element to its optimum; None if there is none.

    Args:
        program: (keys, elements (M,), values (M,)) -> log p and log q (draws, M), with
            one element of z at that value in each of M.
        shape: shape of z.
        categories: the values that an element may have (K,).
    """
    size, number = int(np.prod(shape)), len(categories)
    if not size or number < 2:
        return None
    most = max(PAIRS // number, 1)
    elements = np.arange(size)
    if size > most:
        elements = np.sort(np.random.default_rng(0).permutation(size)[:most])
    keys = jax.random.split(jax.random.key(20170415), DRAWS)
    given = np.repeat(elements, number), np.tile(categories, len(elements))
    log_p, log_q = (np.asarray(v) for v in program(keys, *given))
    log_p = log_p.reshape(DRAWS, len(elements), number)
    own = log_q[0].reshape(len(elements), number)
    q = np.exp(own - logsumexp(own, axis=1, keepdims=True))
    hard = bool(np.all(np.minimum(q, 1 - q) <= HARD))
    if hard:
        q = np.round(q)  # some distributions keep probabilities a little above 0
    # a category that the model does not allow gains nothing
    log_p = np.where(np.isfinite(log_p), log_p, -1e300 if hard else -1e10)
    half = DRAWS // 2
    sides = (log_p[:half], log_p[half:]), (log_p[half:], log_p[:half])
    found = [_gain(optimum(a.mean(axis=0), hard), q, b, hard) for a, b in sides]
    best = optimum(log_p.mean(axis=0), hard)
    gains = np.sum((best - q) * log_p.mean(axis=0), axis=1)
    gains = gains if hard else gains + _entropy(best) - _entropy(q)
    worst = int(np.argmax(gains))
    category = _most_off(best[worst], q[worst])
    return Reassigned(
        nats=float(np.mean([nats for nats, _ in found])),
        error=float(np.hypot(found[0][1], found[1][1]) / 2),
        element=tuple(int(i) for i in np.unravel_index(elements[worst], shape)),
        category=int(categories[category]),
        has=float(q[worst, category]),
        best=float(best[worst, category]),
        tried=len(elements) / size,
    )


def _most_off(best: np.ndarray, q: np.ndarray) -> int:
    """The category whose probability changes most, in proportion."""
    change = np.abs(best - q)
    most = change / np.maximum(np.maximum(best, q), 1e-300)
    return int(np.argmax(np.where(change >= 0.1 * change.max(), most, 0.0)))


def optimum(log_p: np.ndarray, hard: bool) -> np.ndarray:
    """The best probabilities (n, K) given the mean log joint by category (n, K)."""
    if hard:
        return np.eye(log_p.shape[1])[np.argmax(log_p, axis=1)]
    return np.asarray(softmax(log_p, axis=1))


def _entropy(q: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sum(xlogy(q, q), axis=1))


def _gain(
    best: np.ndarray, q: np.ndarray, log_p: np.ndarray, hard: bool
) -> tuple[float, float]:
    """The gain, and its standard error, by draws that did not find the optimum."""
    linear = np.sum((best - q) * log_p, axis=(1, 2))
    entropy = 0.0 if hard else float(np.sum(_entropy(best) - _entropy(q)))
    error = float(linear.std(ddof=1)) / len(linear) ** 0.5
    return float(linear.mean()) + entropy, error
