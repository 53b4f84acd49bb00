"""Every command that a page tells its reader to type is run, or a table says why not.

A page's command is what stands in a code block behind the name of a program. It is run
as it stands, in a folder with the files that the pages speak of; where that takes
minutes, with more options, which make it smaller. `.ci/run` runs some as they are.
"""

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
from arviz_base import from_dict
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from tests.sweeps.test_index import KEYS, put
from tests.test_docs import blocks
from vi_bench.cli.app import app
from vi_bench.sweeps.store import Store

ROOT = Path(__file__).parents[2]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

PROGRAMS = ("vi-bench", "uv", "python", "pip", "ruff", "mypy", "pytest")

PROSE = ("python", "toml", "json", "text", "{toctree}")
"""Fences in which no command can stand."""


class Run(NamedTuple):
    """What a command has to show for itself.

    Attributes:
        says: a pattern that its output has.
        leaves: a file that it writes.
        needs: what has to be there: a stored "run" at results/mine; at results/paper
            a "store", or one of the run's "cells".
        also: options that make it smaller.
        quick: whether it is of the quick suite.
    """

    says: str
    leaves: str = ""
    needs: str = ""
    also: str = ""
    quick: bool = False


SMALL = "--sims 20 --rows 6 --draws 20 --thin 1 --geweke 0"

CAVI = r"cavi: converged"

