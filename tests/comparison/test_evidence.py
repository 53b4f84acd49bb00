import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from vi_bench.comparison.comparison import compare, terms_of
from vi_bench.comparison.evidence import (
    Claim,
    Terms,
    bounds_of,
    importance_weighted,
    ladder,
)
from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.quantities import Quantity
from vi_bench.comparison.sample import Sample

LOG_P = -7.25
"""log p(X) of the analytic case below."""


EXACT = {"exact": Claim(Estimate(LOG_P, 0.0), weighs=True)}


def two_modes(random, at=3.0, scale=0.8, shape=(4, 1000)):
    """p: equal halves at -3 and 3, each N(., 1); q: N(3, 0.8^2), one of the two."""
    theta = at + scale * random.normal(size=shape)
    log_p = LOG_P + logsumexp(
        [norm.logpdf(theta, -3, 1), norm.logpdf(theta, 3, 1)], axis=0
    )
    log_p -= np.log(2)
    log_q = norm.logpdf(theta, at, scale)
    average = logsumexp([log_q, norm.logpdf(theta, -at, scale)], axis=0) - np.log(2)
    return Terms(log_p, log_q, average)


def kl(scale):
    """KL(N(0, scale^2) || N(0, 1))."""
    return 0.5 * (scale**2 - 1) - np.log(scale)


def test_bounds_of_a_known_posterior(random):
    """Each within 4.5 errors (1e-5 a test) of what the KLs say, up to the overlap."""
    found = bounds_of(two_modes(random))
    expected = {
        found.marginal_elbo: LOG_P - np.log(2) - kl(0.8),
        found.symmetrised: LOG_P - kl(0.8),
    }
    for estimate, truth in expected.items():
        assert estimate.se < 0.01
        assert abs(estimate.value - truth) < 4.5 * estimate.se + 1e-3
    assert found.symmetry.value == pytest.approx(np.log(2), abs=1e-3)
    between = found.importance_weighted.value
    assert found.symmetrised.value < between < LOG_P + 1e-3
    assert list(found.rungs()) == [
        "marginal ELBO",
        "symmetrised",
        "importance weighted",
    ]


def test_the_gap_adds_up_and_names_its_parts(random):
    terms = two_modes(random)
    lowest = LOG_P - 1.5
    own = Terms(
        terms.log_joint,
        terms.log_q,
        terms.log_q_symmetric,
        Estimate(lowest, 0.0),
        lowest + 0.3,
    )
    found = ladder({"cavi": own}, EXACT)
    gap = found.gaps["cavi"]
    assert gap.total.value == pytest.approx(1.5)
    assert gap.optimisation == pytest.approx(0.3)
    assert gap.symmetry.value == pytest.approx(np.log(2), abs=1e-3)
    parts = gap.optimisation + gap.symmetry.value + gap.mean_field.value
    assert parts == pytest.approx(gap.total.value)
    assert not found.violations()


def test_the_best_bound_of_any_method_measures_the_optimisation(random):
    t = two_modes(random)
    low, high = (
        Terms(t.log_joint, t.log_q, t.log_q_symmetric, Estimate(LOG_P - gap, 0.0))
        for gap in (2.0, 1.2)
    )
    found = ladder({"one": low, "many": high}, EXACT)
    assert found.gaps["one"].optimisation == pytest.approx(0.8)
    assert found.gaps["many"].optimisation == 0


def test_the_most_precise_evidence_is_the_one_to_measure_from(random):
    given = {"smc": Claim(Estimate(-7.2, 0.1), weighs=True)}
    assert ladder({}, given | EXACT).trusted == "exact"
    nothing = {"exact": Claim(Estimate(np.nan, 0.0), weighs=True)}
    assert ladder({}, given | nothing).trusted == "smc"
    # a chain in one mode is sure of itself; what weighs modes goes before it
    chib = {"gibbs": Claim(Estimate(-7.7, 0.0002))}
    assert ladder({}, given | chib).trusted == "smc"
    assert ladder({}, {}) is None
    alone = ladder({"svi": two_modes(random)}, {})
    assert alone.trusted is None
    assert not alone.gaps


