"""One word for a comparison: an equivalence test with its error rates controlled.

For each quantity the mean must lie within `margin.mean` reference sds and the sd within
the factor 1 - `margin.sd` of the reference's. `differs`: some quantity is outside its
band beyond doubt (Holm's procedure over all tests keeps the chance of one false word at
ALPHA). `agrees`: every quantity is inside, each at ALPHA (an intersection-union test
needs no correction). Neither: `inconclusive`, with the draws that would decide. Before
any of these the reference must be fit to judge by, and both must have draws enough for
their errors to be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from vi_bench.comparison.measures import Distance, Summary
from vi_bench.comparison.modes import Mode

ALPHA = 0.05
R_HAT, ESS = 1.01, 400.0
"""What a reference must reach in every judged quantity."""

FEW = 100.0
"""Effective draws under which a method's own errors are not known well enough."""

DIVERGENT = 0.01

Word = Literal["agrees", "differs", "inconclusive", "reference unreliable"]


@dataclass(frozen=True)
class Margin:
    """What still counts as agreement.

    Attributes:
        mean: of a difference of means, in reference sds.
        sd: of an sd, relative.
    """

    mean: float = 0.1
    sd: float = 0.1


@dataclass(frozen=True)
class Verdict:
    """The word and the sentence behind it.

    Attributes:
        word: see the module.
        reason: one sentence with the numbers that decided.
        more_draws: how many further draws, of each of the two, would decide an
            inconclusive one; None where draws are not what is missing.
    """

    word: Word
    reason: str
    more_draws: int | None = None


@dataclass(frozen=True)
class _Test:
    """|value| against a band: the excess over it, in units of its error."""

    kind: Literal["mean", "sd"]
    name: str
    value: float
    se: float
    band: float

    @property
    def excess(self) -> float:
        return (abs(self.value) - self.band) / max(self.se, 1e-300)

    def say(self) -> str:
        if self.kind == "mean":
            return f"mean of {self.name} off by {self.value:+.3f} +- {self.se:.3f} sd"
        ratio = np.exp(self.value)
        error = ratio * self.se
        return f"sd of {self.name} {ratio:.3f} +- {error:.3f} times the reference's"


def unreliable(
    summaries: Mapping[str, Summary], divergent: float, modes: Sequence[Mode] = ()
) -> str:
    """Why the reference cannot be trusted; empty if it can."""
    judged = {k: s for k, s in summaries.items() if s.sd.value > 0}
    if not judged:
        return "no quantity varies"
    if len(modes) > 1:
        return f"its chains sit in {len(modes)} different modes: {say_modes(modes)}"
    least = min(judged, key=lambda k: judged[k].ess_bulk)
    if not (found := judged[least]).ess_bulk >= ESS:
        mixed = f" (R-hat {found.r_hat:.3f})" if np.isfinite(found.r_hat) else ""
        return f"ESS of {least} is {found.ess_bulk:.0f}, under {ESS:.0f}{mixed}"
    worst = max(judged, key=lambda k: _or_infinite(judged[k].r_hat))
    if not judged[worst].r_hat <= R_HAT:
        return (
            f"R-hat of {worst} is {judged[worst].r_hat:.3f}, over {R_HAT}: chains "
            "have not mixed"
        )
    if divergent > DIVERGENT:
        return f"{100 * divergent:.1f} % of its transitions diverged"
    return ""


def say_modes(modes: Sequence[Mode]) -> str:
    """Every mode in words."""
    return "; ".join(mode.say() for mode in modes)


def _or_infinite(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def judge(
    distances: Mapping[str, Distance],
    margin: Margin,
    draws: int,
    summaries: Mapping[str, Summary],
) -> Verdict:
    """The verdict over all judged quantities of one method.

    Args:
        distances: of the judged quantities.
        margin: what still counts as agreement.
        draws: of the method, all chains together.
        summaries: of the method, for its effective sample sizes.
    """
    tests = _tests(distances, margin)
    if not tests:
        return Verdict("inconclusive", "nothing to compare")
    moving = {k: s for k, s in summaries.items() if k in distances and s.sd.value > 0}
    least = min(moving, key=lambda k: moving[k].ess_bulk, default=None)
    if least is not None and not (few := moving[least].ess_bulk) >= FEW:
        if not np.isfinite(few):
            return Verdict("inconclusive", f"the ESS of {least} is not known")
        more = math.ceil((FEW / few - 1) * draws)
        return Verdict(
            "inconclusive",
            f"ESS of {least} is {few:.0f}, under {FEW:.0f}: errors are not known; "
            f"about {more} further draws are needed",
            more,
        )
    outside = holm([float(norm.sf(t.excess)) for t in tests])
    if any(outside):
        far = [t for t, out in zip(tests, outside, strict=True) if out]
        worst = max(far, key=lambda t: abs(t.value) / t.band)
        share = f"{len({t.name for t in far})} of {len(distances)}"
        return Verdict(
            "differs", f"outside the margin in {share} quantities, most: {worst.say()}"
        )
    return _inside(tests, len(distances), draws)


def _inside(tests: Sequence[_Test], quantities: int, draws: int) -> Verdict:
    """Agrees, or how many further draws would decide."""
    z = float(norm.isf(ALPHA))
    if all(t.excess <= -z for t in tests):
        worst = max(tests, key=lambda t: abs(t.value) / t.band)
        return Verdict(
            "agrees",
            f"all {quantities} quantities inside the margin, closest to it: "
            f"{worst.say()}",
        )
    undecided = [t for t in tests if t.excess > -z]
    most = min(undecided, key=lambda t: abs(t.excess))
    factor = (z / max(abs(most.excess), 1e-2)) ** 2
    more = max(1, math.ceil((factor - 1) * draws))
    return Verdict(
        "inconclusive",
        f"about {more} further draws of each would decide: {most.say()}",
        more,
    )


def _tests(distances: Mapping[str, Distance], margin: Margin) -> list[_Test]:
    band = float(-np.log1p(-margin.sd))
    tests = []
    for name, d in distances.items():
        mean, ratio = d.mean_difference, d.sd_ratio
        if np.isfinite(mean.value) and np.isfinite(mean.se):
            tests.append(_Test("mean", name, mean.value, mean.se, margin.mean))
        if np.isfinite(ratio.value) and np.isfinite(ratio.se):
            held = max(ratio.value, 1e-12)  # a collapsed posterior differs, too
            tests.append(_Test("sd", name, float(np.log(held)), ratio.se / held, band))
    return tests


def holm(p_values: list[float], level: float = ALPHA) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects at a level."""
    order = np.argsort(p_values)
    rejected = [False] * len(p_values)
    for position, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - position):
            break
        rejected[index] = True
    return rejected
