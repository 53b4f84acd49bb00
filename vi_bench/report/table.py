"""The table of a run, and the lines under it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from vi_bench.comparison import Comparison
from vi_bench.comparison.coverage import NEAR
from vi_bench.comparison.measures import Distance, Estimate
from vi_bench.methods.cavi import occupied
from vi_bench.record import ess_per_second, restarts
from vi_bench.report.deviations import deviations_table
from vi_bench.report.joint import joint_lines, joint_table, prediction_table
from vi_bench.report.ladder import evidence_lines, evidence_table, with_error
from vi_bench.report.style import NOTHING, bare_table
from vi_bench.spec import AUTO, values_of

if TYPE_CHECKING:
    from vi_bench.result import MethodRun, Result

NUMBERS = (
    "ELBO\nlabels in q",
    "ELBO labels\nsummed out",
    "worst mean\ndiff / sd",
    "worst\nsd ratio",
    "compile s",
    "run s",
    "ESS/s",
)

STYLE = {
    "agrees": "green",
    "agrees in marginals": "yellow",
    "differs": "red",
    "at the margin": "yellow",
    "inconclusive": "yellow",
    "reference unreliable": "yellow",
    "reference": "bold",
    "failed": "red",
    "not finite": "red",
}


def table(result: Result) -> Table:
    """A row per method; differences are the worst over the judged quantities."""
    title = (
        f"{result.spec.name}: {len(result.table_data)} x "
        f"{len(result.table_data.features)}, K = {result.spec.components}, "
        f"{result.environment['precision']} bits, {result.environment['device']}"
    )
    drawn = bare_table(escape(title))
    drawn.add_column("method", no_wrap=True)
    for name in NUMBERS[:4]:
        drawn.add_column(name, justify="right", overflow="fold")
    drawn.add_column("verdict", min_width=12)
    for name in NUMBERS[4:]:
        drawn.add_column(name, justify="right", overflow="fold")
    drawn.add_column("device")
    for label in result.runs:
        drawn.add_row(*cells(result, label))
    return drawn


def further_tables(result: Result) -> Iterator[Table]:
    """What there is besides: joint distances, bounds, sds, predictions."""
    found = result.comparison
    if found is None:
        return
    drawn = (
        joint_table(found),
        evidence_table(result),
        deviations_table(result),
        prediction_table(found),
    )
    yield from (t for t in drawn if t is not None)


def cells(result: Result, label: str) -> list[str]:
    """One row of the table."""
    run = result.runs[label]
    found = result.comparison
    distances = judged(result.comparison, label)
    worst_mean = furthest([d.mean_difference for d in distances], 0.0)
    worst_ratio = furthest([d.sd_ratio for d in distances], 1.0)
    word: str
    if not run.usable:
        word = run.outcome.status
    elif found is None:
        word = NOTHING
    elif label == found.reference:
        word = "reference"
    else:
        word = found.verdicts[label].word
    style = STYLE.get(word)
    times = run.time()
    per_second = ess_per_second(result, label)
    cached = "*" if times["compile_cached"] else ""
    return [
        escape(label),
        with_error(*own_bound(run)),
        with_error(*run.marginal_bound()),
        NOTHING if worst_mean is None else estimate(worst_mean, "+.2f"),
        NOTHING if worst_ratio is None else estimate(worst_ratio, ".2f"),
        f"[{style}]{word}[/]" if style else word,
        f"{times['compile_s']:.2f}{cached}" if run.stages else NOTHING,
        _seconds(run),
        NOTHING if per_second is None else f"{per_second:.3g}",
        result.environment["device"].partition(":")[0],
    ]


def optima_lines(result: Result) -> Iterator[str]:
    """Which optima of the bound are known, and where samplers' draws lead."""
    found = result.comparison.coverage if result.comparison else None
    if found is None or len(found.optima) < 2:
        return
    for i, optimum in enumerate(found.optima[:4]):
        shares = ", ".join(
            f"{label} {100 * share[i]:.0f} %" for label, share in found.visits.items()
        )
        yield f"{optimum.say()}; draws that lead to it: {shares}"
    if len(found.optima) > 4:
        yield f"{len(found.optima) - 4} more optima within {NEAR:g} nats of the best"


