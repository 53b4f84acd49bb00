"""The structure: which way imports point, what ships, what is public."""

import ast
import importlib
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest

import vi_bench

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vi_bench"

LAYERS = [
    {"errors", "pages", "documents", "compiler", "provenance", "terminal"},
    {"rows"},
    {"table"},
    {"contract", "data", "folder", "cluster", "checkpoint", "posteriordb", "progress"},
    {"streams", "special"},
    {"conjugate", "weights", "blocks", "mixture_pass", "fused", "environment"},
    {"mixture", "iterate"},
    {"starts", "numpyro_model", "models", "symmetry"},
    {"enumeration"},
    {
        "methods",
        "comparison",
        "timing",
        "tree",
        "catalogue",
        "response",
        "evaluate",
        "invariants",
    },
    {"spec", "external"},
    {"pythonic", "kernel"},
    {"verification", "calibration"},
    {"result", "record", "report", "predictive", "publish"},
    {"runner", "inference", "optima", "reference"},
    {"api", "testing"},
    {"sweeps", "repeat", "doctor"},
    {"overview"},
    {"commands"},
    {"cli"},
]
"""Lowest first; a module imports only from its own layer and from lower ones."""


FOLDERS = (
    "enumeration",
    "methods",
    "comparison",
    "report",
    "verification",
    "calibration",
    "sweeps",
    "publish",
    "overview",
    "commands",
)


def modules():
    for path in [*PACKAGE.glob("*.py"), *ROOT.glob("models/*.py")]:
        name = "models" if path.parent.name == "models" else path.stem
        yield name, path
    for folder in FOLDERS:
        for path in (PACKAGE / folder).glob("*.py"):
            yield folder, path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "vi_bench"
        ):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
            yield from names


def guarded(path):
    """What is imported for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for child in ast.walk(node):
                if isinstance(child, ast.ImportFrom) and child.module:
                    yield child.module.split(".")[-1]


def test_imports_point_one_way():
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    for name, path in modules():
        if name in ("__init__", "__main__"):
            continue
        assert name in level, f"{path} has no layer"
        for other in set(imported(path)) - set(guarded(path)):
            assert level[other] <= level[name], f"{path} imports {other}"


def test_the_comparison_knows_no_method_and_no_model():
    for path in (PACKAGE / "comparison").glob("*.py"):
        assert set(imported(path)) <= {"comparison"}, path


def test_the_harness_never_names_a_model():
    for name, path in modules():
        if name not in ("models", "kernel"):  # vb.cavi is the notebook's, by contract
            assert "models" not in imported(path), path


def test_every_page_that_a_refusal_may_name_is_there():
    from vi_bench.pages import PAGES, USAGE

    for name, page in PAGES.items():
        assert (ROOT / (page or USAGE)).is_file(), page
        assert found(name) is not None, name
    for path in (PACKAGE / "commands").glob("[a-z]*.py"):
        if path.stem != "completion":  # which never refuses
            assert PAGES[f"commands.{path.stem}"], path


def found(name):
    """A folder, a module or a function of the package."""
    try:
        return importlib.import_module(f"vi_bench.{name}")
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(f"vi_bench.{module}"), attribute)


def test_the_public_names_are_exactly_these():
    assert vi_bench.__all__ == sorted(vi_bench.__all__)
    assert set(vi_bench.__all__) == set(vi_bench._HOME)
    for name in vi_bench.__all__:
        assert getattr(vi_bench, name) is not None
    for name in vi_bench.__all__:  # a module of that name would be there by now
        assert not isinstance(getattr(vi_bench, name), types.ModuleType), name
    with pytest.raises(AttributeError):
        _ = vi_bench.nothing


def test_importing_the_package_is_light():
    code = "import sys, vi_bench; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_every_folder_is_listed_and_the_symlink_points_home():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {"vi_bench", "vi_bench.models"} | {
        f"vi_bench.{p.parent.name}" for p in PACKAGE.glob("[a-z]*/__init__.py")
    }
    assert listed == found
    assert (PACKAGE / "models").is_symlink()
    assert (PACKAGE / "models").resolve() == (ROOT / "models").resolve()


def test_the_wheel_holds_the_models_once_and_the_data(tmp_path):
    code = (
        "import sys, setuptools.build_meta as b; "
        f"sys.argv[1:] = []; print(b.build_wheel({str(tmp_path)!r}))"
    )
    copy = tmp_path / "source"
    tracked = ["vi_bench", "models", "pyproject.toml", "README.md", "LICENSE"]
    copy.mkdir()
    for name in tracked:
        subprocess.run(["cp", "-a", ROOT / name, copy / name], check=True)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "vi_bench/models/gaussian.py" in names
    assert "vi_bench/datasets/faithful.csv" in names
    assert "vi_bench/experiments/notebook.toml" in names
    assert "vi_bench/py.typed" in names
    assert not [n for n in names if n.startswith("models")]
