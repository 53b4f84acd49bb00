import numpy as np
import pytest
from scipy.stats import binom, norm, wasserstein_distance

from vi_bench.comparison.joint import (
    FEW,
    compare_jointly,
    halves,
    similarity_distance,
    splits,
    thin,
)
from vi_bench.comparison.two_sample import (
    classify,
    energy,
    features,
    gaussian,
    labellings,
    median_distance,
    mmd,
    p_value,
    sliced,
    transport,
)

MEASURES = ("sliced", "transport", "energy", "mmd", "classifier")


def autoregressive(random, phi, shape):
    out = random.normal(size=shape)
    for t in range(1, shape[1]):
        out[:, t] = phi * out[:, t - 1] + np.sqrt(1 - phi**2) * out[:, t]
    return out


def values(found):
    return np.array([getattr(found, name).value for name in MEASURES])


def floors(found):
    return np.array([getattr(found, name).floor for name in MEASURES])


def test_energy_and_mmd_by_loops(random):
    x, y = random.normal(size=(2, 5, 3))

    def mean(a, b, kernel, same=True):
        pairs = [
            kernel(u, v)
            for i, u in enumerate(a)
            for j, v in enumerate(b)
            if same or i != j
        ]
        return sum(pairs) / len(pairs)

    def length(u, v):
        return sum((u - v) ** 2) ** 0.5

    def kernel(u, v):
        return np.exp(-sum((u - v) ** 2) / (2 * 1.7**2))

    expected = 2 * mean(x, y, length) - mean(x, x, length) - mean(y, y, length)
    assert energy(x, y) == pytest.approx(expected, rel=1e-12)
    within = mean(x, x, kernel, same=False) + mean(y, y, kernel, same=False)
    assert mmd(x, y, 1.7) == pytest.approx(within - 2 * mean(x, y, kernel), rel=1e-12)
    lengths = [length(u, v) for i, u in enumerate(y) for v in y[:i]]
    assert median_distance(y) == pytest.approx(np.median(lengths))


def test_sliced_distance_of_a_shift_in_one_dimension_is_the_shift(random):
    x = random.normal(size=(50, 1))
    assert sliced(x + 0.3, x) == pytest.approx(0.3, rel=1e-12)


def test_sliced_distance_of_a_shift_is_that_of_the_mean_projection(random):
    """E |u_1| = sqrt(2 / (pi D)) up to O(1/D); 200 directions know it to 5 %."""
    x = random.normal(size=(20, 10))
    shifted = x + 0.5 * np.eye(10)[0]
    assert sliced(shifted, x) == pytest.approx(0.5 * 0.2587, rel=0.25)


def test_transport_and_slices_are_exact_in_one_dimension(random):
    x, y = random.normal(size=(2, 40, 1))
    expected = wasserstein_distance(x.ravel(), 2 * y.ravel())
    assert transport(x, 2 * y) == pytest.approx(expected, rel=1e-12)
    assert sliced(x, 2 * y) == pytest.approx(expected, rel=1e-12)


def test_p_values_are_ranks_among_permutations(random):
    x = random.normal(size=(12, 2))
    y = random.normal(size=(12, 2)) + 0.5
    pooled = np.concatenate([x, y])
    signs = labellings(12, 0)
    both = [(pooled[s > 0], pooled[s < 0]) for s in signs]
    lengths = np.linalg.norm(pooled[:, None] - pooled, axis=-1)
    for similarity, measure in (
        (-lengths, energy),
        (gaussian(pooled, pooled, 1.3), lambda a, b: mmd(a, b, 1.3)),
    ):
        found = np.array([measure(a, b) for a, b in both])
        assert 1 / 200 < p_value(similarity, signs) < 1
        assert p_value(similarity, signs) == np.mean(found >= found[0] - 1e-12)


def test_the_classifier_tells_all_apart_what_is_apart(random):
    x, y = random.normal(size=(2, 100, 2))
    assert classify(x + 100, y) == 1
    assert classify(1e-3 * x, y) > 0.8
    wide = random.normal(size=(2, 60, 40))
    assert features(wide[0]).shape == (60, 80)
    assert classify(wide[0], 4 * wide[1]) > 0.9


def test_every_draw_is_judged_once(random):
    """Seven of one side lie among the other's, and no other draw is in doubt."""
    x, y = random.normal(size=(2, 100, 1)) / 10
    x = x + 10
    x[:7] -= 10
    assert classify(x, y) == 1 - 7 / 200


@pytest.mark.slow
def test_equal_distributions_are_not_told_apart(random):
    """20 repetitions. More than 6 p-values under 0.05 have probability 3e-5 a test.

    Over many runs of this test the ratio of mean value and mean floor spreads by 6.4 %
    (sliced), 3 % (transport) and 14 % (energy): bands are 4.5 of these.
    """
    found = [
        compare_jointly(*random.normal(size=(2, 4, 100, 2)), seed=i) for i in range(20)
    ]
    assert min(f.used for f in found) > 150
    assert binom.sf(6, 20, 0.05) < 4e-5
    for name in ("energy", "mmd"):
        p = np.array([getattr(f, name).p_value for f in found])
        assert np.sum(p <= 0.05) <= 6, name
        assert p.mean() == pytest.approx(0.5, abs=4.5 / np.sqrt(12 * 20))
    ratio = np.mean([values(f) for f in found], 0) / np.mean(
        [floors(f) for f in found], 0
    )
    for i, spread in enumerate((0.064, 0.03, 0.14)):
        assert ratio[i] == pytest.approx(1, abs=4.5 * spread), MEASURES[i]
    # a z of binomial errors spreads by about 1.2; the mean of 20 by a quarter of that
    z = [(f.classifier.value - 0.5) / f.classifier.se for f in found]
    assert abs(np.mean(z)) < 4.5 * 1.2 / np.sqrt(20)


