"""A Result as what is stored: summary.json and a DataTree per method."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vi_bench.comparison import Comparison
from vi_bench.comparison.measures import Distance, Summary
from vi_bench.comparison.quantities import WEIGHT
from vi_bench.documents import plain
from vi_bench.errors import InputError
from vi_bench.methods.cavi import optima
from vi_bench.mixture import centre_at
from vi_bench.provenance import provenance
from vi_bench.response import LinearResponse
from vi_bench.spec import values_of
from vi_bench.tree import to_tree

if TYPE_CHECKING:
    from xarray import DataTree

    from vi_bench.result import MethodRun, Result


SCHEMA = 2
"""Version of summary.json; docs/summary.md describes it."""

KEYS = {
    "comparisons", "created", "data", "environment", "evidence", "interrupted",
    "joint", "methods", "model", "note", "plugins", "provenance", "reference",
    "spec", "verdicts", "weights",
}  # fmt: skip
"""Of every summary.json of this schema."""


def trees(result: Result) -> dict[str, DataTree]:
    """Label -> DataTree of every method that gave draws, relabelled if compared."""
    return {
        label: _tree(result, label, run)
        for label, run in result.runs.items()
        if run.usable
    }


def _tree(result: Result, label: str, run: MethodRun) -> DataTree:
    assert run.draws is not None
    found = result.comparison  # every usable run is in it, if there is one
    dims = dict(result.family.dims) | {WEIGHT: ("component",)}
    own = {name for name, d in dims.items() if d[:1] == ("component",)}
    first = next(v for name, v in run.posterior.items() if name in own)
    order = np.broadcast_to(np.arange(first.shape[2]), first.shape[:3])
    how = found.relabellings[label] if found else None
    posterior = {
        name: how.apply(v) if how and name in own else v
        for name, v in run.posterior.items()
    }
    stats: dict[str, Any] = dict(run.draws.sample_stats)
    if run.log_joint is not None:
        stats.setdefault("lp", run.log_joint)
        stats["log_joint"] = run.log_joint
    if run.draws.log_q is not None:
        stats["log_q"] = run.draws.log_q
    steady = run.steady()
    attributes = {
        "label": label,
        "method": type(run.method).__name__,
        "settings": values_of(run.method),
        "spec": result.spec.model_dump(mode="json"),
        "data_sha256": result.table_data.sha256,
        "centre": centre_at(result.family, result.table_data.mean),
        "outcome": dataclasses.asdict(run.outcome),
        "sampling_time": steady["median"] if steady else None,
        "environment": result.environment,
        "inference_library": "vi_bench",
    }
    return to_tree(
        posterior,
        dims,
        result.family.coordinates(result.table_data.features),
        result.table_data,
        order=how.order if how else order,
        sample_stats=stats,
        invariants=found.invariants[label] if found else {},
        variational={k: np.asarray(v) for k, v in run.draws.variational.items()},
        optimisation=trace(run),
        attributes=plain(attributes),
    )


def trace(run: MethodRun) -> dict[str, np.ndarray]:
    """The bound by iteration, and seconds; of the best of several restarts.

    Each iteration takes an equal share of the fit's time.
    """
    report = run.draws.report if run.draws is not None else {}
    values = np.asarray(report.get("trace", np.nan), float).ravel()
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return {}
    spent = float(np.median(run.stages["fit"].runs_s))
    total = int(report.get("total_iterations", len(values)))
    return {
        "iteration": known + 1,
        "bound": values[known],
        "seconds": spent / total * (known + 1),
    }


def read_summary(folder: Path) -> dict[str, Any]:
    """A run's summary.json.

    Raises:
        InputError: it is not there, cannot be read, or is of another schema.
    """
    where = f"run {str(folder)!r}"
    try:
        known = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{where}: summary.json: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{where}: summary.json is not JSON") from None
    schema = known.get("schema") if isinstance(known, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{where}: has schema {schema!r}, expected {SCHEMA}")
    missing = KEYS - set(known)
    if missing:
        raise InputError(f"{where}: summary.json lacks {', '.join(sorted(missing))}")
    return dict(known)


def summary(result: Result) -> dict[str, Any]:
    """The content of summary.json, see docs/summary.md."""
    table, found = result.table_data, result.comparison
    return plain(  # type: ignore[no-any-return]
        {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "interrupted": result.interrupted,
            "spec": result.spec.model_dump(mode="json"),
            "model": {"name": result.spec.model.get("name", "gaussian")}
            | values_of(result.family),
            "weights": {"name": result.spec.weights.get("name", "uniform")}
            | values_of(result.weights),
            "plugins": result.plugins,
            "data": {
                "name": table.name,
                "sha256": table.sha256,
                "shape": (len(table), len(table.features)),
                "features": table.features,
                "note": table.note,
                "source": table.source,
            },
            "environment": result.environment,
            "provenance": provenance(),
            "methods": {
                label: _method(result, label, run) for label, run in result.runs.items()
            },
            "reference": found.reference if found else result.spec.held_against,
            "note": found.note if found else "",
            "evidence": evidence(found),
            "comparisons": comparisons(found),
            "joint": joint(found),
            "optima": dataclasses.asdict(found.coverage) if found else None,
            "verdicts": {
                label: dataclasses.asdict(verdict)
                for label, verdict in (found.verdicts if found else {}).items()
            },
        }
    )


def _method(result: Result, label: str, run: MethodRun) -> dict[str, Any]:
    bound, bound_se = run.bound()
    marginal, marginal_se = run.marginal_bound()
    report = run.draws.report if run.draws is not None else {}
    found = result.comparison
    variational = run.method.kind == "variational"
    entry: dict[str, Any] = {
        "method": type(run.method).__name__,
        "kind": run.method.kind,
        "settings": values_of(run.method),
        "outcome": run.outcome.status,
        "converged": run.outcome.converged if variational else None,
        "outcome_sentence": run.outcome.sentence,
        "error": run.error,
        "iterations": report.get("iterations"),
        "leaps": report.get("leaps"),
        "counts": report.get("counts"),
        "bound": bound,
        "bound_se": bound_se,
        "bound_keeps_labels": run.method.bound_keeps_labels,
        "marginal_bound": marginal,
        "marginal_bound_se": marginal_se,
        "log_evidence": report.get("log_evidence"),
        "log_evidence_se": report.get("log_evidence_se"),
        "log_evidence_df": report.get("log_evidence_df"),
        "time": run.time(),
        "memory_bytes": run.memory_bytes(),
        "draws": run.shape(),
        "ess_per_s": ess_per_second(result, label),
    }
    if run.draws is not None and "n_steps" in run.draws.sample_stats:
        entry["sampler"] = sampler(run.draws.sample_stats)
    if "restart_bound" in report:
        entry["restarts"] = restarts(report)
    if run.response is not None:
        entry["linear_response"] = response(run.response)
    if found and label in found.summaries:
        entry |= posterior(found, label)
        if label in found.importance:
            entry["importance"] = dataclasses.asdict(found.importance[label])
    return entry


def sampler(stats: Mapping[str, Any]) -> dict[str, Any]:
    """How a Hamiltonian sampler moved, over the draws that were kept."""
    return {
        "divergences": np.sum(stats["diverging"]),
        "mean_tree_depth": np.mean(stats["tree_depth"]),
        "mean_acceptance_rate": np.mean(stats["acceptance_rate"]),
        "step_size": np.asarray(stats["step_size"])[:, 0],
        "gradients": np.sum(stats["n_steps"]),
    }


def restarts(report: Mapping[str, Any]) -> dict[str, Any]:
    """The table of restarts and the distinct optima they ended in, best first."""
    bounds = np.asarray(report["restart_bound"])
    return {
        "bound": bounds,
        "iterations": report["restart_iterations"],
        "converged": np.asarray(report["restart_status"]) == 1,
        "counts": report["restart_counts"],
        "optima": [
            {"bound": value, "restarts": count, "occupied": full}
            for value, count, full in optima(bounds, report["restart_counts"])
        ],
        "largest_relative_fall": report["fall"],
    }


def response(found: LinearResponse) -> dict[str, Any]:
    """Standard deviations by mean field and by linear response, and how it went."""
    own = found.mean_field_sd
    return {
        "refused": found.refused,
        "rate": found.rate,
        "overlapping": found.overlapping,
        "quantities": {
            name: {
                "sd": sd,
                "mean_field_sd": own[name],
                "unreliable": found.unreliable(name),
            }
            for name, sd in found.sd.items()
        },
    }


def evidence(found: Comparison | None) -> dict[str, Any] | None:
    """The evidence ladder: bounds, estimates, gaps, and what is in the wrong order."""
    if found is None or found.evidence is None:
        return None
    ladder = found.evidence
    return dataclasses.asdict(ladder) | {"violations": ladder.violations()}


def ess_per_second(result: Result, label: str) -> float | None:
    """Smallest ESS over the judged quantities per second of a steady run."""
    run, found = result.runs[label], result.comparison
    if found is None or label not in found.summaries:
        return None
    steady = run.steady()
    return found.min_ess(label) / steady["median"] if steady else None


def summarised(s: Summary) -> dict[str, float]:
    """A quantity's summary as plain values."""
    return {
        "mean": s.mean.value,
        "mean_mcse": s.mean.se,
        "sd": s.sd.value,
        "sd_mcse": s.sd.se,
        "ess_bulk": s.ess_bulk,
        "ess_tail": s.ess_tail,
        "r_hat": s.r_hat,
    }


