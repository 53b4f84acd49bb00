"""The tables of a run; every renderer shows the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vi_bench.results.summary_schema import (
    Compared,
    ComparisonRecord,
    Difference,
    Method,
    Posterior,
    Record,
    Response,
    Value,
)


@dataclass(frozen=True)
class Number:
    """A number with its standard error.

    Attributes:
        value: the number; None where it is not known.
        se: its standard error; 0 or None where it has none.
        mark: text shown after it, such as "(!)".
        decimals: decimals shown of a number without an error; by default it has four
            significant digits.
    """

    value: float | None
    se: float | None = None
    mark: str = ""
    decimals: int | None = None

    def __str__(self) -> str:
        """The number to two digits of its error, or to four digits without one."""
        if self.value is None or not math.isfinite(self.value):
            return ""
        text = rounded(self.value, self.se, self.decimals)
        return f"{text} {self.mark}".strip()


Cell = Number | str

ESS_PER_SECOND = (
    "of samplers: effective draws a second of the judged quantity that mixes worst, "
    "warm-up counted"
)
"""What a column of that name holds."""

TO_MARGIN = (
    "seconds of such a run after which all means stay within the reference's margin"
)
"""What the column of that name holds."""


@dataclass(frozen=True)
class ReportTable:
    """A table as every renderer takes it.

    Attributes:
        name: a word, for files and links.
        title: what it shows, and in which unit.
        head: names of the columns.
        rows: rows of cells, one per column.
        notes: column -> its meaning, where the name does not tell.
        keys: number of leading columns that identify a row.
        long: whether it has a row per quantity; terminals show the first rows only.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    keys: int = 1
    long: bool = False

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        cells = [row[column] for row in self.rows]
        return any(isinstance(c, Number) for c in cells)


def rounded(value: float, se: float | None, decimals: int | None = None) -> str:
    """`value±se` to two digits of the error; four digits of an exact number."""
    if not se or not math.isfinite(se) or se < 1e-12 * abs(value):
        if decimals is not None:
            return f"{value:.{decimals}f}"
        whole = value == int(value) and abs(value) < 1e9
        return f"{int(value)}" if whole else f"{value:.4g}"
    if abs(value) >= 1e6 or se < 1e-6:
        return f"{value:.4g}±{se:.1g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{digits}f}±{se:.{digits}f}"


def tables(run: Record) -> list[ReportTable]:
    """All tables of a run that have rows."""
    made = (
        verdicts(run),
        parameters(run),
        differences(run),
        joint(run),
        evidence(run),
        predictions(run.methods),
        costs(run),
        error_against_time(run),
        convergence(run),
        samplers(run),
        optima(run),
        importance(run),
    )
    return [table for table in made if table.rows]


def verdicts(run: Record) -> ReportTable:
    """A row per method: verdict, largest differences, bounds in nats, and times."""
    rows = []
    for label, method in run.methods.items():
        judged = [row for row in run.of_method(label) if row.judged]
        own = method.assignments_in_q
        rows.append(
            (
                label,
                run.word(label),
                furthest(judged, "mean_difference", 0.0),
                furthest(judged, "sd_ratio", 1.0),
                _nats(method.bound, method.bound_se) if own else "",
                _nats(method.marginal_elbo, method.marginal_elbo_se),
                _compiled(method),
                Number(method.seconds if method.usable else None),
                Number(method.ess_per_s),
            )
        )
    return ReportTable(
        "verdicts",
        f"verdicts, compared with {run.reference}"
        if run.reference
        else "methods, compared with none",
        (
            "method",
            "verdict",
            "mean diff / sd",
            "sd ratio",
            "ELBO",
            "marginal ELBO",
            "compile s",
            "run s",
            "ESS/s",
        ),
        tuple(rows),
        {
            "mean diff / sd": "difference of posterior means over the reference's sd, "
            "the largest among the judged quantities",
            "sd ratio": "posterior sd over the reference's, the furthest from 1",
            "ELBO": "nats, assignments in q",
            "marginal ELBO": "nats, assignments marginalised: comparable between "
            "methods",
            "compile s": "*: compiled before",
            "run s": "median of the repeats, compiled and warm",
            "ESS/s": ESS_PER_SECOND,
        },
    )


