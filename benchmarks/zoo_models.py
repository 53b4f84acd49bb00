"""Which faults in fits of models that are no mixtures are found, and what is accused.

    uv run python -m benchmarks.zoo_models [--seeds 20] [--right 3] [--models hmm,lda]
        [--out results/published/zoo_models.json] [--onward] [--page docs/zoo_models.md]

Every mutant of tests/zoo/models is verified on the batteries of all seeds, until one
problem shows a fault; right fits and honest approximations on the whole batteries of
the first seeds. A bound that is right up to a constant counts as found where that is
the fault; it is looked for on problems of at most FEW rows. The file is written
whenever a fit is done. Of one that is there, what it has of other models is kept, and,
with --onward, of fits that it has with as many seeds. The exit code is 1 if something
right is accused, or a fit could not be verified.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import time
import warnings
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
from rich import print as show
from rich.progress import Progress

import tests.zoo.models
from benchmarks.page import interval
from vi_bench.verification import verify
from vi_bench.verification.model_battery import battery_of

MODELS = tuple(sorted(m.name for m in pkgutil.iter_modules(tests.zoo.models.__path__)))
RIGHT, COARSE, MUTANT = "RIGHT", "COARSE", "MUTANTS"

FEW = 5
"""Rows of the data sets that show that a fault is a constant."""

PER_PROCESS = 60
"""Fits that one process verifies: those of a model share compiled programs."""


def module_of(model: str) -> Any:
    """The module with the fits of a model."""
    return importlib.import_module(f"tests.zoo.models.{model}")


@lru_cache(64)
def problems_of(model: str, seed: int) -> list[Any]:
    """The battery of a model at a seed, made once for all its fits."""
    module = module_of(model)
    problems, _ = battery_of(module.model, module.data(), seed)
    return problems


def task(model: str, group: str, name: str, seeds: list[int]) -> dict[str, Any]:
    """What verification says of one fit, by seed."""
    warnings.simplefilter("ignore")  # mutants overflow
    jax.config.update("jax_enable_x64", True)
    module = module_of(model)
    kind = getattr(module, name)
    constant = bool(getattr(kind, "constant", False))
    by_seed = {}
    for seed in seeds:
        begun, worked = time.perf_counter(), time.process_time()
        problems = problems_of(model, seed)
        if constant:
            problems = [p for p in problems if (p.rows or 0) <= FEW]
        report = verify(
            kind(),
            problems=problems,
            first=group == MUTANT,
        )
        found = {check: f.said for check, f in report.failures.items()}
        lacking = [note for note in report.notes if "up to a constant" in note]
        by_seed[seed] = {
            "found_by": found,
            "constant": lacking[0] if lacking else None,
            "seconds": round(time.perf_counter() - begun, 1),
            "processor": round(time.process_time() - worked, 1),
        }
    return {
        "what": (kind.__doc__ or "").partition("\n")[0].rstrip("."),
        "constant": constant,
        "seeds": by_seed,
    }


def attempt(given: tuple[str, str, str, list[int]]) -> tuple[Any, Any]:
    """The arguments of `task`, and what it returns or raises."""
    try:
        return given, task(*given)
    except Exception as error:
        return given, error


def caught(result: dict[str, Any], seed: Any) -> bool:
    """Whether a mutant was found at a seed."""
    own = result["seeds"][seed]
    return bool(own["found_by"]) or (result["constant"] and bool(own["constant"]))


def accused(result: dict[str, Any]) -> list[Any]:
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
    parser.add_argument("--onward", action="store_true", help="keep what is known")
    parser.add_argument("--page", type=Path, help="a .md file for a table of it")
    parser.add_argument("--known", type=Path, help="a .json file: only make the page")
    given = parser.parse_args()
    if given.known:
        known = json.loads(given.known.read_text(encoding="utf-8"))
        (given.page or Path("zoo_models.md")).write_text(page(known), encoding="utf-8")
        return
    models = given.models.split(",")
    results = stored(given.out, () if given.onward else models)
    broken: list[str] = []
    tasks = []
    for model in models:
        for group, known in results.items():
            number = given.seeds if group == MUTANT else given.right
            for kind in getattr(module_of(model), group):
                done = known.get(f"{model}.{kind.__name__}", {}).get("seeds", ())
                if len(done) < number:
                    tasks.append((model, group, kind.__name__, list(range(number))))
    # an executor whose processes are replaced may wait for ever (CPython 115634)
    pools = get_context("spawn").Pool(given.processes, maxtasksperchild=PER_PROCESS)
    with pools as pool, Progress() as progress:
        bar = progress.add_task("fits", total=len(tasks))
        for one, found in pool.imap_unordered(attempt, tasks):
            model, group, fit, _ = one
            name = f"{model}.{fit}"
            progress.advance(bar)
            if isinstance(found, Exception):  # the others are not lost for it
                progress.console.print(f"{name}: {found!r}", markup=False)
                broken.append(name)
                continue
            # seeds are text, as in the file
            results[group][name] = json.loads(json.dumps(found))
            said(progress.console.print, group, name, results[group][name])
            write(results, given.out)
    summed_up(results)
    if given.page:
        given.page.write_text(page(results), encoding="utf-8")
    raise SystemExit(
        int(
            bool(broken)
            or any(accused(r) for g in (RIGHT, COARSE) for r in results[g].values())
        )
    )


def stored(out: Path | None, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a file has of other models than these; nothing if there is none."""
    results: dict[str, dict[str, Any]] = {RIGHT: {}, COARSE: {}, MUTANT: {}}
    if out is not None and out.exists():
        for group, known in json.loads(out.read_text(encoding="utf-8")).items():
            results[group] = {
                n: r for n, r in known.items() if n.partition(".")[0] not in models
            }
    return results


