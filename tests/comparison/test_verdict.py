"""What verdicts rest on besides means and sds, and error rates under many looks."""

import numpy as np
import pytest
from scipy.stats import norm

from tests.comparison.test_comparison import sample
from tests.marks import slow
from vi_bench.comparison import Margin, Sample, compare
from vi_bench.comparison.correlation import correlations
from vi_bench.comparison.measures import Summary, summarise
from vi_bench.comparison.quantities import Quantity
from vi_bench.comparison.verdict import (
    ALPHA,
    LOOKS,
    Case,
    Test,
    beyond,
    judge,
    unreliable,
)

SHAPE = (4, 3000)


def pair(random, correlation, shape=SHAPE):
    """One component with two coordinates of a given correlation."""
    x, y = random.normal(size=(2, *shape, 1))
    other = correlation * x + np.sqrt(1 - correlation**2) * y
    return Sample({"mu[x0]": x, "mu[x1]": other})


def test_a_correlation_that_q_does_not_have_is_a_difference(random):
    found = compare({"q": pair(random, 0.0), "nuts": pair(random, 0.98)}, "nuts")
    verdict = found.verdicts["q"]
    assert verdict.word == "differs"
    assert "correlation of" in verdict.reason


def test_a_small_correlation_is_inside_the_margin(random):
    found = compare({"q": pair(random, 0.0), "nuts": pair(random, 0.05)}, "nuts")
    assert found.verdicts["q"].word == "agrees"


def test_the_errors_of_correlations_are_right(random):
    """Spread over 300 samples against the stated error: sd of the ratio 4 %."""
    for r in (0.0, 0.6):
        found = [correlated(random, r) for _ in range(300)]
        values = np.array([v for v, _ in found])
        stated = np.sqrt(np.mean([e**2 for _, e in found]))
        assert np.std(values) / stated == pytest.approx(1, abs=0.18)
        assert abs(values.mean() - r) < 4.5 * stated / np.sqrt(300) + 2e-3


def correlated(random, r):
    x = random.normal(size=(2, 1, 400))
    x[1] = r * x[0] + np.sqrt(1 - r**2) * x[1]
    found, variance = correlations(x, np.array([400.0, 400.0]))
    return found[0, 1], np.sqrt(variance[0, 1])


def test_two_spikes_are_no_normal_of_equal_mean_and_sd(random):
    """W1 of 0.36 sd, 5 and 95 % quantiles 0.65 sd off: only shape is different."""
    spikes = random.choice([-1.0, 1.0], size=(*SHAPE, 1))
    spikes += 0.01 * random.normal(size=spikes.shape)
    samples = {
        "q": Sample({"mu": random.normal(size=(*SHAPE, 1))}),
        "nuts": Sample({"mu": spikes}),
    }
    verdict = compare(samples, "nuts").verdicts["q"]
    assert verdict.word == "differs"


def test_a_dependence_of_higher_order_is_seen_jointly(random):
    """y = +-x at random: uncorrelated, the same marginals, far from independent."""

    def crossed(joint):
        x, y = random.normal(size=(2, *SHAPE, 1))
        if joint:
            y = np.where(random.uniform(size=x.shape) < 0.5, x, -x)
        return Sample({"a": x, "b": y})

    samples = {"q": crossed(False), "nuts": crossed(True)}
    verdict = compare(samples, "nuts").verdicts["q"]
    assert verdict.word == "agrees in marginals"
    assert "joint energy distance" in verdict.reason


def fixed(random, value):
    given = sample(random, shape=SHAPE)
    return Sample(given.columns, {"tau": np.full(SHAPE, value)}, given.log_joint)


def test_what_the_reference_holds_fixed_is_compared_too(random):
    one, two = fixed(random, 1.0), fixed(random, 2.0)
    verdict = compare({"q": two, "nuts": one}, "nuts").verdicts["q"]
    assert verdict.word == "differs"
    assert verdict.reason == "tau is 1 in every draw of nuts, here 2"
    assert compare({"q": one, "nuts": one}, "nuts").verdicts["q"].word == "agrees"
    free = Sample(one.columns, {"tau": random.normal(size=SHAPE)}, one.log_joint)
    assert compare({"q": free, "nuts": one}, "nuts").verdicts["q"].word == "differs"
    assert compare({"q": one, "nuts": free}, "nuts").verdicts["q"].word == "differs"


def test_a_quantity_that_one_side_lacks_is_said(random):
    with_tau = fixed(random, 1.0)
    with_tau.shared["tau"][:] = random.normal(size=SHAPE)
    without = Sample(with_tau.columns, {}, with_tau.log_joint)
    found = compare({"q": without, "nuts": with_tau}, "nuts")
    assert "q does not have it: tau" in found.note


def test_one_draw_is_no_constant(random):
    one = Sample(sample(random, shape=(1, 1)).columns)
    verdict = compare({"q": one, "nuts": sample(random)}, "nuts").verdicts["q"]
    assert verdict.word == "inconclusive"
    assert "1 draws are too few" in verdict.reason
    assert verdict.more_draws == 399


