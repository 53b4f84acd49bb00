from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.svi import SVIState
from numpyro.infer.util import log_density, transform_fn

import vi_bench as vb
from vi_bench.contract import Problem
from vi_bench.methods._guides import numpyro_density, same_family_draw
from vi_bench.methods.svi import SVI, late_rise
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian

DRAWS = 4000


@pytest.fixture(scope="module")
def problem():
    x = vb.load("simulate:K=3,d=2,N=80,separation=3,seed=1").values
    return x, bind(Gaussian(sigma=2.0, mean=0.0), x, 3, jnp.float64)


def at_cavis_answer(x, mixture, method):
    """NumPyro's SVI with every parameter at CAVI's optimum."""
    fit = vb.cavi(x, 3, 2.0)
    m = jnp.asarray(fit.m - x.mean(axis=0))
    standard = {"m": m, "s2": jnp.asarray(fit.s2)}
    svi = method._build(mixture, {"mu": m}, standard).svi
    model = svi.model
    state = svi.init(jax.random.key(0), mixture)
    values = {
        "m": m,
        "s2": jnp.asarray(fit.s2),
        "assignment_logits": jnp.log(jnp.asarray(fit.phi)),
    }
    free = transform_fn(svi.constrain_fn.args[0], values, invert=True)
    state = SVIState(svi.optim.init(free), None, jax.random.key(1))
    return fit, svi, model, state, values


@partial(jax.jit, static_argnums=0)
def terms_of(model, mixture, values, key):
    def term(key):
        theta, log_q = same_family_draw(mixture, key, values)
        return numpyro_density(model, mixture, theta | values) - log_q

    return jax.lax.map(term, jax.random.split(key, DRAWS))


def estimate(model, mixture, values, key):
    terms = np.asarray(terms_of(model, mixture, values, key))
    return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(DRAWS))


@pytest.mark.slow
def test_same_family_at_cavis_answer_has_its_elbo_and_does_not_improve_it(problem):
    """z-tests at 5 standard errors: false alarms 6e-7 each, seeds fixed."""
    x, mixture = problem
    method = SVI(guide="same-family", learning_rate=0.01, particles=8)
    fit, svi, model, state, values = at_cavis_answer(x, mixture, method)
    bound, error = estimate(model, mixture, values, jax.random.key(2))
    assert error < 0.05
    assert abs(bound - fit.elbo[-1]) < 5 * error

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda s, _: svi.update(s, mixture), state, length=1500)[0]

    trained = svi.get_params(train(state))
    moved = max(float(jnp.abs(trained[n] - values[n]).max()) for n in ("m", "s2"))
    assert moved > 1e-4, "the optimiser must have been free to move"
    after, after_error = estimate(model, mixture, trained, jax.random.key(3))
    assert after <= fit.elbo[-1] + 5 * after_error
    assert after > fit.elbo[-1] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["mean-field", "full-rank"])
def test_log_q_is_the_guides_own(guide, problem):
    _, mixture = problem
    method = SVI(guide=guide)
    start = {"mu": jnp.asarray(np.arange(6.0).reshape(3, 2))}
    fitted = method._build(mixture, start, {})
    svi, model = fitted.svi, fitted.svi.model
    state = svi.init(jax.random.key(0), mixture)
    params = svi.get_params(state)
    theta, log_q = fitted.draw(jax.random.key(1), params)
    assert theta["mu"].shape == (3, 2)
    if guide == "mean-field":
        expected, _ = log_density(svi.guide, (mixture,), {}, params | theta)
        np.testing.assert_allclose(log_q, expected, rtol=1e-12)
    # the loss that NumPyro minimises and the terms of our bound have one mean
    terms = []
    for i in range(300):
        theta, log_q = fitted.draw(jax.random.key(i), params)
        terms.append(float(numpyro_density(model, mixture, theta | params) - log_q))
    losses = [
        float(svi.loss.loss(jax.random.key(i), params, svi.model, svi.guide, mixture))
        for i in range(75)  # four particles each
    ]
    error = np.hypot(np.std(terms) / np.sqrt(300), np.std(losses) / np.sqrt(75))
    assert abs(np.mean(terms) + np.mean(losses)) < 5 * error


