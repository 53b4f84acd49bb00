"""Linear response against long runs of NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from vi_bench.methods.cavi import CAVI
from vi_bench.methods.nuts import NUTS
from vi_bench.models.gaussian import Gaussian

pytestmark = [pytest.mark.slow, pytest.mark.optimised]


def notebook(scale):
    """The notebook's rows, its means times `scale`, and those means."""
    before = jax.config._read("jax_threefry_partitionable")
    jax.config.update("jax_threefry_partitionable", False)
    try:
        with jax.enable_x64(False):
            mu = jax.random.normal(jax.random.PRNGKey(2023), (5, 2))
            key = jax.random.PRNGKey(2)
            c = jax.random.categorical(key, 0.2 * jnp.ones(5), shape=(1000,))
            noise = jax.random.normal(key, (1000, 2))
    finally:
        jax.config.update("jax_threefry_partitionable", before)
    means = scale * np.asarray(mu, float)
    return means[np.asarray(c)] + np.asarray(noise, float), means


def test_these_are_the_notebooks_rows():
    x, _ = notebook(1.0)
    np.testing.assert_allclose(x, vb.load("notebook").values, atol=1e-6)


def test_means_times_four():
    """Separated components to 2 %, an overlapping pair half of what is missing.

    The reference's own error of an sd has to be under 0.7 % first.
    """
    x, means = notebook(4.0)
    result = vb.run(
        Gaussian(sigma=4.0, mean=0.0),
        x,
        {"cavi": CAVI(tol=1e-13), "nuts": NUTS(target_acceptance=0.7)},
        components=5,
        draws=10_000,
        repeats=1,
    )
    found, response = result.comparison, result.runs["cavi"].response
    assert result.runs["cavi"].bound()[0] == pytest.approx(-4198.436616, abs=1e-4)
    assert not response.refused
    pair = {0, 4}  # of the true means; all others are four sds apart
    for k in range(5):
        labels = [f"mu[x{j}] of component {k}" for j in range(2)]
        place = [found.summaries["nuts"][label].mean.value for label in labels]
        true = int(np.argmin(((means - place) ** 2).sum(axis=1)))
        for label in labels:
            reference = found.summaries["nuts"][label]
            assert reference.ess_bulk > 10_000
            assert reference.r_hat < 1.005
            assert reference.sd.se < 0.007 * reference.sd.value
            own, corrected = response.mean_field_sd[label], response.sd[label]
            if true in pair:
                missing = reference.sd.value - own
                assert missing > 0.2 * reference.sd.value
                assert corrected - own > 0.5 * missing, label
            else:
                assert corrected == pytest.approx(reference.sd.value, rel=0.02), label
