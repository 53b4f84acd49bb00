"""SMC against closed forms and enumeration; what it says when it does not arrive."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import t as student

import vi_bench as vb
from tests.contract.cases import CASES, WEIGHTS
from tests.methods.test_nuts import drawn_moments, exact_moments
from tests.oracles import log_evidence
from tests.records import partial_report
from vi_bench.comparison.measures import summarise
from vi_bench.contract import Combines, Draws, Problem
from vi_bench.methods._particles import (
    densities,
    from_prior,
    log_mean_evidence,
    of_runs,
    resample,
    widened,
)
from vi_bench.methods.smc import SMC, SMCReport
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian


def run(family, x, K, method, **fields):
    result = vb.run(
        family, x, {"smc": method}, components=K, reference="smc", repeats=1, **fields
    )
    assert not result.runs["smc"].error, result.runs["smc"].error
    return result


@pytest.mark.slow
def test_one_component_has_the_evidence_of_the_closed_form():
    """Student's t of 16 runs, 15 degrees, at 6.5: false alarm 1.0e-5; error first.

    The error is widened by 1.09: 6 of it are 6.5 standard errors.
    """
    case = CASES["gaussian-diagonal"]
    x = case.rows(np.random.default_rng(3), 20)
    found = run(case.family, x, 1, SMC(), chains=4, draws=1000).runs["smc"]
    report = found.draws.report
    assert found.outcome.status == "sampled", found.outcome
    assert report.log_evidence_se < 0.1
    z = (report.log_evidence - case.log_blocks([x])) / report.log_evidence_se
    assert abs(z) < 6, report
    for trace, steps in zip(report.temperatures, report.steps, strict=True):
        taken = trace[:steps]
        assert np.all(np.diff(taken) >= 0)
        # the last step resamples and moves at temperature 1
        assert taken[-2] == taken[-1] == 1
        assert np.all(np.isnan(trace[steps:]))


def test_two_components_equal_enumeration():
    """t of 16 runs at 6.5, two z-tests at 4.5 errors: false alarm 3e-5; ESS first."""
    x = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0])[:, None]
    result = run(Gaussian(sigma=2.0, mean=0.0), x, 2, SMC(), chains=4, draws=1200)
    report = result.runs["smc"].draws.report
    assert report.log_evidence_se < 0.05
    z = (report.log_evidence - log_evidence(x, 2, 2.0)) / report.log_evidence_se
    assert abs(z) < 6, report
    found = drawn_moments(result, "smc")
    for name, exact in exact_moments(x, 2, 2.0).items():
        summary = summarise(found[name])
        assert summary.ess_bulk > 2000, name
        assert summary.r_hat < 1.02, name
        z = (summary.mean.value - exact) / summary.mean.se
        assert abs(z) < 4.5, f"{name}: {summary.mean} against {exact}"


@pytest.mark.slow
def test_a_run_that_does_not_arrive_has_no_evidence():
    x = np.array([-2.1, -1.4, 1.9, 2.3])[:, None]
    method = SMC(max_temperatures=2, steps=1)
    found = run(Gaussian(sigma=2.0, mean=0.0), x, 2, method, chains=2, draws=20)
    found = found.runs["smc"]
    assert found.outcome.status == "iteration limit"
    assert "max_temperatures = 2 spent" in found.outcome.sentence
    assert np.isnan(found.draws.report.log_evidence)
    assert found.draws.report.reached.max() < 1


def test_moves_that_are_not_accepted_are_suspect():
    known = partial_report(
        SMCReport,
        done=np.array([True, True]),
        log_evidence=np.array(-3.0),
        last_acceptance=np.array([0.8, 0.1]),
        steps=np.array([9, 11]),
    )
    particles = np.arange(2 * 100 * 3.0).reshape(2, 100, 3)

    def outcome(**changed):
        draws = Draws({"mu": particles}, {}, None, {}, replace(known, **changed))
        return SMC().outcome(draws)

    assert outcome().status == "suspect"
    assert "10% of the last moves" in outcome().sentence
    known.last_acceptance[1] = 0.7
    assert outcome().status == "sampled"
    particles[1, 4:] = particles[1, 4]
    assert outcome().status == "sampled"
    particles[1, 3:] = particles[1, 3]
    assert outcome().status == "failed"
    assert "4 distinct particles of 100 are left" in outcome().sentence
    assert outcome(log_evidence=np.array(np.nan)).status == "not finite"


@pytest.mark.slow
def test_prior_and_likelihood_make_up_the_density_that_nuts_takes():
    case = CASES["gaussian-semiconjugate"]
    x = case.rows(np.random.default_rng(3), 12)
    mixture = bind(case.family, x, 2, jnp.float64, WEIGHTS["dirichlet"])
    free = from_prior(jax.random.key(1), mixture, 7)
    log_prior, log_likelihood = densities(mixture)
    both = jax.jit(jax.vmap(lambda v: log_prior(v) + log_likelihood(v)))(free)
    whole = jax.jit(jax.vmap(mixture.density))(free)
    np.testing.assert_allclose(both, whole, rtol=1e-12)


def test_a_likelihood_without_a_value_is_the_lowest():
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), np.ones((3, 1)), 2, jnp.float64)
    _, log_likelihood = densities(mixture)
    value = jax.jit(log_likelihood)({"mu": jnp.array([[jnp.inf], [jnp.inf]])})
    assert np.isfinite(value)
    assert value < -1e300
    assert 0.0 * value == 0


def test_evidences_are_averaged_not_their_logarithms(random):
    runs = random.normal(size=9) - 900
    averaged = jax.jit(log_mean_evidence)
    log_mean, error = averaged(runs)
    assert log_mean == pytest.approx(logsumexp(runs) - np.log(9), rel=1e-12)
    z = np.exp(runs + 900)
    exact = z.std(ddof=1) / 3 / z.mean()
    assert error == pytest.approx(exact, rel=1e-9)
    alone, unknown = averaged(runs[:1])
    assert alone == pytest.approx(runs[0])
    assert np.isnan(unknown)


def test_resampling_is_systematic_and_keeps_copies_together(random):
    weights = random.dirichlet(np.full(30, 0.3))
    chosen = np.asarray(
        jax.jit(resample, static_argnums=2)(jax.random.key(4), weights, 200)
    )
    copies = np.bincount(chosen, minlength=30)
    assert np.all(np.abs(copies - 200 * weights) < 1 + 1e-9)
    changes = np.sum(np.diff(chosen) != 0)
    assert changes == np.sum(copies > 0) - 1


@pytest.mark.parametrize("freedom", [1, 3, 15, 400])
def test_two_errors_either_side_hold_95_percent_however_few_the_runs(freedom):
    width = 1.959963984540054 * float(widened(jnp.asarray(0.7), freedom))
    inside = student.cdf(width / 0.7, freedom) - student.cdf(-width / 0.7, freedom)
    assert inside == pytest.approx(0.95, abs=1e-9)


def test_one_run_has_no_error():
    found = of_runs(jnp.array([-3.0]))
    assert found["log_evidence"] == -3
    assert np.isnan(found["log_evidence_se"])
    assert found["log_evidence_df"] == 0


def test_several_runs_share_the_draws_of_a_chain():
    x = np.array([-2.1, -1.4, 1.9, 2.3])[:, None]
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), x, 2, jnp.float64)
    method = SMC(runs=3, particles=40, max_temperatures=2)
    start, temper, collect = method.prepare(Problem(mixture, 2, 10), jax.random.key(0))
    assert [s.again for s in (start, temper, collect)] == ["same", "", ""]
    runs = jax.jit(start.run)(jax.random.key(1), mixture, None)
    everything = np.asarray(runs.state.particles["mu"])
    assert everything.shape == (6, 40, 2, 1)
    mu = np.asarray(jax.jit(collect.run)(jax.random.key(2), mixture, runs)[0]["mu"])
    # four draws of a run, each tenth particle
    np.testing.assert_allclose(mu, everything[:, ::10], rtol=1e-12)
    many = SMC(runs=2, particles=3).prepare(Problem(mixture, 1, 9), jax.random.key(0))
    runs = jax.eval_shape(many[0].run, jax.random.key(1), mixture, None)
    assert runs.state.particles["mu"].shape == (2, 5, 2, 1)


def test_batches_of_runs_are_one_batch_of_all_runs(random):
    own = random.normal(size=(3, 4))
    done = random.random(size=(3, 4)) < 0.5
    method = SMC()
    assert isinstance(method, Combines)
    reports = [
        partial_report(
            SMCReport, **of_runs(jnp.asarray(one)), run_log_evidence=one, done=arrived
        )
        for one, arrived in zip(own, done, strict=True)
    ]
    found = method.combine(reports)
    assert isinstance(found, SMCReport)
    np.testing.assert_array_equal(found.done, done.ravel())
    whole = of_runs(jnp.asarray(own.ravel()))
    assert found.log_evidence_df == 11
    assert found.steps is None
    for name, value in whole.items():
        assert isinstance(getattr(found, name), np.ndarray)
        assert getattr(found, name) == pytest.approx(float(value), rel=1e-12)