@pytest.mark.slow
def test_the_guides_rank_as_they_must_and_stay_below_the_evidence(problem):
    """labels in q <= summed out with the same family; full rank is the richest."""
    x, _ = problem
    bounds = {}
    for guide in ("same-family", "mean-field", "full-rank"):
        result = vb.run(
            Gaussian(sigma=2.0, mean=0.0),
            x,
            {"svi": {"guide": guide, "steps": 2000}},
            components=3,
            repeats=1,
        )
        bounds[guide] = result.runs["svi"].bound()
        assert result.runs["svi"].outcome.status == "converged"
        if guide != "same-family":  # one bound, estimated from two sets of draws
            (a, sa), (b, sb) = bounds[guide], result.runs["svi"].marginal_bound()
            assert abs(a - b) < 5 * np.hypot(sa, sb)
    error = 5 * max(e for _, e in bounds.values())
    assert bounds["same-family"][0] < bounds["mean-field"][0] + error
    assert bounds["mean-field"][0] < bounds["full-rank"][0] + error
    cavi = vb.cavi(x, 3, 2.0).elbo[-1]
    assert abs(bounds["same-family"][0] - cavi) < 0.05 + 5 * bounds["same-family"][1]


def test_a_learning_rate_that_explodes_is_not_finite_and_says_so(problem):
    x, _ = problem
    result = vb.run(
        Gaussian(sigma=2.0, mean=0.0),
        x,
        {"svi": {"learning_rate": 1e38, "final_learning_rate": 1e38, "steps": 200}},
        components=3,
        repeats=1,
    )
    outcome = result.runs["svi"].outcome
    assert outcome.status == "not finite"
    assert "lower learning_rate" in outcome.sentence


def test_too_few_steps_are_budget_spent(problem):
    x, _ = problem
    result = vb.run(
        Gaussian(sigma=2.0, mean=0.0),
        x,
        {"svi": {"steps": 100}},
        components=3,
        repeats=1,
    )
    assert result.runs["svi"].outcome.status == "iteration limit"


@pytest.mark.parametrize("steps", [50, 130])
def test_it_takes_as_many_steps_as_it_says(problem, steps):
    """Not a whole number of windows: the last rate is the final one, and no more."""
    x, _ = problem
    mixture = bind(Gaussian(sigma=2.0, mean=0.0), x, 3, jnp.float64)
    method = SVI(steps=steps, bound_draws=50)
    start, fit, *_ = method.prepare(Problem(mixture, 1, 4), jax.random.key(0))
    state = jax.jit(start.run)(jax.random.key(1), mixture, None)
    further = jax.jit(fit.run)
    for _ in range(fit.calls):
        state = further(jax.random.key(2), mixture, state)
    counts = [v for v in jax.tree.leaves(state.optimiser) if v.dtype == jnp.int32]
    assert {int(c) for c in counts if c.ndim == 0} >= {steps}
    assert max(int(c) for c in counts if c.ndim == 0) == steps
    assert np.all(np.isfinite(state.bound))
    assert np.all(np.isfinite(state.bound_se))


def test_late_rise_by_hand():
    trace = np.r_[np.zeros(8), 1.0, 3.0]
    rise, error = late_rise(trace, np.full(10, 0.3))
    assert rise == pytest.approx(2.0)
    assert error == pytest.approx(0.3 * np.sqrt(2))


def test_preparing_holds_the_start_of_one_key(problem):
    _, mixture = problem
    method = SVI(steps=100)
    names = [s.name for s in method.prepare(Problem(mixture, 2, 5), jax.random.key(0))]
    assert names == ["start", "fit", "draw", "bound"]
