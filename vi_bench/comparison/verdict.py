"""Verdicts: equivalence tests of a method and a reference, error rates controlled.

For each quantity the mean must lie within `margin.mean` reference sds and the sd within
the factor 1 - `margin.sd` of the reference's; 5 and 95 % quantiles, Wasserstein-1
distances and correlations within what these two margins allow a normal posterior.
`differs`: some test is significantly outside its band (Holm's procedure over all tests
of all methods keeps the chance of any false `differs` in the whole table at ALPHA).
`agrees`: every test is inside, each at ALPHA (an intersection-union test needs no
correction); `agrees in marginals` where a joint test still finds a difference. Neither:
`at the margin` where Monte-Carlo errors are as small as FRACTION asks for, else
`inconclusive`.

p-values are for LOOKS looks: draws may be added and the test repeated, whatever the
earlier words were (`beyond`). Before any other verdict the reference must pass its
diagnostics (else `reference unreliable`), and the method must have draws enough for its
errors to be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import norm

from vi_bench.comparison.measures import Distance, Estimate, Summary
from vi_bench.comparison.modes import Mode, Optimum
from vi_bench.comparison.quantities import Quantity

ALPHA = 0.05
R_HAT, ESS = 1.01, 400.0
"""Largest R-hat and smallest ESS (bulk and tail) of a reliable reference, over all
judged quantities."""

E_BFMI = 0.3
"""Energy Bayesian fraction of missing information that a Hamiltonian sampler must reach
in every chain (Betancourt 2016)."""

FEW, FEW_FOR_SD = 100.0, 400.0
"""Effective sample sizes below which a method's errors are not known well enough: those
of means; those of sds, quantiles, distances and correlations."""

DIVERGENT = 0.01
"""Largest share of divergent transitions of a reliable reference."""

FRACTION = 0.1
"""Largest Monte-Carlo error of each side, as a fraction of its margin."""

ENOUGH = 1.25
"""Accepted multiple of the variance that FRACTION asks for: errors are estimated."""

LOOKS = 5
"""Number of times that a table may be read, draws being added in between, at the stated
error rates (Bonferroni)."""

Word = Literal[
    "agrees",
    "agrees in marginals",
    "differs",
    "at the margin",
    "inconclusive",
    "reference unreliable",
]

Kind = Literal["mean", "sd", "5 % quantile", "95 % quantile", "W1", "correlation"]


@dataclass(frozen=True)
class Margin:
    """The equivalence margins.

    Attributes:
        mean: largest difference of means, in reference sds.
        sd: largest relative difference of sds.

    Those of a run stand in ``vi_bench/experiments/_defaults.toml``, and are the same.
    """

    mean: float = 0.1
    sd: float = 0.1

    def band(self, kind: Kind) -> float:
        """The margin of a test, in the unit of its value.

        Two normal distributions whose means are `mean` and whose sds a factor 1 - `sd`
        apart have 5 and 95 % quantiles up to mean + 1.645 sd, and a Wasserstein-1
        distance up to mean + sqrt(2 / pi) sd, apart. A correlation off by 1 - (1 -
        sd)^2 changes the sd of the sum of two quantities of equal sds by the factor
        1 - `sd`.
        """
        if kind == "mean":
            return self.mean
        if kind == "sd":
            return float(-np.log1p(-self.sd))
        if kind == "W1":
            return float(self.mean + np.sqrt(2 / np.pi) * self.sd)
        if kind == "correlation":
            return 1 - (1 - self.sd) ** 2
        return float(self.mean + norm.isf(0.05) * self.sd)


@dataclass(frozen=True)
class Verdict:
    """A verdict and the reason for it.

    Attributes:
        word: the verdict; see the module.
        reason: one sentence with the numbers that decided.
        more_draws: about how many further draws are needed, of the method or, where the
            reason says so, of each side; None where draws are not what is missing.
    """

    word: Word
    reason: str
    more_draws: int | None = None


@dataclass(frozen=True)
class Test:
    """An equivalence test of one difference: |value| against its margin.

    Attributes:
        kind: the statistic that is compared.
        name: name of the quantity, or of a pair of quantities.
        value: difference between method and reference; for sds the log of their ratio.
        se: Monte-Carlo standard error of the value.
        band: the margin, in the unit of the value.
        noise: the value expected from noise alone where both sides are equal.
        among: number of tests of which this is the most extreme (Bonferroni).
    """

    __test__ = False  # no test case of pytest's

    kind: Kind
    name: str
    value: float
    se: float
    band: float
    noise: float = 0.0
    among: int = 1

    @property
    def p_outside(self) -> float:
        """p-value of the hypothesis that the value is inside the band."""
        excess = abs(self.value) - self.noise - self.band
        return min(1.0, self.among * beyond(excess, self.se))

    @property
    def p_inside(self) -> float:
        """p-value of the hypothesis that the value is outside the band."""
        return beyond(self.band - abs(self.value), self.se)

    @property
    def share(self) -> float:
        """|value| in units of the band."""
        return abs(self.value) / self.band

    @property
    def effort(self) -> float:
        """Factor by which draws must grow for the error that FRACTION asks for."""
        return (self.se / (math.sqrt(2) * FRACTION * self.band)) ** 2

    def say(self) -> str:
        """The difference and its error in words."""
        off = f"{self.value:+.3f} +- {self.se:.3f}"
        if self.kind == "sd":
            ratio = np.exp(self.value)
            error = ratio * self.se
            return f"sd of {self.name} {ratio:.3f} +- {error:.3f} times the reference's"
        if self.kind == "W1":
            return f"W1 distance in {self.name} {self.value:.3f} +- {self.se:.3f} sd"
        if self.kind == "correlation":
            return f"correlation of {self.name} off by {off}, margin {self.band:.2g}"
        return f"{self.kind} of {self.name} off by {off} sd"


def beyond(excess: float, se: float) -> float:
    """p-value of the hypothesis that the true value is below a limit.

    One-sided and normal, for LOOKS looks: their number times that of a single look.

    Args:
        excess: how far the estimate is over the limit.
        se: its standard error.
    """
    if excess <= 0:
        return 1.0
    if se <= 0:
        return 0.0
    return min(1.0, LOOKS * float(norm.sf(excess / se)))


@dataclass(frozen=True)
class Case:
    """The input of the verdict on one method, or on some of its chains.

    Attributes:
        tests: tests of all judged quantities.
        draws: number of draws, all chains together.
        quantities: number of judged quantities.
        certain: sentences on quantities that are constant in the reference and differ.
        least: the quantity of the smallest effective sample size, and that size.
        untested: among quantities whose effective sample size allows only the test of
            the mean, the one of the smallest, and that size; None if there are none.
    """

    tests: Sequence[Test]
    draws: int
    quantities: int
    certain: Sequence[str] = ()
    least: tuple[str, float] | None = None
    untested: tuple[str, float] | None = None


def case_of(
    distances: Mapping[Quantity, Distance],
    summaries: Mapping[Quantity, Summary],
    margin: Margin,
    draws: int,
    certain: Sequence[str] = (),
    correlations: Sequence[Test] = (),
) -> Case:
    """The tests of a method's judged quantities.

    Args:
        distances: judged quantity -> distance from the reference.
        summaries: quantity -> the method's summary, for its effective sample sizes.
        margin: the equivalence margins.
        draws: number of draws of the method, all chains together.
        certain: see `Case`.
        correlations: tests of pairs of quantities.
    """
    sizes = {
        k: _or_nothing(s.ess_bulk)
        for k, s in summaries.items()
        if k in distances and s.sd.value > 0
    }
    small = {k: v for k, v in sizes.items() if not v >= FEW_FOR_SD}
    # without a known error there is no test
    small |= {k: 0.0 for k in sizes if not np.isfinite(distances[k].mean_difference.se)}
    tests = []
    for name, d in distances.items():
        tests += tests_of(name, d, margin, only_mean=name in small)
    if not small:
        tests += correlations
    return Case(
        tests,
        draws,
        len(distances),
        certain,
        min(sizes.items(), key=lambda kv: kv[1], default=None),
        min(small.items(), key=lambda kv: kv[1], default=None),
    )


def _or_nothing(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def tests_of(name: str, d: Distance, margin: Margin, only_mean: bool) -> list[Test]:
    """The tests of one quantity; those whose error is not known are left out."""
    held = max(d.sd_ratio.value, 1e-12)  # a collapsed posterior differs, too
    log_ratio = Estimate(float(np.log(held)), d.sd_ratio.se / held)
    named: dict[Kind, Estimate] = {"mean": d.mean_difference}
    if not only_mean:
        named |= {"sd": log_ratio, "W1": d.w1}
        if d.tails is not None:
            named |= {"5 % quantile": d.tails[0], "95 % quantile": d.tails[1]}
    return [
        Test(
            kind,
            name,
            e.value,
            e.se,
            margin.band(kind),
            d.w1_floor if kind == "W1" and np.isfinite(d.w1_floor) else 0.0,
        )
        for kind, e in named.items()
        if np.isfinite(e.value) and np.isfinite(e.se)
    ]


def judge(cases: Sequence[Case]) -> list[Verdict]:
    """The verdicts on all methods, with error rates controlled over all of them."""
    tests = [t for case in cases for t in case.tests]
    rejected = iter(holm([t.p_outside for t in tests]))
    return [_judge(case, [t for t in case.tests if next(rejected)]) for case in cases]


def _judge(case: Case, outside: Sequence[Test]) -> Verdict:
    if (few := _too_few(case)) is not None:
        return few
    if case.certain:
        return Verdict("differs", "; ".join(case.certain))
    if not case.tests:
        return Verdict("inconclusive", "nothing to compare")
    if outside:
        worst = max(outside, key=lambda t: t.share)
        names = {t.name for t in outside if t.kind != "correlation"}
        share = f"{len(names)} of {case.quantities}"
        where = f"in {share} quantities, most" if names else "jointly"
        return Verdict("differs", f"outside the margin {where}: {worst.say()}")
    if case.untested is not None:
        name, size = case.untested
        more = math.ceil((FEW_FOR_SD / max(size, 1.0) - 1) * case.draws)
        return Verdict(
            "inconclusive",
            f"ESS of {name} is {size:.0f}, under {FEW_FOR_SD:.0f}: the error of its sd "
            f"is not known; about {more} further draws are needed",
            more,
        )
    return _inside(case)


def _too_few(case: Case) -> Verdict | None:
    """`inconclusive` where a method has too few draws to be judged, else None."""
    if case.draws < FEW:
        more = math.ceil(FEW_FOR_SD) - case.draws
        return Verdict(
            "inconclusive",
            f"{case.draws} draws are too few to know their errors; about {more} "
            "further draws are needed, more where they are autocorrelated",
            more,
        )
    if case.least is None or case.least[1] >= FEW:
        return None
    name, size = case.least
    if not size > 0:
        return Verdict("inconclusive", f"the ESS of {name} is not known")
    more = math.ceil((FEW / size - 1) * case.draws)
    return Verdict(
        "inconclusive",
        f"ESS of {name} is {size:.0f}, under {FEW:.0f}: errors are not known; "
        f"about {more} further draws are needed",
        more,
    )


def _inside(case: Case) -> Verdict:
    """`agrees`, `at the margin`, or `inconclusive` with the number of draws needed."""
    open_ = [t for t in case.tests if t.p_inside > ALPHA]
    if not open_:
        worst = max(case.tests, key=lambda t: t.share)
        return Verdict(
            "agrees",
            f"all {case.quantities} quantities inside the margin, closest to it: "
            f"{worst.say()}",
        )
    effort = max(t.effort for t in open_)
    if effort <= ENOUGH:
        nearest = max(open_, key=lambda t: t.p_inside)
        return Verdict(
            "at the margin",
            f"errors of each side are about {FRACTION:.0%} of the margin, and "
            f"{nearest.say()} "
            f"is too near its margin of {nearest.band:.2f} to say on which side",
        )
    most = max(open_, key=lambda t: t.effort)
    more = max(1, math.ceil((effort - 1) * case.draws))
    return Verdict(
        "inconclusive",
        f"about {more} further draws of each would bring the errors under "
        f"{FRACTION:.0%} of their margins: {most.say()}",
        more,
    )


def jointly(verdict: Verdict, told: str) -> Verdict:
    """`agrees` becomes `agrees in marginals` where `told`, a joint test, differs."""
    if verdict.word != "agrees" or not told:
        return verdict
    return replace(
        verdict, word="agrees in marginals", reason=f"{verdict.reason}; but {told}"
    )


def unreliable(
    summaries: Mapping[Quantity, Summary],
    divergent: float,
    modes: Sequence[Mode] = (),
    missed: Optimum | None = None,
    e_bfmi: float | None = None,
) -> str:
    """Why the reference cannot be trusted; empty if it can.

    Args:
        summaries: judged quantity -> the reference's summary.
        divergent: share of its transitions that diverged.
        modes: modes in which its chains sit.
        missed: a known optimum that it never visits, or None.
        e_bfmi: the smallest E-BFMI over chains of a Hamiltonian sampler, or None.
    """
    judged = {k: s for k, s in summaries.items() if s.sd.value > 0}
    if not judged:
        return "no quantity varies"
    if len(modes) > 1:
        return f"its chains sit in {len(modes)} different modes: {say_modes(modes)}"
    if missed is not None:
        return f"it never visits {missed.say()}"
    diverged = ""
    if divergent > DIVERGENT:
        diverged = f"{100 * divergent:.1f} % of its transitions diverged"
    slow = ""
    if e_bfmi is not None and not e_bfmi >= E_BFMI:
        slow = (
            f"E-BFMI is {e_bfmi:.2f}, under {E_BFMI}: its momentum explores the energy "
            "too slowly"
        )
    # of ESS and R-hat the first that fails; divergences are often what explains it
    mixing = _unmixed(judged) or _undersized(judged, "tail")
    return "; ".join(filter(None, [diverged, mixing or slow]))


def _unmixed(judged: Mapping[Quantity, Summary]) -> str:
    if found := _undersized(judged, "bulk"):
        return found
    worst = max(judged, key=lambda k: _or_infinite(judged[k].r_hat))
    if judged[worst].r_hat <= R_HAT:
        return ""
    return (
        f"R-hat of {worst} is {judged[worst].r_hat:.3f}, over {R_HAT}: chains "
        "have not mixed"
    )


def _undersized(
    judged: Mapping[Quantity, Summary], part: Literal["bulk", "tail"]
) -> str:
    sizes = {k: getattr(s, f"ess_{part}") for k, s in judged.items()}
    least = min(sizes, key=lambda k: _or_nothing(sizes[k]))
    if sizes[least] >= ESS:
        return ""
    r_hat = judged[least].r_hat
    mixed = f" (R-hat {r_hat:.3f})" if np.isfinite(r_hat) else ""
    named = "ESS" if part == "bulk" else "tail ESS"
    return f"{named} of {least} is {sizes[least]:.0f}, under {ESS:.0f}{mixed}"


def say_modes(modes: Sequence[Mode]) -> str:
    """All modes in words."""
    return "; ".join(mode.say() for mode in modes)


def _or_infinite(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def holm(p_values: Sequence[float], level: float = ALPHA) -> list[bool]:
    """Which hypotheses Holm's (1979) step-down procedure rejects at a level."""
    order = np.argsort(p_values)
    rejected = [False] * len(p_values)
    for position, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - position):
            break
        rejected[index] = True
    return rejected
