"""The figures of a run for papers, by matplotlib, each as files of several kinds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from scipy.stats import chi2, gaussian_kde

from vi_bench.errors import one_line
from vi_bench.reports.style import COLOURS, DASHES, MARKERS, thinned
from vi_bench.reports.tables import ERRORS, RUNGS, parts, responses
from vi_bench.results.stored import StoredRun
from vi_bench.results.summary_schema import Bounds, Curve, Evidence, Gap, Value

CREDIBLE = 0.95
MARGINALS = 12
SHOWN = 16
"""Largest number of quantities in the figure of standard deviations."""

DRAWN = 5000
"""Largest number of rows that a figure shows: a PDF has a command for each of them."""

EMBEDDED: Any = {
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "vi_bench",
}
"""Matplotlib settings: TrueType fonts in PDFs, as journals ask for; in SVGs text as
text, and element names that do not change from run to run."""


UNDATED: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
"""Metadata without dates, so that the same results give the same bytes."""

TEXT_WIDTH = 6.3
"""Width in inches of the text of a LaTeX article on A4 with margins of 25 mm."""

Draw = Callable[[], Iterable[tuple[str, Figure]]]
"""A function that gives (file name without suffix, figure) pairs."""


def draw_all(
    run: StoredRun,
    folder: Path,
    kinds: Sequence[str] = ("png", "pdf"),
    width: float | None = None,
) -> list[Path]:
    """Draw every figure that applies to a run.

    Args:
        run: the run, stored or as it would be.
        folder: an existing folder to write to.
        kinds: any of png, pdf, svg.
        width: width in inches of every figure, for a column; by default its own.

    Returns:
        Paths of the files.
    """

    def drawn(name: str, draw: Callable[[StoredRun], Figure | None]) -> Draw:
        def one() -> Iterator[tuple[str, Figure]]:
            figure = draw(run)
            if figure is not None:
                yield name, figure

        return one

    draws = {name: drawn(name, draw) for name, draw in FIGURES.items()}
    return save_all(draws, folder, kinds, width)


def save_all(
    draws: Mapping[str, Draw],
    folder: Path,
    kinds: Sequence[str],
    width: float | None = None,
) -> list[Path]:
    """Draw figures and write them as files of each kind; returns their paths.

    A figure that fails is a warning; the run continues.
    """
    paths = []
    for name, draw in draws.items():
        try:
            with mpl.rc_context(EMBEDDED | ({"font.size": 8} if width else {})):
                for file, figure in draw():
                    if width:
                        own, height = figure.get_size_inches()
                        figure.set_size_inches(width, height * width / own)
                    for kind in kinds:
                        path = folder / f"{file}.{kind}"
                        figure.savefig(path, dpi=130, metadata=UNDATED.get(kind))
                        figure.set_layout_engine("none")  # laid out once is enough
                        paths.append(path)
        except OSError:  # such as a full disk: not the figure's fault
            raise
        except Exception as error:
            why = one_line(error)
            warnings.warn(f"figure {name} is not drawn: {why}", stacklevel=2)
    return paths


def _styles(run: StoredRun) -> dict[str, tuple[str, str]]:
    return {
        label: (COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)])
        for i, label in enumerate(run.record.methods)
    }


def components(run: StoredRun) -> Figure | None:
    """Data with every method's component means and their 95 % credible ellipses."""
    found = {label: run.location(label) for label in run.trees}
    means = {label: mu for label, mu in found.items() if mu is not None}
    x = run.rows
    if not means or x is None:
        return None
    styles = _styles(run)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    if x.shape[1] == 1:
        _components_1d(axes, x, means, styles)
        axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
        axes.set(xlabel=run.features[0], ylabel="rows per bin")
    else:
        axis, names = _plane(x, run.features)
        centre = x.mean(axis=0) if x.shape[1] > 2 else np.zeros(2)
        shown = (x - centre) @ axis
        drawn = thinned(shown, DRAWN)
        name = "data"
        if len(drawn) < len(shown):
            name = f"{len(drawn):,} of {len(shown):,} rows"
        axes.plot(*drawn.T, ".", color="0.75", markersize=3, zorder=0, label=name)
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
    axes.set_title(f"{run.name}: component means, 95 % credible regions")
    axes.legend(loc="best", frameon=False)
    return figure


