import json
import struct
import sys
import zipfile

import numpy as np
import pytest
from arviz_base import from_dict
from xarray import Dataset, DataTree

from vi_bench.comparison import Sample, compare
from vi_bench.draws import external, posteriordb
from vi_bench.draws.external import comparable, read_draws, sample_of
from vi_bench.errors import InputError

NAME = "low_dim_gauss_mix-low_dim_gauss_mix"
INFO = {"name": NAME, "checks_made": {"r_hat_below_1_01": True}}


def chain(random, draws=30):
    sigma = [f"sigma[{i},{j}]" for j in (1, 2, 3) for i in (2, 1)]
    names = ["mu[2]", "mu[1]", *sigma, "theta"]
    return {name: random.normal(size=draws).tolist() for name in names}


@pytest.fixture
def chains(random):
    return [chain(random) for _ in range(3)]


def refused(call, *words):
    """One line, with all of the words."""
    with pytest.raises(InputError) as found:
        call()
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def written(folder, content, name="draws.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def zipped(folder, members, name=f"{NAME}.json.zip"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def check(tree, chains):
    posterior = tree["posterior"]
    assert posterior["mu"].dims == ("chain", "draw", "mu_dim_0")
    assert posterior["sigma"].dims == ("chain", "draw", "sigma_dim_0", "sigma_dim_1")
    assert posterior["theta"].dims == ("chain", "draw")
    for c, given in enumerate(chains):
        for name, draws in given.items():
            variable, _, index = name.partition("[")
            where = [int(i) for i in index.rstrip("]").split(",") if i]
            labels = {f"{variable}_dim_{j}": i for j, i in enumerate(where)}
            found = posterior[variable].sel(chain=c, **labels)
            np.testing.assert_array_equal(found, draws)


def test_posteriordb_draws_as_json_zip_and_folder(chains, tmp_path):
    text = json.dumps(chains)
    plain = written(tmp_path, text)
    check(read_draws(plain), chains)
    assert "posteriordb" not in read_draws(str(plain)).attrs
    inside = {f"{NAME}.json": text, f"__MACOSX/._{NAME}.json": "", "README": ""}
    check(read_draws(zipped(tmp_path, inside, "any.zip")), chains)
    root = tmp_path / "database"
    place = root / "reference_posteriors" / "draws"
    path = zipped(place / "draws", {f"{NAME}.json": text})
    (place / "info").mkdir()
    written(place / "info", INFO, f"{NAME}.info.json")
    for start in (root, place, place / "draws", path):
        tree = read_draws(start)
        check(tree, chains)
        assert json.loads(tree.attrs["posteriordb"]) == INFO


def test_what_was_read_can_be_written_and_read_again(chains, tmp_path):
    tree = read_draws(written(tmp_path, chains))
    tree.attrs["posteriordb"] = json.dumps(INFO)
    folder = tmp_path / "one"
    folder.mkdir()
    tree.to_netcdf(folder / "draws.nc", engine="h5netcdf")
    again = read_draws(folder)
    (folder / "draws.nc").unlink()  # all is in memory
    check(again, chains)
    assert again.attrs["posteriordb"] == json.dumps(INFO)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "no list of chains"),
        ("[]", "no list of chains"),
        ([{}], "not an object of named lists"),
        ([1], "not an object of named lists"),
        ([{"mu": []}], "no draws"),
        ([{"mu": []}, {"mu": []}], "no draws"),
        ([{"mu": 1.0}], "'mu' of chain 1 is not a list of numbers"),
        ([{"mu": [1.0, "a"]}], "not a list of numbers"),
        ([{"mu": ["1.0"]}], "not a list of numbers"),
        ([{"mu": [1.0, None]}], "not a list of numbers"),
        ([{"mu": [[1.0], [2.0, 3.0]]}], "not a list of numbers"),
        ([{"mu": [[1.0], [2.0]]}], "not a list of numbers"),
        ([{"mu": [True, False]}], "not a list of numbers"),
        ([{"mu": [10**400]}], "not a list of numbers"),
        ([{"mu": [1.0]}, {"mu": [1.0, 2.0]}], "lists of 1 and of 2 draws"),
        ([{"mu": [1.0], "sd": [1.0, 2.0]}], "lists of 1 and of 2 draws"),
        ([{"mu": [1.0]}, {"sd": [1.0]}], "'mu' is not in every chain"),
        ([{"mu[1]": [1.0], "mu[3]": [1.0]}], "mu[2] is missing"),
        ([{"mu[999999999]": [1.0]}], "mu[1] is missing"),
        ([{"s[1,1]": [1.0], "s[2,2]": [1.0]}], "s[1,2] is missing"),
        ([{"mu[0]": [1.0], "mu[1]": [1.0]}], "index 0"),
        ([{"mu": [1.0], "mu[1]": [1.0]}], "of 0 and 1 indices"),
        ([{"mu[1]": [1.0], "mu[1,1]": [1.0]}], "of 1 and 2 indices"),
        ([{"draw": [1.0]}], "cannot be the name"),
        ([{"a/b": [1.0]}], "cannot be the name"),
        ([{"": [1.0]}], "cannot be the name"),
    ],
)
def test_json_that_is_no_draws_is_refused(content, said, tmp_path):
    path = written(tmp_path, content)
    refused(lambda: read_draws(path), "draws.json", said, "expected a list of chains")


