"""CAVI, linear response and SVI beside NUTS, for every model of the library.

    uv run python -m benchmarks.library [--out results/published/library.json]
        [--page docs/library_table.md] [--experiments diabetes,nile]

Runs the built-in experiment of each model as a user runs it, and takes from its record
the standard deviations over those of NUTS, the verdicts and the seconds. The file is
written whenever an experiment is done; of others it keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import print as show

import vi_bench as vb
from vi_bench import catalogue

METHODS = ("cavi", "svi", "nuts")


def experiments() -> list[str]:
    """Names of the built-in experiments of models that are no mixtures."""
    known = {name: vb.read(name, {}) for name in catalogue.experiments()}
    return [name for name, spec in known.items() if spec.numpyro is not None]


def one(name: str) -> dict[str, Any]:
    """What a run of an experiment shows."""
    begun = time.perf_counter()
    result = vb.launch(vb.read(name, {}))
    seconds = time.perf_counter() - begun
    record = result.summary
    methods = record["methods"]
    judged = [c for c in record["comparisons"] if c["quantity"] != "log joint"]
    ratios = {
        label: [c["sd_ratio"] for c in judged if c["method"] == label]
        for label in ("cavi", "svi")
    }
    true = {n: q["sd"] for n, q in methods["nuts"]["quantities"].items()}
    response = methods["cavi"]["linear_response"] or {"quantities": {}}
    ratios["linear response"] = [
        q["sd"] / true[n] for n, q in response["quantities"].items() if n in true
    ]
    return {
        "model": record["model"]["name"],
        "settings": record["spec"]["model"],
        "data": record["data"]["note"],
        "sd_ratio": {
            label: [min(v), float(np.median(v)), max(v)] if v else None
            for label, v in ratios.items()
        },
        "quantities": len(true) - 1,
        "refused": response.get("refused", ""),
        "verdicts": {k: v["word"] for k, v in record["verdicts"].items()},
        "reasons": {k: v["reason"] for k, v in record["verdicts"].items()},
        "run_s": {k: methods[k]["time"]["run_s"]["median"] for k in METHODS},
        "compile_s": {k: methods[k]["time"]["compile_s"] for k in METHODS},
        "seconds": seconds,
    }


def page(found: dict[str, dict[str, Any]]) -> str:
    """The results as the text of docs/library_table.md."""
    lines = [
        "# The library beside NUTS",
        "",
        "Every built-in experiment of [the library](library.md), run as it is:",
        "standard deviations over those of NUTS, smallest, median and largest, of all",
        "compared quantities, the verdict on CAVI, and seconds of each method,",
        "compiled and warm, on two cores. `python -m benchmarks.library` generates the",
        "page; all numbers are in `results/published/library.json`.",
        "",
        "| experiment | model | quantities | CAVI's sds | linear response | SVI's sds "
        "| CAVI | CAVI s | SVI s | NUTS s | all, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, own in sorted(found.items()):
        sds = " | ".join(
            _spread(own["sd_ratio"][k]) for k in ("cavi", "linear response", "svi")
        )
        run = " | ".join(f"{own['run_s'][k]:.2g}" for k in METHODS)
        lines.append(
            f"| `{name}` | `{own['model']}` | {own['quantities']} | {sds} "
            f"| {own['verdicts']['cavi']} | {run} | {own['seconds']:.0f} |"
        )
    lines += [
        "",
        "The last column is the whole run with its files; nothing was compiled before.",
        "",
        "Of SVI the guide is NumPyro's `AutoNormal`: independent normals on the",
        "unconstrained space, from a random start. Where its sds are several times",
        "those of NUTS it ended in a poor optimum, as its log joint density shows.",
        "",
        "Where CAVI differs from NUTS, its factors are independent and the posterior's",
        "variables are not; `vi-bench verify cavi --model NAME` proves that it is what",
        "its factors allow. Linear response holds where a posterior is nearly normal;",
        "those of eight effects, of counts of one or two deaths, and of coefficients",
        "that may be zero are not.",
    ]
    return "\n".join(lines) + "\n"


def _spread(values: list[float] | None) -> str:
    return "-" if values is None else " / ".join(f"{v:.2f}" for v in values)


def main() -> None:
    """Run the experiments, print a line for each, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--experiments", help="some of them, by name")
    parser.add_argument("--out", type=Path, help="a .json file for what is found")
    parser.add_argument("--page", type=Path, help="a .md file for a table of it")
    given = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    if given.out and given.out.exists():
        found = json.loads(given.out.read_text(encoding="utf-8"))
    wanted = given.experiments.split(",") if given.experiments else experiments()
    for name in wanted:
        found[name] = one(name)
        show({name: found[name]["verdicts"], "seconds": round(found[name]["seconds"])})
        if given.out:
            text = json.dumps(found, indent=1) + "\n"
            given.out.write_text(text, encoding="utf-8")
    if given.page:
        given.page.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
