"""SMC against closed forms and enumeration; what it says when it does not arrive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vi_bench as vb
from tests.contract.cases import CASES, WEIGHTS
from tests.methods.test_nuts import exact_moments
from tests.oracles import log_evidence
from vi_bench.contract import Draws
from vi_bench.methods._particles import (
    densities,
    from_prior,
    log_mean_evidence,
    resample,
)
from vi_bench.methods.nuts import unconstrained_density
from vi_bench.methods.smc import SMC
from vi_bench.mixture import bind
from vi_bench.models.gaussian import Gaussian


def run(family, x, K, method, **fields):
    result = vb.run(
        family, x, {"smc": method}, components=K, reference="smc", repeats=1, **fields
    )
    assert not result.runs["smc"].error, result.runs["smc"].error
    return result


@pytest.mark.slow
def test_one_component_has_the_evidence_of_the_closed_form():
    """Student's t of 16 runs, 15 degrees, at 6: false alarm 2.4e-5; error first."""
    case = CASES["gaussian-diagonal"]
    x = case.rows(np.random.default_rng(3), 20)
    found = run(case.family, x, 1, SMC(), chains=16, draws=200).runs["smc"]
    report = found.draws.report
    assert found.outcome.status == "sampled", found.outcome
    assert report["log_evidence_se"] < 0.1
    z = (report["log_evidence"] - case.log_blocks([x])) / report["log_evidence_se"]
    assert abs(z) < 6, report
    for trace, steps in zip(report["temperatures"], report["steps"], strict=True):
        taken = trace[:steps]
        assert np.all(np.diff(taken) >= 0)
        # the last step resamples and moves at temperature 1
        assert taken[-2] == taken[-1] == 1
        assert np.all(np.isnan(trace[steps:]))


def test_two_components_equal_enumeration():
    """t at 6 of 16 runs, two z-tests at 4.5 errors: false alarm 4e-5; ESS first."""
    x = np.array([-2.1, -1.4, -1.9, 0.3, 1.2, 1.8, 2.4, 2.0])[:, None]
    result = run(Gaussian(sigma=2.0, mean=0.0), x, 2, SMC(), chains=16, draws=300)
    report = result.runs["smc"].draws.report
    assert report["log_evidence_se"] < 0.05
    z = (report["log_evidence"] - log_evidence(x, 2, 2.0)) / report["log_evidence_se"]
    assert abs(z) < 6, report
    for name, exact in exact_moments(x, 2, 2.0).items():
        summary = result.comparison.summaries["smc"][name]
        assert summary.ess_bulk > 2000, name
        assert summary.r_hat < 1.02, name
        z = (summary.mean.value - exact) / summary.mean.se
        assert abs(z) < 4.5, f"{name}: {summary.mean} against {exact}"


def test_a_run_that_does_not_arrive_has_no_evidence():
    x = np.array([-2.1, -1.4, 1.9, 2.3])[:, None]
    method = SMC(max_temperatures=2, steps=1)
    found = run(Gaussian(sigma=2.0, mean=0.0), x, 2, method, chains=2, draws=20)
    found = found.runs["smc"]
    assert found.outcome.status == "budget spent"
    assert "max_temperatures = 2 spent" in found.outcome.sentence
    assert np.isnan(found.draws.report["log_evidence"])
    assert found.draws.report["reached"].max() < 1


def test_moves_that_are_not_accepted_are_suspect():
    report = {
        "done": np.array([True, True]),
        "log_evidence": np.array(-3.0),
        "last_acceptance": np.array([0.8, 0.1]),
        "steps": np.array([9, 11]),
    }
    particles = np.arange(2 * 100 * 3.0).reshape(2, 100, 3)

    def outcome():
        return SMC().outcome(Draws({"mu": particles}, {}, None, {}, report))

    assert outcome().status == "suspect"
    assert "10% of the last moves" in outcome().sentence
    report["last_acceptance"][1] = 0.7
    assert outcome().status == "sampled"
    particles[1, 4:] = particles[1, 4]
    assert outcome().status == "sampled"
    particles[1, 3:] = particles[1, 3]
    assert outcome().status == "failed"
    assert "4 distinct particles of 100 are left" in outcome().sentence
    report["log_evidence"] = np.array(np.nan)
    assert outcome().status == "not finite"


@pytest.mark.slow
def test_prior_and_likelihood_make_up_the_density_that_nuts_takes():
    case = CASES["gaussian-semiconjugate"]
    x = case.rows(np.random.default_rng(3), 12)
    mixture = bind(case.family, x, 2, jnp.float64, WEIGHTS["dirichlet"])
    free = from_prior(jax.random.key(1), mixture, 7)
    log_prior, log_likelihood = densities(mixture)
    both = jax.vmap(lambda v: log_prior(v) + log_likelihood(v))(free)
    whole = jax.vmap(unconstrained_density(mixture))(free)
    np.testing.assert_allclose(both, whole, rtol=1e-12)


def test_a_likelihood_without_a_value_is_the_lowest():
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), np.ones((3, 1)), 2, jnp.float64)
    _, log_likelihood = densities(mixture)
    value = log_likelihood({"mu": jnp.array([[jnp.inf], [jnp.inf]])})
    assert np.isfinite(value)
    assert value < -1e300
    assert 0.0 * value == 0


def test_evidences_are_averaged_not_their_logarithms(random):
    runs = random.normal(size=9) - 900
    log_mean, error = log_mean_evidence(jnp.asarray(runs))
    assert log_mean == pytest.approx(logsumexp(runs) - np.log(9), rel=1e-12)
    z = np.exp(runs + 900)
    exact = z.std(ddof=1) / 3 / z.mean()
    assert error == pytest.approx(exact, rel=1e-9)
    alone, unknown = log_mean_evidence(jnp.asarray(runs[:1]))
    assert alone == pytest.approx(runs[0])
    assert np.isnan(unknown)


def test_resampling_is_systematic_and_keeps_copies_together(random):
    weights = random.dirichlet(np.full(30, 0.3))
    chosen = np.asarray(resample(jax.random.key(4), jnp.asarray(weights), 200))
    copies = np.bincount(chosen, minlength=30)
    assert np.all(np.abs(copies - 200 * weights) < 1 + 1e-9)
    changes = np.sum(np.diff(chosen) != 0)
    assert changes == np.sum(copies > 0) - 1
