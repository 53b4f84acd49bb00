"""One problem, the result of an implementation of the full form, and its analysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.types import Parameters
from vi_bench.verification import mixture_programs as programs
from vi_bench.verification.answer import Answer
from vi_bench.verification.finding import (
    CONVERGED,
    HARD,
    ROUNDING,
    Quality,
    hardness,
)
from vi_bench.verification.identify import Identified, explained, identify
from vi_bench.verification.levels import LEAST, among, effective
from vi_bench.verification.mixtures import MixtureProblem, accurately

WEIGHED = 400
"""Effective number of draws that must be left where they are weighed to the normal
density that tests q's normalisation. In many dimensions a few draws have all the
weight, and the mean of the weights is far from 1 whatever q is."""


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
            found = programs.ascent(
                self.problem.mixture, self.identified.q, jax.random.key(0)
            )
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
            found = programs.estimates(
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
            gap = np.asarray(programs.log_joint(mixture, answer.flat) - log_q)
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
            found = programs.log_ratio(
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
        return self._levels(truth.draws, programs.invariants)

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
            exact = programs.of_factors(self.problem.mixture, self.identified.q, key)
        return self._levels(exact, programs.by_component)

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
            found = jax.tree.map(
                np.asarray, programs.slopes(problem.mixture, self.answer.flat)
            )
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
