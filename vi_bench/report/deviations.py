"""Posterior sds side by side, those corrected by linear response among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from vi_bench.comparison.measures import Estimate
from vi_bench.report.style import bare_table
from vi_bench.response import LinearResponse

if TYPE_CHECKING:
    from vi_bench.result import Result

MOST = 16
"""Rows of the table."""


def responses(result: Result) -> dict[str, LinearResponse]:
    """Label -> linear response, of methods that have one."""
    return {
        label: run.response
        for label, run in result.runs.items()
        if run.response is not None and not run.response.refused
    }


def quantities(result: Result) -> list[str]:
    """What every linear response and the reference know: components, then averages."""
    found, known = result.comparison, responses(result)
    if found is None or not known:
        return []
    trusted = found.summaries[found.reference]
    labels = set.intersection(*(set(r.labels) for r in known.values()))
    return [n for n in trusted if n in labels and trusted[n].sd.value > 0]


def deviations_table(result: Result) -> Table | None:
    """A row per quantity: sds by mean field, linear response and every other method."""
    found, known = result.comparison, responses(result)
    names = quantities(result)
    if found is None or not names:
        return None
    more = f", the first {MOST} of {len(names)}" if len(names) > MOST else ""
    drawn = bare_table(f"posterior standard deviations{more}")
    drawn.add_column("quantity", no_wrap=True)
    for label in known:
        drawn.add_column(f"{escape(label)}\nmean field", justify="right")
        drawn.add_column(f"{escape(label)}\nlinear response", justify="right")
    others = [label for label in found.summaries if label not in known]
    for label in others:
        drawn.add_column(escape(label), justify="right")
    for name in names[:MOST]:
        cells = []
        for response in known.values():
            doubt = " (!)" if response.unreliable(name) else ""
            cells += [
                f"{response.mean_field_sd[name]:.4g}",
                f"{response.sd[name]:.4g}{doubt}",
            ]
        cells += [_sd(found.summaries[label][name].sd) for label in others]
        drawn.add_row(escape(name), *cells)
    return drawn


def _sd(e: Estimate) -> str:
    return f"{e.value:.4g}±{e.se:.1g}"
