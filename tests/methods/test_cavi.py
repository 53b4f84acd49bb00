from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.compiled import ascent, call
from tests.marks import slow
from tests.oracles import factors, log_block, log_evidence, textbook_elbo
from tests.records import partial_report
from vi_bench.contract import Draws
from vi_bench.inference.climber import OfMixture
from vi_bench.inference.restarts import all_apart, distinct_optima
from vi_bench.inference.search import (
    PATIENCE,
    Search,
    begun,
    best_point,
    judged,
    settled,
)
from vi_bench.inference.squarem import begin
from vi_bench.inference.stages import calling, compiled, drive
from vi_bench.methods.cavi import CAVI, CAVIReport
from vi_bench.mixture.mixture import View, bind
from vi_bench.models.gaussian import Gaussian

PRIORS = [(1.0, 1.0, 0.0), (3.0, 0.4, 1.5)]


@pytest.mark.parametrize("features", [slow(1), slow(2), 3])
@pytest.mark.parametrize(("sigma", "variance", "mean"), PRIORS)
def test_one_component_is_exact(features, sigma, variance, mean, random):
    x = random.normal(size=(40, features)) + 2
    fit = vb.cavi(x, 1, sigma, variance=variance, mean=mean, restarts=1)
    exact = log_block(x, sigma, variance, mean)
    np.testing.assert_allclose(fit.elbo[-1], exact, rtol=1e-9)
    precision = 1 / sigma**2 + 40 / variance
    np.testing.assert_allclose(fit.s2, 1 / precision, rtol=1e-12)
    expected = (mean / sigma**2 + x.sum(0) / variance) / precision
    np.testing.assert_allclose(fit.m[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "components", "features"), [slow(10, 2, 1), slow(7, 3, 3), (8, 3, 2)]
)
@pytest.mark.parametrize(("sigma", "variance", "mean"), PRIORS)
def test_the_elbo_is_below_the_exact_evidence(
    rows, components, features, sigma, variance, mean, random
):
    x = 2 * random.normal(size=(rows, features))
    fit = vb.cavi(x, components, sigma, variance=variance, mean=mean)
    exact = log_evidence(x, components, sigma, variance, mean)
    every_bound = np.r_[fit.elbo, fit.restart_elbo]
    assert np.all(every_bound <= exact + 1e-9 * abs(exact))
    # and it is no empty bound: log K! of symmetry and some mean field, not more
    assert fit.elbo[-1] > exact - 12


def test_no_rows_give_the_prior_and_elbo_zero():
    fit = vb.cavi(np.zeros((0, 2)), 3, 2.0, mean=0.5)
    assert abs(fit.elbo[-1]) < 1e-12
    np.testing.assert_allclose(fit.m, 0.5)
    np.testing.assert_allclose(fit.s2, 4.0)
    assert fit.phi.shape == (0, 3)


def test_the_elbo_equals_the_textbooks_sum_of_expectations(overlapping):
    fit = vb.cavi(overlapping, 3, 2.0, variance=0.8, mean=0.3)
    expected = textbook_elbo(overlapping, fit.m, fit.s2, fit.phi, 2.0, 0.8, 0.3)
    np.testing.assert_allclose(fit.elbo[-1], expected, rtol=1e-10)


def test_the_answer_is_a_stationary_point_of_the_bound(overlapping):
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), overlapping, 3, jnp.float64)
    fit = vb.cavi(overlapping, 3, 2.0)
    centre = overlapping.mean(axis=0)
    c = 1 / fit.s2
    lam = factors(np.c_[(fit.m - centre) * c[:, None], c])
    gradient = jax.jit(jax.grad(lambda q: mixture.step(q)[0]))(lam).components
    # against the bound's curvature in these coordinates, 1 / (2 c^2) and s2
    assert float(jnp.abs(gradient).max()) < 1e-8


