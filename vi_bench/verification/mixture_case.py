"""One problem, the result of an implementation of the full form, and its analysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.nn import logsumexp
from jax.scipy.stats import multivariate_normal
from jaxtyping import Array, Float

from vi_bench.comparison.quantities import by_component
from vi_bench.data.table import feature_names
from vi_bench.mixture.compared_quantities import Coordinates, columns_of, quantities
from vi_bench.mixture.conjugate import Conjugate, resolve
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.numpyro_model import (
    constrain,
    log_joint_by_component,
    prior_factors,
    unconstrain,
)
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes
from vi_bench.verification.answer import Answer
from vi_bench.verification.finding import (
    CONVERGED,
    HARD,
    ROUNDING,
    SWEEPS,
    Quality,
    hardness,
)
from vi_bench.verification.identify import Identified, explained, identify
from vi_bench.verification.levels import LEAST, among, effective
from vi_bench.verification.mixtures import EXACT, MixtureProblem, accurately

STARTS = 10
"""Number of starts of the ascents that q's bound is compared with."""

LONG = 300
"""Sweeps of each of these ascents."""

NARROW, WEIGHED = 0.7, 400
"""Scale, in q's sds, of the normal density by which q's normalisation is tested; and
the effective number of draws that must be left where they are weighed to it. In many
dimensions a few draws have all the weight, and the mean of the weights is far from 1
whatever q is."""

FREE = 1e-9
"""Range, relative to a quantity's size, up to which it counts as constant."""


