"""The figures of a run, each as PNG and PDF."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.stats import chi2, gaussian_kde

from vi_bench.comparison.quantities import WEIGHT
from vi_bench.errors import one_line
from vi_bench.report.evidence import deviations, ladder
from vi_bench.report.style import COLOURS, DASHES

if TYPE_CHECKING:
    from vi_bench.result import MethodRun, Result

CREDIBLE = 0.95
MARGINALS = 12


def draw_all(result: Result, folder: Path) -> list[Path]:
    """Draw every figure that the run has something for.

    One that cannot be drawn is a warning: the run's numbers are worth more.
    """
    drawn: list[tuple[str, Callable[[Result], Figure | None]]] = [
        ("components", components),
        ("marginals", marginals),
        ("bound", bound),
        ("timing", timing),
        ("evidence", ladder),
        ("deviations", deviations),
    ]
    paths = []
    for name, draw in drawn:
        try:
            figure = draw(result)
            if figure is None:
                continue
            for suffix in ("png", "pdf"):
                path = folder / f"{name}.{suffix}"
                figure.savefig(path, dpi=130)
                figure.set_layout_engine("none")  # laid out once is enough
                paths.append(path)
        except OSError:  # a full disk is no affair of the figure's
            raise
        except Exception as error:
            why = one_line(error)
            warnings.warn(f"figure {name} is not drawn: {why}", stacklevel=2)
    return paths


def _styles(result: Result) -> dict[str, tuple[str, str]]:
    return {
        label: (COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)])
        for i, label in enumerate(result.runs)
    }


def _means(result: Result) -> dict[str, np.ndarray]:
    """Label -> relabelled component means (chain, draw, k, d), where there are any.

    Of components that hold a row on average; the others' means are the prior's.
    """
    means, found = {}, result.comparison
    for label, run in result.runs.items():
        where = result.family.location(run.posterior) if run.usable else None
        if where is None:
            continue
        mu, weight = np.asarray(where), run.posterior.get(WEIGHT)
        how = found.relabellings[label] if found else None
        if how is not None:
            mu = how.apply(mu)
            weight = None if weight is None else how.apply(weight)
        if weight is not None:
            rows = weight.mean(axis=(0, 1)) * len(result.table_data)
            mu = mu[:, :, rows >= 1]
        means[label] = mu
    return means


def components(result: Result) -> Figure | None:
    """Data with every method's component means and their 95 % credible ellipses."""
    means = _means(result)
    if not means:
        return None
    x = result.table_data.values
    styles = _styles(result)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    if x.shape[1] == 1:
        _components_1d(axes, x, means, styles)
        axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
        axes.set(xlabel=result.table_data.features[0], ylabel="rows per bin")
    else:
        axis, names = _plane(result)
        centre = x.mean(axis=0) if x.shape[1] > 2 else np.zeros(2)
        shown = (x - centre) @ axis
        axes.plot(*shown.T, ".", color="0.75", markersize=3, zorder=0, label="data")
        for label, mu in means.items():
            colour, dash = styles[label]
            flat = (mu.reshape(-1, *mu.shape[2:]) - centre) @ axis
            for k in range(flat.shape[1]):
                _ellipse(axes, flat[:, k], colour, dash)
                axes.plot(
                    *flat[:, k].mean(axis=0),
                    "x",
                    color=colour,
                    label=label if k == 0 else None,
                )
        axes.set(xlabel=names[0], ylabel=names[1])
        _show_data(axes, shown)
    axes.set_title(f"{result.spec.name}: component means, 95 % credible regions")
    axes.legend(loc="best", frameon=False)
    return figure


def _show_data(axes: Axes, shown: np.ndarray) -> None:
    """Equal scales, and the data fill the picture however wide an ellipse is."""
    low, high = shown.min(axis=0), shown.max(axis=0)
    pad = 0.1 * np.max(high - low)
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
    axes.set_aspect("equal", adjustable="box")


def _plane(result: Result) -> tuple[np.ndarray, tuple[str, str]]:
    """A projection (d, 2) and names of its axes: principal components if d > 2."""
    table = result.table_data
    if table.values.shape[1] == 2:
        return np.eye(2), (table.features[0], table.features[1])
    centred = table.values - table.values.mean(axis=0)
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    share = 100 * size**2 / (size**2).sum()
    names = tuple(f"principal component {i + 1} ({share[i]:.0f} %)" for i in (0, 1))
    return axes[:2].T, (names[0], names[1])


def _ellipse(axes: Axes, points: np.ndarray, colour: str, dash: str) -> None:
    values, vectors = np.linalg.eigh(np.cov(points.T))
    width, height = 2 * np.sqrt(chi2.ppf(CREDIBLE, 2) * np.maximum(values, 0))
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    axes.add_patch(
        Ellipse(
            tuple(points.mean(axis=0)),
            width,
            height,
            angle=angle,
            fill=False,
            edgecolor=colour,
            linestyle=dash,
            linewidth=1.5,
        )
    )