RUN = {
    "run faithful --reference auto": Run(
        r"gibbs .* agrees", also="--methods cavi --repeats 1"
    ),
    "run mine.csv --components 3": Run(
        r"150 x 2, K = 3", "results/mine-*/summary.json", also="--methods cavi"
    ),
    "run mine.csv --components 3 --out results/first": Run(
        CAVI, "results/first/components.pdf", also="--methods cavi"
    ),
    "run mine.toml --out results/mine": Run(
        CAVI, "results/mine/nuts.nc", also="--repeats 1"
    ),
    "run mine.toml --methods cavi,nuts --seed 1 --out results/mine": Run(
        CAVI, "results/mine/summary.json", also="--repeats 1"
    ),
    "run faithful --model gaussian-full --weights dirichlet --components 6": Run(
        r"prior: gaussian-full, .*\n(?:.*\n)?.*weights: dirichlet",
        also="--methods cavi --details",
    ),
    "run digits": Run(r"K = 10", also="--methods cavi"),
    "run galaxies --components 4 --methods tempered,gibbs --reference tempered "
    "--details": Run(
        r"log p\(X\) and bounds on it, in nats.*\n[^~]*?\n tempered +-\d+\.\d+±\d",
        also="--repeats 1",
    ),
    "run notebook --models folder --model geometric --data trials.csv": Run(
        r"model and prior: geometric", also="--methods cavi --details"
    ),
    "run notebook --model folder/geometric.py --data trials.csv": Run(
        r"model and prior: geometric", also="--methods cavi --details"
    ),
    "run faithful --method resampling.py": Run(
        r"resampling: (sampled|suspect)", also="--methods cavi --repeats 1"
    ),
    "run faithful --method resampling.py --methods cavi,resampling "
    "--reference resampling": Run(r"resampling .* reference"),
    "run faithful --curves": Run(
        r"largest error against time, from nuts", also="--repeats 1 --details"
    ),
    "run faithful --json": Run(r'"verdicts": ', also="--methods cavi --repeats 1"),
    "run counts --models folder --data counts.npz": Run(
        r"cavi +(differs|agrees)", also="--repeats 1"
    ),
    "verify cavi --model folder/counts.py": Run(r"no fault found by 8 checks"),
    "list models": Run(r"linear-regression +Linear regression", quick=True),
    "run diabetes": Run(r"cavi +agrees"),
    "run linear-regression --data regression.npz": Run(
        r"cavi +agrees", also="--repeats 1"
    ),
    "verify cavi --model linear-regression": Run(r"no fault found by 8 checks"),
    "run mine.py:model --data mine.npz": Run(
        r"nuts +reference", also="--methods nuts --repeats 1"
    ),
    "run linear_regression.py:model --fit linear_regression.py:cavi": Run(
        r"cavi +(agrees|inconclusive)", also="--methods nuts --repeats 1"
    ),
    "run linear_regression.py:model --fit linear_regression.py:cavi "
    "--methods svi,nuts,smc": Run(r"smc +agrees"),
    "run eight_schools.py:model": Run(r"svi +differs"),
    "run eight_schools.py:centred": Run(
        r"svi +reference unreliable(?s:.*)% of its transitions diverged"
    ),
    "run hmm.py:model --fit hmm.py:cavi --variables rates,staying": Run(
        r"cavi +differs"
    ),
    "calibrate linear_regression.py:model --fit linear_regression.py:cavi "
    "--sims 200": Run(
        r"cavi +log joint",
        also="--sims 20 --draws 20 --thin 1 --geweke 0 --methods svi",
    ),
    "calibrate linear_regression.py:model --fit linear_regression.py:cavi "
    "--methods nuts --sims 200": Run(
        r"cavi +log joint", also="--sims 20 --draws 20 --thin 1 --geweke 0"
    ),
    "verify linear_regression.py:cavi --model linear_regression.py:model": Run(
        r"no fault found by 8 checks\n"
    ),
    "verify mixture.py:fit": Run(r"no fault found by 10 checks;"),
    "verify mixture.py:cavi --model mixture.py:model": Run(
        r"no fault found by 8 checks\n"
    ),
    "run mixture.py:model --fit mixture.py:cavi": Run(r"cavi +agrees"),
    "calibrate mixture.py:model --fit mixture.py:cavi --methods nuts --sims 500": Run(
        r"cavi +log joint", also="--sims 20 --draws 20 --thin 1 --geweke 0"
    ),
    "query results/paper 'SELECT method, bound FROM methods' --json": Run(
        r'"columns": ', needs="store", quick=True
    ),
    "doctor": Run(r"vi-bench", quick=True),
    "list methods": Run(r"nuts +NUTS: BlackJAX", quick=True),
    "compare mine.nc theirs.nc --reference theirs --component-dim cluster": Run(
        r"mine .* (agrees|differs|inconclusive)", quick=True
    ),
    "verify mine.py:fit": Run(r"no fault found"),
    "verify mine.py:cavi --model mine.py:model": Run(r"no fault found", needs="fit"),
    "verify nuts": Run(r"no fault found", also="--families bernoulli"),
    "calibrate gaussian": Run(
        r"nuts +log joint", "results/calibrate-gaussian/summary.json", also=SMALL
    ),
    "calibrate gaussian --methods cavi,nuts,exact": Run(
        r"exact +log joint", also=SMALL
    ),
    "calibrate poisson --methods cavi,gibbs,nuts --weights dirichlet --sims 1000": Run(
        r"gibbs +log joint", also=SMALL
    ),
    "calibrate gaussian --set sigma=3.0 --rows 12 --features 2": Run(
        r"mean mu\[x1\]", also=f"{SMALL} --methods cavi"
    ),
    "calibrate mine.toml --out results/mine-calibrated": Run(
        r"cavi ", "results/mine-calibrated/settings.json", also=SMALL
    ),
    "report results/mine": Run("", "results/mine/report.html", "run"),
    "report results/paper": Run("", "results/paper/report.html", "cells"),
    "report results/mine --out mine.html": Run("", "mine.html", "run"),
    "report results/mine --latex paper --tables tables --figures figures": Run(
        "", "paper/main.tex", "run"
    ),
    "rerun results/faithful-20260101T120000": Run("bitwise the same", needs="run"),
    "sweep grid.toml --dry-run": Run(r"2 cells", quick=True),
    "sweep grid.toml --out results/paper": Run(r"2 done", "results/paper/STORE.json"),
    "sweep grid.toml --out results/paper --repair": Run(r"2 done"),
    "status results/paper": Run(r"paper.*3", needs="store", quick=True),
    "status results/paper --check": Run(
        r"every byte is as written", needs="store", quick=True
    ),
    "query results/paper 'SELECT data, components, seed, bound, run_s, verdict FROM "
    "methods JOIN cells USING (key) WHERE method = '\"'\"'cavi'\"'\"' "
    "ORDER BY 1, 2, 3' --csv": Run(
        r"it's,2,1,-11\.0,0\.2,agrees", needs="store", quick=True
    ),
}
"""By what is behind `vi-bench`."""

