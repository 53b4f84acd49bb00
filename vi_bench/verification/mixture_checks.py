"""Checks of the full form: of q and its bound, and of draws, on any mixture.

What has no randomness is held to `CONVERGED` nats, whatever the problem: where q has
the prior's form it is read off its density to rounding. The rest are z-tests. Draws of
a method that claims the posterior are ranked among exact ones, quantity by quantity:
the ranks are bounded, so that heavy tails neither hide a fault nor raise an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats
from jax.flatten_util import ravel_pytree
from jax.nn import logsumexp
from jax.scipy.stats import multivariate_normal
from jaxtyping import Array, Float
from scipy.stats import norm
from scipy.stats import t as student

from vi_bench.comparison.quantities import by_component
from vi_bench.conjugate import Conjugate, resolve
from vi_bench.contract import Key, Parameters
from vi_bench.invariants import columns_of, quantities
from vi_bench.iterate import over_lanes
from vi_bench.mixture import Factors, Mixture
from vi_bench.numpyro_model import (
    constrain,
    log_joint_by_component,
    prior_factors,
    unconstrain,
)
from vi_bench.verification.answer import Answer
from vi_bench.verification.finding import (
    CONVERGED,
    HARD,
    ROUNDING,
    SWEEPS,
    Finding,
    Quality,
    hardness,
)
from vi_bench.verification.identify import Identified, identify
from vi_bench.verification.mixtures import EXACT, MixtureProblem, accurately

LEAST = 200
"""Effective draws under which a method that claims the posterior has not sampled it."""

TRUSTED = 0.8
"""The share of an estimated effective sample size that is counted on."""

STARTS = 10
"""Starts of the ascent that q's optimum is held against."""

LONG = 300
"""Sweeps of each of these."""

NARROW = 0.7
"""Scale of the normal, in q's sds, that the normalisation of q is tested with."""

FREE = 1e-9
"""Shares of a quantity's size under which it does not vary."""


