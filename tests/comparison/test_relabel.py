import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vi_bench.comparison import relabel as r


def plain(points):
    """A pivot of equal weights and unit scale."""
    return r.Pivot(
        points, np.full(len(points), 1 / len(points)), np.ones(len(points[0]))
    )


def draws_around(pivot, random, shape=(2, 30), noise=0.1):
    return pivot + noise * random.normal(size=(*shape, *pivot.shape))


@pytest.mark.parametrize("components", [1, 2, 5, 8])
def test_permuted_draws_come_back(components, random):
    pivot = 10 * random.normal(size=(components, 2))
    draws = draws_around(pivot, random)
    order = np.array([[random.permutation(components) for _ in row] for row in draws])
    shuffled = np.take_along_axis(draws, order[..., None], axis=2)
    how = r.relabel(shuffled, plain(pivot))
    np.testing.assert_array_equal(how.apply(shuffled), draws)
    assert how.identifiable


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**31))
def test_enumeration_and_assignment_agree(components, seed):
    random = np.random.default_rng(seed)
    cost = random.uniform(size=(20, components, components))
    tried, margin = r._enumerate(cost)
    solved, swap = r._assign(cost)
    np.testing.assert_array_equal(tried, solved)
    assert np.all(swap >= margin - 1e-12)


def test_overlapping_components_are_not_identifiable(random):
    draws = random.normal(size=(4, 500, 2, 1))
    how = r.relabel(draws, plain(np.array([[-0.5], [0.5]])))
    assert how.ambiguous > r.AMBIGUOUS
    assert not how.identifiable
    assert 0.3 < how.moved < 0.7


def test_switching_within_and_between_chains(random):
    pivot = np.array([[-5.0], [5.0]])
    draws = draws_around(pivot, random, (2, 40))
    draws[1] = draws[1][:, ::-1]  # one chain in the other labelling: no switching
    how = r.relabel(draws, plain(pivot))
    assert how.moved == 0.5
    assert how.switching == 0.0
    draws[0, :10] = draws[0, :10, ::-1]
    assert r.relabel(draws, plain(pivot)).switching == pytest.approx(0.125)


def test_the_pivot_is_the_mean_of_one_labelling(random):
    truth = np.array([[-5.0, 1.0], [5.0, 0.0], [0.0, 9.0]])
    draws = draws_around(truth, random, (2, 200))
    order = np.array([[random.permutation(3) for _ in row] for row in draws])
    shuffled = np.take_along_axis(draws, order[..., None], axis=2)
    found = r.find_pivot(shuffled, random.normal(size=(2, 200)))
    ranked = found.points[np.argsort(found.points.sum(axis=1))]
    expected = truth[np.argsort(truth.sum(axis=1))]
    np.testing.assert_allclose(ranked, expected, atol=0.05)
    assert np.all(found.scale > 1)


def test_an_empty_component_does_not_decide_which_of_the_others_is_which(random):
    """Two components with rows, two without that lie anywhere, far out."""
    truth = np.array([[-1.0], [1.0], [0.0], [0.0]])
    draws = draws_around(truth, random, (2, 200))
    draws[:, :, 2:] = 500 * random.normal(size=(2, 200, 2, 1))
    weights = np.broadcast_to([0.6, 0.4, 1e-9, 1e-30], draws.shape[:3])
    order = np.array([[random.permutation(4) for _ in row] for row in draws])
    shuffled = np.take_along_axis(draws, order[..., None], axis=2)
    mixed = np.take_along_axis(weights, order, axis=2)
    pivot = r.find_pivot(shuffled, random.normal(size=(2, 200)), mixed)
    how = r.relabel(shuffled, pivot, mixed)
    full = pivot.weights > 0.1
    mu, w = how.apply(shuffled)[:, :, full, 0], how.apply(mixed)[:, :, full]
    assert np.all(mu.std(axis=(0, 1)) < 0.2)
    assert sorted(np.unique(w)) == [0.4, 0.6]
    assert not how.identifiable
