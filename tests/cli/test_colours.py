"""Colours where a terminal wants them, and only there (https://no-color.org)."""

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")

BARS = (
    "from vi_bench.runtime.progress import bars\n"
    "from vi_bench.cli.terminal import console\n"
    "console().print('[red]red[/] [bold]bold[/]')\n"
    "with bars(['cavi']) as watcher:\n"
    "    watcher.stage('cavi', 'fit', 0, 1)\n"
    "    watcher.end('cavi', 'converged')\n"
)


def on_a_terminal(*words, cwd, **environment):
    """What a process writes to a terminal that is both its stdout and stderr."""
    unset = (
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
        "COLORTERM",
    )
    kept = {k: v for k, v in os.environ.items() if k not in unset}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=kept | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait(300) in (0, 1, 2)
    return written.decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with draws to compare."""
    folder = tmp_path_factory.mktemp("colours")
    for seed, name in enumerate(("a", "b")):
        values = np.random.default_rng(seed).normal(size=(2, 50, 2))
        mu = xr.DataArray(values, dims=("chain", "draw", "component"))
        tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": mu})})
        tree.to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    return folder


def test_tables_and_bars_are_coloured_where_nothing_forbids_it(tmp_path):
    shown = on_a_terminal("-c", BARS, cwd=tmp_path)
    assert COLOUR.search(shown)
    assert "\x1b[1mbold" in shown


def test_no_color_takes_colours_and_leaves_the_rest(tmp_path):
    shown = on_a_terminal("-c", BARS, cwd=tmp_path, NO_COLOR="1")
    assert not COLOUR.search(shown)
    assert "\x1b[1mbold" in shown
    assert "converged" in shown


def test_a_dumb_terminal_gets_no_escapes_and_no_bars(tmp_path):
    shown = on_a_terminal("-c", BARS, cwd=tmp_path, TERM="dumb")
    assert "\x1b" not in shown
    assert shown.split() == ["red", "bold"]


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "list methods", "sweep nowhere.toml", "nope"]
)
def test_help_lists_and_errors_have_no_colour_at_all(command, tmp_path):
    shown = on_a_terminal("-m", "vi_bench", *command.split(), cwd=tmp_path)
    assert shown
    assert "\x1b" not in shown


def test_installing_completion_has_no_colour(tmp_path):
    own = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    install = ("-m", "vi_bench", "--install-completion", "bash")
    shown = on_a_terminal(*install, cwd=tmp_path, **own)
    assert "completion installed" in shown
    assert "\x1b" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--json",), {}, False),
    ],
)
def test_a_real_comparison(place, options, environment, coloured):
    compare = ("-m", "vi_bench", "compare", "a.nc", "b.nc", "--reference", "b")
    shown = on_a_terminal(*compare, *options, cwd=place, **environment)
    assert "reference" in shown
    assert bool(COLOUR.search(shown)) == coloured
    if options:
        assert "\x1b" not in shown
