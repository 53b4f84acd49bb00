"""What every model that brings its CAVI has to hold, whichever it is."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.marks import slow, slow_but
from vi_bench import catalogue
from vi_bench.contract import CAVIModel, Local, Problem
from vi_bench.factors import base
from vi_bench.inference.climber import OfModel
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.methods.cavi import CAVI
from vi_bench.posterior.cavi_posterior import CAVIPosterior

OWN = catalogue.library()

ROWS = 30

SERIES = {"hmm", "linear-gaussian-state-space"}
"""Models whose rows have an order."""


heavy = pytest.mark.parametrize("name", slow_but(["normal"], OWN))
"""Tests that compile a whole ascent: of one model in the quick suite."""


@pytest.fixture(params=OWN)
def name(request):
    return request.param


@pytest.fixture
def own(name):
    return catalogue.model(name)()


def data_of(own, seed, rows=ROWS):
    return own.example(np.random.default_rng(seed), rows)


@partial(jax.jit, static_argnums=(0, 3))
def sweeps(own, data, key, number):
    """Bounds of a start and after each of so many sweeps, and q at the end."""
    s = own.statistics(**data)
    start = own.init(key, s)

    def one(q, _):
        new = own.sweep(s, q)
        return new, own.bound(s, new)

    q, bounds = jax.lax.scan(one, start, length=number)
    return jnp.concatenate([own.bound(s, start)[None], bounds]), q


@cache
def fitted(own, seed, **settings):
    """A posterior, and the draws of CAVI from it; several tests look at one fit."""
    posterior = CAVIPosterior.bound(own, data_of(own, seed))
    method, key = CAVI(**{"restarts": 5, **settings}), jax.random.key(1)
    stages = prepare(method, Problem(posterior, 4, 500), key)
    return posterior, drive(stages, key, posterior, calling(compiled(stages)))


def test_it_is_what_a_model_has_to_be(name, own):
    assert isinstance(own, CAVIModel)
    assert set(catalogue.dimensions(type(own))) == set(data_of(own, 0))
    assert hash(own) == hash(catalogue.model(name)())


@pytest.mark.parametrize("seeds", [5, slow(50)])
def test_the_bound_never_falls(own, seeds):
    for seed in range(seeds):
        bounds, _ = sweeps(own, data_of(own, seed), jax.random.key(seed), 30)
        bounds = np.asarray(bounds)
        assert np.all(np.isfinite(bounds))
        # bounds are sums of N terms of their own size, each rounded
        slack = 64 * np.finfo(float).eps * ROWS * np.abs(bounds).max()
        assert np.diff(bounds).min() >= -slack, seed


@heavy
def test_the_ascent_ends_where_nothing_is_gained(name, own):
    """What a natural-gradient step on all factors would gain: half g' V^-1 g nats."""
    posterior, draws = fitted(own, 3)
    assert CAVI().outcome(draws).status == "converged"
    q = draws.factors
    eta, scale = base.natural_of(q), base.scale_of(q)

    @jax.jit
    def parts(posterior, q):
        s = posterior.statistics()

        def bound(x):
            new = base.with_natural(q, eta + scale * x)
            if isinstance(own, Local):
                new = own.local(s, new)
            return own.bound(s, new)

        def divergence(x):
            new = base.factors_of(base.with_natural(q, eta + scale * x))
            return sum(f.kl(new[name]) for name, f in base.factors_of(q).items())

        zero = jnp.zeros_like(eta)
        return jax.grad(bound)(zero), jax.hessian(divergence)(zero)

    slope, fisher = map(np.asarray, parts(posterior, q))
    assert 0.5 * slope @ np.linalg.solve(fisher, slope) < 1e-6


@heavy
def test_the_bound_is_what_draws_say(name, own):
    """E_q[log p - log q], or more where local variables are summed out of the model."""
    posterior, draws = fitted(own, 3)
    joint = jax.jit(jax.vmap(jax.vmap(posterior.log_joint)))(draws.parameters)
    terms = np.asarray(joint - draws.log_q).ravel()
    off = terms.mean() - float(draws.report.bound)
    error = 5 * terms.std() / len(terms) ** 0.5
    assert off > -error - 1e-9 * abs(terms.mean())
    if not isinstance(own, Local):
        assert off < error + 1e-9 * abs(terms.mean())


@pytest.mark.slow
def test_with_and_without_extrapolation_it_ends_alike(own):
    ends = [float(fitted(own, 3, accelerate=a)[1].report.bound) for a in (True, False)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


@heavy
def test_the_order_of_rows_does_not_matter(name, own, random):
    """The best bound of several starts, after many sweeps."""
    if name in SERIES:
        pytest.skip("a series has an order")
    data, dims = data_of(own, 6), catalogue.dimensions(type(own))
    mixed = dict(data)
    for dim in {d[0] for d in dims.values()}:
        size = next(len(v) for k, v in data.items() if dims[k][0] == dim)
        order = random.permutation(size)
        for key in data:
            for axis, label in enumerate(dims[key]):
                if label == dim:
                    mixed[key] = np.take(mixed[key], order, axis)

    def best(given):
        keys = jax.random.split(jax.random.key(2), 10)
        return max(float(sweeps(own, given, key, 300)[0][-1]) for key in keys)

    assert best(data) == pytest.approx(best(mixed), abs=1e-6)


def test_natural_parameters_make_the_factors_again(own):
    _, q = sweeps(own, data_of(own, 7), jax.random.key(0), 30)
    again = base.with_natural(q, base.natural_of(q))
    for name, factor in base.factors_of(q).items():
        for one, other in zip(
            jax.tree.leaves(factor), jax.tree.leaves(again[name]), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@heavy
def test_draws_and_parameters_have_the_shapes_of_the_model(name, own):
    posterior, draws = fitted(own, 3)
    climber = OfModel(posterior)
    shapes = {site.name: site.shape for site in posterior.latent}
    assert {k: v.shape[2:] for k, v in draws.parameters.items()} == shapes
    assert draws.log_q.shape == (4, 500)
    described = climber.describe(draws.factors)
    named = {k.partition(".")[0] for k in described}
    assert named == set(base.factors_of(draws.factors))
    known = set(shapes) | set(
        posterior.deterministic({k: v[0, 0] for k, v in draws.parameters.items()})
    )
    assert set(own.compared) <= known
