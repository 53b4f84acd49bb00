"""The worked examples of docs/extending.md, by file, folder, entry point and Python."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vi_bench as vb
from tests.cli.test_cli import vi_bench
from tests.test_docs import blocks
from vi_bench import catalogue
from vi_bench.errors import InputError

SHORT = """
data = "trials.csv"
components = 2
draws = 100
chains = 2
repeats = 1
[methods.cavi]
restarts = 3
[methods.svi]
guide = "same-family"
steps = 200
bound_draws = 200
[methods.nuts]
warmup = 100
"""


@pytest.fixture
def place(tmp_path):
    model, counts, method = blocks("docs/extending.md", "python")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "geometric.py").write_text(model)
    (tmp_path / "folder" / "counts.py").write_text(counts)
    (tmp_path / "resampling.py").write_text(method)
    random = np.random.default_rng(0)
    rows = np.r_[
        random.geometric(0.7, size=(40, 2)), random.geometric(0.1, size=(40, 2))
    ]
    np.savetxt(tmp_path / "trials.csv", rows - 1, delimiter=",", fmt="%d")
    (tmp_path / "short.toml").write_text(SHORT)
    return tmp_path


@pytest.mark.slow
def test_a_model_by_folder_and_a_method_by_file(place):
    run = ("run", "short.toml", "--models", "folder", "--model", "geometric")
    done = vi_bench(*run, "--method", "resampling.py", "--out", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "out" / "summary.json").read_text())
    assert found["model"] == {"name": "geometric", "a": 1.0, "b": 1.0}
    assert list(found["methods"]) == ["cavi", "svi", "nuts", "resampling"]
    for label, method in found["methods"].items():
        assert method["outcome"] not in ("failed", "not finite"), (label, method)
    plugins = {p["name"]: p for p in found["plugins"]}
    assert plugins["geometric"]["origin"] == "geometric.py"
    assert len(plugins["resampling"]["sha256"]) == 64
    assert str(place) not in json.dumps(found)
    # both are independent of the kernel, so they must see the same posterior mean
    means = {
        label: found["methods"][label]["quantities"]["mean probability[x0]"]
        for label in ("nuts", "resampling", "cavi")
    }
    for label in ("resampling", "cavi"):
        gap = means[label]["mean"] - means["nuts"]["mean"]
        assert abs(gap) < 0.05, (label, means)
    files = ("--models", "folder", "--method", "resampling.py")
    again = vi_bench("rerun", "out", *files, "--quiet", cwd=place)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("bitwise the same") == 4


@pytest.mark.slow
def test_a_model_by_file_is_listed_and_run(place):
    done = vi_bench("list", "models", "--models", "folder", cwd=place)
    assert done.returncode == 0
    line = next(x for x in done.stdout.splitlines() if x.startswith("geometric"))
    assert "trials before the first success" in line
    assert "geometric.py" in line
    without = vi_bench("list", "models", cwd=place)
    own = set(done.stdout.splitlines()) - set(without.stdout.splitlines())
    assert {line.split()[0] for line in own} == {"geometric", "counts"}
    by_file = ("--model", "folder/geometric.py", "--methods", "cavi", "--quiet")
    done = vi_bench("run", "short.toml", *by_file, "--out", "out", cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_entry_point_is_found(place):
    """What pip leaves of an installed package: a module and its dist-info."""
    site = place / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "theirs.py").write_text((place / "folder" / "geometric.py").read_text())
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\nSummary: their own model\n"
    )
    (info / "entry_points.txt").write_text(
        "[vi_bench.models]\ntheir-model = theirs:Geometric\n"
    )
    listed = vi_bench("list", "models", cwd=place, PYTHONPATH=str(site))
    assert "their own model [entry point of theirs]" in listed.stdout
    run = ("run", "short.toml", "--model", "their-model", "--methods", "cavi")
    done = vi_bench(*run, "--out", "out", cwd=place, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "out" / "summary.json").read_text())
    assert found["plugins"][0]["origin"] == "entry point of theirs"


@pytest.mark.slow
def test_instances_from_python(place):
    sys.path.insert(0, str(place))
    sys.path.insert(0, str(place / "folder"))
    try:
        from geometric import Geometric
        from resampling import Resampling

        result = vb.run(
            Geometric(a=2.0),
            place / "trials.csv",
            [Resampling(proposals=2000), "cavi"],
            components=2,
            weights="dirichlet",
            reference="resampling",
            draws=100,
            repeats=1,
        )
    finally:
        sys.path[:2] = []
    assert result.summary["model"]["a"] == 2.0
    assert {p["origin"] for p in result.plugins} == {"Python"}
    assert result.comparison is not None
    weight = result.posterior["cavi"]["posterior"]["weight"]
    assert weight.dims == ("chain", "draw", "component")
    np.testing.assert_allclose(weight.sum("component"), 1.0)


def test_a_name_twice_is_refused(place):
    (place / "other").mkdir()
    for folder, text in (("other", "# another\n"), ("folder", "")):
        source = (place / "folder" / "geometric.py").read_text()
        (place / folder / "geometric.py").write_text(source + text)
    catalogue.add_folder(place / "folder")
    assert catalogue.add_file("model", place / "folder" / "geometric.py") == "geometric"
    with pytest.raises(InputError, match="have the same name"):
        catalogue.add_folder(place / "other")
    (place / "folder" / "poisson.py").write_text("MODEL = 1\n")
    with pytest.raises(InputError, match="have the same name"):
        catalogue.add_file("model", place / "folder" / "poisson.py")


def test_the_same_file_is_one_class(place):
    file = place / "folder" / "geometric.py"
    catalogue.add_file("model", file)
    first = catalogue.model("geometric")
    catalogue.add_file("model", Path(str(file)))
    assert catalogue.model("geometric") is first


@pytest.mark.parametrize(
    "what", ["models", "methods", "weights", "data", "experiments"]
)
def test_lists_have_a_line_each_and_load_nothing_heavy(what):
    code = (
        "import sys; from typer.testing import CliRunner; "
        "from vi_bench.cli.app import app; "
        f"r = CliRunner().invoke(app, ['list', {what!r}]); print(r.stdout); "
        "print(r.exit_code, 'numpyro' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *lines, last = done.stdout.strip().splitlines()
    assert last == "0 False False", done.stderr
    shown = [line for line in lines if line]
    assert len(shown) >= 3
    for line in shown:
        name, _, about = line.partition("  ")
        assert name
        assert about.strip(), line


def test_an_unknown_list_names_the_nearest(place):
    done = vi_bench("list", "model", cwd=place)
    assert done.returncode == 2
    assert "did you mean 'models'" in done.stderr
