"""The tables of a run, from its summary: what pages, papers and files show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    """A number with its error.

    Attributes:
        value: None where it is not known.
        se: its standard error; 0 or None where it has none.
        mark: said behind it, such as "(!)".
        decimals: shown of a number without an error; by default four digits are.
    """

    value: float | None
    se: float | None = None
    mark: str = ""
    decimals: int | None = None

    def __str__(self) -> str:
        """With two digits of its error, or four of itself."""
        if self.value is None or not math.isfinite(self.value):
            return ""
        text = rounded(self.value, self.se, self.decimals)
        return f"{text} {self.mark}".strip()


Cell = Number | str


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        name: a word, for files and links.
        title: what it shows, and in which unit.
        head: names of the columns.
        rows: cells, as many as columns.
        notes: column -> what it means, where the name does not tell.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        cells = [row[column] for row in self.rows]
        return any(isinstance(c, Number) for c in cells)


def rounded(value: float, se: float | None, decimals: int | None = None) -> str:
    """`value±se` to two digits of the error; four digits of what is exact."""
    if not se or not math.isfinite(se) or se < 1e-12 * abs(value):
        if decimals is not None:
            return f"{value:.{decimals}f}"
        whole = value == int(value) and abs(value) < 1e9
        return f"{int(value)}" if whole else f"{value:.4g}"
    if abs(value) >= 1e6 or se < 1e-6:
        return f"{value:.4g}±{se:.1g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{digits}f}±{se:.{digits}f}"


def grids(summary: Summary) -> list[Grid]:
    """All that a run has something for."""
    made = (
        verdicts(summary),
        parameters(summary),
        differences(summary),
        joint(summary),
        evidence(summary),
        predictions(summary),
        costs(summary),
        convergence(summary),
        samplers(summary),
        optima(summary),
        importance(summary),
    )
    return [grid for grid in made if grid.rows]


def verdicts(summary: Summary) -> Grid:
    """A row per method."""
    rows = []
    for label, method in summary["methods"].items():
        judged = [row for row in of_method(summary, label) if row["judged"]]
        rows.append(
            (
                label,
                method["kind"],
                word(summary, label),
                furthest(judged, "mean_difference", 0.0),
                furthest(judged, "sd_ratio", 1.0),
                _nats(method["bound"], method["bound_se"])
                if method["bound_keeps_labels"]
                else "",
                _nats(method["marginal_bound"], method["marginal_bound_se"]),
            )
        )
    return Grid(
        "verdicts",
        "verdicts, against " + (summary["reference"] or "nothing"),
        ("method", "kind", "verdict", "worst mean", "worst sd", "ELBO", "bound"),
        tuple(rows),
        {
            "worst mean": "difference of means over the reference's sd, the largest "
            "among the quantities that are judged",
            "worst sd": "ratio of sds to the reference's, the furthest from 1",
            "ELBO": "nats, labels in q",
            "bound": "nats, labels summed out: comparable between methods",
        },
    )


def _nats(value: float | None, se: float | None = None) -> Number:
    return Number(value, se, decimals=3)


def word(summary: Summary, label: str) -> str:
    """A method's verdict, or how it ended."""
    if label in summary["verdicts"]:
        return str(summary["verdicts"][label]["word"])
    if label == summary["reference"] and "quantities" in summary["methods"][label]:
        return "reference"
    return str(summary["methods"][label]["outcome"])


def sentence(summary: Summary, label: str) -> str:
    """How a method ended, and what its verdict rests on."""
    method = summary["methods"][label]
    told = f"{method['outcome']}, {method['outcome_sentence']}"
    verdict = summary["verdicts"].get(label)
    return f"{told}; {verdict['reason']}" if verdict else told


def of_method(summary: Summary, label: str) -> list[Mapping[str, Any]]:
    """The rows of `comparisons` that are about a method."""
    return [row for row in summary["comparisons"] if row["method"] == label]


