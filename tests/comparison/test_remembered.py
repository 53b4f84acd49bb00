"""Results that are remembered by what arrays hold."""

import jax.numpy as jnp
import numpy as np

from vi_bench.comparison import remembered as module
from vi_bench.comparison.remembered import remembered


def test_equal_contents_are_worked_out_once(random):
    calls = []

    @remembered
    def total(values, power=1):
        calls.append(values)
        return float(np.sum(values**power))

    x = random.normal(size=(4, 10))
    assert total(x) == total(x.copy()) == total(np.asfortranarray(x)) == x.sum()
    assert len(calls) == 1
    x[0, 0] += 1e-9  # the same array, other contents
    assert total(x) == x.sum()
    assert total(x, power=2) == (x**2).sum()
    assert total(x.reshape(10, 4)) == x.sum()  # of another shape, so not the same
    assert total(x.astype(np.float32)) != total(x)
    assert len(calls) == 5


def test_the_oldest_results_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    calls = []

    @remembered
    def same(value):
        calls.append(value)
        return value

    for value in (1, 2, 3, 4, 2, 3, 4, 1):
        assert same(value) == value
    assert calls == [1, 2, 3, 4, 1]


def test_large_arrays_of_jax_are_told_apart():
    """Their text leaves out the middle."""
    calls = []

    @remembered
    def total(values):
        calls.append(values)
        return float(values.sum())

    x = np.zeros((4, 500))
    y = x.copy()
    y[2, 250] = 1.0
    assert total(jnp.asarray(x)) == 0
    assert total(jnp.asarray(y)) == 1
    assert total(y) == 1  # the same contents
    assert len(calls) == 2


def test_values_are_told_apart_where_their_texts_run_together():
    @remembered
    def pair(a, b):
        return a, b

    assert pair(1, 23) == (1, 23)
    assert pair(12, 3) == (12, 3)
