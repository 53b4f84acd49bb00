"""The stored form of a run: its record, and a DataTree per method.

The schema is in `vi_bench.results.summary_schema`; this module fills it in.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from vi_bench.contract import told
from vi_bench.inference.linear_response import LinearResponse
from vi_bench.results.stored_comparison import comparisons, evidence, joint, posterior
from vi_bench.results.summary_schema import SCHEMA, Record, has_place_for, record_of
from vi_bench.results.trees import to_tree
from vi_bench.runner.result import MethodRun, RunResult
from vi_bench.runner.sample_stats import sampler
from vi_bench.runtime.provenance import provenance
from vi_bench.runtime.strict_json import plain
from vi_bench.spec import values_of

if TYPE_CHECKING:
    from xarray import DataTree


def trees(result: RunResult) -> dict[str, DataTree]:
    """Label -> DataTree of every method that gave draws, relabelled if compared."""
    return {
        label: _tree(result, label, run)
        for label, run in result.runs.items()
        if run.usable
    }


def _tree(result: RunResult, label: str, run: MethodRun) -> DataTree:
    assert run.draws is not None
    found = result.comparison  # every usable run is in it, if there is one
    how = found.relabellings[label] if found else None
    own = {
        name
        for name, dims in result.subject.stored(run.posterior).dims.items()
        if dims[:1] == ("component",)
    }
    posterior = {
        name: how.apply(v) if how and name in own else v
        for name, v in run.posterior.items()
    }
    stored = result.subject.stored(posterior)
    if found:
        columns, scalars = found.relabelled[label], found.invariants[label]
    else:
        columns, scalars = result.subject.compared(posterior)
    stats: dict[str, Any] = dict(run.draws.sample_stats)
    joint = run.log_joint
    if joint is not None and joint.shape == run.shape():
        stats.setdefault("lp", joint)
        stats["log_joint"] = joint
    if run.draws.log_q is not None:
        stats["log_q"] = run.draws.log_q
    steady = run.steady()
    attributes = {
        "label": label,
        "method": type(run.method).__name__,
        "settings": values_of(run.method),
        "spec": result.spec.model_dump(mode="json"),
        "data_sha256": result.subject.data.sha256,
        **stored.attributes,
        "outcome": dataclasses.asdict(run.outcome),
        "sampling_time": steady["median"] if steady else None,
        "environment": result.environment,
        "inference_library": "vi_bench",
    }
    first = next((v for name, v in run.posterior.items() if name in own), None)
    order = None
    if first is not None:
        order = np.broadcast_to(np.arange(first.shape[2]), first.shape[:3])
        order = how.order if how else order
    return to_tree(
        posterior,
        stored.dims,
        stored.coordinates,
        stored.observed,
        order=order,
        sample_stats=stats,
        invariants=scalars,
        compared=columns,
        location=stored.location,
        variational={k: np.asarray(v) for k, v in run.draws.variational.items()},
        optimisation=trace(run),
        attributes=plain(attributes),
    )


def trace(run: MethodRun) -> dict[str, np.ndarray]:
    """Iterations, bound in nats and seconds (iterations,), of the best restart.

    Each iteration takes an equal share of the fit's time.
    """
    report = None if run.draws is None else run.draws.report
    values = np.asarray(told(report, "trace", np.nan), float).ravel()
    known = np.flatnonzero(np.isfinite(values))
    if not known.size or "fit" not in run.stages:
        return {}
    spent = float(np.median(run.stages["fit"].runs_s))
    total = int(told(report, "total_iterations", len(values)))
    return {
        "iteration": known + 1,
        "bound": values[known],
        "seconds": spent / total * (known + 1),
    }


def record(result: RunResult) -> Record:
    """The record of a run, which summary.json holds."""
    found = result.comparison
    return record_of(
        {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "interrupted": result.interrupted,
            "spec": result.spec.model_dump(mode="json"),
            **result.subject.described(),
            "plugins": result.plugins,
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
            "labels": result.agreement and dataclasses.asdict(result.agreement),
            "curves": result.curves and dataclasses.asdict(result.curves),
            "verdicts": {
                label: dataclasses.asdict(verdict)
                for label, verdict in (found.verdicts if found else {}).items()
            },
        }
    )


def whole(value: Any) -> int | None:
    """A count that a method reports; None where it is not a single finite number.

    A user's method may report anything; that must not end the run.
    """
    found = np.asarray(np.nan if value is None else value)
    known = found.ndim == 0 and found.dtype.kind in "iuf" and np.isfinite(found)
    return int(found) if known else None


def numbers_of(value: Any) -> list[float] | None:
    """Numbers by component (K,); None for anything else."""
    found = np.asarray(np.nan if value is None else value)
    known = found.ndim == 1 and found.dtype.kind in "iuf"
    return found.tolist() if known else None


def keys_of(references: Any) -> tuple[str, ...]:
    """Citation keys as a tuple; a string is a single key."""
    found = (references,) if isinstance(references, str) else tuple(references)
    return tuple(map(str, found))


def _method(result: RunResult, label: str, run: MethodRun) -> dict[str, Any]:
    bound, bound_se = run.bound()
    marginal, marginal_se = run.marginal_bound()
    report = None if run.draws is None else run.draws.report
    found = result.comparison
    variational = run.method.kind == "variational"
    entry: dict[str, Any] = {
        "method": type(run.method).__name__,
        "kind": run.method.kind,
        "references": keys_of(getattr(run.method, "references", ())),
        "settings": values_of(run.method),
        "outcome": run.outcome.status,
        "converged": run.outcome.converged if variational else None,
        "outcome_sentence": run.outcome.sentence,
        "error": run.error,
        "iterations": whole(told(report, "iterations")),
        "accepted_extrapolations": whole(told(report, "accepted_extrapolations")),
        "counts": numbers_of(told(report, "counts")),
        "bound": bound,
        "bound_se": bound_se,
        "assignments_in_q": run.method.bound_keeps_labels,
        "marginal_elbo": marginal,
        "marginal_elbo_se": marginal_se,
        "log_evidence": told(report, "log_evidence"),
        "log_evidence_se": told(report, "log_evidence_se"),
        "log_evidence_df": told(report, "log_evidence_df"),
        "time": run.time(),
        "memory_bytes": run.memory_bytes(),
        "draws": run.shape(),
        "short": run.short,
        "ess_per_s": ess_per_second(result, label),
    }
    if run.draws is not None:
        entry["sampler"] = sampler(run.draws.sample_stats)
        entry |= {k: v for k, v in run.shown.items() if has_place_for(k, v)}
    if run.response is not None:
        entry["linear_response"] = response(run.response)
    if found and label in found.summaries:
        entry |= posterior(found, label)
        if label in found.importance:
            entry["importance"] = dataclasses.asdict(found.importance[label])
    return entry


def response(found: LinearResponse) -> dict[str, Any]:
    """Sds by mean field and by linear response, or why it was refused."""
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


def ess_per_second(result: RunResult, label: str) -> float | None:
    """Smallest ESS over the judged quantities per second of a steady run of a sampler.

    Of a fitted q, whose draws are independent and as many as are asked for, it would
    tell nothing.
    """
    run, found = result.runs[label], result.comparison
    sampler = run.method.kind in ("mcmc", "particles")
    if found is None or not sampler or label not in found.summaries:
        return None
    steady = run.steady()
    return found.min_ess(label) / steady["median"] if steady else None
