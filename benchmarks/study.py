"""The published study: where mean field fails, and what each method costs.

    uv run python -m benchmarks.study [--work results/study] [--page]

runs the sweeps of `results/published/study/*.toml` and two built-in experiments, and
writes their tables and figures beside the specs, the table that README shows, and
docs/study.md, whose numbers are read from these tables. Cells that are finished in the
work folder are not run again. `--page` only writes the text anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "results" / "published" / "study"
SWEEPS = ("phase", "arbiters", "families", "counts", "growth")
EXPERIMENTS = ("faithful", "notebook")
KEPT = (".csv", ".md", ".png", ".pdf")
README_TABLE = "faithful.txt"


FEATURES = {"poisson": 2, "exponential": 2, "categorical": 6}
"""Of rows that are drawn from the families that no shipped data set is of."""


def drawn(folder: Path) -> None:
    """300 rows of three components of each, as the calibration's priors have them."""
    import numpy as np

    import vi_bench as vb
    from vi_bench.calibration.priors import PRIORS

    for family, features in FEATURES.items():
        model = {"name": family} | PRIORS[family]
        table = vb.simulate(model, 300, 3, features=features, seed=1)
        path = folder / f"{family}.csv"
        np.savetxt(path, table.values, delimiter=",", fmt="%.9g")


def command(*words: str | Path, keep: Path | None = None) -> int:
    """Run vi-bench as a user does; its table goes into a file, if one is named."""
    line = [sys.executable, "-m", "vi_bench", *map(str, words)]
    print("$", "vi-bench", *words, flush=True)
    out = subprocess.PIPE if keep else None
    done = subprocess.run(line, cwd=ROOT, stdout=out, text=True, check=False)
    if keep:
        keep.write_text(done.stdout, encoding="utf-8")
    return done.returncode


def measure(work: Path, out: Path) -> None:
    """Run what is not there yet, and publish tables and figures."""
    drawn(out)
    for name in SWEEPS:
        timed = ["--timed"] if name == "growth" else []
        # a cell that failed is part of what is published
        command("sweep", out / f"{name}.toml", "--out", work / name, *timed)
        publish(work / name, out / name)
    for name in EXPERIMENTS:
        if not (work / name / "summary.json").is_file():
            code = command("run", name, "--quiet", "--out", work / name, "--overwrite")
            if code:
                raise SystemExit(f"vi-bench run {name} ended with {code}")
        publish(work / name, out / name)
    command("run", "faithful", "--quiet", "--out", work / "readme", "--overwrite",
            keep=out / README_TABLE)  # fmt: skip


def publish(folder: Path, out: Path) -> None:
    """Tables and figures of a stored run or sweep."""
    aside = folder.with_name(f"{folder.name}-published")
    command("report", folder, "--tables", aside, "--figures", aside)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(aside.iterdir()):
        if path.suffix in KEPT:
            shutil.copy(path, out / path.name)
    shutil.rmtree(aside)
