"""The doctor finds what does not work, and says what to do."""

import json
import re

import jax
import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from vi_bench.cli.app import app
from vi_bench.runtime import doctor


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder for compiled programs, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "import_module", lambda name: None)  # slow
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def invoke(*options):
    done = CliRunner().invoke(app, ["doctor", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done


def test_where_all_is_well_it_says_so_and_leaves_nothing(cache, tmp_path):
    done = invoke()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("everything works\n")
    assert "computes in 64 bits" in done.stdout
    assert not (tmp_path / "results").exists()
    told = json.loads(invoke("--json").stdout)
    assert told["well"]
    assert told["problems"] == []
    assert told["packages"]["jax"] == jax.__version__
    assert told["processor"]["cores"] >= 1
    assert {e["package"] for e in told["extras"]} >= {"pyarrow", "zarr", "distributed"}


def test_programs_that_are_kept_are_counted(cache):
    cache.mkdir()
    (cache / "a-cache").write_bytes(b"12345")
    (cache / "a-atime").write_bytes(b"123")
    found, problems = doctor.cache()
    assert (found["programs"], found["bytes"], problems) == (1, 8, [])


def test_folders_that_cannot_be_written_come_first_each_with_a_remedy(cache, tmp_path):
    cache.write_text("a file")
    (tmp_path / "results").write_text("another")
    done = invoke()
    assert done.exit_code == 1
    first, *_ = done.stdout.splitlines()
    assert first.startswith("problem     compiled programs are not kept")
    assert "JAX_COMPILATION_CACHE_DIR=FOLDER" in done.stdout
    assert done.stdout.index("with --out") < done.stdout.index("python  ")
    told = invoke("--json")
    assert told.exit_code == 1
    told = json.loads(told.stdout)
    assert not told["well"]
    assert not told["cache"]["writable"]
    assert not told["results"]["writable"]
    assert [set(problem) for problem in told["problems"]] == [{"what", "remedy"}] * 2


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.unwritable(tmp_path / "file" / "a" / "b") == "Not a directory"
    assert doctor.unwritable(tmp_path / "new" / "deep") == ""
    assert not (tmp_path / "new").exists()


def test_numbers_of_32_bits_are_found(monkeypatch):
    from vi_bench.runtime import environment

    device = jax.local_devices()[0]
    assert doctor._miscomputed(device) == ""
    honest = environment.computing
    monkeypatch.setattr(environment, "computing", lambda device, _: honest(device, 32))
    with jax.enable_x64(False):
        assert "does not compute in 64 bits" in doctor._miscomputed(device)


def test_a_device_that_cannot_compute_is_found(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(jax, "jit", broken)
    (problem,) = [p for p in doctor.devices()[1] if "compute" in p.what]
    assert "cannot compute: RuntimeError: out of memory" in problem.what


def test_where_jax_finds_nothing_the_rest_is_told(cache, monkeypatch):
    def none(**_):
        raise RuntimeError("Unknown backend: 'cuda'")

    monkeypatch.setattr(jax, "local_devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    done = invoke()
    assert done.exit_code == 1
    first, remedy = done.stdout.splitlines()[:2]
    assert "JAX finds no device: RuntimeError: Unknown backend" in first
    assert "unset JAX_PLATFORMS, which is 'cuda'" in remedy
    assert "\npackages " in done.stdout


def test_a_card_that_jax_does_not_see_is_found(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path)
    only = jax.local_devices(backend="cpu")
    monkeypatch.setattr(jax, "local_devices", lambda: only)
    (problem,) = doctor.devices()[1]
    assert "vi-bench[cuda]" in problem.remedy


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("numpy>=2000", r"numpy is .*; vi-bench needs numpy>=2000"),
        ("no-such-package>=3", r"no-such-package is not installed"),
    ],
)
def test_versions_that_do_not_fit_are_found(need, said, cache, monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda _: [need])
    (problem,) = doctor.packages(load=True)[1]
    assert re.search(said, problem.what)
    assert problem.remedy == f"pip install '{need}'"


def test_what_cannot_be_imported_is_found(monkeypatch):
    def broken(name):
        raise ImportError(f"cannot load {name}")

    monkeypatch.setattr(doctor, "import_module", broken)
    (problem,) = doctor._unloadable(Requirement("scikit-learn>=1.7"), ["sklearn"])
    assert problem.what == (
        "sklearn cannot be imported: ImportError: cannot load sklearn"
    )


def test_extras_are_not_asked_for_but_their_versions_are(monkeypatch):
    needs = ['zarr>=2000; extra == "zarr"', 'no-such>=1; extra == "parquet"']
    monkeypatch.setattr(doctor, "requires", lambda _: needs)
    found, problems = doctor.extras()
    assert {e["package"]: bool(e["version"]) for e in found}["no-such"] is False
    (problem,) = problems
    assert "zarr>=2000" in problem.what
