"""Blocks in memory and in their file: the same sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vi_bench as vb
from tests.compiled import call
from vi_bench.data import rows, table
from vi_bench.data.rows import open_rows
from vi_bench.errors import InputError, NotApplicable
from vi_bench.methods._mixture_steps import minibatch
from vi_bench.mixture import blocks
from vi_bench.mixture.blocks import add_up, pick, some, to_blocks
from vi_bench.mixture.mixture import bind
from vi_bench.models.gaussian import Gaussian

FAMILY = Gaussian(sigma=3.0, mean=0.0)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Two blocks of 256 rows of two float64 are a chunk."""
    for module in (blocks, rows):
        monkeypatch.setattr(module, "PIECE", 2 * 256 * 2 * 8)


@pytest.fixture
def x(random):
    labels = random.integers(2, size=2900)
    return 4.0 * labels[:, None] + random.normal(size=(2900, 2))


@pytest.fixture
def path(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


def both(x, path, dtype=jnp.float64):
    centre = x.mean(axis=0)
    return (
        to_blocks(x, dtype, 256, centre=centre),
        to_blocks(open_rows(path), dtype, 256, centre=centre, stream=True),
    )


def test_a_stream_is_chunks_and_what_they_leave(x, path):
    held, streamed = both(x, path)
    source = streamed.stream
    assert (source.chunks, source.together, source.blocks) == (5, 2, 11)
    assert streamed.body.shape == (1, 2, 256)
    assert streamed.tail.shape == held.tail.shape == (2, 2900 - 11 * 256)
    assert streamed.rows == held.rows == 2900
    np.testing.assert_array_equal(source.read(0, 11), held.body)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_over_blocks_are_those_over_rows(x, path, dtype):
    centred = x - x.mean(axis=0)

    def moments(block, scale):
        return jnp.sum(block, axis=1), scale * jnp.sum(block**2)

    for held in both(x, path, dtype):
        summed = jax.jit(lambda b: add_up(moments, b, jnp.asarray(2.0, dtype)))(held)
        assert summed[0].dtype == dtype
        loose = 1e-9 if dtype == "float64" else 1e-3
        np.testing.assert_allclose(summed[0], centred.sum(axis=0), atol=loose)
        np.testing.assert_allclose(summed[1], 2 * (centred**2).sum(), rtol=1e-6)


def test_float32_sums_lose_no_digits_over_many_blocks():
    """Uncompensated, a million ones after 2^24 of them add nothing in float32."""
    body = jnp.concatenate([jnp.full((1, 1, 1), 2.0**24), jnp.ones((10_000, 1, 1))])
    made = blocks.Blocks(jnp.asarray(body, jnp.float32), jnp.zeros((1, 0), jnp.float32))
    total = jax.jit(lambda b: add_up(jnp.sum, b))(made)
    assert float(total) == 2.0**24 + 10_000


def test_rows_picked_are_those_rows(x, path):
    places = np.array([0, 255, 256, 2800, 2899])
    centred = x - x.mean(axis=0)
    for held in both(x, path):
        np.testing.assert_allclose(pick(held, places).T, centred[places], atol=1e-12)
        chosen = some(held, 100)
        assert chosen.shape == (2, 100)
    assert some(both(x, path)[0], 10_000).shape == (2, 2900)


def test_traced_rows_give_the_same_blocks(x):
    centre = x.mean(axis=0)
    made = jax.jit(lambda v: to_blocks(v, jnp.float64, 256, centre=centre))(x)
    held = to_blocks(x, jnp.float64, 256, centre=centre)
    np.testing.assert_allclose(made.body, held.body, atol=1e-12)
    np.testing.assert_allclose(made.tail, held.tail, atol=1e-12)


def test_a_pass_its_gradient_and_its_jacobian_do_not_see_where_rows_are(x, path):
    centre = x.mean(axis=0)
    one = bind(FAMILY, x, 2, jnp.float64)
    two = bind(FAMILY, open_rows(path), 2, jnp.float64, centre=centre, stream=True)
    assert two.blocks.stream is not None
    q = call(one, "from_responsibilities", np.eye(2)[(x[:, 0] > 2.0).astype(int)])
    totals = [call(m, "total") for m in (one, two)]
    np.testing.assert_allclose(*totals, rtol=1e-12)
    np.testing.assert_allclose(one.log_base, two.log_base, rtol=1e-12)
    theta = call(one, "centre", q)
    slopes = [
        jax.jit(jax.grad(lambda t, m: m.log_joint(t)))(theta, m)["mu"]
        for m in (one, two)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-9)
    steps = [
        jax.jit(jax.jacfwd(lambda c, m: m.from_coefficients(c).components))(
            call(one, "view", q).coefficients, m
        )
        for m in (one, two)
    ]
    for a, b in zip(*map(jax.tree.leaves, steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_minibatches_come_from_the_file(x, path):
    centre = x.mean(axis=0)
    mixture = bind(FAMILY, open_rows(path), 2, jnp.float64, centre=centre, stream=True)
    size = mixture.blocks.body.shape[2]
    chosen, scale = jax.jit(lambda m: minibatch(jax.random.key(0), m, 2 * size))(
        mixture
    )
    number = len(x) // size
    assert float(scale) == number / 2
    every = [mixture.blocks.stream.read(i, 1)[0] for i in range(number)]
    for block in chosen.body:
        assert any(np.array_equal(block, own) for own in every)


def test_what_needs_all_rows_says_so(x, path):
    mixture = bind(FAMILY, open_rows(path), 2, jnp.float64, stream=True)
    with pytest.raises(NotApplicable, match="all rows in memory"):
        mixture.data()


@pytest.mark.slow
def test_a_streamed_run_is_that_in_memory(path, monkeypatch):
    monkeypatch.setattr(table, "SAMPLE", 2900)
    methods = {"cavi": {"restarts": 2}, "stochastic-cavi": {"steps": 50}, "svi": {}}
    fields = {"components": 2, "draws": 100, "repeats": 1, "reference": "cavi"}
    model = {"name": "gaussian", "sigma": 3.0, "mean": 0.0}
    one, two = (vb.run(model, path, methods, stream=s, **fields) for s in (False, True))
    assert two.runs["cavi"].outcome.status == "converged"
    np.testing.assert_allclose(
        one.runs["cavi"].bound()[0], two.runs["cavi"].bound()[0], rtol=1e-10
    )
    assert two.runs["stochastic-cavi"].usable
    svi = two.runs["svi"].outcome
    assert svi.status == "skipped"
    assert "needs all rows in memory" in svi.sentence
    assert two.table_data.sha256 == one.table_data.sha256
    assert two.summary["data"]["shape"] == [2900, 2]
    assert list(two.posterior["cavi"].observed_data.row[:2]) == [0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 10}, "held_out = 10"),
        ({"devices": 2}, "streamed rows cannot be shared"),
        ({"components": 3000}, "have 2900 rows"),
    ],
)
def test_what_streamed_rows_cannot_do_is_refused(path, fields, message):
    with pytest.raises(InputError, match=message):
        vb.run("gaussian", path, ["cavi"], stream=True, **fields)


