"""The evidence ladder: bounds on log p(X), each above the one before it, and the gap.

From below: the ELBO with the assignments in q (CAVI's); the marginal ELBO E_q [log p(X,
theta) - log q(theta)] of the same q, assignments marginalised; the same with q averaged
over label permutations; importance-weighted bounds (Burda, Grosse and Salakhutdinov
2016); and log p(X) itself, from enumeration or estimated with an error. ELBO + log K!
is not among them: it can lie above log p(X).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

import numpy as np
from scipy.special import logsumexp

from vi_bench.comparison.measures import Estimate

GROUP = 100
"""Draws averaged under one logarithm in the importance-weighted bound."""

BEYOND = 4.5
"""Standard errors beyond which two values count as out of order. With normal errors
chance exceeds it in 3e-6 of pairs. Errors of few runs are widened for 95 % coverage,
and chance exceeds it in 1e-4 with 15 degrees of freedom, in 3e-3 with 3."""


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on log p(X) from one variational method, nats.

    Attributes:
        elbo: ELBO with the assignments in q, or None.
        marginal_elbo: E_q [log p(X, theta) - log q(theta)], assignments marginalised.
        symmetrised: the same with q averaged over label permutations, or None.
        importance_weighted: E log of the mean of GROUP weights, with the symmetrised q
            where there is one; None with fewer draws than two groups.
        symmetry: symmetrised minus marginal ELBO, from the same draws, or None.
    """

    elbo: Estimate | None
    marginal_elbo: Estimate | None
    symmetrised: Estimate | None
    importance_weighted: Estimate | None
    symmetry: Estimate | None

    def rungs(self) -> dict[str, Estimate]:
        """Name -> bound, in the order in which they increase, without missing ones."""
        named = {
            "ELBO": self.elbo,
            "marginal ELBO": self.marginal_elbo,
            "symmetrised": self.symmetrised,
            "importance weighted": self.importance_weighted,
        }
        return {name: e for name, e in named.items() if e is not None}


@dataclass(frozen=True)
class Gap:
    """log p(X) minus a method's lowest bound, and its decomposition, nats.

    Attributes:
        total: the gap.
        optimisation: the best ELBO that any restart or method reached, minus this one.
        symmetry: gain from averaging q over label permutations, up to log K!; None
            where that was not possible.
        mean_field: the remainder, due to q's form; None where modes that q misses
            would be part of it.
    """

    total: Estimate
    optimisation: float
    symmetry: Estimate | None
    mean_field: Estimate | None


@dataclass(frozen=True)
class Claim:
    """An estimate of log p(X), and whether it may be used.

    Attributes:
        estimate: log p(X) and its error, nats; an error of 0 means exact.
        weighs: whether the method estimates the relative mass of modes, as enumeration
            and populations started from the prior do. A chain, or a q, in one of
            several modes does not.
        withheld: why no gap is measured from it; empty if one may be.
    """

    estimate: Estimate
    weighs: bool = False
    withheld: str = ""


@dataclass(frozen=True)
class Ladder:
    """Every bound and estimate of one run.

    Attributes:
        bounds: label -> the bounds of a variational method.
        evidence: label -> log p(X) by a method that estimates it; an error of 0 means
            exact.
        trusted: the label of the estimate that gaps are measured from, or None.
        gaps: label -> Gap.
        withheld: label -> why no gap is measured from this estimate.
        no_gaps: why the gaps, or a part of them, are not given; empty if they are.
    """

    bounds: dict[str, Bounds] = field(default_factory=dict)
    evidence: dict[str, Estimate] = field(default_factory=dict)
    trusted: str | None = None
    gaps: dict[str, Gap] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)
    no_gaps: str = ""

    def violations(self) -> list[str]:
        """Violations of the ordering by over BEYOND standard errors, as sentences.

        Bounds out of order, and estimates of log p(X) that lie below a bound or
        contradict one another: a bug, or a wrong evidence estimate.
        """
        found = []
        for label, bounds in self.bounds.items():
            for (low, a), (high, b) in pairwise(bounds.rungs().items()):
                found += _above(f"{label}: {low}", a, high, b)
        known = self._believed()
        for name, estimate in known.items():
            for label, bounds in self.bounds.items():
                rungs = bounds.rungs().items()
                over = [r for r in rungs if _excess(r[1], estimate) > BEYOND]
                for worst in over[-1:]:
                    where = f"log p(X) by {name}"
                    found += _above(f"{label}: {worst[0]}", worst[1], where, estimate)
        for (name, a), (other, b) in combinations(known.items(), 2):
            top, under = (name, other) if a.value > b.value else (other, name)
            found += _above(
                f"log p(X) by {top}",
                known[top],
                f"log p(X) by {under}",
                known[under],
            )
        return found

    def _believed(self) -> dict[str, Estimate]:
        """The finite estimates that are not withheld."""
        return {
            name: e
            for name, e in self.evidence.items()
            if np.isfinite(e.value) and name not in self.withheld
        }


def _excess(low: Estimate, high: Estimate) -> float:
    """Standard errors by which `low` exceeds `high`; 0 where an error is unknown."""
    if np.isneginf(high.value) and np.isfinite(low.value):
        return np.inf  # a draw of q that is impossible under the model
    apart = _minus(low, high)
    if np.isnan(apart.se):  # an error that is not known excludes nothing
        return 0.0
    # rounding, where neither has a Monte-Carlo error
    return float(apart.value / max(apart.se, 1e-9 * abs(low.value) / BEYOND, 1e-300))


