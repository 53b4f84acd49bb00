"""The results of a calibration: ranks of the truth as arrays, and tests of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import ks_2samp, wilcoxon

from vi_bench.calibration.band import finds, least_p
from vi_bench.calibration.settings import Settings
from vi_bench.calibration.uniformity import Row, decides, judge
from vi_bench.calibration.uniformity import kept as kept_by_holm

RESPONSE = "+lr"
"""Suffix of a method's label for its q stretched to linear response's sds."""

SAME = " (same)"
"""Suffix for the method itself on the simulations that have linear response."""

ENOUGH = 20
"""Fewest simulations for a test."""

ROUNDING = 1e-9
"""Range, relative to a quantity's size, up to which it counts as constant."""


@dataclass(frozen=True)
class Asymmetry:
    """VSBC (Yao et al. 2018) of a coordinate of the component with a given rank in q.

    Attributes:
        p: Q(theta*), one per simulation (sims,).
        shift: mean of p minus 1/2; negative where q's mean is too high.
        wilcoxon_p: p-value of the signed-rank test of p - 1/2, valid as the simulations
            are independent.
        ks_p: p-value of the two-sample test of p and 1 - p, as in Yao et al. (2018).
        symmetric: whether Holm's procedure over a method's coordinates accepts symmetry
            by the signed-rank test.
    """

    p: np.ndarray
    shift: float
    wilcoxon_p: float
    ks_p: float
    symmetric: bool


@dataclass(frozen=True)
class Joint:
    """Geweke's test of one quantity: p-value, and whether Holm's procedure accepts."""

    p: float
    kept: bool


