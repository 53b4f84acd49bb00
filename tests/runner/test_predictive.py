import numpy as np
import pytest
from scipy.special import logsumexp

import vi_bench as vb
from tests.small import FIELDS, METHODS, ROWS
from vi_bench.errors import InputError
from vi_bench.mixture.weights import Dirichlet
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_diagonal import GaussianDiagonal
from vi_bench.models.poisson import Poisson


@pytest.mark.slow
def test_the_prior_predictive_has_the_priors_moments():
    """Sums over 400 tables; z-tests at 4.5 standard errors, false alarm 1.4e-5."""
    family = Poisson(shape=3.0, rate=0.5)
    tables = [
        vb.simulate(family, 20, 3, features=2, weights=Dirichlet(0.7), seed=seed)
        for seed in range(400)
    ]
    means = np.array([t.values.mean() for t in tables])
    assert abs(means.mean() - 6.0) < 4.5 * means.std(ddof=1) / 20
    first = tables[0]
    assert first.values.shape == (20, 2)
    assert first.truth["rate"].shape == (3, 2)
    assert first.truth["labels"].shape == (20,)
    assert first.truth["weight"].sum() == pytest.approx(1.0)
    again = vb.simulate(family, 20, 3, features=2, weights=Dirichlet(0.7), seed=0)
    np.testing.assert_array_equal(first.values, again.values)


def test_what_only_data_could_give_is_asked_for():
    with pytest.raises(InputError, match="model poisson: shape is not set"):
        vb.simulate("poisson", 10, 2)


@pytest.fixture(scope="module")
def result():
    x = vb.load("simulate:K=2,d=2,N=80,separation=6,seed=1").values + 100.0
    return vb.run(
        GaussianDiagonal(),
        x,
        {"cavi": {"restarts": 2}},
        components=2,
        weights="dirichlet",
        draws=200,
        repeats=1,
    )


@pytest.mark.slow
def test_the_predictive_density_is_the_average_over_draws(result, random):
    """Against SciPy's normal densities, draw by draw."""
    from scipy.stats import norm

    points = result.table_data.values[:5] + 0.1
    post = result.runs["cavi"].posterior
    mu = post["mu"].reshape(-1, 2, 2)
    sd = post["precision"].reshape(-1, 2, 2) ** -0.5
    w = post["weight"].reshape(-1, 2)
    terms = norm.logpdf(points[:, None, None], mu, sd).sum(-1) + np.log(w)
    expected = logsumexp(terms, axis=(1, 2)) - np.log(len(mu))
    found = result.log_density("cavi", points)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
def test_predicted_rows_are_spread_as_the_data(result):
    """A z-test of the mean at 4.5 standard errors."""
    rows = result.predict("cavi", 2000, seed=3)
    assert rows.values.shape == (2000, 2)
    x = result.table_data.values
    error = x.std(axis=0) / np.sqrt(len(x)) + rows.values.std(axis=0) / np.sqrt(2000)
    assert np.all(np.abs(rows.values.mean(axis=0) - x.mean(axis=0)) < 4.5 * error)
    np.testing.assert_allclose(rows.values.std(axis=0), x.std(axis=0), rtol=0.2)


@pytest.mark.slow
def test_points_of_the_wrong_shape_and_unknown_methods_are_refused(result):
    with pytest.raises(InputError, match=r"shape \(3, 1\), expected \(n, 2\)"):
        result.log_density("cavi", np.zeros((3, 1)))
    with pytest.raises(InputError, match="'nuts' has no draws"):
        result.predict("nuts", 3)


@pytest.mark.slow
def test_a_simulated_table_is_data_for_a_run():
    table = vb.simulate(Gaussian(5.0, 1.0, 0.0), len(ROWS), 2, features=2, seed=2)
    fit = vb.run("gaussian", table, {"cavi": METHODS["cavi"]}, **FIELDS)
    assert fit.runs["cavi"].outcome.converged


def test_levels_given_as_one_number_are_those_of_every_column():
    family = {"name": "categorical", "concentration": 1.0, "levels": 3}
    table = vb.simulate(family, 50, 2, features=4)
    assert table.values.shape == (50, 4)
    assert set(np.unique(table.values)) == {0.0, 1.0, 2.0}