def comparison(found: Comparison) -> dict[str, Any]:
    """A comparison by itself, see docs/summary.md."""
    return plain(  # type: ignore[no-any-return]
        {
            "schema": SCHEMA,
            "reference": found.reference,
            "note": found.note,
            "posteriors": {label: posterior(found, label) for label in found.summaries},
            "comparisons": comparisons(found),
            "joint": joint(found),
            "verdicts": {k: dataclasses.asdict(v) for k, v in found.verdicts.items()},
        }
    )


def posterior(found: Comparison, label: str) -> dict[str, Any]:
    """What is known of one method's draws by themselves."""
    how = found.relabellings[label]
    return {
        "relabelling": {
            "moved": how.moved,
            "switching": how.switching,
            "ambiguous": how.ambiguous,
            "identifiable": how.identifiable,
        },
        "modes": [dataclasses.asdict(mode) for mode in found.modes[label]],
        "elpd": elpd(found, label),
        "quantities": {n: summarised(s) for n, s in found.summaries[label].items()},
    }


def joint(found: Comparison | None) -> dict[str, Any]:
    """By label, how far from the reference in all columns at once."""
    if found is None:
        return {}
    known = found.examination
    return {
        label: dataclasses.asdict(distances)
        | {"columns": known.columns}
        | (
            {"similarity": dataclasses.asdict(known.similarity[label])}
            if label in known.similarity
            else {}
        )
        for label, distances in known.joint.items()
    }


