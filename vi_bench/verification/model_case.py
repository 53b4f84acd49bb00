"""A problem of any model, a fit of it, and what their draws tell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats
from jax.flatten_util import ravel_pytree
from numpyro.distributions import constraints
from numpyro.infer.util import log_density

from vi_bench.errors import VerificationError
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.posterior.structure import bare
from vi_bench.verification.factors import Factor, draw
from vi_bench.verification.finding import CONVERGED, ROUNDING
from vi_bench.verification.mixtures import accurately
from vi_bench.verification.model_answer import (
    AUGMENTED,
    ELBO,
    JAAKKOLA_JORDAN,
    ModelAnswer,
)
from vi_bench.verification.model_problems import Logistic, ModelProblem
from vi_bench.verification.reassign import Reassigned, reassigned
from vi_bench.verification.sandbox import first_line
from vi_bench.verification.sandwich import Sandwich, sandwich
from vi_bench.verification.stationary import Gain, gain_of, slope_of
from vi_bench.verification.tails import WIDER, is_unreached

PART, PARTS = 20_000, 5
"""Draws of q in one part, and how many parts there are at most."""

PRECISE = 1e-3
"""Standard error of the bound, nats, at which no more draws are needed."""

SCALARS = 15_000_000
"""Scores, of all parameters and draws, that are held at once."""

AT_ONCE = 2000
"""Draws that are computed at once."""

CURVED = 256
"""Draws over which second derivatives are averaged."""

HEAVY = 0.7
"""Pareto k-hat of log p - log q, of either tail, beyond which no error of its mean is
to be believed (Vehtari, Simpson, Gelman, Yao and Gabry 2024)."""

ALONE, ALONE_DISCRETE = 0.01, 0.1
"""Share of the variance that one draw must make up for such a tail to count; it is 0.3
on average with k-hat over 0.7. It must be more where q has discrete variables, as their
rare values recur and are no tail."""


@dataclass(frozen=True)
class Sampled:
    """Draws of q, and what belongs to them.

    Attributes:
        log_p: log p(x, theta) (S,), nats; -inf where a draw is impossible.
        log_q: log q (S,), nats.
        scores: site -> gradient of log q by the factor's parameters (S, p).
        slopes: site of a point estimate -> gradient of log p by it (S, p).
        curvatures: likewise -> minus the mean second derivative (p, p).
        logits: of a logistic likelihood (S, n); None if there is none.
        terms: sum of the sizes of the terms of log p and log q, nats.
    """

    log_p: np.ndarray
    log_q: np.ndarray
    scores: Mapping[str, np.ndarray]
    slopes: Mapping[str, np.ndarray]
    curvatures: Mapping[str, np.ndarray]
    logits: np.ndarray | None
    terms: float


@dataclass(frozen=True)
class ModelCase:
    """A problem and the result of a fit."""

    problem: ModelProblem
    answer: ModelAnswer

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Discrete sites that q leaves out, so that they are summed out."""
        known = self.answer.sites
        return tuple(
            site.name
            for site in self.problem.structure.sites
            if site.discrete and site.name not in known
        )

    @cached_property
    def sampled(self) -> Sampled:
        """Draws of q."""
        with accurately():
            try:
                return _sampled(self.problem, self.answer, bool(self.left_out))
            except Exception as error:  # a user's model may raise anything
                raise VerificationError(
                    f"{self.problem}: the model cannot be evaluated at draws of q: "
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error

    @cached_property
    def impossible(self) -> float:
        """Share of the draws of q that the model does not allow."""
        sampled = self.sampled
        return float(np.mean(~np.isfinite(sampled.log_p) & np.isfinite(sampled.log_q)))

    @cached_property
    def unjudged(self) -> str:
        """Why draws of q cannot tell its bound; empty if they can."""
        if not np.isfinite(self.sampled.log_q).all():
            return "draws of q underflow to where its own density is not finite"
        discrete = any(factor.by_element for factor in self.answer.factors)
        least = ALONE_DISCRETE if discrete else ALONE
        if not self.impossible and is_heavy(self.ratio, least):
            return (
                "log p - log q has so heavy a tail over draws of q that they do not "
                f"tell its mean (Pareto k-hat over {HEAVY})"
            )
        return ""

    @property
    def judged(self) -> bool:
        """Whether the bound and the gains of q are known from its draws."""
        return not self.impossible and not self.unjudged

    @cached_property
    def ratio(self) -> np.ndarray:
        """Log p - log q by draw (S,), nats."""
        return np.asarray(self.sampled.log_p - self.sampled.log_q)

    @cached_property
    def jaakkola_jordan(self) -> np.ndarray | None:
        """The same with Jaakkola and Jordan's bound for the logistic likelihood.

        log sigmoid(t) >= log sigmoid(xi) + (t - xi) / 2 - lam(xi) (t^2 - xi^2), lam(xi)
        = tanh(xi / 2) / (4 xi), and xi^2 = E_q t^2 is the best. As it is, the gradient
        of the bound is that at a fixed xi.
        """
        logits, logistic = self.sampled.logits, self.problem.logistic
        if logits is None or logistic is None:
            return None
        xi = np.sqrt(np.mean(logits**2, axis=0))
        small = xi < 1e-4
        lam = np.where(small, 0.125, np.tanh(xi / 2) / (4 * np.where(small, 1, xi)))
        # log sigmoid(t) of an outcome 1, and of 0 that of -t: the same difference
        bounded = -np.logaddexp(0, -xi) - (logits + xi) / 2
        bounded = bounded - lam * (logits**2 - xi**2) + np.logaddexp(0, logits)
        return np.asarray(self.ratio + bounded @ logistic.trials)

    @cached_property
    def form(self) -> str:
        """What the bound is: as stated, or else what q comes nearest to maximising."""
        if self.answer.form is not None:
            return self.answer.form
        if not self.judged:
            return ELBO
        own = self.ratio
        if self.left_out and not self._fits(own):
            return AUGMENTED
        logistic = self.problem.logistic
        other = self.jaakkola_jordan if logistic and logistic.by_logits else None
        if other is not None and self._loss(own) > CONVERGED + self._loss(other):
            return JAAKKOLA_JORDAN
        return ELBO

    def _loss(self, ratio: np.ndarray) -> float:
        return sum(max(g.nats, 0.0) for g in self._gains(ratio).values())

    def _fits(self, ratio: np.ndarray) -> bool:
        """Whether the bound is not below the mean of the ratio."""
        if not self.answer.elbo.size:
            return False
        mean, error = float(ratio.mean()), float(ratio.std()) / np.sqrt(len(ratio))
        return bool(self.answer.elbo[-1] > mean - CONVERGED - 4 * error)

    @cached_property
    def objective(self) -> np.ndarray:
        """What the bound is the mean of, by draw (S,), nats."""
        other = self.jaakkola_jordan
        if self.form == JAAKKOLA_JORDAN and other is not None:
            return other
        return self.ratio

    @cached_property
    def gains(self) -> dict[str, Gain]:
        """Site -> what a step of its factor's natural gradient gains."""
        return self._gains(self.objective)

    def _gains(self, ratio: np.ndarray) -> dict[str, Gain]:
        sampled = self.sampled
        found = {site: gain_of(s, ratio) for site, s in sampled.scores.items()}
        if ratio is not self.ratio:
            return found
        return found | {
            site: slope_of(s, sampled.curvatures[site])
            for site, s in sampled.slopes.items()
        }

    @cached_property
    def reassigned(self) -> dict[str, Reassigned]:
        """Discrete site -> the gain of its elements' optima, unless scores tell it."""
        found: dict[str, Reassigned] = {}
        if any(inspect.isfunction(entry) for entry in self.answer.q.values()):
            return found  # a factor that depends on it would have to move, too
        for factor in self.answer.factors:
            gain = self.gains.get(factor.site)
            if not factor.by_element or (gain is not None and not gain.dropped):
                continue
            with accurately():
                own = _reassigned(self.problem, self.answer, factor.site)
            if own is not None:
                found[factor.site] = own
        return found

    @property
    def unreached(self) -> str:
        """Why all draws of q may miss what its bound depends on; empty if they do not.

        It is looked for where q seems to be wrong.
        """
        program = _program(
            self.problem, self.answer, bool(self.left_out), self.problem.logistic
        )
        parameters = [(f.leaves, f.fixed) for f in self.answer.factors]
        mean, error = float(self.ratio.mean()), float(self.ratio.std())
        for site, wider in program.widened.items():

            def moved(keys: Any, place: int, centre: Any, wider: Any = wider) -> Any:
                return wider(keys, parameters, self.problem.arrays, place, centre)

            with accurately():
                keys = jax.random.split(jax.random.key(1), AT_ONCE)
                drawn = jax.vmap(lambda key: draw(self.answer.factors, key))(keys)
                centre = np.asarray(drawn[site]).mean(axis=0).ravel()
                if is_unreached(moved, centre, mean, error / len(self.ratio) ** 0.5):
                    return (
                        f"q({site}) is so wide that its bound depends on values that "
                        "no draw reaches"
                    )
        return ""

    @cached_property
    def bound(self) -> tuple[float, float]:
        """The bound of q and its standard error, nats."""
        ratio = self.objective
        return float(ratio.mean()), float(ratio.std(ddof=1)) / float(len(ratio)) ** 0.5

    @cached_property
    def slack(self) -> float:
        """Nats of difference that rounding explains."""
        return ROUNDING * self.answer.eps * self.sampled.terms

    @cached_property
    def evidence(self) -> Sandwich | None:
        """Bounds on log p(X); None where it is not simulated, or cannot be had."""
        with accurately():
            return sandwich(self.problem)

    def forget_scores(self) -> None:
        """Drop what takes memory, once all that follows from it is known."""
        if self.judged:
            _ = self.gains, self.bound, self.reassigned
        slim = replace(self.sampled, scores={}, slopes={}, logits=None)
        self.__dict__["sampled"] = slim  # where a cached property is kept

    @property
    def quality(self) -> None:
        """The accuracy of the approximation is not measured here."""
        return


def _sampled(problem: ModelProblem, answer: ModelAnswer, summed_out: bool) -> Sampled:
    factors = answer.factors
    scalars = sum(leaf.size for f in factors for leaf in f.leaves) + 1
    most = max(SCALARS // scalars, 20 * scalars)
    logistic = None if summed_out else problem.logistic
    program = _program(problem, answer, summed_out, logistic)
    parameters = [(f.leaves, f.fixed) for f in factors]
    moving = problem.arrays
    parts: list[Any] = []
    for part in range(PARTS):
        keys = jax.random.split(
            jax.random.fold_in(jax.random.key(20170415), part), PART
        )
        found = program.sampled(keys, parameters, moving)
        parts.append(jax.tree.map(np.asarray, found))
        drawn = PART * (part + 1)
        # how many follows from the variance alone, so that it biases nothing
        if drawn + PART > most or _error(parts[0]) / np.sqrt(drawn / PART) < PRECISE:
            break
    found = jax.tree.map(lambda *v: np.concatenate(v), *parts)
    log_p, log_q, scores, slopes, logits, terms = found
    curvatures = {}
    if slopes:
        second = program.curved(keys[:CURVED], parameters, moving)
        curvatures = {name: -np.mean(np.asarray(v), 0) for name, v in second.items()}
    return Sampled(
        log_p=log_p,
        log_q=log_q,
        scores=scores,
        slopes=slopes,
        curvatures=curvatures,
        logits=logits[:, 1:] if logistic is not None else None,
        terms=float(np.mean(terms)) + _squares(problem),
    )


def _reassigned(
    problem: ModelProblem, answer: ModelAnswer, site: str
) -> Reassigned | None:
    prior = bare(problem.trace[site]["fn"])
    if not prior.has_enumerate_support:
        return None
    categories = np.ravel(np.asarray(prior.enumerate_support(expand=False)))
    program = _program(problem, answer, False, problem.logistic).moved[site]
    parameters = [(f.leaves, f.fixed) for f in answer.factors]

    def both(keys: Any, elements: np.ndarray, to: np.ndarray) -> Any:
        return program(keys, parameters, problem.arrays, elements, to)

    return reassigned(both, np.shape(problem.trace[site]["value"]), categories)


def is_heavy(values: np.ndarray, least: float) -> bool:
    """Whether the mean of values (S,) and its error are not to be believed.

    Args:
        values: independent values.
        least: share of their variance that one of them must make up.
    """
    off = values - values.mean()
    most = int(np.argmax(off**2))
    alone = off[most] ** 2 > least * np.sum(off**2)
    return bool(alone and pareto_khat(off if off[most] > 0 else -off) > HEAVY)


def pareto_khat(values: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution of the upper tail of values (S,).

    It is 0 where the values of the tail are all the same.
    """
    if np.ptp(values) <= ROUNDING * np.finfo(float).eps * np.abs(values).max(initial=1):
        return 0.0
    try:
        return float(array_stats.pareto_khat(values[None], r_eff=1.0, tail="right"))
    except ValueError:
        return 0.0


def _error(part: Any) -> float:
    """Standard error of the bound, nats, by the draws of one part."""
    ratio: np.ndarray = part[0] - part[1]
    if not np.isfinite(ratio).all():
        return 0.0
    return float(ratio.std() / np.sqrt(len(ratio)))


class _Program(NamedTuple):
    """Compiled functions of keys, the factors' parameters, and the data's arrays."""

    sampled: Callable[..., Any]
    curved: Callable[..., Any]
    moved: Mapping[str, Callable[..., Any]]
    widened: Mapping[str, Callable[..., Any]]


_programs: dict[Hashable, _Program] = {}
"""Programs by what their problems and factors have in common."""

KEPT = 64
"""Programs that are kept, those used last: problems of the same shapes share them."""


def _program(
    problem: ModelProblem,
    answer: ModelAnswer,
    summed_out: bool,
    logistic: Logistic | None,
) -> _Program:
    """The program for a problem: a kept one if all shapes are the same."""
    alike = tuple(factor.alike for factor in answer.factors)
    known = all(alike) and problem.alike is not None and not summed_out
    key: Hashable = (problem.alike, alike)
    try:
        if known and key in _programs:
            _programs[key] = _programs.pop(key)  # the last to go
            return _programs[key]
    except ValueError:  # of distributions with arrays among what is static
        known = False
    made = _made(problem, answer.factors, summed_out, logistic)
    if not _traceable(made, problem, answer):
        fixed = {name: jnp.asarray(value) for name, value in problem.arrays.items()}
        return _made(problem, answer.factors, summed_out, logistic, fixed)
    if known:
        if len(_programs) >= KEPT:
            del _programs[next(iter(_programs))]
        _programs[key] = made
    return made


def _traceable(program: _Program, problem: ModelProblem, answer: ModelAnswer) -> bool:
    """Whether the model works where its data's values are not known."""
    parameters = [(f.leaves, f.fixed) for f in answer.factors]
    keys = jax.random.split(jax.random.key(0), AT_ONCE)
    try:
        jax.eval_shape(program.sampled, keys, parameters, problem.arrays)
    except Exception:  # a user's code may raise anything
        return False
    return True


def _made(
    problem: ModelProblem,
    factors: Sequence[Factor],
    summed_out: bool,
    logistic: Logistic | None,
    fixed: Mapping[str, Any] | None = None,
) -> _Program:
    points = [f for f in factors if f.transform is not None]
    moved = [f for f in factors if not f.point and any(v.size for v in f.leaves)]
    still = {n: v for n, v in problem.data.items() if n not in problem.arrays}
    posterior = None
    if summed_out:
        known = {n: jnp.asarray(v) for n, v in problem.arrays.items()}
        posterior = NumPyroPosterior.of(problem.model, **known, **still)

    def joint(values: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
        if posterior is not None:
            total = posterior.log_joint(dict(values))
            return total, (jnp.zeros(1), jnp.abs(total))
        data = {**(data if fixed is None else fixed), **still}
        total, trace = log_density(problem.model, (), data, dict(values))
        logits = jnp.zeros(1)  # a map of arrays without elements fails
        if logistic is not None:
            site = trace[logistic.site]
            shape = jnp.shape(site["value"])
            own = jnp.ravel(jnp.broadcast_to(bare(site["fn"]).logits, shape))
            logits = jnp.concatenate([logits, own])
        return total, (logits, _terms(trace))

    def at_points(values: Mapping[str, Any], data: Any) -> Callable[[Any], Any]:
        def along(own: Mapping[str, Any]) -> Any:
            moved = {f.site: f.transform(own[f.site]) for f in points if f.site in own}
            return joint({**values, **moved}, data)[0]

        return along

    def unconstrained(values: Mapping[str, Any]) -> dict[str, Any]:
        return {f.site: f.transform.inv(values[f.site]) for f in points}

    def one(key: Any, parameters: Any, data: Any) -> Any:
        values = draw(factors, key, parameters)
        log_p, (logits, terms) = joint(values, data)
        log_q, scores = jnp.zeros(()), {}
        for factor, (leaves, rest) in zip(factors, parameters, strict=True):

            def own(leaves: Any, factor: Any = factor, rest: Any = rest) -> Any:
                return factor.log_prob(leaves, rest, values[factor.site], values)

            if factor in moved:
                density, score = jax.value_and_grad(own)(tuple(leaves))
                scores[factor.site] = ravel_pytree(score)[0]
            else:
                density = own(leaves)
            log_q += density
        here = unconstrained(values)
        slopes = jax.grad(at_points(values, data))(here) if points else {}
        slopes = {name: jnp.ravel(v) for name, v in slopes.items()}
        return log_p, log_q, scores, slopes, logits, terms + jnp.abs(log_q)

    def curved(key: Any, parameters: Any, data: Any) -> Any:
        values = draw(factors, key, parameters)
        found = {}
        for f in points:
            flat, shaped = ravel_pytree(unconstrained(values)[f.site])
            along = at_points(values, data)
            found[f.site] = jax.hessian(
                lambda v, f=f, along=along, shaped=shaped: along({f.site: shaped(v)})
            )(flat)
        return found

    def sampled(keys: Any, parameters: Any, data: Any) -> Any:
        return jax.lax.map(
            lambda key: one(key, parameters, data), keys, batch_size=AT_ONCE
        )

    def second(keys: Any, parameters: Any, data: Any) -> Any:
        return jax.vmap(lambda key: curved(key, parameters, data))(keys)

    def by_element(site: str) -> Callable[..., Any]:
        """Log p and log q with one element of a discrete variable at another value."""

        def one(key: Any, parameters: Any, data: Any, elements: Any, to: Any) -> Any:
            drawn = draw(factors, key, parameters)
            place = [f.site for f in factors].index(site)
            factor, (own, rest) = factors[place], parameters[place]

            def at(element: Any, value: Any) -> tuple[Any, Any]:
                z = drawn[site]
                value = value.astype(z.dtype)
                z = jnp.ravel(z).at[element].set(value).reshape(z.shape)
                values = {**drawn, site: z}
                return joint(values, data)[0], factor.log_prob(own, rest, z, values)

            return jax.vmap(at)(elements, to)

        return jax.jit(
            lambda keys, parameters, data, elements, to: jax.lax.map(
                lambda key: one(key, parameters, data, elements, to), keys
            )
        )

    moved_to = {f.site: by_element(f.site) for f in factors if f.by_element}

    def wider(site: str) -> Callable[..., Any]:
        """Log p and log q with one coordinate further from the centre; log q before."""

        def one(key: Any, parameters: Any, data: Any, place: Any, centre: Any) -> Any:
            drawn = draw(factors, key, parameters)

            def log_q(values: Mapping[str, Any]) -> Any:
                return sum(
                    f.log_prob(own, rest, values[f.site], values)
                    for f, (own, rest) in zip(factors, parameters, strict=True)
                )

            own = drawn[site]
            flat, middle = jnp.ravel(own), centre[place]
            to = flat.at[place].set(middle + WIDER * (flat[place] - middle))
            values = {**drawn, site: to.reshape(own.shape)}
            return joint(values, data)[0], log_q(values), log_q(drawn)

        return jax.jit(
            lambda keys, parameters, data, place, centre: jax.lax.map(
                lambda key: one(key, parameters, data, place, centre),
                keys,
                batch_size=AT_ONCE,
            )
        )

    real = {
        f.site: wider(f.site)
        for f in factors
        if not f.point and _is_real(problem.trace[f.site]["fn"].support)
    }
    return _Program(jax.jit(sampled), jax.jit(second), moved_to, real)


def _is_real(support: Any) -> bool:
    base = getattr(support, "base_constraint", support)
    return base is constraints.real or base is constraints.real_vector


def _terms(trace: Mapping[str, Any]) -> Any:
    """Sum of the sizes of all log densities of a trace."""
    total = jnp.zeros(())
    for site in trace.values():
        if site["type"] == "sample":
            total += jnp.sum(jnp.abs(site["fn"].log_prob(site["value"])))
    return total


def _squares(problem: ModelProblem) -> float:
    """The size of the squares that usual formulas sum, in units of their variance."""
    total = 0.0
    for name in problem.structure.observed:
        site = problem.trace[name]
        value = site["value"]
        try:
            unit = np.asarray(site["fn"].variance)
        except (NotImplementedError, AttributeError, TypeError):
            continue
        if value is not None and np.size(value):
            unit = np.where(unit > 0, unit, 1.0)
            total += float(np.sum(np.asarray(value, float) ** 2 / unit))
    return total if np.isfinite(total) else 0.0