def test_sds_need_four_hundred_effective_draws(random):
    """At an ESS of 100 to 400 means are tested and sds are not."""
    few = sample(random, shape=(4, 60))
    near = compare({"q": few, "nuts": sample(random)}, "nuts").verdicts["q"]
    assert near.word == "inconclusive"
    assert "the error of its sd is not known" in near.reason
    far = sample(random, shape=(4, 60), shift=3.0)
    assert compare({"q": far, "nuts": sample(random)}, "nuts").verdicts["q"].word == (
        "differs"
    )


def summary(**changes):
    fair = summarise(np.random.default_rng(3).normal(size=(4, 1000)))
    return Summary(**(fair.__dict__ | changes))


def test_tail_ess_and_the_energy_gate_the_reference():
    assert unreliable({Quantity("a"): summary()}, 0.0, e_bfmi=0.9) == ""
    tail = unreliable({Quantity("a"): summary(ess_tail=120.0)}, 0.0)
    assert tail.startswith("tail ESS of a is 120, under 400")
    slow_energy = unreliable({Quantity("a"): summary()}, 0.0, e_bfmi=0.12)
    assert slow_energy.startswith("E-BFMI is 0.12, under 0.3")
    assert unreliable({Quantity("a"): summary()}, 0.0, e_bfmi=np.nan)


def test_the_p_value_is_that_of_five_looks():
    assert beyond(2 * 0.03, 0.03) == pytest.approx(LOOKS * norm.sf(2))
    assert beyond(0.001, 0.03) == 1
    assert beyond(-0.01, 0.03) == 1
    assert beyond(0.01, 0.0) == 0


@pytest.mark.parametrize("growth", [1.02, 1.5, 10])
def test_looking_five_times_keeps_the_error_rate(random, growth):
    """At the margin, whatever the steps are in which draws are added: under 5 %.

    20,000 paths; 4.5 binomial errors of 5 % are 0.7 %. Independent looks come nearest.
    """
    draws = (1000 * growth ** np.arange(LOOKS)).astype(int)
    steps = np.diff(draws, prepend=0)
    noise = random.normal(size=(20_000, LOOKS)) * np.sqrt(steps)
    errors = np.cumsum(noise, axis=1) / draws
    # the value is the margin itself: a path below it could be called inside
    lowest = np.min(errors * np.sqrt(draws), axis=1)
    rate = np.mean([beyond(-z, 1.0) <= ALPHA for z in lowest])
    assert rate < ALPHA + 4.5 * np.sqrt(ALPHA * 0.95 / 20_000)
    assert rate > 0.9 * ALPHA / LOOKS  # not so careful as to be useless


def test_holm_counts_the_tests_of_all_methods():
    """A p-value of 0.02 is enough alone, and not among ten methods."""
    se = 0.01
    excess = 3.05 * se
    far = Test("mean", "a", 0.1 + excess, se, 0.1)
    assert ALPHA / 10 < far.p_outside < ALPHA
    near = Test("mean", "a", 0.0, se, 0.1)
    alone = judge([Case([far], 4000, 1)])
    assert alone[0].word == "differs"
    many = judge([Case([far], 4000, 1), *[Case([near], 4000, 1)] * 9])
    assert many[0].word == "at the margin"


@slow
def test_following_the_advice_keeps_the_error_rates(random):
    """Draws are added until a word is given, at the margin: 600 replications.

    A verdict of one quantity whose mean is off by exactly the margin; after each
    `inconclusive` the draws it asks for are added, at most three times. False `agrees`
    and false `differs` are each under 5 % plus 4.5 errors.
    """
    words = [advised(random) for _ in range(600)]
    limit = ALPHA + 4.5 * np.sqrt(ALPHA * 0.95 / 600)
    for word in ("agrees", "differs"):
        assert np.mean([w == word for w in words]) < limit


def advised(random):
    a, b = np.empty((4, 0, 1)), np.empty((4, 0, 1))
    more = 4000
    for _ in range(4):
        grown = random.normal(size=(2, 4, -(-more // 4), 1))
        a, b = np.hstack([a, grown[0] + 0.1]), np.hstack([b, grown[1]])
        found = compare({"q": Sample({"m": a}), "nuts": Sample({"m": b})}, "nuts")
        verdict = found.verdicts["q"]
        if verdict.word != "inconclusive" or verdict.more_draws is None:
            break
        more = min(verdict.more_draws, 40_000)
    return verdict.word


def test_margins_of_the_derived_tests_are_those_of_normals():
    """Two normals at both margins are at each derived margin or inside it."""
    margin = Margin(0.1, 0.1)
    assert margin.band("95 % quantile") >= norm.ppf(0.95) * (1 - 0.9) + 0.1 - 1e-12
    u = (np.arange(20_000) + 0.5) / 20_000
    w1 = np.mean(np.abs(norm.ppf(u, 0.1, 0.9) - norm.ppf(u)))
    assert w1 <= margin.band("W1")
    r = margin.band("correlation")
    assert np.sqrt(1 - r) == pytest.approx(0.9)