def test_a_bound_above_the_evidence_is_named(random):
    """A constant too many in the ELBO: no approximation can do that."""
    t = two_modes(random)
    wrong = Terms(t.log_joint + 1.0, t.log_q, t.log_q_symmetric)
    found = ladder({"svi": wrong}, EXACT)
    (sentence,) = found.violations()
    assert sentence.startswith("svi: importance weighted")
    assert "log p(X) by exact" in sentence


def test_a_bound_of_a_q_with_impossible_draws_is_named(random):
    """Its ELBO can be but -inf."""
    known = random.normal(size=(4, 50))
    impossible = Terms(np.full((4, 50), -np.inf), known, bound=Estimate(-3.0, 0.0))
    (sentence,) = ladder({"cavi": impossible}, {}).violations()
    assert "which is -inf" in sentence


def test_elbo_above_the_collapsed_bound_is_named(random):
    t = two_modes(random)
    wrong = Terms(t.log_joint, t.log_q, bound=Estimate(LOG_P - 0.1, 0.0))
    (sentence,) = ladder({"cavi": wrong}, {}).violations()
    assert "ELBO" in sentence
    assert "marginal ELBO" in sentence


def test_importance_weighting_by_hand():
    log_w = np.log(np.arange(1.0, 7.0))
    found = importance_weighted(log_w, 3)
    parts = np.log([2.0, 5.0])
    assert found.value == pytest.approx(parts.mean())
    assert found.se == pytest.approx(parts.std(ddof=1) / np.sqrt(2))
    assert importance_weighted(log_w, 4) is None
    assert importance_weighted(log_w - 5000, 3).value == pytest.approx(
        parts.mean() - 5000
    )


def test_estimates_that_exclude_one_another_are_named(random):
    claims = {
        "gibbs": Claim(Estimate(-7.76, 0.0002)),
        "smc": Claim(Estimate(-7.25, 0.05), weighs=True),
    }
    (sentence,) = ladder({}, claims).violations()
    assert sentence.startswith("log p(X) by smc -7.25")
    assert "log p(X) by gibbs" in sentence


def test_an_evidence_below_a_bound_of_the_run_gives_no_gaps(random):
    """Chib's from chains that have not mixed, 40 nats under a rigorous bound."""
    low = {"gibbs": Claim(Estimate(LOG_P - 40, 0.06))}
    found = ladder({"svi": two_modes(random)}, low)
    assert found.violations()
    assert not found.gaps
    assert "lies above" in found.no_gaps


def test_an_evidence_that_is_withheld_measures_nothing(random):
    withheld = {"gibbs": Claim(Estimate(LOG_P, 0.01), withheld="R-hat 1.40")}
    found = ladder({"svi": two_modes(random)}, withheld)
    assert found.trusted is None
    assert not found.gaps
    assert found.no_gaps == "gibbs: R-hat 1.40"


def test_log_joints_of_some_draws_give_bounds_of_these(random):
    terms, some = two_modes(random), np.arange(0, 1000, 5)
    mu = {"mu": random.normal(size=(4, 1000, 2))}
    densities = {"log_q": terms.log_q, "log_q_symmetric": terms.log_q_symmetric}
    few = Sample(mu, log_joint=terms.log_joint[:, some], evaluated=some, **densities)
    own = {name: values[:, some] for name, values in densities.items()}
    expected = bounds_of(Terms(terms.log_joint[:, some], **own))
    assert bounds_of(terms_of({"q": few})["q"]) == expected
    assert expected != bounds_of(terms)
    whole = Sample(mu, log_joint=terms.log_joint)
    assert few.log_joint_of_all is None
    assert whole.log_joint_of_all is terms.log_joint
    found = compare({"q": few, "other": whole}, "other")
    assert found.importance["q"].log_evidence.se > 0
    assert Quantity("log joint") not in found.distances["q"]
    assert Quantity("mu", statistic="mean") in found.distances["q"]