def test_a_shift_of_three_tenths_is_seen(random):
    a, b = random.normal(size=(2, 4, 500, 5))
    found = compare_jointly(a + 0.3 * np.eye(5)[0], b)
    assert found.used == 1000
    assert found.matched == 400
    assert found.energy.p_value == 1 / 2000
    assert found.mmd.p_value == 1 / 200
    for name in ("sliced", "energy", "mmd"):
        one = getattr(found, name)
        assert one.value > 1.5 * one.floor, name
    # the best rule is right with probability Phi(0.3 / 2); see above for the 1.2
    accuracy = found.classifier
    assert accuracy.value > accuracy.floor
    assert abs(accuracy.value - norm.cdf(0.15)) < 4.5 * 1.2 * accuracy.se


def test_correlation_alone_is_seen(random):
    """Every column is as it should be; only two together are not."""
    a, b = random.normal(size=(2, 4, 500, 2))
    a[..., 1] = 0.6 * a[..., 0] + 0.8 * a[..., 1]
    found = compare_jointly(a, b)
    assert found.energy.p_value == 1 / 2000
    assert found.mmd.p_value == 1 / 200
    assert found.classifier.value - 0.5 > 4.5 * found.classifier.se
    assert found.energy.value > 2 * found.energy.floor


def test_units_and_idle_columns_do_not_matter(random):
    a, b = random.normal(size=(2, 2, 200, 3))
    plain = compare_jointly(a, b)
    a, b = 1e5 * a + 3e6, 1e5 * b + 3e6
    still = np.full((2, 200, 1), 7.0)
    moved = compare_jointly(np.dstack([a, still + 1]), np.dstack([b, still]))
    assert plain.dropped == ()
    assert moved.dropped == (3,)
    assert moved.used == plain.used
    np.testing.assert_allclose(values(moved), values(plain), rtol=1e-6)
    np.testing.assert_allclose(floors(moved), floors(plain), rtol=1e-6)


def test_the_same_call_gives_the_same_numbers(random):
    a, b = random.normal(size=(2, 2, 100, 2))
    assert compare_jointly(a, b) == compare_jointly(a, b)
    capped = compare_jointly(a, b, most=50)
    assert capped.used == 50
    assert capped.matched == 25


def test_thinning_leaves_about_the_smallest_effective_sample_size(random):
    """AR(1) with 0.9 has 1/19 of its draws as ESS, which is known to about 20 %."""
    mixed = autoregressive(random, 0.9, (4, 1000, 1))
    draws = np.dstack([random.normal(size=(4, 1000, 1)), mixed])
    left = thin(draws)
    assert left[..., 0].size == pytest.approx(4000 / 19, rel=0.5)
    lag = np.corrcoef(left[:, 1:, 1].ravel(), left[:, :-1, 1].ravel())[0, 1]
    assert abs(lag) < 0.9**10 + 4.5 / np.sqrt(left[..., 0].size)


def test_few_effective_draws_tell_nothing(random):
    stuck = np.cumsum(random.normal(size=(2, 500, 2)), axis=1)
    found = compare_jointly(stuck, random.normal(size=(2, 500, 2)))
    assert found.used < FEW
    assert np.isnan(values(found)).all()
    nothing = compare_jointly(np.ones((2, 100, 1)), np.ones((2, 100, 1)))
    assert (nothing.dropped, nothing.used) == ((0,), 0)
    assert np.isnan(nothing.energy.value)


def test_a_collapsed_sample_is_far(random):
    found = compare_jointly(np.zeros((1, 400, 3)), random.normal(size=(2, 300, 3)))
    assert found.classifier.value > 0.9
    assert found.transport.value > 1.1 * found.transport.floor


def test_a_reference_whose_chains_disagree_has_a_high_floor(random):
    a, b = random.normal(size=(2, 4, 300, 2))
    fair = compare_jointly(a, b)
    apart = b + np.array([0.0, 0.0, 0.25, 0.25])[:, None, None]
    found = compare_jointly(a, apart)
    assert found.sliced.floor > 1.5 * fair.sliced.floor
    assert found.energy.floor > 1.5 * fair.energy.floor


@pytest.mark.parametrize("chains", [1, 2, 3, 4, 5, 10])
def test_halves_are_of_different_draws_and_equal(chains):
    draws = np.arange(chains * 24.0).reshape(chains, 24, 1)
    found = halves(draws, draws.size)
    assert len(found) in (2, 3)
    for one, other in found:
        assert one.shape == other.shape
        assert not set(one.ravel()) & set(other.ravel())
    assert all(0 < mask.sum() < len(mask) for mask in splits(max(chains, 2)))


def test_similarity_distance_and_its_floor(random):
    """Independent noise by chain: the floor is the distance, both known to 5 %.

    They are means over 30 x 30 entries, and the floor over three splits.
    """
    true = random.uniform(size=(30, 30))
    a, b = true + 0.1 * random.normal(size=(2, 4, 30, 30))
    found = similarity_distance(a, b)
    expected = 0.1 * np.sqrt(2 / 4)
    assert found.value == pytest.approx(expected, rel=0.225)
    assert found.floor == pytest.approx(expected, rel=0.225)
    odd = similarity_distance(a, b[:3])
    assert odd.floor == pytest.approx(0.1 * np.sqrt(2 / 3), rel=0.225)
    by_hand = similarity_distance(np.zeros((1, 2, 2)), np.ones((1, 2, 2)))
    assert by_hand.value == 1
    assert np.isnan(by_hand.floor)
