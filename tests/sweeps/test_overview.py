"""What is made of a sweep: of cells whose numbers are known, as they were made up."""

import copy
import dataclasses
import itertools
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from vi_bench.cli.app import app
from vi_bench.errors import InputError
from vi_bench.reports.tables import Number
from vi_bench.sweeps.overview.analysis import Rank, growths, phases, rankings
from vi_bench.sweeps.overview.html import sweep_page
from vi_bench.sweeps.overview.publication import publication
from vi_bench.sweeps.overview.stored import MEASURES, averaged, open_sweep
from vi_bench.sweeps.overview.stored import _errors as errors_of_cells
from vi_bench.sweeps.overview.tables import sweep_tables
from vi_bench.sweeps.store import Store

SEPARATIONS, COMPONENTS, ROWS, SEEDS = (1.0, 4.0), (2, 3), (100, 200, 400), (0, 1, 2)
EXPONENT = {"cavi": 1.0, "svi": 1.5, "my_gibbs": 0.5}
ATTACK = "<script>window.attacked = 1</script>"


def ratio(method, separation, k, seed):
    """Of every sd to the reference's: nearer 1 for svi, and where clusters separate."""
    far = 0.02 * k / separation + 0.001 * seed
    return 1 - (2 if method == "cavi" else 1) * far


def summary_of(run, separation, k, rows, seed):
    """A run's summary with other numbers."""
    found = copy.deepcopy(run)
    found["methods"]["svi"] = copy.deepcopy(found["methods"]["cavi"])
    name = f"simulate:K={k},d=3,N={rows},separation={separation:g},seed={seed}"
    found["data"] |= {"name": name, "shape": [rows, 3]}
    found["spec"] |= {"name": "made up", "components": k, "seed": seed}
    compared = [row for row in found["comparisons"] if row["method"] == "cavi"]
    found["comparisons"] = []
    for method in ("cavi", "svi"):
        sd = ratio(method, separation, k, seed)
        numbers = {"mean_difference": 1 - sd, "mean_difference_se": 0.01}
        numbers |= {"sd_ratio": sd, "sd_ratio_se": 0.01, "w1": 1 - sd, "w1_se": 0.01}
        found["comparisons"] += [
            {**row, **numbers, "method": method} for row in compared
        ]
        word = "differs" if sd < 0.97 else "agrees"
        found["verdicts"][method] = {"word": word, "reason": ATTACK}
    for method, exponent in EXPONENT.items():
        seconds = 1e-3 * k * (rows / 100) ** exponent
        run_s = {"median": seconds, "min": seconds, "max": seconds, "repeats": 1}
        found["methods"][method]["time"]["run_s"] = run_s
    return found


def put(store, index, choice, summary):
    """A finished cell."""
    with store.write(f"{index:032x}") as staged:
        (staged / "summary.json").write_text(json.dumps(summary))
        own = {"choice": choice, "shared": True, "seconds": 1.0}
        (staged / "cell.json").write_text(json.dumps(own))
    return {"key": f"{index:032x}", "choice": choice}


@pytest.fixture(scope="module")
def run_summary(stored_run):
    return json.loads((stored_run / "summary.json").read_text())


@pytest.fixture(scope="module")
def sweep_folder(run_summary, tmp_path_factory):
    place = tmp_path_factory.mktemp("sweep") / "store"
    store = Store(place)
    grid = list(itertools.product(SEPARATIONS, COMPONENTS, ROWS, SEEDS))
    listed = [
        put(
            store,
            i,
            {"components": point[1], "seed": point[3]},
            summary_of(run_summary, *point),
        )
        for i, point in enumerate(grid)
    ]
    broken = f"{len(grid):032x}"
    listed.append({"key": broken, "choice": {"components": ATTACK}})
    store.fail(broken, "crashed", "its process was killed", seconds=1.0)
    listed.append({"key": f"{len(grid) + 1:032x}", "choice": {"components": 9}})
    store.plan({"name": "made up", "base": {"draws": 500}, "cells": listed})
    return place


@pytest.fixture(scope="module")
def sweep(sweep_folder):
    return open_sweep(sweep_folder)


def without_noise(sweep):
    """The same numbers, known exactly."""
    exact = {f"{m.name}_floor": m.exact for m in MEASURES}
    return dataclasses.replace(sweep, table=sweep.table.assign(**exact))


