"""Chains that sit in different modes, beyond what a permutation of labels undoes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.stats import mannwhitneyu

from vi_bench.comparison.joint import evenly
from vi_bench.comparison.quantities import Quantity

APART = 0.99
"""Two chains are apart when a draw of one exceeds a draw of the other, in some
label-invariant quantity, with at least this probability (or at most one minus it)."""

LEAST = 20
"""Draws per chain below which no modes are distinguished."""

MANY, PIVOTS = 32, 8
"""Number of chains beyond which each is compared with about PIVOTS chains, not all."""

ENOUGH = 1000
"""Largest number of draws per chain that are used, evenly spaced."""


@dataclass(frozen=True)
class Mode:
    """Chains that overlap each other, and no other chain.

    Attributes:
        chains: indices of the chains.
        log_joint: mean log p(X, theta) of their draws; NaN where it is not known.
        share: share of the posterior mass by evidence, relative to the other modes
            found; NaN where it is not known.
    """

    chains: tuple[int, ...]
    log_joint: float
    share: float = np.nan

    def say(self) -> str:
        """The mode in words: its chains, log joint and share of the mass."""
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
        bound: the ELBO there, nats.
        below: nats below the best known optimum, relabellings of both counted.
        sources: labels of the methods that found it, or whose draws lead there.
    """

    bound: float
    below: float
    sources: tuple[str, ...] = ()

    def say(self) -> str:
        """The optimum in words: its ELBO, and the methods that found it."""
        place = f", {self.below:.2f} nats below the best one" if self.below > 0 else ""
        sources = ", ".join(self.sources)
        return f"the optimum of ELBO {self.bound:.2f}{place} (known from {sources})"


def find_modes(
    invariants: Mapping[Quantity, np.ndarray], log_joint: np.ndarray | None
) -> tuple[Mode, ...]:
    """Group chains by label-invariant quantities, the highest log joint first.

    Chains of one group are linked by overlap, perhaps through other chains. One group
    means that no separate modes were found, not that there are none.

    Args:
        invariants: name -> (chain, draw); no permutation of components changes them.
        log_joint: log p(X, theta) of each draw (chain, draw), or None.
    """
    chains, length = next(iter(invariants.values())).shape
    quantities = _thinned(np.stack(list(invariants.values()), axis=1))
    # chance separates chains of so few draws
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
    return np.asarray(draws[..., evenly(draws.shape[-1], ENOUGH)])


def separate(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of draws (quantity, draw) are apart in any quantity."""
    # the method concerns the p-value only, which is not used
    found = mannwhitneyu(a, b, axis=1, method="asymptotic").statistic
    larger = found / (a.shape[1] * b.shape[1])
    return bool(np.any((larger > APART) | (larger < 1 - APART)))


def weighted(
    modes: tuple[Mode, ...], log_evidence: Mapping[int, float]
) -> tuple[Mode, ...]:
    """The modes with their shares of the mass; unchanged where one evidence is missing.

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
