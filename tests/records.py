"""Records of runs that were never run: whole, and every number in them made up."""

import copy
from dataclasses import fields

from vi_bench.results.summary_schema import SCHEMA

TIME = {
    "setup_s": 0.1,
    "trace_s": 0.0,
    "compile_s": 0.0,
    "compile_cached": False,
    "first_s": 0.3,
    "run_s": {"median": 0.2, "min": 0.1, "max": 0.3, "repeats": 1},
    "stages": {},
}

METHOD = {
    "method": "CAVI",
    "kind": "variational",
    "settings": {},
    "outcome": "converged",
    "converged": True,
    "outcome_sentence": "after 3 iterations",
    "error": "",
    "iterations": 3,
    "accepted_extrapolations": 0,
    "counts": None,
    "bound": -10.0,
    "bound_se": 0.0,
    "assignments_in_q": True,
    "marginal_elbo": None,
    "marginal_elbo_se": None,
    "log_evidence": None,
    "log_evidence_se": None,
    "log_evidence_df": None,
    "time": TIME,
    "memory_bytes": None,
    "ess_per_s": None,
}

RECORD = {
    "schema": SCHEMA,
    "created": "2026-01-01T00:00:00+00:00",
    "interrupted": False,
    "spec": {
        "name": "s",
        "data": "made up",
        "components": 2,
        "seed": 0,
        "precision": 64,
        "chains": 4,
        "draws": 100,
        "held_out": 0,
        "reference": None,
        "margin": 0.1,
        "sd_margin": 0.1,
    },
    "model": {"name": "gaussian"},
    "weights": {"name": "uniform"},
    "plugins": [],
    "data": {
        "name": "made up",
        "sha256": "0" * 64,
        "shape": [10, 2],
        "features": ["x0", "x1"],
        "note": "",
        "source": "",
    },
    "environment": {"device": "cpu", "precision": 64, "packages": {}},
    "provenance": {"command": [], "git": None, "threads": {}, "load": None},
    "methods": {"cavi": METHOD},
    "reference": None,
    "note": "",
    "evidence": None,
    "comparisons": [],
    "joint": {},
    "optima": None,
    "verdicts": {},
}


def record(**changes):
    """The values of a summary.json, parts of it replaced."""
    return copy.deepcopy(RECORD) | changes


def method(**changes):
    """One method of it."""
    return copy.deepcopy(METHOD) | changes


def partial_report(kind, **known):
    """A method's own report of which only these fields are known."""
    return kind(**dict.fromkeys(field.name for field in fields(kind)) | known)
