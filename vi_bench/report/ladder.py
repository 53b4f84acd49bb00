"""The evidence, how far the bounds are from it, and why: a table, and lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table

from vi_bench.comparison.measures import Estimate
from vi_bench.report.style import NOTHING, bare_table

if TYPE_CHECKING:
    from vi_bench.result import Result


def evidence_table(result: Result) -> Table | None:
    """A row per method: log p(X), or bounds on it and what their gap consists of."""
    found = result.comparison.evidence if result.comparison else None
    if found is None:
        return None
    measured = f", gaps by {found.trusted}" if found.trusted else ""
    drawn = bare_table(f"log p(X), nats{measured}")
    drawn.add_column("method", no_wrap=True)
    for name in (
        "log p(X)",
        "bound, q\nsymmetrised",
        "importance\nweighted",
        "lowest bound's\ngap",
        "of it:\noptimisation",
        "label\nsymmetry",
        "mean\nfield",
    ):
        drawn.add_column(name, justify="right")
    for label in dict.fromkeys([*found.bounds, *found.evidence]):
        bounds, gap = found.bounds.get(label), found.gaps.get(label)
        drawn.add_row(
            escape(label),
            _cell(found.evidence.get(label)),
            _cell(bounds.symmetrised if bounds else None),
            _cell(bounds.importance_weighted if bounds else None),
            _cell(gap.total if gap else None),
            _cell(Estimate(gap.optimisation, 0.0) if gap else None),
            _cell(gap.symmetry if gap else None),
            _cell(gap.mean_field if gap else None),
        )
    return drawn


def evidence_lines(result: Result) -> Iterator[str]:
    """Bounds and estimates that cannot all be right, and what is not given."""
    found = result.comparison.evidence if result.comparison else None
    if found is None:
        return
    for sentence in found.violations():
        yield (
            f"the bounds violate their ordering, a bug or a wrong evidence estimate: "
            f"{sentence}"
        )
    for label, why in found.withheld.items():
        yield f"nothing is measured from log p(X) by {label}: {why}"
    if found.no_gaps:
        given = "" if found.gaps else "gaps to log p(X) are not given: "
        yield f"{given}{found.no_gaps}"


def _cell(e: Estimate | None) -> str:
    # an error that is rounding is none
    return NOTHING if e is None else with_error(e.value, e.se if e.se > 1e-12 else 0.0)


def with_error(value: float | None, error: float | None) -> str:
    """A bound in nats; an error of 0 means that it is exact."""
    if value is None or not np.isfinite(value):
        return NOTHING
    if not error:
        return f"{value:.3f}"
    return f"{value:.3f}±{error:.3f}"
