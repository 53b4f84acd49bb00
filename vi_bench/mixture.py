"""The mixture: a family, K, and data; a pytree that every inference takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.conjugate import kl_to_prior, log_density
from vi_bench.contract import Family, Parameters
from vi_bench.mixture_pass import (
    Blocks,
    from_blocks,
    log_marginal,
    mixture_pass,
    to_blocks,
)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["family", "blocks", "log_base"],
    meta_fields=["components"],
)
@dataclass(frozen=True)
class Mixture:
    """K components of one family with weights 1/K, bound to centred data; a pytree.

    Attributes:
        family: the family, its prior moved along with the data.
        blocks: the data minus their centre.
        log_base: sum_i log h(x_i).
        components: K.
    """

    family: Family
    blocks: Blocks
    log_base: Float[Array, ""]
    components: int

    @property
    def rows(self) -> int:
        """The number of rows, N."""
        blocks, _, size = self.blocks.body.shape
        return int(blocks * size + self.blocks.tail.shape[1])

    @property
    def features(self) -> int:
        """The number of features, d."""
        return int(self.blocks.tail.shape[0])

    def data(self) -> Float[Array, "N d"]:
        """The centred data as rows."""
        return from_blocks(self.blocks).T

    def _weighted(self, coefficients: Float[Array, "K P"]) -> Float[Array, "K P"]:
        # log w_k belongs to the constant statistic, which is the last one
        return coefficients.at[..., -1].add(-jnp.log(float(self.components)))

    def step(
        self, lam: Float[Array, "K P"]
    ) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
        """One sweep of coordinate ascent.

        Args:
            lam: natural parameters of q(theta_k).

        Returns:
            The ELBO at `lam` with the optimal responsibilities, all constants
            included (so ELBO <= log p(X)), and the next natural parameters.
            Blei, Kucukelbir and McAuliffe (2017), equations 21, 24 and 25, in d
            dimensions and natural form.
        """
        coefficients = self._weighted(self.family.moments(lam))
        evidence, expected = mixture_pass(
            self.family.statistics, self.blocks, coefficients
        )
        bound = self.log_base + evidence - jnp.sum(kl_to_prior(self.family, lam))
        return bound, self.family.prior() + expected

    def responsibilities(self, lam: Float[Array, "K P"]) -> Float[Array, "N K"]:
        """phi, the optimal q(c_i = k) given q(theta); (N, K), so held in memory."""
        coefficients = self._weighted(self.family.moments(lam))
        t = self.family.statistics(from_blocks(self.blocks))
        return jax.nn.softmax(coefficients @ t, axis=0).T

    def from_responsibilities(self, phi: Float[Array, "N K"]) -> Float[Array, "K P"]:
        """The natural parameters that the M-step gives for responsibilities."""
        t = self.family.statistics(from_blocks(self.blocks))
        return self.family.prior() + (t @ phi).T

    def log_prior(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(theta) of all components."""
        return jnp.sum(log_density(self.family, theta, self.family.prior()))

    def log_likelihood(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(X | theta), the assignments summed out."""
        coefficients = self._weighted(self.family.natural(theta))
        return self.log_base + log_marginal(
            self.family.statistics, self.blocks, coefficients
        )

    def log_joint(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(X, theta), the assignments summed out."""
        return self.log_prior(theta) + self.log_likelihood(theta)

    def log_q(self, theta: Parameters, lam: Float[Array, "K P"]) -> Float[Array, "..."]:
        """Log q(theta) of all components; `theta` may have leading draw axes."""
        return jnp.sum(log_density(self.family, theta, lam), axis=-1)

    def scale(self) -> Float[Array, " P"]:
        """The size of each natural parameter: |lam_0| + sum_i |t(x_i)|."""
        t = self.family.statistics(from_blocks(self.blocks))
        return jnp.abs(self.family.prior()) + jnp.sum(jnp.abs(t), axis=1)


def bind(family: Family, values: np.ndarray, components: int, dtype: Any) -> Mixture:
    """The mixture of `components` components of a family on (N, d) values.

    The data are centred here, in float64 on the host, and the prior is moved along:
    <t(x), s(theta)> cancels badly when the mean is large against the spread.
    """
    centre = data_centre(values)
    blocks = to_blocks(values - centre, dtype)
    bound = family.bind(centre, dtype)
    log_base = jnp.sum(bound.log_base(from_blocks(blocks)))
    return Mixture(bound, blocks, log_base, components)


def data_centre(values: np.ndarray) -> np.ndarray:
    """The mean of each feature (d,); zero where there are no rows."""
    return values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
