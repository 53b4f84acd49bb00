import numpy as np
import pytest
from scipy.stats import genpareto, norm

from vi_bench.comparison.importance import (
    LEAST,
    log_mean,
    moments,
    pareto_smooth,
    weigh,
)
from vi_bench.comparison.quantities import Quantity

LOG_P = -1234.5
"""log p(X) of every case below."""


def case(random, mean=0.0, sd=1.0, shape=(4, 2500)):
    """Draws of q = N(0, 1), and p(X, theta) = e^LOG_P N(mean, sd^2)."""
    theta = random.normal(size=shape)
    return theta, LOG_P + norm.logpdf(theta, mean, sd), norm.logpdf(theta)


def test_a_wider_posterior_is_recovered_from_a_narrower_q(random):
    """Known evidence, mean and sd; within 4.5 errors, 7e-6 a number.

    The ratio of the two Gaussians has the tail index 1 - 1 / sd^2 = 0.24.
    """
    theta, log_joint, log_q = case(random, 0.2, 1.15)
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.word == "good"
    assert 0 < found.khat < 0.5
    assert f"k-hat {found.khat:.2f}" in found.sentence
    assert "label permutations and other modes that q misses" in found.sentence
    assert found.relative_ess > 0.5
    assert found.proposal == "q"
    assert found.log_evidence.se < 0.01
    assert abs(found.log_evidence.value - LOG_P) < 4.5 * found.log_evidence.se
    one = found.corrected["theta"]
    assert max(one.mean.se, one.sd.se) < 0.05
    assert abs(one.mean.value - 0.2) < 4.5 * one.mean.se
    assert abs(one.sd.value - 1.15) < 4.5 * one.sd.se
    assert abs(one.raw_mean.value) < 4.5 * one.raw_mean.se
    assert one.raw_sd.value + 4.5 * one.raw_sd.se < 1.15


def test_errors_are_the_spread_over_repetitions(random):
    """The sd of 200 values is known to 5 %, of heavy-tailed ones to about 10 %.

    At the 45 % band a false alarm is under 1e-4.
    """
    rows = []
    for _ in range(200):
        theta, log_joint, log_q = case(random, 0.3, 0.9, (1, 500))
        found = weigh(log_joint, log_q, {Quantity("theta"): theta})
        one = found.corrected["theta"]
        rows.append([found.log_evidence, one.raw_mean, one.raw_sd, one.mean, one.sd])
    value = np.array([[e.value for e in row] for row in rows])
    stated = np.sqrt(np.mean([[e.se**2 for e in row] for row in rows], axis=0))
    np.testing.assert_allclose(value.std(axis=0) / stated, 1, atol=0.45)
    offset = (value.mean(axis=0) - [LOG_P, 0, 1, 0.3, 0.9]) / stated * np.sqrt(200)
    assert np.all(np.abs(offset) < 4.5), offset


def test_moments_by_hand():
    mean, sd = moments(np.array([0.0, 0.0, 3.0]), np.array([0.5, 0.25, 0.25]))
    assert mean.value == pytest.approx(0.75)
    assert sd.value**2 == pytest.approx(0.75 * 0.75**2 + 0.25 * 2.25**2)
    square = np.array([0.75, 0.75, 2.25]) ** 2
    squares = np.array([0.25, 0.0625, 0.0625])
    assert mean.se**2 == pytest.approx(squares @ square)
    spread = np.sqrt(squares @ (square - sd.value**2) ** 2)
    assert sd.se == pytest.approx(spread / (2 * sd.value))
    assert moments(np.ones(3), np.full(3, 1 / 3))[1].se == 0


def test_the_log_of_a_mean_by_hand():
    w = np.array([1.0, 2.0, 6.0])
    for scale in (1.0, 1e-3):
        found = log_mean(np.log(scale * w) - 5000)
        assert found.value == pytest.approx(np.log(3 * scale) - 5000)
        assert found.se == pytest.approx(w.std(ddof=1) / np.sqrt(3) / 3)
    assert np.isnan(log_mean(np.zeros(1)).se)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_khat_is_the_tail_index_of_the_weights(shape, random):
    """Not of one over them: against SciPy's fit of the same 948 largest.

    ArviZ shrinks by 10 draws in 958 towards 0.5; the two fits of one sample differ by
    about 0.01. The truth is known to (1 + shape) / sqrt(948), four of which are 0.25.
    """
    w = random.pareto(1 / shape, size=100_000) + 1
    _, khat = pareto_smooth(np.log(w))
    tail = np.sort(w)[-949:]
    fitted = genpareto.fit(tail[1:] - tail[0], floc=0)[0]
    assert khat == pytest.approx(fitted, abs=0.03)
    assert khat == pytest.approx(shape, abs=0.25)


