"""Write docs/speed.md from the numbers in results/published.

uv run python -m benchmarks.page
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.measure import said, spread
from benchmarks.speed import along, exponent

PUBLISHED = Path("results/published")
PAGE = Path("docs/speed.md")

Found = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right after the first column."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(count: int, of: int) -> tuple[float, float]:
    """A share's exact 95 % interval (Clopper and Pearson 1934)."""
    found = binomtest(count, of).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def ratio(case: Found, name: str) -> str:
    """The text "minimum / median / maximum" of a ratio; empty if not measured."""
    return said(case["ratios"][name]) if name in case["ratios"] else ""


def shape(case: Found) -> str:
    """The size of a case in words: N, d and K."""
    return f"{case['N']:,} x {case['d']}, K = {case['K']}"


def of_speed(found: Found) -> str:
    """The section on the pass: cases, growth with N, K and d, several cores."""
    peers = ("sklearn spherical", "sklearn full", "bayespy")
    rows = [
        [
            f"{case['model']}, {shape(case)}, {case['dtype']}",
            f"{case['ms']['ours'][1]:.3g}",
            ratio(case, "ours / floor"),
            ratio(case, "gradient / pass"),
            *(ratio(case, f"{peer} / ours") for peer in peers),
        ]
        for case in found["cases"]
        if case.get("peers", True)
    ]
    head = ("", "ms", "x floor", "gradient / pass", *(f"{p} / ours" for p in peers))
    growth = ", ".join(
        f"{axis}^{exponent(along(found['cases'], axis), axis):.2f}"
        for axis in ("N", "K", "d")
    )
    cores = "; ".join(
        f"{ratio(case, '1 core / devices')}, while two independent processes gain "
        f"{ratio(case, '1 core / limit')} ({shape(case)})"
        for case in found["cores"]
    )
    return f"""## An iteration of CAVI, its ELBO included

{table(head, rows)}

One core, one thread. The floor is a lower limit for this machine, from the throughputs
measured at the same time: of exponentials at their best, of multiplications in a matrix
product, and of bytes read in a sum. Time grows as {growth}. The time of one core
divided by that of two, with `--devices 2`: {cores}.

![Time against N, K and d, and the roof](../results/published/speed.png)
"""


def of_accelerator(found: Found) -> str:
    """The section on the pass on an accelerator."""
    names = ("pass", "gradient", "4 chains")
    others = ("in steps / pass", "1 core / ours", "all cores / ours")
    rows = [
        [
            f"{case['model']}, {shape(case)}, {case['dtype']}",
            *(f"{case['ms'][name][1]:.3g}" for name in ("ours", *names)),
            ratio(case, "ours / floor"),
            *(ratio(case, name) for name in others),
        ]
        for case in found["cases"]
    ]
    head = ("", "ms", *(f"ms per {name}" for name in ("pass", "gradient")))
    head = (*head, "of 4 chains", "x floor", "in steps / it")
    head = (*head, "1 core / it", f"{found['cores']} cores / it")
    machine = found["machine"]
    name, packages = found["device"].partition(": ")[2], machine["packages"]
    return f"""## On an accelerator

Wall-clock times, measured by `python -m benchmarks.accelerator` on {name} and
{found["cores"]} cores of {machine["processor"]}, jax {packages["jax"]}.
The floor is that of the accelerator. Below about 100,000 rows, the time to launch a
kernel, some microseconds, dominates. `in steps` is the pass without the kernel of
`vi_bench.mixture.fused`, which full covariances in 10 dimensions do not use, because
they have too many sums. `of 4 chains` is the time per chain for four gradients at once.

{table(head, rows)}
"""


