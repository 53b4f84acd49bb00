"""The page of a run: what it says, that it is safe, and that it works in a browser."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape
from typer.testing import CliRunner

import vi_bench as vb
from tests.small import FIELDS, METHODS
from vi_bench.cli.app import app
from vi_bench.reports.html import run_page
from vi_bench.reports.tables import Number, rounded, tables
from vi_bench.results.stored import open_run

QUESTIONS = ["right", "far", "cost", "trust", "made"]
ATTACK = "</script><script>window.attacked = 1</script><img src=x onerror='attacked=1'>"


@pytest.fixture(scope="module")
def run(stored_run):
    return open_run(stored_run)


@pytest.fixture(scope="module")
def page_file(stored_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    done = CliRunner().invoke(app, ["report", str(stored_run), "--out", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"written to {path}\n"
    return path


@pytest.fixture
def opened(browser, page_file):
    """The page, and what its console and its network saw."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    seen = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(page_file.as_uri())
    assert seen.pop(0) == page_file.as_uri()
    yield page, seen
    page.close()
    assert seen == []


class Outline(HTMLParser):
    """Sections in order, and addresses of whatever is fetched."""

    def __init__(self):
        super().__init__()
        self.sections, self.fetched = [], []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag == "section":
            self.sections.append(known["id"])
        if tag in ("link", "img", "iframe", "object", "embed"):
            self.fetched.append(tag)
        if "src" in known or known.get("href", "#")[0] != "#":
            self.fetched.append(known)


def test_the_questions_come_in_order_and_nothing_is_fetched(page_file):
    outline = Outline()
    outline.feed(page_file.read_text())
    assert outline.sections == QUESTIONS
    assert outline.fetched == []
    assert page_file.stat().st_size < 8e6


def test_a_page_shows_the_numbers_of_the_summary(run, page_file):
    text = page_file.read_text()
    for label, verdict in run.record.verdicts.items():
        assert f"{label}: {verdict.word}" in text
        assert str(escape(verdict.reason)) in text
    for method in run.record.methods.values():
        for name, known in method.quantities.items():
            assert f"<td>{name}</td>" in text
            assert rounded(known.sd, known.sd_mcse) in text


def test_draws_by_quantity_are_those_that_were_summarised(run):
    for label, method in run.record.methods.items():
        draws = run.draws(label)
        assert set(draws) == set(method.quantities)
        for name, known in method.quantities.items():
            np.testing.assert_allclose(draws[name].mean(), known.mean, rtol=1e-12)


@pytest.mark.parametrize(
    ("value", "se", "said"),
    [
        (-451.4781, 0.00096, "-451.47810±0.00096"),
        (0.0254812, 0.000203, "0.02548±0.00020"),
        (15.5, 2.04, "15.5±2.0"),
        (1234.5, 31.0, "1234±31"),
        (0.1, 0.0, "0.1"),
        (4.0, None, "4"),
        (1 / 3, None, "0.3333"),
        (1e300, 1e298, "1e+300±1e+298"),
        (None, 1.0, ""),
        (float("nan"), None, ""),
    ],
)
def test_numbers_have_two_digits_of_their_error(value, se, said):
    assert str(Number(value, se)) == said


def test_every_table_has_a_cell_for_every_column(run):
    found = tables(run.record)
    assert {g.name for g in found} >= {"verdicts", "parameters", "costs", "convergence"}
    for grid in found:
        assert {len(row) for row in grid.rows} == {len(grid.head)}
        assert set(grid.notes) <= set(grid.head)


@pytest.mark.browser
def test_a_page_opens_without_a_word_and_fits(opened, browser, page_file):
    page, _ = opened
    for name in QUESTIONS:
        page.locator(f"#{name}").scroll_into_view_if_needed()
    for figure in page.locator("figure.picture").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    narrow = browser.new_page(viewport={"width": 390, "height": 800})
    narrow.goto(page_file.as_uri())
    assert narrow.evaluate("document.documentElement.scrollWidth") == 390
    narrow.close()


@pytest.mark.browser
def test_a_column_sorts_by_number_up_and_down(opened):
    page, _ = opened
    table = page.locator(".grid[data-name=differences]")
    head = table.locator("th", has_text="W1").first
    values = "cells => cells.map(cell => parseFloat(cell.dataset.v))"
    at = head.evaluate("head => head.cellIndex") + 1
    cells = table.locator(f"tbody td:nth-child({at})")
    before = cells.evaluate_all(values)
    assert before != sorted(before)
    head.locator("button").click()
    assert cells.evaluate_all(values) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert cells.evaluate_all(values) == sorted(before, reverse=True)