def _components_1d(
    axes: Axes,
    x: np.ndarray,
    means: dict[str, np.ndarray],
    styles: dict[str, tuple[str, str]],
) -> None:
    counts, _, _ = axes.hist(x[:, 0], bins=40, color="0.8", label="data")
    tail = 100 * (1 - CREDIBLE) / 2
    for i, (label, mu) in enumerate(means.items()):
        low, high = np.percentile(mu[..., 0], [tail, 100 - tail], axis=(0, 1))
        centre = mu[..., 0].mean(axis=(0, 1))
        height = -np.max(counts) * 0.06 * (i + 1)
        axes.errorbar(
            centre,
            np.full(len(centre), height),
            xerr=[centre - low, high - centre],
            fmt="x",
            color=styles[label][0],
            capsize=3,
            label=label,
        )


def marginals(result: Result) -> Figure | None:
    """Overlaid marginal posteriors: parameters if identifiable, else invariants."""
    found = result.comparison
    if found is None:
        return None
    scalars = _marginal_draws(result)
    names = list(scalars[found.reference])[:MARGINALS]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.2 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = _styles(result)
    for axes, name in zip(grid, names, strict=False):
        for label, draws in scalars.items():
            if name in draws:
                _density(axes, draws[name].ravel(), *styles[label], label)
        axes.set_title(name, fontsize=9)
        axes.set_yticks([])
        axes.spines[["left", "top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    total = len(scalars[found.reference])
    more = f", the first {len(names)} of {total}" if total > len(names) else ""
    figure.suptitle(f"{result.spec.name}: marginal posteriors{more}", fontsize=11)
    return figure


def _marginal_draws(result: Result) -> dict[str, dict[str, np.ndarray]]:
    from vi_bench.comparison.quantities import by_component

    found = result.comparison
    assert found is not None
    if not found.relabellings[found.reference].identifiable:
        return found.invariants
    return {label: by_component(columns) for label, columns in found.relabelled.items()}


def _density(axes: Axes, draws: np.ndarray, colour: str, dash: str, label: str) -> None:
    if np.ptp(draws) == 0:
        axes.axvline(draws[0], color=colour, linestyle=dash, label=label)
        return
    low, high = np.percentile(draws, [0.1, 99.9])
    pad = 0.15 * (high - low)
    grid = np.linspace(low - pad, high + pad, 200)
    thin = draws[:: max(1, draws.size // 2000)]
    axes.plot(grid, gaussian_kde(thin)(grid), color=colour, linestyle=dash, label=label)


def bound(result: Result) -> Figure | None:
    """The bound against the seconds spent, and where NUTS' time stands."""
    traces = {
        label: run
        for label, run in result.runs.items()
        if run.draws is not None
        and np.isfinite(run.draws.report.get("trace", np.nan)).any()
    }
    if not traces:
        return None
    styles = _styles(result)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    finals = []
    for label, run in traces.items():
        seconds, values = _trace(run)
        kind = "labels in q" if run.method.bound_keeps_labels else "labels summed out"
        colour, dash = styles[label]
        axes.plot(seconds, values, dash, color=colour, label=f"{label} ({kind})")
        axes.plot(seconds[-1:], values[-1:], "o", color=colour)
        finals.append(values[-1])
    for label, run in result.runs.items():
        steady = run.steady()
        if run.method.kind == "mcmc" and steady:
            spent = steady["median"]
            axes.axvline(spent, color=styles[label][0], linestyle=":")
            axes.annotate(
                f" {label}: {spent:.2g} s",
                (spent, 0.5),
                xycoords=("data", "axes fraction"),
                ha="right",
                va="center",
                rotation=90,
                color=styles[label][0],
            )
    top, low = max(finals), min(finals)
    span = max(top - low, 1.0)
    axes.set_ylim(low - 6 * span, top + 1.5 * span)
    axes.set_xscale("log")
    axes.set(xlabel="seconds of a steady run", ylabel="bound on log p(X), nats")
    axes.set_title(f"{result.spec.name}: bound against time")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=2, frameon=False)
    return figure


def _trace(run: MethodRun) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and bounds; each iteration takes an equal share of the fit's time.

    Of several restarts only the best is drawn, and only its share of the time.
    """
    assert run.draws is not None
    report = run.draws.report
    values = np.asarray(report["trace"], float)
    known = np.flatnonzero(np.isfinite(values))
    spent = float(np.median(run.stages["fit"].runs_s))
    total = int(report.get("total_iterations", len(values)))
    return spent / total * (known + 1), values[known]


def timing(result: Result) -> Figure | None:
    """Where the seconds went: set-up, trace, compile, and a steady run."""
    labels = [label for label, run in result.runs.items() if run.stages]
    if not labels:
        return None
    times: list[dict[str, Any]] = [result.runs[label].time() for label in labels]
    parts = {
        "set-up": [t["setup_s"] for t in times],
        "trace": [t["trace_s"] for t in times],
        "compile": [t["compile_s"] for t in times],
        "run": [t["run_s"]["median"] if t["run_s"] else 0.0 for t in times],
    }
    figure = Figure(figsize=(6.4, 0.8 + 0.9 * len(labels)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(parts)
    for i, (part, seconds) in enumerate(parts.items()):
        places = np.arange(len(labels)) + (i - (len(parts) - 1) / 2) * height
        bars = axes.barh(places, seconds, height, color=COLOURS[i], label=part)
        axes.bar_label(bars, [f" {s:.3g}" for s in seconds], fontsize=8)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    cached = any(t["compile_cached"] for t in times)
    axes.set(xlabel="seconds" + (" (compiled programs from the cache)" * cached))
    axes.set_title(f"{result.spec.name}: wall-clock on {result.environment['device']}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