@pytest.mark.slow
def test_log_joints_beyond_the_budget_are_left_out(path, monkeypatch):
    from vi_bench.runner import evaluate

    monkeypatch.setattr(evaluate, "WORK", 1e4)
    fields = {"components": 2, "draws": 250, "repeats": 1, "reference": "cavi"}
    methods = {"cavi": {"restarts": 1}, "other": {"method": "cavi", "restarts": 1}}
    found = vb.run("gaussian", path, methods, stream=True, **fields)
    assert found.runs["cavi"].log_joint is None
    assert "log joints of cavi, other were not computed" in found.comparison.note
    assert "log joint" not in found.comparison.judged
    assert found.comparison.verdicts["other"].word in ("agrees", "inconclusive")


@pytest.mark.slow
def test_log_joints_of_some_draws_stand_in_for_those_of_all(path, monkeypatch):
    from vi_bench.runner import evaluate

    def run():
        methods = {"cavi": {"restarts": 1}, "nuts": {"warmup": 100}}
        fields = {"components": 2, "draws": 250, "chains": 2, "repeats": 1}
        return vb.run("gaussian", path, methods, **fields)

    every = run()
    monkeypatch.setattr(evaluate, "ENOUGH", 1.0)
    monkeypatch.setattr(evaluate, "FEWEST", 100)
    some = run()
    cavi, nuts = some.runs["cavi"], some.runs["nuts"]
    whole = every.runs["cavi"].log_joint
    assert cavi.log_joint.shape == (cavi.shape()[0], 100 // cavi.shape()[0])
    np.testing.assert_array_equal(cavi.log_joint, whole[:, cavi.evaluated])
    assert nuts.log_joint.shape == nuts.shape()
    terms = (whole - every.runs["cavi"].draws.log_q)[:, cavi.evaluated]
    assert cavi.marginal_bound()[0] == pytest.approx(terms.mean())
    assert "bounds and k-hat of cavi are from 100 of" in some.comparison.note
    assert "cavi" in some.comparison.importance
    assert "log_joint" not in some.posterior["cavi"]["sample_stats"]
    assert "log_joint" in some.posterior["nuts"]["sample_stats"]
    for label, distances in every.comparison.distances.items():
        for name in set(distances) - {"log joint"}:
            own = some.comparison.distances[label][name]
            assert own.w1.value == distances[name].w1.value
