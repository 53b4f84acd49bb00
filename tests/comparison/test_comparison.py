import numpy as np
import pytest

from vi_bench.comparison import Margin, Sample, compare
from vi_bench.comparison.measures import Distance, Estimate, Summary
from vi_bench.comparison.quantities import Quantity
from vi_bench.comparison.verdict import case_of, holm, judge

MEANS = np.array([[-6.0, 0.0], [6.0, 1.0], [0.0, 8.0]])


def sample(random, scale=1.0, shift=0.0, shape=(4, 3000), means=MEANS):
    mu = means + shift + scale * random.normal(size=(*shape, *means.shape))
    return Sample(columns(mu), {}, -(((mu - means) ** 2).sum((2, 3))) / 2)


def columns(mu):
    return {f"mu[x{j}]": mu[..., j] for j in range(mu.shape[-1])}


def permuted(given, random):
    mu = np.stack(list(given.columns.values()), axis=-1)
    order = np.array([[random.permutation(3) for _ in row] for row in mu])
    moved = np.take_along_axis(mu, order[..., None], axis=2)
    return Sample(columns(moved), {}, given.log_joint)


def test_equal_posteriors_agree(random):
    found = compare({"a": sample(random), "b": sample(random)}, "b")
    assert found.verdicts["a"].word == "agrees"
    assert set(found.verdicts) == {"a"}
    assert found.note == ""


@pytest.mark.parametrize("change", [{"scale": 0.7}, {"shift": 0.4}])
def test_different_posteriors_differ(change, random):
    found = compare({"a": sample(random, **change), "b": sample(random)}, "b")
    assert found.verdicts["a"].word == "differs"
    assert "+-" in found.verdicts["a"].reason


def test_few_draws_are_inconclusive_and_say_how_many_more(random):
    few = {k: sample(random, shape=(4, 150)) for k in "ab"}
    verdict = compare(few, "b").verdicts["a"]
    assert verdict.word == "inconclusive"
    assert verdict.more_draws > 1
    assert f"{verdict.more_draws} further draws" in verdict.reason


def test_label_permuted_chains_give_the_same_comparison(random):
    a, b = sample(random, 0.9), sample(random)
    plain = compare({"a": a, "b": b}, "b")
    mixed = compare({"a": permuted(a, random), "b": permuted(b, random)}, "b")
    # components may come in another order, their numbers may not change
    for label in ("a", "b"):
        left = _sorted_summaries(plain, label)
        right = _sorted_summaries(mixed, label)
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)
    assert plain.verdicts["a"].word == mixed.verdicts["a"].word
    for name, draws in plain.invariants["a"].items():
        np.testing.assert_allclose(draws, mixed.invariants["a"][name], atol=1e-12)


def _sorted_summaries(found, label):
    rows = [
        (s.mean.value, s.mean.se, s.sd.value, s.ess_bulk, s.r_hat)
        for name, s in found.summaries[label].items()
        if "of component" in name
    ]
    return np.array(sorted(rows))


def test_chains_in_different_modes_make_the_reference_unreliable(random):
    stuck = sample(random)
    other = MEANS + np.array([[0.0, 0.0], [0.0, 0.0], [0.0, -5.0]])
    for label, values in sample(random, means=other).columns.items():
        stuck.columns[label][2:] = values[2:]
    found = compare({"a": sample(random), "b": stuck}, "b")
    verdict = found.verdicts["a"]
    assert verdict.word == "reference unreliable"
    assert "2 different modes" in verdict.reason
    assert "chains 0, 1" in verdict.reason


def test_divergences_make_the_reference_unreliable(random):
    reference = sample(random)
    reference = Sample(reference.columns, {}, reference.log_joint, divergent=0.05)
    verdict = compare({"a": sample(random), "b": reference}, "b").verdicts["a"]
    assert verdict.word == "reference unreliable"
    assert "diverged" in verdict.reason


