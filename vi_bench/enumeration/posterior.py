"""The exact posterior of a small mixture, by summing over assignments.

Under exchangeable weights whatever is symmetric in the labels follows from one law,
that of the rows T of one component, ``w(T) = P({i: c_i = 1} = T | X)``, or of their
summed statistics: given these, theta_1 has the conjugate posterior with ``lam = lam_0 +
sum_{i in T} t(x_i)``. The law is enumerated over sets of rows (`subsets`) or,
where these are too many, over the values of their statistics (`lattice`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import logsumexp
from jaxtyping import Array, Float, Int

from vi_bench.enumeration.marginals import ABSENT, log_joining, over_states
from vi_bench.errors import NotApplicable
from vi_bench.mixture.conjugate import resolve
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key


class Moments(NamedTuple):
    """Mean and variance of a sum over components, with the axes of its summands."""

    mean: Float[Array, "*dims"]
    variance: Float[Array, "*dims"]


@dataclass(frozen=True)
class Posterior(ABC):
    """The law of one component's statistics given the data, state by state.

    States are laid out as (C, c): the statistics of state (j, i) are ``outer[j] +
    inner[i]``. Results are in the mixture's coordinates, centred where its data are.

    Attributes:
        mixture: the mixture.
        outer: first part of the statistics (C, P).
        inner: second part of the statistics (c, P).
        log_weight: log probability of each state for component 1, or ABSENT.
        log_evidence: log p(X), nats.
        occupancy: P(b components have rows | X) for b = 0, ..., K.
    """

    mixture: Mixture
    outer: Float[Array, "C P"]
    inner: Float[Array, "c P"]
    log_weight: Float[Array, "C c"]
    log_evidence: Float[Array, ""]
    occupancy: Float[Array, " numbers"]

    @abstractmethod
    def drawn_statistics(self, key: Key, draws: int) -> Float[Array, "draws K P"]:
        """Independent draws of every component's summed statistics, given the data."""

    @abstractmethod
    def of_others(self, block: Float[Array, "C c Q"]) -> Float[Array, "C c Q"]:
        """Expected sum of a function of the statistics over components 2, ..., K.

        The expectation is given X and the state of component 1, which indexes the
        result.

        Args:
            block: the function's value at each state.
        """

    def over_states(self, function: Callable[..., Any], *arrays: Array) -> Any:
        """Apply a function to ``lam`` (c, P) and slices of `arrays`, for each j."""
        possible = self.log_weight > 0.5 * ABSENT
        return over_states(
            self.mixture, self.outer, self.inner, possible, function, *arrays
        )

    def moments(
        self, mean: Array | None = None, variance: Array | None = None
    ) -> Moments:
        """Mean and variance of sum_k g(theta_k), from those of g(theta_1) given T.

        Args:
            mean: E[g | T] at each state (C, c, *dims), as `over_states` gives it.
            variance: Var[g | T], likewise. Without both, g is the family's natural
                statistics s(theta).

        Returns:
            `Moments` with the axes of g. The variance is the expectation of that given
            the assignments plus the variance of the mean given the assignments, which
            of the joint law needs only ``E[sum_{k > 1} E[g | T_k] | T_1]``.
        """
        if mean is None or variance is None:
            mean, variance = self.over_states(self._natural_moments)
        shape, states = mean.shape[2:], self.log_weight.shape
        e, v = mean.reshape(*states, -1), variance.reshape(*states, -1)
        w, K = jnp.exp(self.log_weight)[..., None], self.mixture.components
        centre = jnp.sum(w * e, axis=(0, 1))
        e = e - centre
        spread = K * jnp.sum(w * (v + e * (e + self.of_others(e))), axis=(0, 1))
        return Moments((K * centre).reshape(shape), spread.reshape(shape))

    def _natural_moments(self, lam: Float[Array, "c P"]) -> tuple[Array, Array]:
        """E and Var of s(theta) under ``lam``: the first two derivatives of A."""
        moments = self.mixture.family.moments  # type: ignore[attr-defined]
        curvature = jax.vmap(jax.jacfwd(moments))(lam)
        return moments(lam), jnp.diagonal(curvature, axis1=1, axis2=2)

    def log_predictive(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Log p(x | X) of new points, centred as the data are."""
        family: Any = self.mixture.family
        t = family.statistics(points.T).T
        first = family.natural_prior()[-1]

        def given(lam: Array, log_w: Array) -> Float[Array, " n"]:
            joined = log_joining(self.mixture, lam[:, -1] - first)
            known = log_w + joined - family.log_normaliser(lam)

            def at(row: Float[Array, " P"]) -> Array:
                return logsumexp(known + family.log_normaliser(lam + row))

            found: Array = lax.map(at, t)
            return found

        terms = logsumexp(self.over_states(given, self.log_weight), axis=0)
        base: Array = family.log_base(points.T)
        return base + terms

    def density(
        self, name: str, index: tuple[int, ...], grid: Float[Array, " n"]
    ) -> Float[Array, " n"]:
        """The marginal posterior density of one coordinate of a component's parameter.

        A mixture, over T, of conjugate posteriors; the same for every component.

        Args:
            name: name of a parameter that the family draws first, or independently.
            index: its coordinate within a component, () for a scalar.
            grid: values at which the density is evaluated.

        Raises:
            NotApplicable: it is drawn given another one: use `density_by_draws`.
        """
        family: Any = self.mixture.family

        def given(lam: Array, log_w: Array) -> Float[Array, " n"]:
            factor = family.factors(family.standard(lam))[name]
            if not hasattr(factor, "log_prob"):
                raise NotApplicable(
                    f"{name} is drawn given other parameters: its marginal density is "
                    "that of `density_by_draws`"
                )
            marginal = univariate(factor, name)

            def at(value: Float[Array, ""]) -> Array:
                return logsumexp(log_w + marginal.log_prob(value)[..., *index])

            found: Array = lax.map(at, grid)
            return found

        return jnp.exp(logsumexp(self.over_states(given, self.log_weight), axis=0))

    def density_by_draws(
        self,
        key: Key,
        name: str,
        index: tuple[int, ...],
        grid: Float[Array, " n"],
        draws: int,
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """The marginal density of any parameter, by Rao-Blackwellised draws.

        It is the mean of the conditional density over independent exact draws of the
        assignments and of the parameters it is drawn given (Gelfand and Smith 1990).

        Returns:
            The density at each grid value, and its Monte-Carlo standard error.
        """
        family: Any = self.mixture.family
        of_rows, of_theta = jax.random.split(key)
        expected = self.drawn_statistics(of_rows, draws)
        theta = self._parameters(of_theta, expected)
        lam = family.natural_prior() + expected
        factor = resolve(family.factors(family.standard(lam))[name], theta)
        marginal = univariate(factor, name)

        def at(value: Array) -> tuple[Array, Array]:
            each = jnp.exp(marginal.log_prob(value)[..., *index]).mean(axis=1)
            return jnp.mean(each), jnp.std(each, ddof=1) / math.sqrt(draws)

        found: tuple[Array, Array] = lax.map(at, grid)
        return found

    def draw(self, key: Key, shape: tuple[int, ...]) -> Parameters:
        """Independent draws of theta from the posterior: name -> (*shape, *dims)."""
        of_rows, of_theta = jax.random.split(key)
        expected = self.drawn_statistics(of_rows, math.prod(shape))
        theta = self._parameters(of_theta, expected)
        return {n: v.reshape(*shape, *v.shape[1:]) for n, v in theta.items()}

    def _parameters(self, key: Key, expected: Float[Array, "n K P"]) -> Parameters:
        """One draw from p(theta | X, c) for each draw of the assigned statistics."""
        mixture = self.mixture

        def one(key: Key, expected: Float[Array, "K P"]) -> Parameters:
            return mixture.draw(key, mixture.update(mixture.prior(), expected)[0], ())

        found: Parameters = jax.vmap(one)(
            jax.random.split(key, len(expected)), expected
        )
        return found


def pick(
    level: Float[Array, ""], share: Float[Array, " n"]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Inverse of a discrete distribution function, and the remainder of the level.

    Args:
        level: a number between 0 and the sum of the shares.
        share: probabilities up to a factor; an index of share 0 is never picked.
    """
    below = jnp.cumsum(share)
    # rounding may put the level before the first one possible, or beyond the last
    level = jnp.clip(level, 0.0, below[-1] * (1 - 4 * jnp.finfo(share.dtype).eps))
    chosen = jnp.sum(below <= level)
    return chosen, level - (below[chosen] - share[chosen])


def pick_cell(
    level: Float[Array, ""], share: Float[Array, "r c"], sums: Float[Array, " r"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """`pick` in a table with known sums of its rows, at a level between 0 and 1."""
    row, rest = pick(level * jnp.sum(sums), sums)
    return row, pick(rest, share[row])[0]


def univariate(factor: Any, name: str) -> Any:
    """The marginal distributions of a factor's coordinates, as one batch.

    Raises:
        NotApplicable: the factor's marginals are not implemented.
    """
    import numpyro.distributions as dist

    if isinstance(factor, dist.Independent):
        return univariate(factor.base_dist, name)
    if isinstance(factor, dist.Dirichlet):
        alpha = factor.concentration
        return dist.Beta(alpha, jnp.sum(alpha, axis=-1, keepdims=True) - alpha)
    if isinstance(factor, dist.MultivariateNormal):
        variance = jnp.diagonal(factor.covariance_matrix, axis1=-2, axis2=-1)
        return dist.Normal(factor.loc, jnp.sqrt(variance))
    if factor.event_shape:
        raise NotApplicable(
            f"{name} has no density of a single coordinate: its factor is "
            f"{type(factor).__name__}"
        )
    return factor