def of_samplers(found: Found) -> str:
    """The section on NUTS."""
    parts = []
    for case in found["cases"]:
        rows = []
        for name, runs in case["runs"].items():
            middle = {k: spread([r[k] for r in runs])[1] for k in runs[0]}
            rows.append(
                [
                    name,
                    f"{middle['ess_per_second']:.3g}",
                    f"{middle['us_per_gradient']:.3g}"
                    if "us_per_gradient" in middle
                    else "",
                    f"{middle['ess_per_gradient']:.2g}",
                    f"{middle['max_rhat']:.3f}",
                    ratio(case, f"ours / {name}"),
                ]
            )
        head = (
            "",
            "ESS/s",
            "us per gradient",
            "ESS per gradient",
            "R-hat",
            "ours / it",
        )
        parts.append(f"{case['name']}: {shape(case)}\n\n{table(head, rows)}\n")
    return """## NUTS

All samplers run four chains with the same rows, prior, starts, warm-up and draws, on
one core, compiled and warm. ESS is the smallest over label-invariant quantities; ESS/s
includes the warm-up. NumPyro's kernel runs as one program, without the overhead of
`MCMC`: once compiled with the flags used here, and once with XLA's defaults
([verifying.md](verifying.md#a-compiler-that-is-wrong)). nutpie runs a PyMC model
compiled by Numba.

""" + "\n".join(parts)


def of_optimum(found: Found) -> str:
    """The section on the time to an optimum."""
    parts = []
    for case in found["cases"]:
        if case["name"] == "sklearn":
            needed = [start["iterations"] for start in case["starts"]]
            ours, theirs = (
                said(spread([n[k] for n in needed])) for k in ("ours", "sklearn")
            )
            parts.append(f"""\
On the notebook's data, with full covariances and Dirichlet weights, both start at the
same point and run to within 1e-10 of their own optimum. scikit-learn takes
{ratio(case, "sklearn / ours")} times as long ({ours} accelerated sweeps against its
{theirs} iterations).
""")
        else:
            near, close = (
                ratio(case, f"usual / stochastic, {w}") for w in ("near", "close")
            )
            parts.append(f"""\
On {case["data"].removeprefix("simulate:")}, CAVI from its usual start takes
{near} times as long as stochastic steps to come within a gap of 1e-3 of the best
optimum seen. To come within 1e-10 of its own optimum it takes
{close} times as long as with `start = "stochastic"`, the steps included.
""")
    return "\n".join(["## To an optimum\n", *parts])


def of_cores(found: Found) -> str:
    """The section on chains and restarts on several cores."""
    rows = [
        [
            f"{case['method']}, {shape(case)}",
            *(f"{case['s'][name][1]:.3g}" for name in ("1 core", "all cores", "limit")),
            *(ratio(case, f"1 core / {name}") for name in ("all cores", "limit")),
        ]
        for case in found["cases"]
    ]
    head = ("", "s, 1 core", "s, all cores", "s, processes", "gain", "of processes")
    return f"""## Chains on all cores

Four chains (SMC and nested sampling: four times four runs; CAVI: four restarts) on one
core, on all {found["cases"][0]["cores"]}, and by independent processes, one on each
core with its share of the chains, of which the slowest counts. The search for starting
points is not timed, all else is, compiled and warm; gain is the time of one core over
that of all.

{table(head, rows)}
"""


def of_cell(found: Found) -> str:
    """The section on a run's overhead and memory."""
    (first, *others) = found["cases"]
    rows = [
        [
            f"{case['N']:,} x 2, {case['dtype']}",
            f"{case['data'] / 1e6:.3g}",
            f"{case['beside'] / 1e6:.3g}",
        ]
        for case in others
        if case["N"] > 1000
    ]
    return f"""## Beside the methods

A run of `{first["spec"]}` by cavi, svi and nuts in a warm process spends
{said(first["seconds"])} s outside its methods, including writing its files but not its
figures. The table gives the memory that cavi needs in addition to the rows, which are
held as given, as a checked table of float64, and in blocks:

{table(("rows", "MB of data", "MB more than 1000 rows take"), rows)}
"""