def test_overlapping_components_are_judged_by_invariants_only(random):
    near = 0.3 * MEANS / 6
    samples = {k: sample(random, means=near) for k in "ab"}
    found = compare(samples, "b")
    assert "label-invariant" in found.note
    assert not any("of component" in name for name in found.judged)
    assert any("of component" in name for name in found.distances["a"])


def test_one_component_and_one_dimension(random):
    samples = {k: Sample({"mu": random.normal(size=(4, 4000, 1))}) for k in "ab"}
    found = compare(samples, "b")
    assert found.verdicts["a"].word == "agrees"


def distances(*pairs):
    return {
        Quantity(f"q{i}"): Distance(
            Estimate(value, error), Estimate(1.0, 0.001), Estimate(0, 0), 0.0
        )
        for i, (value, error) in enumerate(pairs)
    }


def word(found, margin=0.1):
    fair = Summary(Estimate(0, 0.01), Estimate(1.0, 0.01), 1000, 1000, 1.0)
    known = dict.fromkeys(found, fair)
    return judge([case_of(found, known, Margin(margin), 4000)])[0].word


def test_the_verdict_by_hand():
    assert word(distances((0.0, 0.01), (0.05, 0.01))) == "agrees"
    assert word(distances((0.0, 0.01), (0.5, 0.01))) == "differs"
    assert word(distances((0.0, 0.01), (0.09, 0.02))) == "inconclusive"
    assert word(distances((0.0, 0.01), (0.5, 0.01)), 0.6) == "agrees"
    # just outside the band in one of twenty: Holm does not call it different
    many = distances(*[(0.0, 0.01)] * 19, (0.1 + 2.0 * 0.01, 0.01))
    assert word(many) == "at the margin"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([0.01, 0.02, 0.04]) == [True, True, True]
    assert holm([0.2, 0.001]) == [False, True]


def test_holm_keeps_its_false_alarm_rate(random):
    """On the edge of every band at once: 2000 runs, rate 5 % plus 4.5 errors."""
    from scipy.stats import norm

    false = sum(any(holm(list(norm.sf(random.normal(size=12))))) for _ in range(2000))
    assert false / 2000 < 0.05 + 4.5 * np.sqrt(0.05 * 0.95 / 2000)


def weighted(random, tiny):
    """Two components with rows, and a third with weights around `tiny`."""
    mu = np.array([-3.0, 3.0, 0.0]) + random.normal(size=(4, 500, 3))
    w = np.stack(
        [
            0.6 + 0.02 * random.normal(size=(4, 500)),
            0.4 + 0.02 * random.normal(size=(4, 500)),
            tiny(random),
        ],
        axis=-1,
    )
    return Sample({"mu": mu, "weight": w / w.sum(axis=-1, keepdims=True)})


def test_weights_of_empty_components_are_not_compared(random):
    """1e-100 give or take, and now and then one row's worth: moments of few draws."""

    def rare(random):
        w = 10.0 ** random.uniform(-200, -50, size=(4, 500))
        w[random.uniform(size=w.shape) < 0.02] = 0.01
        return w

    samples = {k: weighted(random, rare) for k in "ab"}
    found = compare(samples, "b")
    names = set(found.summaries["a"])
    assert "sorted weight 3" in names
    assert "sorted weight 2" in names
    assert "sorted weight 1" not in names
    assert "mean weight" not in names
    assert not any(name.startswith("sorted mu") for name in names)
    assert found.verdicts["a"].word in ("agrees", "inconclusive")
    w, mu = samples["a"].columns["weight"], samples["a"].columns["mu"]
    np.testing.assert_allclose(found.invariants["a"]["mean mu"], (w * mu).sum(-1))


def test_a_collapsed_posterior_differs(random):
    flat = sample(random)
    for values in flat.columns.values():
        values[:] = values.mean(axis=(0, 1))
    found = compare({"a": flat, "b": sample(random)}, "b")
    assert found.verdicts["a"].word == "differs"
