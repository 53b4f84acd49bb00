import json
import os
import re
import subprocess
import sys

import pytest


def vi_bench(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "vi_bench", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; "
        "from vi_bench.cli.app import app; "
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0; "
        "heavy = {'jax', 'numpyro', 'arviz', 'numpy', 'pydantic', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["faithful", "--data", "bad.csv"], "nan at line 3, column 1"),
        (["faithful", "--components", "many"], "Invalid value for '--components'"),
        (["faithful", "--out", "taken"], "exists.*--overwrite"),
    ],
)
def test_a_process_refuses_as_the_table_of_refusals_says(tmp_path, arguments, message):
    """tests/cli/test_refusals.py has all others, in this process."""
    (tmp_path / "bad.csv").write_text("a\n1\nnan\n3\n")
    (tmp_path / "taken").mkdir()
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    done = vi_bench("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("vi-bench: ")
    assert re.search(message, line), line
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_without_a_command_there_is_the_help(tmp_path):
    done = vi_bench(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "compare" in done.stderr


@pytest.mark.slow
def test_a_run_as_a_user_does_it(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "a,b\n" + "".join(f"{i % 2 * 8 + i / 50},{i / 40}\n" for i in range(10))
    )
    (tmp_path / "mine.toml").write_text(
        "data = 'mine.csv'\ncomponents = 2\ndraws = 50\nchains = 2\n"
        "reference = 'exact'\n"
        "[model]\nname = 'gaussian'\nsigma = 5.0\nmean = [4.0, 0.5]\n"
        "[methods.cavi]\nrestarts = 4\n[methods.exact]\n"
    )
    run = ("run", "mine.toml", "--out", "done", "--repeats", "1", "--details")
    done = vi_bench(*run, cwd=tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "c"))
    assert done.returncode == 0, done.stderr
    assert "cavi: converged" in done.stdout
    assert "reference" in done.stdout
    assert "model and prior: gaussian, " in done.stdout
    assert "sigma = 5.0" in done.stdout
    first = json.loads((tmp_path / "done" / "summary.json").read_text())
    assert not first["methods"]["exact"]["time"]["compile_cached"]

    again = vi_bench(*run, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists" in again.stderr
    replaced = vi_bench(
        *run,
        "--overwrite",
        "--quiet",
        cwd=tmp_path,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "c"),
    )
    assert replaced.returncode == 0, replaced.stderr
    assert "cavi: converged" not in replaced.stdout
    second = json.loads((tmp_path / "done" / "summary.json").read_text())
    assert second["methods"]["exact"]["time"]["compile_cached"]
    quantity = first["methods"]["exact"]["quantities"]["log joint"]
    assert quantity == second["methods"]["exact"]["quantities"]["log joint"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "mine.csv",
        "mine.toml",
        "done",
        "c",
    }


@pytest.mark.parametrize(
    ("command", "page"),
    [
        ("run nothing", "docs/spec.md"),
        ("run faithful --nothing", "docs/cli.md"),
        ("run faithful --components 0", "docs/spec.md"),
        ("run faithful --hosts 2", "docs/scaling.md"),
        ("run faithful --model nothing", "docs/spec.md"),
        ("run faithful --model mine.py", "docs/extending.md"),
        ("calibrate nothing", "docs/calibration.md"),
        ("verify nothing", "docs/verifying.md"),
        ("report nothing", "docs/summary.md"),
        ("status nothing", "docs/sweeps.md"),
        ("compare a.nc b.nc --reference b.nc", "docs/cli.md"),
    ],
)
def test_an_error_carries_its_page_or_is_the_commands(command, page):
    from typer.testing import CliRunner

    from vi_bench.cli.app import app

    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"({page})")


@pytest.mark.parametrize("command", ["run", "calibrate"])
def test_help_states_the_defaults_of_the_settings(command):
    from typer.main import get_command

    from vi_bench.calibration.settings import Settings
    from vi_bench.cli.app import app
    from vi_bench.spec import Spec

    def shown(value):
        if isinstance(value, dict):
            return value.get("name") or ",".join(value)
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    fields = (Spec if command == "run" else Settings).model_fields
    stated = 0
    for option in get_command(app).commands[command].params:
        said = re.search(
            r"\(default: (?:the spec's, else )?([\w.,-]+)\)", option.help or ""
        )
        if said and option.name in fields:
            default = fields[option.name].get_default(call_default_factory=True)
            assert said[1] == str(shown(default)), option.name
            stated += 1
    assert stated > 8


def test_help_names_the_exit_codes():
    from typer.testing import CliRunner

    from vi_bench.cli.app import EXIT_CODES, app

    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert EXIT_CODES in " ".join(shown.split())


@pytest.mark.parametrize("command", ["status", "reindex", "report", "rerun", "verify"])
def test_an_interrupt_ends_with_130(command, monkeypatch):
    from typer.testing import CliRunner

    from vi_bench import verification
    from vi_bench.cli.app import app
    from vi_bench.runner import rerun as repeat
    from vi_bench.sweeps import store
    from vi_bench.sweeps.overview import publication

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "Store", stopped)
    monkeypatch.setattr(publication, "publication", stopped)
    monkeypatch.setattr(repeat, "rerun", stopped)
    monkeypatch.setattr(verification, "verify", stopped)
    done = CliRunner().invoke(app, [command, "x", "--json"])
    assert done.exit_code == 130
    assert done.stdout == ""


def test_version(tmp_path):
    from typer.testing import CliRunner

    from vi_bench.cli.app import app

    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.strip()[0].isdigit()