RUNS = {
    "first-run": ("`run faithful`, nothing compiled", ("s", "trace_s", "compile_s")),
    "compile": (
        "`run notebook --methods cavi,svi,nuts`, nothing compiled",
        ("s", "trace_s", "compile_s"),
    ),
    "compile-semiconjugate": (
        "`gaussian-semiconjugate` on `galaxies` by cavi, gibbs, smc, nested, nothing "
        "compiled",
        ("s", "trace_s", "compile_s"),
    ),
    "compare": ("`compare` of two files of 4 x 10,000 draws of 50 quantities", ("s",)),
    "many-rows": (
        "CAVI of `gaussian-diagonal`, 1,000,000 x 4 rows of a .parquet file, K = 4, 4 "
        "restarts; the longest of these; their ratio",
        ("s", "one_s", "in_fits"),
    ),
    "budget": (
        "breast cancer (569 x 30), `gaussian-full`, K = 2, by cavi, svi and nuts with "
        "`--budget 60`; NUTS alone",
        ("s", "nuts_s"),
    ),
}
"""Name of a case of `runs` -> what it is, and what is shown of it."""


def of_runs(found: Found) -> str:
    """The section on whole commands."""
    rows = []
    for case in found["cases"]:
        what, names = RUNS[case["name"]]
        rows.append([what, *(said(case["measured"][name]) for name in names)])
        rows[-1] += [""] * (4 - len(rows[-1]))
    return f"""## Whole commands

Seconds from Python's start to its end, files and figures included. Of those that
compile, the second and third number are what tracing takes of them, and the wait for
compiling after that; of others they are as said.

{table(("", "s", "second", "third"), rows)}
"""


def of_stream(found: Found) -> str:
    """The section on rows in a file."""
    runs = found["runs"]
    seconds = {k: [r["seconds_of_a_sweep"] for r in v] for k, v in runs.items()}
    peak = {k: max(r["peak_bytes"] for r in v) / 1e9 for k, v in runs.items()}
    share = [a / b for a, b in zip(seconds["memory"], seconds["file"], strict=True)]
    return f"""## Rows that stay in their file

On {found["rows"]:.0e} x {found["features"]} float32 rows with K = 5, a sweep of CAVI
takes {said(spread(seconds["file"]))} s with a peak of {peak["file"]:.2f} GB when rows
are read from their file, and {said(spread(seconds["memory"]))} s with
{peak["memory"]:.2f} GB when they are in memory. Reading from the file has
{said(spread(share))} times the throughput.
"""


def of_sweeps(found: Found) -> str:
    """The section on sweeps: overhead of a cell, and queries on a folder."""
    cells, folder = found["cases"]
    return f"""## Sweeps

For a cell of cavi on `faithful` with {cells["draws"]:,} draws, a warm worker needs
{said(cells["beside"])} s in addition to the run, which takes
{said(cells["run"])} s. In a folder of {folder["count"]:,} finished cells, `vi-bench
status` takes {said(folder["status"])} s and a query
{said(folder["query"])} s; the first query, which builds the index, takes
{folder["first_query"]:.3g} s.
"""


PARTS = {
    "speed": of_speed,
    "accelerator": of_accelerator,
    "samplers": of_samplers,
    "optimum": of_optimum,
    "cores": of_cores,
    "cell": of_cell,
    "runs": of_runs,
    "stream": of_stream,
    "sweeps": of_sweeps,
}


def page(found: Mapping[str, Found]) -> str:
    """The text of docs/speed.md."""
    machine = next(iter(found.values()))["machine"]
    parts = [PARTS[name](part) for name, part in found.items()]
    return f"""# How fast

This page is generated by
`uv run --group bench python -m benchmarks --out results/published` and
`python -m benchmarks.page`, from measurements on {machine["cores"]} cores of
{machine["processor"]}, jax {machine["packages"]["jax"]}.
Each ratio is taken within a round, in which all sides run in turn on the same data.
Ratios are given as min / median / max over the rounds.

""" + "\n".join(parts)


def published(folder: Path = PUBLISHED) -> dict[str, Found]:
    """Name -> published results of every benchmark that has any."""
    paths = {name: folder / f"{name}.json" for name in PARTS}
    return {k: json.loads(p.read_text()) for k, p in paths.items() if p.is_file()}


if __name__ == "__main__":
    PAGE.write_text(page(published()), encoding="utf-8")