def compared(found: ComparisonRecord) -> ReportTable:
    """A row per posterior: verdict, draws, diagnostics, largest differences."""
    rows = []
    for label, known in found.posteriors.items():
        judged = [row for row in found.of_method(label) if row.judged]
        of_judged = {row.quantity for row in found.comparisons if row.judged}
        own = [s for name, s in known.quantities.items() if name in of_judged]
        ess = [s.ess_bulk for s in own if s.ess_bulk is not None]
        r_hat = [s.r_hat for s in own if s.r_hat is not None]
        rows.append(
            (
                label,
                found.word(label),
                " x ".join(map(str, known.draws or ())),
                Number(min(ess, default=None), decimals=0),
                Number(max(r_hat, default=None), decimals=3),
                furthest(judged, "mean_difference", 0.0),
                furthest(judged, "sd_ratio", 1.0),
            )
        )
    return ReportTable(
        "compared",
        f"compared with {found.reference}",
        (
            "posterior",
            "verdict",
            "draws",
            "min ESS",
            "max R-hat",
            "mean diff / sd",
            "sd ratio",
        ),
        tuple(rows),
    )


def _compiled(method: Method) -> Number:
    if not method.time.stages or not method.time.compiled:
        return Number(None)
    mark = "*" if method.time.compile_cached else ""
    return Number(method.time.compile_s, mark=mark, decimals=2)


def _nats(value: float | None, se: float | None = None) -> Number:
    return Number(value, se, decimals=3)


def responses(run: Record) -> dict[str, Response]:
    """Label -> linear response, of methods where it was not refused."""
    found = {label: m.linear_response for label, m in run.methods.items()}
    return {label: r for label, r in found.items() if r and not r.refused}


def parts(run: Record) -> tuple[list[str], dict[str, list[float | None]]]:
    """Labels of methods that were started, and part -> the seconds of each."""
    begun = {k: m for k, m in run.methods.items() if m.time.stages}
    times = [m.time for m in begun.values()]
    return list(begun), {
        "set-up": [t.setup_s for t in times],
        "trace": [t.trace_s for t in times],
        "compile": [t.compile_s for t in times],
        "run": [m.seconds for m in begun.values()],
    }


def furthest(rows: Iterable[Difference], name: str, target: float) -> Number:
    """The value of a field that is furthest from its target, with its error."""
    known = [row for row in rows if getattr(row, name) is not None]
    if not known:
        return Number(None)
    row = max(known, key=lambda row: abs(getattr(row, name) - target))
    return Number(getattr(row, name), getattr(row, f"{name}_se"))


def parameters(run: Record) -> ReportTable:
    """A row per quantity: posterior means and sds of every method side by side."""
    methods = {k: m for k, m in run.methods.items() if m.quantities}
    names = list(dict.fromkeys(q for m in methods.values() for q in m.quantities))
    corrected = {
        label: found.quantities
        for label, found in responses(run).items()
        if label in methods
    }
    head = ["quantity", *(f"mean {label}" for label in methods)]
    for label in methods:
        head.append(f"sd {label}")
        if label in corrected:
            head += [f"sd {label} mean field", f"sd {label} linear response"]
    rows = []
    for name in names:
        cells: list[Cell] = [name]
        cells += [_moment(method, name, "mean") for method in methods.values()]
        for label, method in methods.items():
            cells.append(_moment(method, name, "sd"))
            if label in corrected:
                known = corrected[label].get(name)
                mark = "(!)" if known and known.unreliable else ""
                cells.append(Number(known.mean_field_sd) if known else "")
                cells.append(Number(known.sd, mark=mark) if known else "")
        rows.append(tuple(cells))
    return ReportTable(
        "parameters",
        "posterior means and standard deviations, with Monte-Carlo errors",
        tuple(head),
        tuple(rows),
        {
            name: "(!): its component overlaps another, not to be relied on"
            for name in head
            if name.endswith("linear response")
        },
        long=True,
    )


def _moment(method: Method, name: str, moment: str) -> Cell:
    known = method.quantities.get(name)
    if known is None:
        return ""
    return Number(getattr(known, moment), getattr(known, f"{moment}_mcse"))


def differences(run: Record) -> ReportTable:
    """A row per method and quantity: differences from the reference."""
    rows = [
        (
            row.method,
            row.quantity,
            "yes" if row.judged else "no",
            Number(row.mean_difference, row.mean_difference_se),
            Number(row.sd_ratio, row.sd_ratio_se),
            Number(row.w1, row.w1_se),
            Number(row.w1_floor),
        )
        for row in run.comparisons
    ]
    return ReportTable(
        "differences",
        f"differences from {run.reference}, in its posterior sds",
        ("method", "quantity", "judged", "mean", "sd ratio", "W1", "W1 floor"),
        tuple(rows),
        {
            "judged": "whether the verdict rests on it",
            "W1": "Wasserstein distance of the marginals",
            "W1 floor": "of the reference's own halves, scaled to all of its draws",
        },
        keys=2,
        long=True,
    )


JOINT = {
    "sliced": "sliced W1",
    "transport": "W1",
    "energy": "energy distance",
    "mmd": "MMD^2",
    "classifier": "classifier accuracy",
    "similarity": "co-clustering",
}
"""Field of a joint measure -> its name in tables."""