def elpd(found: Comparison, label: str) -> dict[str, Any]:
    """Expected log predictive densities: by leave-one-out and of held-out rows."""
    entry = {}
    for kind in ("loo", "held_out"):
        known = getattr(found.examination, kind).get(label)
        if known is not None:
            entry[kind] = {
                "elpd": known.total.value,
                "se": known.total.se,
                "mc_error": known.mc_error,
                "rows": known.points.size,
                "worst_khat": known.worst_khat,
                "p_loo": known.p_loo,
            }
    return entry


def comparisons(found: Comparison | None) -> list[dict[str, Any]]:
    """A row per method and quantity: how far from the reference."""
    if found is None:
        return []
    return [
        {"method": label, "quantity": name, "judged": name in found.judged} | _row(d)
        for label, distances in found.distances.items()
        for name, d in distances.items()
    ]


def _row(d: Distance) -> dict[str, float]:
    return {
        "mean_difference": d.mean_difference.value,
        "mean_difference_se": d.mean_difference.se,
        "sd_ratio": d.sd_ratio.value,
        "sd_ratio_se": d.sd_ratio.se,
        "w1": d.w1.value,
        "w1_se": d.w1.se,
        "w1_floor": d.w1_floor,
    } | (
        {
            f"{name}_difference{end}": number
            for name, tail in zip(("q05", "q95"), d.tails, strict=True)
            for end, number in (("", tail.value), ("_se", tail.se))
        }
        if d.tails is not None
        else {}
    )
