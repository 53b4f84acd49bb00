"""The report of a calibration: table, a line per method, summary.json, figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from vi_bench.calibration.band import band, ecdf, grid
from vi_bench.calibration.calibration import RESPONSE, SAME, Calibration
from vi_bench.calibration.uniformity import INTERVALS, Row
from vi_bench.reports.style import COLOURS, DASHES, bare_table
from vi_bench.runtime.strict_json import document

SCHEMA = 1
"""Version of summary.json, which docs/calibration.md describes."""

SURE = 2.58
"""Standard errors from 1 beyond which a method is called over- or underconfident."""

FAR = 3.0
"""Mean normal score beyond which the truth lies far outside the posterior."""

PANELS = 12
"""Largest number of panels in a figure."""


def calibration_table(found: Calibration) -> Table:
    """The terminal table of a calibration: a row per method and quantity."""
    asked = found.settings
    size = f"{asked.sims} data sets"
    if asked.spec.numpyro is None:
        size += (
            f" of {asked.rows} x {asked.features}, K = {asked.components}, "
            f"{asked.weights['name']} weights"
        )
    drawn = bare_table(f"{asked.model['name']}: {size}", keys=2)
    drawn.add_column("method")
    drawn.add_column("quantity")
    for name in ("band p", "", "shift", "dispersion"):
        drawn.add_column(name, justify="left" if not name else "right")
    for interval in INTERVALS:
        drawn.add_column(f"in {100 * interval:.0f} %", justify="right")
    for label, rows in found.rows.items():
        for i, (name, row) in enumerate(rows.items()):
            drawn.add_row(
                label if i == 0 else "",
                escape(name),
                f"{row.band_p:.2g}" if row.band_p >= 1e-3 else "<0.001",
                _uniform(row, found.lost[label]),
                f"{row.shift:+.2f}±{row.shift_se:.2f}",
                f"{row.dispersion:.2f}±{row.dispersion_se:.2f}",
                *(_share(row, interval) for interval in INTERVALS),
                end_section=i == len(rows) - 1,
            )
    return drawn


def _uniform(row: Row, lost: int) -> str:
    if not row.uniform:
        return "[red]not uniform[/]"
    return f"[yellow]uniform, {lost} lost[/]" if lost else "[green]uniform[/]"


def _share(row: Row, interval: float) -> str:
    share = row.coverage[interval]
    return f"{100 * share.value:.1f}±{50 * (share.high - share.low) / 1.96:.1f}"


def calibration_lines(found: Calibration) -> Iterator[str]:
    """Lines on each method, then on VSBC, Geweke's test, notes and failures."""
    for label, rows in found.rows.items():
        if not label.endswith((RESPONSE, SAME)):
            yield f"{label}: {_word(found, label, rows)}"
    for label, sides in found.asymmetry.items():
        moved = {name: a for name, a in sides.items() if not a.symmetric}
        if not moved:
            yield f"{label}: no bias of q's components in {len(sides)} coordinates"
        for name, a in moved.items():
            if np.isnan(a.wilcoxon_p):
                yield f"{label}: Q(theta*) of {name} is not a number in some data sets"
                continue
            side = "above" if a.shift > 0 else "below"
            yield (
                f"{label}: the truth lies {side} q's {name}: "
                f"mean of p {a.shift + 0.5:.3f}, p-value {a.wilcoxon_p:.1g}"
            )
    for label, tests in found.joint.items():
        lost = [name for name, joint in tests.items() if not joint.kept]
        said = (
            f"the kernel does NOT leave the posterior invariant: {', '.join(lost)}"
            if lost
            else f"no fault found by Geweke's test, {len(tests)} quantities of "
            f"{found.settings.geweke} chains"
        )
        yield f"{label}: {said}"
    for label, notes in found.notes.items():
        for note in notes:
            yield f"{label}: {note}"
    for word, reasons in (("skipped", found.skipped), ("failed", found.failed)):
        for label, reason in reasons.items():
            yield f"{label}: {word}: {reason}"


def _word(found: Calibration, label: str, rows: dict[str, Row]) -> str:
    passed = sum(row.uniform for row in rows.values())
    said = f"uniform in {passed} of {len(rows)} quantities"
    lost = found.lost[label]
    if lost:
        said += (
            f" of {found.settings.sims - lost} data sets; the draws of {lost} others "
            "are not finite, so it is not calibrated"
        )
    if passed == len(rows):
        return said if lost else said + _power(found.finds(label))
    bad = {name: row for name, row in rows.items() if not row.uniform}
    name, row = max(bad.items(), key=lambda item: abs(item[1].shift))
    if abs(row.shift) > FAR:
        side = "above" if row.shift > 0 else "below"
        return f"{said}; the truth lies far {side} the posterior of {name}"
    stretched = found.rows.get(label + RESPONSE, {})
    # prefer quantities that have linear response, if there are any
    told = {name: row for name, row in bad.items() if name in stretched} or bad
    name, row = max(told.items(), key=lambda item: abs(item[1].dispersion - 1))
    apart = (row.dispersion - 1) / max(row.dispersion_se, 1e-12)
    word = "dispersion"
    if abs(apart) > SURE:
        word = f"{'over' if apart > 0 else 'under'}confident: dispersion"
    said += f"; {word} {_number(row)} in {name}"
    if name in stretched:
        said += f"; with linear response {_number(stretched[name])}"
        same = found.rows.get(label + SAME)
        if same:
            said += f" ({_number(same[name])} without, on the same simulations)"
    refused = found.refused.get(label)
    if refused:
        said += f"; linear response refused in {refused} of {found.settings.sims}"
    return said


