"""A problem of any model, a fit of it, and what their draws tell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from arviz_stats.base import array_stats

from vi_bench.errors import VerificationError
from vi_bench.posterior.structure import bare
from vi_bench.verification.factors import parameters_of
from vi_bench.verification.finding import CONVERGED, ROUNDING, standard_error
from vi_bench.verification.mixtures import accurately
from vi_bench.verification.model_answer import (
    AUGMENTED,
    ELBO,
    JAAKKOLA_JORDAN,
    ModelAnswer,
)
from vi_bench.verification.model_problems import ModelProblem
from vi_bench.verification.model_program import Program, program_of
from vi_bench.verification.reassign import Reassigned, reassigned
from vi_bench.verification.sandbox import first_line
from vi_bench.verification.sandwich import Sandwich, sandwich
from vi_bench.verification.stationary import Gain, gain_of, slope_of
from vi_bench.verification.tails import is_unreached, reach_of

PART = 4000
"""Draws of q in one part."""

LEAST, PARTS = 5, 25
"""How many parts there are at least and at most."""

PRECISE = 1e-3
"""Standard error of the bound, nats, at which no more draws are needed."""

SCALARS = 15_000_000
"""Scores, of all parameters and draws, that are held at once."""

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
    """A problem and the result of a fit.

    Attributes:
        problem: the problem.
        answer: the result.
        doubt: why draws of q cannot tell its bound, where that is known already.
        parts: of draws of q at most; fewer than LEAST if this is.
    """

    problem: ModelProblem
    answer: ModelAnswer
    doubt: str = ""
    parts: int = PARTS

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
    def program(self) -> Program:
        """What draws q, and evaluates it and the model."""
        with accurately():
            return program_of(self.problem, self.answer.factors, bool(self.left_out))

    @property
    def inputs(self) -> tuple[Any, dict[str, np.ndarray]]:
        """What the program's functions take after keys: parameters, and data."""
        return parameters_of(self.answer.factors), self.problem.arrays

    @cached_property
    def sampled(self) -> Sampled:
        """Draws of q."""
        with accurately():
            try:
                return _sampled(self)
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
        if self.doubt:
            return self.doubt
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
        if other is None:
            return ELBO
        loss, others = self._loss(own), self._loss(other)
        states, states_other = self._states(own), self._states(other)
        if states and not states_other and others > CONVERGED:
            return ELBO  # it is right, and q is no optimum of the other
        # few rows tell the optima of both hardly apart: then the bound's value does
        stated = states_other and not states
        if loss > CONVERGED + others or (stated and others <= CONVERGED + loss):
            return JAAKKOLA_JORDAN
        return ELBO

    def _states(self, ratio: np.ndarray) -> bool:
        """Whether the bound is the mean of the ratio."""
        if not self.answer.elbo.size:
            return False
        most = CONVERGED + self.slack + 4 * standard_error(ratio)
        return bool(abs(self.answer.elbo[-1] - ratio.mean()) <= most)

    def _loss(self, ratio: np.ndarray) -> float:
        return sum(max(g.nats, 0.0) for g in self._gains(ratio).values())

    def _fits(self, ratio: np.ndarray) -> bool:
        """Whether the bound is not below the mean of the ratio."""
        if not self.answer.elbo.size:
            return False
        least = float(ratio.mean()) - CONVERGED - 4 * standard_error(ratio)
        return bool(self.answer.elbo[-1] > least)

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
        tied = any(inspect.isfunction(entry) for entry in self.answer.q.values())
        if tied or not self.judged:
            return found  # a factor that depends on it would have to move, too
        for site, program in self.program.by_element.items():
            gain = self.gains.get(site)
            drawn = self.problem.trace[site]
            prior = bare(drawn["fn"])
            if (gain is None or gain.dropped) and prior.has_enumerate_support:
                values = np.ravel(prior.enumerate_support(expand=False))
                moved = partial(self._called, program)
                with accurately():
                    own = reassigned(moved, np.shape(drawn["value"]), values)
                if own is not None:
                    found[site] = own
        return found

    @property
    def unreached(self) -> str:
        """Why all draws of q may miss what its bound depends on; empty if they do not.

        It is looked for where q seems to be wrong.
        """
        mean, error = float(self.ratio.mean()), standard_error(self.ratio)
        with accurately():
            keys = jax.random.split(jax.random.key(1), PART)
            drawn = self.program.drawn(keys, self.inputs[0])
            for site, program in self.program.wider.items():
                reach = reach_of(np.asarray(drawn[site]))
                if is_unreached(partial(self._called, program), reach, mean, error):
                    return (
                        f"q({site}) is so wide that its bound depends on values that "
                        "no draw reaches"
                    )
        return ""

    def _called(self, program: Callable[..., Any], keys: Any, *where: Any) -> Any:
        return program(keys, *self.inputs, *where)

    @cached_property
    def bound(self) -> tuple[float, float]:
        """The bound of q and its standard error, nats."""
        return float(self.objective.mean()), standard_error(self.objective)

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
        self.drop_scores()

    def drop_scores(self) -> None:
        """Drop what takes memory; gains that are not known by now never will be."""
        if "sampled" not in self.__dict__:
            return
        slim = replace(self.sampled, scores={}, slopes={}, logits=None)
        self.__dict__["sampled"] = slim  # where a cached property is kept
        self.__dict__.pop("program", None)

    @property
    def quality(self) -> None:
        """The accuracy of the approximation is not measured here."""
        return


def _sampled(case: ModelCase) -> Sampled:
    problem, program = case.problem, case.program
    scalars = sum(leaf.size for f in case.answer.factors for leaf in f.leaves) + 1
    most = max(SCALARS // scalars, 20 * scalars)
    parts: list[Any] = []
    spread = np.inf
    for part in range(case.parts):
        keys = jax.random.split(
            jax.random.fold_in(jax.random.key(20170415), part), PART
        )
        found = program.sampled(keys, *case.inputs)
        parts.append(jax.tree.map(np.asarray, found))
        drawn = PART * (part + 1)
        if part + 1 == LEAST:
            # how many follows from the variance alone, so that it biases nothing
            spread = _spread(parts)
        if part + 1 >= LEAST and (drawn + PART > most or spread < PRECISE * drawn**0.5):
            break
    found = jax.tree.map(lambda *v: np.concatenate(v), *parts)
    log_p, log_q, scores, slopes, logits, terms = found
    curvatures = {}
    if slopes:
        second = program.curved(keys[:CURVED], *case.inputs)
        curvatures = {name: -np.mean(np.asarray(v), 0) for name, v in second.items()}
    has_logits = problem.logistic is not None and not case.left_out
    return Sampled(
        log_p=log_p,
        log_q=log_q,
        scores=scores,
        slopes=slopes,
        curvatures=curvatures,
        logits=logits[:, 1:] if has_logits else None,
        terms=float(np.mean(terms)) + _squares(problem),
    )


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


def _spread(parts: Sequence[Any]) -> float:
    """Standard deviation of log p - log q over the draws of some parts, nats."""
    ratio = np.concatenate([log_p - log_q for log_p, log_q, *_ in parts])
    return float(ratio.std()) if np.isfinite(ratio).all() else 0.0


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
