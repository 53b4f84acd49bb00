"""A method's draws in the form that the comparison takes."""

from __future__ import annotations

import numpy as np

from vi_bench.comparison import Sample
from vi_bench.comparison.quantities import HELD_OUT
from vi_bench.contract import told
from vi_bench.runner.result import MethodRun
from vi_bench.runner.target import Target


def weighs(run: MethodRun) -> bool:
    """Whether a method's draws have modes in proportion to their posterior mass.

    A population that lost its particles, or replicas that never returned from the
    prior, tell no more of masses than a single chain does.
    """
    usual = run.method.kind in ("exact", "particles")
    able = bool(getattr(run.method, "weighs_modes", usual))
    return able and run.outcome.status == "sampled"


def sample_of(run: MethodRun, target: Target) -> Sample:
    """A method's draws and densities in the form that the comparison takes."""
    assert run.draws is not None
    assert run.evaluation is not None
    columns, shared = target.subject.compared(run.posterior)
    found, draws = run.evaluation, run.draws
    if found.held_out.shape[-1]:
        shared[HELD_OUT] = found.held_out.sum(axis=-1)
    diverging = draws.sample_stats.get("diverging")
    energy = draws.sample_stats.get("energy")
    best = told(draws.report, "restart_bound")
    return Sample(
        columns,
        shared,
        found.log_joint,
        0.0 if diverging is None else float(np.mean(diverging)),
        None if draws.log_q is None else np.asarray(draws.log_q, float),
        found.log_q_symmetric,
        run.reported("bound") if run.method.bound_keeps_labels else None,
        None if best is None else float(np.nanmax(best)),
        run.reported("log_evidence"),
        found.log_likelihood if found.log_likelihood.shape[-1] else None,
        found.held_out if found.held_out.shape[-1] else None,
        found.similarity,
        None if energy is None else e_bfmi(np.asarray(energy, float)),
        weighs(run),
        found.evaluated,
    )


def e_bfmi(energy: np.ndarray) -> float:
    """The smallest energy Bayesian fraction of missing information of the chains.

    The mean squared step of the energy over its variance (Betancourt 2016), for
    energies (chain, draw); NaN where an energy never changes.
    """
    steps = np.mean(np.diff(energy, axis=1) ** 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min(steps / energy.var(axis=1)))