def joint(run: Compared) -> ReportTable:
    """A row per method and joint measure, over all quantities at once."""
    rows = []
    for label, found in run.joint.items():
        for key, name in JOINT.items():
            known = getattr(found, key)
            if known is None or known.value is None:
                continue
            value, floor = known.value, known.floor
            rows.append(
                (
                    label,
                    name,
                    Number(value, known.se),
                    Number(floor),
                    Number(value / floor) if floor else "",
                    Number(known.p_value),
                    Number(found.matched if key == "transport" else found.used),
                )
            )
    return ReportTable(
        "joint",
        f"distances from {run.reference} in all quantities at once",
        ("method", "measure", "value", "floor", "ratio", "p", "draws a side"),
        tuple(rows),
        {
            "floor": "the same distance between two parts of the reference's own draws",
            "p": "of a permutation test that both are draws of one distribution",
        },
        keys=2,
    )


RUNGS = {
    "elbo": "ELBO",
    "marginal_elbo": "marginal ELBO",
    "symmetrised": "symmetrised ELBO",
    "importance_weighted": "importance-weighted ELBO",
}
"""Field of a bound on log p(X) in the record -> its name in tables."""


def evidence(run: Record) -> ReportTable:
    """A row per method: bounds on log p(X), estimates, and parts of the gap, nats."""
    head = (
        "method",
        "log p(X)",
        *RUNGS.values(),
        "gap",
        "optimisation",
        "label symmetry",
        "mean field",
    )
    title, found = "log p(X) and bounds on it, in nats", run.evidence
    if found is None:
        return ReportTable("evidence", title, head, ())
    rows = []
    for label in dict.fromkeys([*found.bounds, *found.evidence]):
        bounds, gap = found.bounds.get(label), found.gaps.get(label)
        rows.append(
            (
                label,
                _estimate(found.evidence.get(label)),
                *(_estimate(getattr(bounds, name, None)) for name in RUNGS),
                _estimate(gap.total if gap else None),
                _nats(gap.optimisation) if gap else "",
                _estimate(gap.symmetry if gap else None),
                _estimate(gap.mean_field if gap else None),
            )
        )
    return ReportTable(
        "evidence",
        title + (f"; gaps to {found.trusted}" if found.trusted else ""),
        head,
        tuple(rows),
        {
            "ELBO": "assignments in q",
            "marginal ELBO": "assignments marginalised",
            "symmetrised ELBO": "q averaged over permutations of the components",
            "gap": "of the lowest bound; the next three columns are what it consists "
            "of",
        },
    )


def _estimate(found: Value | None) -> Cell:
    return "" if found is None else _nats(found.value, found.se)


def predictions(posteriors: Mapping[str, Posterior]) -> ReportTable:
    """A row per method and estimate: expected log predictive densities, nats."""
    rows = []
    for label, method in posteriors.items():
        for kind, known in method.elpd.items():
            apart = known.minus_reference
            rows.append(
                (
                    label,
                    {"loo": "PSIS-LOO", "held_out": "held out"}[kind],
                    Number(known.elpd, known.se),
                    Number(known.mc_error),
                    Number(apart.value, apart.se) if apart else "",
                    Number(known.minus_reference_mc_error),
                    Number(known.rows),
                    Number(known.worst_khat),
                    Number(known.p_loo),
                )
            )
    return ReportTable(
        "predictions",
        "expected log predictive density (elpd), nats",
        (
            "method",
            "estimate",
            "elpd",
            "Monte-Carlo error",
            "minus reference's",
            "its Monte-Carlo error",
            "rows",
            "worst k-hat",
            "p_loo",
        ),
        tuple(rows),
        {
            "elpd": "its error is over rows taken at random",
            "minus reference's": "row by row, so its error is smaller than either's",
        },
        keys=2,
    )


def costs(run: Record) -> ReportTable:
    """A row per method: seconds by kind, ESS per second, memory in MB."""
    rows = []
    for label, method in run.methods.items():
        time, spread = method.time, method.time.run_s
        if not time.stages:
            continue
        memory = method.memory_bytes
        extra: list[Cell] = [Number(run.within(label))] if run.curves else []
        rows.append(
            (
                label,
                Number(time.setup_s),
                Number(time.trace_s),
                Number(
                    time.compile_s if time.compiled else None,
                    mark="*" if time.compile_cached and time.compiled else "",
                ),
                Number(time.first_s),
                Number(spread.median if spread else None),
                Number(spread.min if spread else None),
                Number(spread.max if spread else None),
                Number(spread.repeats if spread else None),
                Number(time.further_s),
                Number(time.cores),
                Number(time.core_each_s),
                *extra,
                Number(method.ess_per_s),
                Number(None if memory is None else memory / 1e6),
            )
        )
    return ReportTable(
        "costs",
        f"wall-clock seconds, on {run.environment['device']}",
        (
            "method",
            "set-up",
            "trace",
            "compile",
            "first run",
            "run",
            "min",
            "max",
            "repeats",
            "further",
            "cores",
            "core each",
            *(["to margin"] if run.curves else []),
            "ESS/s",
            "MB",
        ),
        tuple(rows),
        {
            "compile": "*: compiled before",
            "run": "median of the repeats, compiled and warm",
            "further": "more draws, until Monte-Carlo errors were small enough; run "
            "counts them, too",
            "cores": "on which chains, runs or paths ran beside one another",
            "core each": "the first run, had each of these its own core: that of the "
            "one that took longest",
            **({"to margin": TO_MARGIN} if run.curves else {}),
            "ESS/s": ESS_PER_SECOND,
            "MB": "the most memory that one program needs beside its arguments",
        },
    )


