"""Chains, runs and restarts on all cores, and what independent processes reach.

    uv run python -m benchmarks.cores [--rounds 5] [--quick] [--out results/published]

Each method's stages are run, compiled and warm, in child processes in turn: on one
core; on all of them; and, as the limit, by one process for each core with its share of
the chains, all at once, of which the slowest counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.measure import (
    ONE_THREAD,
    Case,
    alone,
    clusters,
    in_turn,
    options,
    ratios,
    said,
    spread,
    write,
)
from vi_bench.runtime.provenance import cores as own_cores

LANES = 4
"""Chains, or restarts, of every case."""

TOOK, LONG = 3, 5.0
"""Runs of which a child tells the seconds of each, and seconds after which one of them
is the last."""

SMALL: Case = {
    "model": "gaussian", "N": 1000, "K": 5, "d": 2, "dtype": "float64", "draws": 1000,
}  # fmt: skip

CASES: list[Case] = [
    {"method": "nuts", **SMALL},
    {"method": "gibbs", **SMALL},
    {"method": "smc", **SMALL, "draws": 100},
    {"method": "nested", **SMALL, "draws": 100},
    {"method": "tempered", **SMALL, "draws": 100},
    {"method": "nuts", **SMALL, "N": 20_000, "K": 16, "d": 8, "draws": 50}
    | {"settings": {"warmup": 100}},
    {"method": "cavi", **SMALL, "N": 1_000_000},
]


def child(case: Case, rounds: int) -> list[float]:
    """Seconds of all stages of the inference but the start, in some runs."""
    import jax

    from benchmarks.speed import bound
    from vi_bench import catalogue
    from vi_bench.contract import Problem
    from vi_bench.inference.stages import call_until_done, drive, prepare, program_of
    from vi_bench.runtime.environment import computing, find_device, session

    with session(), computing(find_device("cpu"), 64):
        mixture, _ = bound(case, clusters(case))
        lanes, chains = case["lanes"], case["lanes"]
        settings: dict[str, Any] = case.get("settings", {})
        if case["method"] == "cavi":
            settings, chains = {"restarts": lanes, "max_iterations": 50}, 1
        method = catalogue.method(case["method"])(**settings)
        stages = prepare(
            method, Problem(mixture, chains, case["draws"]), jax.random.key(0)
        )
        programs = {stage.name: program_of(stage) for stage in stages}

        def once(spent: dict[str, float]) -> None:
            def each(stage: Any, keys: Any, posterior: Any, carry: Any) -> Any:
                begun = time.perf_counter()
                program = programs[stage.name]
                found = call_until_done(stage, program, keys, posterior, carry).carry
                if stage.part_of_inference and stage.name != "start":
                    spent[stage.name] = time.perf_counter() - begun
                return found

            drive(stages, jax.random.key(case["seed"]), mixture, each)

        once({})
        found = []
        for _ in range(rounds):
            spent: dict[str, float] = {}
            once(spent)
            found.append(sum(spent.values()))
            if found[-1] > LONG:
                break
    return found


def held(case: Case, rounds: int) -> Case:
    """Times on one core and on all, and the limit of so many processes."""
    cores = own_cores() or 1
    share = case | {"lanes": LANES // cores}

    def took(case: Case, cores: list[int], environment: Mapping[str, str]) -> float:
        return float(
            np.median(alone("benchmarks.cores", case, TOOK, cores, environment))
        )

    def at_once() -> float:
        with ThreadPoolExecutor(cores) as pool:
            found = pool.map(
                lambda at: took(share | {"seed": at}, [at], ONE_THREAD), range(cores)
            )
            return max(found)

    whole = case | {"lanes": LANES}
    takers = {
        "1 core": lambda: took(whole, [0], ONE_THREAD),
        "all cores": lambda: took(whole, list(range(cores)), {}),
        "limit": at_once,
    }
    times = in_turn(takers, rounds)
    return case | {
        "cores": cores,
        "s": {name: spread(t) for name, t in times.items()},
        "ratios": {
            "1 core / all cores": ratios(times["1 core"], times["all cores"]),
            "1 core / limit": ratios(times["1 core"], times["limit"]),
            "limit / all cores": ratios(times["limit"], times["all cores"]),
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure all cases, print the ratios, write the results."""
    given = options(__doc__, "cores", 5).parse_args(arguments)
    found = []
    for case in CASES:
        if given.quick:
            case = case | {"N": 100, "draws": 8}
        result = held(case | {"seed": 0}, given.rounds)
        gains = {name: said(values) for name, values in result["ratios"].items()}
        print(f"{case['method']}, {case['N']} x {case['d']}: {gains}", flush=True)
        found.append(result)
    if not given.quick:
        write({"rounds": given.rounds, "cases": found}, given.out, "cores")


if __name__ == "__main__":
    main()
