"""The mixture and its one hot loop.

Every inference on a mixture of exponential families rests on one product: with rows
``t(x_i)`` of sufficient statistics and per component coefficients ``M_k``,

    mixture_pass(x, M) = ( sum_i logsumexp_k <t(x_i), M_k>,  R^T T ),

where R is the row-wise softmax. The second output is at once CAVI's expected
sufficient statistics and the gradient of the first, hence of the log density that NUTS
and SMC need. The (N, K) responsibilities are never held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vi_bench.conjugate import kl_to_prior, log_density
from vi_bench.contract import Family, Parameters

BLOCK = 512
"""Rows a block: its statistics and (K, block) logits stay in a core's cache."""

Statistics = Callable[[Float[Array, "d n"]], Float[Array, "P n"]]


class Blocks(NamedTuple):
    """Rows of data, features first, cut into equal blocks and a shorter tail."""

    body: Float[Array, "blocks d B"]
    tail: Float[Array, "d r"]


def to_blocks(values: np.ndarray, dtype: Any, size: int = BLOCK) -> Blocks:
    """Cut (N, d) values into blocks; the tail needs no padding and no mask."""
    rows, features = values.shape
    full = rows // size
    body = values[: full * size].reshape(full, size, features).transpose(0, 2, 1)
    tail = values[full * size :].T
    return Blocks(
        jnp.asarray(np.ascontiguousarray(body), dtype),
        jnp.asarray(np.ascontiguousarray(tail), dtype),
    )


def from_blocks(blocks: Blocks) -> Float[Array, "d N"]:
    """All rows again, features first."""
    features = blocks.tail.shape[0]
    body = jnp.moveaxis(blocks.body, 1, 0).reshape(features, -1)
    return jnp.concatenate([body, blocks.tail], axis=1)


def _block_pass(
    statistics: Statistics, x: Float[Array, "d B"], coefficients: Float[Array, "K P"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    t = statistics(x)
    # HIGHEST: on accelerators the default would round the inputs of the product
    logits = jnp.matmul(coefficients, t, precision=lax.Precision.HIGHEST)
    top = lax.stop_gradient(jnp.max(logits, axis=0))
    unnormalised = jnp.exp(logits - top)
    total = jnp.sum(unnormalised, axis=0)
    expected = jnp.matmul(unnormalised, (t / total).T, precision=lax.Precision.HIGHEST)
    return jnp.sum(top + jnp.log(total)), expected


def mixture_pass(
    statistics: Statistics, blocks: Blocks, coefficients: Float[Array, "K P"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    """One sweep over the data.

    Args:
        statistics: the family's t, features first.
        blocks: the data, N rows in all.
        coefficients: M (K, P); row k is what component k multiplies t(x) with.

    Returns:
        ``sum_i logsumexp_k <t(x_i), M_k>`` and ``R^T T`` (K, P), its gradient in M.
    """

    def add(
        so_far: tuple[Array, Array], x: Array
    ) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(jnp.add, so_far, _block_pass(statistics, x, coefficients)), None

    zero = (jnp.zeros((), coefficients.dtype), jnp.zeros_like(coefficients))
    total, _ = lax.scan(add, zero, blocks.body)
    return add(total, blocks.tail)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_marginal(
    statistics: Statistics, blocks: Blocks, coefficients: Float[Array, "K P"]
) -> Float[Array, ""]:
    """The first output of `mixture_pass`; its gradient costs no second sweep."""
    return mixture_pass(statistics, blocks, coefficients)[0]


def _forward(
    statistics: Statistics, blocks: Blocks, coefficients: Array
) -> tuple[Array, Array]:
    return mixture_pass(statistics, blocks, coefficients)


def _backward(statistics: Statistics, gradient: Array, g: Array) -> tuple[None, Array]:
    return None, g * gradient


log_marginal.defvjp(_forward, _backward)


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
        """N."""
        blocks, _, size = self.blocks.body.shape
        return int(blocks * size + self.blocks.tail.shape[1])

    @property
    def features(self) -> int:
        """d."""
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
        return self._softmax(coefficients)

    def _softmax(self, coefficients: Float[Array, "K P"]) -> Float[Array, "N K"]:
        t = self.family.statistics(from_blocks(self.blocks))
        return jax.nn.softmax(coefficients @ t, axis=0).T

    def from_responsibilities(self, phi: Float[Array, "N K"]) -> Float[Array, "K P"]:
        """The natural parameters that the M-step gives for responsibilities."""
        t = self.family.statistics(from_blocks(self.blocks))
        return self.family.prior() + (t @ phi).T

    def log_prior(self, theta: Parameters) -> Float[Array, ""]:
        """log p(theta) of all components."""
        return jnp.sum(log_density(self.family, theta, self.family.prior()))

    def log_likelihood(self, theta: Parameters) -> Float[Array, ""]:
        """log p(X | theta), the assignments summed out."""
        coefficients = self._weighted(self.family.natural(theta))
        return self.log_base + log_marginal(
            self.family.statistics, self.blocks, coefficients
        )

    def log_joint(self, theta: Parameters) -> Float[Array, ""]:
        """log p(X, theta), the assignments summed out."""
        return self.log_prior(theta) + self.log_likelihood(theta)

    def log_q(self, theta: Parameters, lam: Float[Array, "K P"]) -> Float[Array, "*b"]:
        """log q(theta) of all components; `theta` may have leading draw axes."""
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