ERRORS = {
    "mean": "largest difference of means / sd",
    "sd": "largest |log ratio of sds|",
    "w1": "largest Wasserstein-1 / sd",
}
"""Error of a curve -> what figures call it."""


def error_against_time(run: Record) -> ReportTable:
    """A row per method and budget: the largest errors over the judged quantities."""
    if run.curves is None:
        return ReportTable("error_against_time", "", (), ())
    floor = run.curves.floor
    rows = [
        (
            label,
            Number(point.seconds),
            Number(point.passes),
            Number(point.mean.value, point.mean.se),
            Number(point.sd.value, point.sd.se),
            Number(point.w1.value, point.w1.se),
            _nats(point.bound.value, point.bound.se) if point.bound else Number(None),
        )
        for label, curve in run.curves.methods.items()
        for point in curve.points
    ]
    own = f" (its own error {floor.mean:.2g}, {floor.sd:.2g}, {floor.w1:.2g})"
    return ReportTable(
        "error_against_time",
        f"largest error against time, from {run.curves.reference}{own}",
        (
            "method",
            "seconds",
            "passes",
            "mean diff / sd",
            "log sd ratio",
            "W1 / sd",
            "marginal ELBO",
        ),
        tuple(rows),
        {
            "seconds": "of a steady run, compilation apart",
            "passes": "evaluations of the model or its gradient on all rows",
            "mean diff / sd": "size of the difference of means in reference sds",
            "log sd ratio": "size of the log of the ratio of sds",
        },
        keys=2,
        long=True,
    )


def convergence(run: Record) -> ReportTable:
    """A row per method and quantity: R-hat and effective sample sizes."""
    rows = [
        (
            label,
            name,
            Number(known.r_hat, decimals=4),
            Number(_whole(known.ess_bulk)),
            Number(_whole(known.ess_tail)),
        )
        for label, method in run.methods.items()
        for name, known in method.quantities.items()
    ]
    return ReportTable(
        "convergence",
        "R-hat and effective sample sizes",
        ("method", "quantity", "R-hat", "ESS bulk", "ESS tail"),
        tuple(rows),
        keys=2,
        long=True,
    )


def _whole(value: float | None) -> float | None:
    return None if value is None else float(round(value))


def samplers(run: Record) -> ReportTable:
    """A row per Hamiltonian sampler: divergences, tree depth, step sizes."""
    rows = [
        (
            label,
            Number(known.divergences),
            Number(known.mean_tree_depth),
            Number(known.mean_acceptance_rate),
            Number(known.gradients),
            ", ".join(str(Number(step)) for step in known.step_size),
        )
        for label, method in run.methods.items()
        if (known := method.sampler)
    ]
    head = ("method", "divergences", "tree depth", "acceptance", "gradients")
    title = "sampler diagnostics"
    return ReportTable("samplers", title, (*head, "step sizes"), tuple(rows))


def optima(run: Record) -> ReportTable:
    """A row per distinct optimum of the restarts."""
    rows = [
        (
            label,
            _nats(found.bound),
            Number(found.restarts),
            Number(found.occupied or None),
        )
        for label, method in run.methods.items()
        if method.restarts
        for found in method.restarts.optima
    ]
    head = ("method", "ELBO", "restarts that ended there", "occupied components")
    return ReportTable("optima", "distinct optima of the restarts", head, tuple(rows))


def importance(run: Record) -> ReportTable:
    """A row per q: diagnostics of its importance weights."""
    rows = [
        (
            label,
            known.word,
            Number(known.khat),
            Number(known.relative_ess),
            Number(known.sd_log_weights),
            known.proposal,
            known.sentence,
        )
        for label, method in run.methods.items()
        if (known := method.importance)
    ]
    head = ("method", "weights", "k-hat", "relative ESS", "sd of log weights")
    title = "importance weights of q"
    return ReportTable(
        "importance", title, (*head, "proposal", "in words"), tuple(rows)
    )