def _power(dispersion: float) -> str:
    if not np.isfinite(dispersion):
        return "; so few data sets hardly find any dispersion"
    return f"; a dispersion of {dispersion:.2f} would be found in 9 of 10 calibrations"


def _number(row: Row) -> str:
    return f"{row.dispersion:.2f}±{row.dispersion_se:.2f}"


def calibration_record(found: Calibration) -> dict[str, Any]:
    """The content of summary.json as plain values."""

    def row(of: Row) -> dict[str, Any]:
        plain = asdict(of)
        plain["coverage"] = {str(c): asdict(s) for c, s in of.coverage.items()}
        return plain

    return {
        "schema": SCHEMA,
        "settings": found.settings.plain(),
        "environment": found.environment,
        "rows": {
            label: {name: row(of) for name, of in rows.items()}
            for label, rows in found.rows.items()
        },
        "lost": found.lost,
        "finds": {label: found.finds(label) for label in found.rows},
        "linear_response_refused": found.refused,
        "asymmetry": {
            label: {
                name: {
                    "shift": a.shift,
                    "wilcoxon_p": a.wilcoxon_p,
                    "ks_p": a.ks_p,
                    "symmetric": a.symmetric,
                }
                for name, a in sides.items()
            }
            for label, sides in found.asymmetry.items()
        },
        "geweke": {
            label: {name: asdict(joint) for name, joint in tests.items()}
            for label, tests in found.joint.items()
        },
        "notes": found.notes,
        "skipped": found.skipped,
        "failed": found.failed,
    }


def write_calibration(found: Calibration, folder: Path) -> None:
    """Write summary.json and every figure as PNG and PDF."""
    text = document(calibration_record(found), indent=1)
    (folder / "summary.json").write_text(text, encoding="utf-8")
    drawn = {"ecdf": ecdfs, "dispersion": dispersions, "vsbc": sides}
    for name, draw in drawn.items():
        figure = draw(found)
        if figure is not None:
            for suffix in ("png", "pdf"):
                figure.savefig(folder / f"{name}.{suffix}", dpi=130)


def _styles(found: Calibration) -> dict[str, tuple[str, str]]:
    labels = [label for label in found.rows if not label.endswith(SAME)]
    return {
        label: (COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)])
        for i, label in enumerate(labels)
    }


def _panels(count: int, height: float) -> tuple[Figure, Any]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(3.2 * columns + 0.4, height * rows + 0.9), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels


def ecdfs(found: Calibration) -> Figure | None:
    """ECDF of the PITs of each quantity minus uniform, with its simultaneous band."""
    styles = _styles(found)
    names = list(dict.fromkeys(q for label in styles for q in found.pits[label]))
    if not names:
        return None
    level = found.settings.level
    figure, panels = _panels(len(names[:PANELS]), 2.3)
    handles = {}
    for axes, name in zip(panels, names, strict=False):
        sizes = [len(found.pits[m][name]) for m in styles if name in found.pits[m]]
        z = grid(max(sizes))
        low, high = band(max(sizes), level)
        axes.fill_between(z, low - z, high - z, color="0.88", linewidth=0)
        axes.axhline(0, color="0.6", linewidth=0.8)
        for label, (colour, dash) in styles.items():
            if name in found.pits[label]:
                u = found.pits[label][name]
                (handles[label],) = axes.plot(
                    grid(len(u)), ecdf(u) - grid(len(u)), dash, color=colour
                )
        axes.set_title(name, fontsize=9)
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=8)
    shown = [label for label in styles if label in handles]
    figure.legend(
        [handles[label] for label in shown],
        shown,
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    more = f", the first {PANELS} of {len(names)}" if len(names) > PANELS else ""
    figure.suptitle(
        f"{found.settings.model['name']}: ECDF of the PIT minus uniform, "
        f"{100 * (1 - level):g} % band{more}",
        fontsize=10,
    )
    return figure


def dispersions(found: Calibration) -> Figure | None:
    """Dispersion of the normal scores with two standard errors; 1 is calibrated."""
    styles = _styles(found)
    names = list(dict.fromkeys(q for label in styles for q in found.rows[label]))
    if not names:
        return None
    figure = Figure(figsize=(6.4, 1.3 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=0.8)
    for i, (label, (colour, _)) in enumerate(styles.items()):
        rows = found.rows[label]
        places = [names.index(q) for q in rows]
        offset = 0.6 * ((i + 0.5) / len(styles) - 0.5)
        axes.errorbar(
            [row.dispersion for row in rows.values()],
            np.array(places) + offset,
            xerr=[2 * row.dispersion_se for row in rows.values()],
            fmt="o",
            markersize=4,
            color=colour,
            label=label,
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="sd of the normal scores (over 1: the posterior is too narrow)")
    axes.set_title(f"{found.settings.model['name']}: dispersion, 2 standard errors")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def sides(found: Calibration) -> Figure | None:
    """Histograms of VSBC's p, by coordinate and rank of the component in q."""
    panels_of = [
        (label, name, a)
        for label, every in found.asymmetry.items()
        for name, a in every.items()
    ]
    if not panels_of:
        return None
    figure, panels = _panels(len(panels_of[:PANELS]), 2.0)
    labels = list(found.asymmetry)
    for axes, (label, name, a) in zip(panels, panels_of, strict=False):
        bins = 20 if len(a.p) >= 200 else 10
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        axes.hist(a.p, bins=bins, range=(0, 1), color=colour, alpha=0.75)
        axes.axhline(len(a.p) / bins, color="0.4", linewidth=0.8)
        axes.set_title(f"{label}: {name}, p = {a.wilcoxon_p:.1g}", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.suptitle("VSBC: Q(theta*), lopsided where q's mean is biased", fontsize=10)
    figure.supxlabel("p", fontsize=9)
    return figure