def _above(low: str, a: Estimate, high: str, b: Estimate) -> list[str]:
    """A sentence where `a` lies above `b` by over BEYOND errors."""
    if not _excess(a, b) > BEYOND:
        return []
    if np.isneginf(b.value):
        return [f"{low} {a.value:.4f} lies above {high}, which is -inf"]
    apart = _minus(a, b)
    return [
        f"{low} {a.value:.4f} lies above {high} {b.value:.4f} by {apart.value:.4f} +- "
        f"{apart.se:.4f}"
    ]


@dataclass(frozen=True)
class Terms:
    """The input of the bounds of one variational method.

    Attributes:
        log_joint: log p(X, theta) of draws of q (chain, draw).
        log_q: log q(theta) of the same draws (chain, draw).
        log_q_symmetric: log of q averaged over label permutations, or None.
        bound: ELBO with the assignments in q, nats, or None.
        best: the best such ELBO over restarts, nats, or None.
    """

    log_joint: np.ndarray
    log_q: np.ndarray
    log_q_symmetric: np.ndarray | None = None
    bound: Estimate | None = None
    best: float | None = None


def ladder(
    terms: Mapping[str, Terms], claims: Mapping[str, Claim], beside: str = ""
) -> Ladder | None:
    """All bounds, the most trusted estimate of log p(X), and the gaps to it.

    Exact values come first, then estimates by methods that weigh modes, then others;
    among equals the one of the smallest error. Gaps are not measured from an estimate
    that is withheld, nor from one that a bound or another estimate contradicts.

    Args:
        terms: label -> terms, of variational methods.
        claims: label -> estimate of log p(X).
        beside: why one q does not cover the posterior (other optima), or empty. The
            remainder of a gap is then not due to mean field alone.

    Returns:
        None where there are neither terms nor claims.
    """
    if not terms and not claims:
        return None
    bounds = {label: bounds_of(t) for label, t in terms.items()}
    estimates = {label: c.estimate for label, c in claims.items()}
    withheld = {label: c.withheld for label, c in claims.items() if c.withheld}
    found = Ladder(bounds, estimates, None, {}, withheld)
    known = sorted(
        found._believed(),
        key=lambda k: (
            np.isnan(estimates[k].se),
            estimates[k].se != 0,
            not claims[k].weighs,
            estimates[k].se,
        ),
    )
    if not known:
        reasons = "; ".join(f"{k}: {why}" for k, why in withheld.items())
        return replace(found, no_gaps=reasons)
    trusted = known[0]
    contradicted = [v for v in found.violations() if f"by {trusted} " in v]
    if contradicted and estimates[trusted].se:
        return replace(found, trusted=trusted, no_gaps=contradicted[0])
    gaps = {
        label: gap
        for label, own in bounds.items()
        if (gap := _gap(own, estimates[trusted], _best(terms, label))) is not None
    }
    if beside and gaps:
        gaps = {label: replace(gap, mean_field=None) for label, gap in gaps.items()}
        beside = f"mean field's part of the gaps is not known: {beside}"
    return replace(found, trusted=trusted, gaps=gaps, no_gaps=beside if gaps else "")


def bounds_of(terms: Terms) -> Bounds:
    """The bounds of one method from its draws."""
    log_w = (terms.log_joint - terms.log_q).ravel()
    marginal_elbo = _mean(log_w)
    symmetrised = symmetry = None
    if terms.log_q_symmetric is not None:
        symmetrised = _mean((terms.log_joint - terms.log_q_symmetric).ravel())
        symmetry = _mean((terms.log_q - terms.log_q_symmetric).ravel())
        log_w = (terms.log_joint - terms.log_q_symmetric).ravel()
    weighted = importance_weighted(log_w, GROUP)
    return Bounds(terms.bound, marginal_elbo, symmetrised, weighted, symmetry)


def importance_weighted(log_w: np.ndarray, group: int) -> Estimate | None:
    """E log of the mean of `group` independent weights; None with under two groups."""
    groups = log_w.size // group
    if groups < 2:
        return None
    parts = log_w[: groups * group].reshape(groups, group)
    return _mean(np.asarray(logsumexp(parts, axis=1)) - np.log(group))


def _mean(values: np.ndarray) -> Estimate:
    """Mean of independent values and its error."""
    if not np.isfinite(values).all():  # no spread of such numbers is known
        return Estimate(float(values.mean()), np.nan)
    error = values.std(ddof=1) / np.sqrt(values.size)
    return Estimate(float(values.mean()), float(error))


def _best(terms: Mapping[str, Terms], label: str) -> float | None:
    """The best ELBO with the assignments in q, over restarts and methods."""
    if terms[label].bound is None:
        return None
    bounds = [
        t.best if t.best is not None else t.bound.value
        for t in terms.values()
        if t.bound is not None
    ]
    return max(bounds)


def _gap(found: Bounds, evidence: Estimate, best: float | None) -> Gap | None:
    lowest = found.elbo or found.marginal_elbo
    if lowest is None or not np.isfinite(lowest.value):
        return None
    total = _minus(evidence, lowest)
    optimisation = 0.0 if best is None else max(0.0, best - lowest.value)
    explained = optimisation + (found.symmetry.value if found.symmetry else 0.0)
    spread = found.symmetry.se if found.symmetry else 0.0
    rest = Estimate(total.value - explained, float(np.hypot(total.se, spread)))
    return Gap(total, optimisation, found.symmetry, rest)


def _minus(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(a.value - b.value, float(np.hypot(a.se, b.se)))
