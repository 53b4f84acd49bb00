"""A grid's cells: which there are, what names them, what is refused."""

import pytest

from vi_bench.errors import InputError
from vi_bench.sweeps.grid import key_of, points, read_sweep, sweep_of, versions

GRID = {
    "name": "s",
    "base": {"methods": {"cavi": {"restarts": 2}, "nuts": {}}, "components": 2},
    "grid": {
        "data": ["faithful", "galaxies"],
        "components": [2, 3],
        "seed": [0, 1],
    },
}


def test_every_combination_is_a_cell_in_the_files_order():
    found = [p.choice for p in points(sweep_of(GRID))]
    assert len(found) == 8
    assert found[0] == {"data": "faithful", "components": 2, "seed": 0}
    assert found[1] == {"data": "faithful", "components": 2, "seed": 1}
    assert found[-1] == {"data": "galaxies", "components": 3, "seed": 1}
    last = list(points(sweep_of(GRID)))[-1].spec
    assert (last.data, last.components, last.seed) == ("galaxies", 3, 1)
    assert last.methods["cavi"] == {"restarts": 2}


def test_exclusions_take_out_what_has_all_of_them():
    excluded = [{"data": "galaxies", "components": [3]}, {"seed": 1, "components": 2}]
    found = [p.choice for p in points(sweep_of(GRID | {"exclude": excluded}))]
    assert len(found) == 4
    assert {"data": "galaxies", "components": 3, "seed": 0} not in found
    assert {"data": "faithful", "components": 2, "seed": 1} not in found
    assert {"data": "faithful", "components": 3, "seed": 1} in found


def test_dots_lead_into_tables_and_leave_the_rest_alone():
    grid = {"methods.cavi.restarts": [1, 20], "model.sigma": [1.0], "weights": ["x"]}
    first = sweep_of(GRID | {"grid": grid | {"weights": ["dirichlet"]}})
    one, other = points(first)
    assert one.spec.methods == {"cavi": {"restarts": 1}, "nuts": {}}
    assert other.spec.methods == {"cavi": {"restarts": 20}, "nuts": {}}
    assert one.spec.model == {"sigma": 1.0}
    assert one.spec.weights == {"name": "dirichlet"}


def test_a_models_name_may_vary_beside_its_settings():
    grid = {"model.prior_scale": [2.0], "model": ["gaussian", "gaussian-full"]}
    values = {"base": {"model": "gaussian"}, "grid": grid}
    models = [p.spec.model for p in points(sweep_of(values))]
    assert models == [
        {"name": "gaussian", "prior_scale": 2.0},
        {"name": "gaussian-full", "prior_scale": 2.0},
    ]


def test_without_a_grid_there_is_one_cell():
    (only,) = points(sweep_of({"base": {"data": "iris"}}))
    assert only.choice == {}
    assert only.spec.data == "iris"


def test_points_do_not_share_their_tables():
    one, other = points(sweep_of(GRID | {"grid": {"seed": [0, 1]}}))
    one.spec.methods["cavi"]["restarts"] = 99
    assert other.spec.methods["cavi"]["restarts"] == 2


def test_a_file_names_its_sweep(tmp_path):
    (tmp_path / "paper.toml").write_text("[grid]\nseed = [0, 1]\n")
    assert read_sweep(tmp_path / "paper.toml").name == "paper"


def test_a_key_changes_with_what_changes_the_answer_and_with_nothing_else():
    (point,) = points(sweep_of({"base": {"data": "iris", "seed": 0}}))
    key = key_of(point.spec, "ab", "cpu")
    assert len(key) == 32
    assert key == key_of(point.spec, "ab", "cpu", versions())

    def other(**fields):
        return key_of(point.spec.model_copy(update=fields), "ab", "cpu")

    same = [other(name="n"), other(data="elsewhere.npy"), other(device="cpu")]
    assert set(same) == {key}
    changed = [
        other(seed=1),
        other(precision=32),
        other(components=3),
        other(methods={"nuts": {}, "cavi": {}, "svi": {}}),
        other(methods={"cavi": {"restarts": 2}}),
        key_of(point.spec, "ac", "cpu"),
        key_of(point.spec, "ab", "NVIDIA H100"),
        key_of(point.spec, "ab", "cpu", versions() | {"jax": "0.0"}),
    ]
    assert len({key, *changed}) == len(changed) + 1


def test_simulated_data_follow_the_cells_own_components_and_seed():
    data = "simulate:K={components},d=2,N=40,separation=4,seed={seed}"
    sweep = sweep_of({"base": {"data": data}, "grid": {"components": [2, 3]}})
    assert [p.spec.data for p in points(sweep)] == [
        f"simulate:K={k},d=2,N=40,separation=4,seed=0" for k in (2, 3)
    ]
    listed = sweep_of({"grid": {"data": [data, "faithful"], "seed": [7]}})
    assert [p.spec.data for p in points(listed)] == [
        "simulate:K=2,d=2,N=40,separation=4,seed=7",
        "faithful",
    ]


def test_names_of_files_follow_a_cells_model():
    grid = {"model": ["poisson", {"name": "bernoulli"}], "seed": [3]}
    sweep = sweep_of({"base": {"data": "rows/{model}-{seed}.csv"}, "grid": grid})
    found = [p.spec.data for p in points(sweep)]
    assert found == ["rows/poisson-3.csv", "rows/bernoulli-3.csv"]


def test_experiments_are_a_field_of_the_grid():
    """Their fields come first, then those of base, then the combination's."""
    base = {"draws": 500, "methods": ["cavi", "nuts"]}
    grid = {"experiment": ["eight-schools", "galaxies"], "margin": [0.05, 0.1]}
    schools, _, _, galaxies = points(sweep_of({"base": base, "grid": grid}))
    assert schools.choice == {"experiment": "eight-schools", "margin": 0.05}
    assert schools.spec.numpyro == "hierarchical-normal"
    assert galaxies.spec.model["name"] == "gaussian-semiconjugate"
    assert (galaxies.spec.draws, galaxies.spec.margin) == (500, 0.1)
    assert list(galaxies.spec.methods) == ["cavi", "nuts"]
    (alone,) = points(sweep_of({"base": base | {"experiment": "galaxies"}}))
    assert alone.spec.components == 3


def test_an_unknown_experiment_is_refused():
    sweep = sweep_of({"grid": {"experiment": ["galaxy"]}})
    with pytest.raises(InputError, match=r"experiment 'galaxy'.*galaxies"):
        list(points(sweep))


def test_replications_have_seeds_of_their_own_whatever_else_is_in_the_grid():
    data = "simulate:K={components},d=2,N=40,overlap=0.1,seed={seed}"
    values = {
        "base": {"data": data},
        "grid": {"components": [2, 3], "chains": [1, 2]},
        "replications": 20,
    }
    found = list(points(sweep_of(values)))
    assert len({p.spec.seed for p in found}) == len(found) == 80
    assert all(p.spec.data.endswith(f"seed={p.spec.seed}") for p in found)
    grown = values | {"replications": 21}
    grown["grid"] = values["grid"] | {"components": [2, 3, 4]}
    again = {p.spec.data for p in points(sweep_of(grown))}
    assert {p.spec.data for p in found} < again


@pytest.mark.parametrize("place", ["base", "grid"])
def test_replications_beside_a_seed_are_refused(place):
    values = {place: {"seed": [0] if place == "grid" else 0}, "replications": 2}
    with pytest.raises(InputError, match="expected no seed beside it"):
        sweep_of(values)
