import json
import os
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
        "from vi_bench.cli import app; "
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0; "
        "heavy = {'jax', 'numpyro', 'arviz', 'numpy', 'pydantic', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["faithfull"], "did you mean 'faithful'"),
        (["faithful", "--methods", "cavi,nutz"], "unknown method 'nutz'"),
        (["faithful", "--model", "gausian"], "unknown model 'gausian'"),
        (["faithful", "--data", "nowhere.csv"], "no such file"),
        (["faithful", "--data", "bad.csv"], "nan at line 3, column 1"),
        (["faithful", "--data", "empty.csv"], "is empty"),
        (["faithful", "--data", "ragged.csv"], "line 2 has 1 cells"),
        (["faithful", "--components", "0"], "components = 0"),
        (["faithful", "--components", "273"], "273.*272 rows"),
        (["sigma.toml"], "sigma = 0"),
        (["faithful", "--precision", "16"], "precision = 16"),
        (["faithful", "--device", "gpu"], "device 'gpu' is not here"),
        (["faithful", "--reference", "x"], "unknown reference 'x'"),
        (["faithful", "--out", "taken"], "exists.*--overwrite"),
        (["faithful", "--out", "other", "--overwrite"], "not the folder of a run"),
        (["faithful", "--out", "file.txt/run"], "cannot be written"),
        (["faithful", "--out", "/proc/none/run"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(tmp_path, arguments, message):
    (tmp_path / "bad.csv").write_text("a\n1\nnan\n3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    (tmp_path / "sigma.toml").write_text("[model]\nname = 'gaussian'\nsigma = 0\n")
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "summary.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    done = vi_bench("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    import re

    assert re.search(message, done.stderr), done.stderr
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_run_as_a_user_does_it(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "a,b\n" + "".join(f"{i % 2 * 8 + i / 50},{i / 40}\n" for i in range(40))
    )
    (tmp_path / "mine.toml").write_text(
        "data = 'mine.csv'\ncomponents = 2\ndraws = 50\nchains = 2\n"
        "[model]\nname = 'gaussian'\nsigma = 5.0\nmean = [4.0, 0.5]\n"
        "[methods.cavi]\nrestarts = 4\n"
        "[methods.nuts]\nwarmup = 50\n"
    )
    run = ("run", "mine.toml", "--out", "done", "--repeats", "1")
    done = vi_bench(*run, cwd=tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "c"))
    assert done.returncode == 0, done.stderr
    assert "cavi: converged" in done.stdout
    assert "reference" in done.stdout
    assert "Gaussian(sigma=5.0" in done.stdout
    first = json.loads((tmp_path / "done" / "summary.json").read_text())
    assert not first["methods"]["nuts"]["time"]["compile_cached"]

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
    assert second["methods"]["nuts"]["time"]["compile_cached"]
    quantity = first["methods"]["nuts"]["quantities"]["log joint"]
    assert quantity == second["methods"]["nuts"]["quantities"]["log joint"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "mine.csv",
        "mine.toml",
        "done",
        "c",
    }


def test_version(tmp_path):
    from typer.testing import CliRunner

    from vi_bench.cli import app

    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.strip()[0].isdigit()