def test_the_updates_are_the_papers(overlapping):
    """One sweep against equations 26 and 34 of the paper, in d dimensions, in NumPy."""
    x, sigma, K = overlapping, 1.7, 3
    m = x[:K]
    s2 = np.array([0.3, 0.5, 0.2])
    logits = x @ m.T - (np.sum(m**2, axis=1) + x.shape[1] * s2) / 2
    phi = np.exp(logits - logits.max(axis=1, keepdims=True))
    phi /= phi.sum(axis=1, keepdims=True)
    new_s2 = 1 / (1 / sigma**2 + phi.sum(axis=0))
    new_m = new_s2[:, None] * (phi.T @ x)

    centre = x.mean(axis=0)
    mixture = bind(Gaussian(sigma=sigma, mean=0.0), x, K, jnp.float64)
    lam = factors(np.c_[(m - centre) / s2[:, None], 1 / s2])
    bound, following = call(mixture, "step", lam)
    q = call(mixture, "describe", following)
    np.testing.assert_allclose(q["m"] + centre, new_m, rtol=1e-10)
    np.testing.assert_allclose(q["s2"], new_s2, rtol=1e-12)
    found = call(mixture, "responsibilities", lam)
    np.testing.assert_allclose(found, phi, rtol=1e-9)
    expected = textbook_elbo(x, m, s2, phi, sigma)
    np.testing.assert_allclose(bound, expected, rtol=1e-10)


@pytest.mark.slow
def test_the_notebooks_optimum_is_the_known_one():
    """-3286.509556 from all starts, two components coinciding there.

    Found before by an implementation that shares nothing with this one.
    """
    fit = vb.cavi("notebook", 5, 1.0)
    np.testing.assert_allclose(fit.elbo[-1], -3286.509556, atol=1e-6)
    (only,) = distinct_optima(fit.restart_elbo, np.ones((20, 5)))
    assert only == (pytest.approx(-3286.509556, abs=1e-6), 20, 5)
    gaps = np.linalg.norm(fit.m[:, None] - fit.m, axis=2) + 9 * np.eye(5)
    assert gaps.min() < 1e-4
    pair = np.argwhere(gaps < 1e-4)[0]
    np.testing.assert_allclose(fit.m[pair[0]], [-1.37053, -0.25200], atol=1e-4)


def test_permuted_rows_and_relabelled_starts_change_nothing(overlapping, random):
    order = random.permutation(len(overlapping))
    a = vb.cavi(overlapping, 3, 2.0)
    b = vb.cavi(overlapping[order], 3, 2.0)
    np.testing.assert_allclose(a.elbo[-1], b.elbo[-1], rtol=1e-12)
    ranked = [fit.m[np.argsort(fit.m[:, 0])] for fit in (a, b)]
    np.testing.assert_allclose(*ranked, atol=1e-6)


@pytest.mark.parametrize("offset", [1e8, -3e6])
def test_an_offset_is_the_prior_moved_along(offset, overlapping):
    x = np.round(overlapping, 6)  # so that adding the offset loses little
    moved = x + offset
    kept = moved - offset
    here = vb.cavi(kept, 3, 2.0)
    there = vb.cavi(moved, 3, 2.0, mean=offset)
    np.testing.assert_allclose(there.elbo[-1], here.elbo[-1], rtol=1e-7)
    np.testing.assert_allclose(there.m - offset, here.m, atol=1e-6)
    np.testing.assert_allclose(there.s2, here.s2, rtol=1e-7)
    np.testing.assert_allclose(there.phi, here.phi, atol=1e-6)


@pytest.mark.slow
def test_an_offset_with_the_prior_left_behind_equals_the_prior_moved_away(overlapping):
    x = np.round(overlapping, 6)
    moved = x + 1e8
    there = vb.cavi(moved, 2, 1.0)
    here = vb.cavi(moved - 1e8, 2, 1.0, mean=-1e8)
    np.testing.assert_allclose(there.m - 1e8, here.m, rtol=1e-9)
    np.testing.assert_allclose(there.elbo[-1], here.elbo[-1], rtol=1e-9)


def test_separated_clusters_give_the_conjugate_answer(separated):
    x = separated[:60]  # the shape of the overlapping ones, so the same program
    fit = vb.cavi(x, 3, 5.0)
    for k in range(3):
        rows = x[k::3]
        nearest = np.argmin(np.linalg.norm(fit.m - rows.mean(axis=0), axis=1))
        np.testing.assert_allclose(fit.s2[nearest], 1 / (1 / 25 + 20), rtol=1e-8)
        expected = rows.sum(axis=0) / (1 / 25 + 20)
        np.testing.assert_allclose(fit.m[nearest], expected, atol=1e-7)


@pytest.mark.slow
def test_the_kernel_alone_and_a_run_start_from_the_same_seed(overlapping):
    few = {"max_iterations": 3}  # bounds still tell from where each start went
    fit = vb.cavi(overlapping, 3, 2.0, seed=5, **few)
    run = vb.run(
        data=overlapping,
        model={"name": "gaussian", "mean": 0.0, "sigma": 2.0, "variance": 1.0},
        components=3,
        methods={"cavi": few},
        draws=10,
        repeats=1,
        seed=5,
    )
    found = run.runs["cavi"].draws.report
    np.testing.assert_allclose(
        np.sort(fit.restart_elbo), np.sort(found.restart_bound), rtol=1e-12
    )
    elsewhere = vb.cavi(overlapping, 3, 2.0, seed=6, **few).restart_elbo
    assert not np.allclose(np.sort(elsewhere), np.sort(fit.restart_elbo), rtol=1e-12)


