"""A bound that is right up to a constant: which constant, and whether it is one.

Many programs drop constants from their bound on purpose. A difference between the bound
stated and that of q is a constant if it does not depend on q. It is named if it equals
a usual constant on every problem; else it must be the same for different q on the same
data, or on different data of the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpyro import distributions as dist
from scipy.special import gammaln

from vi_bench.posterior.structure import bare
from vi_bench.verification.finding import CONVERGED
from vi_bench.verification.model_case import ModelCase

MOST = 3
"""Usual constants that may be dropped together."""

SEVERAL = 4
"""Problems from which on a sum of usual constants is looked for, and numbers of rows on
which a constant of no name is the same."""

ERRORS = 4.5
"""Standard errors within which two differences are the same."""


@dataclass(frozen=True)
class Offset:
    """A difference between the bound stated and that of q.

    Attributes:
        case: the fit.
        nats: the bound stated minus that of q.
        error: its standard error, nats.
    """

    case: ModelCase
    nats: float
    error: float

    def is_(self, other: float, error: float = 0.0) -> bool:
        """Whether the difference is this number, given with an error of its own."""
        allowed = CONVERGED + self.case.slack + ERRORS * np.hypot(self.error, error)
        return bool(abs(self.nats - other) <= allowed)


@dataclass(frozen=True)
class Constant:
    """A constant by which all bounds are off.

    Attributes:
        clause: what it is.
        by_size: whether all that is known is that the sizes of the data give it.
    """

    clause: str
    by_size: bool = False

    def told(self, offsets: Sequence[Offset]) -> str:
        """The clause and the values, and what else is to be known of them.

        Args:
            offsets: the differences on all problems.
        """
        by_nats = sorted(offsets, key=lambda o: -abs(o.nats))
        shown = (by_nats[0], by_nats[-1]) if self.by_size else by_nats[:1]
        values = "; ".join(
            f"{o.nats:+.4f} +- {o.error:.1g} nats on {o.case.problem}" for o in shown
        )
        said = f"{self.clause} (stated minus true: {values})"
        if self.by_size:
            said += (
                "; the log of a mean in place of the mean of a log is one where the "
                "sizes give the shape of its Gamma"
            )
        if shown[0].nats > 0:
            said += ". It is no lower bound on log p(X): it is too high"
        return said


def offset_of(case: ModelCase) -> Offset | None:
    """The difference on one problem; None if there is no bound."""
    if not case.answer.elbo.size or not case.judged:
        return None
    mean, error = case.bound
    return Offset(case, float(case.answer.elbo[-1]) - mean, error)


def constant_of(
    offsets: Sequence[Offset], others: Callable[[ModelCase], Sequence[Offset]]
) -> Constant | None:
    """The constant by which all bounds are off; None if they are not.

    Args:
        offsets: differences on all problems.
        others: case -> differences of other q on the same data.
    """
    if not offsets:
        return None
    # on few problems some sum of constants fits anything
    if named := _usual_sum(offsets, MOST if len(offsets) >= SEVERAL else 1):
        return Constant(f"it lacks {named}")
    first = offsets[0]
    if len({o.case.problem.rows for o in offsets}) >= SEVERAL and all(
        o.is_(first.nats, first.error) for o in offsets
    ):
        return Constant("it is off by a number that is the same on all data")
    # of no rows there is one data set alone
    off = [o for o in offsets if not o.is_(0.0) and o.case.problem.rows != 0]
    if _same_by_shape(off, offsets):
        depends = "it is off by a constant that depends on the sizes of the data alone"
        return Constant(depends, by_size=True)
    if len(off) >= 2 and all(_same(o, others(o.case)) for o in off):
        return Constant("it is off by a constant that does not depend on q")
    return None


def is_refuted(
    offsets: Sequence[Offset], others: Callable[[ModelCase], Sequence[Offset]]
) -> bool:
    """Whether no constant explains the bounds, whatever further problems show.

    That is so where data of the same shapes have different offsets, no sum of usual
    constants has them, and they differ for other q on the same data.

    Args:
        offsets: differences on some problems.
        others: case -> differences of other q on the same data.
    """
    apart = [
        pair
        for pair in combinations(offsets, 2)
        if pair[0].case.problem.alike == pair[1].case.problem.alike is not None
        and not pair[0].is_(pair[1].nats, pair[1].error)
    ]
    if not apart or _usual_sum(offsets, MOST):
        return False
    off = next(o for o in apart[0] if not o.is_(0.0))
    return not _same(off, others(off.case))


def _usual_sum(offsets: Sequence[Offset], most: int) -> str | None:
    """The sum of at most so many usual constants that all bounds are off by."""
    usual = [usual_constants(o.case) for o in offsets]
    names = sorted({name for own in usual for name in own})
    for number in range(1, most + 1):
        for chosen in combinations(names, number):
            if all(
                o.is_(sum(own.get(name, 0.0) for name in chosen))
                for o, own in zip(offsets, usual, strict=True)
            ):
                return " and ".join(chosen)
    return None


def _same(offset: Offset, others: Sequence[Offset]) -> bool:
    """Whether there are others, and all are the same difference."""
    return len(others) > 0 and all(o.is_(offset.nats, offset.error) for o in others)


def usual_constants(case: ModelCase) -> dict[str, float]:
    """Name -> what the bound is off by if that constant is left out, nats."""
    trace, structure = case.problem.trace, case.problem.structure
    found: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        if np.isfinite(value) and value != 0:
            found[name] = found.get(name, 0.0) + float(value)

    half = 0.5 * np.log(2 * np.pi)
    for name in structure.observed:
        fn, value = bare(trace[name]["fn"]), np.asarray(trace[name]["value"])
        if isinstance(fn, NORMALS):
            add("-(n/2) log 2 pi of the observations", half * value.size)
        elif isinstance(fn, COUNTS):
            add("-log x! of the observations", float(np.sum(gammaln(value + 1.0))))
    for site in structure.sites:
        fn, size = bare(trace[site.name]["fn"]), float(np.prod(site.shape))
        where = f"of the prior of {site.name}"
        if isinstance(fn, NORMALS):
            add(f"-(p/2) log 2 pi {where}", half * size)
            add(f"(p/2) log 2 pi e of the entropy of {site.name}", -(half + 0.5) * size)
            add(f"(p/2) log 2 pi of the entropy of {site.name}", -half * size)
        elif isinstance(fn, dist.Gamma):
            a, b = np.asarray(fn.concentration), np.asarray(fn.rate)
            shape = np.broadcast(np.zeros(site.shape), a, b)
            terms = a * np.log(b) - gammaln(a)
            add(f"a log b - log Gamma(a) {where}", -_sum(terms, shape.shape))
        elif isinstance(fn, dist.Dirichlet):
            a = np.asarray(fn.concentration)
            terms = gammaln(a.sum(axis=-1)) - gammaln(a).sum(axis=-1)
            add(f"the normalising constant {where}", -_sum(terms, site.shape[:-1]))
        elif site.discrete and hasattr(fn, "probs"):
            number = np.shape(fn.probs)[-1] if np.ndim(fn.probs) else 1
            if number > 1:
                add(f"-n log K of {site.name}", size * np.log(number))
    return found


NORMALS = (dist.Normal, dist.MultivariateNormal)
COUNTS = (dist.Poisson, dist.NegativeBinomial2, dist.GammaPoisson)


def _sum(terms: Any, shape: tuple[int, ...]) -> float:
    return float(np.sum(np.broadcast_to(terms, shape)))


def _same_by_shape(off: Sequence[Offset], offsets: Sequence[Offset]) -> bool:
    """Whether each difference in `off` is that of other data of the same shapes, too.

    Different shapes have to show it, as one number fits one shape by chance.
    """
    shapes = [offset.case.problem.alike for offset in off]
    return len(set(shapes)) >= 2 and all(
        shape is not None
        and _same(
            offset,
            [
                other
                for other in offsets
                if other is not offset and other.case.problem.alike == shape
            ],
        )
        for offset, shape in zip(off, shapes, strict=True)
    )
