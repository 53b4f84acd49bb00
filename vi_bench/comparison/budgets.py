"""Error against time: the largest errors of a method by growing budget.

The reference has its own Monte-Carlo error, under which no distance from it means
anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vi_bench.comparison.measured import Measured
from vi_bench.comparison.measures import Distance, Estimate


@dataclass(frozen=True)
class Point:
    """The largest errors over all judged quantities at one budget, each with its own.

    Attributes:
        seconds: of a steady run until then, compilation apart.
        passes: evaluations of the model or its gradient on all rows until then, or
            None.
        mean: difference of means in reference sds, its size.
        sd: log of the ratio of sds, its size.
        w1: Wasserstein-1 distance in reference sds.
        bound: marginal ELBO, nats, or None.
    """

    seconds: float
    passes: float | None
    mean: Estimate
    sd: Estimate
    w1: Estimate
    bound: Estimate | None = None


@dataclass(frozen=True)
class Curve:
    """Points of a method by growing budget.

    Attributes:
        points: the points.
        within: seconds after which the mean's error stays at most the margin; None if
            it does not.
    """

    points: tuple[Point, ...]
    within: float | None


@dataclass(frozen=True)
class Floor:
    """The reference's own largest Monte-Carlo errors, in its sds."""

    mean: float
    sd: float
    w1: float


@dataclass(frozen=True)
class Curves:
    """Error against time of all methods, and the floor of the reference."""

    reference: str
    margin: float
    floor: Floor
    methods: dict[str, Curve]


def judged(known: Measured, label: str) -> list[Distance]:
    """Distances of a sample from the reference, in the quantities that are judged."""
    every = known.distances(label)
    return [every[q] for q in known.judged if q in every]


def point(
    seconds: float,
    passes: float | None,
    distances: Sequence[Distance],
    bound: Estimate | None = None,
) -> Point:
    """The largest of several distances, at one budget."""
    return Point(
        seconds,
        passes,
        _worst(_size(d.mean_difference) for d in distances),
        _worst(log_ratio(d.sd_ratio) for d in distances),
        _worst(d.w1 for d in distances),
        bound,
    )


def _size(found: Estimate) -> Estimate:
    return Estimate(abs(found.value), found.se)


def log_ratio(ratio: Estimate) -> Estimate:
    """|log ratio|; infinite where one of the two sds is 0."""
    if not ratio.value > 0:
        return Estimate(np.inf, np.nan)
    return Estimate(abs(float(np.log(ratio.value))), ratio.se / ratio.value)


def _worst(found: Iterable[Estimate]) -> Estimate:
    known = [e for e in found if not np.isnan(e.value)]
    return max(known, key=lambda e: e.value, default=Estimate(np.nan, np.nan))


def floor(known: Measured, any_other: str) -> Floor:
    """The reference's own errors.

    Args:
        known: draws of all.
        any_other: label of a sample that is held against it.
    """
    own = [known.summaries[known.reference][q] for q in known.judged]
    moving = [s for s in own if s.sd.value > 0]
    return Floor(
        max((s.mean.se / s.sd.value for s in moving), default=0.0),
        max((s.sd.se / s.sd.value for s in moving), default=0.0),
        max((d.w1_floor for d in judged(known, any_other)), default=0.0),
    )


def within(points: Sequence[Point], margin: float) -> float | None:
    """The first seconds from which on every point's mean is off by at most a margin."""
    since = None
    for point in points:
        if not point.mean.value <= margin:
            since = None
        elif since is None:
            since = point.seconds
    return since
