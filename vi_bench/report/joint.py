"""What a comparison found beside its verdicts: two tables, and lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.markup import escape
from rich.table import Table

from vi_bench.comparison import Comparison
from vi_bench.comparison.elpd import Elpd, difference
from vi_bench.comparison.joint import Discrepancy
from vi_bench.report.style import NOTHING, bare_table

COLUMNS = {
    "sliced": "sliced W1\n(floor)",
    "transport": "W1\n(floor)",
    "energy": "energy distance\n(floor; p)",
    "mmd": "MMD^2\n(floor; p)",
    "classifier": "classifier\n(floor)",
}
"""Joint measures by name, as headed."""


def joint_table(found: Comparison) -> Table | None:
    """A row per method: distances to the reference in all quantities at once."""
    known = found.examination
    if not known.joint and not known.similarity:
        return None
    drawn = bare_table(
        f"all {len(known.columns)} quantities at once, against {found.reference}; "
        "in brackets the reference against itself"
    )
    drawn.add_column("method", no_wrap=True)
    for name in (*COLUMNS.values(), "co-clustering\n(floor)", "draws\na side"):
        drawn.add_column(name, justify="right")
    for label in found.samples:
        joint, similar = known.joint.get(label), known.similarity.get(label)
        if joint is None and similar is None:
            continue
        drawn.add_row(
            escape(label),
            *(_against_floor(getattr(joint, name, None)) for name in COLUMNS),
            _against_floor(similar),
            f"{joint.used}" if joint else NOTHING,
        )
    return drawn


def prediction_table(found: Comparison) -> Table | None:
    """A row per method: expected log predictive density, by PSIS-LOO and held out."""
    known = found.examination
    kinds = {
        f"PSIS-LOO, {_rows(known.loo)} rows": known.loo,
        f"held out, {_rows(known.held_out)} rows": known.held_out,
    }
    kinds = {title: scores for title, scores in kinds.items() if scores}
    if not kinds:
        return None
    drawn = bare_table("log predictive density, nats; Monte-Carlo errors in brackets")
    drawn.add_column("method", no_wrap=True)
    for title in kinds:
        drawn.add_column(title, justify="right")
        drawn.add_column(f"minus {found.reference}'s", justify="right")
    if known.loo:
        drawn.add_column("worst k-hat", justify="right")
    for label in found.samples:
        cells = []
        for scores in kinds.values():
            own, reference = scores.get(label), scores.get(found.reference)
            cells.append(_elpd(own) if own else NOTHING)
            if own and reference and label != found.reference:
                cells.append(_apart(own, reference))
            else:
                cells.append(NOTHING)
        if known.loo:
            own = known.loo.get(label)
            cells.append(f"{own.worst_khat:.2f}" if own else NOTHING)
        drawn.add_row(escape(label), *cells)
    return drawn


def joint_lines(found: Comparison) -> Iterator[str]:
    """What the tables do not tell: draws that are too few, and k-hat's meaning."""
    known = found.examination
    for label, joint in known.joint.items():
        if np.isnan(joint.sliced.value):
            yield f"{label}: too few effective draws for joint distances"
    used = {joint.matched for joint in known.joint.values() if joint.matched}
    if used:
        counts = " to ".join(str(n) for n in sorted({min(used), max(used)}))
        yield f"W1 in all quantities at once is of {counts} draws a side"
    for label, importance in found.importance.items():
        yield f"{label}: {importance.sentence}"


def _rows(scores: dict[str, Elpd]) -> int:
    return max((s.points.size for s in scores.values()), default=0)


def _against_floor(d: Discrepancy | None) -> str:
    if d is None or np.isnan(d.value):
        return NOTHING
    error = "" if d.se is None else f"±{d.se:.1g}"
    chance = "" if d.p_value is None else f"; {d.p_value:.2g}"
    return f"{d.value:.3g}{error} ({d.floor:.2g}{chance})"


def _elpd(found: Elpd) -> str:
    total = found.total
    return f"{total.value:.2f}±{total.se:.2f} ({found.mc_error:.2g})"


def _apart(own: Elpd, reference: Elpd) -> str:
    apart = difference(own, reference)
    noise = np.hypot(own.mc_error, reference.mc_error)
    return f"{apart.value:+.3f}±{apart.se:.3f} ({noise:.2g})"
