"""What a shell is told, by Typer's protocol; quick, and nothing heavy is loaded."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from vi_bench import catalogue
from vi_bench.cli import completion
from vi_bench.cli.app import app
from vi_bench.data import load as data
from vi_bench.data.built_in import ARRAYS
from vi_bench.errors import InputError


def complete(line):
    """What bash is told of a line that is being typed, the cursor at its end."""
    words = line.split(" ")
    asked = {
        "_VI_BENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = CliRunner().invoke(app, [], env=asked, prog_name="vi-bench")
    assert done.exit_code == 0, done.output
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("vi-bench swe", ["sweep"]),
        ("vi-bench run --held", ["--held-out"]),
        ("vi-bench run ", catalogue.experiments()),
        ("vi-bench run note", ["notebook"]),
        ("vi-bench run my", []),
        ("vi-bench run faithful --model gaussian-f", ["gaussian-full"]),
        ("vi-bench run faithful --model=poi", ["poisson", "poisson-factorisation"]),
        ("vi-bench run faithful --methods ", catalogue.names("method")),
        ("vi-bench run faithful --methods cavi,n", ["cavi,nested", "cavi,nuts"]),
        ("vi-bench run faithful --methods cavi,ca", []),
        ("vi-bench run faithful --reference au", ["auto"]),
        ("vi-bench run faithful --weights ", list(catalogue.WEIGHTS)),
        ("vi-bench run faithful --data ir", ["iris"]),
        ("vi-bench run faithful --device g", ["gpu"]),
        ("vi-bench run faithful --precision ", ["64", "32"]),
        ("vi-bench verify smc", ["smc"]),
        ("vi-bench verify cavi --families poisson,ber", ["poisson,bernoulli"]),
        ("vi-bench calibrate expo", ["exponential"]),
        ("vi-bench list ", list(completion.KINDS)),
        ("vi-bench rerun resul", []),  # files are the shell's
    ],
)
def test_names_are_completed(line, found):
    assert complete(line) == found


def test_data_sets_are_known_without_being_read():
    assert catalogue.datasets() == sorted({*data.BUILT_IN, *ARRAYS})


def test_a_catalogue_that_refuses_completes_nothing(monkeypatch):
    def refused(kind):
        raise InputError("two methods of one name")

    monkeypatch.setattr(catalogue, "names", refused)
    assert complete("vi-bench run faithful --methods ca") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_process_completes_and_loads_nothing_heavy(shell, tmp_path):
    code = (
        "import atexit, sys; "
        "heavy = {'jax', 'numpy', 'arviz', 'numpyro', 'matplotlib'}; "
        "atexit.register(lambda: print('heavy:', heavy & set(sys.modules))); "
        "from vi_bench.cli.app import main; main()"
    )
    asked = {
        "_VI_BENCH_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "vi-bench verify nut",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "vi-bench verify nut",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | asked,
        cwd=tmp_path,
    )
    assert "nuts" in done.stdout, done.stderr
    assert "heavy: set()" in done.stdout
    assert done.stderr == ""


def test_the_script_to_install_is_shown():
    asked = {"_VI_BENCH_COMPLETE": "source_zsh"}
    done = CliRunner().invoke(app, [], env=asked, prog_name="vi-bench")
    assert done.exit_code == 0
    assert "_VI_BENCH_COMPLETE=complete_zsh vi-bench" in done.stdout
    names = {name for option in get_command(app).params for name in option.opts}
    assert {"--install-completion", "--show-completion"} <= names