@pytest.mark.browser
def test_words_filter_rows(opened, run):
    page, _ = opened
    table = page.locator(".grid[data-name=parameters]")
    names = table.locator("tbody tr:visible td:first-child")
    count = names.count()
    table.locator("input").fill("SORTED x1")
    wanted = [n for n in run.draws("my_gibbs") if "sorted" in n and "x1" in n]
    assert names.all_inner_texts() == wanted
    table.locator("input").fill("no such thing")
    assert names.count() == 0
    table.locator("input").fill("")
    assert names.count() == count


@pytest.mark.browser
def test_a_chosen_quantity_is_drawn(opened, run):
    page, _ = opened
    figure = page.locator("figure[data-name=marginals]")
    figure.scroll_into_view_if_needed()
    axis = figure.locator(".xtitle")
    axis.wait_for()
    first, *_, last = run.draws("my_gibbs")
    assert axis.text_content() == first
    figure.locator("select").select_option(last)
    assert axis.text_content() == last


@pytest.mark.browser
def test_of_three_features_a_pair_is_chosen(browser, tmp_path):
    rows = np.random.default_rng(3).normal(size=(45, 3))
    given = FIELDS | {"draws": 100, "repeats": 1, "reference": None}
    vb.run("gaussian", rows, {"cavi": METHODS["cavi"]}, out=tmp_path / "run", **given)
    path = tmp_path / "page.html"
    path.write_text(run_page(open_run(tmp_path / "run")), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    figure = page.locator("figure[data-name=components]")
    figure.scroll_into_view_if_needed()
    figure.locator(".xtitle").wait_for()
    pairs = figure.locator("option").all_inner_texts()
    assert pairs == ["x0, x1", "x0, x2", "x1, x2"]
    figure.locator("select").select_option("x1, x2")
    assert figure.locator(".xtitle").text_content() == "x1"
    page.close()


@pytest.mark.browser
def test_light_and_dark(browser, page_file):
    background = "getComputedStyle(document.body).backgroundColor"
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        first = page.evaluate(background)
        page.locator("#theme").click()
        second = page.evaluate(background)
        shades = [first, second] if scheme == "light" else [second, first]
        assert shades == ["rgb(255, 255, 255)", "rgb(22, 22, 26)"]
        page.close()


@pytest.mark.browser
def test_names_from_outside_are_text(stored_run, tmp_path, browser):
    """In the summary and in the draws: markup in them is shown, not obeyed."""
    copy = shutil.copytree(stored_run, tmp_path / "copy")
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    summary["spec"]["name"] = summary["note"] = summary["data"]["note"] = ATTACK
    summary["data"]["features"][0] = ATTACK
    summary["verdicts"]["cavi"]["reason"] = ATTACK
    summary["methods"]["cavi"]["settings"][ATTACK] = ATTACK
    for row in summary["comparisons"]:
        row["quantity"] = ATTACK
    path.write_text(json.dumps(summary))
    page = browser.new_page()
    alarms = []
    page.on("console", lambda message: alarms.append(message.text))
    page.set_content(run_page(open_run(copy)))
    for figure in page.locator("figure.picture").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    assert page.evaluate("window.attacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("h1").inner_text() == ATTACK
    assert alarms == []
    page.close()


def test_a_page_replaces_an_earlier_one_and_leaves_the_run_alone(stored_run, tmp_path):
    copy = shutil.copytree(stored_run, tmp_path / "copy")
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    for _ in range(2):
        done = CliRunner().invoke(app, ["report", str(copy)])
        assert done.exit_code == 0, done.output
    after = {p.name: p.read_bytes() for p in copy.iterdir()}
    assert set(after) - set(before) == {"report.html"}
    assert {k: after[k] for k in before} == before


def test_a_run_of_failures_has_a_page_too(stored_run, tmp_path):
    shutil.copytree(stored_run, tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    for label in ("cavi", "my_gibbs"):
        (tmp_path / "run" / f"{label}.nc").unlink()
    summary["methods"] = {
        "cavi": {
            k: v
            for k, v in summary["methods"]["cavi"].items()
            if k
            not in ("quantities", "modes", "elpd", "relabelling", "linear_response")
        }
        | {"outcome": "failed", "outcome_sentence": "it <broke>"}
    }
    summary["spec"]["methods"].pop("my_gibbs")
    summary |= {"reference": None, "evidence": None, "comparisons": []}
    summary |= {"joint": {}, "verdicts": {}, "interrupted": True}
    path.write_text(json.dumps(summary))
    text = run_page(open_run(tmp_path / "run"))
    assert "cavi: failed" in text
    assert "it &lt;broke&gt;" in text
    assert "The run was interrupted" in text