def test_smoothing_changes_the_largest_weights_only(random):
    log_w = random.normal(size=1000)
    smoothed, _ = pareto_smooth(log_w)
    assert np.exp(smoothed).sum() == pytest.approx(1)
    small = np.argsort(log_w)[: 1000 - 94]
    shift = smoothed[small] - log_w[small]
    np.testing.assert_allclose(shift, shift[0], atol=1e-9)
    assert np.all(smoothed[np.argsort(log_w)][-94:] >= smoothed[small].max() - 1e-12)


def test_constant_weights_have_no_khat(random):
    theta, _, log_q = case(random)
    log_joint = log_q + LOG_P + 1e-8 * random.normal(size=log_q.shape)
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.word == "constant"
    assert np.isnan(found.khat)
    assert found.relative_ess == pytest.approx(1)
    assert "k-hat means nothing" in found.sentence
    assert found.log_evidence.value == pytest.approx(LOG_P, abs=1e-8)
    one = found.corrected["theta"]
    assert one.mean.value == pytest.approx(one.raw_mean.value, abs=1e-7)
    assert weigh(log_q, log_q, {}).log_evidence.se == 0


def test_weights_that_are_not_finite_are_refused_in_words(random):
    theta, log_joint, log_q = case(random)
    log_joint[0, :3] = np.nan
    log_joint[1, 0] = np.inf
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.word == "unknown"
    assert found.sentence == "4 of 10000 log weights are not finite."
    assert np.isnan([found.khat, found.relative_ess, found.log_evidence.value]).all()
    assert not found.corrected
    nowhere = weigh(np.full_like(log_q, -np.inf), log_q, {})
    assert "is 0 at all 10000 draws" in nowhere.sentence


def test_draws_outside_the_posterior_have_no_weight(random):
    """A half-normal posterior: log p(X) is unchanged, half of q's draws are lost."""
    theta, _, log_q = case(random)
    log_joint = np.where(theta > 0, LOG_P + np.log(2) + log_q, -np.inf)
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.relative_ess == pytest.approx(0.5, abs=4.5 * 0.5 / 100)
    assert abs(found.log_evidence.value - LOG_P) < 4.5 * found.log_evidence.se
    one = found.corrected["theta"]
    assert abs(one.mean.value - np.sqrt(2 / np.pi)) < 4.5 * one.mean.se


def test_few_draws_are_said_to_be_few(random):
    theta, log_joint, log_q = case(random, 0.2, 1.15, (1, LEAST - 1))
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.word == "unknown"
    assert np.isnan(found.khat)
    assert f"needs {LEAST} draws" in found.sentence
    assert np.isfinite(found.corrected["theta"].mean.value)
    w = random.pareto(1 / 0.55, size=(1, 60)) + 1
    some = weigh(np.log(w), np.zeros_like(w), {})
    assert some.word == "few draws"
    assert "draws of q" in some.sentence


def test_a_q_that_is_too_narrow_is_unreliable(random):
    theta, log_joint, log_q = case(random, 0.0, 3.0)
    found = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert found.khat > 0.7
    assert found.word == "unreliable"
    far = weigh(*case(random, 60.0, 1.0)[1:], {})
    assert far.word == "unreliable"
    ties = np.repeat([0.0, 5.0], 500)[None]
    assert np.isinf(weigh(ties, np.zeros((1, 1000)), {}).khat)


def test_khat_does_not_see_the_other_labelling_but_the_symmetrised_q_counts_it(random):
    """Two equal modes, q in one: k-hat is good and the evidence off by log 2."""
    at, scale = 5.0, 0.9
    theta = at + scale * random.normal(size=(4, 1000))
    log_joint = (
        LOG_P
        - np.log(2)
        + np.logaddexp(norm.logpdf(theta, -at, 1), norm.logpdf(theta, at, 1))
    )
    log_q = norm.logpdf(theta, at, scale)
    average = np.logaddexp(log_q, norm.logpdf(theta, -at, scale)) - np.log(2)
    one = weigh(log_joint, log_q, {Quantity("theta"): theta})
    assert one.word == "good"
    error = one.log_evidence
    assert error.se < 0.02
    assert abs(error.value - (LOG_P - np.log(2))) < 4.5 * error.se
    both = weigh(log_joint, log_q, {Quantity("theta"): theta}, average)
    assert both.proposal == "symmetrised q"
    assert abs(both.log_evidence.value - LOG_P) < 4.5 * both.log_evidence.se
    assert "label permutations" not in both.sentence
    # shared among labellings, a component's own quantity is that of its mode
    mean = both.corrected["theta"].mean
    assert abs(mean.value - at) < 4.5 * mean.se
