"""The published study: where mean field fails, and what each method costs.

    uv run python -m benchmarks.study [--work results/study] [--only NAME] [--page]

runs the sweeps of `results/published/study/*.toml` and two built-in experiments, and
writes their tables and figures beside the specs, the experiments' summaries, the table
that README shows, and docs/study.md, whose numbers are read from these tables. Cells
that are finished in the work folder are not run again. `--only` runs some of the
sweeps, experiments and printed tables, and keeps what is published of the others;
`--page` only writes the text anew.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks import study_text

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "results" / "published" / "study"
SWEEPS: dict[str, tuple[str, ...]] = {
    "phase": (),
    "arbiters": (),
    "families": (),
    "real": (),
    "models": (),
    "sensitivity": (),
    "growth": ("--timed",),
}
"""Name of a sweep, which is that of its spec -> options of `vi-bench sweep`."""

EXPERIMENTS = ("faithful", "notebook")
KEPT = (".csv", ".md", ".png", ".pdf")
PRINTED = {"run": ("run", "faithful"), "calibrate": ("calibrate", "gaussian")}
"""File of a table that pages show -> the command that prints it."""

SHOWING = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
"""Pages that show the table of the first command."""

TABLE = r"    faithful: 272 x 2.*(?:\n    .*)+\n"

ROWS, FEATURES = 200, {"bernoulli": 8, "categorical": 6}
"""Number of simulated rows of a family, and of features where these are not two."""


def drawn() -> None:
    """Write the data that `families` names."""
    import numpy as np

    import vi_bench as vb
    from vi_bench.sweeps.grid import points, read_sweep

    for point in points(read_sweep(PUBLISHED / "families.toml")):
        model, seed = point.spec.model, point.spec.seed
        path = ROOT / point.spec.data
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # families have random numbers of their own
            own = zlib.crc32(model["name"].encode()) + seed
            size = ROWS, point.spec.components
            d = FEATURES.get(model["name"], 2)
            rows = vb.simulate(model, *size, features=d, seed=own)
            np.savetxt(path, rows.values, delimiter=",", fmt="%.9g")


def command(*words: str | Path, keep: Path | None = None) -> int:
    """Run vi-bench as a user does; its output goes to the file `keep`, if named.

    Returns:
        The exit code.
    """
    line = [sys.executable, "-m", "vi_bench", *map(str, words)]
    print("$", "vi-bench", *words, flush=True)
    out = subprocess.PIPE if keep else None
    done = subprocess.run(line, cwd=ROOT, stdout=out, text=True, check=False)
    if keep:
        keep.write_text(done.stdout, encoding="utf-8")
    return done.returncode


def measure(work: Path, out: Path, only: Sequence[str]) -> None:
    """Run what is not in the work folder yet, and publish tables and figures."""
    drawn()
    for name, options in SWEEPS.items():
        if name not in only:
            continue
        # a cell that failed is part of what is published
        command("sweep", out / f"{name}.toml", "--out", work / name, *options)
        publish(work / name, out / name)
    for name in EXPERIMENTS:
        if name not in only:
            continue
        if not (work / name / "summary.json").is_file():
            code = command("run", name, "--quiet", "--out", work / name, "--overwrite")
            if code:
                raise SystemExit(f"vi-bench run {name} ended with {code}")
        publish(work / name, out / name)
        shutil.copy(work / name / "summary.json", out / name)
    for verb, words in PRINTED.items():
        if verb not in only:
            continue
        place = ["--out", work / f"printed-{verb}", "--quiet"]
        place += ["--overwrite"] if verb == "run" else []
        command(*words, *place, keep=out / f"{verb}.txt")


def publish(folder: Path, out: Path) -> None:
    """Copy the tables and figures of a stored run or sweep to a folder."""
    aside = folder.with_name(f"{folder.name}-published")
    command("report", folder, "--tables", aside, "--figures", aside)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(aside.iterdir()):
        if path.suffix in KEPT:
            shutil.copy(path, out / path.name)
    shutil.rmtree(aside)


def with_table(page: Path, printed: str) -> str:
    """The text of a page, with a printed table in place of the one it shows."""
    known = page.read_text(encoding="utf-8")
    lines = filter(str.strip, printed.splitlines())
    shown = "\n".join(f"    {line}".rstrip() for line in lines)
    return re.sub(TABLE, lambda _: f"{shown}\n", known, count=1)


def written(out: Path) -> None:
    """Write docs/study.md, and the first table of other pages, from the results."""
    (ROOT / "docs" / "study.md").write_text(study_text.text(out), encoding="utf-8")
    printed = (out / "run.txt").read_text(encoding="utf-8")
    for page in SHOWING:
        page.write_text(with_table(page, printed), encoding="utf-8")


def main(given: Sequence[str] | None = None) -> None:
    """Run what is missing, publish the results, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "study")
    parser.add_argument("--page", action="store_true", help="only the page")
    every = [*SWEEPS, *EXPERIMENTS, *PRINTED]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    options = parser.parse_args(given)
    if not options.page:
        measure(options.work, PUBLISHED, options.only)
    written(PUBLISHED)


if __name__ == "__main__":
    main()
