import json
import shutil
import struct
import sys
import zipfile

import numpy as np
import pytest
from arviz_base import from_dict
from xarray import Dataset, DataTree

from vi_bench.draws import external, posteriordb
from vi_bench.draws.external import opened, read_draws
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
        ('[{"mu": [1.0], "mu": [2.0]}]', "'mu' is there twice"),
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
    refused(lambda: read_draws(written(tmp_path, "x", "a.txt")), "unknown kind")
    written(tmp_path, "{", "a.info.json")
    refused(lambda: read_draws(tmp_path / "a.json"), "a.info.json", "not JSON")


def test_a_dataset_without_groups_is_the_posterior(tmp_path, random):
    drawn = Dataset({"mu": (("chain", "draw"), random.normal(size=(2, 30)))})
    for path in (tmp_path / "flat.nc", tmp_path / "flat.zarr"):
        if path.suffix == ".nc":
            drawn.to_netcdf(path, engine="h5netcdf")
        else:
            drawn.to_zarr(path, consolidated=False)
        assert read_draws(path)["posterior"].to_dataset().equals(drawn)


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


def test_zipped_zarr_is_read(tmp_path, random):
    tree = from_dict({"posterior": {"mu": random.normal(size=(2, 5, 3))}})
    tree.to_zarr(tmp_path / "draws.zarr", consolidated=False)
    shutil.make_archive(str(tmp_path / "draws.zarr"), "zip", tmp_path / "draws.zarr")
    found = read_draws(tmp_path / "draws.zarr.zip")
    assert found["posterior"].equals(tree["posterior"])
    written(tmp_path, "x", "no.zarr.zip")
    refused(lambda: read_draws(tmp_path / "no.zarr.zip"), "no.zarr.zip", "not be read")


def test_large_groups_beside_the_posterior_are_not_read(tmp_path, random, monkeypatch):
    shape = (2, 50)
    tree = from_dict(
        {
            "posterior": {"mu": random.normal(size=shape)},
            "sample_stats": {"lp": random.normal(size=shape)},
            "log_likelihood": {"y": np.zeros((*shape, 300))},
        }
    )
    tree.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    monkeypatch.setattr(external, "LARGE", 10_000)
    monkeypatch.setattr(posteriordb, "MOST_BYTES", 100_000)
    found = read_draws(tmp_path / "a.nc")
    assert set(found.children) == {"posterior", "sample_stats"}
    assert found.attrs["not_read"] == "log_likelihood"


def test_what_is_in_memory_is_taken_as_it_is(random):
    arrays = {"mu": random.normal(size=(2, 5, 3)), "tau": np.ones((2, 5), int)}
    found = opened(arrays, "mine")["posterior"]
    assert found["mu"].dims == ("chain", "draw", "mu_dim_0")
    assert found["tau"].dims == ("chain", "draw")
    dataset = found.to_dataset()
    assert opened(dataset, "mine")["posterior"].equals(found)

    class Inference:
        """As ArviZ 0.x has it."""

        posterior = dataset
        sample_stats = dataset[["tau"]]

    assert set(opened(Inference(), "mine").children) == {"posterior", "sample_stats"}
    refused(lambda: opened(3, "mine"), "mine: a int", "expected a path")
    refused(lambda: opened({"mu": np.ones(3)}, "mine"), "'mu'", "(chain, draw, ...)")
    odd = {"a": np.ones((2, 5)), "b": np.ones((2, 6))}
    refused(lambda: opened(odd, "mine"), "mine: arrays do not fit")


CSV = """# stan_version_major = 2
# model = bernoulli_model
# method = sample (Default)
#   sample
#     num_samples = 3
#     num_warmup = 2
#     save_warmup = {save}
#     thin = 1 (Default)
lp__,accept_stat__,stepsize__,divergent__,energy__,theta,beta.1,beta.2,L.1.1,L.2.1
{warmup}# Adaptation terminated
# Step size = 0.9
-1,0.9,0.9,0,5,0.25,1,2,3,{last}
-2,0.8,0.9,1,6,0.5,3,4,5,6
-3,0.7,0.9,0,7,0.75,5,6,7,8
#
#  Elapsed Time: 0.01 seconds (Warm-up)
"""
WARMUP = "-9,0,1,0,9,9,9,9,9,9\n" * 2


def chains_of_cmdstan(folder, name="fit_{}.csv", saved=False, chains=2):
    for chain in range(1, chains + 1):
        text = CSV.format(
            save=int(saved), warmup=WARMUP if saved else "", last=10 * chain
        )
        written(folder, text, name.format(chain))


@pytest.mark.parametrize("saved", [False, True])
def test_csv_files_of_cmdstan_are_chains(tmp_path, saved):
    chains_of_cmdstan(tmp_path, saved=saved)
    for place in (tmp_path, tmp_path / "fit_*.csv"):
        tree = read_draws(place)
        posterior = tree["posterior"]
        assert posterior["theta"].to_numpy().tolist() == [[0.25, 0.5, 0.75]] * 2
        assert posterior["beta"].dims == ("chain", "draw", "beta_dim_0")
        assert posterior["beta"].coords["beta_dim_0"].to_numpy().tolist() == [1, 2]
        assert posterior["L"].to_numpy()[:, 0, :, 0].tolist() == [[3, 10], [3, 20]]
        assert tree["sample_stats"]["diverging"].to_numpy()[0].tolist() == [0, 1, 0]
        assert tree["sample_stats"]["lp"].to_numpy()[1].tolist() == [-1, -2, -3]
    one = read_draws(tmp_path / "fit_1.csv")
    assert one["posterior"].sizes["chain"] == 1


def test_csv_files_that_are_no_chains_of_one_fit_are_refused(tmp_path):
    chains_of_cmdstan(tmp_path)
    text = (tmp_path / "fit_1.csv").read_text()
    pattern = tmp_path / "fit_*.csv"
    written(tmp_path, text.replace("theta", "phi"), "fit_3.csv")
    refused(lambda: read_draws(pattern), "fit_3.csv", "other columns than fit_1.csv")
    written(tmp_path, text.replace("-3,0.7,0.9,0,7,0.75,5,6,7,8\n", ""), "fit_3.csv")
    refused(lambda: read_draws(pattern), "fit_3.csv", "2 draws, fit_1.csv has 3")
    written(tmp_path, "a,b\n1,2\n", "fit_3.csv")
    refused(lambda: read_draws(tmp_path / "fit_3.csv"), "no column lp__")
    written(tmp_path, text.replace("0.75", "x"), "fit_3.csv")
    refused(lambda: read_draws(tmp_path / "fit_3.csv"), "'theta' holds text")
    refused(lambda: read_draws(tmp_path / "none_*.csv"), "no file has such a name")
    for change, said in (
        (("method = sample", "method = optimize"), "method = optimize"),
        (("beta.1,beta.2", "theta,beta.2"), "column 'theta' is there twice"),
        ((",5,6,7,8\n", ",5\n"), "no value in draw 3"),
    ):
        written(tmp_path, text.replace(*change), "fit_3.csv")
        refused(lambda: read_draws(tmp_path / "fit_3.csv"), "fit_3.csv", said)
    written(tmp_path, "x", "fit_4.nc")
    refused(lambda: read_draws(tmp_path / "fit_*"), "expected CSV files alone")
