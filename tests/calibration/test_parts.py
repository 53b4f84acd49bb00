"""The parts of a simulation, each against an independent way to the same number."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled import call, draw
from tests.marks import slow, slow_but
from vi_bench import catalogue
from vi_bench.calibration.priors import fixed_family, model_of, usual_prior
from vi_bench.calibration.programs import through
from vi_bench.calibration.settings import parsed, settle
from vi_bench.calibration.simulators import MixtureSimulator
from vi_bench.calibration.variational import marginals, normal_means, pairs
from vi_bench.data.table import Table, feature_names
from vi_bench.errors import InputError
from vi_bench.inference.linear_response import labels_of, linear_response, sds
from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.compared_quantities import quantities
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.symmetry import permute
from vi_bench.spec import Spec

FEATURES = 2


def template(name, weights="uniform", **given):
    settings = {"name": weights}
    spec = Spec(model=model_of({"name": name} | given), weights=settings)
    family = fixed_family(spec, FEATURES)
    nothing = np.zeros((0, FEATURES))
    mixture = bind(family, nothing, 2, jnp.float64, spec.mixing())
    return mixture, family.coordinates(feature_names(FEATURES))


def some_q(name, weights="uniform"):
    """A q that is nobody's optimum, 4000 draws from it, and a truth."""
    empty, coordinates = template(name, weights)
    truth = simulated(empty, 10, jax.random.key(3))
    mixture = call(empty, "with_rows", truth.rows)
    phi = jax.random.dirichlet(jax.random.key(4), jnp.ones(2), (10,))
    q = call(mixture, "from_responsibilities", phi)
    draws = draw(jax.random.key(5), mixture, q, (4000,))
    return mixture, coordinates, truth, q, draws


@partial(jax.jit, static_argnums=1)
def simulated(empty, rows, key):
    return MixtureSimulator(empty, rows, {}).joint(key)


def compiled(function, coordinates):
    """As one program, for these coordinates."""
    return jax.jit(lambda *arguments: function(*arguments, coordinates))


def optimum():
    """A fixed point of CAVI."""
    empty, coordinates = template("gaussian-diagonal", "dirichlet")
    mixture = empty.with_rows(simulated(empty, 30, jax.random.key(3)).rows)
    fit = jax.jit(lambda key: through(CAVI(restarts=3), mixture, key, 4).factors)
    return mixture, coordinates, fit(jax.random.key(5))


def test_every_family_that_ships_has_fixed_hyperparameters():
    known = catalogue.entries("model")
    for name in catalogue.families():
        if known[name].origin != "shipped":
            continue
        assert usual_prior(name), name


@pytest.mark.parametrize(
    "name", slow_but(["gaussian-full", "categorical"], catalogue.families())
)
def test_rows_from_the_prior_are_rows_of_the_family(name):
    empty, _ = template(name)
    truth = jax.jit(simulated, static_argnums=1)(empty, 20, jax.random.key(0))
    x = np.asarray(truth.rows)
    assert x.shape == (20, FEATURES)
    family = fixed_family(Spec(model=model_of({"name": name})), FEATURES)
    family.check(Table("simulated", x, feature_names(FEATURES)))


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["uniform", "dirichlet"])
def test_the_quantities_do_not_know_the_labels(weights):
    empty, coordinates = template("gaussian-diagonal", weights)
    truth = simulated(empty, 15, jax.random.key(2))
    mixture = call(empty, "with_rows", truth.rows)
    other = jax.jit(permute)(mixture, truth.theta, jnp.array([1, 0]))
    program = compiled(quantities, coordinates)
    one, two = (
        program(mixture, {n: v[None] for n, v in theta.items()})
        for theta in (truth.theta, other)
    )
    assert {"log joint", "log likelihood", "mean mu[x0]"} <= set(one)
    for label in one:
        np.testing.assert_allclose(one[label], two[label], rtol=1e-9, err_msg=label)


def test_rows_can_be_traced(random):
    empty, _ = template("gaussian")
    x = random.normal(size=(1030, FEATURES))
    x -= x.mean(axis=0)  # what `bind` would subtract
    family = fixed_family(Spec(model=model_of({"name": "gaussian"})), FEATURES)
    bound, q = bind(family, x, 2, jnp.float64), call(empty, "prior")
    traced = jax.jit(lambda x: empty.with_rows(x).step(q)[0])(x)
    np.testing.assert_allclose(traced, call(bound, "step", q)[0], rtol=1e-12)


@pytest.mark.parametrize("name", [slow("gaussian"), "gaussian-semiconjugate"])
def test_normal_means_are_those_of_the_draws(name):
    """4000 draws: within 4.5 errors of the mean, and 10 % of the sd."""
    mixture, coordinates, _, q, draws = some_q(name)
    known = compiled(normal_means, coordinates)(mixture, q)
    assert set(known) == {"mean mu[x0]", "mean mu[x1]"}
    values = compiled(quantities, coordinates)(mixture, draws)
    for label, (mean, sd) in known.items():
        found = np.asarray(values[label])
        assert abs(found.mean() - mean) < 4.5 * sd / np.sqrt(4000)
        assert found.std() == pytest.approx(float(sd), rel=0.1)


