"""Mean field and linear response of two overlapping components, for many rows.

Rows are of N(-h, 1) or N(h, 1) with the probability 1/2 each, delta = 2 h apart. With N
rows the posterior of the mean m of both means and of half their difference h tends to
independent normals, whose precisions are N times the Fisher information of one row.
CAVI's q has the precision N for both: it takes assignments as known. The ratio of its
sd to the true one is the root of the information, and its linear rate the largest share
of information that is missing (Dempster, Laird and Rubin 1977, of EM).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.contract import Problem
from vi_bench.inference.linear_response import linear_response
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian

ROWS = 1_000_000

TABLE = {
    1: (0.8950, 0.5859, 0.657),
    2: (0.7419, 0.8567, 0.450),
    3: (0.7458, 0.9570, 0.444),
    4: (0.8518, 0.9891, 0.274),
    6: (0.9811, 0.9996, 0.037),
}
"""Delta -> CAVI's sd over the true one of m and of h, and CAVI's rate."""


def information(delta):
    """Of one row, on m and on h, by the trapezoidal rule."""
    h = delta / 2
    x = np.linspace(-h - 12, h + 12, 200_001)
    one, other = (np.exp(-((x - c) ** 2) / 2) / np.sqrt(8 * np.pi) for c in (-h, h))
    density = one + other
    left, right = one * (x + h) / density, other * (x - h) / density
    scores = np.stack([left + right, right - left])
    return np.trapezoid(scores**2 * density, x)


@pytest.mark.parametrize("delta", TABLE)
def test_the_table_follows_from_the_information(delta):
    of_m, of_h = information(delta)
    np.testing.assert_allclose(np.sqrt([of_m, of_h]), TABLE[delta][:2], atol=6e-5)
    np.testing.assert_allclose(1 - min(of_m, of_h), TABLE[delta][2], atol=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [2, 3, 4, 6])
def test_cavi_and_linear_response_have_these_sds(delta):
    random = np.random.default_rng(delta)
    centre = random.choice([-1, 1], ROWS) * delta / 2
    x = random.normal(centre)[:, None]
    mixture = bind(Gaussian(sigma=10.0, mean=0.0), x, 2, jnp.float64)
    key = jax.random.key(0)
    stages = prepare(CAVI(restarts=2), Problem(mixture, 1, 4), key)
    q = drive(stages, key, mixture, calling(compiled(stages))).factors
    found = linear_response(mixture, q, {"feature": ["x0"]})
    assert not found.refused, found.refused
    place = [i for i, label in enumerate(found.labels) if label.component is not None]
    both = np.array([[0.5, 0.5], [-0.5, 0.5]])

    def sds(covariance):
        own = covariance[np.ix_(place, place)]
        return np.sqrt(np.diag(both @ own @ both.T))

    true = (ROWS * information(delta)) ** -0.5
    np.testing.assert_allclose(sds(found.covariance) / true, 1, rtol=0.02)
    expected = np.array(TABLE[delta])
    np.testing.assert_allclose(sds(found.mean_field) / true, expected[:2], rtol=0.02)
    np.testing.assert_allclose(found.rate, expected[2], rtol=0.02)
