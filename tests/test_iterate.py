import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.iterate import CONVERGED, NOT_FINITE, RUNNING, ascend, begin, over_lanes


def halve(point):
    return -jnp.sum(point**2), 0.5 * point


def test_both_criteria_must_hold():
    """The bound stands still long before the point does: it is quadratic there."""
    done = ascend(halve, jnp.ones(2), begin(jnp.ones(2), 100), 100, 1e-8)
    assert int(done.status) == CONVERGED
    assert float(done.residual) <= 1e-8
    assert float(done.point[0]) < 1e-7
    flat = ascend(
        lambda p: (jnp.zeros(()), p + 1.0), jnp.ones(1), begin(jnp.ones(1), 9), 9, 1e-3
    )
    assert int(flat.status) == RUNNING


def test_slices_are_one_ascent():
    start = begin(jnp.array([3.0, -2.0]), 60)
    whole = ascend(halve, jnp.ones(2), start, 60, 1e-9)
    part = start
    for _ in range(12):
        part = ascend(halve, jnp.ones(2), part, 5, 1e-9)
    jax.tree.map(np.testing.assert_array_equal, whole, part)


def test_a_bound_that_is_not_finite_ends_it_with_the_last_good_point():
    def breaks(point):
        return jnp.where(point[0] < 4, point[0], jnp.nan), point + 1.0

    done = ascend(breaks, jnp.ones(1), begin(jnp.zeros(1), 20), 20, 1e-9)
    assert int(done.status) == NOT_FINITE
    assert int(done.iteration) == 5
    assert np.all(np.isfinite(done.point))


def test_a_fall_is_remembered():
    def wobble(point):
        return jnp.where(point[0] == 2, -1.0, point[0]), point + 1.0

    done = ascend(wobble, jnp.ones(1), begin(jnp.zeros(1), 6), 6, 1e-9)
    assert float(done.fall) == pytest.approx(2.0)


def test_the_trace_is_the_bounds():
    done = ascend(halve, jnp.ones(1), begin(jnp.ones(1), 10), 4, 1e-12)
    np.testing.assert_allclose(done.trace[:4], -(0.25 ** np.arange(4)))
    assert np.all(np.isnan(done.trace[4:]))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_lanes_give_the_same_either_way(platform, monkeypatch):
    from vi_bench import iterate

    monkeypatch.setattr(iterate, "_platform", lambda: platform)
    lanes = jnp.arange(1.0, 4.0)[:, None]

    def climb(lane):
        return ascend(halve, jnp.ones(1), begin(lane, 50), 50, 1e-9)

    together = over_lanes(climb, lanes)
    for i in range(3):
        alone = climb(lanes[i])
        np.testing.assert_allclose(together.point[i], alone.point, rtol=1e-12)
        assert int(together.iteration[i]) == int(alone.iteration)


def test_the_platform_is_the_chosen_devices():
    from vi_bench import iterate

    assert iterate._platform() == "cpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert iterate._platform() == "cpu"