@pytest.mark.slow
def test_factors_are_what_varies_and_seeds_are_repetitions(sweep):
    assert sweep.factors == {
        "separation": list(SEPARATIONS),
        "components": list(COMPONENTS),
        "rows": list(ROWS),
    }
    assert sweep.methods == ["cavi", "my_gibbs", "svi"]
    assert (len(sweep.failures), sweep.waiting) == (1, 1)


def test_options_of_methods_are_factors_too(run_summary, tmp_path):
    store = Store(tmp_path / "s")
    for i, (restarts, seed) in enumerate(itertools.product((20, 1), SEEDS)):
        choice = {"methods.cavi.restarts": restarts, "seed": seed}
        put(store, i, choice, summary_of(run_summary, 1.0, 2, 100, seed))
    assert open_sweep(tmp_path / "s").factors == {"methods.cavi.restarts": [1, 20]}


def test_distances_to_a_reference_that_is_unfit_do_not_count(run_summary, tmp_path):
    store = Store(tmp_path / "s")
    for seed in SEEDS:
        found = summary_of(run_summary, 1.0, 2, 100, seed)
        if seed == 0:
            for verdict in found["verdicts"].values():
                verdict["word"] = "reference unreliable"
        put(store, seed, {"seed": seed}, found)
    sweep = open_sweep(tmp_path / "s")
    assert set(sweep.compared["seed"]) == {1, 2}
    tables = {table.name: table for table in sweep_tables(sweep)}
    assert [row[7] for row in tables["outcomes"].rows] == [Number(n) for n in (1, 0, 1)]
    (reference,) = tables["references"].rows
    assert reference[:3] == ("my_gibbs", Number(3), Number(1))


@pytest.mark.slow
def test_means_are_over_seeds_and_errors_between_them(sweep):
    found = averaged(sweep.compared, [*sweep.factors, "method"])
    assert (found["cells"] == len(SEEDS)).all()
    for row in found.to_dict("records"):
        each = [
            ratio(row["method"], row["separation"], row["components"], s) for s in SEEDS
        ]
        np.testing.assert_allclose(row["sd_ratio"], np.mean(each), rtol=1e-12)
        error = np.std(each, ddof=1) / np.sqrt(len(each))
        np.testing.assert_allclose(row["sd_ratio_se"], error, rtol=1e-9)
        low, high = stats.t.interval(0.95, len(each) - 1, np.mean(each), error)
        np.testing.assert_allclose(row["sd_ratio_half"], (high - low) / 2, rtol=1e-9)
        assert row["log_sd"] == pytest.approx(-np.log(each).mean())
        np.testing.assert_allclose(row["worst_mean"], 1 - np.mean(each), rtol=1e-9)
        assert row["differs"] == sum(r < 0.97 for r in each)


@pytest.mark.slow
def test_of_a_single_seed_the_error_is_its_monte_carlo_error(sweep):
    one = sweep.compared[sweep.compared["seed"] == 0]
    found = averaged(one, [*sweep.factors, "method"])
    np.testing.assert_allclose(found["sd_ratio_se"], 0.01, rtol=1e-9)
    np.testing.assert_allclose(found["w1_se"], 0.01, rtol=1e-9)


@pytest.mark.slow
def test_a_phase_diagram_has_every_pair_of_levels_in_its_place(sweep):
    found = phases(sweep)
    assert len(found) == 2 * len(ROWS)
    assert {p.where for p in found} == {f"rows = {rows}" for rows in ROWS}
    for phase in found:
        field = phase.field("sd_ratio", list(SEPARATIONS), list(COMPONENTS))
        for (y, x), value in np.ndenumerate(field):
            each = [
                ratio(phase.method, SEPARATIONS[x], COMPONENTS[y], s) for s in SEEDS
            ]
            np.testing.assert_allclose(value, np.mean(each), rtol=1e-12)


@pytest.mark.slow
def test_exponents_are_found_whatever_else_varies(sweep):
    found = {g.method: g for g in growths(sweep)}
    assert {g.size for g in found.values()} == {"rows"}
    for method, exponent in EXPONENT.items():
        assert abs(found[method].exponent - exponent) < 1e-9
        assert found[method].cells == 36