def test_the_same_seed_gives_the_same_numbers(overlapping):
    a, b = (vb.cavi(overlapping, 3, 2.0, seed=5) for _ in range(2))
    for left, right in zip(a, b, strict=True):
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_the_last_elbo_belongs_to_the_q_returned(overlapping):
    fit = vb.cavi(overlapping, 3, 2.0, max_iterations=3)
    assert fit.outcome.status == "iteration limit"
    assert not fit.outcome.converged
    assert "raise max_iterations" in fit.outcome.sentence


@pytest.mark.slow
def test_restarts_in_a_worse_optimum_are_shown():
    data = "simulate:K=8,d=1,N=200,separation=12,seed=3"
    fit = vb.cavi(data, 8, 10.0, restarts=30)
    found = distinct_optima(fit.restart_elbo, np.ones((30, 8)))
    assert len(found) > 1
    assert found[0][0] == pytest.approx(fit.elbo[-1], abs=1e-6)
    assert sum(count for _, count, _ in found) == 30


@pytest.mark.slow
def test_empty_components_are_legal(random):
    x = random.normal(size=(5, 1)) * 1e-3
    fit = vb.cavi(np.r_[x, x + 50, x + 100], 8, 30.0)
    assert np.all(np.isfinite(fit.m))
    assert fit.outcome.status == "converged"


def test_optima_groups_by_distance_and_drops_nan():
    bounds = np.array([-10.0, np.nan, -10.00005, -12.0, -10.00009])
    counts = np.array([[5, 5.0]] * 3 + [[9.9, 0.1]] + [[5, 5]])
    assert distinct_optima(bounds, counts) == [(-10.0, 3, 2), (-12.0, 1, 1)]
    assert distinct_optima(np.array([np.nan]), counts[:1]) == []
    coarse = np.array([-451.5681, -451.56775, -453.0], np.float32)
    assert [count for _, count, _ in distinct_optima(coarse, counts)] == [2, 1]


def test_restarts_that_all_end_apart_are_said_to():
    bounds = -10.0 - np.arange(4.0)
    counts = np.full((4, 2), 5.0)
    assert all_apart(bounds, counts)
    assert not all_apart(bounds[[0, 0, 1, 2]], counts)
    assert not all_apart(bounds[:3], counts[:3])
    known = partial_report(
        CAVIReport,
        status=np.asarray(1),
        iterations=np.asarray(7),
        residual=np.asarray(0.0),
        bound=np.asarray(-10.0),
        restart_bound=bounds,
        restart_counts=counts,
    )
    method = CAVI(restarts=4)
    outcome = method.outcome(Draws({}, {}, None, {}, known))
    assert outcome.converged
    assert outcome.sentence == (
        "after 7 iterations; every one of the 4 restarts ended in another optimum: "
        "raise restarts"
    )
    known = replace(known, restart_bound=bounds[[0, 0, 1, 2]])
    outcome = method.outcome(Draws({}, {}, None, {}, known))
    assert outcome.sentence == "after 7 iterations"


def lanes_of(bounds, iterations):
    """Ended climbs as `Search` holds them, of a point that tells which one it is."""
    state = begin(jnp.zeros(1), View(jnp.zeros((1, 1)), jnp.zeros(())), 5)
    lanes = jax.tree.map(lambda v: jnp.stack([v] * len(bounds)), state)
    return lanes._replace(
        point=jnp.asarray(bounds)[:, None],
        bound=jnp.asarray(bounds),
        iteration=jnp.asarray(iterations, jnp.int32),
        status=jnp.ones(len(bounds), jnp.int32),
    )


