"""Symmetric matrices, normals N(m, v) with full covariances, Wisharts W(nu, psi^-1).

Means m are (*b, d), matrices (*b, d, d), degrees of freedom nu (*b).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, multigammaln
from jaxtyping import Array, Float

from vi_bench.mixture.broadcast import aligned
from vi_bench.models._real import LOG_2PI


def pack(matrix: Float[Array, "*b d d"]) -> Float[Array, "*b T"]:
    """The upper triangle of a symmetric matrix."""
    rows, columns = np.triu_indices(matrix.shape[-1])
    return matrix[..., rows, columns]


def unpack(packed: Float[Array, "*b T"], d: int) -> Float[Array, "*b d d"]:
    """The symmetric matrix; the inverse of `pack`."""
    place = np.zeros((d, d), int)
    rows, columns = np.triu_indices(d)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return packed[..., place]


def halves(matrix: Float[Array, "*b d d"]) -> Float[Array, "*b T"]:
    """Coefficients of the upper triangle of x x^T in -x' matrix x / 2."""
    # an entry off the diagonal represents its mirror image too
    packed, share = aligned(
        pack(matrix), pack(0.5 * jnp.eye(matrix.shape[-1], dtype=matrix.dtype) - 1.0)
    )
    found: Array = packed * share
    return found


def log_det(matrix: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """The log determinant of a positive definite matrix."""
    root = jnp.linalg.cholesky(matrix)
    diagonal = jnp.diagonal(root, axis1=-2, axis2=-1)
    return 2 * jnp.sum(jnp.log(diagonal), axis=-1)


def inverse(matrix: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The inverse of a symmetric matrix, which rounding leaves symmetric."""
    found = jnp.linalg.inv(matrix)
    even: Array = 0.5 * (found + found.mT)
    return even


def outer(a: Float[Array, "*b d"], b: Float[Array, "*b d"]) -> Float[Array, "*b d d"]:
    """The matrix a b^T."""
    return a[..., :, None] * b[..., None, :]


def trace(a: Float[Array, "*b d d"], b: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """Tr(a b) of symmetric matrices."""
    found: Array = jnp.sum(a * b, axis=(-2, -1))
    return found


def scatter(square: Array, r: Array, n: Array, m: Array, v: Array) -> Array:
    """E sum_i (x_i - mu) (x_i - mu)^T (K, d, d), mu of mean m and covariance v.

    The rows' sums are square of x x^T (K, d, d), r of x (K, d), n of 1 (K,).
    """
    cross = outer(r, m)
    return square - (cross + cross.mT) + n[:, None, None] * (outer(m, m) + v)


def mean(nu: Float[Array, "*b"], psi: Float[Array, "*b d d"]) -> Array:
    """E precision = nu psi^-1 under a Wishart."""
    return nu[..., None, None] * inverse(psi)


def mean_log_det(nu: Float[Array, "*b"], psi: Float[Array, "*b d d"]) -> Array:
    """E log|precision| under a Wishart (Bishop 2006, B.81)."""
    d = psi.shape[-1]
    nu_j, j = aligned(nu[..., None], jnp.arange(d, dtype=nu.dtype))
    digammas = jnp.sum(digamma(0.5 * (nu_j - j)), axis=-1)
    return digammas + d * jnp.log(2.0) - log_det(psi)


def log_normaliser(nu: Float[Array, "*b"], psi: Float[Array, "*b d d"]) -> Array:
    """A Wishart's (nu d log 2 - nu log|psi|) / 2 + lgamma_d(nu / 2)."""
    d = psi.shape[-1]
    size: Array = 0.5 * nu * (d * jnp.log(2.0) - log_det(psi))
    return size + multigammaln(0.5 * nu, d)


def log_density(precision: Array, nu: Array, psi: Array) -> Array:
    """A Wishart's log density (Bishop 2006, B.78); broadcasts."""
    d = psi.shape[-1]
    log, free, size = aligned(log_det(precision), nu, log_normaliser(nu, psi))
    tilt = 0.5 * (free - d - 1) * log - 0.5 * trace(*aligned(psi, precision))
    density: Array = tilt - size
    return density


def normal_log_density(mu: Array, m: Array, v: Array) -> Array:
    """A Normal's log density; broadcasts."""
    mu, m = aligned(mu, m)
    gap = mu - m
    square = trace(*aligned(inverse(v), outer(gap, gap)))
    log, square = aligned(log_det(v), square)
    density: Array = -0.5 * (m.shape[-1] * LOG_2PI + log + square)
    return density


def divergence(nu: Array, psi: Array, nu0: Array, psi0: Array) -> Array:
    """KL of a Wishart (nu, psi) to another (nu0, psi0), of as many axes."""
    free = (nu - nu0) * mean_log_det(nu, psi) - nu * psi.shape[-1]
    spread = trace(psi0, mean(nu, psi))
    size, size0 = log_normaliser(nu, psi), log_normaliser(nu0, psi0)
    return 0.5 * (free + spread) + size0 - size


def normal_divergence(m: Array, v: Array, m0: Array, v0: Array) -> Array:
    """KL of a Normal (m, v) to another (m0, v0), of as many axes."""
    gap = m - m0
    spread = trace(inverse(v0), v + outer(gap, gap)) - m.shape[-1]
    return 0.5 * (spread + log_det(v0) - log_det(v))
