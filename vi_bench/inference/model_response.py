"""Linear response of models that bring their own CAVI, from the curvature of the bound.

With eta the natural parameters of all factors, H the Hessian of the ELBO in them at an
optimum, and G the derivative of the expectations E_q[g], a tilt of the posterior by
exp(eps g) moves these by G (-H)^-1 G^T (Giordano, Broderick and Jordan 2018, theorem
1). Local latent variables are at their optimum for every eta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import Quantity
from vi_bench.contract import Local
from vi_bench.factors import base
from vi_bench.inference.linear_response import (
    FIXED,
    LARGEST,
    LinearResponse,
    overlapping,
    refusal,
)
from vi_bench.posterior.cavi_posterior import CAVIPosterior

FLAT = 1e-10
"""Smallest eigenvalue of -H over the largest, in units of the factors' own curvature,
that is no flat direction."""

EMPTY = 1e-12
"""Nats by which q differs if a parameter moves by its size, below which the parameter
is left out: q has no variance along it. Log odds of a switch that is all but sure are
such; second derivatives in them are rounding errors.
"""

KNOWN = 1e-11
"""Likewise, above which a curvature is no rounding error."""

GAIN = 1e-3
"""Nats that a Newton step gains beyond which q is not at an optimum."""

STEPS, LATE = 300, 100
"""Steps of the power iteration for CAVI's rate, and those at its end that count."""

Quantities = Callable[[dict[str, Array]], Iterable[tuple[Sequence[Quantity], Array]]]
"""Values of the variables -> the compared quantities, those of a kind in one array."""


class Curvature(NamedTuple):
    """What linear response is made of; arrays of NumPy or JAX.

    Attributes:
        values: the quantities at the centre of q (Q,).
        gradient: their derivatives in the natural parameters (Q, P).
        hessian: that of the ELBO (P, P).
        fisher: the factors' own curvature, the Fisher information (P, P).
        rate: spectral radius of one sweep, CAVI's linear rate of convergence.
        gap: largest relative change of a natural parameter by one more sweep.
        slope: derivative of the ELBO in the natural parameters (P,).
    """

    values: Any
    gradient: Any
    hessian: Any
    fisher: Any
    rate: Any
    gap: Any
    slope: Any


def model_response(
    posterior: CAVIPosterior, q: dict[str, Any], quantities: Quantities
) -> LinearResponse:
    """Linear response at a fixed point of a model's CAVI, or why there is none.

    Args:
        posterior: the model with its data.
        q: a fixed point.
        quantities: what is compared; it has to be traceable.
    """
    size = base.natural_of(q).size
    if size > LARGEST:
        return refusal(f"{size} natural parameters, the most are {LARGEST}")
    if posterior.dtype != jnp.float64:
        return refusal("it needs 64 bits")
    labels: list[Quantity] = []
    found = jax.tree.map(np.asarray, _curvature(posterior, q, quantities, labels))
    if not found.gap <= FIXED:
        return refusal(
            f"one more step moves q by {found.gap:.1e}: not at a fixed point"
        )
    moving = np.flatnonzero(np.diagonal(found.fisher) > EMPTY)
    square = np.ix_(moving, moving)
    whole = np.linalg.cholesky(found.fisher[square])
    half = np.linalg.solve(whole, found.gradient[:, moving].T)
    own = half.T @ half
    curved = np.linalg.solve(whole, np.linalg.solve(whole, -found.hessian[square]).T)
    sizes, axes = np.linalg.eigh(0.5 * (curved + curved.T))
    left = axes.T @ np.linalg.solve(whole, found.slope[moving])
    known = sizes > KNOWN * sizes[-1]
    gain = float(np.sum(left[known] ** 2 / sizes[known])) / 2
    if gain > GAIN:
        return refusal(
            f"a sweep hardly moves q, yet a Newton step gains {gain:.3g} nats: not at "
            "an optimum",
            gain,
        )
    if not sizes[0] > FLAT * sizes[-1]:
        return refusal(
            f"a curvature of the bound is {sizes[0]:.1e} of q's own: not a strict "
            "optimum, some direction is flat"
        )
    along = axes.T @ half
    covariance = along.T @ (along / sizes[:, None])
    near = overlapping(tuple(labels), found.values, covariance)
    return LinearResponse(
        tuple(labels), covariance, own, float(found.rate), tuple(sorted(near))
    )


def _curvature(
    posterior: CAVIPosterior,
    q: dict[str, Any],
    quantities: Quantities,
    labels: list[Quantity],
) -> Curvature:
    """The quantities and the bound to second order around q, as one program."""

    @jax.jit
    def compute(posterior: CAVIPosterior, q: dict[str, Any]) -> Curvature:
        own, statistics = posterior.own, posterior.statistics()
        eta, scale = base.natural_of(q), base.scale_of(q)
        factors = base.factors_of(q)

        def at(x: Array) -> dict[str, Any]:
            """Factors at eta + x times their scale."""
            return base.with_natural(q, eta + scale * x)

        def slope(x: Array) -> Float[Array, " P"]:
            """The bound's gradient; what is local is at its optimum, so held fixed."""
            local: dict[str, Any] = {}
            if isinstance(own, Local):
                known = own.local(statistics, at(x))
                local = {k: v for k, v in known.items() if k not in factors}

            def bound(x: Array) -> Float[Array, ""]:
                return own.bound(statistics, at(x) | local)

            found: Array = jax.grad(bound)(x)
            return found

        def divergence(x: Array) -> Float[Array, ""]:
            new = base.factors_of(at(x))
            terms = [f.kl(new[name]) for name, f in factors.items()]
            return jnp.sum(jnp.stack(terms))

        def named(x: Array) -> Float[Array, " Q"]:
            theta = base.centres_of(at(x))
            found = list(quantities(theta | posterior.deterministic(theta)))
            labels[:] = [label for own, _ in found for label in own]
            return jnp.concatenate([jnp.ravel(value) for _, value in found])

        def step(x: Array) -> Float[Array, " P"]:
            return (base.natural_of(own.sweep(statistics, at(x))) - eta) / scale

        zero = jnp.zeros_like(eta)
        moved, along = jax.linearize(step, zero)
        values, gradient = _with_derivative(named, zero)
        first, hessian = _with_derivative(slope, zero)
        return Curvature(
            values,
            gradient,
            hessian,
            jax.hessian(divergence)(zero),
            _radius(along, jax.random.normal(jax.random.key(0), eta.shape)),
            jnp.max(jnp.abs(moved)),
            first,
        )

    found: Curvature = compute(posterior, q)
    return found


def _with_derivative(
    f: Callable[[Array], Array], x: Float[Array, " P"]
) -> tuple[Float[Array, " n"], Float[Array, "n P"]]:
    """f(x) and its Jacobian, by one evaluation of f."""
    ahead = jax.jacfwd(lambda x: (value := f(x), value), has_aux=True)
    gradient, value = ahead(x)
    return value, gradient


def _radius(along: Callable[[Array], Array], start: Array) -> Float[Array, ""]:
    """The spectral radius of a linear map, by the growth of a vector."""

    def further(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        vector, growth = carry
        new = along(vector)
        size = jnp.linalg.norm(new)
        tiny = jnp.finfo(size.dtype).tiny
        late = jnp.where(i >= STEPS - LATE, jnp.log(jnp.maximum(size, tiny)), 0.0)
        return new / jnp.maximum(size, tiny), growth + late

    unit = start / jnp.linalg.norm(start)
    _, growth = jax.lax.fori_loop(0, STEPS, further, (unit, jnp.zeros(())))
    return jnp.exp(growth / LATE)
