"""Numbers at the edge: the answer is the one that an identity says, or a refusal.

Priors are taken from the data, so data that are moved or scaled have to give the same
posterior, moved or scaled, and bounds and evidences less N d log(scale). Programs are
compiled once per family: all data of an identity are of one shape.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.marks import slow
from vi_bench import catalogue
from vi_bench.enumeration import marginals
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.errors import InputError, NotApplicable
from vi_bench.inference.stages import calling, drive
from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.mixture import bind, data_centre
from vi_bench.mixture.weights import Dirichlet
from vi_bench.models.gaussian import Gaussian
from vi_bench.runner.kernel import _programs
from vi_bench.spec import build

LATER = pytest.mark.slow
REAL = [
    "gaussian",
    *(
        pytest.param(f"gaussian-{kind}", marks=LATER)
        for kind in ("diagonal", "full", "semiconjugate")
    ),
]


@pytest.fixture(scope="module")
def rows():
    """12 x 2, of multiples of 1/64: 1e8 may be added without rounding."""
    random = np.random.default_rng(3)
    means = np.repeat([[-2.0], [2.0]], 6, axis=0)
    return np.round(64 * (means + random.normal(size=(12, 2)))) / 64


@cache
def enumerated():
    return jax.jit(lambda mixture: enumerate_subsets(mixture).log_evidence)


def answer(name, x, K=2, weights=None, restarts=2, exact=True, **settings):
    """CAVI's bound and q, and the exact log evidence where there is one."""
    table = vb.load(x)
    family = build(catalogue.model(name), settings, name)
    family.check(table)
    family = family.complete(table.values, K)
    mixture = bind(family, table.values, K, jnp.float64, weights)
    method = CAVI(restarts=restarts, accelerate=False)
    stages, programs = _programs(method)
    carry = drive(stages, jax.random.key(0), mixture, calling(programs))
    found = method.outcome(carry)
    assert found.status == "converged", found
    q = family.uncentre(carry.variational, data_centre(family, table.values))
    for value in jax.tree.leaves(q):
        assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(jax.tree.leaves(carry.parameters)[0]))
    try:
        marginals.check(mixture)
        evidence = float(enumerated()(mixture)) if K > 1 and exact else None
    except NotApplicable:
        evidence = None
    bound = float(carry.report.bound)
    if evidence is not None:
        assert bound <= evidence + 1e-10 * abs(evidence)
    return bound, evidence, q


def spread_of(name, scale):
    """The settings that do not follow the data by themselves."""
    return {"variance": scale**2} if name == "gaussian" else {}


