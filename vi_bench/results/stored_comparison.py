"""A comparison as it is stored: as parts of a run's record, or on its own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from vi_bench.comparison import Comparison
from vi_bench.comparison.elpd import difference
from vi_bench.comparison.measures import Distance, Summary
from vi_bench.results.summary_schema import SCHEMA, ComparisonRecord
from vi_bench.runtime.strict_json import plain


def evidence(found: Comparison | None) -> dict[str, Any] | None:
    """Bounds on log p(X), estimates, gaps, and bounds that violate their order."""
    if found is None or found.evidence is None:
        return None
    ladder = found.evidence
    return dataclasses.asdict(ladder) | {"violations": ladder.violations()}


def summarised(s: Summary) -> dict[str, float]:
    """A quantity's summary as plain values."""
    return {
        "mean": s.mean.value,
        "mean_mcse": s.mean.se,
        "sd": s.sd.value,
        "sd_mcse": s.sd.se,
        "ess_bulk": s.ess_bulk,
        "ess_tail": s.ess_tail,
        "r_hat": s.r_hat,
    }


def comparison_record(found: Comparison) -> ComparisonRecord:
    """The record of a comparison without a run, see docs/summary.md."""
    return ComparisonRecord.model_validate(
        plain(
            {
                "schema": SCHEMA,
                "reference": found.reference,
                "note": found.note,
                "posteriors": {k: posterior(found, k) for k in found.summaries},
                "comparisons": comparisons(found),
                "joint": joint(found),
                "verdicts": {
                    k: dataclasses.asdict(v) for k, v in found.verdicts.items()
                },
            }
        )
    )


def posterior(found: Comparison, label: str) -> dict[str, Any]:
    """Summaries of one method's draws: relabelling, modes, elpd, quantities."""
    how = found.relabellings[label]
    return {
        "draws": how.margin.shape,
        "relabelling": {
            "moved": how.moved,
            "switching": how.switching,
            "ambiguous": how.ambiguous,
            "identifiable": how.identifiable,
        },
        "modes": [dataclasses.asdict(mode) for mode in found.modes[label]],
        "elpd": elpd(found, label),
        "quantities": {n: summarised(s) for n, s in found.summaries[label].items()},
    }


def joint(found: Comparison | None) -> dict[str, Any]:
    """Label -> joint distances from the reference, over all columns."""
    if found is None:
        return {}
    known = found.examination
    return {
        label: dataclasses.asdict(distances)
        | {"columns": known.columns}
        | (
            {"similarity": dataclasses.asdict(known.similarity[label])}
            if label in known.similarity
            else {}
        )
        for label, distances in known.joint.items()
    }


def elpd(found: Comparison, label: str) -> dict[str, Any]:
    """Expected log predictive densities by leave-one-out and on held-out rows."""
    entry = {}
    for kind in ("loo", "held_out"):
        scores = getattr(found.examination, kind)
        known, reference = scores.get(label), scores.get(found.reference)
        apart = known is not None and reference is not None and label != found.reference
        if known is not None:
            entry[kind] = {
                "elpd": known.total.value,
                "se": known.total.se,
                "mc_error": known.mc_error,
                "rows": known.points.size,
                "worst_khat": known.worst_khat,
                "p_loo": known.p_loo,
                "minus_reference": (
                    dataclasses.asdict(difference(known, reference)) if apart else None
                ),
                "minus_reference_mc_error": (
                    math.hypot(known.mc_error, reference.mc_error) if apart else None
                ),
            }
    return entry


def comparisons(found: Comparison | None) -> list[dict[str, Any]]:
    """Differences from the reference, a row per method and quantity."""
    if found is None:
        return []
    return [
        {"method": label, "quantity": name, "judged": name in found.judged} | _row(d)
        for label, distances in found.distances.items()
        for name, d in distances.items()
    ]


def _row(d: Distance) -> dict[str, float]:
    return {
        "mean_difference": d.mean_difference.value,
        "mean_difference_se": d.mean_difference.se,
        "sd_ratio": d.sd_ratio.value,
        "sd_ratio_se": d.sd_ratio.se,
        "w1": d.w1.value,
        "w1_se": d.w1.se,
        "w1_floor": d.w1_floor,
    } | (
        {
            f"{name}_difference{end}": number
            for name, tail in zip(("q05", "q95"), d.tails, strict=True)
            for end, number in (("", tail.value), ("_se", tail.se))
        }
        if d.tails is not None
        else {}
    )
