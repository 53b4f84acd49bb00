"""What a calibration found: arrays in, tests and tables out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import ks_2samp, wilcoxon

from vi_bench.calibration.settings import Settings
from vi_bench.calibration.uniformity import Row, judge
from vi_bench.calibration.uniformity import kept as kept_by_holm

RESPONSE = "+lr"
"""What is added to a method's label where linear response has stretched its q."""

SAME = " (same)"
"""What is added where it is the method itself, on linear response's simulations."""

ENOUGH = 20
"""Simulations under which nothing is tested."""


@dataclass(frozen=True)
class Asymmetry:
    """VSBC of one coordinate of q's components, in q's own order of that coordinate.

    Attributes:
        p: Q(theta*), one per simulation (sims,).
        shift: mean of p minus 1/2; negative where q's mean is too high.
        wilcoxon_p: signed ranks of p - 1/2: valid, the simulations are independent.
        ks_p: two samples p and 1 - p, as Yao et al. (2018) have it.
        symmetric: whether Holm's procedure over a method's coordinates keeps it, by
            the signed ranks.
    """

    p: np.ndarray
    shift: float
    wilcoxon_p: float
    ks_p: float
    symmetric: bool


@dataclass(frozen=True)
class Joint:
    """Geweke's test of one quantity: p-value, and whether Holm's procedure keeps it."""

    p: float
    kept: bool


@dataclass
class Calibration:
    """What was found.

    Attributes:
        settings: what was asked for.
        pits: row label -> quantity -> PITs (sims,), of every simulation that counts.
        rows: row label -> quantity -> how it is calibrated.
        refused: method -> simulations where linear response was refused.
        asymmetry: method -> coordinate, with the component's rank -> VSBC.
        joint: method -> quantity -> Geweke's test.
        notes: method -> what else to know, in words.
        skipped: method -> why it does not apply.
        failed: method -> what went wrong.
        environment: what the numbers depend on.
        folder: where it was written.
    """

    settings: Settings
    pits: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    asymmetry: dict[str, dict[str, Asymmetry]] = field(default_factory=dict)
    joint: dict[str, dict[str, Joint]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def add(
        self,
        label: str,
        found: Mapping[str, np.ndarray],
        names: Sequence[str],
        coordinates: Sequence[str],
        draws: int,
    ) -> None:
        """Take in the simulations of a method, as `examine.Examiner` gives them."""
        sims, level = len(found["finite"]), self.settings.level
        finite = found["finite"]
        told = self.notes.setdefault(label, [])
        if not finite.all():
            told.append(f"draws not finite in {int((~finite).sum())} of {sims}")
        diverged = int(np.sum(found["diverging"] > 0))
        if diverged:
            told.append(f"divergences in {diverged} of {sims}")
        if finite.sum() < ENOUGH:
            self.failed[label] = f"{int(finite.sum())} simulations have finite draws"
            return
        random = np.random.default_rng([self.settings.seed, zlib.crc32(label.encode())])
        ties = random.random(found["below"].shape)
        kept = [
            i
            for i in range(len(names))
            if not np.all(found["equal"][finite][:, i] == draws)
        ]

        def take(prefix: str, use: np.ndarray) -> dict[str, np.ndarray]:
            below, exact = found[f"{prefix}below"], found[f"{prefix}exact"]
            equal = np.where(below >= 0, found["equal"] if not prefix else 0, 0)
            u = (below + ties * (equal + 1)) / (draws + 1)
            u = np.where(np.isfinite(exact), exact, u)
            return {names[i]: u[use, i] for i in kept if np.all(below[use, i] >= 0)}

        self.pits[label] = take("", finite)
        self.rows[label] = judge(self.pits[label], level)
        if "lr strict" in found:
            strict = finite & found["lr strict"]
            self.refused[label] = int(sims - strict.sum())
            stretched = take("lr ", strict) if strict.sum() >= ENOUGH else {}
            if stretched:
                self.pits[label + RESPONSE] = stretched
                self.rows[label + RESPONSE] = judge(stretched, level)
                if not np.array_equal(strict, finite):
                    own = {name: take("", strict)[name] for name in stretched}
                    self.pits[label + SAME] = own
                    self.rows[label + SAME] = judge(own, level)
        if "p" in found:
            self.asymmetry[label] = asymmetries(
                found["p"][finite],
                found["centre"][finite],
                found["cost"][finite],
                coordinates,
                level,
            )

    def add_joint(
        self, label: str, found: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> None:
        """Take in the chains of Geweke's test."""
        p = {
            name: float(ks_2samp(found["end"][:, i], found["fresh"][:, i]).pvalue)
            for i, name in enumerate(names)
            if np.ptp(found["fresh"][:, i]) > 0
        }
        if not np.all(np.isfinite(found["end"])):
            p = dict.fromkeys(p, 0.0)
            self.notes.setdefault(label, []).append("Geweke: a chain is not finite")
        kept = kept_by_holm(p, self.settings.level)
        self.joint[label] = {name: Joint(p[name], kept[name]) for name in p}

    def uniform(self, label: str) -> bool:
        """Whether every quantity of a row label is uniform."""
        return all(row.uniform for row in self.rows[label].values())


def asymmetries(
    p: np.ndarray,
    centre: np.ndarray,
    cost: np.ndarray,
    coordinates: Sequence[str],
    level: float,
) -> dict[str, Asymmetry]:
    """VSBC, once the truth's components are matched to q's.

    Components have no names, so a bias that draws two of them together would cancel
    over both: they are told apart by their rank in q, a function of the data alone.

    Args:
        p: Q_j(theta*_k) (sims, F, k, j).
        centre: q's means (sims, F, j).
        cost: of matching k to j (sims, k, j).
        coordinates: F labels.
        level: the family-wise error rate.
    """
    order = np.array([linear_sum_assignment(c.T)[1] for c in cost])
    matched = np.take_along_axis(p, order[:, None, None, :], axis=2)[:, :, 0, :]
    ranks = np.argsort(centre, axis=-1)
    by_rank = np.take_along_axis(matched, ranks, axis=-1)
    values = {}
    for f, label in enumerate(coordinates):
        for rank in range(by_rank.shape[-1]):
            end = f" {rank + 1}" if by_rank.shape[-1] > 1 else ""
            values[f"{label}{end}"] = by_rank[:, f, rank]
    signed = {
        name: float(wilcoxon(u - 0.5).pvalue) if np.any(u != 0.5) else 1.0
        for name, u in values.items()
    }
    kept = kept_by_holm(signed, level)
    return {
        name: Asymmetry(
            u,
            float(u.mean() - 0.5),
            signed[name],
            float(ks_2samp(u, 1 - u).pvalue),
            kept[name],
        )
        for name, u in values.items()
    }