def write(results: dict[str, dict[str, Any]], out: Path | None) -> None:
    """Write what is known, whole or not at all."""
    if out is None:
        return
    ordered = {group: dict(sorted(found.items())) for group, found in results.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    part.replace(out)


def said(tell: Any, group: str, name: str, result: dict[str, Any]) -> None:
    """Print what should be looked at as soon as it is known."""
    if group == MUTANT:
        lost = [seed for seed in result["seeds"] if not caught(result, seed)]
        if lost:
            tell(f"{name}: not found at seeds {lost}: {result['what']}", markup=False)
    elif seeds := accused(result):
        first = result["seeds"][seeds[0]]
        tell(f"{name}: accused at seeds {seeds}: {first}", markup=False)


def shares(mutants: dict[str, Any]) -> list[float]:
    """Share of the mutants that is found, by seed."""
    seeds = next(iter(mutants.values()))["seeds"]
    return [
        sum(caught(r, seed) for r in mutants.values()) / len(mutants) for seed in seeds
    ]


def counts(results: dict[str, dict[str, Any]]) -> tuple[int, int, float]:
    """Verifications of what is right, how many accused it, and at most what share."""
    tried = [r for g in (RIGHT, COARSE) for r in results[g].values()]
    number = sum(len(r["seeds"]) for r in tried)
    false = sum(len(accused(r)) for r in tried)
    return number, false, interval(false, number)[1]


def longest(results: dict[str, dict[str, Any]]) -> float:
    """Processor seconds of the longest verification, of all cores together."""
    every = [r for group in results.values() for r in group.values()]
    runs = [own for r in every for own in r["seeds"].values()]
    return max((own["processor"] for own in runs if "processor" in own), default=0.0)


def summed_up(results: dict[str, dict[str, Any]]) -> None:
    """Print the counts."""
    if results[MUTANT]:
        found = shares(results[MUTANT])
        show(
            f"{len(results[MUTANT])} mutants; share found by seed: {min(found):.1%} to "
            f"{max(found):.1%}"
        )
    number, false, most = counts(results)
    if number:
        show(
            f"{len(results[RIGHT])} right fits and {len(results[COARSE])} honest "
            f"approximations: {false} accused in {number} verifications (95 %: at most "
            f"{most:.2%})"
        )
    show(f"longest verification: {longest(results):.0f} s of processor")


def page(results: dict[str, dict[str, Any]]) -> str:
    """The results as the text of docs/zoo_models.md."""
    mutants = results[MUTANT]
    found = shares(mutants)
    number, false, most = counts(results)
    lines = [
        "# The zoo of other models",
        "",
        "`tests/zoo/models` holds fits by hand of models that are no mixtures of the",
        "package's families: right ones in several styles, honest approximations, and",
        "mutants with one planted fault each. [`verify`](verifying.md) was run on all",
        "of them. This page is generated by `python -m benchmarks.zoo_models`; all",
        "numbers, with the message of each check, are in",
        "`results/published/zoo_models.json`.",
        "",
        f"- {len(mutants)} mutants, each on the batteries of {len(found)} seeds: "
        f"{min(found):.1%} to",
        f"  {max(found):.1%} are found at each seed.",
        f"- {len(results[RIGHT])} right fits and {len(results[COARSE])} honest",
        f"  approximations: {false} accused in {number} verifications (95 %: at most",
        f"  {most:.2%}).",
        f"- The longest took {longest(results):.0f} s of processor, most of it to",
        "  compile. Those of mutants end at the first problem that shows a fault.",
        "",
        "| model | right | approximations | mutants | found at every seed |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        own = {g: _of(results[g], model) for g in results}
        always = sum(
            all(caught(r, s) for s in r["seeds"]) for r in own[MUTANT].values()
        )
        sizes = " | ".join(str(len(own[g])) for g in (RIGHT, COARSE, MUTANT))
        lines.append(f"| `{model}` | {sizes} | {always} |")
    lines += [
        "",
        "| mutant | fault | found at seeds | by, at the first |",
        "|---|---|---|---|",
    ]
    for name, result in mutants.items():
        seeds = list(result["seeds"])
        times = sum(caught(result, seed) for seed in seeds)
        first = result["seeds"][seeds[0]]
        by = ", ".join(first["found_by"]) or (
            "right up to a constant" if caught(result, seeds[0]) else "nothing"
        )
        what = result["what"].replace("|", "\\|")
        lines.append(f"| `{name}` | {what} | {times} of {len(seeds)} | {by} |")
    lines += [
        "",
        "Right fits, and approximations that must not be called faults:",
        "",
        "| fit | what it is | verifications | accused |",
        "|---|---|---|---|",
    ]
    for name, result in (results[RIGHT] | results[COARSE]).items():
        what = result["what"].replace("|", "\\|")
        counted = f"{len(result['seeds'])} | {len(accused(result))}"
        lines.append(f"| `{name}` | {what} | {counted} |")
    return "\n".join(lines) + "\n"


def _of(results: dict[str, Any], model: str) -> dict[str, Any]:
    return {n: r for n, r in results.items() if n.partition(".")[0] == model}


if __name__ == "__main__":
    main()