def means(q):
    """Of the components, in an order that no label decides."""
    return np.sort(np.asarray(q["m"]), axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_moved_data_have_the_moved_posterior(name, rows):
    here, there = answer(name, rows), answer(name, rows + 1e8)
    # numbers near 1e8 are 1.5e-8 apart: so far the prior's mean may be off
    for one, other in zip(here[:2], there[:2], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(other, one, rtol=0, atol=1.5e-8)
    np.testing.assert_allclose(means(there[2]) - 1e8, means(here[2]), atol=3e-8)


@pytest.mark.parametrize("name", [*REAL, pytest.param("exponential", marks=LATER)])
@pytest.mark.parametrize("scale", [1e-69, 1e12, 1e69])
def test_scaled_data_have_the_scaled_posterior(name, scale, rows):
    # not of few digits: defaults, rounded to six, would be ties between two of them
    x = np.exp(rows) / 99 if name == "exponential" else rows * np.pi / 3
    here = answer(name, x, **spread_of(name, 1.0))
    there = answer(name, x * scale, **spread_of(name, scale))
    for one, other in zip(here[:2], there[:2], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            moved = other + x.size * np.log(scale)
            # log(scale) is up to 160 times 24 rows and features, to rounding
            np.testing.assert_allclose(moved, one, rtol=0, atol=1e-10)
    if "m" in here[2]:
        np.testing.assert_allclose(means(there[2]) / scale, means(here[2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (1e160, r"values over 1e\+70, whose fourth powers overflow"),
        (1e150, r"values over 1e\+70, whose fourth powers overflow"),
        (1e-150, r"column 'x0' varies by less than 1e-70"),
        (1e-160, r"column 'x0' varies by less than 1e-70"),
    ],
)
def test_what_floating_point_cannot_hold_is_refused(scale, said, rows):
    with pytest.raises(InputError, match=said):
        vb.run("gaussian-full", rows * scale, ["cavi", "exact"])


@pytest.mark.parametrize("name", REAL)
def test_equal_rows_leave_every_mean_where_they_are(name):
    bound, _, q = answer(name, np.full((12, 2), 3.0))
    np.testing.assert_allclose(q["m"], 3.0, rtol=1e-12)
    moved = answer(name, np.full((12, 2), -5.0))[0]
    np.testing.assert_allclose(moved, bound, rtol=1e-12)


@pytest.mark.parametrize("name", REAL)
def test_a_constant_column_is_known_and_leaves_the_other_alone(name, rows):
    x = np.c_[rows[:, 0], np.full(12, 5.0)]
    bound, _, q = answer(name, x)
    np.testing.assert_allclose(np.asarray(q["m"])[:, 1], 5.0, rtol=1e-10)
    moved = np.c_[rows[:, 0], np.full(12, -7.0)]
    np.testing.assert_allclose(answer(name, moved)[0], bound, rtol=1e-10)


@pytest.mark.parametrize("name", REAL)
def test_rows_that_are_there_twice_count_twice_wherever_they_stand(name, rows):
    x = np.concatenate([rows[::2], rows[::2]])
    mixed = np.random.default_rng(0).permutation(x)
    one, other = answer(name, x), answer(name, mixed)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    if one[1] is not None:
        np.testing.assert_allclose(one[1], other[1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("concentration", [1e-12, 1e-200])
def test_under_a_dirichlet_of_nearly_nothing_one_component_has_all(concentration, rows):
    """All of its mass is at the corners: the evidence is that of one component."""
    x = rows[:6]  # of one cluster: a second one would win too little to be seen
    given = {"sigma": 1.0, "mean": 0.0}
    alone = answer("gaussian", x, K=1, **given)[0]
    weights = Dirichlet(concentration)
    bound, evidence, _ = answer("gaussian", x, weights=weights, **given)
    np.testing.assert_allclose(evidence, alone, rtol=1e-9)
    # q cannot tell which corner: log 2 of symmetry
    np.testing.assert_allclose(bound, alone - np.log(2), rtol=1e-9)


@pytest.mark.slow
def test_components_without_rows_keep_their_prior():
    x = np.repeat([[-1.0, 0.0], [1.0, 1.0]], 6, axis=0)
    x = x + 1e-6 * np.random.default_rng(0).normal(size=x.shape)
    weights = Dirichlet(0.1)
    bound, _, q = answer("gaussian-full", x, K=8, weights=weights, exact=False)
    assert np.isfinite(bound)
    counts = np.asarray(q["kappa"]) - 0.01  # the prior's
    np.testing.assert_allclose(counts.sum(), 12, rtol=1e-9)
    assert np.sum(counts < 0.5) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "poisson"])
def test_as_many_components_as_rows(name, rows):
    x = np.abs(np.round(rows[:3])) + 1
    bound, evidence, _ = answer(name, x, K=3)
    assert np.isfinite(bound)
    assert evidence is None or evidence > bound - 5


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bits_that_are_all_the_same_have_a_known_evidence(value):
    """Uniform p: the integral of p^N is 1 / (N + 1), feature by feature."""
    bound, _, _ = answer("bernoulli", np.full((12, 2), value), K=1)
    np.testing.assert_allclose(bound, -2 * np.log(13), rtol=1e-10)


@pytest.mark.slow
def test_a_column_of_one_level_says_nothing():
    bound, _, _ = answer("categorical", np.zeros((12, 2)), K=1)
    np.testing.assert_allclose(bound, 0, atol=1e-12)


@pytest.mark.parametrize("count", [slow(0.0), slow(1e6), 1e12])
def test_counts_that_are_all_the_same(count):
    """One component's evidence in closed form, by logarithms of Gamma functions."""
    from scipy.special import gammaln

    a, b, N = 2.0, 0.5, 12
    bound, _, _ = answer("poisson", np.full((N, 1), count), K=1, shape=a, rate=b)
    total = N * count
    exact = a * np.log(b) - gammaln(a) + gammaln(a + total)
    exact += -(a + total) * np.log(b + N) - N * gammaln(count + 1)
    # terms of the size of `total` log(count) cancel
    slack = 1e-14 * (total + 1) * np.log(count + 2) + 1e-10
    np.testing.assert_allclose(bound, exact, rtol=0, atol=slack)


@pytest.mark.slow  # NUTS and SVI have to be compiled: half a minute
def test_sampling_and_gradients_far_out_are_finite_and_in_place(rows):
    methods = {
        "nuts": {"warmup": 50, "max_tree_depth": 5},
        "svi": {"steps": 100, "bound_draws": 20, "particles": 1},
    }
    x = rows + 1e8
    result = vb.run("gaussian", x, methods, components=2, chains=2, draws=50, repeats=1)
    for label, run in result.runs.items():
        assert run.outcome.status not in ("failed", "not finite"), (label, run.outcome)
        mu = run.posterior["mu"]
        assert np.all(np.isfinite(mu))
        assert np.all(np.isfinite(run.log_joint))
        # prior and posterior have sds under 3: 12 of them are never seen
        assert np.all(np.abs(mu - 1e8) < 12 * 3)


@pytest.mark.slow
def test_one_row_and_one_component_are_exact_through_the_front_door():
    x = np.array([[1e8, -3.0]])
    result = vb.run(
        Gaussian(sigma=2.0), x, ["cavi", "exact"], components=1, chains=1, draws=4
    )
    bound = result.runs["cavi"].bound()[0]
    evidence = result.runs["exact"].reported("log_evidence").value
    # the row is the prior's mean: N(0 | 0, 4 + 1) twice
    np.testing.assert_allclose([bound, evidence], -np.log(2 * np.pi * 5), rtol=1e-9)
