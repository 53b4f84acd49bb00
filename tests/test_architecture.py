"""The structure: which way imports point, what ships, what is public."""

import ast
import subprocess
import sys
import tomllib
import types
import zipfile
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

import vi_bench
from vi_bench import catalogue
from vi_bench.contract import Kind, Role

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vi_bench"

TOP = {
    "errors": set(),
    "catalogue": {"errors", "mixture"},
    "spec": {"catalogue", "data", "errors"},
    "contract": {"errors", "factors", "mixture", "runtime"},
    "conjugate": {"mixture"},
    "numpyro_model": {"mixture"},
    "starts": {"inference"},
    "api": {
        "calibration",
        "data",
        "errors",
        "posterior",
        "runner",
        "runtime",
        "spec",
    },
    "testing": {"verification"},
    "__main__": {"cli"},
}
"""What a user of the package imports -> what that may import."""

FOLDERS = {
    "runtime": {"errors"},
    "data": {"errors"},
    "comparison": {"runtime"},
    "draws": {"catalogue", "comparison", "errors"},
    "posterior": {
        "catalogue",
        "comparison",
        "contract",
        "data",
        "errors",
        "runtime",
        "spec",
    },
    "factors": {"runtime"},
    "mixture": {"comparison", "data", "errors", "runtime"},
    "models": {"contract", "data", "errors", "factors", "mixture"},
    "enumeration": {"errors", "mixture", "runtime"},
    "inference": {
        "comparison",
        "contract",
        "errors",
        "factors",
        "mixture",
        "posterior",
        "runtime",
    },
    "methods": {
        "catalogue",
        "contract",
        "enumeration",
        "errors",
        "factors",
        "inference",
        "mixture",
        "posterior",
        "runtime",
    },
    "results": {"comparison", "draws", "errors", "runtime"},
    "reports": {"comparison", "errors", "results", "runtime", "spec"},
    "runner": {
        "catalogue",
        "comparison",
        "contract",
        "data",
        "draws",
        "errors",
        "inference",
        "methods",
        "mixture",
        "models",
        "posterior",
        "reports",
        "results",
        "runtime",
        "spec",
    },
    "calibration": {
        "catalogue",
        "comparison",
        "contract",
        "data",
        "enumeration",
        "errors",
        "inference",
        "mixture",
        "posterior",
        "reports",
        "runtime",
        "spec",
    },
    "verification": {
        "calibration",
        "catalogue",
        "comparison",
        "contract",
        "data",
        "enumeration",
        "errors",
        "factors",
        "inference",
        "mixture",
        "posterior",
        "reports",
        "runtime",
        "spec",
    },
    "sweeps": {
        "catalogue",
        "comparison",
        "data",
        "errors",
        "reports",
        "results",
        "runner",
        "runtime",
        "spec",
    },
    "cli": {
        "api",
        "calibration",
        "catalogue",
        "data",
        "draws",
        "errors",
        "reports",
        "results",
        "runner",
        "runtime",
        "spec",
        "sweeps",
        "verification",
    },
}
"""Folder -> folders and modules at the top that its files may import."""


def files():
    """Module's name -> file, of the package and of the models."""
    found = {}
    for root, place in ((PACKAGE, "vi_bench"), (ROOT / "models", "vi_bench.models")):
        for path in root.rglob("*.py"):
            if root is PACKAGE and path.is_relative_to(PACKAGE / "models"):
                continue
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join([place, *(p for p in parts if p != "__init__")])
            found[name] = path
    return found


FILES = files()


def imported(path):
    """Modules of the package that a file imports, for type checkers or late, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.partition(".")[0] == "vi_bench":
                for alias in node.names:
                    full = f"{module}.{alias.name}"
                    yield full if full in FILES else module


GRAPH = {name: set(imported(path)) & set(FILES) for name, path in FILES.items()}


def place(name):
    """The folder of a module, or the module itself where it is at the top."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "vi_bench"


def test_every_folder_imports_only_what_it_may():
    allowed = TOP | FOLDERS
    for name, others in GRAPH.items():
        if place(name) == "vi_bench":
            continue  # the package's own names lead everywhere, late
        for other in others:
            known = allowed[place(name)] | {place(name)}
            assert place(other) in known, f"{name} imports {other}"


def test_what_a_folder_may_import_it_does():
    """The lists above are not longer than they have to be."""
    used = {}
    for name, others in GRAPH.items():
        used.setdefault(place(name), set()).update(map(place, others))
    for folder, allowed in (TOP | FOLDERS).items():
        assert allowed <= used[folder], f"{folder}: {allowed - used[folder]}"


