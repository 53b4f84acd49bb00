"""Where inference starts: what searches find, and where chains begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import call
from tests.marks import slow
from vi_bench.contract import Problem
from vi_bench.inference import starts
from vi_bench.inference.restarts import SAME_OPTIMUM
from vi_bench.methods.gibbs import Gibbs
from vi_bench.methods.nuts import NUTS
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian


def corners(random):
    """Four tight groups in the corners of a square, a little wider than high.

    Two components split them into left and right, or into top and bottom.
    """
    centres = np.array([[-2.5, -2.5], [-2.5, 2.5], [2.5, -2.5], [2.5, 2.5]])
    x = np.repeat(centres, 2, axis=0) + 0.1 * random.normal(size=(8, 2))
    return bind(Gaussian(sigma=5.0, mean=0.0), x, 2, jnp.float64)


def axis_of(mu):
    """Along which axis two means are apart; (..., 2, 2) to (...)."""
    return np.argmax(np.abs(mu[..., 0, :] - mu[..., 1, :]), axis=-1)


found_in = jax.jit(starts.find_optima)
starts_of = jax.jit(starts.chain_starts, static_argnums=2)


@pytest.fixture
def square(random):
    return corners(random)


def test_optima_are_stationary_best_first_and_distinct(square):
    optima = found_in(jax.random.key(0), square)
    bound = np.asarray(optima.bound)
    assert np.all(np.diff(bound) <= 0)
    apart = np.r_[True, -np.diff(bound) > SAME_OPTIMUM]
    np.testing.assert_array_equal(optima.distinct, apart)
    after, _ = jax.jit(jax.vmap(square.step))(optima.points)
    np.testing.assert_allclose(after, bound, atol=1e-6)
    axes = axis_of(square.centre(optima.points)["mu"])
    assert set(axes[optima.distinct][:2]) == {0, 1}


def test_every_kind_of_start_gives_each_row_wholly(square):
    point = jax.jit(starts.start_point)
    seen = []
    for kind in range(starts.KINDS):
        q = point(jnp.asarray(kind), jax.random.key(3), square)
        counts = q.components[:, -1] - 1 / 25  # the prior's precision taken off
        assert counts.sum() == pytest.approx(8, rel=1e-9)
        if kind not in (starts.RANDOM, starts.PRIOR):
            np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
        seen.append(np.asarray(q.components).tobytes())
    assert len(set(seen)) > 2


@pytest.mark.parametrize("chains", [slow(1), slow(2), 4])
def test_chains_start_at_all_near_optima_best_first(square, chains):
    for seed in range(8):
        mu = np.asarray(starts_of(jax.random.key(seed), square, chains)["mu"])
        optima = found_in(jax.random.split(jax.random.key(seed))[0], square)
        best = np.asarray(square.centre(optima.points)["mu"])[
            np.asarray(optima.distinct)
        ]
        np.testing.assert_allclose(mu[:2], best[:chains][:2], atol=1e-9)
        assert len(set(axis_of(mu[:2]))) == min(chains, 2)
        assert np.all(np.isfinite(mu))


@pytest.mark.slow
def test_further_chains_start_away_from_the_only_optimum(overlapping):
    """Far out by the log joint, on the way to the optimum by its bound."""
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 2, jnp.float64)
    optima = found_in(jax.random.key(0), mixture)
    near = np.asarray(optima.bound) > optima.bound[0] - starts.NEAR
    assert np.asarray(optima.distinct)[near].sum() == 1
    theta = starts_of(jax.random.key(0), mixture, 4)
    log_joint = np.asarray(jax.jit(jax.vmap(mixture.log_joint))(theta))
    assert np.all(log_joint[1:] < log_joint[0])


def test_without_rows_starts_are_draws_from_the_prior():
    """Their mean square within 4.5 standard errors: false alarm 7e-6."""
    empty = bind(Gaussian(sigma=3.0, mean=0.0), np.zeros((0, 2)), 2, jnp.float64)
    mu = starts_of(jax.random.key(0), empty, 2000)["mu"]
    square = np.mean(np.asarray(mu) ** 2)
    assert abs(square / 9 - 1) < 4.5 * np.sqrt(2 / mu.size)
    point = starts.start_point(jnp.asarray(0), jax.random.key(0), empty)
    np.testing.assert_allclose(point.components, empty.prior().components)


def test_with_one_component_all_chains_start_at_its_posterior(overlapping):
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), overlapping, 1, jnp.float64)
    mu = starts_of(jax.random.key(0), mixture, 3)["mu"]
    n = len(overlapping)
    expected = np.asarray(mixture.data()).sum(axis=0) / (1 / 4 + n)
    shift = (0.25 / (0.25 + n)) * np.asarray(mixture.family.mean)
    np.testing.assert_allclose(mu[:, 0], np.tile(expected + shift, (3, 1)), rtol=1e-9)


@pytest.mark.slow
def test_many_rows_are_searched_on_a_sample_and_climbed_on_all(square, monkeypatch):
    """The optima are those of all rows, though starts see half of them."""
    monkeypatch.setattr(starts, "ROWS", 4)
    optima = jax.jit(lambda key: starts.find_optima(key, square))(jax.random.key(0))
    assert len(optima.bound) == starts.FEW
    after, _ = jax.jit(jax.vmap(square.step))(optima.points)
    np.testing.assert_allclose(after, optima.bound, atol=1e-6)
    full = found_in(jax.random.key(0), square)
    assert optima.bound[0] == pytest.approx(float(full.bound[0]), abs=1e-6)


def test_a_merge_and_a_split_can_undo_a_poor_optimum(random):
    """Components 0 and 1 share one group, 2 has both of the others."""
    x = np.repeat([[0.0], [0.0], [8.0], [12.0]], 5, axis=0)
    x = x + 0.1 * random.normal(size=x.shape)
    mixture = bind(Gaussian(sigma=5.0, mean=0.0), x, 3, jnp.float64)
    phi = np.repeat([[0.5, 0.5, 0], [0, 0, 1]], 10, axis=0)
    q = call(mixture, "from_responsibilities", jnp.asarray(phi))
    move = jax.jit(starts.split_and_merge)
    ended = []
    for seed in range(10):
        new = move(jax.random.key(seed), mixture, mixture.data(), q)
        counts = np.asarray(new.components[:, -1]) - 1 / 25
        assert counts.sum() == pytest.approx(20, rel=1e-9)
        ended.append(np.sort(counts))
    parted = [np.allclose(counts, [5, 5, 10], atol=0.1) for counts in ended]
    assert np.mean(parted) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("method", [NUTS(warmup=50), Gibbs(warmup=20)])
def test_chains_of_two_modes_are_in_both_for_every_seed(square, method):
    """Between the modes no chain moves in 20 draws; see the axis of its means."""
    stages = method.prepare(Problem(square, 4, 20), jax.random.key(0))
    programs = [jax.jit(stage.run) for stage in stages]
    for seed in range(4):
        carry = None
        for stage, program in zip(stages, programs, strict=True):
            for part in range(stage.calls):
                key = jax.random.fold_in(jax.random.key(seed), part)
                carry = program(key, square, carry)
        mu = np.asarray(carry.parameters["mu"])
        assert set(axis_of(mu[:, -1])) == {0, 1}, seed
