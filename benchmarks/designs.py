"""Small data sets whose posterior has two modes that are no relabellings of each other.

Each comes with a criterion that tells from the parameters of a single draw, whatever
the order of its components, whether it lies in the first mode, and with that mode's
exact mass: the law of the assignments is enumerated, and given them the components are
independent and conjugate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betainc, ndtr

from vi_bench.data.load import load
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.mixture.mixture import Mixture, bind
from vi_bench.spec import Spec

RARE = 1e-12
"""Probability up to which assignments are left out."""

CELLS = 1000
"""Number of cells of the discretised distribution of a log ratio; that of a probability
has a tenth of them."""

Draws = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Modes:
    """Rows, their mixture, and its two modes.

    Attributes:
        values: rows (N, d).
        settings: "model" and "components" of a spec; the weights are 1/K.
        first: whether draws (..., K, d), by parameter, lie in the first mode (...).
        given: P(first mode | assignments) (A,), from indicators c_i = k (A, K, N).
    """

    values: np.ndarray
    settings: dict[str, Any]
    first: Callable[[Draws], np.ndarray]
    given: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def mixture(self) -> Mixture:
        """The mixture bound to the rows, in 64 bits."""
        spec = Spec(**self.settings)
        with jax.enable_x64(True):
            return bind(spec.family(), self.values, spec.components, jnp.float64)

    @cached_property
    def mass(self) -> float:
        """Posterior mass of the first mode, but for the assignments left out."""
        assignments, weight = likely(self.mixture)
        assert 1 - weight.sum() < 1e-6
        return float(weight @ self.given(assignments) / weight.sum())


def likely(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Assignments (A, K, N) that are not rare, and their probabilities (A,)."""
    K, N = mixture.components, mixture.rows
    with jax.enable_x64(True):
        found = enumerate_subsets(mixture)
        blocks = np.asarray(found.log_block)
    labels = np.arange(K**N)[:, None] // K ** np.arange(N) % K
    sets = [(labels == k) @ (1 << np.arange(N)) for k in range(K)]
    log_weight = sum(blocks[of] for of in sets)
    weight = np.exp(log_weight - np.logaddexp.reduce(log_weight))
    kept = labels[weight > RARE]
    members = kept[:, None, :] == np.arange(K)[:, None]
    return members.astype(float), weight[weight > RARE]


def corners() -> Modes:
    """Four corners of a square, two Gaussians: left and right, or top and bottom.

    The first mode is left and right: the means are further apart in x than in y.
    """
    values, sigma = load("corners").values, 5.0
    model = {"name": "gaussian", "mean": 0.0, "sigma": sigma, "variance": 1.0}

    def given(members: np.ndarray) -> np.ndarray:
        mean, variance = gaussian_means(values, members, sigma)
        gap, sd = mean[:, 0] - mean[:, 1], np.sqrt(2 * variance.sum(axis=1))
        # |dx| > |dy| where dx - dy and dx + dy, independent, have the same sign
        u, v = (gap[:, 0] - gap[:, 1]) / sd, (gap[:, 0] + gap[:, 1]) / sd
        return ndtr(u) * ndtr(v) + ndtr(-u) * ndtr(-v)

    return Modes(
        values,
        {"model": model, "components": 2},
        lambda draws: wider(draws["mu"][..., :1], draws["mu"][..., 1:]),
        given,
    )


