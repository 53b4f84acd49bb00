"""Draws of one posterior, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.quantities import Quantity, named


@dataclass(frozen=True)
class Sample:
    """Draws of one posterior, and what is known about them.

    Attributes:
        columns: label -> (chain, draw, K), scalars that each component has.
        shared: label -> (chain, draw), scalars that the components share.
        log_joint: log p(X, theta) of each draw (chain, draw), or None.
        divergent: share of divergent transitions.
        log_q: log q(theta) of each draw (chain, draw), of a q that draws come from.
        log_q_symmetric: log of q averaged over label permutations, or None.
        bound: on log p(X) with the assignments in q, or None.
        best_bound: the best such bound over restarts, or None.
        evidence: log p(X) where the method estimates it, or None.
        log_likelihood: log p(x_i | theta) of some rows (chain, draw, n), or None.
        held_out: the same of rows that were set aside, or None.
        similarity: P(c_i = c_j) of some rows by chain (chain, p, p), or None.
        e_bfmi: the smallest over chains, of a Hamiltonian sampler, or None.
        weighs: whether the method weighs modes against one another, as enumeration and
            populations that start from the prior do, and a chain in one mode does not.
    """

    columns: dict[Quantity, np.ndarray]
    shared: dict[Quantity, np.ndarray] = field(default_factory=dict)
    log_joint: np.ndarray | None = None
    divergent: float = 0.0
    log_q: np.ndarray | None = None
    log_q_symmetric: np.ndarray | None = None
    bound: Estimate | None = None
    best_bound: float | None = None
    evidence: Estimate | None = None
    log_likelihood: np.ndarray | None = None
    held_out: np.ndarray | None = None
    similarity: np.ndarray | None = None
    e_bfmi: float | None = None
    weighs: bool = False

    def __post_init__(self) -> None:
        """Refuse draws that are not finite; plain names become quantities.

        Raises:
            ValueError: it names the first one.
        """
        for part in ("columns", "shared"):
            known = {named(k): v for k, v in getattr(self, part).items()}
            object.__setattr__(self, part, known)
        for label, values in (self.columns | self.shared).items():
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                chain, draw = bad[0][:2]
                raise ValueError(f"{label} is not finite in chain {chain}, draw {draw}")
