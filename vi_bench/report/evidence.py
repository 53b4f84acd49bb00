"""Figures of the evidence ladder, and of standard deviations side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vi_bench.comparison.evidence import Ladder
from vi_bench.comparison.measures import Estimate
from vi_bench.report.deviations import quantities, responses
from vi_bench.report.style import COLOURS, MARKERS

if TYPE_CHECKING:
    from vi_bench.result import Result

SHOWN = 16
"""Quantities in the figure of standard deviations."""


def ladder(result: Result) -> Figure | None:
    """Every bound and estimate of log p(X), and what the gaps consist of."""
    found = result.comparison.evidence if result.comparison else None
    if found is None:
        return None
    rows = len(found.bounds) + len(found.evidence)
    figure = Figure(figsize=(9.2, 1.8 + 0.45 * rows), layout="constrained")
    if found.gaps:
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        _gaps(right, found)
    else:
        left = figure.subplots()
    zero = _zero(found)
    _rungs(left, found, zero)
    figure.suptitle(f"{result.spec.name}: bounds on log p(X), and estimates of it")
    return figure


def _zero(found: Ladder) -> tuple[float, str]:
    """Where the axis begins: log p(X), or else the highest bound."""
    if found.trusted is not None:
        value = found.evidence[found.trusted].value
        return value, f"nats above log p(X) = {value:.3f} ({found.trusted})"
    value = max(e.value for b in found.bounds.values() for e in b.rungs().values())
    return value, f"nats above the highest bound, {value:.3f}"


def _rungs(axes: Axes, found: Ladder, zero: tuple[float, str]) -> None:
    labels = [*found.bounds, *(n for n in found.evidence if n not in found.bounds)]
    at = {label: -i for i, label in enumerate(labels)}
    names: list[str] = []
    for label, bounds in found.bounds.items():
        rungs = bounds.rungs()
        values = [e.value - zero[0] for e in rungs.values()]
        axes.plot(values, [at[label]] * len(values), color="0.75", zorder=0)
        for name, e in rungs.items():
            _point(axes, e, zero[0], at[label], name, name not in names)
            names.append(name)
    for label, e in found.evidence.items():
        _point(axes, e, zero[0], at[label], "log p(X)", "log p(X)" not in names)
        names.append("log p(X)")
    if found.trusted is not None:
        spread = 2 * found.evidence[found.trusted].se
        axes.axvspan(-spread, spread, color="0.9", zorder=-1)
        axes.axvline(0, color="0.6", linewidth=1, zorder=-1)
    axes.set_yticks(list(at.values()), list(at))
    axes.set_ylim(min(at.values()) - 0.6, 0.6)
    axes.set_xlabel(zero[1])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=3, frameon=False)


def _point(
    axes: Axes, e: Estimate, zero: float, y: float, name: str, first: bool
) -> None:
    colour, marker = MARKERS[name]
    axes.errorbar(
        e.value - zero,
        y,
        xerr=2 * e.se or None,
        fmt=marker,
        color=colour,
        markersize=16 if marker == "|" else 6,
        capsize=3,
        label=name if first else None,
    )


def _gaps(axes: Axes, found: Ladder) -> None:
    """Stacked bars: what each gap consists of, in nats, with the total's error."""
    left = dict.fromkeys(found.gaps, 0.0)
    at = {label: -i for i, label in enumerate(found.gaps)}
    gaps = found.gaps.values()
    parts = {
        "optimisation": [g.optimisation for g in gaps],
        "label symmetry": [g.symmetry.value if g.symmetry else 0.0 for g in gaps],
        "mean field": [max(g.mean_field.value, 0.0) for g in gaps],
    }
    for i, (part, widths) in enumerate(parts.items()):
        axes.barh(
            list(at.values()),
            widths,
            0.6,
            left=list(left.values()),
            color=COLOURS[i],
            label=part,
        )
        for label, width in zip(found.gaps, widths, strict=True):
            left[label] += width
    for label, gap in found.gaps.items():
        axes.errorbar(
            gap.total.value, at[label], xerr=2 * gap.total.se or None, color="black"
        )
    axes.set_yticks(list(at.values()), list(at))
    axes.set_ylim(min(at.values()) - 0.6, 0.6)
    axes.set_xlabel("gap to log p(X), nats")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, frameon=False)


def deviations(result: Result) -> Figure | None:
    """Posterior sds over the reference's: mean field, linear response, the others."""
    found, names = result.comparison, quantities(result)[:SHOWN]
    if found is None or not names:
        return None
    trusted = found.summaries[found.reference]
    (label, response), *_ = responses(result).items()
    figure = Figure(figsize=(7.2, 1.6 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    at = -np.arange(len(names))
    unit = np.array([trusted[n].sd.value for n in names])
    series = {f"{label}, mean field": response.mean_field_sd} | {
        f"{label}, linear response": response.sd
    }
    for i, (name, sds) in enumerate(series.items()):
        values = np.array([sds[n] for n in names]) / unit
        axes.plot(values, at + 0.15 * (1 - i), "os"[i], color=COLOURS[i], label=name)
    error = np.array([trusted[n].sd.se for n in names]) / unit
    axes.errorbar(
        np.ones(len(names)),
        at - 0.15,
        xerr=2 * error,
        fmt="|",
        color="black",
        label=f"{found.reference} (reference, 2 errors)",
    )
    marked = [f"{n} (!)" if response.unreliable(n) else n for n in names]
    axes.set_yticks(at, marked)
    axes.axvline(1, color="0.8", linewidth=1, zorder=-1)
    axes.set_xlabel("posterior sd over the reference's")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    note = "; (!) its component overlaps another" if response.overlapping else ""
    axes.set_title(f"{result.spec.name}: standard deviations{note}", fontsize=11)
    return figure
