"""What a paper is made of: it compiles, and its numbers are those of the run."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from vi_bench import catalogue
from vi_bench.cli.app import app
from vi_bench.reports.figures import draw_all, ladder
from vi_bench.reports.files import frame, markdown
from vi_bench.reports.latex import (
    bibliography,
    cited,
    document,
    escaped,
    number,
    paragraph,
    tabular,
)
from vi_bench.reports.tables import Number, ReportTable, tables
from vi_bench.reports.write import KINDS
from vi_bench.results.stored import open_run
from vi_bench.results.summary_schema import parse

NASTY = r"50% of $x_1$ & {a} #2 ~ ^ \end{document} <|> ±"


@pytest.fixture(scope="module")
def made(stored_run, tmp_path_factory):
    """All that can be asked for at once, but the page."""
    place = tmp_path_factory.mktemp("made")
    options = [f"--{name}={place / name}" for name in ("latex", "tables", "figures")]
    done = CliRunner().invoke(app, ["report", str(stored_run), *options])
    assert done.exit_code == 0, done.output
    assert not (stored_run / "report.html").exists()
    return place


def compiled(folder, name="main.tex"):
    """LaTeX's own log of a last run."""
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
    stem = name.removesuffix(".tex")
    for command in (latex, ["bibtex", stem], latex, latex):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / f"{stem}.log").read_text(errors="replace")


@pytest.mark.latex
def test_the_paper_compiles_without_a_warning(made, tmp_path):
    paper = shutil.copytree(made / "latex", tmp_path / "paper")
    log = compiled(paper)
    assert "Warning" not in log
    assert not re.search(r"Overfull \\hbox", log)
    assert (paper / "main.pdf").stat().st_size > 50_000


@pytest.mark.slow
def test_figures_are_drawn_as_the_same_bytes_again(stored_run, made, tmp_path):
    run = open_run(stored_run)
    for path in draw_all(run, tmp_path, KINDS):
        assert path.read_bytes() == (made / "figures" / path.name).read_bytes()


@pytest.mark.slow
def test_its_fonts_are_embedded_and_whole(made):
    """Journals refuse Type 3 fonts."""
    for path in sorted((made / "latex" / "figures").glob("*.pdf")):
        content = path.read_bytes()
        assert b"/FontFile2" in content, path.name
        assert b"/Type3" not in content, path.name


@pytest.mark.latex
def test_any_text_is_printed_as_it_is(tmp_path):
    grid = ReportTable(
        "g", NASTY, ("name", NASTY), ((NASTY, Number(1.5, 0.1, mark="%")),)
    )
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/g.tex").write_text(tabular(grid))
    (tmp_path / "methods.tex").write_text(escaped(NASTY) + r" \citep{blei2017}")
    (tmp_path / "references.bib").write_text(bibliography(["blei2017"]))
    (tmp_path / "main.tex").write_text(document([grid], [], NASTY))
    assert "Warning" not in compiled(tmp_path)


def test_every_entry_that_can_be_cited_is_there(stored_run):
    methods = map(catalogue.method, catalogue.names("method"))
    keys = {key for method in methods for key in getattr(method, "references", ())}
    assert {"blei2017", "syed2022"} <= keys
    known = set(cited(open_run(stored_run).record))
    entries = bibliography(sorted(keys | known))
    assert entries.count("@") == len(set(re.findall(r"@\w+\{(\w+),", entries)))
    assert {"blei2017", "diebolt1994", "giordano2018"} <= known


def test_a_users_own_keys_are_left_to_the_user(stored_run):
    known = json.loads((stored_run / "summary.json").read_text())
    known["methods"]["cavi"]["references"] = ["mykey2025", "blei2017"]
    run = parse(json.dumps(known), "the run")
    assert "mykey2025" not in cited(run)
    assert "blei2017" in cited(run)
    assert "mykey2025" not in paragraph(run)
    assert "@" in bibliography(cited(run))


