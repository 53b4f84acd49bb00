"""SVI: stochastic-gradient variational inference with NumPyro's guides.

`mean-field`, `full-rank` and `low-rank` are Gaussian guides on the unconstrained space,
discrete variables marginalised (Hoffman et al. 2013; Kucukelbir et al. 2017); `iaf` and
`bnaf` are normalizing flows there (Kingma et al. 2016; De Cao, Titov and Aziz 2019).
`same-family`, of a mixture, is q(theta) from the prior's family with the assignments
kept in q: it optimises, by gradients and in NumPyro's own arithmetic, exactly the bound
that CAVI optimises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Gt
from jax import lax
from jaxtyping import Array, Float, Int
from numpyro import optim
from numpyro.infer import SVI as NumPyroSVI
from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from numpyro.infer.initialization import init_to_value

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Posterior,
    Problem,
    Report,
    Stage,
    remembered,
    told,
)
from vi_bench.errors import NotApplicable
from vi_bench.inference import starts
from vi_bench.methods._guides import (
    OrderedELBO,
    free_model,
    guide_draw,
    guide_log_q,
    numpyro_density,
    packed,
    parameters_of,
    same_family_draw,
    same_family_guide,
    same_family_log_q,
    size_of,
    start_parameters,
    unpacked,
)
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.numpyro_model import (
    assigned_model,
    marginal_model,
)
from vi_bench.mixture.types import Parameters, Standard
from vi_bench.runtime.keys import Key

WINDOW = 100
"""Steps of one call of the fit stage, which gives one point of the trace."""

STANDING_STILL = 0.05
"""Nats: a fit has converged when its ELBO rose less over its last tenth."""

Guide = Literal["mean-field", "full-rank", "low-rank", "iaf", "bnaf", "same-family"]

GUIDES: dict[str, Callable[..., Any]] = {
    "mean-field": AutoNormal,
    "full-rank": AutoMultivariateNormal,
    "low-rank": AutoLowRankMultivariateNormal,
    "iaf": AutoIAFNormal,
    "bnaf": AutoBNAFNormal,
}
"""Guides of NumPyro on the unconstrained space; flows have no initial scale."""

FLOWS = ("iaf", "bnaf")


class Fitted(NamedTuple):
    """What a fit is made of, given its posterior.

    Attributes:
        svi: NumPyro's, of a model and a guide.
        draw: (key, parameters of the guide) -> one draw, constrained, and log q of it.
        log_joint: (draw, parameters of the guide) -> its log density under the model.
        log_q: (draw, parameters of the guide) -> its log density under the guide.
        like: parameters of the guide, of any values, once it is initialised.
    """

    svi: NumPyroSVI
    draw: Callable[[Key, dict[str, Any]], tuple[Parameters, Array]]
    log_joint: Callable[[Parameters, dict[str, Any]], Array]
    log_q: Callable[[Parameters, dict[str, Any]], Array]
    like: Any = None


class Fit(NamedTuple):
    """The optimiser's state, and the mean bound and its error by window so far."""

    optimiser: Any
    bound: Float[Array, " windows"]
    bound_se: Float[Array, " windows"]
    not_finite: Array
    windows: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SVIReport(Report):
    """Of the optimiser; the bound is known once fresh draws have estimated it.

    Attributes:
        trace_se: errors of the trace, whose points are means over windows of steps.
        not_finite: steps whose loss was not finite.
    """

    iterations: Int[Array, ""]
    trace: Float[Array, " windows"]
    trace_se: Float[Array, " windows"]
    not_finite: Int[Array, ""]


