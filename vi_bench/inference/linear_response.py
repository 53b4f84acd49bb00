"""Linear response: covariances that mean field misses, from a fixed point of CAVI.

Tilting the posterior by exp(eps g) moves the fixed point lam = F(lam) of coordinate
ascent by d lam / d eps = (I - J)^-1 G', with J the Jacobian of one step in natural
parameters; how the expectation of another quantity moves is its covariance with g
(Giordano, Broderick and Jordan 2018). For the sufficient statistics t that is Cov[t] =
V (I - J)^-1, V their covariance under q. J is that of all factors updated at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from vi_bench.comparison.quantities import WEIGHT, Quantity
from vi_bench.mixture.compared_quantities import kinds_of
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.mixture_pass import mixture_pass
from vi_bench.mixture.types import ExponentialFactors
from vi_bench.mixture.weights import expected_logs

LARGEST = 2000
"""Largest number of natural parameters for which a dense Jacobian is formed."""

FIXED = 1e-5
"""Largest relative change by one more step at a point that counts as a fixed point."""

STRICT = 1 - 1e-9
"""At a strict optimum the real parts of all eigenvalues of CAVI's step are below this.
"""

SKEW, NEGATIVE = 1e-6, 1e-8
"""Asymmetry, and negative eigenvalues, of a covariance that rounding explains; shares
of its largest entry."""

APART = 4.0
"""Linear-response sds between two components up to which they count as overlapping."""


@dataclass(frozen=True)
class LinearResponse:
    """Covariances of the compared quantities, corrected by linear response.

    Attributes:
        labels: the quantities: "mu[x0] of component 1", then averages over components;
            components in q's own order.
        covariance: covariance by linear response (Q, Q); empty where it was refused.
        mean_field: covariance under q (Q, Q), by the same delta method.
        rate: the spectral radius of J, CAVI's linear rate of convergence.
        overlapping: components so close to another one that the posterior is not
            Gaussian around either: their own covariances are unreliable, those of
            averages need not be.
        refused: why there are no covariances; empty if there are.
        gain: nats that q is known to be below an optimum.
    """

    labels: tuple[Quantity, ...]
    covariance: np.ndarray
    mean_field: np.ndarray
    rate: float
    overlapping: tuple[int, ...]
    refused: str = ""
    gain: float = 0.0

    @property
    def sd(self) -> dict[Quantity, float]:
        """Standard deviations by linear response, by quantity."""
        return self._roots(self.covariance)

    @property
    def mean_field_sd(self) -> dict[Quantity, float]:
        """Standard deviations under q, by quantity."""
        return self._roots(self.mean_field)

    def unreliable(self, quantity: Quantity) -> bool:
        """Whether a quantity belongs to a component that overlaps another."""
        return quantity.component in self.overlapping

    def reordered(self, order: Sequence[int]) -> LinearResponse:
        """A copy with the components renumbered: new component j was order[j]."""
        place = {old: new for new, old in enumerate(order)}

        def renamed(quantity: Quantity) -> Quantity:
            if quantity.component is None:
                return quantity
            return quantity.of(component=place[quantity.component])

        return replace(
            self,
            labels=tuple(map(renamed, self.labels)),
            overlapping=tuple(sorted(place[k] for k in self.overlapping)),
        )

    def _roots(self, matrix: np.ndarray) -> dict[Quantity, float]:
        diagonal = np.sqrt(np.maximum(np.diagonal(matrix), 0.0))
        return dict(zip(self.labels, diagonal.tolist(), strict=False))


def linear_response(
    mixture: Mixture,
    q: Factors,
    coordinates: Mapping[str, Sequence[object]],
) -> LinearResponse:
    """Linear response at a fixed point of CAVI.

    The quantities are those on which posteriors are compared, linearised around the
    central theta under q (delta method).

    Args:
        mixture: the mixture that q approximates.
        q: a fixed point.
        coordinates: dimension -> coordinates, of the family's dimensions.

    Returns:
        Covariances, or the reason why there are none.
    """
    if not isinstance(mixture.family, ExponentialFactors):
        return refusal("the family does not give q's natural parameters")
    eta, _ = ravel_pytree(_natural(mixture.family, q))
    if eta.size > LARGEST:
        return refusal(f"{eta.size} natural parameters, the most are {LARGEST}")
    if eta.dtype != jnp.float64:
        return refusal("it needs 64 bits")
    labels = labels_of(mixture, q, coordinates)
    named = tuple((dim, tuple(known)) for dim, known in coordinates.items())
    found = jax.tree.map(np.asarray, _linearised(mixture, q, named))
    if not found.gap <= FIXED:
        return refusal(
            f"one more step moves q by {found.gap:.1e}: not at a fixed point"
        )
    return _respond(labels, found)


@partial(jax.jit, static_argnames="coordinates")
def _linearised(
    mixture: Mixture,
    q: Factors,
    coordinates: tuple[tuple[str, tuple[object, ...]], ...],
) -> Linearisation:
    """`linearise`, compiled once for mixtures of one shape."""
    return linearise(mixture, q, dict(coordinates))


class Linearisation(NamedTuple):
    """The input of linear response; arrays of NumPy or JAX.

    Attributes:
        values: the quantities at the central theta under q (Q,).
        jacobian: J of one step in natural parameters (P, P).
        variance: V, the covariance of q's sufficient statistics (P, P).
        gradient: d quantities / d natural parameters (Q, P).
        gap: largest relative change of a natural parameter by one more step.
    """

    values: Any
    jacobian: Any
    variance: Any
    gradient: Any
    gap: Any


def linearise(
    mixture: Mixture,
    q: Factors,
    coordinates: Mapping[str, Sequence[object]],
) -> Linearisation:
    """One step of CAVI, and `quantities`, to first order around q; can be traced."""
    family = mixture.family
    assert isinstance(family, ExponentialFactors)
    eta, unravel = ravel_pytree(_natural(family, q))

    def maps(eta: Array) -> tuple[Array, Array, Array]:
        components, sticks = unravel(eta)
        q = Factors(family.from_natural_parameters(components), sticks)
        values = [v for _, v in quantities(mixture, q, coordinates)]
        return (
            ravel_pytree(_step(mixture, q))[0],
            ravel_pytree(_expected(family, q))[0],
            jnp.concatenate(values),
        )

    def along(direction: Array) -> Any:
        return jax.jvp(maps, (eta,), (direction,))

    # one trace for all three maps, their values and their Jacobians
    (moved, _, values), jacobians = jax.vmap(along, out_axes=(None, -1))(
        jnp.eye(eta.size)
    )
    scale = ravel_pytree(_natural(family, mixture.prior()))[0]
    gap = jnp.max(jnp.abs(moved - eta) / (jnp.abs(scale) + jnp.abs(eta) + 1e-300))
    jacobian, variance, gradient = jacobians
    return Linearisation(values, jacobian, variance, gradient, gap)


def covariances(linear: Linearisation) -> tuple[Any, Any]:
    """Covariances of the quantities, by linear response and under q, each (Q, Q)."""
    linalg = linear.jacobian.__array_namespace__().linalg
    # a statistic that is constant has no variance, and no quantity depends on it
    tilt = linalg.lstsq(linear.variance, linear.gradient.T, rcond=1e-12)[0]
    unit = np.eye(len(linear.jacobian))
    response = linalg.solve(unit - linear.jacobian, tilt)
    return linear.gradient @ response, linear.gradient @ tilt


class Sds(NamedTuple):
    """Standard deviations of quantities at one fixed point.

    Attributes:
        corrected: standard deviations by linear response (Q,).
        mean_field: standard deviations under q, by the same delta method (Q,).
        strict: whether q is a strict optimum of the ELBO; else they mean nothing.
    """

    corrected: Float[Array, " Q"]
    mean_field: Float[Array, " Q"]
    strict: Bool[Array, ""]


def sds(
    mixture: Mixture, q: Factors, coordinates: Mapping[str, Sequence[object]]
) -> Sds:
    """`linear_response` inside a trace, `strict` being False where it would refuse."""
    linear = linearise(mixture, q, coordinates)
    slowest = jnp.max(jnp.real(jnp.linalg.eigvals(linear.jacobian)))
    covariance, own = covariances(linear)
    size = jnp.max(jnp.abs(covariance))
    skew = jnp.max(jnp.abs(covariance - covariance.T))
    least = jnp.min(jnp.linalg.eigvalsh(0.5 * (covariance + covariance.T)))
    strict = (linear.gap <= FIXED) & (slowest < STRICT)
    strict &= (skew <= SKEW * size) & (least >= -NEGATIVE * size)

    def roots(matrix: Array) -> Array:
        return jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0.0))

    return Sds(roots(covariance), roots(own), strict)


def refusal(why: str, gain: float = 0.0) -> LinearResponse:
    """No covariances, and why."""
    nothing = np.empty((0, 0))
    return LinearResponse((), nothing, nothing, np.nan, (), why, gain)


def _natural(family: ExponentialFactors, q: Factors) -> tuple[Any, Float[Array, "2 S"]]:
    """Natural parameters of all factors; a Beta's are its a and b."""
    return family.natural_parameters(q.components), q.sticks


