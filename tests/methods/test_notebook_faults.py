"""Each fault of the notebook that the project grew from, so that none comes back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.oracles import factors, textbook_elbo
from vi_bench.inference import starts
from vi_bench.inference.squarem import RUNNING, Move, ascend, begin, resolvable
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian


class View(NamedTuple):
    coefficients: jax.Array


def test_the_expected_square_has_d_times_s2(overlapping):
    """The notebook subtracts s2_k + ||m_k||^2; E||mu_k||^2 is d s2_k + ||m_k||^2."""
    family = Gaussian(sigma=1.0, mean=0.0).bind(np.zeros(3), jnp.float64)
    lam = jnp.array([[2.0, 4.0, 6.0, 2.0]])  # m = (1, 2, 3), s2 = 1/2
    np.testing.assert_allclose(family.moments(lam)[0, -1], -(14 + 3 * 0.5) / 2)


def test_responsibilities_survive_logits_that_exp_would_not():
    x = np.repeat([-4000.0, 4000.0, 3999.0], 20)[:, None] * [1.0, 0.0]
    fit = vb.cavi(x, 3, 5000.0)
    np.testing.assert_allclose(fit.phi.sum(axis=1), 1.0)
    assert np.all(np.isfinite(fit.phi))
    assert np.isfinite(fit.elbo[-1])


def test_a_random_start_sets_every_row(overlapping):
    """The notebook sets whole rows of phi to one and leaves the others zero."""
    x = jnp.asarray(overlapping)
    for make in (starts.random_responsibilities, starts.plus_plus_responsibilities):
        phi = jax.jit(make, static_argnums=2)(jax.random.key(0), x, 4)
        assert phi.shape == (60, 4)
        np.testing.assert_allclose(phi.sum(axis=1), 1.0)
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 4, jnp.float64)
    start = jax.jit(starts.start_point)
    for kind in range(starts.KINDS):
        point = start(jnp.asarray(kind), jax.random.key(0), mixture)
        lam = point.components
        # counts, the prior's taken off, are those of all rows
        np.testing.assert_allclose((lam[:, -1] - 1.0).sum(), 60.0)


def test_the_elbo_is_a_number_and_complete(overlapping):
    fit = vb.cavi(overlapping, 3, 1.0)
    assert isinstance(float(fit.elbo[0]), float)
    expected = textbook_elbo(overlapping, fit.m, fit.s2, fit.phi, 1.0)
    np.testing.assert_allclose(fit.elbo[-1], expected, rtol=1e-10)


def test_a_sweep_runs_under_jit(overlapping):
    """The notebook writes into arrays in place, which JAX refuses under jit."""
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 3, jnp.float64)
    lam = jax.jit(starts.start_point)(jnp.asarray(0), jax.random.key(0), mixture)
    plain, jitted = mixture.step(lam), jax.jit(lambda m, q: m.step(q))(mixture, lam)
    np.testing.assert_allclose(plain[0], jitted[0], rtol=1e-12)
    np.testing.assert_allclose(plain[1].components, jitted[1].components, rtol=1e-12)


def test_the_program_does_not_grow_with_the_data(random):
    """The notebook's Python loop over rows unrolls N K operations at trace time."""

    def size(rows: int) -> int:
        mixture = bind(
            Gaussian(sigma=1.0, mean=0.0), random.normal(size=(rows, 2)), 3, jnp.float64
        )
        lam = factors(np.ones((3, 3)))
        jaxpr = jax.make_jaxpr(lambda m, q: m.step(q))(mixture, lam)
        return str(jaxpr).count(" = ")

    assert size(10_000 + 37) == size(1_000 + 37)


def test_the_first_elbo_is_not_compared_with_zero():
    """With an ELBO near 0 the notebook would stop at once."""
    state = begin(jnp.ones(1), View(jnp.ones(1)), 50)
    assert float(state.bound) == -np.inf

    def slow(point, _):  # a bound that begins at exactly 0 and rises
        after = 0.5 * point
        return Move(1 - point[0], 1 - after[0], after, View(after), 0.5 * point[0])

    once = ascend(slow, state, 1, 1e-10, accelerate=False)
    assert int(once.status) == RUNNING
    done = ascend(slow, state, 50, 1e-10, accelerate=False)
    assert int(done.iteration) > 30


@pytest.mark.slow
def test_float32_does_not_spin_on_a_tolerance_it_cannot_resolve(overlapping):
    assert resolvable(1e-10, jnp.float32) > 1e-6
    assert resolvable(1e-10, jnp.float64) == 1e-10
    fit = vb.cavi(overlapping, 3, 1.0, precision=32, max_iterations=5000)
    double = vb.cavi(overlapping, 3, 1.0)
    assert fit.outcome.status == "converged"
    assert "the finest float32 resolves" in fit.outcome.sentence
    assert len(fit.elbo) < 1000
    np.testing.assert_allclose(fit.elbo[-1], double.elbo[-1], rtol=1e-5)


def test_an_iteration_cap_ends_the_loop(overlapping):
    fit = vb.cavi(overlapping, 3, 1.0, max_iterations=3)
    assert len(fit.elbo) == 3
    assert fit.outcome.status == "iteration limit"