NOT_HERE = {
    "vi-bench run faithful --device gpu": "a GPU",
    "vi-bench run spec.toml --hosts 2 --coordinator 10.0.0.5:21001 --rank 0 "
    "--out results/big": "two machines; runtime/test_cluster.py has two processes",
    "vi-bench run spec.toml --hosts 2 --coordinator 10.0.0.5:21001 --rank 1 "
    "--out results/big": "two machines; runtime/test_cluster.py has two processes",
    "vi-bench sweep grid.toml --out /shared/paper --shard '$SLURM_ARRAY_TASK_ID/8'": (
        "SLURM; tests/sweeps/test_sweep.py has shards"
    ),
    "python -m benchmarks.zoo --out results/published/zoo.json --page docs/zoo.md": (
        "an hour; tests/test_benchmarks.py has it at toy size"
    ),
    "python -m benchmarks.zoo_models --out results/published/zoo_models.json "
    "--page docs/zoo_models.md": "hours; tests/test_benchmarks.py has its numbers",
    "vi-bench compare mine.nc reference:velocities": (
        "another posterior; draws/test_published.py has one of the same"
    ),
    "vi-bench run hmm --data mine.npz": "minutes; runner/test_library.py has models",
    "vi-bench calibrate linear-regression --methods cavi,nuts": (
        "minutes; runner/test_library.py has one of a model"
    ),
    "vi-bench --install-completion": "it writes: tests/cli/test_completion.py",
    "vi-bench --show-completion": "it asks which shell: tests/cli/test_completion.py",
    "pip install uv": "it installs",
    "pytest -m slow": "this suite",
    "pytest -m slow_numerics": "this suite",
    "pytest -m slow_programs": "this suite",
    "pytest -m 'browser or latex'": "this suite",
    "uv pip compile pyproject.toml --group dev --extra parquet --universal "
    "--generate-hashes --no-emit-index-url --no-annotate --no-header -q "
    "-o requirements.lock": "it asks a package registry",
}
"""Why a command is not run; those of `vi-bench` are parsed all the same."""


def typed(block):
    """The commands of a code block, as words; of a pipe its first one."""
    lines = iter(block.splitlines())
    for line in lines:
        if line.split()[:1] not in [[program] for program in PROGRAMS]:
            continue
        while line.endswith("\\") or line.count('"') % 2:
            line = line.removesuffix("\\") + " " + next(lines).strip()
        for command in line.split(" && "):
            yield shlex.split(command.partition(" | ")[0], comments=True)


def plain(words):
    """Words as one line, without `uv run` and its options."""
    if words[:2] == ["uv", "run"]:
        words = words[2:]
        if words[0] == "--extra":
            words = words[2:]
    return shlex.join(" ".join(word.split()) for word in words)


def commands():
    """Command -> the pages that show it."""
    found = {}
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            fence = token.type == "fence" and token.info not in PROSE
            if fence or token.type == "code_block":
                for words in typed(token.content):
                    found.setdefault(plain(words), []).append(page.name)
    return found


SHOWN = commands()

OURS = sorted(c.removeprefix("vi-bench ") for c in SHOWN if re.match(r"vi-bench \w", c))


def test_every_command_of_a_page_is_accounted_for():
    ci = (ROOT / ".ci" / "run").read_text()
    by_ci = {command for command in SHOWN if f"uv run {command}\n" in ci}
    known = {f"vi-bench {command}" for command in RUN} | set(NOT_HERE) | by_ci
    assert {c: SHOWN[c] for c in SHOWN if c not in known} == {}
    assert known <= set(SHOWN)


def test_commands_are_found_wherever_they_stand():
    text = 'vi-bench query R "SELECT 1\n  FROM t" --csv  # why\nuv run a && uv run b\n'
    text += "vi-bench: refused\npython a.py | python -m json.tool\n"
    found = [plain(words) for words in typed(f"x\n{text}pip install \\\n  uv\n")]
    query = "vi-bench query R 'SELECT 1 FROM t' --csv"
    assert found == [query, "a", "b", "python a.py", "pip install uv"]


