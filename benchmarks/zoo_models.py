"""Which faults in fits of models that are no mixtures are found, and what is accused.

    uv run python -m benchmarks.zoo_models [--seeds 20] [--right 3] [--models hmm,lda]
        [--out results/published/zoo_models.json]

Every mutant of tests/zoo/models is verified on the batteries of all seeds, until one
problem shows a fault; right fits and honest approximations on the whole batteries of
the first seeds. A bound that is right up to a constant counts as found where that is
the fault. The exit code is 1 if something right is accused.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
from rich import print as show
from rich.progress import Progress
from scipy.stats import beta

import tests.zoo.models
from vi_bench.verification import verify

MODELS = tuple(sorted(m.name for m in pkgutil.iter_modules(tests.zoo.models.__path__)))
RIGHT, COARSE, MUTANT = "RIGHT", "COARSE", "MUTANTS"


def module_of(model: str) -> Any:
    """The module with the fits of a model."""
    return importlib.import_module(f"tests.zoo.models.{model}")


def task(model: str, group: str, name: str, seeds: list[int]) -> dict[str, Any]:
    """What verification says of one fit, by seed."""
    warnings.simplefilter("ignore")  # mutants overflow
    jax.config.update("jax_enable_x64", True)
    module = module_of(model)
    kind = getattr(module, name)
    by_seed = {}
    for seed in seeds:
        begun = time.perf_counter()
        report = verify(
            kind(),
            model=module.model,
            data=module.data(),
            seed=seed,
            first=group == MUTANT,
        )
        found = {check: f.said for check, f in report.failures.items()}
        constant = [note for note in report.notes if "up to a constant" in note]
        by_seed[seed] = {
            "found_by": found,
            "constant": constant[0] if constant else None,
            "seconds": round(time.perf_counter() - begun, 1),
        }
    return {
        "what": (kind.__doc__ or "").partition("\n")[0].rstrip("."),
        "constant": bool(getattr(kind, "constant", False)),
        "seeds": by_seed,
    }


def caught(result: dict[str, Any], seed: int) -> bool:
    """Whether a mutant was found at a seed."""
    own = result["seeds"][seed]
    return bool(own["found_by"]) or (result["constant"] and bool(own["constant"]))


def accused(result: dict[str, Any]) -> list[int]:
    """Seeds at which something right was accused."""
    return [
        seed
        for seed, own in result["seeds"].items()
        if own["found_by"] or own["constant"]
    ]


def main() -> None:
    """Verify all fits, print what was found, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="of every mutant")
    parser.add_argument("--right", type=int, default=3, help="seeds of what is right")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="a .json file for what was found")
    given = parser.parse_args()
    results: dict[str, dict[str, Any]] = {RIGHT: {}, COARSE: {}, MUTANT: {}}
    with ProcessPoolExecutor(
        given.processes, get_context("spawn"), max_tasks_per_child=8
    ) as pool:
        futures = {}
        for model in given.models.split(","):
            for group in results:
                number = given.seeds if group == MUTANT else given.right
                for kind in getattr(module_of(model), group):
                    future = pool.submit(
                        task, model, group, kind.__name__, list(range(number))
                    )
                    futures[future] = (group, f"{model}.{kind.__name__}")
        with Progress() as progress:
            bar = progress.add_task("fits", total=len(futures))
            for future in as_completed(futures):
                group, name = futures[future]
                result = future.result()
                results[group][name] = result
                said(progress.console.print, group, name, result)
                progress.advance(bar)
    summed_up(results)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        ordered = {g: dict(sorted(r.items())) for g, r in results.items()}
        given.out.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(
        int(any(accused(r) for g in (RIGHT, COARSE) for r in results[g].values()))
    )


def said(tell: Any, group: str, name: str, result: dict[str, Any]) -> None:
    """Print what should be looked at as soon as it is known."""
    if group == MUTANT:
        lost = [seed for seed in result["seeds"] if not caught(result, seed)]
        if lost:
            tell(f"{name}: not found at seeds {lost}: {result['what']}", markup=False)
    elif seeds := accused(result):
        first = result["seeds"][seeds[0]]
        tell(f"{name}: accused at seeds {seeds}: {first}", markup=False)


def summed_up(results: dict[str, dict[str, Any]]) -> None:
    """Print the counts."""
    mutants = results[MUTANT]
    if mutants:
        seeds = next(iter(mutants.values()))["seeds"]
        shares = [
            sum(caught(r, seed) for r in mutants.values()) / len(mutants)
            for seed in seeds
        ]
        show(
            f"{len(mutants)} mutants; share found by seed: {min(shares):.1%} to "
            f"{max(shares):.1%}"
        )
    tried = [r for g in (RIGHT, COARSE) for r in results[g].values()]
    number = sum(len(r["seeds"]) for r in tried)
    false = sum(len(accused(r)) for r in tried)
    if number:
        high = beta.ppf(0.975, false + 1, number - false) if false < number else 1.0
        show(
            f"{len(tried)} right fits and honest approximations: {false} accused in "
            f"{number} verifications (95 %: at most {high:.2%})"
        )
    times = [s["seconds"] for g in results.values() for r in g.values()
             for s in r["seeds"].values()]  # fmt: skip
    show(f"longest verification: {max(times):.0f} s")


if __name__ == "__main__":
    main()