@pytest.mark.slow
def test_an_exponents_error_is_that_of_the_regression(sweep):
    """Against the full design: a level for each group, and one slope."""
    random = np.random.default_rng(0)
    table = sweep.table.copy()
    table["run_s"] *= np.exp(random.normal(0, 0.1, len(table)))
    noisy = dataclasses.replace(sweep, table=table)
    own = table[table["method"] == "cavi"]
    groups = pd.get_dummies(
        own["separation"].astype(str) + own["components"].astype(str)
    )
    design = np.c_[groups.to_numpy(float), np.log(own["rows"])]
    y = np.log(own["run_s"].to_numpy())
    fitted, rest, *_ = np.linalg.lstsq(design, y)
    spread = rest[0] / (len(y) - design.shape[1])
    error = np.sqrt(spread * np.linalg.inv(design.T @ design)[-1, -1])
    (found,) = (g for g in growths(noisy) if g.method == "cavi")
    np.testing.assert_allclose([found.exponent, found.se], [fitted[-1], error])


@pytest.mark.slow
def test_ranks_are_those_of_the_numbers(sweep):
    by_error = rankings(without_noise(sweep))[0]
    first, last = Rank(1.0, 0.0, 1.0, 1.0), Rank(2.0, 0.0, 2.0, 2.0)
    assert by_error.ranks == {"svi": first, "cavi": last}
    assert (by_error.cells, by_error.blocks) == (36, 36)
    # Demsar (2006), table 5: q = 1.960 for two methods, 2.343 for three
    np.testing.assert_allclose(by_error.critical, 1.960 * (1 / 36) ** 0.5, rtol=1e-3)
    third = sweep.table[sweep.table["method"] == "svi"].assign(method="x", log_sd=9.0)
    more = dataclasses.replace(sweep, table=pd.concat([sweep.table, third]))
    of_three = rankings(without_noise(more))[0]
    np.testing.assert_allclose(of_three.critical, 2.343 * (2 / 36) ** 0.5, rtol=1e-3)
    assert of_three.p_value < 1e-3


@pytest.mark.slow
def test_what_cannot_be_told_from_an_exact_method_is_a_tie(sweep):
    table = sweep.table.copy()
    table["log_sd_floor"] = np.where(table["method"] == "svi", 9.0, 0.0)
    (noisy, *_) = rankings(dataclasses.replace(sweep, table=table))
    assert noisy.ranks["svi"] == noisy.ranks["cavi"] == Rank(1.5, 0.0, 1.5, 1.5)


@pytest.mark.slow
def test_cells_of_the_same_data_are_one_block(sweep):
    """As many cells of six data sets as of 36: as wide as six make it."""
    quiet = without_noise(sweep)
    six = quiet.table["separation"].astype(str) + quiet.table["rows"].astype(str)
    table = quiet.table.assign(block=six)
    random = np.random.default_rng(1).random(len(table))
    table["log_sd"] = random + six.map(lambda name: len(name))
    (found, *_) = rankings(dataclasses.replace(quiet, table=table))
    assert (found.cells, found.blocks) == (36, 6)
    np.testing.assert_allclose(found.critical, 1.960 * (1 / 6) ** 0.5, rtol=1e-3)
    wide = table.pivot(index="key", columns="method", values="log_sd")[["cavi", "svi"]]
    first = (wide["cavi"] < wide["svi"]).groupby(
        table.drop_duplicates("key").set_index("key")["block"]
    )
    each = 2 - first.mean()
    np.testing.assert_allclose(found.ranks["cavi"].mean, each.mean())
    np.testing.assert_allclose(
        found.ranks["cavi"].se, each.std(ddof=1) / np.sqrt(len(each))
    )
    few = table[table["block"].isin(list(six.unique()[:4]))]
    assert rankings(dataclasses.replace(quiet, table=few)) == []


@pytest.mark.slow
def test_seconds_to_an_error_are_ranked_where_cells_had_the_machine(sweep):
    table = sweep.table.copy()
    table["within_s"] = np.where(table["method"] == "cavi", np.nan, 1.0)
    assert len(rankings(dataclasses.replace(sweep, table=table))) == 4
    alone = dataclasses.replace(sweep, table=table.assign(shared=False))
    *_, by_time = rankings(alone)
    assert "margin" in by_time.measure
    assert by_time.ranks["cavi"].mean == 2.0  # it never gets there


