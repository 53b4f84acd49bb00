"""The posterior of a model that brings its own coordinate ascent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.contract import CAVIModel, Completes, Uncentred
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior, Values


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["data"],
    meta_fields=["structure", "own", "general"],
)
@dataclass(frozen=True)
class CAVIPosterior(NumPyroPosterior):
    """A model of the library, or of a plugin, with its data.

    Attributes:
        own: the model, whose `model` is the NumPyro model.
        general: the same model, for any data of these shapes.
    """

    own: CAVIModel
    general: CAVIModel

    @classmethod
    def bound(cls, own: CAVIModel, named: Mapping[str, Any]) -> CAVIPosterior:
        """The posterior of a model given its data by name.

        Raises:
            InputError: the model and the data do not fit each other.
        """
        whole = completed(own, named)
        plain = NumPyroPosterior.of(own.model, **named)
        return cls(plain.structure, plain.data, whole, own)

    @property
    def compared(self) -> tuple[str, ...]:
        """What the model says is compared."""
        return self.own.compared

    def with_observations(self, values: Mapping[str, Array]) -> Self:
        """The posterior given other values of the observed sites, which may be traced.

        Raises:
            InputError: see `check_observations`.
        """
        return replace(super().with_observations(values), own=self.general)

    def constrain(self, free: Values) -> tuple[Values, Float[Array, ""]]:
        """Values in the supports of their sites, and the log Jacobian."""
        theta, log_jacobian = super().constrain(free)
        if isinstance(self.own, Uncentred):
            for name, (middle, scale) in self.own.centring(theta).items():
                theta[name] = middle + scale * theta[name]
                each = jnp.broadcast_to(jnp.log(scale), theta[name].shape)
                log_jacobian += jnp.sum(each)
        return theta, log_jacobian

    def unconstrain(self, theta: Values) -> Values:
        """The inverse of the first result of `constrain`."""
        if isinstance(self.own, Uncentred):
            moved = {
                name: (theta[name] - middle) / scale
                for name, (middle, scale) in self.own.centring(theta).items()
            }
            theta = {**theta, **moved}
        return super().unconstrain(theta)

    def statistics(self) -> Any:
        """What the ascent needs of the data, computed once for all sweeps."""
        return self.own.statistics(**self.arguments())


def completed(own: CAVIModel, named: Mapping[str, Any]) -> CAVIModel:
    """The model, with what it learns from the values of data by name."""
    return own.complete(**named) if isinstance(own, Completes) else own