@pytest.mark.slow
def test_weights_that_are_drawn_leave_no_mean_normal():
    mixture, coordinates, _, q, _ = some_q("gaussian", "dirichlet")
    assert normal_means(mixture, q, coordinates) == {}


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("gaussian", {"mu"}),
        slow("gaussian-diagonal", {"precision"}),
        slow("poisson", {"rate"}),
        slow("categorical", {"probability_0", "probability_1"}),
    ],
)
def test_marginal_distribution_functions_are_those_of_the_draws(name, exact):
    """Each p within 4.5 errors of a share of 4000 draws."""
    mixture, coordinates, truth, q, draws = some_q(name, "dirichlet")
    assert set(marginals(mixture, q)) == exact
    compared = jax.jit(lambda q: pairs(mixture, q, draws, truth.theta, coordinates))
    by_q, by_draws = compared(q), compared(None)
    p = np.asarray(by_q["p"])
    error = np.sqrt(p * (1 - p) / 4000) + 1e-3
    assert np.all(np.abs(p - by_draws["p"]) < 4.5 * error)
    assert np.any(p != np.asarray(by_draws["p"]))


@pytest.mark.slow
def test_linear_response_in_a_trace_is_that_on_the_host():
    mixture, coordinates, q = optimum()
    host = linear_response(mixture, q, coordinates)
    assert not host.refused
    found = jax.jit(lambda q: sds(mixture, q, coordinates))(q)
    assert bool(found.strict)
    assert labels_of(mixture, q, coordinates) == host.labels
    np.testing.assert_allclose(found.corrected, list(host.sd.values()), rtol=1e-6)
    np.testing.assert_allclose(
        found.mean_field, list(host.mean_field_sd.values()), rtol=1e-6
    )
    off = q._replace(components=q.components * 1.01)
    assert not jax.jit(lambda q: sds(mixture, q, coordinates))(off).strict


def test_hyperparameters_that_only_data_give_are_refused(tmp_path):
    source = (catalogue.PACKAGE / "models" / "poisson.py").read_text()
    bare = re.sub(r"    calibration: .*\n", "", source)
    assert bare != source
    (tmp_path / "mine.py").write_text(bare)
    name = catalogue.add_file("model", tmp_path / "mine.py")
    with pytest.raises(InputError, match="shape is not set, and there are no data"):
        settle(name, {})
    settled = settle(name, {}, given={"shape": 2.0, "rate": 1.0})
    assert settled.model == {"name": name, "shape": 2.0, "rate": 1.0}


@pytest.mark.parametrize(
    ("model", "fields", "methods", "given", "message"),
    [
        ("gausian", {}, None, {}, "unknown model 'gausian'.*did you mean 'gaussian'"),
        ("gaussian", {"sims": 5}, None, {}, "sims = 5"),
        ("gaussian", {"level": 0.7}, None, {}, "level = 0.7"),
        ("gaussian", {"row": 5}, None, {}, "unknown key 'row'.*did you mean 'rows'"),
        ("gaussian", {}, ["cavi", "cavi"], {}, "named twice"),
        ("gaussian", {}, ["cavy"], {}, "unknown method 'cavy'"),
        ("gaussian", {}, {"cavi": {"restart": 2}}, {}, "unknown key 'restart'"),
        ("gaussian", {"weights": "flat"}, None, {}, "unknown weights 'flat'"),
        ("gaussian", {}, None, {"sigma": -1.0}, "sigma = -1.0"),
        ("gaussian", {}, None, {"tau": 1.0}, "unknown key 'tau'"),
        ("gaussian", {}, None, {"mean": (1.0, 2.0)}, "mean has 2 numbers"),
        ("nothing.toml", {}, None, {}, "there is no such file"),
    ],
)
def test_bad_settings_are_one_line(model, fields, methods, given, message):
    with pytest.raises(InputError, match=message) as caught:
        settle(model, fields, methods, given)
    assert "\n" not in str(caught.value)


def test_a_spec_file_gives_model_weights_and_settings_of_methods(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'components = 3\ndata = "faithful"\n'
        '[model]\nname = "gaussian"\nsigma = 3.0\n'
        '[weights]\nname = "dirichlet"\n[methods.cavi]\nrestarts = 2\n'
    )
    settled = settle(str(path), {"rows": 7}, ["cavi", "gibbs"])
    assert settled.model == {
        "name": "gaussian",
        **usual_prior("gaussian"),
        "sigma": 3.0,
    }
    assert settled.weights == {"name": "dirichlet"}
    assert settled.methods == {"cavi": {"restarts": 2}, "gibbs": {}}
    assert (settled.components, settled.rows) == (3, 7)


def test_hyperparameters_of_the_command_line():
    assert parsed(["sigma=3", "mean=[0.0, 1.0]"]) == {"sigma": 3, "mean": [0.0, 1.0]}
    for bad in ("sigma", "sigma=", "=3", "sigma=a"):
        with pytest.raises(InputError, match="expected name=value"):
            parsed([bad])
