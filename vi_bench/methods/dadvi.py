"""DADVI: ADVI over fixed draws, maximised to the end, with linear response.

Giordano, Ingram and Broderick (2024): the ELBO of a mean-field normal q, in the
unconstrained space, is estimated from the same standard normal draws throughout. That
makes it a smooth function with one value at each q, so that L-BFGS and Newton steps
find its maximum, that it is one can be seen, and the covariance of the posterior
follows from its curvature by linear response. How far the maximum is from that of the
ELBO itself is known from the spread of the gradient over the draws.

The draws are pairs z and -z, unlike in the paper: the mean of a normal posterior, and
its covariance by linear response, are then exact however few they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    remembered,
)
from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.methods._climb import Peak, at_the_top, climbed, short_of_the_top
from vi_bench.methods._normal import flat_density, flat_start, normal_draws
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

LARGEST = 500
"""Unconstrained parameters whose curvature is computed."""

CLOSE = 0.1
"""Error of the means that fixed draws may leave, in sds of q; twice that of the logs of
the sds."""


class Fit(NamedTuple):
    """The maximum over the fixed draws, and how well these tell it.

    Attributes:
        peak: the means of q, then the logs of its sds (2 D).
        error: standard errors of the same by the fixed draws (2 D).
    """

    peak: Peak
    error: Float[Array, " twice_D"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class DADVIReport(Report):
    """Of the maximum, and the draws.

    Attributes:
        left: the length of a further Newton step, sds.
        height: estimated ELBO at the end of each L-BFGS run, nats.
        mean_error: the largest standard error of a mean of q by the fixed draws, in its
            sds.
        sd_error: likewise of the log of an sd.
    """

    bound: Float[Array, ""]
    bound_se: Float[Array, ""]
    iterations: Int[Array, ""]
    left: Float[Array, ""]
    height: Float[Array, " starts"]
    mean_error: Float[Array, ""]
    sd_error: Float[Array, ""]


@dataclass(frozen=True)
class DADVI:
    """Settings of deterministic ADVI.

    Attributes:
        covariance: of the normal that is drawn from: "linear-response" or "mean-field",
            which has the sds of q.
        pairs: fixed standard normal draws z, each with -z.
        starts: L-BFGS runs, of which the highest end is taken.
        init_scale: sds that q starts with.
        max_iterations: iteration limit of each run.
        tol: a run ends when the estimated ELBO changes by less, relatively.
        newton_steps: Newton steps from its end.
    """

    covariance: Literal["linear-response", "mean-field"] = "linear-response"
    pairs: Annotated[int, Gt(1)] = 30
    starts: Annotated[int, Gt(0)] = 4
    init_scale: Annotated[float, Gt(0)] = 0.1
    max_iterations: Annotated[int, Gt(0)] = 500
    tol: Annotated[float, Gt(0)] = 1e-12
    newton_steps: Annotated[int, Ge(0)] = 5

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "deterministic ADVI: fixed draws, linear response"
    references: ClassVar[tuple[str, ...]] = ("giordano2024", "cabezas2024")
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages climb, to the maximum and its curvature, and draw.

        Raises:
            NotApplicable: there are too many parameters for a curvature.
        """
        size = starts.size_of(problem.posterior)
        if size > LARGEST:
            raise NotApplicable(
                f"needs the curvature in 2 x {size} parameters of q; the most are "
                f"2 x {LARGEST}"
            )
        return self._stages((problem.chains, problem.draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        def climb(key: Key, posterior: Posterior, _: Any) -> Fit:
            return self._fit(key, posterior)

        def draw(key: Key, posterior: Posterior, fit: Fit) -> Draws:
            return self._drawn(key, posterior, fit, shape)

        return (
            Stage("climb", climb),
            Stage("draw", draw, again="same", part_of_inference=False),
        )

    def _fit(self, key: Key, posterior: Posterior) -> Fit:
        fixed, place = jax.random.split(key)
        size, dtype = starts.size_of(posterior), posterior.dtype
        _, density = flat_density(posterior)
        z = jax.random.normal(fixed, (self.pairs, size), dtype)

        def of_pair(at: Float[Array, " twice_D"], z: Array) -> Float[Array, ""]:
            mean, far = at[:size], jnp.exp(at[size:]) * z
            both = jnp.stack([mean + far, mean - far])
            return jnp.mean(jax.vmap(density)(both)) + jnp.sum(at[size:])

        def height(at: Array) -> Array:
            return jnp.mean(jax.vmap(of_pair, (None, 0))(at, z)) + constant

        # the normal's entropy beside its log sds
        constant = 0.5 * size * (1 + jnp.log(2 * jnp.pi))

        def start(key: Key) -> Array:
            narrow = jnp.full(size, jnp.log(self.init_scale), dtype)
            return jnp.concatenate([flat_start(key, posterior), narrow])

        begun = over_lanes(start, jax.random.split(place, self.starts))
        peak = climbed(height, begun, self.max_iterations, self.tol, self.newton_steps)
        each = jax.vmap(jax.grad(of_pair), (None, 0))(peak.position, z)
        return Fit(peak, _errors(peak, each))

    def _drawn(
        self, key: Key, posterior: Posterior, fit: Fit, shape: tuple[int, int]
    ) -> Draws:
        """Draws from the normal with the chosen covariance, and its bound."""
        peak = fit.peak
        size = peak.position.shape[0] // 2
        mean, sd = peak.position[:size], jnp.exp(peak.position[size:])
        response = cho_solve((peak.root, True), jnp.eye(2 * size, dtype=mean.dtype))
        responded = jnp.linalg.cholesky(response[:size, :size])
        root = responded if self.covariance == "linear-response" else jnp.diag(sd)
        found = normal_draws(key, posterior, mean, root, shape)
        report = DADVIReport(
            bound=found.bound,
            bound_se=found.bound_se,
            iterations=peak.iterations[jnp.argmax(peak.height)],
            left=peak.left,
            height=peak.height,
            mean_error=jnp.max(fit.error[:size] / sd),
            sd_error=jnp.max(fit.error[size:]),
        )
        # no names of a mixture's own parameters: those would be moved with its data
        q = {"location": mean, "spread": sd, "covariance": root @ root.T}
        return Draws(found.parameters, {}, found.log_q, q, report)

    def outcome(self, draws: Draws) -> Outcome:
        """Converged at a maximum that the fixed draws tell well, or why not."""
        report: DADVIReport = draws.report
        short = short_of_the_top(
            float(report.left),
            float(report.bound),
            "the draws are too few for so many parameters; raise pairs",
            "maximum",
        )
        if short is not None:
            return short
        of_means, of_sds = float(report.mean_error), float(report.sd_error)
        said = (
            f"fixed draws leave errors of up to {of_means:.2g} sds in the means and "
            f"{of_sds:.2g} in the logs of the sds of q"
        )
        # linear response does not have the sds of q, and of a normal not their error
        own = self.covariance == "mean-field"
        if of_means > CLOSE or (own and of_sds > 2 * CLOSE):
            return Outcome("suspect", f"{said}: raise pairs")
        told = at_the_top(np.asarray(report.height))
        return Outcome("converged", f"{told} ended at the top; {said}")


def _errors(peak: Peak, gradients: Float[Array, "pairs P"]) -> Float[Array, " P"]:
    """Standard errors of a maximum over draws: H^-1 Cov(gradients) H^-1 / pairs."""
    centred = gradients - jnp.mean(gradients, axis=0)[None]
    moved = cho_solve((peak.root, True), centred.T)
    pairs = gradients.shape[0]
    variance: Array = jnp.sum(moved**2, axis=1) / (pairs - 1) / pairs
    return jnp.sqrt(variance)


METHOD = DADVI