@pytest.mark.parametrize("of", ["files", "folders"])
def test_no_imports_go_round_in_a_circle(of):
    graph = GRAPH
    if of == "folders":
        graph = {}
        for name, others in GRAPH.items():
            if place(name) != "vi_bench":
                to = set(map(place, others)) - {place(name)}
                graph.setdefault(place(name), set()).update(to)
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_the_top_holds_what_users_import_and_nothing_else():
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set(TOP)
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(FOLDERS)


def test_the_tests_have_the_folders_of_the_code():
    folders = {p.parent.name for p in (ROOT / "tests").glob("*/__init__.py")}
    assert set(FOLDERS) <= folders
    assert folders - set(FOLDERS) == {"contract", "statistical", "zoo"}


@pytest.mark.parametrize("file", ["docs/design.md", "CONTRIBUTING.md"])
def test_pages_that_tell_where_things_are_know_every_folder(file):
    text = (ROOT / file).read_text()
    for folder in set(FOLDERS) - {"models"}:
        assert f"vi_bench/{folder}/" in text or f" {folder}/" in text, folder


def test_no_result_imports_a_renderer():
    for name in ("runner.result", "runner.summary", "results.summary_schema"):
        others = GRAPH[f"vi_bench.{name}"]
        assert not {o for o in others if place(o) in ("reports", "cli")}, name


def test_the_harness_never_names_a_model():
    for name, others in GRAPH.items():
        # vb.cavi is the notebook's, by contract
        if place(name) != "models" and name != "vi_bench.runner.kernel":
            assert "models" not in set(map(place, others)), name


NAMED = {
    "vi_bench": "the package's own names",
    "vi_bench.runner.kernel": "vb.cavi is the notebook's, by contract",
    "vi_bench.cli.calibrate": "the default of an option's help",
    "vi_bench.posterior.fit": "SciPy's own names of its distributions",
    "vi_bench.draws.cmdstan": "laplace is CmdStan's own name of an algorithm",
}
"""Files that may name a method or a model, and why."""


def test_generic_code_names_no_method_and_no_model():
    """As strings: names come from files, which the catalogue lists."""
    kinds = set(get_args(Kind)) | set(get_args(Role))
    names = {*catalogue.names("method"), *catalogue.names("model")} - kinds
    for name, path in FILES.items():
        if place(name) in ("methods", "models") or name in NAMED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{name}, line {node.lineno}"


def test_reading_a_stored_run_loads_no_jax():
    folder = ROOT / "results" / "published" / "study" / "faithful"
    code = (
        "import sys; from vi_bench.results.stored import open_run; "
        f"run = open_run({str(folder)!r}); assert run.record.verdicts; "
        "print([m for m in ('jax._src', 'numpyro.infer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["[]"], done.stdout + done.stderr


def test_every_page_that_a_refusal_may_name_is_there():
    from vi_bench.cli.app import app
    from vi_bench.cli.terminal import PAGES, USAGE
    from vi_bench.errors import InputError

    pages = {kind.page for kind in InputError.__subclasses__()}
    for page in {*pages, *PAGES.values(), USAGE}:
        assert (ROOT / page).is_file(), page
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    assert set(PAGES) <= commands


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
        ".".join(p.parent.relative_to(ROOT).parts)
        for p in PACKAGE.glob("**/[!.]*/__init__.py")
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


def test_numpyro_is_loaded_whole_before_a_part_of_it():
    """ArviZ leaves a lazy proxy for it in sys.modules.

    Were its first use the import of a part, that part would be executed, and its
    classes made, twice; `from numpyro import ...` executes the whole once.
    """
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "models").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = [
            node
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] == "numpyro"
        ]
        parts = [
            alias.name
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.startswith("numpyro.")
        ]
        assert not parts, path
        assert not known or known[0].module == "numpyro", path


BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def of_ours(path):
    """What a benchmark uses of the package: (module, name), imports and attributes."""
    tree, modules = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in ("vi_bench", "benchmarks"):
                for alias in node.names:
                    yield node.module, alias.name
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            modules |= {a.asname: a.name for a in node.names if a.asname}
    modules = {name: m for name, m in modules.items() if m in {*FILES, "vi_bench"}}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(name), attribute) if name in modules:
                yield modules[name], attribute


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_uses_of_the_package_is_there(path):
    """Few of them run with the tests, and their work is not checked by types."""
    for module, name in of_ours(path):
        there = (ROOT / f"{module.replace('.', '/')}/{name}.py").is_file()
        assert there or hasattr(import_module(module), name), f"{module}.{name}"
