"""The figures of a sweep for papers, by matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vi_bench.reports.figures import Draw, save_all
from vi_bench.reports.style import COLOURS, DASHES
from vi_bench.reports.tables import Number
from vi_bench.sweeps.overview.analysis import Phase, growths, phases, rankings
from vi_bench.sweeps.overview.stored import (
    MEASURES,
    Measure,
    StoredSweep,
    averaged,
    few,
    wide,
)

MOST = 12
"""Largest number of slices of a sweep that are drawn; its page offers more."""


def draw_sweep(
    sweep: StoredSweep, folder: Path, kinds: Sequence[str], width: float | None = None
) -> list[Path]:
    """Draw every figure that applies to a sweep, as files of each kind; their paths."""
    draws: dict[str, Draw] = {
        draw.__name__: partial(draw, sweep)
        for draw in (phase_diagrams, curves, ranks, scaling)
    }
    return save_all(draws, folder, kinds, width)


def phase_diagrams(sweep: StoredSweep) -> Iterator[tuple[str, Figure]]:
    """Errors over two factors: rows of panels are measures, columns are methods."""
    by_slice: dict[str, list[Phase]] = {}
    for phase in phases(sweep):
        by_slice.setdefault(phase.where, []).append(phase)
    for i, (where, found) in enumerate(list(by_slice.items())[:MOST]):
        size = (1.2 + 2.6 * len(found), 0.6 + 2.1 * 2)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(2, len(found), squeeze=False, sharex=True, sharey=True)
        for measure, row in zip((MEASURES[0], MEASURES[2]), panels, strict=True):
            _panels(sweep, figure, row, found, measure)
        figure.suptitle(f"{sweep.name}" + (f": {where}" if where else ""))
        yield f"phases{f'-{i + 1}' if len(by_slice) > 1 else ''}", figure


def _panels(
    sweep: StoredSweep,
    figure: Figure,
    row: Sequence[Axes],
    found: Sequence[Phase],
    measure: Measure,
) -> None:
    xs, ys = sweep.factors[found[0].x], sweep.factors[found[0].y]
    fields = [phase.field(measure.name, xs, ys) for phase in found]
    far = max(float(np.nanmax(np.abs(f - measure.exact), initial=0.05)) for f in fields)
    style: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": far}
    for axes, phase, field in zip(row, found, fields, strict=True):
        image = axes.imshow(field, origin="lower", aspect="auto", **style)
        axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
        if measure is MEASURES[0]:
            axes.set_title(phase.method)
        else:
            axes.set_xlabel(phase.x)
        se = phase.field(f"{measure.name}_se", xs, ys)
        for (y, x), value in np.ndenumerate(field):
            if np.isfinite(value):
                _inscribe(axes, image, x, y, value, float(se[y, x]))
    row[0].set_ylabel(found[0].y)
    figure.colorbar(image, ax=list(row), label=measure.title.replace(", ", ",\n"))


def _inscribe(axes: Axes, image: Any, x: int, y: int, value: float, se: float) -> None:
    red, green, blue, _ = image.cmap(image.norm(value))
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    text = str(Number(value, se)).replace("±", "\n±")
    colour = "black" if light else "white"
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=6)


def curves(sweep: StoredSweep) -> Iterator[tuple[str, Figure]]:
    """Errors along each numeric factor: a panel per measure, a line per slice."""
    for factor in sweep.numeric():
        slices = [
            (where, rows.dropna(subset=[factor]))
            for where, rows in sweep.slices([factor])
        ]
        slices = [s for s in slices if s[1][factor].nunique() > 1][:MOST]
        if not slices:
            continue
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, measure in zip(panels, MEASURES, strict=True):
            for i, (where, rows) in enumerate(slices):
                _lines(sweep, axes, where, rows, factor, measure, DASHES[i % 4])
            axes.axhline(measure.exact, color="0.6", linewidth=1, zorder=0)
            axes.set_ylabel(measure.title.replace(", ", ",\n"), fontsize=8)
        for axes in panels[2:]:
            axes.set_xlabel(factor)
        if wide(sweep.factors[factor]):
            _logarithmic(panels[0], sweep.factors[factor])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=2 if len(slices) > 1 else 4,
            frameon=False,
            fontsize=7,
        )
        figure.suptitle(f"{sweep.name}: errors by {factor}")
        yield f"errors-{_plain(factor)}", figure


def _lines(
    sweep: StoredSweep,
    axes: Axes,
    where: str,
    rows: Any,
    factor: str,
    measure: Measure,
    dash: str,
) -> None:
    means = averaged(rows, ["method", factor]).sort_values(factor)
    for method, own in means.groupby("method", sort=False):
        axes.errorbar(
            own[factor],
            own[measure.name],
            yerr=own[f"{measure.name}_half"],
            fmt="o",
            linestyle=dash,
            markersize=3,
            capsize=2,
            color=colour(sweep, str(method)),
            label=f"{method}, {where}" if where else str(method),
        )


def colour(sweep: StoredSweep, method: str) -> str:
    """The colour of a method, the same in every figure."""
    return COLOURS[sweep.methods.index(method) % len(COLOURS)]


def ranks(sweep: StoredSweep) -> Iterator[tuple[str, Figure]]:
    """Mean ranks by every measure; a band as wide as the critical difference."""
    found = rankings(sweep)
    if not found:
        return
    tallest = max(len(one.ranks) for one in found)
    height = 0.7 + (0.45 + 0.22 * tallest) * len(found)
    figure = Figure(figsize=(6.4, height), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True).ravel()
    for axes, one in zip(panels, found, strict=True):
        best = next(iter(one.ranks.values())).mean
        axes.axvspan(best, best + one.critical, color="0.9")
        for y, (method, rank) in enumerate(one.ranks.items()):
            shade = colour(sweep, method)
            ends = [[rank.mean - rank.low], [rank.high - rank.mean]]
            axes.errorbar(rank.mean, -y, xerr=ends, fmt="o", color=shade, capsize=3)
        axes.set_yticks([-y for y in range(len(one.ranks))], list(one.ranks))
        axes.set_ylim(0.6 - len(one.ranks), 0.6)
        axes.set_title(
            f"{one.measure} ({one.blocks} data sets)", fontsize=8, loc="left"
        )
    panels[-1].set_xlabel("mean rank; within the band of the first: not told apart")
    yield "ranks", figure


def scaling(sweep: StoredSweep) -> Iterator[tuple[str, Figure]]:
    """Seconds of a run against each size with at least three levels."""
    exponents = {(g.method, g.size): g for g in growths(sweep)}
    for size in sweep.sizes:
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        timed = sweep.table[sweep.table["run_s"].notna()]
        for method, rows in timed.groupby("method", sort=False):
            grown = exponents.get((str(method), size))
            slope = f", {Number(grown.exponent, grown.se)}" if grown else ""
            shade, label = colour(sweep, str(method)), f"{method}{slope}"
            axes.plot(rows[size], rows["run_s"], ".", color=shade, alpha=0.4)
            medians = rows.groupby(size)["run_s"].median()
            axes.plot(medians.index, medians, "o-", color=shade, label=label)
        axes.set(yscale="log", xlabel=size, ylabel="seconds of a run")
        _logarithmic(axes, sweep.factors[size])
        figure.legend(
            title="method, exponent", loc="outside lower center", ncols=3, frameon=False
        )
        axes.set_title(f"{sweep.name}: growth of time")
        yield f"time-{size}", figure


def _logarithmic(axes: Axes, levels: list[Any]) -> None:
    """Make the axis logarithmic, with a tick at every level if they are few."""
    axes.set_xscale("log")
    if few(levels):
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.set_xticks([], minor=True)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
