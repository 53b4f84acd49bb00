"""What every factor of q offers, and q as a dict of factors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vi_bench.runtime.keys import Key

Natural = tuple[Array, ...]
"""Natural parameters, up to an affine map: what a convex combination can be taken of.
"""


ROUNDED = 1e-3
"""Share of a shift's size to which its changes are compared in 64 bits."""


@runtime_checkable
class Factor(Protocol):
    """One factor of q: a pytree of arrays; leading axes are independent copies."""

    def natural(self) -> Natural:
        """Natural parameters, up to an affine map."""

    @classmethod
    def from_natural(cls, *natural: Array) -> Self:
        """The inverse of `natural`; out of the domain it is no distribution."""

    def scale(self) -> Natural:
        """Positive sizes of the natural parameters, to which changes are compared."""

    def entropy(self) -> Float[Array, ""]:
        """Its entropy in nats, summed over copies."""

    def kl(self, prior: Self) -> Float[Array, ""]:
        """The divergence KL(self || prior) in nats, summed over copies."""


@runtime_checkable
class Single(Factor, Protocol):
    """A factor of one variable, whose name is the factor's name in q."""

    def mean(self) -> Array:
        """The expectation of the variable, in its own shape."""

    def centre(self) -> Array:
        """A value in the middle: exp E[log x] of positive variables, else the mean."""

    def distribution(self) -> Any:
        """The factor as a NumPyro distribution."""


@runtime_checkable
class Joint(Factor, Protocol):
    """A factor of several variables that depend on each other within q."""

    def entries(self) -> dict[str, Any]:
        """Variable -> its NumPyro distribution, or a function that gives it.

        The arguments of a function are variables that come before it.
        """

    def centres(self) -> dict[str, Array]:
        """Variable -> a value in the middle."""


def entries_of(q: Mapping[str, Any]) -> dict[str, Any]:
    """Variable -> its distribution in q, or a function of other variables."""
    found: dict[str, Any] = {}
    for name, factor in factors_of(q).items():
        if isinstance(factor, Joint):
            found |= factor.entries()
        elif isinstance(factor, Single):
            found[name] = factor.distribution()
    return found


def centres_of(q: Mapping[str, Any]) -> dict[str, Array]:
    """Variable -> a value in the middle of q."""
    found: dict[str, Array] = {}
    for name, factor in factors_of(q).items():
        if isinstance(factor, Joint):
            found |= factor.centres()
        elif isinstance(factor, Single):
            found[name] = factor.centre()
    return found


def factors_of(q: Mapping[str, Any]) -> dict[str, Factor]:
    """The entries of q that are factors; others stand for local latent variables."""
    return {name: value for name, value in q.items() if isinstance(value, Factor)}


def natural_of(q: Mapping[str, Any]) -> Float[Array, " P"]:
    """Natural parameters of all factors, flat."""
    flat: Array = ravel_pytree({k: f.natural() for k, f in factors_of(q).items()})[0]
    return flat


def scale_of(q: Mapping[str, Any]) -> Float[Array, " P"]:
    """Sizes of the natural parameters, in the order of `natural_of`."""
    flat: Array = ravel_pytree({k: f.scale() for k, f in factors_of(q).items()})[0]
    return flat


def size_of_shift(shift: Array, sd: Array) -> Array:
    """Size of precision times mean, given its sd, the precision times the variable's.

    Changes are compared to the sd, as those of the mean to the sd of the variable, but
    for a small share of the shift itself: rounding lets it come no nearer.
    """
    double = jnp.finfo(shift.dtype).bits == 64
    found: Array = (ROUNDED if double else 1.0) * jnp.abs(shift) + sd
    return found


def with_natural(q: Mapping[str, Any], flat: Float[Array, " P"]) -> dict[str, Any]:
    """Q with other natural parameters; what is no factor is kept as it is."""
    known = factors_of(q)
    back = ravel_pytree({k: f.natural() for k, f in known.items()})[1]
    made = {k: type(known[k]).from_natural(*values) for k, values in back(flat).items()}
    return {**q, **made}


def draw(key: Key, q: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Array]:
    """Draws of all variables: name -> (shape, dims)."""
    theta: dict[str, Array] = {}
    known = entries_of(q)
    keys = jax.random.split(key, len(known))
    for own, (name, entry) in zip(keys, known.items(), strict=True):
        if not inspect.isfunction(entry):
            theta[name] = entry.sample(own, shape)
            continue
        theta[name] = entry(**_given(entry, theta)).sample(own)
    return theta


def log_q(theta: Mapping[str, Array], q: Mapping[str, Any]) -> Float[Array, "..."]:
    """Log q of draws, whose axes come first, in nats."""
    total, lead = jnp.zeros(()), 0
    for i, (name, entry) in enumerate(entries_of(q).items()):
        if i == 0:  # the first one is no function
            lead = theta[name].ndim - len(entry.shape())
        own = entry(**_given(entry, theta)) if inspect.isfunction(entry) else entry
        each = own.log_prob(theta[name])
        total = total + jnp.sum(each, axis=tuple(range(lead, each.ndim)))
    return total


def _given(entry: Any, theta: Mapping[str, Array]) -> dict[str, Array]:
    """The arguments of a function among the variables."""
    return {name: theta[name] for name in inspect.signature(entry).parameters}
