"""Calibration of NumPyro models, and of fits of them by hand."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import vi_bench as vb
from vi_bench.errors import InputError
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior

X = np.linspace(-1, 1, 6)


def model(x, y):
    """A line through the origin: the posterior of the slope is normal."""
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)


def moments(x, y):
    precision = 1 / 4 + np.sum(x**2)
    return np.sum(x * y) / precision, precision**-0.5


def exact(x, y):
    """In NumPy alone: it cannot be traced, and is called for one data set at a time."""
    x, y = np.asarray(x), np.asarray(y)
    mean, sd = moments(x, y)
    return {"q": {"slope": dist.Normal(mean, sd)}}


def narrow(x, y):
    """In JAX: compiled with everything else."""
    precision = 1 / 4 + jnp.sum(x**2)
    sd = 0.5 * precision**-0.5
    return {"q": {"slope": dist.Normal(jnp.sum(x * y) / precision, sd)}}


DATA = {"x": X, "y": np.zeros(6)}


@pytest.fixture(scope="module")
def found():
    return vb.calibrate(
        model, [exact, narrow], data=DATA, sims=60, chunk=30, independent=200
    )


def test_an_exact_fit_is_calibrated_and_a_narrow_one_is_not(found):
    """A family-wise error of 0.01; a dispersion of 2 in 60 data sets is found."""
    assert not found.failed
    assert list(found.rows) == ["exact", "narrow"]
    assert set(found.rows["exact"]) == {"slope", "log joint", "log likelihood"}
    assert found.rows["exact"]["slope"].uniform
    assert not found.rows["narrow"]["slope"].uniform
    assert found.rows["narrow"]["slope"].dispersion > 1.5


@pytest.mark.slow
def test_methods_are_calibrated_where_they_are_exact_or_nearly():
    """A family-wise error of 0.01: a mean, and the log of a precision."""
    found = vb.calibrate(
        "normal", ["dadvi", "mclmc"], sims=200, draws=99, thin=2, geweke=0
    )
    assert found.uniform("dadvi")
    assert found.uniform("mclmc")


def test_fits_that_cannot_be_traced_are_called_one_at_a_time():
    """The stack of NumPyro's handlers is one for all threads."""
    inside, most = [], []

    def slow(x, y):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        result = exact(x, y)
        inside.pop()
        return result

    settings = {"sims": 20, "chunk": 5, "independent": 20, "threads": 4}
    assert not vb.calibrate(model, [slow], data=DATA, **settings).failed
    assert max(most) == 1


def test_its_page_tells_no_rows_and_components(found):
    from vi_bench.calibration.report import calibration_table

    title = calibration_table(found).title
    assert title.endswith(":model: 60 data sets")


def test_simulated_data_replace_the_observed_ones_alone():
    posterior = NumPyroPosterior.of(model, x=X, y=np.zeros(6))
    theta = {"slope": jnp.asarray(3.0)}
    y = posterior.simulate(jax.random.key(0), theta)
    other = posterior.with_observations(y)
    same = NumPyroPosterior.of(model, x=X, y=np.asarray(y["y"]))
    np.testing.assert_allclose(other.log_joint(theta), same.log_joint(theta))
    np.testing.assert_array_equal(other.arguments()["x"], X)


def integers(y):
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    with numpyro.plate("row", 4):
        numpyro.sample("y", dist.Normal(slope, 1), obs=y)


def test_simulated_data_are_not_rounded_to_the_given_ones():
    posterior = NumPyroPosterior.of(integers, y=np.arange(4))
    y = posterior.simulate(jax.random.key(0), {"slope": jnp.asarray(0.3)})
    other = posterior.with_observations(y)
    np.testing.assert_array_equal(other.arguments()["y"], y["y"])


def twice(a, b):
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    numpyro.sample("ya", dist.Normal(slope, 1), obs=jnp.asarray(a))
    numpyro.sample("yb", dist.Normal(slope, 1), obs=jnp.asarray(b))


def test_observed_values_that_could_be_of_several_arguments_are_refused():
    zero = {"a": np.zeros(5), "b": np.zeros(5)}
    with pytest.raises(InputError, match="or equal those of several"):
        vb.calibrate(twice, ["nuts"], data=zero, sims=20)
    apart = NumPyroPosterior.of(twice, a=np.zeros(5), b=np.ones(5))
    assert set(apart.structure.places) == {"ya", "yb"}


def drawn_given_a_state(y):
    """What a discrete variable decides is in the data twice."""
    z = numpyro.sample("z", dist.Bernoulli(0.5))
    mu = numpyro.sample("mu", dist.Normal(jnp.where(z == 1, 3.0, -3.0), 1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(mu + 2 * z, 1), obs=y)


@pytest.mark.slow
def test_discrete_variables_are_drawn_once_for_parameters_and_data():
    """NUTS on one mode at a time: seen uniform, and Geweke's test left out."""
    data = {"y": np.zeros(3)}
    found = vb.calibrate(
        drawn_given_a_state, ["nuts"], data=data, sims=60, draws=50, geweke=20
    )
    assert found.rows["nuts"]["mu"].uniform
    assert "Geweke's test is left out" in found.notes["nuts"][-1]


def changed(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 2))
    numpyro.sample("y", dist.Normal(slope * x, 1), obs=y + 1)


def log_joint(theta, x, y):
    return -jnp.sum((y - theta["slope"] * x) ** 2)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (changed, {}, "'y' is a factor, or its values are none of the arguments"),
        (
            vb.from_log_joint(log_joint, {"slope": constraints.real}),
            {},
            "its prior is improper",
        ),
        (model, {"components": 3}, "is a setting of mixtures"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_one_line(model, options, told):
    with pytest.raises(InputError) as refused:
        vb.calibrate(model, ["nuts"], data=DATA, sims=20, **options)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_file_or_other_data_do_not_go_on(tmp_path):
    options = {"sims": 20, "chunk": 20, "independent": 20, "out": tmp_path / "c"}
    vb.calibrate(model, [exact], data=DATA, **options)
    known = json.loads((tmp_path / "c" / "settings.json").read_text())
    assert known["data_sha256"]
    other = DATA | {"x": 2 * X}
    with pytest.raises(InputError, match="data_sha256"):
        vb.calibrate(model, [exact], data=other, **options)
