"""A run repeated from its folder: the same bits, the same numbers, or others."""

import json
import shutil

import pytest
import xarray
from typer.testing import CliRunner

import vi_bench as vb
from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.runner.rerun import Number, judged


@pytest.fixture
def copy(stored_run, tmp_path):
    return shutil.copytree(stored_run, tmp_path / "copy")


def change(folder, edit):
    path = folder / "summary.json"
    known = json.loads(path.read_text())
    edit(known)
    path.write_text(json.dumps(known))


@pytest.mark.slow
def test_the_same_run_has_the_same_bits(stored_run, tmp_path):
    found = vb.rerun(stored_run, out=tmp_path / "again")
    assert {r.word for r in found.methods.values()} == {"bitwise the same"}
    assert list(found.methods) == ["cavi", "my_gibbs"]
    assert (found.same, found.changes, found.note) == (True, {}, "")
    assert list(found.lines()) == [
        "cavi      bitwise the same",
        "my_gibbs  bitwise the same",
        "data, code, versions and machine are as they were",
    ]
    assert (tmp_path / "again" / "summary.json").is_file()


@pytest.mark.slow
def test_another_seed_gives_the_same_numbers_within_their_errors(copy):
    """Wrong once in a thousand data sets by the level `ALARM` of the test itself."""

    def edit(known):
        known["spec"]["seed"] = 7
        known["environment"]["packages"]["jax"] = "0.0.1"
        known["environment"]["cores"] = 1000
        known["provenance"]["git"] = {"commit": "0" * 40}
        known["provenance"]["threads"] = {"NPROC": "7"}

    change(copy, edit)
    found = vb.rerun(copy)
    words = {r.word for r in found.methods.values()}
    assert words == {"the same within Monte-Carlo error"}
    assert found.same
    for repeat in found.methods.values():
        assert "the farthest is" in repeat.sentence
        assert "too few" not in repeat.sentence  # all of them could be told
    changed = set(found.changes) - {"uncommitted changes"}  # as the tests' folder is
    assert changed == {"jax", "cores", "commit", "limits on threads"}
    said = "\n".join(found.lines())
    assert "jax: was 0.0.1, is 0.1" in said
    assert "cores: was 1000, is " in said
    assert f"commit: was {'0' * 40}, is " in said
    assert "limits on threads: was NPROC=7, is " in said


def shift_bound(copy):
    change(copy, lambda known: known["methods"]["cavi"].update(bound=-1.0))


def redraw(copy, edit):
    file = copy / "cavi.nc"
    with xarray.open_datatree(file, engine="netcdf4") as tree:
        tree.load()
    tree["posterior"]["mu"] = edit(tree["posterior"]["mu"])
    file.unlink()
    tree.to_netcdf(file, engine="netcdf4")


def shift_draws(copy):
    redraw(copy, lambda mu: mu + 0.3 * mu.std(("chain", "draw")))


def widen_draws(copy):
    def wider(mu):
        mean = mu.mean(("chain", "draw"))
        return mean + 1.2 * (mu - mean)

    redraw(copy, wider)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "said"),
    [(shift_bound, "bound"), (shift_draws, "mean of"), (widen_draws, "sd of")],
)
def test_other_numbers_are_seen(copy, harm, said):
    harm(copy)
    found = vb.rerun(copy)
    assert found.methods["cavi"].word == "different"
    assert said in found.methods["cavi"].sentence
    assert found.methods["my_gibbs"].word == "bitwise the same"
    assert not found.same


def test_numbers_without_enough_draws_tell_nothing():
    unsound = {"mean of a": Number(0.0, 1.0, sound=False)}
    assert judged(unsound, unsound, 3.0).word == "cannot tell"
    sound = {"bound": Number(-3.0, 1e-4), "mean of a": Number(5.0, 1.0)}
    found = judged(unsound | {"bound": Number(-3.0, 1e-4)}, sound, 3.0)
    assert found.word == "the same within Monte-Carlo error"
    assert found.sentence.endswith("; 1 more have too few effective draws to tell")


@pytest.mark.slow
def test_a_method_that_ended_otherwise_is_different(copy):
    (copy / "cavi.nc").unlink()
    change(copy, lambda known: known["methods"]["cavi"].update(outcome="failed"))
    found = vb.rerun(copy)
    assert found.methods["cavi"].word == "different"
    assert found.methods["cavi"].sentence == "was failed, is converged"


FEW = {"held_out": 10, "draws": 20, "repeats": 1}


@pytest.mark.slow
def test_held_out_rows_are_read_again(tmp_path):
    vb.run("gaussian", "galaxies", {"cavi": {"restarts": 1}}, out=tmp_path / "r", **FEW)
    found = vb.rerun(tmp_path / "r")
    assert found.methods["cavi"].word == "bitwise the same"
    assert found.note == (
        "data 'galaxies' were read again: held-out rows are not in the folder"
    )


@pytest.mark.slow
def test_code_is_named_again_or_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""CAVI again."""\nfrom vi_bench.methods.cavi import CAVI\n\n\n'
        "class METHOD(CAVI):\n    pass\n"
    )
    run, command = tmp_path / "r", CliRunner()
    with catalogue.scope():
        catalogue.add_file("method", file)
        vb.run("gaussian", "galaxies", {"mine": {"restarts": 1}}, out=run, **FEW)
    refused = command.invoke(app, ["rerun", str(run)])
    assert refused.exit_code == 2
    assert "method 'mine' of this run came from mine.py: name it" in refused.stderr
    assert "--method FILE" in refused.stderr
    file.write_text(file.read_text() + "# changed\n")
    again = ["rerun", str(run), "--method", str(file), "--quiet"]
    with catalogue.scope():
        done = command.invoke(app, again)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("mine  bitwise the same\nmethod mine: was ")