@dataclass(frozen=True)
class MixtureCase:
    """A problem and the result of an implementation."""

    problem: MixtureProblem
    answer: Answer

    @cached_property
    def identified(self) -> Identified | None:
        """The factors of q; None if q does not have the prior's form."""
        with accurately():
            return identify(self.problem.mixture, self.answer)

    @cached_property
    def ascent(self) -> tuple[float, float, float, float]:
        """ELBO of q, after SWEEPS more sweeps, and the best one found; log p(X, c).

        All are in nats. The last one is NaN if q's assignments are not certain.
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
        """Nats of difference that rounding explains."""
        bound, x = self.answer.bound[-1:], self.problem.data
        size = float(np.abs(bound).max(initial=1.0)) + x.size + float(np.abs(x).sum())
        if "mu" in self.answer.draws:  # the usual formulas sum squares of the data
            size += self.tightness * float(np.sum(x**2))
        return 4 * ROUNDING * self.answer.eps * size

    @cached_property
    def tightness(self) -> float:
        """The largest precision of a component of real rows, by its mean draw."""
        means = {n: v.mean(axis=(0, 1)) for n, v in self.answer.draws.items()}
        if "precision" in means:
            given = means["precision"]
            matrix = given.ndim == 3
            return float((np.trace(given, axis1=1, axis2=2) if matrix else given).max())
        if "variance" in means:
            return float((1 / means["variance"]).max())
        return 1 / float(self.problem.model.get("variance", 1.0))

    @cached_property
    def escape(self) -> float:
        """Nats that a sweep may gain after one whose gain is lost in rounding."""
        x = self.problem.data
        apart = np.sum((x - x.mean(axis=0)) ** 2, axis=1).max() if len(x) else 0.0
        return self.slack * float(1 + self.tightness * apart) ** 2

    @cached_property
    def estimates(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """ELBO and marginal ELBO of the draws by NumPyro, each with its error, nats."""
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
        """Log p(X) in nats; None if it is not known."""
        truth = self.problem.truth
        return None if truth is None else float(truth.log_evidence)

    @cached_property
    def labels_in_bound(self) -> bool:
        """Whether the bound has the assignments in q, as stated, else by its value."""
        if self.answer.keeps_labels is not None:
            return self.answer.keeps_labels
        inside, outside = (
            abs(self.answer.bound[-1] - mean) for mean, _ in self.estimates
        )
        return bool(inside <= outside)

    @cached_property
    def ended(self) -> tuple[str, str]:
        """Which optimum q must be, and if none, for want of what that is not known.

        "labels" is that of the ELBO, with the assignments in q. Where neither a bound
        nor `keeps_labels` says which bound was raised, q must be the nearer optimum, by
        the nats that are left to be gained.
        """
        answer, has_bound = self.answer, bool(self.answer.bound.size)
        if answer.log_q is None or (answer.approximate and not has_bound):
            return "", "log_prob, or as q is only said to be approximate"
        labels = self.labels_in_bound if has_bound else answer.keeps_labels
        if labels is False:
            return "", "a bound with the assignments in q"
        if self.identified is None:
            stated = answer.bound.size > 1 if has_bound else labels
            return "slopes" if stated else "", "a trace, as q is of another form"
        left = self.left_with_labels
        if labels is None and left > max(CONVERGED, self.left_without_labels):
            return "", "a bound: q is nearer to the optimum with assignments summed out"
        return "labels", ""

    @property
    def left_with_labels(self) -> float:
        """Nats that SWEEPS sweeps of coordinate ascent gain from q."""
        own, further, _, _ = self.ascent
        return further - own

    @cached_property
    def left_without_labels(self) -> float:
        """Nats that a natural-gradient step gains, about, with assignments summed out.

        At the optimum of E_q[log p(X, theta) - log q] in an exponential family its
        integrand is uncorrelated with the sufficient statistics.
        """
        answer, mixture = self.answer, self.problem.mixture
        with accurately():
            log_q = jnp.asarray(answer.log_q).ravel()
            gap = np.asarray(_log_joint(mixture, answer.flat) - log_q)
            return 0.5 * explained(mixture, answer, gap)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing of the result."""
        return self.answer.remarks

    @property
    def lost(self) -> None:
        """Digits lost to rounding are only measured in the plain form."""
        return

    @cached_property
    def unmade(self) -> dict[str, str]:
        """What was not returned -> what could therefore not be checked."""
        answer = self.answer
        if self.claims_posterior:
            if self.problem.truth is None:
                return {"an enumerated posterior": "the draws"}
            if self.slow:
                why = f"{LEAST} effective draws of quantities that mix slowly"
                return {why: "draws from the posterior"}
            return {}
        found = {}
        if answer.log_q is None:
            found["log_prob"] = (
                "log_prob is of the draws, prior without rows, one component is exact, "
                "known assignments, the ELBO is what it says"
            )
        elif self.identified is None:
            found["a q of the prior's form"] = (
                "prior without rows, one component is exact, known assignments"
            )
            if self.too_spread:
                found["as many draws as so many dimensions need"] = (
                    "log_prob is of the draws"
                )
        if not answer.bound.size:
            found["a bound"] = (
                "the ELBO is what it says, below the evidence (but by the draws), the "
                "trace never falls"
            )
        elif answer.bound.size == 1:
            found["a trace in bound, which has one value"] = "the trace never falls"
        optimum, why = self.ended
        if not optimum:
            found[why] = "a fixed point"
        return found

    @cached_property
    def log_density_ratio(self) -> np.ndarray:
        """Log r / q at half of the draws, r a normal fitted to the others."""
        answer = self.answer
        assert answer.log_q is not None
        with accurately():
            found = _log_ratio(
                self.problem.mixture, answer.flat, jnp.asarray(answer.log_q.ravel())
            )
        return np.asarray(found)

    @cached_property
    def too_spread(self) -> bool:
        """Whether the mean of r / q tells nothing, as a few draws have all the weight.

        That a wrong q spreads the weights is no excuse: the logarithm of their mean is
        then further from 0 than they are spread.
        """
        log = self.log_density_ratio
        share = np.exp(log - log.max())
        log_mean = log.max() + np.log(share.mean())
        left = share.sum() ** 2 / (share**2).sum()
        return bool(left < WEIGHED and abs(log_mean) <= log.std())

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """Quantity -> levels (chain, draw) among exact posterior draws.

        A level is the share of exact draws below a draw, uniform if the draws are from
        the posterior; only for draws that are claimed to be. Quantities are
        label-invariant.
        """
        truth = self.problem.truth
        if truth is None or not self.claims_posterior:
            return {}
        return self._levels(truth.draws, _invariants)

    @cached_property
    def sizes(self) -> dict[str, float]:
        """Quantity -> effective number of its draws."""
        kind = self.answer.kind
        return {n: effective(levels, kind) for n, levels in self.levels.items()}

    @property
    def slow(self) -> frozenset[str]:
        """Quantities of too few effective draws to test theirs."""
        return frozenset(n for n, size in self.sizes.items() if size < LEAST)

    @cached_property
    def levels_of_q(self) -> dict[str, np.ndarray]:
        """Parameter -> levels (chain, draw) among draws from the q of `log_prob`."""
        assert self.identified is not None
        with accurately():
            key = jax.random.key(1)
            exact = _of_factors(self.problem.mixture, self.identified.q, key)
        return self._levels(exact, _by_component)

    def _levels(self, exact: Parameters, named: Any) -> dict[str, np.ndarray]:
        with accurately():
            # joined, so that one program is compiled, not one per number of draws
            both = jax.tree.map(
                lambda *parts: jnp.concatenate(parts), self.answer.flat, exact
            )
            every = jax.tree.map(np.asarray, named(self.problem.mixture, both))
        shape = next(iter(self.answer.draws.values())).shape[:2]
        found = {}
        for label, values in every.items():
            own, theirs = np.split(values.ravel(), [shape[0] * shape[1]])
            if np.ptp(theirs) > FREE * np.abs(theirs).max():
                found[label] = among(own.reshape(shape), theirs)
        return found

    @cached_property
    def slopes(self) -> dict[str, np.ndarray]:
        """Parameter -> slope of the bound (draws,) as q is moved along it."""
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
        """Whether the draws are claimed to be from the posterior."""
        return self.answer.log_q is None and not self.answer.approximate

    @cached_property
    def quality(self) -> Quality | None:
        """The accuracy of an approximation; None for samplers."""
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


