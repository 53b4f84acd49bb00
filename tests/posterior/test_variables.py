"""The compared quantities of a model's variables, one by one and as arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.comparison.quantities import averages, by_component
from vi_bench.posterior.variables import Variable, Variables

COMPONENTS = 3
VARIABLES = {
    "mu": Variable(("component", "feature"), (0, 2), 2, 0),
    "pi": Variable(("component",), (0,), 1, 0),
    "tau": Variable((), (0,), 1, None),
    "beta": Variable(("row",), (1, 3, 4), 3, None),
    "fixed": Variable(("row",), (), 0, None),
}
SHAPES = {"mu": (3, 3), "pi": (3,), "tau": (), "beta": (5,), "fixed": (2,)}


@pytest.mark.parametrize("weights", [None, "pi"])
@pytest.mark.parametrize("chosen", [tuple(VARIABLES), ("beta", "mu")])
def test_quantities_as_arrays_are_those_one_by_one(chosen, weights):
    """Weights that are not compared weigh nothing."""
    rng = np.random.default_rng(2)
    values = {
        name: jnp.asarray(rng.gamma(2.0, size=(1, 1, *shape)))
        for name, shape in SHAPES.items()
    }
    variables = Variables(VARIABLES, chosen, weights)
    columns, shared = variables.scalars(values)
    expected = by_component(columns) | shared | averages(columns)
    found = variables.batches(values)
    by_label = {
        label: value
        for labels, array in found
        for label, value in zip(labels, array, strict=True)
    }
    assert sum(len(labels) for labels, _ in found) == len(by_label)
    assert set(by_label) == set(expected)
    for label, value in expected.items():
        np.testing.assert_allclose(by_label[label], value, rtol=1e-14)
