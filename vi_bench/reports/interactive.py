"""The interactive figures of a stored run, for Plotly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import chi2, gaussian_kde

from vi_bench.reports.figures import CREDIBLE
from vi_bench.reports.style import COLOURS, thinned
from vi_bench.reports.tables import ERRORS, RUNGS, parts
from vi_bench.results.stored import StoredRun
from vi_bench.results.summary_schema import Value

Plot = dict[str, Any]
"""A Plotly figure: its `data` and `layout`."""

POINTS, GRID, KEPT = 2000, 160, 500
"""At most: rows of data shown, points of a density, draws per chain in a rank plot."""

PLANES, RANKS = 6, 24
"""At most: features whose pairs can be chosen, and quantities with a rank plot."""


@dataclass(frozen=True)
class Picture:
    """A figure, or several of which the reader chooses one.

    Attributes:
        name: a word, for links.
        title: what it shows.
        plots: choice -> figure; a single one is named "".
        note: how to read it.
        choice: the word before the list of choices.
    """

    name: str
    title: str
    plots: Mapping[str, Plot]
    note: str = ""
    choice: str = ""


def pictures(run: StoredRun) -> dict[str, Picture]:
    """Name -> every figure that applies to a run."""
    drawn = (
        components(run),
        deviations(run),
        marginals(run),
        ladder(run),
        times(run),
        pareto(run),
        bounds(run),
        error_against_time(run),
        ranks(run),
    )
    return {p.name: p for p in drawn if p is not None and p.plots}


def colours(labels: Iterable[str]) -> dict[str, str]:
    """Label -> colour, by the order of the methods."""
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def plot_of(data: list[Plot], **layout: Any) -> Plot:
    """A figure of these traces, in the layout that all share."""
    plain = {"margin": {"l": 60, "r": 16, "t": 16, "b": 48}, "height": 380}
    plain["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return {"data": data, "layout": plain | layout}


def axis_of(title: str, **more: Any) -> Plot:
    """The layout of an axis."""
    return {"title": {"text": title}, "zeroline": False, "automargin": True} | more


def _line(name: str, x: Any, y: Any, colour: str, digits: int = 5) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": numbers_of(x),
        "y": numbers_of(y, digits),
        "line": {"color": colour, "width": 2},
    }


def errors_of(se: Iterable[float | None]) -> Plot:
    """Error bars of two standard errors."""
    return {"type": "data", "array": numbers_of([2 * (e or 0) for e in se])}


def _band(low: float, high: float, shade: float) -> Plot:
    """A shaded band from one value of x to another, over the whole height."""
    band: Plot = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    band |= {"x0": low, "x1": high, "layer": "below", "line": {"width": 0}}
    return band | {"fillcolor": f"rgba(128,128,128,{shade})"}


def numbers_of(values: Any, digits: int = 5) -> list[float | None]:
    """Numbers for JSON, with so many significant digits; None if not finite."""
    flat = np.asarray(values, float).ravel()
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in flat]


def components(run: StoredRun) -> Picture | None:
    """Data, component means and their 95 % credible ellipses, by pair of features."""
    x = run.rows
    means = {label: run.location(label) for label in run.trees}
    known = {label: mu for label, mu in means.items() if mu is not None and mu.size}
    if x is None or not known or x.shape[1] < 2:
        return None
    names = run.features[:PLANES]
    shade = colours(run.record.methods)
    shown = thinned(x, POINTS)
    plots = {}
    for i, j in combinations(range(len(names)), 2):
        data: list[Plot] = [
            _points("data", shown[:, i], shown[:, j], "rgba(128,128,128,.45)", 4)
        ]
        for label, mu in known.items():
            flat = mu.reshape(-1, *mu.shape[2:])[:, :, [i, j]]
            across, along = [], []
            for k in range(flat.shape[1]):
                ring = _ellipse(flat[:, k])
                across += [*ring[0], np.nan]
                along += [*ring[1], np.nan]
            data.append(
                _line(label, across, along, shade[label])
                | {"legendgroup": label, "hoverinfo": "skip"}
            )
            centre = flat.mean(axis=0)
            data.append(
                _points(label, centre[:, 0], centre[:, 1], shade[label], 9, "x")
                | {"legendgroup": label, "showlegend": False}
                | {"text": [f"{label}, component {k}" for k in range(len(centre))]}
            )
        plots[f"{names[i]}, {names[j]}"] = plot_of(
            data,
            xaxis=axis_of(names[i]),
            yaxis=axis_of(names[j], scaleanchor="x"),
            height=480,
        )
    return Picture(
        "components",
        "components",
        plots,
        "Crosses are posterior means of the components' means, ellipses hold 95 % of "
        "their draws.",
        "features" if len(plots) > 1 else "",
    )


def _points(
    name: str, x: Any, y: Any, colour: str, size: int, symbol: str = "circle"
) -> Plot:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": numbers_of(x),
        "y": numbers_of(y),
        "marker": {"color": colour, "size": size, "symbol": symbol},
    }


def _ellipse(points: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.cov(points.T))
    turn = np.linspace(0, 2 * np.pi, 41)
    radii = np.sqrt(chi2.ppf(CREDIBLE, 2) * np.maximum(values, 0))
    ring = vectors @ (radii[:, None] * np.array([np.cos(turn), np.sin(turn)]))
    return np.asarray(points.mean(axis=0)[:, None] + ring)


def deviations(run: StoredRun) -> Picture | None:
    """Differences of means and ratios of sds to the reference, with two errors."""
    plots = {}
    shade = colours(run.record.methods)
    margins = {"means": "margin", "standard deviations": "sd_margin"}
    spec = run.record.spec
    for title, key, centre, unit in (
        ("means", "mean_difference", 0.0, "difference of means / sd"),
        ("standard deviations", "sd_ratio", 1.0, "ratio of sds"),
    ):
        data: list[Plot] = []
        names: list[str] = []
        for label in run.record.verdicts:
            rows = [
                r for r in run.record.of_method(label) if getattr(r, key) is not None
            ]
            names = names or [r.quantity for r in rows]
            data.append(
                _points(label, [getattr(r, key) for r in rows], [], shade[label], 8)
                | {
                    "y": [r.quantity for r in rows],
                    "error_x": errors_of(getattr(r, f"{key}_se") for r in rows),
                }
            )
        margin = spec[margins[title]]
        band = _band(centre - margin, centre + margin, 0.15)
        if data:
            plots[title] = plot_of(
                data,
                xaxis=axis_of(unit),
                yaxis=axis_of("", autorange="reversed"),
                shapes=[band],
                height=160 + 24 * len(names),
            )
    return Picture(
        "deviations",
        f"differences from {run.record.reference}",
        plots,
        "Bars are two Monte-Carlo errors; the band is the margin within which a method "
        "agrees.",
        "of",
    )


def marginals(run: StoredRun) -> Picture | None:
    """Marginal posterior densities of each quantity, a line per method."""
    shade = colours(run.record.methods)
    by_method = {label: run.draws(label) for label in run.trees}
    first = run.reference or next(iter(by_method), None)
    if first is None:
        return None
    plots: dict[str, Plot] = {}
    for name in by_method[first]:
        data = []
        for label, known in by_method.items():
            flat = known[name].ravel() if name in known else np.zeros(0)
            flat = flat[np.isfinite(flat)]
            if flat.size < 2 or np.ptp(flat) <= 1e-12 * np.abs(flat).max():
                continue
            low, high = np.percentile(flat, [0.1, 99.9])
            pad = 0.15 * (high - low)
            grid = np.linspace(low - pad, high + pad, GRID)
            density = gaussian_kde(flat[:: max(1, flat.size // POINTS)])(grid)
            data.append(_line(label, grid, density, shade[label], 4))
        if data:
            plots[name] = plot_of(data, xaxis=axis_of(name), yaxis=axis_of("density"))
    note = "Kernel estimates from draws."
    return Picture("marginals", "marginal posteriors", plots, note, "quantity")


def ladder(run: StoredRun) -> Picture | None:
    """Bounds on log p(X), and estimates of it."""
    found = run.record.evidence
    if found is None:
        return None
    data = []
    for i, (key, name) in enumerate(RUNGS.items()):
        there = {k: e for k, b in found.bounds.items() if (e := getattr(b, key))}
        if there:
            data.append(_rung(name, there, COLOURS[i], ["circle", "square"][i % 2]))
    if found.evidence:
        data.append(_rung("log p(X)", found.evidence, "#888", "line-ns-open"))
    rows = len({*found.bounds, *found.evidence})
    shapes = []
    if found.trusted is not None:
        best = found.evidence[found.trusted]
        value, error = best.value or 0.0, 2 * (best.se or 0.0)
        shapes.append(_band(value - error, value + error, 0.4))
    plot = plot_of(
        data,
        xaxis=axis_of("nats"),
        yaxis=axis_of("", autorange="reversed"),
        shapes=shapes,
        height=190 + 34 * rows,
    )
    return Picture(
        "ladder",
        "bounds on log p(X), and estimates of it",
        {"": plot},
        "Every bound lies below log p(X) unless there is a bug or a wrong evidence; "
        "bars are two errors, the band is the estimate that is trusted.",
    )


def _rung(name: str, there: Mapping[str, Value], colour: str, symbol: str) -> Plot:
    return _points(name, [e.value for e in there.values()], [], colour, 10, symbol) | {
        "x": numbers_of([e.value for e in there.values()], 12),
        "y": list(there),
        "error_x": errors_of(e.se for e in there.values()),
    }


def times(run: StoredRun) -> Picture | None:
    """Seconds of each method for set-up, tracing, compilation and a steady run."""
    labels, spent = parts(run.record)
    if not labels:
        return None
    data = [
        {"type": "bar", "orientation": "h", "name": part, "y": labels}
        | {"x": [v or None for v in seconds], "marker": {"color": COLOURS[i]}}
        for i, (part, seconds) in enumerate(spent.items())
    ]
    plot = plot_of(
        data,
        barmode="group",
        xaxis=axis_of("seconds", type="log"),
        yaxis=axis_of("", autorange="reversed"),
        height=140 + 80 * len(labels),
    )
    return Picture("times", "where the seconds went", {"": plot})


def pareto(run: StoredRun) -> Picture | None:
    """Largest difference of means from the reference against seconds of a run."""
    shade = colours(run.record.methods)
    data = []
    for label in run.record.verdicts:
        rows = [r for r in run.record.of_method(label) if r.judged]
        rows = [r for r in rows if r.mean_difference is not None]
        seconds = run.record.methods[label].seconds
        if not rows or not seconds:
            continue
        worst = max(rows, key=lambda r: abs(r.mean_difference or 0.0))
        data.append(
            _points(label, [seconds], [], shade[label], 12)
            | {"y": numbers_of([abs(worst.mean_difference or 0.0)])}
            | {"text": [worst.quantity]}
            | {"error_y": errors_of([worst.mean_difference_se])}
        )
    reference = run.record.reference
    own = run.record.methods.get(reference or "")
    spent = own.seconds if own else None
    if not data:
        return None
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": spent, "x1": spent}
    line |= {"line": {"color": shade.get(reference or "", "#888"), "dash": "dot"}}
    plot = plot_of(
        data,
        xaxis=axis_of("seconds of a steady run", type="log"),
        yaxis=axis_of("worst difference of means / sd", rangemode="tozero"),
        shapes=[line] if spent else [],
    )
    return Picture(
        "pareto",
        "agreement against time",
        {"": plot},
        "Further left is quicker, further down is closer to the reference"
        + (f"; the dotted line is {reference}'s own time." if spent else "."),
    )


def bounds(run: StoredRun) -> Picture | None:
    """The bound, nats, against seconds."""
    shade = colours(run.record.methods)
    data, finals = [], []
    for label in run.trees:
        found = run.trace(label)
        if found is None:
            continue
        at = np.unique(np.linspace(0, len(found[0]) - 1, POINTS).round().astype(int))
        seconds, values = (v[at] for v in found)
        keeps = run.record.methods[label].assignments_in_q
        name = f"{label} ({'ELBO' if keeps else 'marginal ELBO'})"
        data.append(_line(name, seconds, values, shade[label], 9))
        finals.append(float(values[-1]))
    if not data:
        return None
    span = max(max(finals) - min(finals), 1.0)
    plot = plot_of(
        data,
        xaxis=axis_of("seconds of a steady run", type="log"),
        yaxis=axis_of("nats", range=[min(finals) - 6 * span, max(finals) + 1.5 * span]),
    )
    note = "Each iteration takes an equal share of the fit's time."
    return Picture("bounds", "the bound against time", {"": plot}, note)


def error_against_time(run: StoredRun) -> Picture | None:
    """The largest errors against seconds, one plot a kind of error."""
    found = run.record.curves
    if found is None or not found.methods:
        return None
    shade = colours(run.record.methods)
    kinds = {"means": "mean", "standard deviations": "sd", "Wasserstein-1": "w1"}
    plots: dict[str, Plot] = {}
    for kind, name in kinds.items():
        data = []
        for label, curve in found.methods.items():
            if known := curve.errors(name):
                x, y, _ = np.array(known).T
                line = _line(label, x, y, shade[label], 9)
                data.append(line | {"mode": "lines+markers"})
        floor = getattr(found.floor, name) or 0.0
        line = {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": floor,
            "y1": floor,
            "line": {"dash": "dot", "width": 1},
        }
        plots[kind] = plot_of(
            data,
            xaxis=axis_of("seconds of a steady run", type="log"),
            yaxis=axis_of(ERRORS[name], type="log"),
            shapes=[line] if floor else [],
        )
    return Picture(
        "error_against_time",
        "error against time",
        plots,
        f"What each method would have told, had it been stopped earlier; the dotted "
        f"line is the Monte-Carlo error of {found.reference}, under which nothing is "
        "told apart.",
    )


def ranks(run: StoredRun) -> Picture | None:
    """ArviZ's rank plots: ECDF of each chain's ranks minus the uniform one."""
    plots: dict[str, Plot] = {}
    sampled = [
        label
        for label in run.trees
        if run.record.methods[label].kind in ("mcmc", "particles")
    ]
    share = max(1, RANKS // max(1, len(sampled)))
    for label in sampled:
        for name, values in list(run.draws(label).items())[:share]:
            if values.shape[0] > 1 and np.ptp(values) > 0:
                plots[f"{label}: {name}"] = _rank(name, values)
    return Picture(
        "ranks",
        "rank plots of the chains",
        plots,
        "ArviZ's plot_rank of thinned draws: a line is the ECDF of one chain's ranks "
        "among all, minus that of uniform ranks; p is of its test of that.",
        "chains of",
    )


def _rank(name: str, values: np.ndarray) -> Plot:
    import arviz as az
    from xarray import Dataset, DataTree

    kept = values[:, :: max(1, values.shape[1] // KEPT)]
    plain = "value"  # a quantity's name may not be valid for a variable
    posterior = Dataset(
        {plain: (("chain", "draw"), kept)},
        coords={"chain": range(kept.shape[0]), "draw": range(kept.shape[1])},
    )
    drawn = az.plot_rank(DataTree.from_dict({"posterior": posterior}), backend="plotly")
    figure = json.loads(drawn.viz["figure"].item().to_json())
    figure["layout"].pop("template", None)
    figure["layout"].pop("width", None)
    figure["layout"].pop("annotations", None)
    figure["layout"] |= {"height": 320, "margin": {"l": 60, "r": 16, "t": 16, "b": 48}}
    return {"data": figure["data"], "layout": figure["layout"]}