def test_zips_that_are_not_what_they_seem_are_refused(chains, tmp_path, monkeypatch):
    text = json.dumps(chains)
    for members, said in (
        ({}, "found none"),
        ({"README.md": "x"}, "found none"),
        ({"a.json": text, "b.json": text}, "found 'a.json', 'b.json'"),
        ({"../a.json": text}, "'../a.json' points out of the zip"),
        ({"/a.json": text}, "points out of the zip"),
        ({"a.json": "["}, "not JSON"),
    ):
        path = zipped(tmp_path, members)
        refused(lambda path=path: read_draws(path), f"{NAME}.json.zip", said)
    refused(lambda: read_draws(written(tmp_path, text, "no.zip")), "not a zip")
    path = zipped(tmp_path, {"a.json": text})
    whole = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:100] + whole[-100:])
    refused(lambda: read_draws(tmp_path / "cut.zip"), "cut.zip", "be read")
    # the flag of encryption, in the local header and in the directory
    locked = bytearray(whole)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", locked, locked.index(mark) + at, 1)
    (tmp_path / "locked.zip").write_bytes(locked)
    refused(lambda: read_draws(tmp_path / "locked.zip"), "encrypted")
    monkeypatch.setattr(posteriordb, "MOST_BYTES", len(text) - 1)
    refused(lambda: read_draws(path), "unpacks to over")
    refused(lambda: read_draws(written(tmp_path, text)), "unpacks to over")
    lying = bytearray(whole)  # a size that the directory does not admit
    struct.pack_into("<I", lying, lying.index(b"PK\x01\x02") + 24, 10)
    (tmp_path / "lying.zip").write_bytes(lying)
    refused(lambda: read_draws(tmp_path / "lying.zip"), "lying.zip")


def test_folders_that_do_not_hold_one_file_are_refused(chains, tmp_path):
    refused(lambda: read_draws(tmp_path), "holds no draws")
    written(tmp_path, INFO, f"{NAME}.info.json")
    refused(lambda: read_draws(tmp_path), "holds no draws")
    written(tmp_path, chains, "a.json")
    check(read_draws(tmp_path), chains)
    zipped(tmp_path, {"b.json": "[]"}, "b.json.zip")
    refused(lambda: read_draws(tmp_path), "pass one of a.json, b.json.zip")
    refused(lambda: read_draws(tmp_path / "none.nc"), "no such file")
    refused(lambda: read_draws(written(tmp_path, "x", "a.csv")), "unknown kind")
    written(tmp_path, "{", "a.info.json")
    refused(lambda: read_draws(tmp_path / "a.json"), "a.info.json", "not JSON")