def responses(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """Label -> linear response, of methods that have one."""
    found = {k: m.get("linear_response") for k, m in summary["methods"].items()}
    return {label: r for label, r in found.items() if r and not r["refused"]}


def seconds(method: Mapping[str, Any]) -> float | None:
    """Of a steady run, the median; None of a method that was not timed."""
    run = method["time"]["run_s"]
    return run["median"] if run else None


def parts(summary: Summary) -> tuple[list[str], dict[str, list[float | None]]]:
    """Methods that were begun, and where the seconds of each went."""
    begun = {k: m for k, m in summary["methods"].items() if m["time"]["stages"]}
    names = {"set-up": "setup_s", "trace": "trace_s", "compile": "compile_s"}
    found: dict[str, list[float | None]] = {
        part: [m["time"][key] for m in begun.values()] for part, key in names.items()
    }
    return list(begun), found | {"run": [seconds(m) for m in begun.values()]}


def furthest(
    rows: Iterable[Mapping[str, Any]], name: str, target: float
) -> Number | str:
    """The value furthest from its target, with its error."""
    known = [row for row in rows if row[name] is not None]
    if not known:
        return ""
    row = max(known, key=lambda row: abs(row[name] - target))
    return Number(row[name], row[f"{name}_se"])


def parameters(summary: Summary) -> Grid:
    """A row per quantity: posterior means and sds of every method side by side."""
    methods = {k: m for k, m in summary["methods"].items() if "quantities" in m}
    names = list(dict.fromkeys(q for m in methods.values() for q in m["quantities"]))
    corrected = {
        label: found["quantities"]
        for label, found in responses(summary).items()
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
                mark = "(!)" if known and known["unreliable"] else ""
                cells.append(Number(known["mean_field_sd"]) if known else "")
                cells.append(Number(known["sd"], mark=mark) if known else "")
        rows.append(tuple(cells))
    return Grid(
        "parameters",
        "posterior means and standard deviations, with Monte-Carlo errors",
        tuple(head),
        tuple(rows),
        {
            name: "(!): its component overlaps another, not to be relied on"
            for name in head
            if name.endswith("linear response")
        },
    )


def _moment(method: Mapping[str, Any], name: str, moment: str) -> Cell:
    known = method["quantities"].get(name)
    return Number(known[moment], known[f"{moment}_mcse"]) if known else ""


def differences(summary: Summary) -> Grid:
    """A row per method and quantity: how far from the reference."""
    rows = [
        (
            row["method"],
            row["quantity"],
            "yes" if row["judged"] else "no",
            Number(row["mean_difference"], row["mean_difference_se"]),
            Number(row["sd_ratio"], row["sd_ratio_se"]),
            Number(row["w1"], row["w1_se"]),
            Number(row["w1_floor"]),
        )
        for row in summary["comparisons"]
    ]
    reference = summary["reference"] or "nothing"
    return Grid(
        "differences",
        f"differences from {reference}, in its posterior sds",
        ("method", "quantity", "judged", "mean", "sd ratio", "W1", "W1 floor"),
        tuple(rows),
        {
            "judged": "whether the verdict rests on it",
            "W1": "Wasserstein distance of the marginals",
            "W1 floor": "of the reference's own halves, scaled to all of its draws",
        },
    )


JOINT = {
    "sliced": "sliced W1",
    "transport": "W1",
    "energy": "energy distance",
    "mmd": "MMD^2",
    "classifier": "classifier",
    "similarity": "co-clustering",
}
"""Joint measures by name, as headed."""


def joint(summary: Summary) -> Grid:
    """A row per method and measure: all quantities at once."""
    rows = []
    for label, found in summary["joint"].items():
        for key, name in JOINT.items():
            known = found.get(key)
            if known is None or known["value"] is None:
                continue
            value, floor = known["value"], known["floor"]
            rows.append(
                (
                    label,
                    name,
                    Number(value, known["se"]),
                    Number(floor),
                    Number(value / floor) if floor else "",
                    Number(known["p_value"]),
                    Number(found["matched" if key == "transport" else "used"]),
                )
            )
    return Grid(
        "joint",
        f"all quantities at once, against {summary['reference'] or 'nothing'}",
        ("method", "measure", "value", "floor", "ratio", "p", "draws a side"),
        tuple(rows),
        {
            "floor": "what the reference shows against itself",
            "p": "of a permutation test that both are draws of one distribution",
        },
    )


def evidence(summary: Summary) -> Grid:
    """A row per method: bounds on log p(X), and what their gap consists of."""
    found = summary["evidence"] or {"bounds": {}, "evidence": {}, "gaps": {}}
    rows = []
    for label in dict.fromkeys([*found["bounds"], *found["evidence"]]):
        bounds, gap = found["bounds"].get(label, {}), found["gaps"].get(label, {})
        names = ("labels_in_q", "summed_out", "symmetrised", "importance_weighted")
        rows.append(
            (
                label,
                _estimate(found["evidence"].get(label)),
                *(_estimate(bounds.get(name)) for name in names),
                _estimate(gap.get("total")),
                _nats(gap["optimisation"]) if gap else "",
                _estimate(gap.get("symmetry")),
                _estimate(gap.get("mean_field")),
            )
        )
    trusted = found.get("trusted")
    return Grid(
        "evidence",
        "log p(X) in nats" + (f"; gaps to {trusted}" if trusted else ""),
        (
            "method",
            "log p(X)",
            "labels in q",
            "labels summed out",
            "symmetrised",
            "importance weighted",
            "gap",
            "optimisation",
            "label symmetry",
            "mean field",
        ),
        tuple(rows),
        {"gap": "of the lowest bound; the next three columns are what it consists of"},
    )


def _estimate(found: Mapping[str, Any] | None) -> Cell:
    return "" if found is None else _nats(found["value"], found["se"])


def predictions(summary: Summary) -> Grid:
    """A row per method: expected log predictive densities."""
    rows = []
    for label, method in summary["methods"].items():
        for kind, known in method.get("elpd", {}).items():
            rows.append(
                (
                    label,
                    {"loo": "PSIS-LOO", "held_out": "held out"}[kind],
                    Number(known["elpd"], known["se"]),
                    Number(known["mc_error"]),
                    Number(known["rows"]),
                    Number(known["worst_khat"]),
                    Number(known["p_loo"]),
                )
            )
    return Grid(
        "predictions",
        "expected log predictive density, nats",
        (
            "method",
            "rows of",
            "elpd",
            "Monte-Carlo error",
            "rows",
            "worst k-hat",
            "p_loo",
        ),
        tuple(rows),
        {"elpd": "its error is over rows taken at random"},
    )


def costs(summary: Summary) -> Grid:
    """A row per method: seconds by kind, ESS per second, memory."""
    rows = []
    for label, method in summary["methods"].items():
        time = method["time"]
        run = time["run_s"] or {}
        if not time["stages"]:
            continue
        rows.append(
            (
                label,
                Number(time["setup_s"]),
                Number(time["trace_s"]),
                Number(time["compile_s"], mark="*" if time["compile_cached"] else ""),
                Number(time["first_s"]),
                Number(run.get("median")),
                Number(run.get("min")),
                Number(run.get("max")),
                Number(run.get("repeats")),
                Number(method["ess_per_s"]),
                Number(
                    method["memory_bytes"] / 1e6
                    if method["memory_bytes"] is not None
                    else None
                ),
            )
        )
    return Grid(
        "costs",
        f"seconds, on {summary['environment']['device']}",
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
            "ESS/s",
            "MB",
        ),
        tuple(rows),
        {
            "compile": "*: compiled before",
            "run": "median of the repeats, compiled and warm",
            "ESS/s": "smallest effective sample size of the judged quantities a second",
            "MB": "the most that one program takes beside its arguments",
        },
    )


def convergence(summary: Summary) -> Grid:
    """A row per method and quantity: R-hat and effective sample sizes."""
    rows = [
        (
            label,
            name,
            Number(known["r_hat"], decimals=4),
            Number(_whole(known["ess_bulk"])),
            Number(_whole(known["ess_tail"])),
        )
        for label, method in summary["methods"].items()
        for name, known in method.get("quantities", {}).items()
    ]
    return Grid(
        "convergence",
        "R-hat and effective sample sizes",
        ("method", "quantity", "R-hat", "ESS bulk", "ESS tail"),
        tuple(rows),
    )


def _whole(value: float | None) -> float | None:
    return None if value is None else float(round(value))


def samplers(summary: Summary) -> Grid:
    """A row per sampler: how it moved."""
    rows = [
        (
            label,
            Number(known["divergences"]),
            Number(known["mean_tree_depth"]),
            Number(known["mean_acceptance_rate"]),
            Number(known["gradients"]),
            ", ".join(str(Number(step)) for step in known["step_size"]),
        )
        for label, method in summary["methods"].items()
        if (known := method.get("sampler"))
    ]
    head = ("method", "divergences", "tree depth", "acceptance", "gradients")
    title = "how the sampler moved"
    return Grid("samplers", title, (*head, "step sizes"), tuple(rows))


def optima(summary: Summary) -> Grid:
    """A row per distinct optimum of the restarts."""
    rows = [
        (
            label,
            _nats(found["bound"]),
            Number(found["restarts"]),
            Number(found["occupied"]),
        )
        for label, method in summary["methods"].items()
        for found in method.get("restarts", {}).get("optima", ())
    ]
    head = ("method", "bound", "restarts that ended there", "components with rows")
    return Grid("optima", "distinct optima of the restarts", head, tuple(rows))


def importance(summary: Summary) -> Grid:
    """A row per q: whether importance weights can mend it."""
    rows = [
        (
            label,
            known["word"],
            Number(known["khat"]),
            Number(known["relative_ess"]),
            Number(known["sd_log_weights"]),
            known["proposal"],
            known["sentence"],
        )
        for label, method in summary["methods"].items()
        if (known := method.get("importance"))
    ]
    head = ("method", "word", "k-hat", "relative ESS", "sd of log weights")
    title = "importance weights of q"
    return Grid("importance", title, (*head, "proposal", "in words"), tuple(rows))
