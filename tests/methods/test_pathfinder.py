"""Pathfinder where its normals are exact, against enumeration, and its outcomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import vi_bench as vb
from tests.contract.cases import CASES
from tests.methods.test_nuts import drawn_moments, exact_moments
from tests.oracles import log_evidence
from tests.records import partial_report
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Draws, Problem
from vi_bench.methods.pathfinder import (
    Path,
    Pathfinder,
    PathfinderReport,
    sample,
    steps_before,
)
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian


def run(family, x, K, method, **fields):
    result = vb.run(
        family,
        x,
        {"pathfinder": method},
        components=K,
        reference="pathfinder",
        repeats=1,
        **fields,
    )
    found = result.runs["pathfinder"]
    assert not found.error, found.error
    return result, found


@pytest.mark.slow
def test_a_path_that_has_not_arrived_points_uphill():
    """Its gradient is the log density's; that of the objective has the other sign."""
    case = CASES["poisson"]
    x = case.rows(np.random.default_rng(3), 20)
    mixture = bind(case.family, x, 1, jnp.float64)
    path = Pathfinder(max_iterations=2)._path(jax.random.key(2), mixture)
    free = {"rate": path.position.reshape(1, 2)}
    slope = jax.grad(mixture.density)(free)["rate"].ravel()
    assert jnp.linalg.norm(slope) > 0.1
    np.testing.assert_allclose(path.gradient, slope, rtol=1e-9)


def test_a_normal_posterior_is_found_exactly():
    case = CASES["gaussian"]
    x = case.rows(np.random.default_rng(3), 20)
    method = Pathfinder(paths=3, max_iterations=20)
    _, found = run(case.family, x, 1, method, chains=2, draws=200)
    report = found.draws.report
    assert found.outcome.status == "converged", found.outcome
    exact = case.log_blocks([x])
    np.testing.assert_allclose(report.path_bound, exact, atol=1e-3)
    assert report.log_weight_sd < 1e-3
    assert found.draws.log_q is None


@pytest.mark.slow
def test_two_components_equal_enumeration():
    """Bound below log p(X) by 5 errors; two z-tests at 4.5: false alarm 2e-5."""
    x = np.array([-6.1, -4.9, -5.2, -5.8, 4.2, 5.5, 6.1, 4.9, 5.3])[:, None]
    family = Gaussian(sigma=5.0, mean=0.0)
    result, found = run(family, x, 2, Pathfinder(max_iterations=60))
    report = found.draws.report
    assert found.outcome.status == "converged", found.outcome
    assert report.khat < 0.7 or report.log_weight_sd < 1e-3
    # one of two label modes: the gap is at least log 2
    exact = log_evidence(x, 2, 5.0)
    assert report.bound < exact - np.log(2) + 5 * report.bound_se + 1e-6
    assert report.bound > exact - np.log(2) - 0.1
    assert found.marginal_bound() == (report.bound, report.bound_se)
    moments = drawn_moments(result, "pathfinder")
    for name, moment in exact_moments(x, 2, 5.0).items():
        summary = summarise(moments[name])
        assert summary.ess_bulk > 1000, name
        z = (summary.mean.value - moment) / summary.mean.se
        assert abs(z) < 4.5, f"{name}: {summary.mean} against {moment}"


def test_draws_are_of_the_normal_that_they_are_said_to_be(random):
    """The density is SciPy's, of the mean and covariance that the factors mean."""
    alpha = random.uniform(0.5, 2, size=3)
    beta = random.normal(size=(3, 4))
    gamma = 0.05 * np.eye(4)
    covariance = np.diag(alpha) + beta @ gamma @ beta.T
    position, gradient = random.normal(size=(2, 3))
    path = Path(
        *map(jnp.asarray, (position, gradient, alpha, beta, gamma)),
        jnp.zeros(()),
        jnp.zeros((), jnp.int32),
    )
    free, log_q = jax.jit(sample, static_argnums=2)(jax.random.key(1), path, 5)
    exact = stats.multivariate_normal(position + covariance @ gradient, covariance)
    np.testing.assert_allclose(log_q, exact.logpdf(free), rtol=1e-9)


def test_the_steps_before_a_point_are_the_last_ones(random):
    points = jnp.asarray(random.normal(size=(6, 2)))
    used = jnp.ones((6, 2), bool).at[2].set(False)
    before = steps_before(points, used, 3)
    np.testing.assert_array_equal(before(0), np.zeros((3, 2)))
    steps = np.diff(points, axis=0)
    np.testing.assert_allclose(before(1), [[0, 0], [0, 0], steps[0]])
    np.testing.assert_allclose(before(4), [[0, 0], steps[2], steps[3]])


@pytest.mark.slow
def test_chains_have_candidates_of_their_own_from_every_path():
    x = CASES["gaussian"].rows(np.random.default_rng(3), 20)
    mixture = bind(CASES["gaussian"].family, x, 1, jnp.float64)
    method = Pathfinder(paths=2, max_iterations=5, candidates=2, batches=1)
    climb, draw = method.prepare(Problem(mixture, 3, 31), jax.random.key(0))
    # further draws are of the same paths
    assert (climb.again, draw.again) == ("", "same")
    paths = jax.jit(climb.run)(jax.random.key(1), mixture, None)
    found = jax.jit(draw.run)(jax.random.key(2), mixture, paths)
    mu = np.asarray(found.parameters["mu"])
    assert mu.shape == (3, 31, 1, 2)
    first = [set(chain[:, 0, 0]) for chain in mu]
    assert not first[0] & first[1]
    assert not first[0] & first[2]
    assert not first[1] & first[2]


def test_batches_share_the_draws_of_a_chain():
    x = CASES["gaussian"].rows(np.random.default_rng(3), 5)
    mixture = bind(CASES["gaussian"].family, x, 1, jnp.float64)
    method = Pathfinder(paths=2, max_iterations=5, batches=3)
    climb, draw = method.prepare(Problem(mixture, 2, 10), jax.random.key(0))
    paths = jax.eval_shape(climb.run, jax.random.key(1), mixture, None)
    found = jax.eval_shape(draw.run, jax.random.key(2), mixture, paths)
    assert found.parameters["mu"].shape[:2] == (6, 4)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({}, "converged", "k-hat 0.40"),
        ({"khat": 0.9}, "suspect", "0.90, over 0.7"),
        ({"khat": np.nan}, "suspect", "not known"),
        ({"khat": np.nan, "log_weight_sd": 0.0}, "converged", ""),
        ({"best_iterations": 200}, "iteration limit", "max_iterations = 200"),
        ({"bound": -np.inf}, "not finite", "scales"),
    ],
)
def test_outcomes(change, status, words):
    usual = {"khat": 0.4, "bound": -3.0, "log_weight_sd": 1.0, "best_iterations": 9}
    values = {k: np.array(v) for k, v in (usual | change).items()}
    known = partial_report(PathfinderReport, **values)
    outcome = Pathfinder().outcome(Draws({}, {}, None, {}, known))
    assert outcome.status == status
    assert words in outcome.sentence