def response_lines(result: Result) -> Iterator[str]:
    """What linear response says of the fixed point, or why it was refused."""
    for label, run in result.runs.items():
        response = run.response
        if response is None:
            continue
        if response.refused:
            yield f"{label}: no linear response: {response.refused}"
            continue
        yield f"{label}: CAVI's linear rate is {response.rate:.4f}"
        if response.overlapping:
            numbers = ", ".join(map(str, response.overlapping))
            yield (
                f"{label}: components {numbers} overlap: their own linear-response sds "
                "(!) are unreliable, those of averages need not be"
            )


def _optimum(found: dict[str, Any]) -> str:
    full = f" ({found['occupied']} components)"
    return f"{found['bound']:.3f} x {found['restarts']}{full}"


def described(settings: Any) -> str:
    """Settings as they would be written, every value shown."""
    values = ", ".join(f"{k}={v!r}" for k, v in values_of(settings).items())
    return f"{type(settings).__name__}({values})"


def _seconds(run: MethodRun) -> str:
    steady = run.steady() if run.usable else None
    return f"{steady['median']:.3g}" if steady else NOTHING


def own_bound(run: MethodRun) -> tuple[float | None, float | None]:
    """The bound with the labels in q, of methods that have one."""
    return run.bound() if run.method.bound_keeps_labels else (None, None)


def judged(found: Comparison | None, label: str) -> list[Distance]:
    """The distances that a method's verdict rests on."""
    if found is None or label not in found.distances:
        return []
    distances = found.distances[label]
    return [distances[name] for name in found.judged if name in distances]


def furthest(estimates: list[Estimate], target: float) -> Estimate | None:
    """The estimate furthest from its target."""
    finite = [e for e in estimates if np.isfinite(e.value)]
    return max(finite, key=lambda e: abs(e.value - target)) if finite else None


def estimate(e: Estimate, form: str) -> str:
    """A number and its error."""
    if abs(e.value) >= 1e4:
        form = form.replace(".2f", ".1e")
        return f"{e.value:{form}}±{e.se:.0e}"
    return f"{e.value:{form}}±{e.se:.2f}"


def lines(result: Result) -> Iterator[str]:
    """What to know besides the table: reasons, outcomes, restarts, notes."""
    for label, run in result.runs.items():
        reason = ""
        if result.comparison and label in result.comparison.verdicts:
            reason = f"; {result.comparison.verdicts[label].reason}"
        yield f"{label}: {run.outcome.status}, {run.outcome.sentence}{reason}"
        if run.draws is not None and "restart_bound" in run.draws.report:
            found = restarts(run.draws.report)["optima"]
            shown = ", ".join(map(_optimum, found[:4]))
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            count = len(run.draws.report["restart_bound"])
            optima = "optimum" if len(found) == 1 else "distinct optima"
            yield f"{label}: {count} starts, {len(found)} {optima}: {shown}{more}"
        if run.draws is not None and "counts" in run.draws.report:
            counts = np.asarray(run.draws.report["counts"])
            if (full := occupied(counts)) < len(counts):
                yield (
                    f"{label}: {full} of {len(counts)} components hold rows, the "
                    "others are empty: their parameters are the prior's"
                )
    if result.comparison is None:
        wanted = result.spec.held_against or result.spec.reference
        if wanted is None:
            yield "no reference among the methods: nothing was compared"
        else:
            yield f"the reference {wanted} has no draws: no comparison"
    if result.comparison and result.comparison.note:
        yield result.comparison.note
    yield from optima_lines(result)
    if result.spec.draws == AUTO:
        shapes = {k: run.shape() for k, run in result.runs.items()}
        made = ", ".join(
            f"{k} {v[0]} x {v[1]}{' (budget spent)' if result.runs[k].short else ''}"
            for k, v in shapes.items()
            if v
        )
        yield f"draws by precision: {made}"
    if result.comparison:
        yield from joint_lines(result.comparison)
    yield from evidence_lines(result)
    yield from response_lines(result)
    if any(run.time()["compile_cached"] for run in result.runs.values()):
        yield "* compiled before: from the persistent cache, or from this process"
    yield f"model and prior: {described(result.family)}"
    yield f"weights: {described(result.weights)}"
    if result.table_data.note:
        yield f"data: {result.table_data.note}"