@dataclass(frozen=True)
class MixtureCase:
    """A problem and what an implementation gave for it."""

    problem: MixtureProblem
    answer: Answer

    @cached_property
    def identified(self) -> Identified | None:
        """Q's factors, where it has the prior's form."""
        with accurately():
            return identify(self.problem.mixture, self.answer)

    @cached_property
    def ascent(self) -> tuple[float, float, float, float]:
        """ELBO of q, after SWEEPS more sweeps, the best one known; log p(X, c).

        The last one is NaN where the assignments under q are not certain.
        """
        assert self.identified is not None
        with accurately():
            found = _ascent(self.problem.mixture, self.identified.q, jax.random.key(0))
            own, further, best, joint, phi = map(np.asarray, found)
        certain = hardness(phi) <= HARD
        return (
            float(own),
            float(further),
            float(best),
            float(joint) if certain else np.nan,
        )

    @cached_property
    def slack(self) -> float:
        """Nats that rounding explains."""
        bound = self.answer.bound[-1:]
        size = float(np.abs(bound).max(initial=1.0)) + self.problem.data.size
        return 4 * ROUNDING * self.answer.eps * size

    @cached_property
    def estimates(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """E_q[log p - log q] by NumPyro: labels in q, and summed out; with errors."""
        answer = self.answer
        with accurately():
            found = _estimates(
                self.problem.mixture, answer.flat, jnp.asarray(answer.log_q).ravel()
            )
        inside, outside = np.asarray(found)
        return (float(inside[0]), float(inside[1])), (
            float(outside[0]),
            float(outside[1]),
        )

    @cached_property
    def log_evidence(self) -> float | None:
        """Log p(X), where it is known."""
        truth = self.problem.truth
        return None if truth is None else float(truth.log_evidence)

    @cached_property
    def labels_in_bound(self) -> bool:
        """Whether the bound has the assignments in q; as said, else the nearer one."""
        if self.answer.keeps_labels is not None:
            return self.answer.keeps_labels
        inside, outside = (
            abs(self.answer.bound[-1] - mean) for mean, _ in self.estimates
        )
        return bool(inside <= outside)

    @cached_property
    def density_ratio(self) -> np.ndarray:
        """R / q of half of the draws, r a normal density fitted to the others."""
        answer = self.answer
        assert answer.log_q is not None
        with accurately():
            found = _log_ratio(
                self.problem.mixture, answer.flat, jnp.asarray(answer.log_q.ravel())
            )
        return np.exp(np.asarray(found))

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Label-invariant quantities of draws that claim the posterior, as levels.

        A level is the share of exact draws below a draw: uniform if the claim holds.
        """
        truth = self.problem.truth
        if truth is None or not self.claims_posterior:
            return {}
        return self._levels(truth.draws, _invariants)

    @cached_property
    def levels_of_q(self) -> dict[str, np.ndarray]:
        """Parameters of draws among draws from the q that their density is of."""
        assert self.identified is not None
        with accurately():
            key = jax.random.key(1)
            exact = _of_factors(self.problem.mixture, self.identified.q, key)
        return self._levels(exact, _by_component)

    def _levels(self, exact: Parameters, named: Any) -> dict[str, np.ndarray]:
        mixture = self.problem.mixture
        coordinates = mixture.family.coordinates(self.problem.features)
        with accurately():
            own, theirs = (
                jax.tree.map(np.asarray, named(mixture, draws, coordinates))
                for draws in (self.answer.flat, exact)
            )
        shape = next(iter(self.answer.draws.values())).shape[:2]
        found = {}
        for label, values in own.items():
            among = theirs[label].ravel()
            if np.ptp(among) > FREE * np.abs(among).max():
                found[label] = _among(values.reshape(shape), among)
        return found

    @cached_property
    def slopes(self) -> dict[str, np.ndarray]:
        """How the bound changes as q is moved along a parameter, draw by draw."""
        problem = self.problem
        with accurately():
            found = jax.tree.map(np.asarray, _slopes(problem.mixture, self.answer.flat))
        return {
            f"{name}{list(index) if index else ''}": values[(slice(None), *index)]
            for name, values in found.items()
            for index in np.ndindex(values.shape[1:])
        }

    @cached_property
    def claims_posterior(self) -> bool:
        """Whether the draws are said to be the posterior's."""
        return self.answer.log_q is None and not self.answer.approximate

    @cached_property
    def quality(self) -> Quality | None:
        """How good an approximation is; of samplers there is nothing to tell."""
        answer, known = self.answer, self.log_evidence
        if self.claims_posterior:
            return None
        below_best, form = np.nan, ""
        if self.identified is not None:
            own, _, best, _ = self.ascent
            below_best = max(best - own, 0.0)
        elif answer.log_q is not None:
            if isinstance(self.problem.mixture.family, Conjugate):
                form = "not of the prior's form"
            own = self.estimates[1][0]
        elif answer.bound.size:
            own = float(answer.bound[-1])
        else:
            return None
        below = None if known is None else max(known - own, 0.0)
        return Quality(self.problem, below_best, below, form)


Measure = tuple[float, float, str]
"""(statistic, threshold, failure in words); a threshold of NaN marks a z."""

Z = np.nan

MixtureCheck = Callable[[MixtureCase], Iterator[Measure]]

MIXTURE_PROVES: dict[str, str] = {}
"""Check -> what it proves, in the order in which they are listed."""

MIXTURE_CHECKS: dict[str, MixtureCheck] = {}


def check(name: str, proves: str) -> Callable[[MixtureCheck], MixtureCheck]:
    """Register a check of the full form."""

    def register(function: MixtureCheck) -> MixtureCheck:
        MIXTURE_PROVES[name], MIXTURE_CHECKS[name] = proves, function
        return function

    return register


@check("log_prob is of the draws", "q is normalised, and its draws are from it")
def _density(case: MixtureCase) -> Iterator[Measure]:
    answer = case.answer
    if answer.log_q is None:
        return
    if case.identified is None:
        ratio = case.density_ratio
        error = max(float(ratio.std(ddof=1)) / np.sqrt(len(ratio)), 1e-300)
        yield (
            abs(float(ratio.mean()) - 1) / error,
            Z,
            f"the mean of r / q over the draws, r a narrower normal, is "
            f"{ratio.mean():.4f} +- {error:.4f}, expected 1",
        )
        return
    excess = case.identified.excess
    yield (
        abs(excess),
        CONVERGED + case.slack,
        f"log_prob exceeds the normalised log density by {excess:+.6f} nats",
    )
    for label, levels in case.levels_of_q.items():
        yield from _central(label, levels, "independent", "q's")


@check("prior without rows", "N = 0: q is the prior")
def _prior(case: MixtureCase) -> Iterator[Measure]:
    if not len(case.problem.data) and case.identified is not None:
        gap = -case.ascent[0]
        yield (
            gap,
            CONVERGED + case.slack,
            f"KL(q || prior) = {gap:.6f} nats, expected 0",
        )


@check("one component is exact", "K = 1: a q of the posterior's form is the posterior")
def _single(case: MixtureCase) -> Iterator[Measure]:
    p, known = case.problem, case.log_evidence
    if p.K == 1 and len(p.data) and known is not None and case.identified is not None:
        gap = known - case.ascent[0]
        yield (
            abs(gap),
            CONVERGED + case.slack,
            f"KL(q || posterior) = {gap:.6f} nats, expected 0",
        )


@check("known assignments", "components apart: q is conjugate, ELBO = log p(X, c)")
def _separated(case: MixtureCase) -> Iterator[Measure]:
    p = case.problem
    if p.K == 1 or not len(p.data) or case.identified is None:
        return
    own, _, _, joint = case.ascent
    if np.isfinite(joint):
        yield (
            abs(joint - own),
            CONVERGED + case.slack,
            f"the ELBO of q is {own:.6f}, log p(X, c) {joint:.6f}: "
            f"{own - joint:+.6f} nats",
        )


@check("the ELBO is what it says", "the bound = E_q[log p - log q] of the returned q")
def _definition(case: MixtureCase) -> Iterator[Measure]:
    answer = case.answer
    if not answer.bound.size or answer.log_q is None:
        return
    said = float(answer.bound[-1])
    if case.identified is not None and case.labels_in_bound and not answer.bound_se:
        off = said - case.ascent[0]
        yield (
            abs(off),
            CONVERGED + case.slack,
            f"bound {said:.6f}, of the returned q it is {case.ascent[0]:.6f}: "
            f"{off:+.6f} nats",
        )
    mean, error = case.estimates[0 if case.labels_in_bound else 1]
    error = max(float(np.hypot(error, answer.bound_se)), case.slack)
    yield (
        abs(said - mean) / error,
        Z,
        f"bound {said:.4f}, by NumPyro's densities over the draws it is {mean:.4f} "
        f"+- {error:.4f}",
    )


@check("below the evidence", "no bound exceeds log p(X), all assignments summed")
def _below(case: MixtureCase) -> Iterator[Measure]:
    answer, known = case.answer, case.log_evidence
    if known is None:
        return
    if answer.bound.size:
        step = int(np.argmax(answer.bound))
        excess = float(answer.bound[step]) - known
        said = f"bound {answer.bound[step]:.6f} exceeds log p(X) = {known:.6f} by "
        if answer.bound_se and step == len(answer.bound) - 1:
            z = excess / answer.bound_se
            yield max(z, 0.0), Z, f"{said}{excess:.4f} +- {answer.bound_se:.4f} nats"
        elif not answer.bound_se:
            yield excess, 1e-6 + case.slack, f"{said}{excess:.6f} nats"
    if answer.log_q is not None:
        mean, error = case.estimates[1]
        z = (mean - known) / max(error, 1e-6 + case.slack)
        yield (
            max(z, 0.0),
            Z,
            f"E[log p - log q] over the draws is {mean:.4f} +- {error:.4f}, above "
            f"log p(X) = {known:.4f}",
        )


@check("the trace never falls", "every sweep raises the bound, or leaves it")
def _rising(case: MixtureCase) -> Iterator[Measure]:
    trace = case.answer.bound
    if trace.size > 1:
        step = int(np.argmin(np.diff(trace)))
        fall = float(trace[step] - trace[step + 1])
        yield (
            fall,
            case.slack,
            f"the bound falls by {fall:.6g} nats in sweep {step + 1} of {trace.size}",
        )


@check("a fixed point", f"{SWEEPS} more sweeps gain nothing")
def _fixed(case: MixtureCase) -> Iterator[Measure]:
    answer = case.answer
    if answer.log_q is None or not answer.bound.size or not case.labels_in_bound:
        return
    if case.identified is None:
        if answer.bound.size > 1:  # a trace: it ended where it could not rise
            for label, slopes in case.slopes.items():
                error = max(float(slopes.std(ddof=1)) / np.sqrt(len(slopes)), 1e-300)
                yield (
                    abs(float(slopes.mean())) / error,
                    Z,
                    f"the bound rises by {slopes.mean():.4f} +- {error:.4f} nats per "
                    f"unit that {label}, unconstrained, is moved by",
                )
        return
    own, further, _, _ = case.ascent
    yield (
        further - own,
        CONVERGED + case.slack,
        f"{SWEEPS} sweeps from the returned q gain {further - own:.6g} nats",
    )


@check("enough effective draws", f"draws are worth {LEAST} independent ones")
def _effective(case: MixtureCase) -> Iterator[Measure]:
    for label, levels in case.levels.items():
        size = effective(levels, case.answer.kind)
        yield (
            LEAST / max(size, 1e-300),
            1.0,
            f"{label}: {levels.size} draws are worth {size:.0f}",
        )


@check("draws from the posterior", "label-invariant quantities, among exact draws")
def _sampled(case: MixtureCase) -> Iterator[Measure]:
    for label, levels in case.levels.items():
        yield from _central(label, levels, case.answer.kind, "the posterior's")


@check("the evidence is right", "log p(X) as estimated = as enumerated")
def _evidence(case: MixtureCase) -> Iterator[Measure]:
    answer, known = case.answer, case.log_evidence
    if answer.log_evidence is None or known is None:
        return
    off = answer.log_evidence - known
    said = f"log p(X) = {answer.log_evidence:.6f}, enumerated {known:.6f}"
    if answer.log_evidence_se > case.slack:
        score = _normal(off / answer.log_evidence_se, answer.freedom)
        yield score, Z, f"{said}: {off:+.4f} +- {answer.log_evidence_se:.4f} nats"
    else:
        yield abs(off), 1e-6 + case.slack, f"{said}: {off:+.6f} nats"


def examine(case: MixtureCase) -> Iterator[Finding]:
    """All checks that apply; those with randomness have no threshold yet."""
    for name, function in MIXTURE_CHECKS.items():
        for statistic, threshold, said in function(case):
            yield Finding(
                name,
                case.problem,
                float(statistic),
                float(threshold),
                said,
                random=bool(np.isnan(threshold)),
            )


def _among(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    below = np.searchsorted(np.sort(exact), values)
    return np.asarray((below + 0.5) / (len(exact) + 1))


def _central(
    label: str, levels: np.ndarray, kind: str, whose: str
) -> Iterator[Measure]:
    """Are levels uniform: their mean, and their mean distance from the middle."""
    for what, values in (("location", levels), ("spread", np.abs(2 * levels - 1))):
        if kind == "runs":
            means = values.mean(axis=1)
            error = np.hypot(
                means.std(ddof=1) / np.sqrt(len(means)), np.sqrt(1 / 12 / EXACT)
            )
            score = _normal((values.mean() - 0.5) / error, len(means) - 1.0)
        else:
            size = effective(values, kind)
            if kind == "chains":
                size *= TRUSTED
            error = np.sqrt((1 / max(size, 1.0) + 1 / EXACT) / 12)
            score = abs(float(values.mean() - 0.5)) / error
        yield (
            score,
            Z,
            f"{what} of {label}: mean level {values.mean():.4f} +- {error:.4f} among "
            f"{whose} draws, expected 0.5",
        )


def effective(values: np.ndarray, kind: str) -> float:
    """Effective number of draws (chain, draw) for their mean, at most all."""
    if kind == "independent":
        return float(values.size)
    if np.ptp(values) == 0:
        return 0.0
    if kind == "runs":
        between = float(values.mean(axis=1).var(ddof=1)) / len(values)
        size = float(values.var(ddof=1)) / max(between, 1e-300)
    else:
        size = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
    return min(size, float(values.size)) if size == size else 0.0


def _normal(score: float, freedom: float) -> float:
    """|z| as likely as a |t|."""
    if not np.isfinite(freedom):
        return abs(float(score))
    return float(norm.isf(student.sf(abs(score), freedom)))


def _by_component(mixture: Mixture, draws: Parameters, coordinates: Any) -> Any:
    columns, shared = columns_of(mixture, draws, coordinates)
    return by_component({label: v[None] for label, v in columns.items()}) | shared


def _invariants(mixture: Mixture, draws: Parameters, coordinates: Any) -> Any:
    named = jax.jit(lambda mixture, draws: quantities(mixture, draws, coordinates))
    return named(mixture, draws)


@jax.jit
def _of_factors(mixture: Mixture, q: Factors, key: Key) -> Parameters:
    return mixture.draw(key, q, (EXACT,))


@jax.jit
def _ascent(mixture: Mixture, q: Factors, key: Key) -> tuple[Array, ...]:
    """ELBO of q, after SWEEPS sweeps, after LONG ones from many starts; log p(X, c)."""
    rows, K = mixture.rows, mixture.components
    flat = jnp.ones(K, mixture.log_base.dtype)

    def start(key: Key) -> Any:
        return mixture.from_responsibilities(jax.random.dirichlet(key, flat, (rows,)))

    def climb(at: Factors) -> tuple[Array, Array, Array]:
        def sweeps(at: Factors, number: int) -> Any:
            return jax.lax.fori_loop(0, number, lambda _, q: mixture.step(q)[1], at)

        on = sweeps(at, SWEEPS)
        end = sweeps(on, LONG)
        first, further, last = (mixture.step(q)[0] for q in (at, on, end))
        return first, further, last

    starts = jax.vmap(start)(jax.random.split(key, STARTS - 1))
    lanes = jax.tree.map(lambda one, all_: jnp.append(one[None], all_, 0), q, starts)
    first, further, last = over_lanes(climb, lanes)
    phi = mixture.responsibilities(q)
    known = jax.nn.one_hot(jnp.argmax(phi, axis=1), K, dtype=phi.dtype)
    expected = (mixture.statistics() @ known).T
    conjugate = mixture.update(mixture.prior(), expected)[0]
    bound, _ = mixture.step(conjugate)
    return first[0], further[0], jnp.max(last), bound, phi


@jax.jit
def _estimates(
    mixture: Mixture, theta: Parameters, log_q: Float[Array, " draws"]
) -> Float[Array, "2 2"]:
    """Means and errors of E_q[log p - log q], labels in q and summed out; by NumPyro.

    With the labels in q the assignments are optimal: sum_i log sum_k exp E_q[log p(x_i,
    c_i = k | theta)], a function of means, to second order in their errors.
    """
    draws, rows = log_q.shape[0], mixture.rows

    def one(theta: Parameters) -> tuple[Array, Array]:
        joint = (
            log_joint_by_component(mixture, theta)
            if rows
            else jnp.zeros((0, mixture.components))
        )
        return _log_prior(mixture, theta), joint

    log_prior, joint = jax.vmap(one)(theta)
    gap = log_prior - log_q

    def summary(terms: Array, mean: Array) -> Array:
        return jnp.stack([mean, jnp.std(terms, ddof=1) / jnp.sqrt(float(draws))])

    outside = gap + jnp.sum(logsumexp(joint, axis=2), axis=1)
    middle = jnp.mean(joint, axis=0)
    phi = jax.nn.softmax(middle, axis=1)
    each = jnp.sum(phi * (joint - middle), axis=2)
    within = jnp.sum(phi * jnp.var(joint, axis=0)) - jnp.sum(jnp.var(each, axis=0))
    inside = jnp.mean(gap) + jnp.sum(logsumexp(middle, axis=1)) - within / (2 * draws)
    of_inside = summary(gap + jnp.sum(each, axis=1), inside)
    # at an optimum the terms are all equal: what is left is of second order
    of_inside = of_inside.at[1].set(jnp.hypot(of_inside[1], within / draws))
    return jnp.stack([of_inside, summary(outside, jnp.mean(outside))])


def _log_prior(mixture: Mixture, theta: Parameters) -> Float[Array, ""]:
    """Log p(theta) by NumPyro's distributions."""
    terms = [
        jnp.sum(resolve(factor, theta).log_prob(theta[name]))
        for name, factor in prior_factors(mixture).items()
    ]
    return jnp.sum(jnp.stack(terms))


@jax.jit
def _slopes(mixture: Mixture, theta: Parameters) -> Parameters:
    """Gradient of log p(X, c, theta), c averaged, in theta unconstrained, by draw.

    Its mean under q is how the bound changes as all of q is moved: 0 at the optimum of
    any form of q that may be moved. By NumPyro's densities.
    """
    joint = jax.vmap(lambda theta: log_joint_by_component(mixture, theta))(theta)
    phi = jax.nn.softmax(jnp.mean(joint, axis=0), axis=1)

    def density(free: Parameters) -> Array:
        theta, log_jacobian = constrain(mixture, free)
        rows = jnp.sum(phi * log_joint_by_component(mixture, theta))
        return _log_prior(mixture, theta) + log_jacobian + rows

    def one(theta: Parameters) -> Parameters:
        slope: Parameters = jax.grad(density)(unconstrain(mixture, theta))
        return slope

    return jax.vmap(one)(theta)


@jax.jit
def _log_ratio(
    mixture: Mixture, theta: Parameters, log_q: Float[Array, " draws"]
) -> Float[Array, " half"]:
    """Log r / q at every second draw, unconstrained; r is fitted to the others.

    r is normal around their mean, NARROW of their sds wide: E_q[r / q] = 1 if q is a
    density and the draws are from it (Gelfand and Dey 1994).
    """

    def free(theta: Parameters) -> tuple[Array, Array]:
        own = unconstrain(mixture, theta)
        return ravel_pytree(own)[0], constrain(mixture, own)[1]

    flat, log_jacobian = jax.vmap(free)(theta)
    fitted, tested = flat[::2], flat[1::2]
    spread = NARROW**2 * jnp.atleast_2d(jnp.cov(fitted.T))
    middle = jnp.mean(fitted, axis=0)
    log_r = multivariate_normal.logpdf(tested, middle, spread)
    return jnp.asarray(log_r - (log_q + log_jacobian)[1::2])
