"""SVI: stochastic-gradient variational inference with NumPyro's guides.

`mean-field`, `full-rank` and `low-rank` are Gaussian guides on the unconstrained space,
discrete variables marginalised (Hoffman et al. 2013; Kucukelbir et al. 2017); `iaf` and
`bnaf` are normalizing flows there (Kingma et al. 2016; De Cao, Titov and Aziz 2019).
`same-family`, of a mixture, is q(theta) from the prior's family with the assignments
kept in q: it optimises, by gradients and in NumPyro's own arithmetic, exactly the bound
that CAVI optimises.

Adam's rate is constant until the parameters stand still and is then halved; q is that
of averaged parameters, and the fit ends when averages at two rates are the same (Dhaka
et al. 2020; Welandawe et al. 2022): see ``vi_bench.inference.settling``.
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
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int
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
    as_it_is,
    remembered,
    told,
)
from vi_bench.errors import NotApplicable
from vi_bench.inference import settling, starts
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

WINDOW = 50
"""Steps of one call of the fit stage, which gives one point of the trace."""

LOOKED_AT = 200
"""Draws of q, with the same random numbers each time, whose means and standard
deviations tell whether its parameters have changed."""

COORDINATES = 1000
"""Unconstrained parameters of the model that this is asked of at most, evenly spaced
among them."""

Guide = Literal["mean-field", "full-rank", "low-rank", "iaf", "bnaf", "same-family"]

Objective = Literal["elbo", "importance-weighted"]

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
    """The optimiser's state, averages, and the bound and its error by window so far."""

    optimiser: Any
    averages: settling.Settling
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
        settled: whether the parameters have converged.
        halvings: how often the learning rate was halved.
        parameter_error: largest Monte-Carlo error of a mean of q, in its sds, or of a
            log sd; NaN where no average was looked at.
        parameter_change: largest difference of the last two averages, likewise.
    """

    iterations: Int[Array, ""]
    trace: Float[Array, " windows"]
    trace_se: Float[Array, " windows"]
    not_finite: Int[Array, ""]
    settled: Bool[Array, ""]
    halvings: Int[Array, ""]
    parameter_error: Float[Array, ""]
    parameter_change: Float[Array, ""]


@dataclass(frozen=True)
class SVI:
    """Settings of SVI.

    Attributes:
        guide: "mean-field" (AutoNormal), "full-rank" (AutoMultivariateNormal),
            "low-rank" (AutoLowRankMultivariateNormal), "iaf" or "bnaf" (flows:
            AutoIAFNormal, AutoBNAFNormal); of a mixture also "same-family" (the prior's
            family, assignments enumerated).
        objective: "elbo", or "importance-weighted", which is tighter the more particles
            there are, and whose q is the better a proposal (Burda, Grosse and
            Salakhutdinov 2016).
        steps: Adam steps at most.
        learning_rate: learning rate of the first step; it is halved when the parameters
            stand still.
        tolerance: difference of averages at two rates at which the fit ends: of means
            of q in its sds, of sds relative. Their Monte-Carlo error is at most half
            of it then.
        particles: draws per gradient.
        bound_draws: fresh draws from which the reported bound is estimated.
        init_scale: standard deviation that a Gaussian guide starts with.
    """

    guide: Guide = "mean-field"
    objective: Objective = "elbo"
    steps: Annotated[int, Gt(0)] = 20_000
    learning_rate: Annotated[float, Gt(0)] = 0.05
    tolerance: Annotated[float, Gt(0)] = 0.05
    particles: Annotated[int, Gt(0)] = 4
    bound_draws: Annotated[int, Gt(1)] = 4000
    init_scale: Annotated[float, Gt(0)] = 0.1

    kind: ClassVar[Kind] = "variational"
    summary: ClassVar[str] = "NumPyro SVI: Gaussian, flow or same-family guides"
    references: ClassVar[tuple[str, ...]] = (
        "kingma2014",
        "phan2019",
        "dhaka2020",
        "welandawe2022",
    )

    @property
    def bound_keeps_labels(self) -> bool:
        """Only the same-family guide keeps the assignments in q."""
        return self.guide == "same-family"

    @property
    def evaluates_q(self) -> bool:
        """Whether log q is known at any theta; a BNAF cannot be inverted."""
        return self.guide != "bnaf"

    def finely(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages as they are: a window of steps is few."""
        return self.prepare(problem, key)

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, fit (in windows), draw and bound.

        Raises:
            NotApplicable: the guide is not one for this posterior.
        """
        if self.guide == "same-family" and not isinstance(problem.posterior, Mixture):
            raise NotApplicable(
                "guide = 'same-family' is written for mixtures; the model is another"
            )
        if self.guide in FLOWS and starts.size_of(problem.posterior) == 1:
            raise NotApplicable(
                f"guide = {self.guide!r} is a flow of at least two parameters; the "
                "model has one"
            )
        return self._stages((problem.chains, problem.draws))

    def passes(self, draws: Draws) -> float:
        """Gradients, of all particles."""
        return float(told(draws.report, "iterations", np.nan)) * self.particles

    @remembered
    def _stages(self, shape: tuple[int, int]) -> tuple[Stage, ...]:
        windows = max(1, self.steps // WINDOW)
        rest = self.steps - (windows - 1) * WINDOW  # steps of the last window

        def start(key: Key, posterior: Posterior, _: Any) -> Fit:
            place, own = jax.random.split(key)
            fitted = self._build(posterior, *start_parameters(place, posterior))
            state = fitted.svi.init(own, posterior)
            params = fitted.svi.optim.get_params(state.optim_state)
            zero = jnp.zeros(windows, posterior.dtype)
            size = min(starts.size_of(posterior), COORDINATES)
            averages = settling.begun(params, windows, size, posterior.dtype)
            none = jnp.zeros((), jnp.int32)
            return Fit(state, averages, zero, zero, none, none)

        def fit(_: Key, posterior: Posterior, state: Fit) -> Fit:
            # inside a trace calls go on after the last one that was needed
            after: Fit = lax.cond(
                state.averages.done, lambda s: s, partial(further, posterior), state
            )
            return after

        def further(posterior: Posterior, state: Fit) -> Fit:
            fitted = self._started(posterior, state.averages.halvings)
            svi = fitted.svi

            def update(carry: tuple[Any, Any], _: None) -> tuple[Any, Array]:
                optimiser, total = carry
                optimiser, loss = svi.update(optimiser, posterior)
                params = svi.optim.get_params(optimiser.optim_state)
                return (optimiser, jax.tree.map(jnp.add, total, params)), loss

            def window(optimiser: Any, steps: int) -> tuple[Any, ...]:
                total = jax.tree.map(jnp.zeros_like, state.averages.total)
                (optimiser, total), loss = lax.scan(
                    update, (optimiser, total), None, length=steps
                )
                # a single step shows no spread: it is taken as 0
                spread = jnp.std(loss, ddof=min(1, steps - 1))
                bad = jnp.sum(~jnp.isfinite(loss)).astype(jnp.int32)
                params = jax.tree.map(lambda v: v / steps, total)
                return optimiser, params, jnp.mean(loss), spread / steps**0.5, bad

            at = state.windows
            whole, last = partial(window, steps=WINDOW), partial(window, steps=rest)
            if rest == WINDOW:
                found = whole(state.optimiser)
            else:
                found = lax.cond(at == windows - 1, last, whole, state.optimiser)
            optimiser, params, loss, error, bad = found
            averages = settling.with_window(
                state.averages,
                params,
                _statistics(posterior, fitted, params),
                WINDOW * self._rate(posterior, state.averages.halvings),
                self.tolerance,
            )
            return Fit(
                optimiser=optimiser,
                averages=averages,
                bound=state.bound.at[at].set(-loss),
                bound_se=state.bound_se.at[at].set(error),
                not_finite=state.not_finite + bad,
                windows=at + 1,
            )

        def draw(key: Key, posterior: Posterior, state: Fit) -> Draws:
            fitted = self._started(posterior)
            params = fitted.svi.constrain_fn(settling.result(state.averages))

            def one(key: Key) -> tuple[Parameters, Array]:
                return fitted.draw(key, params)

            theta, log_q = jax.vmap(jax.vmap(one))(jax.random.split(key, shape))
            known = jnp.arange(windows, dtype=state.windows.dtype) < state.windows
            report = SVIReport(
                iterations=jnp.minimum(state.windows * WINDOW, self.steps),
                trace=jnp.where(known, state.bound, jnp.nan),
                trace_se=jnp.where(known, state.bound_se, jnp.nan),
                not_finite=state.not_finite,
                settled=state.averages.done,
                halvings=state.averages.halvings,
                parameter_error=state.averages.error,
                parameter_change=state.averages.change,
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
            Stage(
                "fit",
                fit,
                calls=windows,
                done=lambda s: bool(s.averages.done),
                cut=as_it_is,
            ),
            Stage("draw", draw, again="same", part_of_inference=False),
            Stage("bound", estimate, part_of_inference=False),
        )

    def _build(
        self,
        posterior: Posterior,
        start: Parameters,
        standard: Standard,
        halvings: int | Int[Array, ""] = 0,
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
        rate = self._rate(posterior, halvings)
        weighted = self.objective == "importance-weighted"
        loss = OrderedELBO(num_particles=self.particles, weighted=weighted)
        svi = NumPyroSVI(model, guide, optim.optax_to_numpyro(optax.adam(rate)), loss)

        def log_joint(theta: Parameters, params: dict[str, Any]) -> Array:
            if isinstance(posterior, Mixture):
                return numpyro_density(model, posterior, theta | params)
            return posterior.log_joint(theta)

        return Fitted(svi, draw, log_joint, log_q)

    def _rate(self, posterior: Posterior, halvings: Any) -> Float[Array, ""]:
        """Adam's rate: about how far a parameter moves in a step at most."""
        first = jnp.asarray(self.learning_rate, posterior.dtype)
        return first * jnp.exp2(-jnp.asarray(halvings, posterior.dtype))

    def _started(
        self, posterior: Posterior, halvings: int | Int[Array, ""] = 0
    ) -> Fitted:
        """`_build` with a guide that has been initialised.

        NumPyro's guides learn the latent sites when they are first called. Their
        starting values do not matter, as a fit holds the parameters, and are no part of
        the compiled program.
        """
        if isinstance(posterior, Mixture):
            start, standard = parameters_of(posterior, posterior.prior())
        else:
            start, standard = posterior.constrain(starts.origin(posterior))[0], {}
        fitted = self._build(posterior, start, standard, halvings)
        state = fitted.svi.init(jax.random.key(0), posterior)
        return fitted._replace(like=fitted.svi.get_params(state))

    def log_q(
        self, posterior: Posterior, draws: Draws, theta: Parameters
    ) -> Float[Array, ""]:
        """Log density of the fitted guide at any theta, constrained."""
        fitted = self._started(posterior)
        return fitted.log_q(theta, unpacked(draws.variational, fitted.like))

    def outcome(self, draws: Draws) -> Outcome:
        """Converged where averaged parameters at two rates are the same."""
        report: SVIReport = draws.report
        bad, steps = int(report.not_finite), int(report.iterations)
        if bad or not np.isfinite(told(report, "bound", np.nan)):
            return Outcome(
                "not finite",
                f"the loss was not finite in {bad} of {steps} steps: "
                "lower learning_rate",
            )
        error, change = float(report.parameter_error), float(report.parameter_change)
        if bool(report.settled):
            rate = self.learning_rate / 2.0 ** int(report.halvings)
            return Outcome(
                "converged",
                f"parameters averaged at a rate of {rate:.2g} and at twice that differ "
                f"by at most {change:.2g} sds of q, their Monte-Carlo error is at most "
                f"{error:.2g}, after {steps} steps",
            )
        if np.isnan(error):
            return Outcome(
                "iteration limit",
                f"{steps} steps tell nothing of convergence: raise steps",
            )
        return Outcome(
            "iteration limit",
            f"averaged parameters have not settled in {steps} steps (Monte-Carlo error "
            f"{error:.2g} sds of q): raise steps",
        )


def _statistics(
    posterior: Posterior, fitted: Fitted, params: Any
) -> Float[Array, " c"]:
    """Means of q and logs of its sds, at the optimiser's own parameters.

    The same random numbers each time: they change as the parameters of q do.
    """
    values = fitted.svi.constrain_fn(params)

    def one(key: Key) -> Float[Array, " p"]:
        theta, _ = fitted.draw(key, values)
        return ravel_pytree(posterior.unconstrain(theta))[0]

    free = jax.vmap(one)(jax.random.split(jax.random.key(0), LOOKED_AT))
    size = free.shape[1]
    kept = np.linspace(0, size - 1, min(size, COORDINATES)).astype(int)
    free = free[:, kept]
    return jnp.concatenate([jnp.mean(free, axis=0), jnp.log(jnp.std(free, axis=0))])


METHOD = SVI