def _expected(
    family: ExponentialFactors, q: Factors
) -> tuple[Any, Float[Array, "2 S"]]:
    """Expectations of the statistics that belong to `_natural`."""
    return family.expected_statistics(q.components), expected_logs(q.sticks)


def _step(mixture: Mixture, q: Factors) -> tuple[Any, Float[Array, "2 S"]]:
    """F: the E-step, then the optimum of every factor given the others in q."""
    family, coefficients = mixture.family, mixture.view(q).coefficients
    assert isinstance(family, ExponentialFactors)
    _, expected = mixture_pass(mixture.family.statistics, mixture.blocks, coefficients)
    of_components = family.natural_update(q.components, expected)
    return of_components, mixture.weights.update(expected[:, -1])


def quantities(
    mixture: Mixture,
    q: Factors,
    coordinates: Mapping[str, Sequence[object]],
) -> list[tuple[list[Quantity], Array]]:
    """The compared quantities at the central theta under q, a kind an array (n,)."""
    lifted = {name: value[None] for name, value in mixture.centre(q).items()}
    found = kinds_of(mixture, mixture.uncentred(lifted), coordinates)
    return [(labels, values[:, 0]) for labels, values in found]


def labels_of(
    mixture: Mixture,
    q: Factors,
    coordinates: Mapping[str, Sequence[object]],
) -> tuple[Quantity, ...]:
    """Names of `quantities`, in their order; nothing is computed."""
    found: list[Quantity] = []

    def look(mixture: Mixture, q: Factors) -> None:
        for labels, _ in quantities(mixture, q, coordinates):
            found.extend(labels)

    jax.eval_shape(look, mixture, q)
    return tuple(found)


