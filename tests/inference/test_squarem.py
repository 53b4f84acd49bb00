from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.inference import squarem
from vi_bench.inference.squarem import (
    CONVERGED,
    NOT_FINITE,
    RUNNING,
    Move,
    begin,
)
from vi_bench.runtime.lanes import over_lanes

STATIC = ("sweep", "iterations", "tolerance", "accelerate")

ascend = jax.jit(squarem.ascend, static_argnames=STATIC)


class View(NamedTuple):
    coefficients: jax.Array


def along(bound, following):
    """A sweep whose view is the point itself; it starts there, as a leap does."""

    def sweep(_, view):
        x = view.coefficients
        new = following(x)
        moved = jnp.max(jnp.abs(new - x))
        return Move(bound(x), bound(new), new, View(new), moved)

    return sweep


halve = along(lambda x: -jnp.sum(x**2), lambda x: 0.5 * x)


def start(point, most):
    return begin(point, View(point), most)


def test_both_criteria_must_hold():
    """The bound stands still long before the point does: it is quadratic there."""
    done = ascend(halve, start(jnp.ones(2), 100), 100, 1e-8, accelerate=False)
    assert int(done.status) == CONVERGED
    assert float(done.residual) <= 1e-8
    assert float(done.point[0]) < 1e-7
    flat = along(lambda x: jnp.zeros(()), lambda x: x + 1.0)
    assert int(ascend(flat, start(jnp.ones(1), 9), 9, 1e-3).status) == RUNNING


@pytest.mark.parametrize("accelerate", [False, True])
def test_slices_are_one_ascent(accelerate):
    slow = along(lambda x: -jnp.sum(x**2), lambda x: jnp.array([0.97, 0.9]) * x)
    begun = start(jnp.array([3.0, -2.0]), 60)
    whole = ascend(slow, begun, 60, 1e-9, accelerate)
    part = begun
    for _ in range(12):
        part = ascend(slow, part, 5, 1e-9, accelerate)
    jax.tree.map(np.testing.assert_array_equal, whole, part)


def test_leaps_save_sweeps_and_end_in_the_same_place():
    rates = jnp.array([0.99, 0.9, 0.2])
    slow = along(lambda x: -jnp.sum(x**2), lambda x: rates * x)
    plain = ascend(slow, start(jnp.ones(3), 3000), 3000, 1e-12, accelerate=False)
    quick = ascend(slow, start(jnp.ones(3), 3000), 3000, 1e-12)
    assert int(quick.status) == int(plain.status) == CONVERGED
    assert int(quick.iteration) < int(plain.iteration) / 10
    np.testing.assert_allclose(quick.point, 0, atol=1e-9)


def test_a_leap_that_would_lower_the_bound_is_not_taken():
    """The map crawls towards 3 as if there were more; beyond 3 the bound drops."""
    cliff = along(
        lambda x: jnp.where(x[0] <= 3, x[0], -50.0),
        lambda x: jnp.minimum(x + 0.4, 3.0),
    )
    done = ascend(cliff, start(jnp.zeros(1), 40), 40, 1e-12)
    trace = np.asarray(done.trace)[: int(done.iteration)]
    assert np.all(np.diff(trace) >= 0)
    assert float(done.fall) == 0
    np.testing.assert_allclose(done.point, 3.0)


def test_a_leap_into_nan_is_not_taken():
    edge = along(lambda x: jnp.log(4 - x[0]) + x[0], lambda x: x + 0.3 * (2.9 - x))
    done = ascend(edge, start(jnp.zeros(1), 200), 200, 1e-12)
    assert int(done.status) == CONVERGED
    np.testing.assert_allclose(done.point, 2.9)


def test_a_bound_that_is_not_finite_ends_it_with_the_last_good_point():
    breaks = along(lambda x: jnp.where(x[0] < 4, x[0], jnp.nan), lambda x: x + 1.0)
    done = ascend(breaks, start(jnp.zeros(1), 20), 20, 1e-9, accelerate=False)
    assert int(done.status) == NOT_FINITE
    assert int(done.iteration) == 5
    assert np.all(np.isfinite(done.point))


def test_a_fall_is_remembered():
    wobble = along(lambda x: jnp.where(x[0] == 2, -1.0, x[0]), lambda x: x + 1.0)
    done = ascend(wobble, start(jnp.zeros(1), 6), 6, 1e-9, accelerate=False)
    assert float(done.fall) == pytest.approx(2.0)


def test_the_trace_is_the_bounds():
    done = ascend(halve, start(jnp.ones(1), 10), 4, 1e-12, accelerate=False)
    np.testing.assert_allclose(done.trace[:4], -(0.25 ** np.arange(4)))
    assert np.all(np.isnan(done.trace[4:]))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_lanes_give_the_same_either_way(platform, monkeypatch):
    from vi_bench.runtime import lanes as in_turn

    monkeypatch.setattr(in_turn, "backend", lambda: platform)
    lanes = jnp.arange(1.0, 4.0)[:, None]

    def climb(lane):
        return ascend(halve, start(lane, 50), 50, 1e-9)

    together = jax.jit(lambda lanes: over_lanes(climb, lanes))(lanes)
    by_itself = jax.jit(climb)
    for i in range(3):
        alone = by_itself(lanes[i])
        np.testing.assert_allclose(together.point[i], alone.point, rtol=1e-12)
        assert int(together.iteration[i]) == int(alone.iteration)


def test_the_platform_is_the_chosen_devices():
    from vi_bench.runtime import lanes as in_turn

    assert in_turn.backend() == "cpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert in_turn.backend() == "cpu"
