"""One word for a comparison: an equivalence test with its error rates controlled.

For each quantity the mean must lie within `margin` reference sds and the sd within the
factor 1 - margin of the reference's. `differs`: some quantity is outside its band
beyond doubt (Holm's procedure over all tests keeps the chance of one false word at
ALPHA). `agrees`: every quantity is inside, each at ALPHA (an intersection-union test
needs no correction). Neither: `inconclusive`, with the draws that would decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from vi_bench.compare.measures import Distance, Summary

ALPHA = 0.05
R_HAT, ESS = 1.01, 400.0
DIVERGENT = 0.01

Word = Literal["agrees", "differs", "inconclusive", "reference unreliable"]


@dataclass(frozen=True)
class Verdict:
    """The word and the sentence behind it.

    Attributes:
        word: see the module.
        reason: one sentence with the numbers that decided.
        more_draws: how many times more draws would decide an inconclusive one.
    """

    word: Word
    reason: str
    more_draws: float | None = None


@dataclass(frozen=True)
class _Test:
    """|value| against a band: the excess over it, in units of its error."""

    what: str
    value: float
    se: float
    band: float

    @property
    def excess(self) -> float:
        return (abs(self.value) - self.band) / max(self.se, 1e-300)


def unreliable(summaries: Mapping[str, Summary], divergent: float) -> str:
    """Why the reference cannot be trusted; empty if it can."""
    judged = {k: s for k, s in summaries.items() if s.sd.value > 0}
    if not judged:
        return "no quantity varies"
    worst = max(judged, key=lambda k: _or_infinite(judged[k].r_hat))
    if not judged[worst].r_hat <= R_HAT:
        return (
            f"R-hat of {worst} is {judged[worst].r_hat:.3f}, over {R_HAT}: chains "
            "have not mixed, or sit in modes that no relabelling makes equal"
        )
    least = min(judged, key=lambda k: judged[k].ess_bulk)
    if judged[least].ess_bulk < ESS:
        return f"ESS of {least} is {judged[least].ess_bulk:.0f}, under {ESS:.0f}"
    if divergent > DIVERGENT:
        return f"{100 * divergent:.1f} % of its transitions diverged"
    return ""


def _or_infinite(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def judge(distances: Mapping[str, Distance], margin: float) -> Verdict:
    """The verdict over all judged quantities of one method."""
    tests = list(_tests(distances, margin))
    if not tests:
        return Verdict("inconclusive", "nothing to compare", None)
    outside = _holm([norm.sf(t.excess) for t in tests])
    if any(outside):
        far = [t for t, out in zip(tests, outside, strict=True) if out]
        worst = max(far, key=lambda t: abs(t.value) / t.band)
        share = f"{len({t.what.split(': ')[1] for t in far})} of {len(distances)}"
        return Verdict(
            "differs", f"outside the margin in {share} quantities, most: {_say(worst)}"
        )
    z = norm.isf(ALPHA)
    if all(t.excess <= -z for t in tests):
        worst = max(tests, key=lambda t: abs(t.value) / t.band)
        return Verdict(
            "agrees",
            f"all {len(distances)} quantities inside the margin, closest to it: "
            f"{_say(worst)}",
        )
    undecided = [t for t in tests if t.excess > -z]
    most = min(undecided, key=lambda t: abs(t.excess))
    factor = float((z / max(abs(most.excess), 1e-3)) ** 2)
    more = f"{factor:.1f} times" if factor < 100 else "over 100 times"
    return Verdict(
        "inconclusive", f"needs {more} the draws to decide: {_say(most)}", factor
    )


def _tests(distances: Mapping[str, Distance], margin: float) -> list[_Test]:
    band = -np.log1p(-margin)
    tests = []
    for name, d in distances.items():
        mean, ratio = d.mean_difference, d.sd_ratio
        if np.isfinite(mean.value) and np.isfinite(mean.se):
            tests.append(_Test(f"mean: {name}", mean.value, mean.se, margin))
        if np.isfinite(ratio.value) and np.isfinite(ratio.se):
            held = max(ratio.value, 1e-12)  # a collapsed posterior differs, too
            log_ratio, error = np.log(held), ratio.se / held
            tests.append(_Test(f"sd: {name}", float(log_ratio), error, float(band)))
    return tests


def _say(test: _Test) -> str:
    kind, name = test.what.split(": ", 1)
    if kind == "mean":
        return f"mean of {name} off by {test.value:+.3f} +- {test.se:.3f} sd"
    ratio = np.exp(test.value)
    return f"sd of {name} {ratio:.3f} +- {ratio * test.se:.3f} times the reference's"


def _holm(p_values: list[float]) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects at ALPHA."""
    order = np.argsort(p_values)
    rejected = [False] * len(p_values)
    for position, index in enumerate(order):
        if p_values[index] > ALPHA / (len(p_values) - position):
            break
        rejected[index] = True
    return rejected
