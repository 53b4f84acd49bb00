"""Steps on minibatches of models of the library: what they are, and where they lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import driven
from tests.marks import slow_but
from vi_bench import catalogue
from vi_bench.contract import InBatches, Problem
from vi_bench.errors import NotApplicable
from vi_bench.factors import base
from vi_bench.inference.climber import climber_of
from vi_bench.methods._schedule import Schedule
from vi_bench.methods._stochastic import run, steps_of
from vi_bench.methods.stochastic_cavi import StochasticCAVI
from vi_bench.models._shares import some_rows, table_of
from vi_bench.models.hmm import HMM
from vi_bench.models.lda import LDA
from vi_bench.models.linear_regression import LinearRegression
from vi_bench.models.logistic_regression import LogisticRegression
from vi_bench.posterior.cavi_posterior import CAVIPosterior

MODELS = [LinearRegression(), LogisticRegression(), LDA(topics=2)]

two_in_the_quick_suite = pytest.mark.parametrize(
    "own", slow_but(MODELS[:2], MODELS), ids=lambda own: type(own).__name__
)


def of_example(own, rows=30):
    data = own.example(np.random.default_rng(1), rows)
    return CAVIPosterior.bound(own, data)


def optimum(posterior, sweeps=4000):
    @jax.jit
    def fit(posterior):
        climber = climber_of(posterior)
        start = climber.like()
        return jax.lax.fori_loop(0, sweeps, lambda _, q: climber.swept(q), start)

    return fit(posterior)


def naturals(factors):
    return {name: factor.natural() for name, factor in factors.items()}


def close(one, other, rtol):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_these_models_have_steps():
    found = {
        name
        for name, entry in catalogue.entries("model").items()
        if entry.own and isinstance(catalogue.model(name)(), InBatches)
    }
    assert found == {"linear-regression", "logistic-regression", "lda"}


@two_in_the_quick_suite
def test_the_optimum_stays_where_it_is_when_all_rows_are_the_batch(own):
    """A full step from a fixed point of the ascent ends there."""
    posterior = of_example(own)
    q = optimum(posterior)
    factors = base.factors_of(q)
    every = Schedule(batch=30, delay=0.0, forgetting=1.0)

    @jax.jit
    def moved(posterior, q):
        return run(jax.random.key(0), steps_of(posterior), q, jnp.asarray(0), 1, every)

    close(naturals(moved(posterior, factors)), naturals(factors), 1e-6)


@two_in_the_quick_suite
def test_minibatches_are_unbiased(own):
    """The mean over all rows, each the batch, is where all rows lead."""
    posterior = of_example(own)

    @jax.jit
    def goals(posterior):
        steps = steps_of(posterior)
        q = steps.begin(jax.random.key(3))
        every = jnp.arange(30)
        settled = steps.own.settle(steps.own.batch(steps.rows, every), q)

        def goal(chosen):
            batch = steps.own.batch(steps.rows, chosen)
            return naturals(steps.own.shared(batch, settled, 30 / len(chosen)))

        return jax.lax.map(goal, every[:, None]), goal(every)

    each, whole = goals(posterior)
    close(jax.tree.map(lambda v: jnp.mean(v, axis=0), each), whole, 1e-9)


@pytest.mark.parametrize("entries", [None, 7])
def test_some_rows_of_a_table_are_those_rows(entries):
    counts = jnp.asarray([[1, 0, 2], [0, 0, 0], [3, 1, 4], [0, 5, 1]])
    some = some_rows(table_of(counts, entries), jnp.asarray([2, 1, 3, 2]), 3)
    found, known = np.zeros((4, 3)), some.by_row
    np.add.at(found, (known.row[:, None], known.column), known.entry)
    np.testing.assert_array_equal(found, counts[jnp.asarray([2, 1, 3, 2])])
    np.testing.assert_array_equal(some.rows, [8, 0, 6, 8])
    np.testing.assert_array_equal(some.columns, table_of(counts).columns)


@pytest.mark.slow
@pytest.mark.parametrize("own", MODELS, ids=lambda own: type(own).__name__)
def test_they_come_near_the_optimum_and_say_how_near(own):
    posterior = of_example(own, 2000)
    best = climber_of(posterior).bound(optimum(posterior, 500))
    # the shares of 1000 steps add up to 39 sweeps, too few for an ascent this slow
    steps = 4000 if isinstance(own, LDA) else 1000
    method = StochasticCAVI(restarts=2, steps=steps, batch=100)
    draws = driven(method, posterior, 1, 10)
    report = draws.report
    assert -1e-6 < best - report.bound < 2e-4 * abs(best)
    assert -1e-6 < report.gain <= best - report.bound + 1e-6
    assert "one sweep of all rows would gain" in method.outcome(draws).sentence


def test_a_model_without_steps_is_refused():
    posterior = of_example(HMM())
    with pytest.raises(NotApplicable, match="no steps on minibatches: use cavi"):
        StochasticCAVI().prepare(Problem(posterior, 1, 10), jax.random.key(0))
