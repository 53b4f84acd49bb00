"""Gaussian factors of q: independent elements, and vectors with full covariances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Float
from numpyro import distributions as dist

from vi_bench.factors.base import Natural, size_of_shift

LOG_2PI = float(np.log(2 * np.pi))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """A normal distribution of every element.

    Attributes:
        shift: precision times mean (...).
        precision: the inverse of the variance (...).
    """

    shift: Float[Array, "..."]
    precision: Float[Array, "..."]

    def natural(self) -> Natural:
        """Precision times mean, and precision."""
        return self.shift, self.precision

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """A factor of this shift and precision."""
        return cls(*natural)

    def scale(self) -> Natural:
        """Sizes by which a mean of 0 is known up to its sd."""
        return size_of_shift(self.shift, jnp.sqrt(self.precision)), self.precision

    def mean(self) -> Float[Array, "..."]:
        """E[x]."""
        return self.shift / self.precision

    def centre(self) -> Float[Array, "..."]:
        """E[x]."""
        return self.mean()

    def variance(self) -> Float[Array, "..."]:
        """Var[x]."""
        return 1 / self.precision

    def square(self, about: Array | float = 0.0) -> Float[Array, "..."]:
        """E[(x - about)^2]."""
        return (self.mean() - about) ** 2 + self.variance()

    def distribution(self) -> dist.Distribution:
        """The factor as a NumPyro distribution."""
        return dist.Normal(self.mean(), self.precision**-0.5)

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""
        return 0.5 * jnp.sum(1 + LOG_2PI - jnp.log(self.precision))

    def kl(self, prior: Normal) -> Float[Array, ""]:
        """The divergence to another normal in nats, summed over copies."""
        ratio = prior.precision / self.precision
        far = (self.mean() - prior.mean()) ** 2 * prior.precision
        return 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio) + far)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """A vector with a full covariance, along the last axis.

    Attributes:
        shift: precision matrix times mean (..., p).
        precision: precision matrix (..., p, p).
        average: the mean (..., p).
        covariance: the covariance (..., p, p).
        half_log_det: half the log determinant of the precision matrix (...).
    """

    shift: Float[Array, "... p"]
    precision: Float[Array, "... p p"]
    average: Float[Array, "... p"]
    covariance: Float[Array, "... p p"]
    half_log_det: Float[Array, "..."]

    def natural(self) -> Natural:
        """Precision times mean, and the upper triangle of the precision matrix."""
        return self.shift, self.precision[..., *np.triu_indices(self.shift.shape[-1])]

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """The factor of a shift and the upper triangle of a precision matrix."""
        shift, upper = natural
        size = shift.shape[-1]
        rows, columns = np.triu_indices(size)
        place = np.zeros((size, size), int)
        place[rows, columns] = place[columns, rows] = np.arange(len(rows))
        return cls.of(shift, upper[..., place])

    @classmethod
    def of(
        cls, shift: Float[Array, "... p"], precision: Float[Array, "... p p"]
    ) -> Self:
        """The factor of a shift and a precision matrix, by one Cholesky factor."""
        root = jnp.linalg.cholesky(precision)
        unit = jnp.broadcast_to(jnp.eye(shift.shape[-1], dtype=shift.dtype), root.shape)
        inverse = solve_triangular(root, unit, lower=True)
        covariance = jnp.swapaxes(inverse, -1, -2) @ inverse
        average = cho_solve((root, True), shift[..., None])[..., 0]
        half = jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)), axis=-1)
        return cls(shift, precision, average, covariance, half)

    @classmethod
    def around_zero(cls, like: Float[Array, " p"], precision: float) -> Self:
        """The factor of mean 0 and one precision for all, of the size of a vector."""
        size, unit = len(like), jnp.eye(len(like), dtype=like.dtype)
        half = 0.5 * size * jnp.log(jnp.asarray(precision))
        zero = jnp.zeros_like(like)
        return cls(zero, precision * unit, zero, unit / precision, half)

    def scale(self) -> Natural:
        """Sizes by which a mean of 0 is known up to its sds."""
        each: Array = jnp.sqrt(jnp.diagonal(self.precision, axis1=-2, axis2=-1))
        rows, columns = np.triu_indices(self.shift.shape[-1])
        own = size_of_shift(self.shift, each)
        return own, each[..., rows] * each[..., columns]

    def mean(self) -> Float[Array, "... p"]:
        """E[x]."""
        return self.average

    def centre(self) -> Float[Array, "... p"]:
        """E[x]."""
        return self.average

    def second(self) -> Float[Array, "... p p"]:
        """E[x x^T]."""
        m = self.average
        square: Array = self.covariance + m[..., :, None] * m[..., None, :]
        return square

    def square(self) -> Float[Array, "... p"]:
        """E[x_j^2] of every element."""
        own: Array = jnp.diagonal(self.covariance, axis1=-2, axis2=-1)
        return self.average**2 + own

    def distribution(self) -> dist.Distribution:
        """The factor as a NumPyro distribution."""
        return dist.MultivariateNormal(self.average, precision_matrix=self.precision)

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""
        size = self.shift.size
        return 0.5 * size * (1 + LOG_2PI) - jnp.sum(self.half_log_det)

    def kl(self, prior: Gaussian) -> Float[Array, ""]:
        """The divergence to another Gaussian in nats, summed over copies."""
        away = self.average - prior.average
        far = jnp.einsum("...i,...ij,...j->...", away, prior.precision, away)
        trace = jnp.einsum("...ij,...ij->...", prior.precision, self.covariance)
        each = 0.5 * (trace + far - self.shift.shape[-1])
        return jnp.sum(each + self.half_log_det - prior.half_log_det)