@pytest.mark.slow
def test_a_floor_is_not_exceeded_by_a_right_method_more_often_than_it_says():
    """False-alarm rate of each floor where all errors are noise, at most 5 %."""
    random = np.random.default_rng(3)
    many, m, se = 4000, 8, 0.02
    z = random.normal(size=(many, m))
    rows = pd.DataFrame(
        {
            "key": np.repeat(np.arange(many), m),
            "method": "right",
            "mean_difference": se * z.ravel(),
            "mean_difference_se": se,
            "sd_ratio": np.exp(se * z[:, ::-1].ravel()),
            "sd_ratio_se": se,
            "w1": se,
            "w1_se": 0.0,
            "w1_floor": se,
        }
    )
    found = errors_of_cells(rows)
    for name in ("log_sd", "worst_sd", "worst_mean"):
        share = (found[name] > found[f"{name}_floor"]).mean()
        assert share < 0.05 + 4 * (0.05 * 0.95 / many) ** 0.5, name
    # the largest of eight is held to its floor closely, an average with room
    assert (found["worst_mean"] > found["worst_mean_floor"]).mean() > 0.03


@pytest.mark.slow
def test_tables_say_what_there_is_and_what_failed(sweep):
    found = {table.name: table for table in sweep_tables(sweep)}
    assert list(found) == [
        "outcomes", "settings", "ranks", "growth", "references", "failures", "cells",
    ]  # fmt: skip
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.head)}
        assert set(table.notes) <= set(table.head)
    assert len(found["settings"].rows) == 2 * 2 * 3 * 2
    assert len(found["cells"].rows) == 36 * 3
    (failed,) = found["failures"].rows
    assert failed[2:4] == ("crashed", "its process was killed")
    (reference,) = found["references"].rows
    assert reference[:3] == ("my_gibbs", Number(36), Number(0))


@pytest.mark.browser
def test_a_page_of_a_sweep_opens_without_a_word(sweep_folder, browser, tmp_path):
    path = tmp_path / "sweep.html"
    done = CliRunner().invoke(app, ["report", str(sweep_folder), "--out", str(path)])
    assert done.exit_code == 0, done.output
    assert path.stat().st_size < 8e6
    page = browser.new_page(viewport={"width": 390, "height": 800})
    seen = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.goto(path.as_uri())
    for figure in page.locator("figure.picture").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    names = page.locator("figure.picture").evaluate_all(
        "f => f.map(x => x.dataset.name)"
    )
    assert names == ["phases", "curves", "ranks", "pareto", "scaling"]
    phase = page.locator("figure[data-name=phases]")
    phase.locator("select").select_option(
        "svi, rows = 100: W1 / sd, mean"  # at separation 1 and K = 2: 0.04 and 0.001
    )
    phase.get_by_text("0.04100±0.00058").first.wait_for()
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.body.scrollWidth") <= 390
    page.close()
    assert seen == []


@pytest.mark.slow
@pytest.mark.latex
def test_a_paper_of_a_sweep_compiles(sweep_folder, tmp_path):
    places = dict.fromkeys(("tables", "figures"), tmp_path / "both")
    places["latex"] = tmp_path / "latex"
    options = [f"--{name}={place}" for name, place in places.items()]
    done = CliRunner().invoke(app, ["report", str(sweep_folder), *options])
    assert done.exit_code == 0, done.output
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for command in (latex, ["bibtex", "main"], latex, latex):
        done = subprocess.run(
            command, cwd=places["latex"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Warning" not in (places["latex"] / "main.log").read_text(errors="replace")
    kept = pd.read_csv(places["tables"] / "growth.csv").set_index("method")["exponent"]
    np.testing.assert_allclose(kept.to_dict()["svi"], 1.5, rtol=1e-9)
    drawn = {path.name for path in places["figures"].glob("*.svg")}
    phase_files = {f"phases-{i + 1}.svg" for i in range(len(ROWS))}
    assert drawn >= {
        *phase_files,
        "ranks.svg",
        "time-rows.svg",
        "errors-separation.svg",
    }


def test_a_sweep_without_a_finished_cell_is_refused(tmp_path):
    Store(tmp_path / "s").plan({"name": "s", "cells": []})
    with pytest.raises(InputError, match="no cell is finished yet"):
        publication(tmp_path / "s")


def test_cells_of_one_kind_make_a_page_too(sweep_folder, tmp_path):
    """No factor, one repetition, nothing to rank or to fit."""
    copied = shutil.copytree(sweep_folder, tmp_path / "one")
    for i in range(1, 36):
        shutil.rmtree(copied / "cells" / "00" / f"{i:032x}")
    sweep = open_sweep(copied)
    assert sweep.factors == {}
    html = sweep_page(sweep)
    assert "1 cell of cavi, my_gibbs, svi;" in html
    assert {g.name for g in sweep_tables(sweep)} >= {"outcomes", "settings", "cells"}
