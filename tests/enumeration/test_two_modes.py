"""The masses of two modes, summed over assignments, are those of exact draws."""

import jax
import numpy as np
import pytest

from benchmarks.designs import DESIGNS
from vi_bench.contract import Problem
from vi_bench.methods.exact import Exact

DRAWS = 4000


def exact_draws(mixture):
    """Independent draws (DRAWS, K, d), by parameter."""
    carry = None
    for stage in Exact().prepare(Problem(mixture, 1, DRAWS), jax.random.key(1)):
        carry = stage.run(jax.random.key(2), mixture, carry)
    return {name: np.asarray(v)[0] for name, v in carry.parameters.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mass"),
    [("corners", 0.6005), ("counts", 0.9033), ("three", 0.5961), ("bits", 0.8139)],
)
def test_the_mass_of_the_first_mode_is_that_of_exact_draws(name, mass):
    """Within 4.5 standard errors of 4000 draws, whatever the order of components."""
    design = DESIGNS[name]()
    assert design.mass == pytest.approx(mass, abs=1e-4)
    draws = exact_draws(design.mixture)
    first = design.first(draws)
    error = np.sqrt(mass * (1 - mass) / DRAWS)
    assert abs(first.mean() - design.mass) < 4.5 * error
    turned = {name: v[:, ::-1] for name, v in draws.items()}
    np.testing.assert_array_equal(design.first(turned), first)