def test_trees_that_are_not_posteriors_are_refused(tmp_path, monkeypatch):
    refused(lambda: read_draws(written(tmp_path, "text", "a.nc")), "not an HDF5 file")
    path = tmp_path / "b.nc"
    DataTree.from_dict({"prior": Dataset()}).to_netcdf(path, engine="h5netcdf")
    refused(lambda: read_draws(path), "b.nc", "no posterior group", "prior")
    flat = Dataset({"mu": ("sample", np.zeros(3))})
    DataTree.from_dict({"posterior": flat}).to_netcdf(path, engine="h5netcdf")
    refused(lambda: read_draws(path), "b.nc", "'mu'", "sample", "chain and draw")
    DataTree.from_dict({"posterior": Dataset()}).to_netcdf(path, engine="h5netcdf")
    refused(lambda: read_draws(path), "no variables")
    large = from_dict({"posterior": {"mu": np.zeros((2, 100))}})
    large.to_netcdf(path, engine="h5netcdf")
    monkeypatch.setattr(posteriordb, "MOST_BYTES", 1000)
    refused(lambda: read_draws(path), "unpacks to over")


def test_zarr_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "zarr.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setattr(external.importlib.util, "find_spec", lambda _: None)
    refused(lambda: read_draws(tmp_path), "install zarr")


def test_zarr_folders_are_read(tmp_path, random):
    tree = from_dict({"posterior": {"mu": random.normal(size=(2, 5, 3))}})
    tree.to_zarr(tmp_path / "draws.zarr", consolidated=False)
    found = read_draws(tmp_path / "draws.zarr")
    assert found["posterior"].equals(tree["posterior"])


def mixture(random, shape=(2, 50), **more):
    mu = random.normal(size=(*shape, 2, 3)) + np.array([[-5.0], [5.0]])
    w = random.dirichlet([3.0, 3.0], size=shape)
    posterior = {"mu": mu, "weight": w, "scale": random.normal(size=shape)}
    return from_dict(
        {
            "posterior": posterior | more,
            "sample_stats": {
                "lp": random.normal(size=shape),
                "log_joint": random.normal(size=shape),
                "diverging": np.arange(np.prod(shape)).reshape(shape) < 10,
            },
        },
        coords={"component": [0, 1], "feature": ["x", "y", "z"]},
        dims={"mu": ["component", "feature"], "weight": ["component"]},
    )


def test_a_tree_becomes_a_sample(random):
    tree = mixture(random)
    found = sample_of(tree)
    assert set(found.columns) == {"mu[x]", "mu[y]", "mu[z]", "weight"}
    assert set(found.shared) == {"scale"}
    posterior = tree["posterior"]
    np.testing.assert_array_equal(found.columns["mu[y]"], posterior["mu"][..., 1])
    np.testing.assert_array_equal(found.columns["weight"], posterior["weight"])
    np.testing.assert_array_equal(found.log_joint, tree["sample_stats"]["log_joint"])
    assert found.divergent == 0.1
    some = sample_of(tree, variables=["mu"])
    assert set(some.columns) | set(some.shared) == {"mu[x]", "mu[y]", "mu[z]"}


def test_the_component_s_axis_may_stand_anywhere_and_have_several_names(random):
    tree = mixture(random)
    turned = tree["posterior"].to_dataset().transpose("feature", "component", ...)
    again = sample_of(DataTree.from_dict({"posterior": turned}))
    for label, draws in sample_of(tree).columns.items():
        np.testing.assert_array_equal(again.columns[label], draws)
    assert again.log_joint is None
    assert again.divergent == 0
    named = from_dict(
        {
            "posterior": {
                "mu": random.normal(size=(2, 5, 2)),
                "pi": np.full((2, 5, 2), 0.5),
                "z": np.ones((2, 5, 7), int),
            }
        }
    )
    found = sample_of(named, component_dim=("mu_dim_0", "pi_dim_0"), weight="pi")
    assert set(found.columns) == {"mu", "weight"}
    assert not found.shared
    whole = sample_of(named, component_dim="mu_dim_0", variables=["mu", "z"])
    assert len(whole.shared) == 7


def test_lp_is_not_taken_for_the_log_joint(random):
    tree = mixture(random)
    del tree["sample_stats"]["log_joint"]
    assert sample_of(tree).log_joint is None


def test_draws_of_one_chain_may_lack_the_chain(random):
    tree = mixture(random)
    one = {
        name: tree[name].to_dataset().isel(chain=0, drop=True)
        for name in ("posterior", "sample_stats")
    }
    found = sample_of(DataTree.from_dict(one))
    whole = sample_of(tree)
    np.testing.assert_array_equal(found.columns["mu[x]"], whole.columns["mu[x]"][:1])
    np.testing.assert_array_equal(found.log_joint, whole.log_joint[:1])
    stacked = tree["posterior"].to_dataset().stack(sample=["chain", "draw"])
    flat = DataTree.from_dict({"posterior": stacked.reset_index("sample")})
    refused(lambda: sample_of(flat), "sample", "expected chain and draw")


