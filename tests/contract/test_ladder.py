"""The evidence ladder on random data, its top known by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import ascent
from tests.contract.cases import CASES, WEIGHTS
from tests.marks import slow
from vi_bench.comparison.evidence import Claim, Terms, ladder
from vi_bench.comparison.measures import Estimate
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.inference.starts import plus_plus_responsibilities
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.symmetry import log_symmetric

DRAWS = 2000


@jax.jit
def climb(mixture, key):
    """CAVI's fixed point and bound, draws of q, their terms, and log p(X)."""
    of_start, of_draws = jax.random.split(key)
    phi = plus_plus_responsibilities(of_start, mixture.data(), mixture.components)
    end = ascent(mixture, phi, 2000, 1e-12)
    theta = mixture.draw(of_draws, end.point, (DRAWS,))
    log_q = lambda theta: mixture.log_q(theta, end.point)  # noqa: E731
    return (
        end.bound,
        jax.lax.map(mixture.log_joint, theta),
        jax.lax.map(log_q, theta),
        jax.lax.map(lambda theta: log_symmetric(mixture, log_q, theta), theta),
        enumerate_subsets(mixture).log_evidence,
    )


@pytest.mark.parametrize(
    ("name", "prior", "K"),
    [("gaussian", "uniform", 3), slow("poisson", "dirichlet", 2)],
)
def test_the_order_holds_on_25_random_data_sets(name, prior, K, random):
    """In all 50: no rung above the next by 4.5 errors, and the gap's parts add up.

    Three comparisons a data set at 3e-6 each: a false alarm in 5e-4 of the runs.
    """
    case = CASES[name]
    for index in range(25):
        x = case.rows(random, 8)
        mixture = bind(case.family, x, K, jnp.float64, WEIGHTS[prior])
        found = climb(mixture, jax.random.key(index))
        bound, log_joint, log_q, average, evidence = map(np.asarray, found)
        terms = Terms(log_joint, log_q, average, Estimate(float(bound), 0.0))
        rungs = ladder(
            {"cavi": terms},
            {"exact": Claim(Estimate(float(evidence), 0.0), weighs=True)},
        )
        assert not rungs.violations(), x
        assert bound < evidence
        gap = rungs.gaps["cavi"]
        assert gap.symmetry.value < np.log(6 if K == 3 else 2) + 1e-9
        assert gap.symmetry.value > -4.5 * gap.symmetry.se
        assert gap.mean_field.value > -4.5 * gap.mean_field.se
        parts = gap.symmetry.value + gap.mean_field.value + gap.optimisation
        assert parts == pytest.approx(gap.total.value)


def test_a_constant_too_many_is_seen(random):
    """The check can fail: a log density that is 0.5 nats too high."""
    case = CASES["gaussian"]
    x = case.rows(random, 8)
    mixture = bind(case.family, x, 3, jnp.float64, WEIGHTS["uniform"])
    _, log_joint, log_q, average, evidence = climb(mixture, jax.random.key(0))
    wrong = np.asarray(log_joint) + 0.5
    terms = Terms(wrong, np.asarray(log_q), np.asarray(average))
    rungs = ladder(
        {"cavi": terms}, {"exact": Claim(Estimate(float(evidence), 0.0), weighs=True)}
    )
    assert rungs.violations()