@pytest.mark.parametrize("command", OURS)
def test_every_option_of_a_command_exists(command, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    name, *rest = shlex.split(os.path.expandvars(command))
    group = typer.main.get_command(app)
    with group.make_context("vi-bench", [name]) as context:
        sub = group.get_command(context, name)
        assert sub is not None, name
        sub.make_context(name, rest, parent=context)


def in_sentences():
    """Page, command or nothing, and words: code within a sentence or a table."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for token in MarkdownIt().enable("table").parse(text):
            for part in token.children or ():
                code = part.content if part.type == "code_inline" else ""
                words = code.removeprefix("uv run ").split()
                if words[:1] == ["vi-bench"] and words[1:]:
                    name = words[1] if not words[1].startswith("--") else ""
                    yield page.name, name, words[1:]
                elif code.startswith("--") and not code.startswith("--xla_"):
                    yield page.name, "", words


def options(command):
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts)}


def test_what_a_sentence_names_exists():
    group = typer.main.get_command(app)
    own = {name: options(command) for name, command in group.commands.items()}
    own[""] = options(group).union(*own.values())  # any of them
    own["COMMAND"] = set()  # stands for one
    named = list(in_sentences())
    assert len(named) > 50
    for page, name, words in named:
        assert name in own, (page, words)
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= own[name] | {"--help"}, (page, words)


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A small run, made once."""
    place = tmp_path_factory.mktemp("stored")
    write_files(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        given = ["run", "small.toml", "--out", "results/mine", "--repeats", "1"]
        done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    return place / "results" / "mine"


def put_run(store, index, folder):
    """A stored run as a cell."""
    with store.write(KEYS[index]) as staged:
        shutil.copy(folder / "summary.json", staged)
        own = {"choice": {}, "shared": False, "seconds": 1.0}
        (staged / "cell.json").write_text(json.dumps(own))


SPEC = """
data = "mine.csv"
components = 3
chains = 2
draws = 50
reference = "gibbs"
[methods.cavi]
restarts = 2
[methods.gibbs]
warmup = 50
"""


def write_files(place):
    """The files that pages speak of; what a page shows is taken from there."""
    for file in (ROOT / "tests" / "pages").iterdir():
        shutil.copy(file, place)
    (place / "small.toml").write_text(SPEC)
    (place / "mine.toml").write_text(blocks("docs/quickstart.md", "toml")[0])
    own_model = blocks("docs/own_models.md", "python")[0]
    (verified,) = (b for b in blocks("docs/verifying.md", "python") if "def fit(" in b)
    (place / "mine.py").write_text(f"{own_model}\n\n{verified}")
    for file in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(file, place)
    model, counts, method = blocks("docs/extending.md", "python")
    (place / "folder").mkdir()
    (place / "folder" / "geometric.py").write_text(model)
    (place / "folder" / "counts.py").write_text(counts)
    np.savez(place / "counts.npz", x=np.array([3, 1, 4, 1, 5, 2]))
    (place / "resampling.py").write_text(method)
    random = np.random.default_rng(0)
    trials = random.geometric(np.repeat([0.7, 0.1], 40)[:, None], size=(80, 2)) - 1
    np.savetxt(place / "trials.csv", trials, delimiter=",", fmt="%d")
    site, x = np.arange(60) % 6, random.normal(size=60)
    count = random.poisson(np.exp(0.5 + 0.3 * x))
    np.savez(place / "mine.npz", site=site, x=x, count=count)
    predictors = random.normal(size=(80, 3))
    y = predictors @ [2.0, -1.0, 0.5] + random.normal(size=80)
    np.savez(place / "regression.npz", x=predictors, y=y)
    for name in ("mine", "theirs"):
        mu = random.normal([0, 9], size=(4, 500, 2))
        tree = from_dict({"posterior": {"mu": mu}}, dims={"mu": ["cluster"]})
        tree.to_netcdf(place / f"{name}.nc")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cases():
    for command, run in RUN.items():
        # what is slow are runs of the size that users have
        marks = [] if run.quick else [pytest.mark.slow, pytest.mark.optimised]
        yield pytest.param(command, run, id=command, marks=marks)


@pytest.mark.parametrize(("command", "run"), cases())
def test_a_command_does_what_its_page_promises(command, run, scratch, request):
    if run.needs == "run":
        made = request.getfixturevalue("stored")
        for name in ("mine", "faithful-20260101T120000"):
            shutil.copytree(made, scratch / "results" / name)
    elif run.needs == "fit":
        own = (b for b in blocks("docs/verifying.md", "python") if "def cavi(" in b)
        (scratch / "mine.py").write_text(next(own))
    elif run.needs:
        store = Store(scratch / "results" / "paper")
        for index in range(3):
            if run.needs == "store":
                put(store, index)
            else:
                put_run(store, index, request.getfixturevalue("stored"))
        cells = [{"key": key, "choice": {}} for key in KEYS[:3]]
        store.plan({"name": "paper", "cells": cells})
    done = CliRunner().invoke(app, shlex.split(f"{command} {run.also}"))
    assert done.exit_code == 0, done.output
    assert re.search(run.says, done.output), done.output
    assert list(scratch.glob(run.leaves or "*"))
