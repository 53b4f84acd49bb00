import inspect

import pytest

from vi_bench import catalogue
from vi_bench.errors import InputError
from vi_bench.methods.svi import SVI
from vi_bench.models.gaussian import Gaussian
from vi_bench.runner.specify import specify
from vi_bench.spec import Spec, assumed, build, make, read


def toml(folder, text):
    path = folder / "spec.toml"
    path.write_text(text)
    return str(path)


FULL_RANK = {
    "breast-cancer",
    "breast-cancer-probit",
    "diabetes",
    "eight-schools",
    "nile",
    "notebook",
    "velocities",
    "waiting",
    "whiteside",
}
"""Built-in experiments with SVI's full-rank guide beside the mean-field one."""


@pytest.mark.parametrize("name", catalogue.experiments())
def test_built_in_experiments_are_valid(name):
    spec = read(name, {})
    assert spec.name == name
    more = ["gibbs", "smc"] if name == "corners" else []
    full = ["full-rank"] if name in FULL_RANK else []
    assert list(spec.inference()) == ["cavi", "svi", *full, "nuts", *more]
    assert spec.family().summary
    assert spec.mixing()


def test_a_file_with_overrides(tmp_path):
    path = toml(
        tmp_path,
        """
        data = "iris"
        components = 3
        [model]
        name = "gaussian"
        sigma = 2
        [methods.cavi]
        restarts = 7
        [methods.rich]
        method = "svi"
        guide = "full-rank"
        """,
    )
    spec = read(path, {"components": 4, "seed": None, "methods": ["rich", "cavi"]})
    assert spec.components == 4
    assert spec.seed == 0
    assert spec.family() == Gaussian(sigma=2.0)
    found = spec.inference()
    assert list(found) == ["rich", "cavi"]
    assert found["rich"].guide == "full-rank"
    assert found["cavi"].restarts == 7
    assert spec.held_against is None


def test_names_are_enough_for_what_has_settings(tmp_path):
    text = "methods = ['nuts', 'cavi']\nmodel = 'poisson'\nweights = 'dirichlet'"
    path = toml(tmp_path, text)
    spec = read(path, {})
    assert list(spec.inference()) == ["nuts", "cavi"]
    assert spec.model == {"name": "poisson"}
    assert spec.weights == {"name": "dirichlet"}
    assert list(read(path, {"methods": ["svi"]}).methods) == ["svi"]


def test_unknown_experiments_and_files(tmp_path):
    with pytest.raises(InputError, match="did you mean 'faithful'"):
        read("faithfull", {})
    with pytest.raises(InputError, match="no such file"):
        read(str(tmp_path / "none.toml"), {})


def test_methods_may_not_be_named_twice():
    with pytest.raises(InputError, match="named twice"):
        read("faithful", {"methods": ["cavi", "cavi"]})


def test_python_objects_give_the_same_spec():
    spec, table = specify(
        Gaussian(sigma=3.0),
        [[1.0], [2.0]],
        ["cavi", SVI(steps=10)],
        {"components": 1},
    )
    assert table is not None
    assert spec.family() == Gaussian(sigma=3.0)
    assert spec.inference()["svi"] == SVI(steps=10)
    with pytest.raises(InputError, match="expected a list"):
        specify("gaussian", "iris", "cavi", {})
    with pytest.raises(InputError, match="neither a name nor settings"):
        specify("gaussian", "iris", {"cavi": 3}, {})
    with pytest.raises(InputError, match="expected a name"):
        specify(3, "iris", None, {})


def test_settings_given_in_python_are_checked_too():
    spec, _ = specify("gaussian", "iris", [SVI(steps=0)], {})
    with pytest.raises(InputError, match="steps = 0"):
        spec.inference()


def test_a_spec_survives_a_round_trip():
    spec = read("iris", {"seed": 3})
    assert make(spec.model_dump(mode="json"), "again") == spec


def test_build_keeps_defaults():
    assert build(SVI, {}, "x") == SVI()


def test_a_file_of_data_is_a_spec_with_usual_settings():
    found = read("some/where/mine.csv", {"components": 3})
    assert (found.data, found.name, found.components) == (
        "some/where/mine.csv",
        "mine",
        3,
    )
    assert found.standardise
    assert found.model == {"name": "gaussian-full"}
    assert list(found.methods) == ["cavi", "svi", "nuts"]
    told = assumed("mine.csv", {"components": 3})
    assert told.startswith("assumed for mine.csv: model gaussian-full; weights")
    assert "components = 2" in assumed("mine.csv", {})


def test_what_was_asked_for_of_a_file_of_data_is_not_assumed():
    asked = {"components": 2, "model": "poisson", "weights": "uniform"}
    found = read("mine.npy", asked | {"methods": ["gibbs"]})
    assert not found.standardise  # counts stay what they are
    assert found.model == {"name": "poisson"}
    assert assumed("mine.npy", asked | {"methods": ["gibbs"]}) == ""
    with pytest.raises(InputError, match=r"'mine\.csv' is a file of data; --data"):
        read("mine.csv", {"data": "other.csv"})


def test_a_run_has_the_margins_of_a_comparison_of_arrays():
    from vi_bench.cli.compare import compare as command
    from vi_bench.comparison import Margin

    assert Margin(Spec().margin, Spec().sd_margin) == Margin()
    for name in ("margin", "sd_margin"):
        default = inspect.signature(command).parameters[name].default
        assert default == Spec().margin
