"""Overhead of a run: seconds beside its methods, and memory beside its data.

    uv run python -m benchmarks.cell [--rounds 3] [--quick] [--out results/published]

`overhead`: seconds of a run of cavi, svi and nuts with its files that no method spends:
loading, evaluation, comparison, writing. In one process; the first run, which compiles
and imports, is shown apart. Drawing the figures is not counted.

`memory`: the system's peak of a process that runs cavi on N rows, minus the rows (as
given, as the checked table of float64, and in blocks) and minus what a process takes
that runs it on a thousand. Each is run twice, and the second process counts: its
programs are compiled, which takes memory that does not depend on the rows.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Case, alone, options, said, spread, write

CASES: list[Case] = [
    {"name": "overhead", "spec": "notebook"},
    *(
        {"name": "memory", "N": N, "dtype": dtype}
        for dtype in ("float64", "float32")
        for N in (1000, 1_000_000, 4_000_000)
    ),
]


def of_methods(result: Any) -> float:
    """Seconds of all methods: set-up, tracing, compilation, runs, further draws."""
    total = 0.0
    for run in result.runs.values():
        total += run.setup_s + run.further_s
        for stage in run.stages.values():
            total += stage.trace_s + stage.compile_s + stage.first_s
            total += sum(stage.runs_s)
    return total


def overhead(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds beside the methods, of a first run and of the warm ones after it."""
    import vi_bench as vb
    from vi_bench.runner.views import Result

    drawn, draw = [0.0], Result.figures

    def clocked(self: Any, folder: Any) -> Any:
        begun = time.perf_counter()
        made = draw(self, folder)
        drawn[0] = time.perf_counter() - begun
        return made

    Result.figures = clocked  # type: ignore[method-assign]
    found = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            result = vb.launch(vb.read(case["spec"], {}), out=Path(folder) / "run")
            seconds = time.perf_counter() - begun
        found.append(seconds - of_methods(result) - drawn[0])
    return {"first": found[0], "seconds": spread(found[1:])}


def memory(case: Case) -> dict[str, Any]:
    """Peak memory of this process and the size of its data, in bytes."""
    import vi_bench as vb

    size = (case["N"], 2)
    x = np.random.default_rng(0).standard_normal(size, case["dtype"])
    bits = 64 if case["dtype"] == "float64" else 32
    method = {"cavi": {"restarts": 2, "max_iterations": 5}}
    vb.run("gaussian", x, method, components=5, precision=bits, draws=4, repeats=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak, "data": 2 * x.nbytes + x.size * 8}


def child(case: Case, rounds: int) -> dict[str, Any]:
    """Measure one case."""
    found = overhead(case, rounds) if case["name"] == "overhead" else memory(case)
    return case | found


def main(arguments: list[str] | None = None) -> None:
    """Run all cases, print and write the results."""
    given = options(__doc__, "cell", 3).parse_args(arguments)
    found, few = [], 0
    for case in CASES:
        if given.quick:
            case = case | ({"spec": "faithful"} if "spec" in case else {"N": 1000})
        for _ in range(2 if case["name"] == "memory" else 1):
            result = alone("benchmarks.cell", case, given.rounds, None, {})
        if case["name"] == "overhead":
            seconds = said(result["seconds"])
            print(f"{case['spec']}: {seconds} s beside the methods", end=", ")
            print(f"{result['first']:.3g} s the first time")
        else:
            if case["N"] == 1000:
                few = result["peak"]
            result["beside"] = result["peak"] - few - result["data"]
            print(f"{case['N']} rows, {case['dtype']}: {result['data'] / 1e6:.0f} MB,")
            print(f"    {result['beside'] / 1e6:.0f} MB more beside them", flush=True)
        found.append(result)
    if not given.quick:
        write({"rounds": given.rounds, "cases": found}, given.out, "cell")


if __name__ == "__main__":
    main()