@jax.jit
def _by_component(mixture: Mixture, draws: Parameters) -> Any:
    columns, shared = columns_of(mixture, draws, _coordinates(mixture))
    return by_component({label: v[None] for label, v in columns.items()}) | shared


@jax.jit
def _invariants(mixture: Mixture, draws: Parameters) -> Any:
    return quantities(mixture, draws, _coordinates(mixture))


def _coordinates(mixture: Mixture) -> Coordinates:
    return mixture.family.coordinates(feature_names(mixture.features))


@jax.jit
def _of_factors(mixture: Mixture, q: Factors, key: Key) -> Parameters:
    return mixture.draw(key, q, (EXACT,))


@jax.jit
def _ascent(mixture: Mixture, q: Factors, key: Key) -> tuple[Array, ...]:
    """ELBO of q, after SWEEPS sweeps, and the best of all; log p(X, c); phi (N, K)."""
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
    """ELBO and marginal ELBO, each with its standard error, by NumPyro's densities.

    In the ELBO the assignments have their optimal q: its part for the rows is sum_i
    log sum_k exp E_q[log p(x_i, c_i = k | theta)], a function of means, whose bias is
    removed to second order in their errors.
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
    # at an optimum the terms are all equal, and the error is of second order
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
def _log_joint(mixture: Mixture, theta: Parameters) -> Float[Array, " draws"]:
    """Log p(X, theta), the assignments summed out, by NumPyro's densities."""

    def one(theta: Parameters) -> Array:
        prior = _log_prior(mixture, theta)
        if not mixture.rows:
            return prior
        joint = log_joint_by_component(mixture, theta)
        return prior + jnp.sum(logsumexp(joint, axis=1))

    found: Array = jax.vmap(one)(theta)
    return found


@jax.jit
def _slopes(mixture: Mixture, theta: Parameters) -> Parameters:
    """Gradient of log p(X, c, theta), averaged over c, in unconstrained theta, by draw.

    Its mean under q is the change of the bound as all of q is translated: 0 at the
    optimum of any form of q that can be. NumPyro's densities are used.
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
    """Log r / q at every second draw, in unconstrained theta; r fitted to the others.

    r is normal with their mean and NARROW times their sds: E_q[r / q] = 1 if q is
    normalised and the draws are from it (Gelfand and Dey 1994).
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