def _show_data(axes: Axes, shown: np.ndarray) -> None:
    """Equal scales, with limits set by the data, however wide an ellipse is."""
    low, high = shown.min(axis=0), shown.max(axis=0)
    pad = 0.1 * np.max(high - low)
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
    axes.set_aspect("equal", adjustable="box")


def _plane(x: np.ndarray, features: list[str]) -> tuple[np.ndarray, tuple[str, str]]:
    """A projection (d, 2) and its axes' names; principal components if d > 2."""
    if x.shape[1] == 2:
        return np.eye(2), (features[0], features[1])
    _, size, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
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
    means: Mapping[str, np.ndarray],
    styles: Mapping[str, tuple[str, str]],
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


def marginals(run: StoredRun) -> Figure | None:
    """Marginal posteriors: of components if identifiable, else label-invariant ones."""
    if run.reference is None:
        return None
    methods = run.record.methods
    how = methods[run.reference].relabelling
    apart = any(name.component is not None for name in run.draws(run.reference))
    split = apart and how is not None and how.identifiable
    scalars = {
        label: {
            name: values
            for name, values in run.draws(label).items()
            if (name.component is not None) == split
        }
        for label in run.trees
    }
    names = list(scalars[run.reference])[:MARGINALS]
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.2 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = _styles(run)
    for axes, name in zip(grid, names, strict=False):
        for label, draws in scalars.items():
            if name in draws:
                _density(axes, draws[name].ravel(), *styles[label], label)
        axes.set_title(name, fontsize=9)
        axes.set_yticks([])
        # labels at the edges would run into those of the next panel
        axes.xaxis.set_major_locator(MaxNLocator(5, prune="both", steps=[1, 2, 5, 10]))
        axes.spines[["left", "top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    total = len(scalars[run.reference])
    more = f", the first {len(names)} of {total}" if total > len(names) else ""
    figure.suptitle(f"{run.name}: marginal posteriors{more}", fontsize=11)
    return figure


def _density(axes: Axes, draws: np.ndarray, colour: str, dash: str, label: str) -> None:
    if np.ptp(draws) == 0:
        axes.axvline(draws[0], color=colour, linestyle=dash, label=label)
        return
    low, high = np.percentile(draws, [0.1, 99.9])
    pad = 0.15 * (high - low)
    grid = np.linspace(low - pad, high + pad, 200)
    thin = draws[:: max(1, draws.size // 2000)]
    axes.plot(grid, gaussian_kde(thin)(grid), color=colour, linestyle=dash, label=label)


def bound(run: StoredRun) -> Figure | None:
    """The bound, nats, against seconds, and the time of each MCMC method."""
    traces = {label: run.trace(label) for label in run.trees}
    known = {label: trace for label, trace in traces.items() if trace is not None}
    if not known:
        return None
    styles, methods = _styles(run), run.record.methods
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    finals = []
    for label, (seconds, values) in known.items():
        keeps = methods[label].assignments_in_q
        kind = "ELBO" if keeps else "marginal ELBO"
        colour, dash = styles[label]
        axes.plot(seconds, values, dash, color=colour, label=f"{label} ({kind})")
        axes.plot(seconds[-1:], values[-1:], "o", color=colour)
        finals.append(values[-1])
    for label, method in methods.items():
        spent = method.seconds
        if method.kind == "mcmc" and spent:
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
    axes.set_title(f"{run.name}: bound against time")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=2, frameon=False)
    return figure


def timing(run: StoredRun) -> Figure | None:
    """Seconds of each method for set-up, tracing, compilation and a steady run."""
    labels, spent = parts(run.record)
    if not labels:
        return None
    figure = Figure(figsize=(6.4, 0.8 + 0.9 * len(labels)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(spent)
    for i, (part, found) in enumerate(spent.items()):
        places = np.arange(len(labels)) + (i - (len(spent) - 1) / 2) * height
        seconds = [s or 0.0 for s in found]
        bars = axes.barh(places, seconds, height, color=COLOURS[i], label=part)
        axes.bar_label(bars, [f" {s:.3g}" for s in seconds], fontsize=8)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    methods = run.record.methods
    cached = any(methods[label].time.compile_cached for label in labels)
    axes.set(xlabel="seconds" + (" (compiled programs from the cache)" * cached))
    device = run.record.environment["device"]
    axes.set_title(f"{run.name}: wall-clock on {device}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def ladder(run: StoredRun) -> Figure | None:
    """Every bound on log p(X), every estimate of it, and the parts of the gaps."""
    found = run.record.evidence
    if found is None:
        return None
    rows = len(found.bounds) + len(found.evidence)
    figure = Figure(figsize=(9.2, 1.8 + 0.45 * rows), layout="constrained")
    if found.gaps:
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        _gaps(right, found.gaps)
    else:
        left = figure.subplots()
    _rungs(left, found)
    figure.suptitle(f"{run.name}: bounds on log p(X), and estimates of it")
    return figure


def rungs(bounds: Bounds) -> dict[str, Value]:
    """Name -> value of each bound on log p(X) that a method has."""
    found = {name: getattr(bounds, key) for key, name in RUNGS.items()}
    return {name: e for name, e in found.items() if known(e)}


def known(estimate: Value | None) -> bool:
    """Whether there is a finite number; others are stored as None."""
    return estimate is not None and estimate.value is not None


def _zero(found: Evidence) -> tuple[float, str]:
    """Zero of the axis, nats, and its label: log p(X), or else the highest bound."""
    trusted = found.trusted
    if trusted is not None:
        value = found.evidence[trusted].value or 0.0
        return value, f"nats above log p(X) = {value:.3f} ({trusted})"
    values = [e.value or 0.0 for b in found.bounds.values() for e in rungs(b).values()]
    highest = max(values, default=0.0)
    return highest, f"nats above the highest bound, {highest:.3f}"


def _rungs(axes: Axes, found: Evidence) -> None:
    zero, axis = _zero(found)
    labels = dict.fromkeys([*found.bounds, *found.evidence])
    at = {label: -i for i, label in enumerate(labels)}
    names: list[str] = []
    for label, bounds in found.bounds.items():
        there = rungs(bounds)
        values = [(e.value or 0.0) - zero for e in there.values()]
        axes.plot(values, [at[label]] * len(values), color="0.75", zorder=0)
        for name, e in there.items():
            _point(axes, e, zero, at[label], name, name not in names)
            names.append(name)
    for label, e in found.evidence.items():
        if not known(e):
            continue
        _point(axes, e, zero, at[label], "log p(X)", "log p(X)" not in names)
        names.append("log p(X)")
    if found.trusted is not None:
        spread = 2 * (found.evidence[found.trusted].se or 0)
        axes.axvspan(-spread, spread, color="0.9", zorder=-1)
        axes.axvline(0, color="0.6", linewidth=1, zorder=-1)
    axes.set_yticks(list(at.values()), list(at))
    axes.set_ylim(min(at.values()) - 0.6, 0.6)
    axes.set_xlabel(axis)
    if names:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, frameon=False
        )


def _point(axes: Axes, e: Value, zero: float, y: float, name: str, first: bool) -> None:
    colour, marker = MARKERS[name]
    axes.errorbar(
        (e.value or 0.0) - zero,
        y,
        xerr=2 * (e.se or 0) or None,
        fmt=marker,
        color=colour,
        markersize=16 if marker == "|" else 6,
        capsize=3,
        label=name if first else None,
    )


def _gaps(axes: Axes, gaps: Mapping[str, Gap]) -> None:
    """Stacked bars of the parts of each gap, nats, with two errors of the total."""
    left = dict.fromkeys(gaps, 0.0)
    at = {label: -i for i, label in enumerate(gaps)}

    def value(estimate: Value | None) -> float:
        return estimate.value or 0.0 if estimate else 0.0

    parts = {
        "optimisation": [g.optimisation or 0.0 for g in gaps.values()],
        "label symmetry": [value(g.symmetry) for g in gaps.values()],
        "mean field": [max(value(g.mean_field), 0.0) for g in gaps.values()],
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
        for label, width in zip(gaps, widths, strict=True):
            left[label] += width
    for label, gap in gaps.items():
        if not known(gap.total):
            continue
        error = 2 * (gap.total.se or 0) or None
        axes.errorbar(value(gap.total), at[label], xerr=error, color="black")
    axes.set_yticks(list(at.values()), list(at))
    axes.set_ylim(min(at.values()) - 0.6, 0.6)
    axes.set_xlabel("gap to log p(X), nats")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, frameon=False)


def deviations(run: StoredRun) -> Figure | None:
    """Posterior sds over the reference's, by mean field and by linear response."""
    methods = run.record.methods
    corrected = responses(run.record)
    if run.reference is None or not corrected:
        return None
    trusted = methods[run.reference].quantities
    common = set.intersection(*(set(r.quantities) for r in corrected.values()))
    names = [n for n in trusted if n in common and (trusted[n].sd or 0) > 0][:SHOWN]
    if not names:
        return None
    height = 0.3 if len(corrected) == 1 else 0.2 + 0.2 * len(corrected)
    figure = Figure(figsize=(7.2, 1.6 + height * len(names)), layout="constrained")
    axes = figure.subplots()
    at = -np.arange(len(names))
    unit = np.array([trusted[n].sd for n in names])
    kinds = {"mean field": "mean_field_sd", "linear response": "sd"}
    series = [
        (f"{label}, {kind}", [getattr(response.quantities[n], key) for n in names])
        for label, response in corrected.items()
        for kind, key in kinds.items()
    ]
    step = 0.3 / len(series)
    for i, (name, sds) in enumerate(series):
        place = at + step * (len(series) / 2 - i)
        shape, colour = "os"[i % 2], COLOURS[i % len(COLOURS)]
        axes.plot(np.array(sds) / unit, place, shape, color=colour, label=name)
    error = np.array([trusted[n].sd_mcse or 0 for n in names]) / unit
    axes.errorbar(
        np.ones(len(names)),
        at - 0.15,
        xerr=2 * error,
        fmt="|",
        color="black",
        label=f"{run.reference} (reference, 2 errors)",
    )
    doubtful = {
        n for n in names for r in corrected.values() if r.quantities[n].unreliable
    }
    axes.set_yticks(at, [f"{n} (!)" if n in doubtful else n for n in names])
    axes.axvline(1, color="0.8", linewidth=1, zorder=-1)
    axes.set_xlabel("posterior sd over the reference's")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    overlapping = any(r.overlapping for r in corrected.values())
    note = "; (!) its component overlaps another" if overlapping else ""
    axes.set_title(f"{run.name}: standard deviations{note}", fontsize=11)
    return figure


def error_against_time(run: StoredRun) -> Figure | None:
    """The largest errors against seconds, and against passes over the data.

    A band is the reference's own error; points below it tell of it, not of a method.
    """
    found = run.record.curves
    if found is None or not found.methods:
        return None
    styles = _styles(run)
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    rows = {"seconds": "seconds of a steady run", "passes": "passes over the data"}
    grid = figure.subplots(len(rows), len(ERRORS), sharey="col")
    for row, (amount, xlabel) in enumerate(rows.items()):
        for axes, (name, title) in zip(grid[row], ERRORS.items(), strict=True):
            for label, curve in found.methods.items():
                _error_curve(axes, curve, amount, name, styles[label], label)
            floor = getattr(found.floor, name) or 0.0
            axes.axhspan(0, floor, color="0.85", zorder=-1)
            axes.set_xscale("log")
            axes.set_yscale("log")
            if row == 0:
                axes.set_title(title, fontsize=10)
            axes.set_xlabel(xlabel)
        grid[row][0].axhline(found.margin, color="0.6", linestyle=":", linewidth=1)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False
    )
    figure.suptitle(
        f"{run.name}: error against time, from {found.reference} (grey: its own error)",
        fontsize=11,
    )
    return figure


def _error_curve(
    axes: Axes,
    curve: Curve,
    amount: str,
    name: str,
    style: tuple[str, str],
    label: str,
) -> None:
    """One method's errors by seconds or by passes, with bars of two errors."""
    known = curve.errors(name, amount)
    if not known:
        return
    x, y, error = np.array(known).T
    colour, dash = style
    below = np.minimum(2 * error, 0.9 * y)  # of a logarithmic axis
    axes.errorbar(
        x,
        y,
        yerr=(below, 2 * error),
        color=colour,
        linestyle=dash if len(x) > 1 else "none",
        marker="o",
        markersize=3,
        linewidth=1.2,
        elinewidth=0.6,
        label=label,
    )


FIGURES: dict[str, Callable[[StoredRun], Figure | None]] = {
    "components": components,
    "marginals": marginals,
    "bound": bound,
    "timing": timing,
    "evidence": ladder,
    "deviations": deviations,
    "error_against_time": error_against_time,
}
"""Name of the file -> function that draws the figure."""
