"""Correlations between quantities of a method, compared with the reference's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vi_bench.comparison.measures import Summary, error_of_mean
from vi_bench.comparison.quantities import Quantity
from vi_bench.comparison.verdict import Margin, Test


def worst_correlations(
    mine: Mapping[Quantity, np.ndarray],
    own: Mapping[Quantity, Summary],
    theirs: Mapping[Quantity, np.ndarray],
    trusted: Mapping[Quantity, Summary],
    margin: Margin,
) -> list[Test]:
    """Tests of the two pairs of quantities that decide: most different, least certain.

    Of all pairs at most two are returned: the one whose difference of correlations is
    farthest beyond the margin, in its errors, which stands for all by Bonferroni's
    correction; and the one whose error is largest. They are selected with errors from
    the effective sample sizes of the two quantities, then tested with that of `error`.

    Args:
        mine: quantity -> draws (chain, draw) of the method.
        own: quantity -> the method's summary.
        theirs: quantity -> draws (chain, draw) of the reference.
        trusted: quantity -> the reference's summary.
        margin: the equivalence margins.
    """
    names = [
        n
        for n in theirs
        if n in mine and own[n].sd.value > 0 and trusted[n].sd.value > 0
    ]
    if len(names) < 2:
        return []
    a, a_var = correlations(np.stack([mine[n] for n in names]), _sizes(own, names))
    b, b_var = correlations(
        np.stack([theirs[n] for n in names]), _sizes(trusted, names)
    )
    first, second = np.triu_indices(len(names), 1)
    value = (a - b)[first, second]
    se = np.sqrt(a_var + b_var)[first, second]
    band = margin.band("correlation")
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.nan_to_num((np.abs(value) - band) / se, nan=-np.inf)
    chosen = {int(np.argmax(excess)), int(np.argmax(se + 1e-3 * np.abs(value)))}
    found = []
    for i in sorted(chosen):
        pair = names[first[i]], names[second[i]]
        errors = [error(*(side[n] for n in pair)) for side in (mine, theirs)]
        found.append(
            Test(
                "correlation",
                " and ".join(pair),
                float(value[i]),
                float(np.hypot(errors[0], errors[1])),
                band,
                among=len(value),
            )
        )
    return found


def error(x: np.ndarray, y: np.ndarray) -> float:
    """The Monte-Carlo error of the correlation of two quantities (chain, draw).

    It is that of the mean of the influence function, whose autocorrelation is not that
    of the quantities: products of antithetic chains are not antithetic.
    """
    x, y = ((v - v.mean()) / v.std() for v in (x, y))
    r = np.mean(x * y)
    influence = x * y - r * (x**2 + y**2) / 2
    return error_of_mean(influence) if np.ptp(influence) else 0.0


def _sizes(summaries: Mapping[Quantity, Summary], names: list[Quantity]) -> np.ndarray:
    """Bulk effective sample sizes (Q,), at least 1."""
    sizes = np.array([summaries[n].ess_bulk for n in names])
    return np.maximum(np.where(np.isfinite(sizes), sizes, 1.0), 1.0)


def correlations(draws: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of quantities (Q, chain, draw) and their squared errors, (Q, Q).

    The influence of a draw (x, y), standardised, on a correlation r is x y - r (x^2 +
    y^2) / 2; the squared error is its variance over the smaller of the two effective
    sample sizes.

    Args:
        draws: draws of every quantity.
        sizes: their effective sample sizes (Q,).
    """
    flat = draws.reshape(len(draws), -1)
    z = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    n, z2 = z.shape[1], z**2
    r = z @ z.T / n
    square, cubic = z2 @ z2.T / n, (z2 * z) @ z.T / n
    fourth = np.mean(z2**2, axis=1)
    variance = (
        square
        - r * (cubic + cubic.T)
        + r**2 / 4 * (fourth[:, None] + 2 * square + fourth[None, :])
    )
    least = np.minimum(sizes[:, None], sizes[None, :])
    return r, np.maximum(variance, 0.0) / least
