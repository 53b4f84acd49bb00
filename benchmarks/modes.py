"""How often is a reference in one of two modes trusted? Four designs with known masses.

    uv run python -m benchmarks.modes [--seeds 20] [--out results/published]

Each data set has two modes that are no relabellings of each other, whose masses are
summed over all assignments. `--reference auto` would take `exact` on so few rows; with
it excluded the reference is NUTS, Gibbs sampling or the tempered sampler, as on real
data. Counted are trusted references whose mass of the first mode is off by more than 3
Monte-Carlo errors, and wrong verdicts: CAVI, which has one mode, `agrees`; SMC, which
has both, `differs`.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import vi_bench as vb
from benchmarks.designs import DESIGNS, Modes
from benchmarks.measure import Case, write_cases
from benchmarks.page import table
from vi_bench.comparison.measures import Estimate, summarise
from vi_bench.methods.exact import Exact

METHODS = ("cavi", "svi", "nuts", "gibbs", "smc")

DRAWS = 2000
"""Draws of each chain, fixed: chains that switch modes would ask for very many."""

LIMIT = 3.0
"""Monte-Carlo errors by which a trusted reference's mass may be off."""


def mass(result: Any, design: Modes, label: str) -> Estimate:
    """The share of a method's draws in the first mode, with its Monte-Carlo error."""
    here = np.asarray(design.first(result.runs[label].posterior), float)
    found = summarise(here)
    return found.mean


def one(design: Modes, seed: int) -> dict[str, Any]:
    """The verdicts of one run, and its reference's mass of the first mode."""
    with mock.patch.object(Exact, "seconds", return_value=np.inf):
        result = vb.run(
            data=design.values,
            methods=METHODS,
            reference="auto",
            seed=seed,
            repeats=1,
            draws=DRAWS,
            **design.settings,
        )
    found = result.comparison
    words = {label: v.word for label, v in found.verdicts.items()}
    trusted = "reference unreliable" not in words.values()
    share = mass(result, design, found.reference)
    off = abs(share.value - design.mass) > LIMIT * max(share.se, 1e-12)
    return {
        "reference": found.reference if trusted else "unreliable",
        "mass": share.value,
        "mass_se": share.se,
        "wrong_mass": bool(trusted and off),
        "one_mode": bool(trusted and share.value in (0.0, 1.0)),
        "words": words,
        "note": found.note,
    }


def page(found: Mapping[str, Any]) -> str:
    """A Markdown table of the counts."""
    head = (
        "design",
        "mass of the first mode",
        "references",
        "trusted in one mode",
        "its mass off by over 3 errors",
        "CAVI `agrees`",
        "SMC `differs`",
    )
    rows = []
    for own in found["cases"]:
        runs = own["runs"]
        who = Counter(run["reference"] for run in runs)
        words = [run["words"] for run in runs]
        cells = [
            own["name"],
            f"{own['mass']:.4f}",
            ", ".join(f"{label} {n}" for label, n in who.items()),
            f"{sum(run['one_mode'] for run in runs)} of {len(runs)}",
            f"{sum(run['wrong_mass'] for run in runs)} of {len(runs)}",
            f"{sum(w.get('cavi') == 'agrees' for w in words)} of {len(runs)}",
            f"{sum(w.get('smc') == 'differs' for w in words)} of {len(runs)}",
        ]
        rows.append(cells)
    return table(head, rows)


def counted(name: str, seeds: int) -> Case:
    """Run a design with several seeds, and print the counts."""
    design = DESIGNS[name]()
    runs = [one(design, seed) for seed in range(seeds)]
    references = Counter(run["reference"] for run in runs)
    trusted = [run for run in runs if run["reference"] != "unreliable"]
    z = [(run["mass"] - design.mass) / run["mass_se"] for run in trusted]
    print(f"{name}: mass of the first mode {design.mass:.4f}")
    print(f"    references: {dict(references)}")
    if z:
        print(f"    z of its mass: rms {np.sqrt(np.mean(np.square(z))):.2f}")
    for what in ("one_mode", "wrong_mass"):
        print(f"    {what}: {sum(run[what] for run in runs)} of {len(runs)}")
    for label in METHODS:
        words = Counter(run["words"].get(label, "reference") for run in runs)
        print(f"    {label}: {dict(words)}", flush=True)
    return {"name": name, "mass": design.mass, "runs": runs}


def main() -> None:
    """Run and print the designs; what modes.json holds of others is kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--designs", nargs="*", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--out", type=Path, help="folder for the counts")
    given = parser.parse_args()
    for name in given.designs:
        write_cases([counted(name, given.seeds)], given.out, "modes")


if __name__ == "__main__":
    main()