@dataclass
class Calibration:
    """The results of a calibration.

    A row label is a method's label, with `RESPONSE` or `SAME` behind it or without.

    Attributes:
        settings: the settings.
        pits: row label -> quantity -> PITs (sims,), of the simulations used.
        rows: row label -> quantity -> tests and summaries of its calibration.
        lost: row label -> number of simulations left out, as draws are not finite.
        refused: method -> number of simulations where linear response was refused.
        asymmetry: method -> coordinate, with the component's rank -> VSBC.
        joint: method -> quantity -> Geweke's test.
        notes: method -> further remarks.
        skipped: method -> why it does not apply.
        failed: method -> why it failed.
        environment: device, versions and settings that the numbers depend on.
        folder: the folder it was written to, or None.
    """

    settings: Settings
    pits: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
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
        """Add and test the simulations of a method.

        Args:
            label: label of the method.
            found: results of `examine.Examiner`, over simulations (sims, ...).
            names: names of the Q quantities.
            coordinates: names of the F coordinates of VSBC.
            draws: number of draws among which the truth is ranked.
        """
        finite = found["finite"]
        self._note(label, found)
        if finite.sum() < ENOUGH:
            self.failed[label] = f"{int(finite.sum())} simulations have finite draws"
            return
        random = np.random.default_rng([self.settings.seed, zlib.crc32(label.encode())])
        ranks = _Ranks(found, names, draws, random.random(found["below"].shape))
        if not self._judge(label, ranks.pits(finite), finite):
            return
        if "lr strict" in found:
            self._add_response(label, ranks, finite)
        if "p" in found:
            self._add_sides(label, found, coordinates)

    def _note(self, label: str, found: Mapping[str, np.ndarray]) -> None:
        sims, told = len(found["finite"]), self.notes.setdefault(label, [])
        lost = int(np.sum(~found["finite"]))
        if lost:
            told.append(f"draws not finite in {lost} of {sims}")
        diverged = int(np.sum(found["diverging"] > 0))
        if diverged:
            told.append(f"divergences in {diverged} of {sims}")

    def _judge(
        self, label: str, pits: dict[str, np.ndarray], finite: np.ndarray
    ) -> bool:
        """Test the PITs of a row label; returns whether there are enough for that."""
        level = self.settings.level
        if not pits:
            self.failed[label] = "no quantity varies, so nothing is tested"
            return False
        size = len(next(iter(pits.values())))
        if not decides(least_p(size), len(pits), level):
            self.failed[label] = (
                f"{size} simulations decide nothing at level {level:g} of {len(pits)} "
                "quantities"
            )
            return False
        self.pits[label], self.rows[label] = pits, judge(pits, level)
        self.lost[label] = int(np.sum(~finite))
        return True

    def _add_response(self, label: str, ranks: _Ranks, finite: np.ndarray) -> None:
        """Add rows for q stretched to linear response's sds, where it has them."""
        strict = finite & ranks.found["lr strict"]
        self.refused[label] = int(len(strict) - strict.sum())
        if strict.sum() < ENOUGH:
            return
        for name, missing in ranks.without_response(strict).items():
            self.notes[label].append(
                f"{name} is left out of linear response, which has no sd of it in "
                f"{missing} of {int(strict.sum())}"
            )
        stretched = ranks.stretched(strict)
        if not stretched or not self._judge(label + RESPONSE, stretched, finite):
            return
        if not np.array_equal(strict, finite):
            own = ranks.pits(strict)
            self._judge(label + SAME, {name: own[name] for name in stretched}, finite)

    def _add_sides(
        self, label: str, found: Mapping[str, np.ndarray], coordinates: Sequence[str]
    ) -> None:
        """Add VSBC, if there are enough simulations for a rejection."""
        finite, level = found["finite"], self.settings.level
        p, centre, cost = (found[name][finite] for name in ("p", "centre", "cost"))
        sides = asymmetries(p, centre, cost, coordinates, level)
        least = float(wilcoxon(np.arange(1.0, finite.sum() + 1)).pvalue)
        if decides(least, len(sides), level):
            self.asymmetry[label] = sides
        else:
            self.notes[label].append(
                f"VSBC: {int(finite.sum())} simulations decide nothing at level "
                f"{level:g} of {len(sides)} coordinates"
            )

    def add_joint(
        self, label: str, found: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> None:
        """Add Geweke's test: ends of chains against fresh draws, (chains, Q) each."""
        end, fresh, level = found["end"], found["fresh"], self.settings.level
        told = self.notes.setdefault(label, [])
        chains = len(end)
        p = {
            name: float(ks_2samp(end[:, i], fresh[:, i]).pvalue)
            for i, name in enumerate(names)
            if _varies(np.concatenate([end[:, i], fresh[:, i]]))
        }
        least = float(ks_2samp(np.zeros(chains), np.ones(chains)).pvalue)
        if not p:
            told.append("Geweke: no quantity varies, so nothing is tested")
            return
        if not decides(least, len(p), level):
            told.append(
                f"Geweke: {chains} chains decide nothing at level {level:g} of "
                f"{len(p)} quantities"
            )
            return
        for whose, values in (("a chain", end), ("a draw from the prior", fresh)):
            if not np.all(np.isfinite(values)):
                p = dict.fromkeys(p, 0.0)
                told.append(f"Geweke: {whose} is not finite")
        kept = kept_by_holm(p, level)
        self.joint[label] = {name: Joint(p[name], kept[name]) for name in p}

    def uniform(self, label: str) -> bool:
        """Whether a row label has no quantity rejected and no simulation left out."""
        rows = self.rows[label].values()
        return not self.lost[label] and all(row.uniform for row in rows)

    def finds(self, label: str) -> float:
        """The dispersion of a single quantity that is found in 9 of 10 calibrations.

        It is over 1, and known to 1 %; infinite if it is over 100.
        """
        rows = self.rows[label]
        sims = next(iter(rows.values())).sims
        return finds(sims, self.settings.level / len(rows))


@dataclass(frozen=True)
class _Ranks:
    """The ranks of the truth in a method's simulations, as PITs.

    Attributes:
        found: results of `examine.Examiner`, over simulations (sims, ...).
        names: names of the Q quantities.
        draws: number of draws among which the truth is ranked.
        ties: uniform random numbers (sims, Q) that break ties.
    """

    found: Mapping[str, np.ndarray]
    names: Sequence[str]
    draws: int
    ties: np.ndarray

    def pits(self, use: np.ndarray) -> dict[str, np.ndarray]:
        """Quantity -> PITs of the simulations in the mask `use`; constants left out."""
        return self._of("", self.found["equal"], use)

    def stretched(self, use: np.ndarray) -> dict[str, np.ndarray]:
        """The same under linear response, of quantities that it has in all of them."""
        equal = np.zeros_like(self.found["equal"])
        absent = np.any(self.found["lr below"][use] < 0, axis=0)
        pits = self._of("lr ", equal, use)
        return {
            name: pits[name]
            for name, out in zip(self.names, absent, strict=True)
            if name in pits and not out
        }

    def without_response(self, use: np.ndarray) -> dict[str, int]:
        """Quantity -> simulations in which linear response lacks it, if not in all."""
        absent = np.sum(self.found["lr below"][use] < 0, axis=0)
        return {
            name: int(number)
            for name, number in zip(self.names, absent, strict=True)
            if 0 < number < use.sum()
        }

    def _of(
        self, prefix: str, equal: np.ndarray, use: np.ndarray
    ) -> dict[str, np.ndarray]:
        below, exact = self.found[f"{prefix}below"], self.found[f"{prefix}exact"]
        u = (below + self.ties * (equal + 1)) / (self.draws + 1)
        u = np.where(np.isfinite(exact), exact, u)
        constant = np.all(self.found["equal"][self.found["finite"]] == self.draws, 0)
        return {name: u[use, i] for i, name in enumerate(self.names) if not constant[i]}


def _varies(values: np.ndarray) -> bool:
    """Whether values vary by more than rounding; True if they are not finite."""
    return not np.ptp(values) <= ROUNDING * np.abs(values).max()


def asymmetries(
    p: np.ndarray,
    centre: np.ndarray,
    cost: np.ndarray,
    coordinates: Sequence[str],
    level: float,
) -> dict[str, Asymmetry]:
    """VSBC, with the truth's components matched to q's (Yao et al. 2018).

    Components have no fixed labels, so a bias that draws two of them together would
    cancel; they are labelled by their rank in q, which depends on the data only.

    Args:
        p: Q_j(theta*_k) (sims, F, k, j).
        centre: q's means (sims, F, j).
        cost: cost of matching k to j (sims, k, j).
        coordinates: names of the F coordinates.
        level: family-wise error rate.

    Returns:
        Coordinate, with the component's rank from 1 -> its test.
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