def test_trees_that_cannot_be_compared_are_refused(random):
    tree = mixture(random)
    refused(lambda: sample_of(DataTree(), label="mine"), "mine: no posterior group")
    refused(
        lambda: sample_of(tree, component_dim="k"), "dimension k", "component, feature"
    )
    turned = tree["posterior"].to_dataset().expand_dims(k=2, axis=-1)
    refused(
        lambda: sample_of(DataTree.from_dict({"posterior": turned}), component_dim="k"),
        "'component' of 'mu'",
        "rename it",
    )
    refused(lambda: sample_of(tree, variables=["mv"]), "'mv'", "did you mean 'mu'")
    refused(lambda: sample_of(tree, weight="wieght"), "did you mean 'weight'")
    refused(lambda: sample_of(tree, weight="scale"), "both 'scale' and 'weight'")
    refused(
        lambda: sample_of(tree, component_dim=["component", "feature"]),
        "'mu' has several dimensions of components",
    )
    broken = mixture(random)
    broken["posterior"]["mu"][1, 7, 0, 0] = np.nan
    refused(lambda: sample_of(broken), "'mu' is not finite in chain 1, draw 7")
    broken = mixture(random)
    broken["sample_stats"]["log_joint"][0, 3] = np.inf
    refused(lambda: sample_of(broken), "'log_joint' is not finite in chain 0, draw 3")
    broken = mixture(random)
    broken["sample_stats"] = DataTree(
        broken["sample_stats"].to_dataset().isel(draw=slice(5))
    )
    refused(lambda: sample_of(broken), "(2, 5)", "(2, 50)")
    broken = mixture(random)
    broken["posterior"]["weight"] = 2 * broken["posterior"]["weight"]
    refused(lambda: sample_of(broken), "must sum to 1")
    vector = from_dict(
        {"posterior": {"mu": np.zeros((2, 5, 2)), "pi": np.zeros((2, 5))}}
    )
    refused(
        lambda: sample_of(vector, component_dim="mu_dim_0", weight="pi"),
        "one dimension, of the components",
    )
    uneven = from_dict(
        {"posterior": {"a": np.zeros((2, 5, 2)), "b": np.zeros((2, 5, 3))}}
    )
    refused(
        lambda: sample_of(uneven, component_dim=["a_dim_0", "b_dim_0"]),
        "'a' 2, 'b' 3",
    )
    words = tree["posterior"].to_dataset()
    words["t"] = (("chain", "draw"), np.full((2, 50), "x"))
    words = DataTree.from_dict({"posterior": words})
    refused(lambda: sample_of(words, variables=["mu", "t"]), "'t' holds <U1")


def test_samples_keep_what_all_of_them_have(random):
    one = sample_of(mixture(random))
    other = sample_of(mixture(random), variables=["mu", "scale"])
    kept, left_out = comparable({"a": one, "b": other})
    assert left_out == ["weight"]
    for sample in kept.values():
        assert set(sample.columns) == {"mu[x]", "mu[y]", "mu[z]"}
        assert set(sample.shared) == {"scale"}
    assert kept["a"].log_joint is one.log_joint
    assert compare(kept, "b").verdicts["a"]
    assert comparable({"a": one})[1] == []


def test_samples_of_different_mixtures_are_refused():
    two = Sample({"mu": np.zeros((2, 5, 2))}, {"sd": np.ones((2, 5))})
    three = Sample({"mu": np.zeros((2, 5, 3))})
    inside_out = Sample({"sd": np.zeros((2, 5, 2)), "mu": np.zeros((2, 5, 2))})
    other = Sample({"nu": np.zeros((2, 5, 2))})
    refused(
        lambda: comparable({"a": two, "b": three}),
        "'mu' is of 2 components in a and of 3 components in b",
    )
    refused(
        lambda: comparable({"a": two, "b": inside_out}),
        "'sd' is shared by the components in a and of 2 components in b",
    )
    refused(
        lambda: comparable({"a": two, "b": other}), "in all of the draws", "a: mu, sd"
    )
