"""Draws of one posterior, with their densities, bounds and diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.quantities import Quantity, named


@dataclass(frozen=True)
class Sample:
    """Draws of one posterior, with their densities, bounds and diagnostics.

    Attributes:
        columns: quantity -> draws (chain, draw, K) of a scalar of each exchangeable
            component; empty where the model has none.
        shared: quantity -> draws (chain, draw) of a scalar the components share.
        log_joint: log p(X, theta) of `evaluated` draws (chain, n), or None.
        divergent: share of transitions that diverged, between 0 and 1.
        log_q: log q(theta) of each draw (chain, draw), or None if not drawn from a q.
        log_q_symmetric: log of q averaged over label permutations, or None.
        bound: ELBO with the assignments in q, nats, or None.
        best_bound: the largest such ELBO over restarts, nats, or None.
        evidence: the method's estimate of log p(X), nats, or None.
        log_likelihood: log p(x_i | theta) of some rows (chain, draw, n), or None.
        held_out: log p(x_i | theta) of held-out rows (chain, draw, n), or None.
        similarity: co-clustering probabilities P(c_i = c_j) of p rows, by chain
            (chain, p, p), or None.
        e_bfmi: the smallest E-BFMI over chains of a Hamiltonian sampler, or None.
        weighs: whether the method estimates the relative mass of modes, as enumeration
            and populations started from the prior do; a chain in one mode does not.
        evaluated: indices of the draws of each chain whose log joints are known (n,);
            None: of all.
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
    evaluated: np.ndarray | None = None

    @property
    def log_joint_of_all(self) -> np.ndarray | None:
        """Log joints (chain, draw), if those of all draws are known."""
        joint = self.log_joint
        whole = joint is not None and joint.shape[1] == self.shape[1]
        return joint if whole else None

    def where_evaluated(self, values: np.ndarray) -> np.ndarray:
        """The values (chain, n, ...) of the draws whose log joints are known."""
        at = self.evaluated
        return values if at is None or len(at) == self.shape[1] else values[:, at]

    @property
    def components(self) -> int:
        """The number of exchangeable components; 1 where there are none."""
        return next((v.shape[-1] for v in self.columns.values()), 1)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of chains, and of draws of each."""
        chains, draws = next(iter((self.shared | self.columns).values())).shape[:2]
        return chains, draws

    def part(self, chains: slice = slice(None), draws: int | None = None) -> Sample:
        """The first draws of some chains, with their log joint, if all have one."""

        def cut(values: np.ndarray) -> np.ndarray:
            return values[chains, :draws]

        return Sample(
            {name: cut(v) for name, v in self.columns.items()},
            {name: cut(v) for name, v in self.shared.items()},
            None if (joint := self.log_joint_of_all) is None else cut(joint),
        )

    def __post_init__(self) -> None:
        """Convert plain names to quantities and refuse draws that are not finite.

        Raises:
            ValueError: names the first such quantity, chain and draw.
        """
        for part in ("columns", "shared"):
            known = {named(k): v for k, v in getattr(self, part).items()}
            object.__setattr__(self, part, known)
        for label, values in (self.columns | self.shared).items():
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                chain, draw = bad[0][:2]
                raise ValueError(f"{label} is not finite in chain {chain}, draw {draw}")
