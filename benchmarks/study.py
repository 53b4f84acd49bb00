"""The published study: where mean field fails, and what each method costs.

    uv run python -m benchmarks.study [--work results/study] [--page]

runs the sweeps of `results/published/study/*.toml` and two built-in experiments, and
writes their tables and figures beside the specs, the experiments' summaries, the table
that README shows, and docs/study.md, whose numbers are read from these tables. Cells
that are finished in the work folder are not run again. `--page` only writes the text
anew.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.page import table
from vi_bench.sweeps.overview.tables import WORDS

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "results" / "published" / "study"
SWEEPS: dict[str, tuple[str, ...]] = {
    "phase": (),
    "arbiters": (),
    "families": (),
    "counts": (),
    "growth": ("--timed",),
}
"""Name of a sweep, which is that of its spec -> options of `vi-bench sweep`."""

EXPERIMENTS = ("faithful", "notebook")
KEPT = (".csv", ".md", ".png", ".pdf")
AXES = ("separation", "components")
PRINTED = {"run": ("run", "faithful"), "calibrate": ("calibrate", "gaussian")}
"""File of a table that pages show -> the command that prints it."""

SHOWING = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
"""Pages that show the table of the first command."""

TABLE = r"    faithful: 272 x 2.*(?:\n    .*)+\n"

TEMPLATE = Path(__file__).with_name("study.md.jinja")

FEATURES = {"poisson": 2, "exponential": 2, "categorical": 6}
"""Family without a shipped data set -> number of features of its simulated rows."""


def drawn(folder: Path) -> None:
    """Write 300 rows of three components of each family, drawn from the usual prior."""
    import numpy as np

    import vi_bench as vb
    from vi_bench.calibration.priors import usual_prior

    for family, features in FEATURES.items():
        model = {"name": family} | usual_prior(family)
        rows = vb.simulate(model, 300, 3, features=features, seed=1)
        path = folder / f"{family}.csv"
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


def measure(work: Path, out: Path) -> None:
    """Run what is not in the work folder yet, and publish tables and figures."""
    drawn(out)
    for name, options in SWEEPS.items():
        # a cell that failed is part of what is published
        command("sweep", out / f"{name}.toml", "--out", work / name, *options)
        publish(work / name, out / name)
    for name in EXPERIMENTS:
        if not (work / name / "summary.json").is_file():
            code = command("run", name, "--quiet", "--out", work / name, "--overwrite")
            if code:
                raise SystemExit(f"vi-bench run {name} ended with {code}")
        publish(work / name, out / name)
        shutil.copy(work / name / "summary.json", out / name)
    for verb, words in PRINTED.items():
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


def read(out: Path, sweep: str, name: str) -> pd.DataFrame:
    """A published table."""
    return pd.read_csv(out / sweep / f"{name}.csv")


def of(row: pd.Series, name: str) -> str:
    """A number with its standard error, as text."""
    from vi_bench.reports.tables import Number

    return str(Number(row[name], row.get(f"{name} se")))


def phase(out: Path) -> dict[str, Any]:
    """Values for the text on the phase diagram."""
    known = read(out, "phase", "settings")
    ended = read(out, "phase", "outcomes").set_index("method")
    trust = read(out, "phase", "references").iloc[0]
    cavi, svi = (known[known["method"] == m] for m in ("cavi", "svi"))
    by_ratio = cavi.sort_values("sd ratio")
    under = int((cavi["sd ratio"] + 2 * cavi["sd ratio se"] < 1).sum())
    return {
        "levels": levels(known),
        "corners": corners(known),
        "narrow": f"by more than two errors in {under} of {len(cavi)} combinations",
        "low": of(by_ratio.iloc[0], "sd ratio"),
        "high": of(by_ratio.iloc[-1], "sd ratio"),
        "worst_cavi": f"{cavi['worst mean'].max():.2f}",
        "worst_svi": f"{svi['worst mean'].max():.2f}",
        "svi_low": f"{svi['sd ratio'].min():.2f}",
        "svi_high": f"{svi['sd ratio'].max():.2f}",
        "cells": trust["cells"],
        "cavi": ended.loc["cavi"],
        "svi": ended.loc["svi"],
        "trusted": trust["cells"] - trust["doubted"],
        "trust": trust,
    }


def levels(known: pd.DataFrame) -> str:
    """The levels of the phase diagram's factors, in words."""
    ks = sorted(int(k) for k in known["components"].unique())
    separations = ", ".join(f"{s:g}" for s in sorted(known["separation"].unique()))
    (repeated,) = known["cells"].unique()
    return f"K = {ks[0]} to {ks[-1]}, separations {separations}, {repeated:g}"


