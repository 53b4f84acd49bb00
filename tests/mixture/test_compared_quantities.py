"""The compared quantities of a mixture, one by one and as arrays."""

from functools import reduce

import jax.numpy as jnp
import numpy as np
import pytest

from tests.contract.cases import CASES, WEIGHTS
from vi_bench.comparison.quantities import averages, by_component
from vi_bench.data.table import feature_names
from vi_bench.mixture.compared_quantities import columns_of, kinds_of
from vi_bench.mixture.mixture import bind


def unlike(value):
    """The array with other entries along every axis; a matrix stays positive."""
    factors = [1 + 0.1 * np.arange(n) for n in value.shape]
    return value * reduce(np.multiply.outer, factors, np.asarray(1.0))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("gaussian-full", "dirichlet"),
        ("gaussian-semiconjugate-shared", "uniform"),
        ("categorical", "stick-breaking"),
    ],
)
def test_as_arrays_they_are_those_one_by_one(name, weights, random):
    case = CASES[name]
    x = case.rows(random, 10)
    mixture = bind(case.family, x, 3, jnp.float64, WEIGHTS[weights])
    theta = mixture.centre(mixture.prior())
    lifted = {name: jnp.asarray(unlike(v))[None] for name, v in theta.items()}
    coordinates = case.family.coordinates(feature_names(x.shape[1]))
    columns, shared = columns_of(mixture, lifted, coordinates)
    expected = by_component(columns) | shared | averages(columns)
    found = {}
    for labels, values in kinds_of(mixture, lifted, coordinates):
        assert len(labels) == len(values)
        found |= dict(zip(labels, values, strict=True))
    assert set(found) == set(expected)
    for label, value in expected.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(found[label], value, rtol=1e-13)
    assert len({float(v[0]) for v in expected.values()}) > len(expected) / 2
