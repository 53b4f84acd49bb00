"""What the documentation shows must run."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.marks import slow
from vi_bench import catalogue
from vi_bench.results.summary_schema import Part
from vi_bench.spec import Spec, make, read
from vi_bench.verification.mixture_checks import MIXTURE_PROVES
from vi_bench.verification.model_checks import MODEL_PROVES
from vi_bench.verification.outcome import PROMISES
from vi_bench.verification.plain_checks import PROVES

ROOT = Path(__file__).parent.parent


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_readmes_python_runs(random):
    (code,) = blocks("README.md", "python")
    # as many rows as `overlapping` has: the kernel is one program
    x = np.r_[random.normal(size=(20, 2)), 7 + random.normal(size=(20, 2))]
    names = {"X": np.r_[x, random.normal(size=(20, 2)) - [8, 0]]}
    exec(code, names)
    assert names["result"].comparison.verdicts["cavi"].word
    assert names["fit"].m.shape == (3, 2)


@pytest.mark.parametrize("page", [slow("docs/quickstart.md"), slow("docs/kernel.md")])
def test_what_a_page_shows_in_python_holds(page):
    """The page on the mathematics asserts its formulas itself."""
    names = {}
    for code in blocks(page, "python"):
        exec(code, names)
    if page == "docs/quickstart.md":
        assert names["result"].comparison.verdicts["cavi"].word


def test_notebooks_are_stored_without_outputs():
    notebooks = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"], path
                assert cell["execution_count"] is None, path


@pytest.mark.slow
def test_the_implementation_that_is_shown_is_right():
    names = {}
    for code in blocks("docs/verifying.md", "python"):
        exec(code, names)
    assert names["report"].passed, names["report"].verdict
    names["test_my_cavi"]()
    names["test_my_counts"]()
    report = names["vb"].verify(
        names["cavi"], model=names["model"], data=names["data"]()
    )
    assert report.passed, report.verdict
    assert len(report.checks) == 8


def test_the_verification_page_names_every_check():
    text = (ROOT / "docs" / "verifying.md").read_text(encoding="utf-8")
    for name in (*PROMISES, *PROVES, *MIXTURE_PROVES, *MODEL_PROVES):
        assert f"| {name} |" in text, name


def test_the_spec_page_is_a_valid_spec_with_every_key(tmp_path):
    text, others = blocks("docs/spec.md", "toml")
    path = tmp_path / "page.toml"
    path.write_text(text)
    spec = read(str(path), {})
    assert spec.family()
    shown = spec.inference()
    assert shown["rich"].guide == "full-rank"
    for label in ("cavi", "svi", "nuts"):  # the page shows defaults, and all of them
        assert shown[label] == type(shown[label])()
        named = spec.methods[label]
        assert set(named) == {f.name for f in dataclasses.fields(shown[label])}
    spec = make(tomllib.loads(others), "docs/spec.md")
    for label, method in spec.inference().items():
        assert method == type(method)(), label
        named = set(spec.methods[label])
        assert named == {f.name for f in dataclasses.fields(method)}, label
    every = set(shown) | set(spec.methods) | {"rich"}
    assert every == set(catalogue.entries("method")) | {"rich"}
    keys = set(re.findall(r"^(?:# )?(\w+) =", text.split("[model]")[0], re.MULTILINE))
    assert keys | {"name", "model", "weights", "methods"} == set(Spec.model_fields)


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_summary_page_names_every_key_of_a_method():
    text = (ROOT / "docs" / "summary.md").read_text(encoding="utf-8")
    for part in Part.__subclasses__():
        for name, field in part.model_fields.items():
            key = field.alias or name
            said = {f"`{key}`", f"`{key.removesuffix('_se')}`"}
            assert any(word in text for word in said), f"{part.__name__}: {key}"


def test_the_sweeps_page_has_a_grid_that_works_and_every_column():
    from vi_bench.sweeps.grid import points, sweep_of
    from vi_bench.sweeps.index import TABLES

    (text,) = blocks("docs/sweeps.md", "toml")
    assert len(list(points(sweep_of(tomllib.loads(text))))) == 60
    page = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    for table, columns in TABLES.items():
        (row,) = re.findall(rf"^\| `{table}` \|.*\| (.*) \|$", page, re.MULTILINE)
        assert row.replace(" (JSON)", "") == columns


def test_the_page_of_the_command_line_has_every_command_and_option():
    from typer.main import get_command

    from vi_bench.cli.app import EXIT_CODES, app

    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    root = get_command(app)
    for option in root.params:
        assert f"`{option.opts[0]}`" in page
    for name, command in root.commands.items():
        heading = rf"^### (?:\w+, )*{name}\b.*?(?=^##)"
        (section,) = re.findall(heading, page, re.MULTILINE | re.DOTALL)
        assert f"vi-bench {name}" in section
        for option in command.params:
            if option.param_type_name == "option":
                assert re.search(rf"`{option.opts[0]}[` ]|{option.opts[0]}`", section)
                assert option.help, f"{name} {option.opts[0]}"
    for code in re.findall(r"\d+", EXIT_CODES):
        assert f"\n| {code} | " in page


def test_the_page_of_the_command_line_has_every_variable_that_is_read():
    from vi_bench.runtime.provenance import LIMITS

    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    one = r'environ(?:\.get\(|\[)"(\w+)"|"(\w+)" (?:not )?in os\.environ'
    found = {*LIMITS}
    for path in (ROOT / "vi_bench").rglob("*.py"):
        for names in re.findall(one, path.read_text(encoding="utf-8")):
            found |= set(filter(None, names))
    assert {"COLUMNS", "JAX_PLATFORMS", "XLA_FLAGS"} <= found
    for name in found:
        assert f"`{name}`" in page, name
