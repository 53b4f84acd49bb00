"""The interactive figures of a sweep, for Plotly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vi_bench.reports.interactive import (
    Picture,
    Plot,
    axis_of,
    colours,
    numbers_of,
    plot_of,
)
from vi_bench.reports.tables import Number
from vi_bench.sweeps.overview.analysis import Phase, growths, phases, rankings
from vi_bench.sweeps.overview.stored import (
    DIRECTION,
    MEASURES,
    SHOWN,
    Measure,
    StoredSweep,
    averaged,
    few,
    wide,
)

MOST = 60
"""Largest number of figures in one list of choices."""


def sweep_pictures(sweep: StoredSweep) -> dict[str, Picture]:
    """Name -> every figure that applies to a sweep."""
    drawn = (
        phase_diagrams(sweep),
        curves(sweep),
        ranks(sweep),
        scaling(sweep),
        pareto(sweep),
    )
    return {p.name: p for p in drawn if p.plots}


def phase_diagrams(sweep: StoredSweep) -> Picture:
    """Errors of one method over two factors, by every measure."""
    found = phases(sweep)
    plots = {
        f"{phase.name}: {measure.title}": _phase(sweep, phase, measure)
        for phase in found
        for measure in SHOWN
    }
    axes = f" over {found[0].x} and {found[0].y}" if found else ""
    return Picture(
        "phases",
        f"phase diagram{axes}",
        dict(list(plots.items())[:MOST]),
        "Means over repetitions with standard errors; in brackets how many cells' "
        "verdicts say `differs`.",
        "of",
    )


def _phase(sweep: StoredSweep, phase: Phase, measure: Measure) -> Plot:
    xs, ys = sweep.factors[phase.x], sweep.factors[phase.y]
    value, se, cells, differs = (
        phase.field(name, xs, ys)
        for name in (measure.name, f"{measure.name}_se", "cells", "differs")
    )
    text = [
        [
            f"{Number(v, e)}<br>({d:.0f} of {n:.0f})" if n == n else ""
            for v, e, n, d in zip(*rows, strict=True)
        ]
        for rows in zip(value, se, cells, differs, strict=True)
    ]
    data: Plot = {
        "type": "heatmap",
        "x": [f"{x:g}" for x in xs],
        "y": [f"{y:g}" for y in ys],
        "z": [numbers_of(row) for row in value],
        "text": text,
        "texttemplate": "%{text}",
        "hovertemplate": "%{x}, %{y}: %{text}<extra></extra>",
        "colorscale": "Viridis",
        "xgap": 1,
        "ygap": 1,
    }
    if measure is DIRECTION:
        far = float(np.nanmax(np.abs(value - 1), initial=0.05))
        data |= {"colorscale": "RdBu", "zmin": 1 - far, "zmax": 1 + far}
    return plot_of(
        [data],
        xaxis=axis_of(phase.x, type="category"),
        yaxis=axis_of(phase.y, type="category"),
        height=160 + 60 * len(ys),
    )


def curves(sweep: StoredSweep) -> Picture:
    """Errors over one factor, a line per method."""
    return Picture(
        "curves",
        "errors along a factor",
        dict(list(_curves(sweep))[:MOST]),
        "Means over repetitions with 95 % intervals (Student's t), each by itself; the "
        "dotted line is what a method that is right has.",
        "of",
    )


def _curves(sweep: StoredSweep) -> Iterator[tuple[str, Plot]]:
    shade = colours(sweep.methods)
    for factor in sweep.numeric():
        for where, rows in sweep.slices([factor]):
            rows = rows.dropna(subset=[factor])
            if rows[factor].nunique() < 2:
                continue
            means = averaged(rows, ["method", factor]).sort_values(factor)
            for measure in MEASURES:
                data = [
                    _curve(str(m), own[factor], own, measure.name, shade[str(m)])
                    for m, own in means.groupby("method", sort=False)
                ]
                name = f"{measure.title}, by {factor}" + (f", {where}" if where else "")
                yield (
                    name,
                    plot_of(
                        data,
                        xaxis=_ticked(factor, sweep.factors[factor]),
                        yaxis=axis_of(measure.title),
                        shapes=[_level(measure.exact)],
                    ),
                )


def _ticked(factor: str, levels: Sequence[float]) -> Plot:
    """The axis of a factor; logarithmic if its levels span a factor of over ten."""
    ticks = {"tickvals": numbers_of(levels)} if few(levels) else {}
    return axis_of(factor, type="log" if wide(levels) else "-", **ticks)


def _curve(label: str, x: Any, rows: pd.DataFrame, column: str, colour: str) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label,
        "x": numbers_of(x),
        "y": numbers_of(rows[column]),
        "error_y": {"type": "data", "array": numbers_of(rows[f"{column}_half"])}
        if f"{column}_half" in rows
        else {},
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 8},
    }


def _level(y: float) -> Plot:
    line: Plot = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return line | {"line": {"dash": "dot", "color": "#888"}}


def ranks(sweep: StoredSweep) -> Picture:
    """Mean ranks with their intervals, and the critical difference."""
    shade = colours(sweep.methods)
    plots = {}
    for one in rankings(sweep):
        labels = list(one.ranks)
        found = list(one.ranks.values())
        means = [rank.mean for rank in found]
        data: Plot = {
            "type": "scatter",
            "mode": "markers",
            "x": numbers_of(means),
            "y": labels,
            "error_x": {
                "type": "data",
                "array": numbers_of([rank.high - rank.mean for rank in found]),
                "arrayminus": numbers_of([rank.mean - rank.low for rank in found]),
                "color": "#888",
            },
            "marker": {"color": [shade[label] for label in labels], "size": 12},
        }
        best = means[0]
        bar: Plot = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1}
        bar |= {"x0": best, "x1": best + one.critical, "layer": "below"}
        bar |= {"line": {"width": 0}, "fillcolor": "rgba(128,128,128,0.2)"}
        plots[one.measure] = plot_of(
            [data],
            xaxis=axis_of(f"mean rank over {one.blocks} data sets"),
            yaxis=axis_of("", autorange="reversed"),
            shapes=[bar],
            height=140 + 50 * len(labels),
        )
    return Picture(
        "ranks",
        "mean ranks of the methods",
        plots,
        "1 is the best; bars are 95 % bootstrap intervals over data sets, and values "
        "that cannot be told from an exact method's are ties. Methods within the band "
        "are not told apart from the first (Nemenyi's critical difference, 5 %).",
        "by",
    )


def scaling(sweep: StoredSweep) -> Picture:
    """Median seconds of a run against each size, with the exponents."""
    shade = colours(sweep.methods)
    exponents = {(g.method, g.size): g for g in growths(sweep)}
    plots = {}
    for size in sweep.sizes:
        timed = sweep.table[sweep.table["run_s"].notna()]
        data = []
        for method, rows in timed.groupby("method", sort=False):
            grown = exponents.get((str(method), size))
            slope = f", exponent {Number(grown.exponent, grown.se)}" if grown else ""
            medians = rows.groupby(size)["run_s"].median().reset_index()
            label, colour = f"{method}{slope}", shade[str(method)]
            data.append(_curve(label, medians[size], medians, "run_s", colour))
        plots[size] = plot_of(
            data,
            xaxis=_ticked(size, sweep.factors[size]),
            yaxis=axis_of("seconds of a run", type="log"),
        )
    return Picture(
        "scaling",
        "growth of time",
        plots,
        "Medians over cells; exponents are fitted within cells that are alike in all "
        "else, with their standard errors." + shared(sweep),
        "with",
    )


def pareto(sweep: StoredSweep) -> Picture:
    """Errors against seconds of a run, a point per cell."""
    shade = colours(sweep.methods)
    timed = sweep.compared[sweep.compared["run_s"].notna()]
    plots = {}
    for measure in MEASURES if len(timed) else ():
        data = [
            {
                "type": "scatter",
                "mode": "markers",
                "name": str(method),
                "x": numbers_of(rows["run_s"], 3),
                "y": numbers_of(rows[measure.name], 3),
                "text": [sweep.place(row) for row in rows.to_dict("records")],
                "marker": {"color": shade[str(method)], "size": 8, "opacity": 0.6},
            }
            for method, rows in timed.groupby("method", sort=False)
        ]
        plots[measure.title] = plot_of(
            data,
            xaxis=axis_of("seconds of a steady run", type="log"),
            yaxis=axis_of(measure.title),
            shapes=[_level(measure.exact)],
        )
    return Picture(
        "pareto",
        "agreement against time",
        plots,
        "A point a cell." + shared(sweep),
        "by",
    )


def shared(sweep: StoredSweep) -> str:
    """A warning, if cells did not have the machine to themselves."""
    if not sweep.table["shared"].astype(bool).any():
        return ""
    return " Cells shared the machine: seconds are for orientation (--timed)."