def gaussian_means(
    values: np.ndarray, members: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means (A, K, d) and variances (A, K); rows have mean mu, variance 1."""
    variance = 1 / (members.sum(axis=2) + sigma**-2)
    return members @ values * variance[:, :, None], variance


def wider(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether sums over columns (..., 2, columns) are further apart in the first."""
    apart = [np.abs(np.diff(v.sum(axis=-1), axis=-1)[..., 0]) for v in (one, other)]
    return apart[0] > apart[1]


def counts() -> Modes:
    """Counts in two columns, two Poisson components: by the first column or the second.

    The first mode is by the first column: the ratio of its rates is the larger one.
    """
    low, high = [3, 2, 3, 3, 1, 1, 2, 2], [19, 18, 19, 19, 19, 18, 19, 19]
    second = [2, 3, 1, 2, 18, 17, 19, 19, 1, 2, 3, 3, 18, 18, 18, 19]
    values = np.column_stack([low + high, second]).astype(float)
    shape, rate = 2.0, 0.2

    def given(members: np.ndarray) -> np.ndarray:
        after = shape + members @ values, rate + members.sum(axis=2)
        return np.array([larger_ratio(*one) for one in zip(*after, strict=True)])

    def first(draws: Draws) -> np.ndarray:
        log_rate = np.log(draws["rate"])
        return wider(log_rate[..., :1], log_rate[..., 1:])

    model = {"name": "poisson", "shape": shape, "rate": rate}
    return Modes(values, {"model": model, "components": 2}, first, given)


def larger_ratio(shape: np.ndarray, rate: np.ndarray) -> float:
    """P(|log r_11 / r_21| > |log r_12 / r_22|), r_kj ~ Gamma(shape_kj, rate_k).

    The share of r_1 rate_1 in its sum with r_2 rate_2 is Beta.
    """
    ends = np.linspace(0, 8, CELLS + 1)
    odds = np.exp(np.concatenate([-ends[::-1], ends])) * rate[0] / rate[1]
    cdf = betainc(shape[0], shape[1], (odds / (1 + odds))[:, None])
    below = cdf[CELLS + 1 :] - cdf[CELLS::-1]
    return float(above(*np.diff(below, axis=0).T))


def above(one: np.ndarray, other: np.ndarray) -> float:
    """P(X > Y) for independent X and Y from cell probabilities, ties counted half."""
    beyond = 1 - np.cumsum(one) + one / 2
    return float(other @ beyond)


def three() -> Modes:
    """Four groups in the plane, three Gaussians: which two neighbours share one.

    Two groups are left, two right. The first mode has one component for the right ones:
    two of the three means are left.
    """
    group = np.array([[0.1, 0.5], [-0.4, -0.1], [0.3, -0.4]])
    centres = np.array([[-6.0, -2.2], [-6.0, 2.2], [6.0, -2.17], [6.0, 2.17]])
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    values = (centres[:, None] + signs[:, None, None] * group).reshape(12, 2)
    sigma = 6.0

    def given(members: np.ndarray) -> np.ndarray:
        mean, variance = gaussian_means(values, members, sigma)
        p, q, r = ndtr(-mean[:, :, 0] / np.sqrt(variance)).T
        return p * q + p * r + q * r - 2 * p * q * r

    model = {"name": "gaussian", "mean": 0.0, "sigma": sigma, "variance": 1.0}
    return Modes(
        values,
        {"model": model, "components": 3},
        lambda draws: np.median(draws["mu"][..., 0], axis=-1) < 0,
        given,
    )


def bits() -> Modes:
    """Ten binary columns, two Bernoulli components: by the first five or the others.

    The first mode is by the first five: the sums of their probabilities are further
    apart than those of the others.
    """
    groups = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 4, axis=0)
    values = np.repeat(groups, 5, axis=1).astype(float)
    for row, column in ((1, 8), (6, 1), (8, 8)):
        values[row, column] = 1 - values[row, column]

    def given(members: np.ndarray) -> np.ndarray:
        ones = 1 + members @ values
        zeros = 1 + members @ (1 - values)
        return np.array([larger_gap(*one) for one in zip(ones, zeros, strict=True)])

    def first(draws: Draws) -> np.ndarray:
        p = draws["probability"]
        return wider(p[..., :5], p[..., 5:])

    model = {"name": "bernoulli", "a": 1.0, "b": 1.0}
    return Modes(values, {"model": model, "components": 2}, first, given)


def larger_gap(a: np.ndarray, b: np.ndarray) -> float:
    """P(|sum_j p_1j - p_2j| over the first half > that over the other).

    p_kj ~ Beta(a_kj, b_kj), with a and b (2, columns); their distributions are
    convolved as probabilities of cells.
    """
    ends = np.linspace(0, 1, CELLS // 10 + 1)
    cells = np.diff(betainc(a[..., None], b[..., None], ends), axis=-1)
    halves = []
    for half in np.split(np.arange(a.shape[1]), 2):
        law = np.ones(1)
        for j in half:
            law = np.convolve(law, np.convolve(cells[0, j], cells[1, j, ::-1]))
        middle = len(law) // 2
        folded = law[middle:].copy()
        folded[1:] += law[:middle][::-1]
        halves.append(folded)
    return above(*halves)


DESIGNS: dict[str, Callable[[], Modes]] = {
    "corners": corners,
    "counts": counts,
    "three": three,
    "bits": bits,
}
"""Name -> design; the masses of the first modes are about 0.60, 0.90, 0.60, 0.81."""
