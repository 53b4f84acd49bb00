"""A fit of your own: a Python function that returns q and its bound.

It is called as it is and timed as a Python function: nothing of it is compiled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench import catalogue
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
from vi_bench.errors import InputError, NotApplicable
from vi_bench.posterior.arguments import for_fit
from vi_bench.posterior.fit import Fit, draw, read_fit
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.runtime.keys import Key

STANDING_STILL = 0.01
"""Nats: a fit has converged when its last iteration raised the bound by less."""

FALL = 1e-8
"""Fall of the bound in one iteration, over max(1, |bound|), that is no rounding."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OwnFitReport(Report):
    """Of the function's trace, and its draws.

    Attributes:
        possible: share of the draws that are possible under the model.
    """

    possible: Float[Array, ""]


@dataclass(frozen=True)
class OwnFit:
    """Settings of a fit of your own.

    Attributes:
        function: "mine.py:cavi". It takes the arguments of the model, by name, and
            `seed` if it has that, and returns {"q": {site: distribution}, "elbo":
            trace}; see `vi_bench.posterior.fit.read_fit`.
    """

    function: str = ""

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "your own fit of a NumPyro model, a Python function"
    bound_keeps_labels: ClassVar[bool] = True

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages fit, which is not compiled, and draw.

        Raises:
            NotApplicable: there is no function, or the model is no NumPyro model.
            InputError: the function needs other data than the model has.
        """
        posterior = problem.posterior
        if not isinstance(posterior, NumPyroPosterior):
            raise NotApplicable(
                "calls a fit of a NumPyro model; for one of a mixture see verify"
            )
        if not self.function:
            raise NotApplicable("needs `function`, your fit: mine.py:cavi")
        own = catalogue.function(self.function)
        where = f"fit {self.function!r}"
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        given = for_fit(own, posterior.arguments(), seed, where)
        sites = posterior.structure.sites

        def fit(_: Key, __: Posterior, ___: Any) -> Fit:
            try:
                return read_fit(own(**given), sites, where)
            except InputError as error:  # other methods go on
                raise ValueError(str(error)) from None

        first = Stage("fit", fit, compiled=False)
        return (first, *_drawing((problem.chains, problem.draws)))

    def outcome(self, draws: Draws) -> Outcome:
        """By the trace of the bound, and by the draws that the model allows."""
        report: OwnFitReport = draws.report
        possible = float(report.possible)
        if possible < 1:
            return Outcome(
                "suspect",
                f"{1 - possible:.2%} of the draws from q are impossible under the "
                "model: q's support is not the model's",
            )
        trace = np.asarray(report.trace)
        if not len(trace):
            return Outcome("converged", "the function gives no trace of its bound")
        if not np.all(np.isfinite(trace)):
            return Outcome("suspect", "the trace of its bound is not finite")
        rises = np.diff(trace)
        fall = -rises / np.maximum(1, np.abs(trace[1:]))
        if len(fall) and fall.max() > FALL:
            at = int(np.argmax(fall))
            return Outcome(
                "suspect",
                f"its bound falls by {-rises[at]:.3g} nats in iteration {at + 2}: the "
                "bound of a coordinate ascent never falls",
            )
        told = f"{len(trace)} iteration{'s' * (len(trace) != 1)}"
        if len(rises) and rises[-1] > STANDING_STILL:
            return Outcome(
                "iteration limit",
                f"{told}, the last one raised the bound by {rises[-1]:.3g} nats",
            )
        return Outcome("converged", told)


@remembered
def _drawing(shape: tuple[int, int]) -> tuple[Stage, ...]:
    """The stage that draws from q."""

    def drawn(key: Key, posterior: Posterior, fit: Fit) -> Draws:
        def one(key: Key) -> tuple[dict[str, Array], Array, Array]:
            theta, log_q = draw(key, fit.q)
            return theta, log_q, jnp.isfinite(posterior.log_joint(theta))

        keys = jax.random.split(key, shape)
        theta, log_q, possible = jax.lax.map(jax.vmap(one), keys)
        known = fit.elbo.shape[0] > 0
        report = OwnFitReport(
            bound=fit.elbo[-1] if known else None,
            bound_se=jnp.zeros(()) if known else None,
            iterations=jnp.asarray(fit.elbo.shape[0]),
            trace=fit.elbo,
            possible=jnp.mean(possible, dtype=log_q.dtype),
        )
        return Draws(theta, {}, log_q, parameters_of(fit), report)

    return (Stage("draw", drawn, again="same", part_of_inference=False),)


def parameters_of(fit: Fit) -> dict[str, Array]:
    """Parameters of q: "site.parameter" -> value."""
    return {
        f"{site}.{name}": value
        for site, distribution in fit.q.items()
        for name, value in vars(distribution).items()
        if name in distribution.arg_constraints and isinstance(value, jax.Array)
    }


METHOD = OwnFit
