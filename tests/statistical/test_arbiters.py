"""Methods that give log p(X), against enumeration, one another, and the literature."""

import numpy as np
import pytest

import vi_bench as vb
from tests.contract.cases import CASES, WEIGHTS, log_evidence
from vi_bench.comparison.measures import summarise
from vi_bench.methods.gibbs import Gibbs
from vi_bench.methods.nested import Nested
from vi_bench.methods.nuts import NUTS
from vi_bench.methods.smc import SMC

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

RUNS = 32
"""Chains, so that Student's t of an error from their spread is nearly normal."""

LIMIT = 5.0
"""Standard errors: false alarm 2e-5 a test for t of 31 degrees, 6e-7 for a normal."""

GRID = [
    ("gaussian", 1, "uniform"),
    ("gaussian", 2, "dirichlet"),
    ("gaussian", 3, "uniform"),
    ("poisson", 1, "dirichlet"),
    ("poisson", 2, "uniform"),
    ("poisson", 3, "dirichlet"),
    ("gaussian-diagonal", 1, "uniform"),
    ("gaussian-diagonal", 2, "uniform"),
    ("gaussian-diagonal", 3, "dirichlet"),
]


def invariants(result, label):
    """Summaries of what does not depend on the labels."""
    found = result.comparison.invariants[label]
    return {name: summarise(draws) for name, draws in found.items() if np.ptp(draws)}


def hold_against(found, reference, least):
    """z-tests of means, once both have mixed and are worth `least` draws."""
    assert found.keys() == reference.keys()
    for name, summary in found.items():
        for one in (summary, reference[name]):
            assert one.ess_bulk > least, (name, one)
            assert one.r_hat < 1.02, (name, one)
        error = np.hypot(summary.mean.se, reference[name].mean.se)
        z = (summary.mean.value - reference[name].mean.value) / error
        assert abs(z) < LIMIT, (name, summary.mean, reference[name].mean)


@pytest.mark.parametrize(("name", "K", "prior"), GRID)
def test_evidence_and_moments_equal_enumeration(name, K, prior):
    """3 evidences and about 30 moments a case: false alarm under 1e-3 in all nine."""
    case, weights = CASES[name], WEIGHTS[prior]
    x = case.rows(np.random.default_rng(3), 8 if K < 3 else 7)
    methods = {
        "exact": {},
        "gibbs": {},
        "smc": {},
        "nested": {"live": 150, "max_batches": 150},
    }
    result = vb.run(
        case.family,
        x,
        methods,
        weights=weights,
        components=K,
        reference="exact",
        chains=RUNS // 4,
        draws=1000,
        repeats=1,
    )
    exact = log_evidence(x, K, case, weights)
    for label in ("gibbs", "smc", "nested"):
        run = result.runs[label]
        assert run.outcome.status == "sampled", (label, run.outcome, run.error)
        report = run.draws.report
        assert report.log_evidence_se < 0.15
        gap = abs(report.log_evidence - exact)
        # one component: Chib's has no error, and none is made
        assert gap < LIMIT * report.log_evidence_se + 1e-9, (label, report)
        hold_against(invariants(result, label), invariants(result, "exact"), 1000)


@pytest.mark.parametrize("name", ["gaussian-semiconjugate", "poisson"])
def test_gibbs_agrees_with_nuts_where_nothing_is_exact(name):
    """About 10 z-tests at 5 errors a case, labels of both chains where they may be.

    Rows enough for the two clusters to stand apart, so that NUTS stays in one mode; the
    log joint, whose sticks depend on the mode, is left out.
    """
    case = CASES[name]
    x = case.rows(np.random.default_rng(5), 150)
    methods = {"gibbs": Gibbs(), "nuts": NUTS(target_acceptance=0.95)}
    result = vb.run(
        case.family,
        x,
        methods,
        weights="dirichlet",
        components=2,
        reference="nuts",
        draws=4000,
        repeats=1,
    )
    both = [invariants(result, label) for label in methods]
    for found in both:
        found.pop("log joint")
    hold_against(*both, 1000)


def test_old_faithfuls_evidence_by_three_ways():
    """Chib's, SMC's and nested sampling's; two tests at 5 errors."""
    methods = {"gibbs": Gibbs(), "smc": SMC(), "nested": Nested(live=100)}
    result = vb.run(
        "gaussian-full",
        "faithful",
        methods,
        weights="dirichlet",
        components=2,
        reference="gibbs",
        chains=4,
        draws=1600,
        repeats=1,
    )
    report = {label: result.runs[label].draws.report for label in methods}
    chib = report["gibbs"]
    assert chib.evidence_ess > 1000
    assert chib.log_evidence_se < 0.02
    for label, most in (("smc", 0.1), ("nested", 0.3)):
        own = report[label]
        assert own.log_evidence_se < most, label
        error = np.hypot(own.log_evidence_se, chib.log_evidence_se)
        assert abs(own.log_evidence - chib.log_evidence) < LIMIT * error, label


def test_the_galaxies_evidence_is_neals():
    """-226.791 +- 0.089: Neal (1999), on Chib's (1995) value without all the modes.

    One test at 4 standard errors: false alarm 6e-5.
    """
    spec = vb.read("galaxies", {"methods": ["smc"], "reference": "smc", "chains": 16})
    spec = spec.model_copy(update={"draws": 1000, "repeats": 1})
    report = vb.launch(spec).runs["smc"].draws.report
    assert report.log_evidence_se < 0.05
    error = np.hypot(report.log_evidence_se, 0.089)
    assert abs(report.log_evidence + 226.791) < 4 * error
