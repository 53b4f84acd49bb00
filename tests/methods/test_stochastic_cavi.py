"""Natural-gradient steps on minibatches: what they are, and where they lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.compiled import call, driven
from tests.contract.cases import CASES, WEIGHTS
from tests.marks import slow
from tests.records import partial_report
from vi_bench.contract import Draws
from vi_bench.methods import _stochastic
from vi_bench.methods._mixture_steps import OfMixture, minibatch
from vi_bench.methods._schedule import Schedule
from vi_bench.methods.cavi import CAVI
from vi_bench.methods.stochastic_cavi import StochasticCAVI, StochasticCAVIReport
from vi_bench.mixture.blocks import Blocks, block_rows
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.mixture_pass import mixture_pass
from vi_bench.models.gaussian import Gaussian

WHOLE = Schedule(batch=8192, delay=0.0, forgetting=0.7)


@pytest.mark.parametrize("weights", [slow("uniform"), "dirichlet"])
@pytest.mark.parametrize("name", ["gaussian", slow("poisson"), "gaussian-full"])
def test_a_whole_first_step_on_all_rows_is_a_sweep_of_cavi(name, weights, random):
    """rho_0 = 1, and without a whole block the minibatch is all of the data."""
    case = CASES[name]
    x = case.rows(random, 40)
    mixture = bind(case.family, x, 3, jnp.float64, WEIGHTS[weights])
    phi = jnp.asarray(random.dirichlet(np.ones(3), 40))
    q = call(mixture, "from_responsibilities", phi)
    advance = jax.jit(lambda key, m, q, step: OfMixture(m).advance(key, q, step, WHOLE))
    moved = advance(jax.random.key(0), mixture, q, jnp.asarray(0))
    swept = call(mixture, "step", q)[1]
    for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(swept), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_minibatches_are_unbiased(random):
    """The mean over both blocks that may be drawn, the tail in each, is the pass."""
    x = random.normal(size=(2 * block_rows(2, 3, np.float64) + 100, 2))
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), x, 2, jnp.float64)
    body, tail = mixture.blocks.body, mixture.blocks.tail
    assert body.shape[0] == 2
    coefficients = jnp.asarray(random.normal(size=(2, 3)))

    @jax.jit
    def sums(blocks):
        return mixture_pass(mixture.family.statistics, blocks, coefficients)[1]

    @jax.jit
    def part(key):
        some, scale = minibatch(key, mixture, body.shape[2])
        return some.body[0, 0, 0], scale * sums(some)

    whole = sums(mixture.blocks)
    found = {}
    for seed in range(20):
        first, some = part(jax.random.key(seed))
        found[float(first)] = some
    assert len(found) == 2
    of_tail = sums(Blocks(body[:0], tail))
    mean = sum(found.values()) / 2 + of_tail
    np.testing.assert_allclose(mean, whole, rtol=1e-10)


@pytest.mark.parametrize("steps", [slow(20), slow(50), 70])
def test_as_many_steps_are_made_as_were_asked_for(steps, random):
    x = random.normal(size=(30, 1))
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), x, 2, jnp.float64)
    method = StochasticCAVI(restarts=2, steps=steps)
    draws = driven(method, mixture, 1, 10)
    assert method.outcome(draws).sentence.startswith(f"after {steps} steps")


def test_the_shares_are_robbins_and_monros():
    schedule = Schedule(batch=1, delay=1.0, forgetting=0.7)
    shares = [float(schedule.share(jnp.asarray(t), jnp.float64)) for t in (0, 1, 98)]
    np.testing.assert_allclose(shares, [2**-0.7, 3**-0.7, 100**-0.7])


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(3)
    centres = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]])
    return centres[random.integers(3, size=6000)] + random.normal(size=(6000, 2))


@pytest.mark.slow
def test_it_comes_near_cavis_optimum_and_says_how_near(many):
    result = vb.run(
        Gaussian(sigma=5.0),
        many,
        {
            "cavi": CAVI(restarts=2),
            "stochastic-cavi": StochasticCAVI(restarts=2, steps=400),
            "warm": CAVI(restarts=2, start="stochastic"),
        },
        components=3,
        reference="cavi",
        draws=100,
        repeats=1,
    )
    best, near, warm = (
        float(result.runs[label].draws.report.bound)
        for label in ("cavi", "stochastic-cavi", "warm")
    )
    assert 0 <= best - near < 1e-5 * abs(best)
    np.testing.assert_allclose(warm, best, rtol=1e-9)
    run = result.runs["stochastic-cavi"]
    gain = float(run.draws.report.gain)
    assert 0 <= gain <= best - near + 1e-6
    assert result.runs["warm"].outcome.converged


@pytest.mark.parametrize(
    ("bound", "gain", "status"),
    [
        (-1e5, 0.05, "converged"),
        (-1e5, 0.5, "iteration limit"),
        (np.nan, 0.0, "not finite"),
    ],
)
def test_it_says_what_one_more_sweep_would_gain(bound, gain, status):
    known = partial_report(StochasticCAVIReport, bound=bound, gain=gain, iterations=400)
    outcome = StochasticCAVI().outcome(Draws({}, {}, None, {}, known))
    assert outcome.status == status
    if np.isfinite(bound):
        assert f"one sweep of all rows would gain {gain:.3g}" in outcome.sentence


def test_no_rows_are_no_trouble():
    mixture = bind(Gaussian(sigma=1.0, mean=0.0), np.zeros((0, 2)), 3, jnp.float64)
    q = OfMixture(mixture).begin(jax.random.key(0))
    q = _stochastic.run(
        jax.random.key(1), OfMixture(mixture), q, jnp.asarray(0), 5, WHOLE
    )
    for one, other in zip(
        jax.tree.leaves(q), jax.tree.leaves(mixture.prior()), strict=True
    ):
        np.testing.assert_allclose(one, other)
