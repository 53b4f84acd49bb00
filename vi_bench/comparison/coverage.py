"""Which optima of the bound a sampler visits, and which of them it should have.

R-hat cannot see a mode that no chain visits. An optimisation from many starts lists
modes cheaply; whether a sampler has been there is seen by coordinate ascent from its
draws: a draw belongs to the optimum where that ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vi_bench.comparison.modes import Optimum, separate

SAME = 0.01
"""Nats: end points of ascents whose bounds are closer may be the same optimum."""

NEAR = 5.0
"""Nats: an optimum further below the best one visited need not be visited by a chain;
by its bound it holds under 1 % of the posterior mass."""

NEAR_WEIGHED = 1.5
"""The same for methods that estimate masses of modes themselves; an optimum so near
would hold a fifth of the mass if the bounds had equal gaps."""


@dataclass(frozen=True)
class End:
    """The end point of one coordinate ascent.

    Attributes:
        bound: the ELBO there, nats.
        quantities: label-invariant quantities of draws of its q (quantity, draw).
        source: label of the method whose start or draw it began from.
        visited: whether it began from a draw of the method's posterior.
        log_copies: log of the number of distinct relabellings, K! / (K - m)! with m
            occupied components; the bound accounts for one of them.
    """

    bound: float
    quantities: np.ndarray
    source: str
    visited: bool
    log_copies: float = 0.0

    @property
    def mass(self) -> float:
        """Log posterior mass of all relabellings by the bound, nats, up to log p(X)."""
        return self.bound + self.log_copies


@dataclass(frozen=True)
class Coverage:
    """The known optima, largest mass first (relabellings counted), and who visits them.

    Attributes:
        optima: optima within NEAR nats of the best one.
        visits: label -> share of its ascents from draws that end in each of `optima`.
        missed: label -> the best optimum that it should have visited and has not.
    """

    optima: tuple[Optimum, ...] = ()
    visits: dict[str, tuple[float, ...]] = field(default_factory=dict)
    missed: dict[str, Optimum] = field(default_factory=dict)

    def beside(self) -> str:
        """Why one q cannot stand for the posterior: other optima; empty if none."""
        if len(self.optima) < 2:
            return ""
        other = self.optima[1]
        return (
            f"{len(self.optima)} optima lie within {NEAR:g} nats of the best one, the "
            f"next {other.below:.2f} below it; a q covers one of them"
        )


def cover(
    ends: Sequence[End],
    chains: Mapping[str, np.ndarray],
    weighing: Collection[str] = (),
    exact: Collection[str] = (),
) -> Coverage:
    """Group end points into optima, and find the samplers that miss one.

    An optimum is missed by a sampler if no ascent from its draws ends there, its q is
    apart from every chain in some label-invariant quantity, and its bound, copies
    counted, is better than that of any optimum visited, or worse by less than NEAR
    (NEAR_WEIGHED for methods that weigh modes). One that is better by more than NEAR is
    missed even where it is not apart.

    Args:
        ends: end points of ascents from starts and from draws.
        chains: label -> label-invariant quantities of draws (chain, quantity, draw), in
            the order of the ends' quantities, of methods that should visit every mode.
        weighing: labels of methods that estimate the masses of modes.
        exact: labels of methods with exact draws; these miss nothing.
    """
    groups = _groups([e for e in ends if np.isfinite(e.bound)])
    if not groups:
        return Coverage()
    best = groups[0][0].mass
    optima = [
        Optimum(g[0].bound, best - g[0].mass, tuple(dict.fromkeys(e.source for e in g)))
        for g in groups
    ]
    missed = {}
    for label, draws in chains.items():
        if label in exact:
            continue
        near = NEAR_WEIGHED if label in weighing else NEAR
        for group, optimum in zip(groups, optima, strict=True):
            if _missed(label, draws, group, groups, near):
                missed[label] = optimum
                break
    close = [i for i, o in enumerate(optima) if o.below <= NEAR]
    return Coverage(
        tuple(optima[i] for i in close),
        {label: _visits(label, [groups[i] for i in close], ends) for label in chains},
        missed,
    )


def _groups(ends: Sequence[End]) -> list[list[End]]:
    """Group end points by optimum, the largest mass first."""
    groups: list[list[End]] = []
    for end in sorted(ends, key=lambda e: -e.bound):
        for group in groups:
            first = group[0]
            if first.bound - end.bound > SAME:
                continue
            if not separate(first.quantities, end.quantities):
                group.append(end)
                break
        else:
            groups.append([end])
    return sorted(groups, key=lambda g: -g[0].mass)


def _missed(
    label: str,
    draws: np.ndarray,
    group: Sequence[End],
    groups: Sequence[Sequence[End]],
    near: float,
) -> bool:
    reached = [g[0].mass for g in groups if _visited(label, g)]
    if not reached or _visited(label, group):
        return False
    ahead = group[0].mass - max(reached)
    if ahead > NEAR:
        return True
    if ahead <= -near:
        return False
    return all(separate(group[0].quantities, chain) for chain in draws)


def _visited(label: str, group: Sequence[End]) -> bool:
    return any(e.visited and e.source == label for e in group)


def _visits(
    label: str, groups: Sequence[Sequence[End]], ends: Sequence[End]
) -> tuple[float, ...]:
    own = sum(e.visited and e.source == label for e in ends)
    counts = [sum(e.visited and e.source == label for e in g) for g in groups]
    return tuple(c / own if own else 0.0 for c in counts)
