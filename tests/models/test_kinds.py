"""Rows and hyperparameters of the wrong kind; defaults from the data."""

import numpy as np
import pytest

import vi_bench as vb
from vi_bench.catalogue import WEIGHTS, entries, families, weights
from vi_bench.contract import Family, Weights
from vi_bench.data.table import from_array
from vi_bench.errors import InputError
from vi_bench.models.categorical import Categorical
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_full import GaussianFull

SHIPPED = [n for n in families() if entries("model")[n].origin == "shipped"]


def data(name):
    random = np.random.default_rng(0)
    return {
        "poisson": random.poisson(3, size=(20, 2)),
        "bernoulli": random.integers(2, size=(20, 2)),
        "categorical": random.integers(3, size=(20, 2)),
        "exponential": random.exponential(size=(20, 2)),
    }.get(name, 5 + random.normal(size=(20, 2)))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_family_is_one_and_completes_itself(name):
    family = entries("model")[name].load()()
    assert isinstance(family, Family)
    table = from_array(data(name), "rows")
    family.check(table)
    complete = family.complete(table.values, 3)
    for field in complete.__dataclass_fields__:
        if field != "total":  # of simulated multinomial rows only
            assert getattr(complete, field) is not None, field
    assert complete == complete.complete(table.values * 7, 5)
    bound = complete.bind(np.zeros(2), np.float32)
    assert bound.prior(3) is not None


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_prior_on_the_weights_is_one(name):
    assert isinstance(weights(name)(), Weights)


@pytest.mark.parametrize("name", SHIPPED)
def test_constant_data_still_give_a_proper_prior(name):
    table = from_array(np.ones((5, 2)), "ones")
    family = entries("model")[name].load()().complete(table.values, 2)
    prior = family.bind(table.values.mean(axis=0), np.float32).prior(2)
    for leaf in [prior] if not isinstance(prior, dict) else prior.values():
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("poisson", [[1, 2], [0, -3]], "-3 at row 2, column 2 .*counts 0, 1, 2"),
        ("poisson", [[1.5, 2], [0, 3]], "1.5 at row 1, column 1"),
        ("exponential", [[1.0, 0.0]], "0 at row 1, column 2 .*positive"),
        ("bernoulli", [[0, 1], [1, 2]], "2 at row 2, column 2 .*0 or 1"),
        ("categorical", [[0, 1], [1, -1]], "-1 at row 2, column 2 .*codes"),
        ("categorical", [[0, 5000.0]], "counts = true"),
    ],
)
def test_rows_of_the_wrong_kind_are_refused_with_their_place(name, rows, message):
    family = entries("model")[name].load()()
    with pytest.raises(InputError, match=message):
        family.check(from_array(np.array(rows, float), "mine"))


def test_the_place_is_the_files_line(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b\n1,0\n\n0,2\n")
    with pytest.raises(InputError, match=r"2 at line 4, column 2 .*0 or 1"):
        vb.run("bernoulli", path, ["cavi"], components=1)


def test_codes_beyond_their_levels_are_refused():
    table = from_array(np.array([[0.0, 2.0]]), "mine")
    with pytest.raises(InputError, match="2 at row 1, column 2"):
        Categorical(levels=(3, 2)).check(table)
    with pytest.raises(InputError, match="levels has 3 numbers, the data have 2"):
        Categorical(levels=(3, 2, 2)).check(table)


def test_hyperparameters_that_do_not_fit_are_refused():
    table = from_array(np.zeros((2, 3)), "mine")
    with pytest.raises(InputError, match="mean has 2 numbers, the data have 3"):
        Gaussian(mean=(0.0, 1.0)).check(table)
    with pytest.raises(InputError, match=r"more than d - 1 = 2"):
        GaussianFull(degrees_of_freedom=2.0).check(table)
    with pytest.raises(InputError, match=r"positive definite 3 x 3"):
        GaussianFull(scale=((1.0, 2, 0), (2, 1.0, 0), (0, 0, 1))).check(table)


def test_binding_an_incomplete_family_is_refused():
    with pytest.raises(ValueError, match="sigma is not set"):
        Gaussian().bind(np.zeros(2), np.float32)
