"""The mixture: a family, a prior on the weights, K and data, as one JAX pytree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vi_bench.data.rows import Rows
from vi_bench.data.table import SAMPLE
from vi_bench.mixture import conjugate, weights
from vi_bench.mixture.blocks import (
    Blocks,
    add_up,
    block_rows,
    everywhere,
    from_blocks,
    some,
    to_blocks,
)
from vi_bench.mixture.mixture_pass import log_marginal, mixture_pass
from vi_bench.mixture.supports import constrained, unconstrained, with_sticks
from vi_bench.mixture.types import Factor, Family, Parameters, Standard, Weights
from vi_bench.runtime.keys import Key


class Move(NamedTuple):
    """The result of one sweep of coordinate ascent.

    Attributes:
        bound: the ELBO at the old point, if the view was the point's own, nats.
        after: the ELBO of the new point with the responsibilities of the view, nats.
        point: the new point, a pytree.
        view: view of the new point, a named tuple with `coefficients`.
        residual: largest relative distance of the new point from the old one.
    """

    bound: Float[Array, ""]
    after: Float[Array, ""]
    point: Any
    view: Any
    residual: Float[Array, ""]


class Factors(NamedTuple):
    """CAVI's factors: q of all components, and Beta parameters of the sticks (2, S)."""

    components: Any
    sticks: Float[Array, "2 S"]


