"""The joint distribution that a calibration draws from, and what is ranked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.calibration.variational import coordinates_compared
from vi_bench.comparison.quantities import LOG_LIKELIHOOD, Quantity, invariants
from vi_bench.contract import Posterior
from vi_bench.mixture.compared_quantities import Coordinates, quantities
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.posterior.variables import Variables
from vi_bench.runtime.keys import Key

BATCH = 100
"""Draws whose densities are evaluated at once."""


class Truth(NamedTuple):
    """Parameters from the prior, and data given them: rows (*sims, N, d), or arrays."""

    theta: Parameters
    rows: Any


class Simulator(Protocol):
    """A joint distribution p(theta) p(x | theta), and the quantities of theta."""

    def joint(self, key: Key) -> Truth:
        """One draw from the joint distribution."""

    @property
    def redraws(self) -> bool:
        """Whether data given parameters can be drawn."""

    def redraw(self, key: Key, theta: Parameters) -> Any:
        """Data given parameters."""

    def posterior(self, rows: Any) -> Posterior:
        """The posterior given data, which may be traced."""

    def quantities(
        self, posterior: Any, theta: Parameters
    ) -> dict[Quantity, Float[Array, " draws"]]:
        """The label-invariant quantities of draws (draws, ...)."""

    def coordinates_compared(self, theta: Parameters) -> list[str]:
        """The coordinates on which VSBC compares q with one theta; empty if none."""


@dataclass(frozen=True, eq=False)
class MixtureSimulator:
    """A mixture's.

    Attributes:
        template: the mixture without rows.
        rows: number of rows of each data set.
        coordinates: dimension of the family -> labels along it.
    """

    template: Mixture
    rows: int
    coordinates: Coordinates

    redraws = True

    def joint(self, key: Key) -> Truth:
        """One draw from the joint distribution."""
        of_theta, of_rows = jax.random.split(key)
        theta = self.template.draw(of_theta, self.template.prior(), ())
        return Truth(theta, self.redraw(of_rows, theta))

    def redraw(self, key: Key, theta: Parameters) -> Float[Array, "N d"]:
        """Rows given parameters."""
        x, _ = self.template.simulate(key, self.rows, theta)
        return x.astype(self.template.dtype)

    def posterior(self, rows: Float[Array, "N d"]) -> Mixture:
        """The mixture on other rows."""
        return self.template.with_rows(rows)

    def quantities(
        self, posterior: Mixture, theta: Parameters
    ) -> dict[Quantity, Float[Array, " draws"]]:
        """`vi_bench.mixture.compared_quantities.quantities` of draws."""
        return quantities(posterior, theta, self.coordinates)

    def coordinates_compared(self, theta: Parameters) -> list[str]:
        """The coordinates of the components' own parameters."""
        return list(coordinates_compared(self.template, theta, self.coordinates))


@dataclass(frozen=True, eq=False)
class ModelSimulator:
    """A NumPyro model's: its own prior, and its observed sites.

    Attributes:
        template: the posterior given any data of the right shapes.
        variables: how they are reported, and which are ranked.
    """

    template: NumPyroPosterior
    variables: Variables

    def joint(self, key: Key) -> Truth:
        """One draw from the joint distribution."""
        return Truth(*self.template.joint(key))

    @property
    def redraws(self) -> bool:
        """Whether data given parameters can be drawn."""
        return not self.template.structure.tied

    def redraw(self, key: Key, theta: Parameters) -> Parameters:
        """Observed sites given parameters: name -> values."""
        return self.template.simulate(key, theta)

    def posterior(self, rows: Parameters) -> NumPyroPosterior:
        """The posterior given other observations."""
        return self.template.with_observations(rows)

    def quantities(
        self, posterior: NumPyroPosterior, theta: Parameters
    ) -> dict[Quantity, Float[Array, " draws"]]:
        """The compared scalars of draws, the log joint and the log likelihood."""
        found: dict[Quantity, Array] = _quantities(self, posterior, theta)
        return found

    def coordinates_compared(self, theta: Parameters) -> list[str]:
        """None: VSBC compares components of a mixture."""
        return []


@partial(jax.jit, static_argnames="simulator")
def _quantities(
    simulator: ModelSimulator, posterior: NumPyroPosterior, theta: Parameters
) -> dict[Quantity, Float[Array, " draws"]]:
    def densities(theta: Parameters) -> tuple[Array, Array, Parameters]:
        joint = posterior.log_joint(theta)
        likelihood = joint - posterior.log_prior(theta)
        return joint, likelihood, posterior.deterministic(theta)

    joint, likelihood, made = jax.lax.map(densities, theta, batch_size=BATCH)
    lifted = {name: jnp.asarray(v)[None] for name, v in (theta | made).items()}
    known = simulator.variables.components_first(lifted)
    columns, shared = simulator.variables.scalars(known)
    named = invariants(columns, shared, joint[None])
    named[LOG_LIKELIHOOD] = likelihood[None]
    return {quantity: v[0] for quantity, v in named.items()}