def test_a_trial_is_kept_where_it_gains_and_taken_back_where_not():
    before = lanes_of([-5.0, -6.0, -7.0, -8.0], [10, 20, 30, 40])
    lanes = lanes_of([-4.0, -6.5, -7.0 + 1e-6, jnp.nan], [1, 2, 3, 4])
    tried = jnp.ones(4, bool)
    left, spent = jnp.asarray(2, jnp.int32), jnp.asarray(100, jnp.int32)
    found = jax.jit(judged)(Search(lanes, before, tried, left, spent))
    np.testing.assert_array_equal(found.lanes.bound, [-4, -6, -7, -8])
    np.testing.assert_array_equal(found.lanes.point[:, 0], [-4, -6, -7, -8])
    np.testing.assert_array_equal(found.lanes.iteration, [1, 20, 30, 40])
    assert found.spent == 100 + 10 + 2 + 3 + 4
    assert found.left == PATIENCE
    assert not found.tried.any()
    none = jax.jit(judged)(Search(before, before, tried, left, spent))
    assert none.left == 2
    untried = jax.jit(settled)(Search(lanes, before, ~tried, left, spent))
    np.testing.assert_array_equal(untried.bound, lanes.bound)


@pytest.mark.slow
def test_splits_and_merges_leave_a_poor_optimum():
    """From a start with two components in one group and one in two groups.

    Sweeps alone stay there, tens of nats below.
    """
    random = np.random.default_rng(5)
    centres = np.repeat([[0.0, 20.0], [20.0, 20.0], [40.0, 20.0]], 20, axis=0)
    x = centres + random.normal(size=(60, 2))
    mixture = bind(Gaussian(sigma=20.0, mean=20.0), x, 3, jnp.float64)
    phi = np.repeat([[0.6, 0.4, 0.0], [0, 0, 1], [0, 0, 1]], 20, axis=0)
    phi[:10, :2] = [0.4, 0.6]
    poor = call(mixture, "from_responsibilities", jnp.asarray(phi))
    stuck = ascent(mixture, phi, 200, 1e-10)
    method = CAVI(restarts=1)
    _, fit, draw = method.stages((1, 5))
    alone = jax.tree.map(lambda v: np.asarray(v)[None], poor)
    search = jax.jit(lambda m, q: begun(OfMixture(m), q, 10_000))(mixture, alone)
    program = jax.jit(fit.run)
    for part in range(fit.calls):
        search = program(jax.random.fold_in(jax.random.key(0), part), mixture, search)
        if fit.done(search):
            break
    assert fit.done(search)
    kept = best_point(search)["bound"]
    best = vb.cavi(x, 3, 20.0, mean=20.0)
    assert stuck.bound < best.elbo[-1] - 10
    assert kept == pytest.approx(best.elbo[-1], abs=1e-6)
    draws = jax.jit(draw.run)(jax.random.key(1), mixture, search)
    assert draws.report.restart_bound == pytest.approx(best.elbo[-1], abs=1e-6)


@pytest.mark.slow
def test_optima_are_the_points_of_all_restarts_in_order(overlapping):
    result = vb.run(
        "gaussian", overlapping, ["cavi"], components=3, repeats=1, draws=20
    )
    draws = result.runs["cavi"].draws
    assert draws.optima.components.shape[0] == 20
    mixture = bind(result.family, overlapping, 3, jnp.float64)
    points = (jax.tree.map(lambda v, i=i: v[i], draws.optima) for i in (0, 7, 19))
    bounds = [call(mixture, "step", point)[0] for point in points]
    np.testing.assert_allclose(
        bounds, draws.report.restart_bound[[0, 7, 19]], rtol=1e-9
    )
    stages = CAVI().stages((1, 20))
    assert [stage.again for stage in stages] == ["", "", "same"]


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_leaps_end_in_the_optimum_of_plain_sweeps(sigma):
    """Same optimum to 1e-8, with far fewer sweeps where those are slow."""
    plain = vb.cavi("notebook", 5, sigma, accelerate=False, max_iterations=20_000)
    quick = vb.cavi("notebook", 5, sigma)
    assert plain.outcome.converged
    assert quick.outcome.converged
    np.testing.assert_allclose(quick.elbo[-1], plain.elbo[-1], rtol=0, atol=1e-8)
    assert len(quick.elbo) < len(plain.elbo)


@pytest.mark.slow
def test_restarts_apart_end_where_those_of_one_program_end(overlapping):
    """As on many rows, where each has a core."""
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), overlapping, 3, jnp.float64)
    method = CAVI(restarts=3, max_iterations=60)
    together, apart = (
        drive(stages, jax.random.key(2), mixture, calling(compiled(stages)))
        for stages in (method.stages((1, 4), apart=apart) for apart in (False, True))
    )
    np.testing.assert_allclose(
        together.report.restart_bound, apart.report.restart_bound, rtol=1e-12
    )
    np.testing.assert_array_equal(
        together.report.restart_iterations, apart.report.restart_iterations
    )