def corners(known: pd.DataFrame) -> str:
    """The phase diagram's four corners as a table."""
    ends = {name: (known[name].min(), known[name].max()) for name in AXES}
    rows = []
    for separation in ends["separation"]:
        for k in ends["components"]:
            here = known[
                (known["separation"] == separation) & (known["components"] == k)
            ]
            by_method = here.set_index("method")
            cells = [
                of(by_method.loc[method], name)
                for method in ("cavi", "svi")
                for name in ("sd ratio", "worst mean")
            ]
            rows.append([f"{separation:g}, {k:g}", *cells])
    names = [f"{m}: {n}" for m in ("CAVI", "SVI") for n in ("sd ratio", "worst mean")]
    return table(("separation, K", *names), rows)


def standings(out: Path, sweep: str) -> str:
    """A table of verdicts, ranks and times, one row a method, with a caption."""
    ended = read(out, sweep, "outcomes").set_index("method")
    ranks = read(out, sweep, "ranks")
    ranks = ranks[ranks["measure"] == "W1 / sd, mean"].set_index("method")
    seconds = read(out, sweep, "cells").groupby("method")["run s"].median()
    order = [*ranks.index, *(m for m in ended.index if m not in ranks.index)]
    rows = []
    for method in order:
        own = ended.loc[method]
        compared = own["is reference"] < own["cells"]
        counts = [f"{own.get(word, 0)}" if compared else "" for word in WORDS]
        left_out = f"{own['skipped'] + own['failed']}"
        rank = of(ranks.loc[method], "rank") if method in ranks.index else ""
        took = f"{seconds[method]:.3g}" if seconds[method] > 0 else ""
        rows.append([method, *counts, left_out, rank, took])
    head = ("method", *WORDS, "skipped or failed", "mean rank", "seconds")
    told = "The table counts cells by verdict, and gives the median seconds of a run."
    trust = read(out, sweep, "references")
    for _, one in trust[trust["doubted"] > 0].iterrows():
        told += (
            f" In {one['doubted']} of {one['cells']} cells the reference "
            f"{one['reference']} failed its diagnostics (R-hat up to "
            f"{one['largest R-hat']:.2f}, ESS down to {one['least ESS']:.0f}); these "
            "cells are not ranked."
        )
    if len(ranks):
        first = ranks.iloc[0]
        told += (
            f" Mean ranks are by W1 over {first['cells']} cells; the critical "
            f"difference is {first['critical']:.2f} (Nemenyi, 5 %)."
        )
    return f"{table(head, rows)}\n\n{textwrap.fill(told, 88)}"


def mixed(out: Path, data: str, method: str) -> str:
    """The range of a sampler's bulk ESS on one data set over the families, in words."""
    known = read(out, "families", "cells")
    ess = known[(known["data"] == data) & (known["method"] == method)]["ESS"]
    return f"{ess.min():.0f} to {ess.max():.0f}"


def exponents(out: Path) -> str:
    """A table of the exponents of time in each size, one row a method."""
    found = read(out, "growth", "growth")
    sizes = list(found["size"].unique())
    rows = []
    for method, own in found.groupby("method", sort=False):
        by_size = own.set_index("size")
        rows.append([str(method), *(of(by_size.loc[s], "exponent") for s in sizes)])
    return table(("method", *(f"with {size}" for size in sizes)), rows)


def more_rows(out: Path) -> str:
    """A table of sd ratios with the fewest and with the most rows, one row a K."""
    known = read(out, "growth", "settings")
    ends = known["rows"].min(), known["rows"].max()
    lines = []
    for k, own in known.groupby("components"):
        by = own.set_index(["method", "rows"])
        cells = [of(by.loc[m, n], "sd ratio") for m in ("cavi", "svi") for n in ends]
        lines.append([f"{k:g}", *cells])
    names = (f"{m}: N = {n:g}" for m in ("CAVI", "SVI") for n in ends)
    return table(("K", *names), lines)


def text(out: Path) -> str:
    """The text of docs/study.md."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return made.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        standings=partial(standings, out),
        mixed=partial(mixed, out),
        exponents=exponents(out),
        more_rows=more_rows(out),
        **phase(out),
    )


def with_table(page: Path, printed: str) -> str:
    """The text of a page, with a printed table in place of the one it shows."""
    known = page.read_text(encoding="utf-8")
    lines = filter(str.strip, printed.splitlines())
    shown = "\n".join(f"    {line}".rstrip() for line in lines)
    return re.sub(TABLE, lambda _: f"{shown}\n", known, count=1)


def written(out: Path) -> None:
    """Write docs/study.md, and the first table of other pages, from the results."""
    (ROOT / "docs" / "study.md").write_text(text(out), encoding="utf-8")
    printed = (out / "run.txt").read_text(encoding="utf-8")
    for page in SHOWING:
        page.write_text(with_table(page, printed), encoding="utf-8")


def main(given: Sequence[str] | None = None) -> None:
    """Run what is missing, publish the results, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "study")
    parser.add_argument("--page", action="store_true", help="only the page")
    options = parser.parse_args(given)
    if not options.page:
        measure(options.work, PUBLISHED)
    written(PUBLISHED)


if __name__ == "__main__":
    main()
