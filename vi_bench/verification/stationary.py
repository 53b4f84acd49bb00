"""Is a factor of q stationary? By the covariance of its scores with log p - log q.

The ELBO's gradient by the parameters of factor j is Cov_q(score_j, r), where score_j is
the gradient of log q_j and r = log p - log q. With the Fisher information F of q_j, the
covariance g gives the natural gradient F^-1 g, whose step gains g' F^-1 g / 2 nats to
second order. The direction of the step is found from one half of the draws, the slope
along it measured on the other half, so that noise gives no gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 50
"""Draws that a score's square must be spread over: fewer tell nothing of it."""

RANK = 1e-9
"""Relative eigenvalue below which a direction in the scores counts as none."""


@dataclass(frozen=True)
class Gain:
    """What a step of the natural gradient gains.

    Attributes:
        nats: the gain, to second order, less that of noise.
        noise: gain that noise alone gives, nats.
        spread: standard error of the gain, nats.
        slope: slope of the bound along the unit direction, in the Fisher metric.
        error: standard error of the slope.
        step: change of every parameter (p,).
        share: part of the gain due to every parameter (p,).
        dropped: number of parameters that too few draws tell of.
    """

    nats: float
    noise: float
    spread: float
    slope: float
    error: float
    step: np.ndarray
    share: np.ndarray
    dropped: int = 0


def gain_of(scores: np.ndarray, ratio: np.ndarray) -> Gain:
    """The gain of a step of the natural gradient.

    Args:
        scores: gradient of log q_j by its parameters, by draw (S, p).
        ratio: log p - log q by draw (S,), nats.
    """
    number, parameters = scores.shape
    centred = scores - scores.mean(axis=0)
    squares = centred**2
    unit = np.sqrt(np.mean(squares, axis=0))
    fourth = np.einsum("sp,sp->p", squares, squares) / number
    peaked = fourth > unit**4 * number / LEAST
    kept = np.flatnonzero((unit > 0) & ~peaked)
    if not len(kept):
        nothing = np.zeros(parameters)
        return Gain(0.0, 0.0, 0.0, 0.0, 0.0, nothing, nothing, parameters)
    centred = centred[:, kept] / unit[kept]
    values, vectors = np.linalg.eigh(centred.T @ centred / number)
    good = values > RANK * values.max()
    whitening = vectors[:, good] / np.sqrt(values[good])
    white = centred @ whitening
    ratio = ratio - ratio.mean()
    raw = centred.T @ ratio / number
    return _gain(white, ratio, whitening, raw, unit[kept], kept, parameters)


def slope_of(gradients: np.ndarray, curvature: np.ndarray) -> Gain:
    """The gain of a Newton step of a point estimate.

    Args:
        gradients: of log p by the estimate, by draw of the others (S, p).
        curvature: minus the mean second derivative (p, p).
    """
    parameters = gradients.shape[1]
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    # where log p is not concave a step of the size of its curvature is tried
    values = np.maximum(np.abs(values), RANK * max(np.abs(values).max(), 1e-300))
    whitening = vectors / np.sqrt(values)
    unit = np.ones(parameters)
    every = np.arange(parameters)
    white = gradients @ whitening
    ratio, raw = np.ones(len(white)), gradients.mean(axis=0)
    return _gain(white, ratio, whitening, raw, unit, every, parameters, known=True)


def _gain(
    white: np.ndarray,
    ratio: np.ndarray,
    whitening: np.ndarray,
    raw: np.ndarray,
    unit: np.ndarray,
    kept: np.ndarray,
    parameters: int,
    known: bool = False,
) -> Gain:
    """The gain from whitened scores (S, m) and centred ratios (S,).

    Of the k parameters that are `kept`, scaled by `unit`, `raw` is the gradient (k,);
    `whitening` (k, m) makes their scores uncorrelated; it is `known` where these draws
    did not give it.
    """
    number, half = len(white), len(white) // 2
    slope = white.T @ ratio / number
    # variances of white * ratio, summed, without that array
    squares = float(np.einsum("sm,sm->s", white, white) @ ratio**2)
    noise = (squares / number - float(slope @ slope)) / (2 * (number - 1))
    # by how much each draw moves the gain, g' F^-1 g / 2
    along = white @ slope
    moved = along * ratio - (0.0 if known else along**2 / 2)
    slopes, variances = [], []
    first, second = slice(None, half), slice(half, None)
    for fitted, tested in ((first, second), (second, first)):
        direction = white[fitted].T @ ratio[fitted]
        length = float(np.linalg.norm(direction))
        along = white[tested] @ (direction / max(length, 1e-300)) * ratio[tested]
        slopes.append(float(along.mean()))
        variances.append(float(along.var(ddof=1)) / len(along))
    step, share = np.zeros(parameters), np.zeros(parameters)
    own = whitening @ slope
    step[kept] = own / unit
    share[kept] = raw * own / 2
    return Gain(
        nats=float(slope @ slope) / 2 - noise,
        noise=noise,
        spread=float(np.hypot(moved.std() / number**0.5, noise)),
        slope=float(np.mean(slopes)),
        error=float(np.sqrt(np.sum(variances))) / 2,
        step=step,
        share=share,
        dropped=parameters - len(kept),
    )