@dataclass(frozen=True)
class SVI:
    """Settings of SVI.

    Attributes:
        guide: "mean-field" (AutoNormal), "full-rank" (AutoMultivariateNormal),
            "low-rank" (AutoLowRankMultivariateNormal), "iaf" or "bnaf" (flows:
            AutoIAFNormal, AutoBNAFNormal); of a mixture also "same-family" (the prior's
            family, assignments enumerated).
        steps: Adam steps.
        learning_rate: learning rate of the first step.
        final_learning_rate: that of the last step; it falls exponentially in between.
        particles: draws per gradient.
        bound_draws: fresh draws from which the reported bound is estimated.
        init_scale: standard deviation that a Gaussian guide starts with.
    """

    guide: Guide = "mean-field"
    steps: Annotated[int, Gt(0)] = 2000
    learning_rate: Annotated[float, Gt(0)] = 0.05
    final_learning_rate: Annotated[float, Gt(0)] = 1e-4
    particles: Annotated[int, Gt(0)] = 4
    bound_draws: Annotated[int, Gt(1)] = 4000
    init_scale: Annotated[float, Gt(0)] = 0.1

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "NumPyro SVI: Gaussian, flow or same-family guides"
    references: ClassVar[tuple[str, ...]] = ("kingma2014", "phan2019")

    @property
    def bound_keeps_labels(self) -> bool:
        """Only the same-family guide keeps the assignments in q."""
        return self.guide == "same-family"

    @property
    def evaluates_q(self) -> bool:
        """Whether log q is known at any theta; a BNAF cannot be inverted."""
        return self.guide != "bnaf"

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, fit (in windows), draw and bound.

        Raises:
            NotApplicable: the guide is not one for this posterior.
        """
        if self.guide == "same-family" and not isinstance(problem.posterior, Mixture):
            raise NotApplicable(
                "guide = 'same-family' is written for mixtures; the model is another"
            )
        if self.guide in FLOWS and size_of(problem.posterior) == 1:
            raise NotApplicable(
                f"guide = {self.guide!r} is a flow of at least two parameters; the "
                "model has one"
            )
        return self._stages((problem.chains, problem.draws))

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        windows = max(1, self.steps // WINDOW)
        rest = self.steps - (windows - 1) * WINDOW  # steps of the last window

        def start(key: Key, posterior: Posterior, _: Any) -> Fit:
            place, own = jax.random.split(key)
            svi = self._build(posterior, *start_parameters(place, posterior)).svi
            zero = jnp.zeros(windows, posterior.dtype)
            none = jnp.zeros((), jnp.int32)
            return Fit(svi.init(own, posterior), zero, zero, none, none)

        def fit(_: Key, posterior: Posterior, state: Fit) -> Fit:
            svi = self._started(posterior).svi

            def update(optimiser: Any, _: None) -> tuple[Any, Array]:
                return svi.update(optimiser, posterior)  # type: ignore[no-any-return]

            def window(optimiser: Any, steps: int) -> tuple[Any, ...]:
                optimiser, loss = lax.scan(update, optimiser, None, length=steps)
                # a single step shows no spread: it is taken as 0
                spread = jnp.std(loss, ddof=min(1, steps - 1))
                bad = jnp.sum(~jnp.isfinite(loss)).astype(jnp.int32)
                return optimiser, jnp.mean(loss), spread / steps**0.5, bad

            at = state.windows
            whole, last = partial(window, steps=WINDOW), partial(window, steps=rest)
            if rest == WINDOW:
                found = whole(state.optimiser)
            else:
                found = lax.cond(at == windows - 1, last, whole, state.optimiser)
            optimiser, loss, error, bad = found
            return Fit(
                optimiser=optimiser,
                bound=state.bound.at[at].set(-loss),
                bound_se=state.bound_se.at[at].set(error),
                not_finite=state.not_finite + bad,
                windows=at + 1,
            )

        def draw(key: Key, posterior: Posterior, state: Fit) -> Draws:
            fitted = self._started(posterior)
            params = fitted.svi.get_params(state.optimiser)

            def one(key: Key) -> tuple[Parameters, Array]:
                return fitted.draw(key, params)

            theta, log_q = jax.vmap(jax.vmap(one))(jax.random.split(key, shape))
            report = SVIReport(
                iterations=jnp.where(
                    state.windows < windows, state.windows * WINDOW, self.steps
                ),
                trace=state.bound,
                trace_se=state.bound_se,
                not_finite=state.not_finite,
            )
            return Draws(theta, {}, log_q, packed(params), report)

        def estimate(key: Key, posterior: Posterior, draws: Draws) -> Draws:
            fitted = self._started(posterior)
            params = unpacked(draws.variational, fitted.like)

            def term(key: Key) -> Float[Array, ""]:
                theta, log_q = fitted.draw(key, params)
                return fitted.log_joint(theta, params) - log_q

            terms = lax.map(term, jax.random.split(key, self.bound_draws))
            error = jnp.std(terms, ddof=1) / jnp.sqrt(float(self.bound_draws))
            report = replace(draws.report, bound=jnp.mean(terms), bound_se=error)
            return draws._replace(report=report)

        return (
            Stage("start", start),
            Stage("fit", fit, calls=windows),
            Stage("draw", draw, again="same"),
            Stage("bound", estimate, part_of_inference=False),
        )

    def _build(
        self, posterior: Posterior, start: Parameters, standard: Standard
    ) -> Fitted:
        """NumPyro's SVI with the chosen guide, and what is done with a fit."""
        free = posterior.unconstrain(start)
        if self.guide == "same-family":
            assert isinstance(posterior, Mixture)
            model: Callable[..., None] = partial(assigned_model, start=start)
            guide: Any = partial(same_family_guide, start=standard)
            draw = partial(same_family_draw, posterior)
            log_q = partial(same_family_log_q, posterior)
        else:
            usual = isinstance(posterior, Mixture) and self.guide not in FLOWS
            model = marginal_model if usual else partial(free_model, like=free)
            place = init_to_value(values=start if usual else free)
            scale = {} if self.guide in FLOWS else {"init_scale": self.init_scale}
            guide = GUIDES[self.guide](model, init_loc_fn=place, **scale)
            draw = partial(guide_draw, posterior, guide, free)
            log_q = partial(guide_log_q, posterior, guide, free)
        rate = optax.exponential_decay(
            self.learning_rate,
            max(self.steps - 1, 1),
            self.final_learning_rate / self.learning_rate,
        )
        loss = OrderedELBO(num_particles=self.particles)
        svi = NumPyroSVI(model, guide, optim.optax_to_numpyro(optax.adam(rate)), loss)

        def log_joint(theta: Parameters, params: dict[str, Any]) -> Array:
            if isinstance(posterior, Mixture):
                return numpyro_density(model, posterior, theta | params)
            return posterior.log_joint(theta)

        return Fitted(svi, draw, log_joint, log_q)

    def _started(self, posterior: Posterior) -> Fitted:
        """`_build` with a guide that has been initialised.

        NumPyro's guides learn the latent sites when they are first called. Their
        starting values do not matter, as a fit holds the parameters, and are no part of
        the compiled program.
        """
        if isinstance(posterior, Mixture):
            start, standard = parameters_of(posterior, posterior.prior())
        else:
            start, standard = posterior.constrain(starts.origin(posterior))[0], {}
        fitted = self._build(posterior, start, standard)
        state = fitted.svi.init(jax.random.key(0), posterior)
        return fitted._replace(like=fitted.svi.get_params(state))

    def log_q(
        self, posterior: Posterior, draws: Draws, theta: Parameters
    ) -> Float[Array, ""]:
        """Log density of the fitted guide at any theta, constrained."""
        fitted = self._started(posterior)
        return fitted.log_q(theta, unpacked(draws.variational, fitted.like))

    def outcome(self, draws: Draws) -> Outcome:
        """Converged where the bound rose by next to nothing over the last tenth."""
        report: SVIReport = draws.report
        bad = int(report.not_finite)
        if bad or not np.isfinite(told(report, "bound", np.nan)):
            return Outcome(
                "not finite",
                f"the loss was not finite in {bad} of {self.steps} steps: "
                "lower learning_rate",
            )
        rise, error = late_rise(report.trace, report.trace_se)
        moved = f"the bound rose {rise:.3f} +- {error:.3f} nats over the last tenth"
        if rise - 2 * error <= STANDING_STILL:
            return Outcome("converged", f"{moved} of {self.steps} steps")
        return Outcome("iteration limit", f"{moved} of {self.steps} steps: raise steps")


def late_rise(trace: Any, error: Any) -> tuple[float, float]:
    """Rise of the bound from the second last to the last tenth, and its error, nats.

    The rise is infinite where the trace has less than two windows.
    """
    bounds, errors = np.asarray(trace), np.asarray(error)
    tenth = max(1, len(bounds) // 10)
    if len(bounds) < 2 * tenth:
        return np.inf, 0.0
    late, before = slice(-tenth, None), slice(-2 * tenth, -tenth)
    rise = bounds[late].mean() - bounds[before].mean()
    variance = (errors[late] ** 2).sum() + (errors[before] ** 2).sum()
    return float(rise), float(np.sqrt(variance) / tenth)


METHOD = SVI