class View(NamedTuple):
    """The E-step coefficients of factors, and their KL to the prior in nats."""

    coefficients: Float[Array, "K P"]
    kl: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """K components of one family, and the prior on their weights, bound to data.

    Attributes:
        family: the family, its prior moved along with the data.
        weights: the prior on the weights.
        blocks: the data, minus their centre where the family allows it.
        log_base: sum_i log h(x_i).
        data_centre: what was subtracted from the data; on the host in 64 bits.
        components: K.
    """

    family: Family
    weights: Weights
    blocks: Blocks
    log_base: Float[Array, ""]
    data_centre: Float[Array, " d"] | Float[np.ndarray, " d"]
    components: int = field(metadata={"static": True})

    @property
    def rows(self) -> int:
        """The number of rows, N."""
        return self.blocks.rows

    @property
    def terms(self) -> int:
        """Rows times components times statistics: what a pass over the rows costs."""
        statistics = statistics_of(self.family, self.features, self.dtype)
        return self.rows * self.components * statistics

    @property
    def features(self) -> int:
        """The number of features, d."""
        return int(self.blocks.tail.shape[0])

    @property
    def dtype(self) -> Any:
        """The type of all arrays."""
        return self.log_base.dtype

    @property
    def mesh(self) -> Mesh | None:
        """The devices that share the rows, if several do."""
        return self.blocks.mesh

    @property
    def streamed(self) -> bool:
        """Whether rows stay in their file, which one sweep at a time reads."""
        return self.blocks.stream is not None

    @property
    def proper(self) -> bool:
        """Whether the prior can be drawn from: that of a mixture always can."""
        return True

    def uncentred(self, theta: Parameters) -> Parameters:
        """Parameters, or what `describe` gives, in the coordinates of the user's data.

        Draws may have leading axes; what is given on the host stays there.
        """
        return self.family.uncentre(theta, self.data_centre)

    def recentred(self, theta: Parameters) -> Parameters:
        """Parameters in the coordinates of the user's data, in the mixture's own."""
        return self.family.uncentre(theta, -self.data_centre)

    def data(self) -> Float[Array, "N d"]:
        """The data as rows, minus their centre where the family allows it."""
        return from_blocks(self.blocks).T

    def some(self, most: int = SAMPLE) -> Float[Array, "n d"]:
        """Up to `most` rows, evenly spaced, which represent all."""
        return some(self.blocks, most).T

    def with_rows(self, rows: Float[Array, "N d"]) -> Mixture:
        """The same mixture on other rows, already centred, which may be traced."""
        dtype = self.log_base.dtype
        size = block_size(self.family, self.components, self.features, dtype)
        blocks = to_blocks(rows, dtype, size)
        log_base = sum_log_base(self.family, blocks)
        return replace(self, blocks=blocks, log_base=log_base)

    def statistics(self) -> Float[Array, "P N"]:
        """Sufficient statistics t(x_i) of all rows, held in memory."""
        return self.family.statistics(from_blocks(self.blocks))

    def total(self) -> Float[Array, " P"]:
        """``sum_i |t(x_i)|``, the scale of the expected statistics."""

        def size(x: Float[Array, "d n"]) -> Float[Array, " P"]:
            return jnp.sum(jnp.abs(self.family.statistics(x)), axis=1)

        total: Array = add_up(size, self.blocks)
        return total

    def prior_sticks(self) -> Float[Array, "2 S"]:
        """Beta parameters of the prior on the weights' sticks."""
        return self.weights.prior(self.components).astype(self.log_base.dtype)

    def prior(self) -> Factors:
        """The factors that equal the prior."""
        return Factors(self.family.prior(self.components), self.prior_sticks())

    def view(self, q: Factors) -> View:
        """E_q s(theta_k), with E_q log w_k added to the constant's; and the KL."""
        expected = self.weights.expected_log(q.sticks, self.components)
        of_sticks = weights.kl(q.sticks, self.prior_sticks())
        kl = self.family.kl(q.components) + of_sticks
        # log w_k belongs to the constant statistic, which is the last one
        return View(self.family.coefficients(q.components).at[:, -1].add(expected), kl)

    def update(
        self, q: Factors, expected: Float[Array, "K P"]
    ) -> tuple[Factors, Float[Array, "K P"]]:
        """The M-step: new factors, and the statistics in the order of the new ones."""
        order = self.weights.order(expected[:, -1])
        components = q.components
        if order is not None:
            expected = expected[order]
            components = self.family.permute(components, order)
        return Factors(
            self.family.update(components, expected),
            self.weights.update(expected[:, -1]),
        ), expected

    def evaluate(self, q: Factors, view: View, total: Float[Array, " P"]) -> Move:
        """One sweep of coordinate ascent: E-step from a view, M-step from `q`.

        The bound after it, L(phi, q') = log h + H(phi) + <E_q' s, S> - KL(q'), holds
        for the responsibilities phi that any coefficients give, also for ones that
        belong to no q: with M the coefficients and S = R^T T the entropy of phi is
        sum_i logsumexp_k <t(x_i), M_k> - <M, S>. Where M is that of q, the bound at q
        with its optimal phi is log h + sum_i logsumexp_k <t(x_i), M_k> - KL(q); Blei,
        Kucukelbir and McAuliffe (2017), equations 13, 21, 24 and 25. Every constant is
        included, so both are below log p(X).
        """
        evidence, expected = mixture_pass(
            self.family.statistics, self.blocks, view.coefficients
        )
        new, ordered = self.update(q, expected)
        following = self.view(new)
        gain = following.coefficients * ordered - view.coefficients * expected
        moved = self.family.residual(q.components, new.components, total)
        size = weights.residual(q.sticks, new.sticks)
        return Move(
            bound=self.log_base + evidence - view.kl,
            after=self.log_base + evidence + jnp.sum(gain) - following.kl,
            point=new,
            view=following,
            residual=jnp.maximum(moved, size),
        )

    def step(self, q: Factors) -> tuple[Float[Array, ""], Factors]:
        """The ELBO at `q` with its optimal responsibilities, and the next factors."""
        move = self.evaluate(q, self.view(q), self.total())
        return move.bound, move.point

    def responsibilities(self, q: Factors) -> Float[Array, "N K"]:
        """phi, the optimal q(c_i = k) given q(theta); (N, K), so held in memory."""
        logits = self.view(q).coefficients @ self.statistics()
        return jax.nn.softmax(logits, axis=0).T

    def from_responsibilities(
        self, phi: Float[Array, "n K"], rows: Float[Array, "n d"] | None = None
    ) -> Factors:
        """Factors by an M-step from the prior, given responsibilities.

        Args:
            phi: responsibilities.
            rows: the rows of phi, which represent all; by default all rows.
        """
        if rows is None:
            return self.update(self.prior(), (self.statistics() @ phi).T)[0]
        expected = (self.family.statistics(rows.T) @ phi).T
        each = self.rows / max(len(rows), 1)
        return self.update(self.prior(), each * expected)[0]

    def from_coefficients(self, coefficients: Float[Array, "K P"]) -> Factors:
        """Factors by an E-step with given coefficients and an M-step from the prior."""
        _, expected = mixture_pass(self.family.statistics, self.blocks, coefficients)
        return self.update(self.prior(), expected)[0]

    def counts(self, q: Factors) -> Float[Array, " K"]:
        """Expected rows by component, sum_i phi_ik at q's optimal responsibilities."""
        coefficients = self.view(q).coefficients
        expected = mixture_pass(self.family.statistics, self.blocks, coefficients)[1]
        return expected[:, -1]

    def natural(self, theta: Parameters) -> Float[Array, "*b K P"]:
        """s(theta_k), with log w_k added to the constant's coefficient."""
        log_weights = self.weights.log_weights(theta, self.components)
        return self.family.natural(theta).at[..., -1].add(log_weights)

    def log_prior(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(theta) of the components' parameters and of the sticks."""
        of_sticks = weights.log_density(theta, self.prior_sticks())
        return self.family.log_prior(theta) + of_sticks

    def log_likelihood(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(X | theta), assignments marginalised."""
        return self.log_base + log_marginal(
            self.family.statistics, self.blocks, self.natural(theta)
        )

    def log_joint(self, theta: Parameters) -> Float[Array, ""]:
        """Log p(X, theta), assignments marginalised."""
        return self.log_prior(theta) + self.log_likelihood(theta)

    def prior_factors(self) -> dict[str, Factor]:
        """NumPyro distributions of the prior, in sampling order."""
        factors = self.family.factors(self.family.hyperparameters())
        return with_sticks(factors, self.prior_sticks())

    def constrain(self, free: Parameters) -> tuple[Parameters, Array]:
        """Constrained parameters from unconstrained ones, and the log Jacobian."""
        return constrained(self.prior_factors(), free)

    def unconstrain(self, theta: Parameters) -> Parameters:
        """The inverse of `constrain`'s first result."""
        return unconstrained(self.prior_factors(), theta)

    def density(self, free: Parameters) -> Float[Array, ""]:
        """Log p(X, theta) of unconstrained parameters, the log Jacobian included."""
        theta, log_jacobian = self.constrain(free)
        return self.log_joint(theta) + log_jacobian

    def draw_prior(self, key: Key, number: int) -> Parameters:
        """Draws from the prior: name -> (number, *dims)."""
        return self.draw(key, self.prior(), (number,))

    def log_q(self, theta: Parameters, q: Factors) -> Float[Array, "*b"]:
        """Log q(theta); `theta` may have leading draw axes."""
        family = self.family.log_q(theta, q.components)
        return family + weights.log_density(theta, q.sticks)

    def log_density(
        self, theta: Parameters, points: Float[Array, "n d"]
    ) -> Float[Array, "*b n"]:
        """Log p(x | theta) of new points, centred as the data are; draws first."""
        t = self.family.statistics(points.T)
        terms = jnp.einsum("...kp,pn->...kn", self.natural(theta), t)
        return self.family.log_base(points.T) + jax.nn.logsumexp(terms, axis=-2)

    def draw(self, key: Key, q: Factors, shape: tuple[int, ...]) -> Parameters:
        """Draws of theta from factors: name -> ``(*shape, *dims)``."""
        of_components, of_sticks = jax.random.split(key)
        standard = self.family.describe(q.components)
        theta = conjugate.draw(of_components, self.family.factors(standard), shape)
        return theta | weights.draw(of_sticks, q.sticks, shape)

    def simulate(
        self, key: Key, n: int, theta: Parameters | None = None
    ) -> tuple[Float[Array, "n d"], Any]:
        """Rows of the mixture and their components.

        Args:
            key: random key.
            n: number of rows.
            theta: one value of the parameters; by default one draw from the prior,
                which makes this the prior predictive.

        Returns:
            Rows (n, d), centred as the data are, and labels (n,).
        """
        first, second, third = jax.random.split(key, 3)
        if theta is None:
            theta = self.draw(first, self.prior(), ())
        log_weights = self.weights.log_weights(theta, self.components)
        labels = jax.random.categorical(second, log_weights, shape=(n,))
        every = self.family.component(theta).sample(third, (n,))
        rows = jnp.take_along_axis(every, labels[:, None, None], axis=1)[:, 0]
        return rows.astype(self.log_base.dtype), labels

    def describe(self, q: Factors) -> Standard:
        """The usual parameters of q, and the Beta parameters a and b of the sticks."""
        sticks = {"stick_a": q.sticks[0], "stick_b": q.sticks[1]}
        return self.family.describe(q.components) | (
            sticks if q.sticks.shape[1] else {}
        )

    def centre(self, q: Factors) -> Parameters:
        """A central theta under q."""
        theta = dict(self.family.centre(q.components))
        if q.sticks.shape[1]:
            logit = jnp.log(q.sticks[0]) - jnp.log(q.sticks[1])
            theta[weights.STICK] = jnp.arcsinh(logit)
        return theta


def bind(
    family: Family,
    rows: Rows,
    components: int,
    dtype: Any,
    prior: Weights | None = None,
    mesh: Mesh | None = None,
    *,
    centre: np.ndarray | None = None,
    stream: bool = False,
) -> Mixture:
    """The mixture of `components` components of a family on (N, d) rows.

    Where the family allows it the data are centred here, on the host, and its prior is
    moved along: <t(x), s(theta)> cancels badly when the mean is large against the
    spread.

    Args:
        family: complete, that is with every hyperparameter set.
        rows: an array, or rows in a file.
        components: K.
        dtype: type of all arrays.
        prior: prior on the weights; by default they are fixed at 1/K.
        mesh: devices that share the rows, one axis; by default JAX's default device.
        centre: centre by `data_centre` (d,); by default that of the rows.
        stream: leave the rows in their file.
    """
    if centre is None:
        centre = data_centre(family, np.asarray(rows[:]))
    size = block_size(family, components, rows.shape[1], dtype)
    blocks = to_blocks(rows, dtype, size, mesh, centre, stream)
    bound = family.bind(centre, dtype)
    log_base = sum_log_base(bound, blocks)
    chosen = weights.bind(prior or weights.Uniform(), dtype)
    mixture = Mixture(bound, chosen, blocks, log_base, centre, components)
    if mesh is None:
        return mixture
    small = jax.device_put((bound, chosen, log_base), everywhere(mesh))
    return replace(mixture, family=small[0], weights=small[1], log_base=small[2])


def statistics_of(family: Family, features: int, dtype: Any) -> int:
    """The number of statistics of a row, P, of so many features."""
    row = jax.ShapeDtypeStruct((features, 1), dtype)
    return int(jax.eval_shape(family.statistics, row).shape[0])


def block_size(family: Family, components: int, features: int, dtype: Any) -> int:
    """The number of rows of a block, for a family on so many features."""
    terms = statistics_of(family, features, dtype)
    return block_rows(components, terms, dtype)


@jax.jit
def sum_log_base(family: Family, blocks: Blocks) -> Float[Array, ""]:
    """The log base measure of all rows, sum_i log h(x_i)."""
    total: Array = add_up(lambda x: jnp.sum(family.log_base(x)), blocks)
    return total


def data_centre(family: Family, values: np.ndarray) -> np.ndarray:
    """The centre to be subtracted (d,): the data's mean, or 0 if they are not moved."""
    if len(values):
        return centre_at(family, np.asarray(values.mean(axis=0)))
    return np.zeros(values.shape[1])


def centre_at(family: Family, mean: np.ndarray) -> np.ndarray:
    """`data_centre` where the mean of each feature (d,) is known."""
    return mean if family.centred else np.zeros_like(mean)
