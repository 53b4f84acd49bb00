"""One simulation: run a method on its rows, and rank the truth among the draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from vi_bench.calibration.programs import through
from vi_bench.calibration.simulators import MixtureSimulator, Simulator, Truth
from vi_bench.calibration.variational import normal_means, pairs
from vi_bench.comparison.quantities import Quantity
from vi_bench.contract import Draws, Method, told
from vi_bench.inference.linear_response import labels_of, sds
from vi_bench.inference.squarem import CONVERGED
from vi_bench.mixture.compared_quantities import Coordinates
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.types import ExponentialFactors, Parameters
from vi_bench.runtime.keys import Key

Found = dict[str, Array]
"""The results of one simulation; the caller adds a leading axis of simulations."""


@dataclass(frozen=True)
class Examiner:
    """Runs a method on simulated rows and ranks the truth among its draws.

    Attributes:
        method: the method.
        simulator: the joint distribution that truth and data come from.
        draws: number of draws that are ranked.
        thin: transitions per ranked draw.
    """

    method: Method
    simulator: Simulator
    draws: int
    thin: int

    @property
    def _coordinates(self) -> Coordinates:
        assert isinstance(self.simulator, MixtureSimulator)
        return self.simulator.coordinates

    def labels(self, truth: Truth) -> tuple[list[str], list[str]]:
        """Names of the quantities, and of VSBC's coordinates, given one simulation."""
        found: list[list[str]] = []

        def look(truth: Truth) -> Array:
            posterior = self.simulator.posterior(truth.rows)
            lifted = {name: v[None] for name, v in truth.theta.items()}
            found.append(list(self.simulator.quantities(posterior, lifted)))
            found.append(self.simulator.coordinates_compared(truth.theta))
            return jnp.zeros(())

        jax.eval_shape(look, truth)
        return found[0], found[1]

    def __call__(self, key: Key, truth: Truth) -> Found:
        """Run the method on the rows, and rank theta* among its draws.

        Returns:
            "below" and "equal", the numbers of draws below and equal to the truth (Q,);
            "exact", the distribution function of q at the truth where that is known,
            else NaN (Q,); "finite", whether all draws are finite; "diverging", the
            share of diverging transitions. For methods that end at a fixed point of
            CAVI also "lr below" and "lr exact", the same under q stretched to linear
            response's sds, "lr ratio", the stretching factors, and "lr strict", whether
            linear response is valid. For variational methods with a log q also the
            results of `pairs`.
        """
        posterior = self.simulator.posterior(truth.rows)
        raw = through(self.method, posterior, key, self.draws * self.thin)
        last = slice(self.thin - 1, None, self.thin)
        # some methods split their draws among several runs: join these
        draws = {
            name: v.reshape(-1, *v.shape[2:])[last][: self.draws]
            for name, v in raw.parameters.items()
        }
        of_draws = self.simulator.quantities(posterior, draws)
        lifted = {name: v[None] for name, v in truth.theta.items()}
        of_truth = self.simulator.quantities(posterior, lifted)
        values = jnp.stack(list(of_draws.values()))
        own = jnp.stack([of_truth[label][0] for label in of_draws])
        labels = list(of_draws)
        diverging = raw.sample_stats.get("diverging", jnp.zeros(()))
        found = {
            "below": jnp.sum(values < own[:, None], axis=1),
            "equal": jnp.sum(values == own[:, None], axis=1),
            "exact": jnp.full(own.shape, jnp.nan),
            "finite": jnp.all(jnp.isfinite(values)) & jnp.all(jnp.isfinite(own)),
            "diverging": jnp.mean(diverging.astype(own.dtype)),
        }
        if isinstance(self.simulator, MixtureSimulator):
            found |= self._of_mixture(raw, draws, truth, labels, values, own)
        return found

    def _of_mixture(
        self,
        raw: Draws,
        draws: Parameters,
        truth: Truth,
        labels: Sequence[Quantity],
        values: Float[Array, "Q draws"],
        own: Float[Array, " Q"],
    ) -> Found:
        """What is known of q where it is that of a mixture."""
        assert isinstance(self.simulator, MixtureSimulator)
        mixture = self.simulator.posterior(truth.rows)
        found = {"exact": self._exact(mixture, raw.factors, labels, own)}
        if raw.factors is not None and isinstance(mixture.family, ExponentialFactors):
            found |= self._responding(mixture, raw, labels, values, own)
        if self.method.kind == "variational" and raw.log_q is not None:
            theta, coordinates = truth.theta, self._coordinates
            found |= pairs(mixture, raw.factors, draws, theta, coordinates)
        return found

    def _exact(
        self,
        mixture: Mixture,
        q: Factors | None,
        labels: Sequence[Quantity],
        at: Float[Array, " Q"],
    ) -> Float[Array, " Q"]:
        """The distribution function of each quantity under q; NaN if not known."""
        known = {} if q is None else normal_means(mixture, q, self._coordinates)
        terms = [
            norm.cdf((value - known[label][0]) / known[label][1])
            if label in known
            else jnp.full((), jnp.nan)
            for label, value in zip(labels, at, strict=True)
        ]
        return jnp.stack(terms)

    def _responding(
        self,
        mixture: Mixture,
        raw: Draws,
        labels: Sequence[Quantity],
        values: Float[Array, "Q draws"],
        own: Float[Array, " Q"],
    ) -> Found:
        """Ranks under q stretched around its means to linear response's sds.

        The rank of theta* among stretched draws is that of theta* moved towards the
        mean, by the inverse factor, among the draws themselves. For quantities without
        linear response "lr below" is -1 and "lr ratio" is NaN.
        """
        q = raw.factors
        named = labels_of(mixture, q, self._coordinates)
        found = sds(mixture, q, self._coordinates)
        place = [named.index(label) if label in named else -1 for label in labels]
        ratio = (found.corrected / found.mean_field)[jnp.asarray(place)]
        known = jnp.asarray([at >= 0 for at in place])
        middle = jnp.mean(values, axis=1)
        moved = middle + (own - middle) / ratio
        exact = normal_means(mixture, q, self._coordinates)
        for i, label in enumerate(labels):
            if label in exact:
                mean = exact[label][0]
                moved = moved.at[i].set(mean + (own[i] - mean) / ratio[i])
        below = jnp.sum(values < moved[:, None], axis=1)
        usable = known & jnp.isfinite(ratio) & (ratio > 0)
        converged = told(raw.report, "status", jnp.asarray(CONVERGED)) == CONVERGED
        return {
            "lr below": jnp.where(usable, below, -1),
            "lr exact": self._exact(mixture, q, labels, moved),
            "lr ratio": jnp.where(usable, ratio, jnp.nan),
            "lr strict": found.strict & converged,
        }
