import numpy as np
import pytest

from tests.comparison.test_comparison import columns, permuted, sample
from vi_bench.comparison import Sample, compare
from vi_bench.comparison.modes import find_modes, weighted
from vi_bench.comparison.quantities import Quantity


def stuck(random, chains, means):
    """A sample whose `chains` sit at other means, no permutation of the usual ones."""
    usual, other = sample(random), sample(random, means=means)
    mu = {k: v.copy() for k, v in usual.columns.items()}
    log_joint = usual.log_joint.copy()
    for label, values in other.columns.items():
        mu[label][chains] = values[chains]
    log_joint[chains] = other.log_joint[chains] - 50
    return Sample(mu, {}, log_joint)


ELSEWHERE = np.array([[-6.0, 0.0], [6.0, 1.0], [6.0, 9.0]])


def test_permuted_chains_are_one_mode(random):
    moved = permuted(sample(random), random)
    found = compare({"a": moved, "b": sample(random)}, "b")
    assert [m.chains for m in found.modes["a"]] == [(0, 1, 2, 3)]
    assert found.verdicts["a"].word == "agrees"


def test_whole_chains_permuted_by_hand_agree(random):
    """Every chain in a labelling of its own, as chains of NUTS end up."""
    given = sample(random)
    orders = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]])
    mu = np.stack(list(given.columns.values()), axis=-1)
    moved = np.stack([chain[:, o] for chain, o in zip(mu, orders, strict=True)])
    sample_ = Sample(columns(moved), {}, given.log_joint)
    found = compare({"a": sample(random), "b": sample_}, "b")
    assert found.verdicts["a"].word == "agrees"
    assert found.relabellings["b"].switching == 0


def test_a_reference_in_two_modes_is_unreliable_and_says_which(random):
    samples = {"a": sample(random), "b": stuck(random, [1, 3], ELSEWHERE)}
    found = compare(samples, "b", mode_evidence=lambda label, modes: {0: 0.0, 1: -50.0})
    first, second = found.modes["b"]
    assert (first.chains, second.chains) == ((0, 2), (1, 3))
    assert first.log_joint > second.log_joint
    assert first.share == pytest.approx(1)
    verdict = found.verdicts["a"]
    assert verdict.word == "reference unreliable"
    assert "chains 0, 2" in verdict.reason
    assert "100 % of the mass by evidence" in verdict.reason


def test_a_method_in_two_modes_is_not_averaged(random):
    samples = {"a": stuck(random, [2], ELSEWHERE), "b": sample(random)}
    verdict = compare(samples, "b").verdicts["a"]
    assert verdict.word == "inconclusive"
    assert verdict.more_draws is None
    assert "chains 0, 1, 3" in verdict.reason
    assert "agrees" in verdict.reason
    assert "differs" in verdict.reason


def test_modes_by_hand():
    steady = np.linspace(0, 1, 100)
    draws = np.stack([steady, steady + 0.5, steady + 0.9, steady + 9])
    found = find_modes({Quantity("q"): draws}, None)
    # 0 and 2 are apart, and both overlap 1: a chain of overlaps is one mode
    assert sorted(m.chains for m in found) == [(0, 1, 2), (3,)]
    assert all(np.isnan(m.log_joint) for m in found)
    same = np.ones((2, 30))
    assert len(find_modes({Quantity("q"): same}, None)) == 1
    assert len(find_modes({Quantity("q"): same * [[1], [2]]}, None)) == 2


def test_shares_need_the_evidence_of_every_mode():
    steady = np.linspace(0, 1, 100)
    modes = find_modes({Quantity("q"): np.stack([steady, steady + 9])}, None)
    assert all(np.isnan(m.share) for m in weighted(modes, {0: -1.0}))
    shares = [m.share for m in weighted(modes, {0: -1000.0, 1: -1000.0 - np.log(3)})]
    np.testing.assert_allclose(shares, [0.75, 0.25])


def test_independent_chains_are_not_torn_apart(random):
    """30 samples of 4 chains: an overlap under 1 % in 50 draws is no chance."""
    for _ in range(30):
        assert len(find_modes({Quantity("q"): random.normal(size=(4, 50))}, None)) == 1


def test_four_draws_of_a_chain_sit_nowhere(random):
    assert len(find_modes({Quantity("q"): random.normal(size=(4, 4))}, None)) == 1


def test_many_chains_are_held_to_a_few(random):
    draws = random.normal(size=(64, 60))
    draws[40:] += 9
    found = find_modes({Quantity("q"): draws}, None)
    assert sorted(len(m.chains) for m in found) == [24, 40]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_that_are_not_finite_are_named(bad, random):
    given = sample(random)
    given.columns["mu[x1]"][2, 17, 1] = bad
    with pytest.raises(ValueError, match=r"mu\[x1\] is not finite in chain 2, draw 17"):
        Sample(given.columns)


def test_a_reference_of_fifty_draws_is_unreliable(random):
    samples = {"a": sample(random), "b": sample(random, shape=(1, 50))}
    verdict = compare(samples, "b").verdicts["a"]
    assert verdict.word == "reference unreliable"
    assert "under 400" in verdict.reason


def test_a_method_of_few_draws_says_how_many_more(random):
    samples = {"a": sample(random, shape=(2, 20)), "b": sample(random)}
    verdict = compare(samples, "b").verdicts["a"]
    assert verdict.word == "inconclusive"
    assert verdict.more_draws > 0
    assert f"{verdict.more_draws} further draws" in verdict.reason