@pytest.mark.parametrize(
    ("value", "se", "said"),
    [
        (-451.4781, 0.00096, "-451.47810(96)"),
        (15.5, 2.04, "15.5(20)"),
        (1234.5, 31.0, "1234(31)"),
        (1.0700001e6, None, "1.07e06"),
        (0.25, None, "0.25"),
        (3.0, None, "3"),
        (None, None, ""),
    ],
)
def test_numbers_are_as_siunitx_reads_them(value, se, said):
    assert number(Number(value, se)) == said


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([(-10.0, 0.1), (-11.0, 0.1), (-12.0, 0.1)], 0),
        ([(-10.0, 0.1), (-10.2, 0.1)], None),
        ([(-12.0, 0.3), (-10.0, 0.3)], 1),
        ([(-12.0, 0.3), (None, None)], None),
    ],
)
def test_the_best_is_bold_only_beyond_the_errors(values, best):
    rows = tuple((f"m{i}", Number(*v)) for i, v in enumerate(values))
    lines = tabular(
        ReportTable("predictions", "", ("method", "elpd"), rows)
    ).splitlines()
    bold = [i for i, line in enumerate(lines[4:]) if r"\bfseries" in line]
    assert bold == ([] if best is None else [best])


def test_tables_hold_the_numbers_and_their_errors(made, stored_run):
    for grid in tables(open_run(stored_run).record):
        stored = pd.read_parquet(made / "tables" / f"{grid.name}.parquet")
        pd.testing.assert_frame_equal(stored, frame(grid), check_dtype=False)
        text = pd.read_csv(made / "tables" / f"{grid.name}.csv")
        assert list(text.columns) == list(stored.columns)
        for name in stored.select_dtypes("number"):
            np.testing.assert_array_equal(text[name], stored[name].astype(float))
        lines = (made / "tables" / f"{grid.name}.md").read_text().splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert len(table) == 2 + len(grid.rows)
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {
            len(grid.head) + 1
        }


def test_a_spreadsheet_takes_nothing_for_a_formula(tmp_path):
    from vi_bench.reports.files import write_tables

    grid = ReportTable(
        "g", "", ("name", "x"), (("=1+1", Number(-1.0)), ("@a", Number(2.0)))
    )
    write_tables([grid], tmp_path)
    found = pd.read_csv(tmp_path / "g.csv")
    assert list(found["name"]) == ["'=1+1", "'@a"]
    assert list(found["x"]) == [-1.0, 2.0]
    assert r"\|" in markdown(ReportTable("g", "", ("a",), (("x|y",),)))


def test_figures_come_in_three_kinds(made):
    names = {path.name for path in (made / "figures").iterdir()}
    stems = {name.partition(".")[0] for name in names}
    assert {"components", "marginals", "bound", "timing", "evidence"} <= stems
    assert names == {f"{s}.{kind}" for s in stems for kind in ("png", "pdf", "svg")}


def test_numbers_that_were_not_finite_are_left_out_of_figures(stored_run):
    """They are null in summary.json: an evidence whose weights have no tail, say."""
    known = json.loads((stored_run / "summary.json").read_text())
    found = known["evidence"]
    for estimate in (*found["evidence"].values(), *found["bounds"]["cavi"].values()):
        if estimate is not None:
            estimate["value"] = estimate["se"] = None
    for gap in found["gaps"].values():
        gap["total"] = gap["mean_field"] = {"value": None, "se": None}
    found["trusted"] = None
    run = replace(open_run(stored_run), record=parse(json.dumps(known), "the run"))
    assert ladder(run) is not None


def test_what_is_made_again_replaces_its_own_files_only(made, stored_run):
    other = made / "tables" / "mine.txt"
    other.write_text("kept")
    before = (made / "tables" / "costs.csv").read_bytes()
    (made / "tables" / "costs.csv").write_text("")
    done = CliRunner().invoke(
        app, ["report", str(stored_run), "--tables", str(made / "tables")]
    )
    assert done.exit_code == 0, done.output
    assert (made / "tables" / "costs.csv").read_bytes() == before
    assert other.read_text() == "kept"
    assert not list(made.glob(".report-*"))
