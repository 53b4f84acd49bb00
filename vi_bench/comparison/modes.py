"""Chains that sit in different modes, beyond what a permutation of labels undoes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.stats import mannwhitneyu

from vi_bench.comparison.quantities import Quantity

APART = 0.99
"""Two chains are apart when a draw of one exceeds a draw of the other, in some
label-invariant quantity, with at least this probability (or at most one minus it)."""

LEAST = 20
"""Draws of a chain under which nothing is said of where it sits."""

MANY, PIVOTS = 32, 8
"""Chains beyond which they are held to about PIVOTS of them, not to all others."""

ENOUGH = 1000
"""Draws of a chain that tell where it sits."""


@dataclass(frozen=True)
class Mode:
    """Chains that overlap each other, and no other chain.

    Attributes:
        chains: their indices.
        log_joint: mean log p(X, theta) of their draws; NaN where it is not known.
        share: of the posterior's mass by evidence, relative to the other modes found;
            NaN where it is not known.
    """

    chains: tuple[int, ...]
    log_joint: float
    share: float = np.nan

    def say(self) -> str:
        """The chains, and what is known of the mode."""
        one = len(self.chains) == 1
        named = "chain" if one else "chains"
        known = [] if np.isnan(self.log_joint) else [f"log joint {self.log_joint:.2f}"]
        if not np.isnan(self.share):
            known.append(f"{100 * self.share:.3g} % of the mass by evidence")
        told = f" ({', '.join(known)})" if known else ""
        return f"{named} {', '.join(map(str, self.chains))}{told}"


@dataclass(frozen=True)
class Optimum:
    """An optimum of the bound with the assignments in q, up to relabelling.

    Attributes:
        bound: there, nats.
        below: the best optimum that is known, nats, relabellings of both counted.
        sources: labels of the methods that found it, or whose draws lead there.
    """

    bound: float
    below: float
    sources: tuple[str, ...] = ()

    def say(self) -> str:
        """The optimum, and who knows of it."""
        place = f", {self.below:.2f} nats below the best one" if self.below > 0 else ""
        sources = ", ".join(self.sources)
        return f"the optimum of ELBO {self.bound:.2f}{place} (known from {sources})"


def find_modes(
    invariants: Mapping[Quantity, np.ndarray], log_joint: np.ndarray | None
) -> tuple[Mode, ...]:
    """Group chains by label-invariant quantities, the highest log joint first.

    Chains of one group are linked by overlap, if only through others. One group means
    that nothing was found, not that there is nothing to find.

    Args:
        invariants: name -> (chain, draw); no permutation of components changes them.
        log_joint: log p(X, theta) of each draw (chain, draw), or None.
    """
    chains, length = next(iter(invariants.values())).shape
    quantities = _thinned(np.stack(list(invariants.values()), axis=1))
    # so few draws are apart by chance
    together = np.full((chains, chains), length < LEAST)
    pairs: Iterable[tuple[int, int]] = combinations(range(chains), 2)
    if chains > MANY:
        pivots = range(0, chains, chains // PIVOTS)
        pairs = ((j, i) for j in pivots for i in range(chains))
    for j, i in pairs:
        together[i, j] |= not separate(quantities[i], quantities[j])
    count, group = connected_components(together, directed=False)
    found = []
    for k in range(count):
        mine = np.flatnonzero(group == k)
        mean = np.nan if log_joint is None else float(log_joint[mine].mean())
        found.append(Mode(tuple(mine.tolist()), mean))
    return tuple(sorted(found, key=lambda mode: -np.nan_to_num(mode.log_joint)))


def _thinned(draws: np.ndarray) -> np.ndarray:
    """(chain, quantity, draw) with at most ENOUGH evenly spaced draws."""
    length = draws.shape[-1]
    chosen = np.linspace(0, length - 1, min(length, ENOUGH)).round().astype(int)
    return np.asarray(draws[..., chosen])


def separate(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of draws (quantity, draw) are apart in any quantity."""
    # asymptotic is the p-value, which is not used
    found = mannwhitneyu(a, b, axis=1, method="asymptotic").statistic
    larger = found / (a.shape[1] * b.shape[1])
    return bool(np.any((larger > APART) | (larger < 1 - APART)))


def weighted(
    modes: tuple[Mode, ...], log_evidence: Mapping[int, float]
) -> tuple[Mode, ...]:
    """The modes with their shares of the mass.

    Args:
        modes: from `find_modes`.
        log_evidence: position in `modes` -> log evidence of that mode, or a lower bound
            on it that is as far off in each.
    """
    if set(log_evidence) != set(range(len(modes))):
        return modes
    logs = np.array([log_evidence[i] for i in range(len(modes))])
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    return tuple(
        replace(mode, share=float(share))
        for mode, share in zip(modes, shares, strict=True)
    )