def _respond(labels: tuple[Quantity, ...], linear: Linearisation) -> LinearResponse:
    """Covariances of quantities, or the reason why there are none."""
    rate = np.linalg.eigvals(linear.jacobian)
    if not rate.real.max() < STRICT:
        return refusal(
            f"an eigenvalue of CAVI's step is {rate.real.max():.6f}: not a strict "
            "optimum, some direction is flat"
        )
    covariance, own = covariances(linear)
    skew = np.abs(covariance - covariance.T).max()
    if skew > SKEW * np.abs(covariance).max():
        return refusal(f"the covariance is not symmetric by {skew:.1e}")
    covariance = 0.5 * (covariance + covariance.T)
    if np.linalg.eigvalsh(covariance).min() < -NEGATIVE * np.abs(covariance).max():
        return refusal("I - J is not positive: the covariance has negative variances")
    near = overlapping(labels, linear.values, covariance)
    return LinearResponse(
        labels, covariance, own, float(np.abs(rate).max()), tuple(sorted(near))
    )


def overlapping(
    labels: tuple[Quantity, ...], values: np.ndarray, covariance: np.ndarray
) -> set[int]:
    """Components that lie, in every quantity, within APART sds of another one."""
    owned: dict[int, list[int]] = {}
    for i, quantity in enumerate(labels):
        if quantity.component is not None and quantity.name != WEIGHT:
            owned.setdefault(quantity.component, []).append(i)
    near: set[int] = set()
    for a, b in combinations(owned, 2):
        gap = np.abs(values[owned[a]] - values[owned[b]])
        both = np.eye(len(values))[owned[a]] - np.eye(len(values))[owned[b]]
        spread = np.sqrt(np.einsum("ij,jk,ik->i", both, covariance, both))
        if np.all(gap <= APART * spread):
            near |= {a, b}
    return near
