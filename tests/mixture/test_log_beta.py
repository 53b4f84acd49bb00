"""Special functions that the kernel rests on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from vi_bench.mixture import log_beta as module
from vi_bench.mixture.log_beta import LARGE

log_beta = jax.jit(module.log_beta)

EDGES = np.array([7.9999999, 8.0, 8.0000001, LARGE, np.nextafter(LARGE, 0), 10.0001])


def test_log_beta_of_integers_is_a_binomial_coefficients(random):
    some = random.integers(1, 3000, size=(300, 2)).tolist()
    pairs = [*some, [1, 1], [10, 10], [9, 8]]
    exact = [-math.log((a + b - 1) * math.comb(a + b - 2, a - 1)) for a, b in pairs]
    a, b = jnp.asarray(pairs, float).T
    np.testing.assert_allclose(log_beta(a, b), exact, rtol=2e-14, atol=1e-14)


def test_log_beta_obeys_its_recurrence_across_every_switch(random):
    """B(a + 1, b) = B(a, b) a / (a + b)."""
    a, b = np.exp(random.uniform(np.log(1e-3), np.log(1e5), (2, 20_000)))
    a = np.r_[a, np.full(6, 1.4), EDGES, EDGES - 1]
    b = np.r_[b, EDGES, EDGES, np.full(6, 20.0)]
    step = np.asarray(log_beta(a + 1, b)) - np.asarray(log_beta(a, b))
    size = np.maximum(1, np.abs(special.betaln(a, b)))
    assert np.max(np.abs(step - np.log(a / (a + b))) / size) < 4e-14


def test_the_slope_of_log_beta_is_that_of_digammas():
    for a, b in ((1.4, 9.0), (0.3, 1e5), (20.0, 30.0), (12.0, 9.0), (1e-3, 4.0)):
        slope = jax.jit(jax.grad(module.log_beta))(a, b)
        exact = special.digamma(a) - special.digamma(a + b)
        np.testing.assert_allclose(slope, exact, rtol=1e-13)


def test_a_stick_that_passes_8_does_not_make_the_bound_jump():
    """As JAX's own function does, by 1.1e-6."""
    near = jnp.array([8 - 1e-9, 8 + 1e-9])
    below, above = log_beta(jnp.full(2, 1.4), near)
    assert abs(float(above - below)) < 1e-8
