import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_bench.data.load import BUILT_IN, load
from vi_bench.errors import InputError


def regenerate_notebook():
    """The notebook's own lines, under the settings of its JAX."""
    with jax.threefry_partitionable(False), jax.enable_x64(False):
        K, d, N = 5, 2, 1000
        mu = jax.random.normal(jax.random.PRNGKey(2023), (K, d))
        key = jax.random.PRNGKey(2)
        c = jax.random.categorical(key, (1 / K) * jnp.ones((K,)), axis=0, shape=(N,))
        C = jax.nn.one_hot(c, K)
        return np.asarray(jnp.matmul(C, mu) + jax.random.normal(key, (N, d))), c


@pytest.mark.optimised  # its last bits are those of optimised programs
def test_the_notebooks_data_are_the_notebooks():
    rows, labels = regenerate_notebook()
    shipped = load("notebook")
    assert shipped.values.shape == (1000, 2)
    np.testing.assert_array_equal(shipped.values.astype(np.float32), rows)
    printed = [
        [0.90678126, 0.44637144],
        [-0.6740475, 0.31190777],
        [-1.8890792, 1.2733475],
        [-0.38996434, -0.1008999],
        [0.58381635, -0.42401785],
        [-0.79596436, -0.98130786],
    ]
    shown = shipped.values[[0, 1, 2, -3, -2, -1]]
    np.testing.assert_allclose(shown, printed, rtol=0, atol=1.5e-7)  # as printed
    assert np.bincount(labels).tolist() == [220, 200, 206, 184, 190]
    assert "one key" in shipped.note


@pytest.mark.parametrize(
    ("name", "shape", "corners"),
    [
        ("faithful", (272, 2), ([3.6, 79.0], [4.467, 74.0])),
        ("galaxies", (82, 1), ([9.172], [34.279])),
        ("iris", (150, 4), ([5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8])),
    ],
)
def test_real_data_are_as_published(name, shape, corners):
    table = load(name)
    assert table.values.shape == shape
    np.testing.assert_allclose(table.values[[0, -1]], corners)
    assert table.source
    assert len(table.features) == shape[1]


def test_the_78th_galaxy_is_the_published_one():
    assert load("galaxies").values[77, 0] == pytest.approx(26.960)


def test_iris_is_fishers_and_not_ucis():
    rows = load("iris").values
    np.testing.assert_array_equal(rows[34], [4.9, 3.1, 1.5, 0.2])
    np.testing.assert_array_equal(rows[37], [4.9, 3.6, 1.4, 0.1])


def test_corners_are_four_groups_of_four_around_a_square():
    table = load("corners")
    assert table.features == ("x", "y")
    assert "made for this package" in table.source
    sides = np.sign(table.values)
    np.testing.assert_array_equal(sides, np.repeat(sides[::4], 4, axis=0))
    assert len(np.unique(sides, axis=0)) == 4
    np.testing.assert_allclose(table.values, 2.5 * sides, atol=0.25)


def test_standardised():
    table = load("faithful", standardise=True)
    np.testing.assert_allclose(table.values.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(table.values.std(axis=0), 1)
    assert "standardised" in table.note


def test_simulated():
    a = load("simulate:K=4,d=3,N=50,separation=8,seed=2")
    b = load("simulate:K=4,d=3,N=50,separation=8,seed=2")
    assert a.values.shape == (50, 3)
    assert a.sha256 == b.sha256
    assert a.truth["means"].shape == (4, 3)
    assert load("simulate:seed=2").values.shape == (300, 2)


def test_separation_is_the_root_mean_square_distance():
    means = load("simulate:K=2000,d=2,N=2000,separation=6,seed=0").truth["means"]
    gaps = np.linalg.norm(means[::2] - means[1::2], axis=1)
    assert np.sqrt(np.mean(gaps**2)) == pytest.approx(6, rel=0.1)


@pytest.mark.parametrize("overlap", [0.5, 0.05, 1e-4])
def test_overlap_is_the_share_of_rows_that_a_rule_for_two_assigns_wrongly(overlap):
    """Against its definition: of rows of two components, those nearer to the other."""
    found = load(f"simulate:K=4,d=3,N=10,overlap={overlap},seed=5")
    assert f"overlap={overlap:g}" in found.name
    means = found.truth["means"]
    random = np.random.default_rng(0)
    counted = []
    for i, own in enumerate(means):
        rows = own + random.normal(size=(200_000, 3))
        near = np.square(rows - own).sum(axis=1)
        others = np.delete(means, i, axis=0)
        counted += [(np.square(rows - o).sum(axis=1) < near).mean() for o in others]
    # 12 shares of 200,000 rows, rows shared by three: within five standard errors
    error = np.sqrt(2 * overlap / 2 / 200_000 / 4)
    assert 2 * np.mean(counted) == pytest.approx(overlap, abs=5 * error)
    other = load(f"simulate:K=4,d=3,N=10,overlap={overlap},seed=6").truth["means"]
    assert not np.allclose(means, other)


def write(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("text", "rows", "features"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]], ("x0", "x1")),
        ("a,b\n1,2\n\n3,4", [[1, 2], [3, 4]], ("a", "b")),
        ("\ufeffa\n1\n2\n", [[1], [2]], ("a",)),
        ('"a b",c\n1e3, -2\n', [[1000, -2]], ("a b", "c")),
    ],
)
def test_csv(tmp_path, text, rows, features):
    table = load(write(tmp_path, text))
    np.testing.assert_array_equal(table.values, rows)
    assert table.features == features


def test_one_dimensional_data_are_one_feature_and_said_so(tmp_path):
    table = load(np.arange(5))
    assert table.values.shape == (5, 1)
    assert "1-D data" in table.note
    np.save(tmp_path / "a.npy", np.arange(4.0))
    assert "1-D data" in load(str(tmp_path / "a.npy")).note


def test_npy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3, dtype=np.float32))
    assert load(tmp_path / "a.npy").values.dtype == np.float64


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"u": [1, 2], "v": [0.5, 1.5]}), path)
    table = load(str(path))
    np.testing.assert_array_equal(table.values, [[1, 0.5], [2, 1.5]])
    assert table.features == ("u", "v")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"vi-bench\[parquet\]"):
        load(write(tmp_path, "x", "b.parquet"))


def test_every_built_in_loads():
    for name in BUILT_IN:
        assert np.all(np.isfinite(load(name).values))


def test_a_refused_value_that_was_standardised_says_so():
    table = load(np.array([[1.0], [3.0]]), standardise=True)
    with pytest.raises(InputError, match="-1 at row 1, column 1, once standardised"):
        table.refuse(table.values < 0, "counts")
