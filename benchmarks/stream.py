"""CAVI on rows that stay in their file: seconds a sweep and peak memory.

    uv run python -m benchmarks.stream [--rows 1e8] [--out results/published]

A file of float32 rows is made (d = 2, five clusters) and fitted by CAVI through
`vi_bench.run` in processes of their own, in turn from the file and in memory; peak
memory is the system's figure for that process, Python and JAX included. Seconds a sweep
are those of the fit stage's first warm run.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Case, alone, options, ratios, said, spread, write

FEATURES, CLUSTERS, AT_ONCE = 2, 5, 1_000_000
"""Columns and clusters of the file, and the rows that are written at once."""


def make(path: Path, rows: int) -> None:
    """Write the file, piece by piece."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(CLUSTERS, FEATURES))
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (rows, FEATURES)}
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, rows, AT_ONCE):
            size = min(AT_ONCE, rows - start)
            labels = random.integers(CLUSTERS, size=size)
            noise = random.standard_normal((size, FEATURES), np.float32)
            file.write((centres[labels] + noise).astype("<f4").tobytes())


def child(case: Case, rounds: int) -> dict[str, Any]:
    """One run of CAVI, its sweeps, seconds and peak memory."""
    import vi_bench as vb

    begun = time.perf_counter()
    result = vb.run(
        {"name": "gaussian", "sigma": 3.0, "mean": 0.0},
        case["path"],
        {"cavi": {"restarts": 1, "tol": 1e-6}},
        components=CLUSTERS,
        stream=case["stream"],
        precision=32,
        draws=4,
        repeats=1,
    )
    run = result.runs["cavi"]
    if run.draws is None:
        raise SystemExit(run.outcome.sentence)
    sweeps = int(run.draws.report.iterations)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "sweeps": sweeps,
        "seconds_of_a_sweep": run.stages["fit"].runs_s[0] / sweeps,
        "all_seconds": time.perf_counter() - begun,
        "peak_bytes": peak,
        "bound": run.bound()[0],
        "outcome": run.outcome.sentence,
    }


def main(arguments: list[str] | None = None) -> None:
    """Make the file, run both ways in turn, print and write the results."""
    parser = options(__doc__, "stream", 3)
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument(
        "--folder", type=Path, help="for the file; else a temporary one"
    )
    given = parser.parse_args(arguments)
    if given.quick:
        given.rows, given.rounds = 1e5, 1
    rows = int(given.rows)
    found: dict[str, list[dict[str, Any]]] = {"memory": [], "file": []}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / f"{rows}.npy"
        make(path, rows)
        for _ in range(given.rounds):
            for kind, results in found.items():
                case = {"path": str(path), "stream": kind == "file"}
                results.append(alone("benchmarks.stream", case, 1, None, {}))
    seconds = {k: [r["seconds_of_a_sweep"] for r in v] for k, v in found.items()}
    for kind, results in found.items():
        peak = max(r["peak_bytes"] for r in results) / 1e9
        times = spread(seconds[kind])
        print(f"{kind}: {said(times)} s a sweep,", end=" ")
        print(f"{rows / times[1] / 1e6:.0f} million rows/s, peak {peak:.2f} GB")
    share = ratios(seconds["memory"], seconds["file"])
    print(f"throughput, file over memory: {said(share)}")
    if not given.quick:
        written = {"rows": rows, "features": FEATURES, "runs": found}
        write(written, given.out, "stream")


if __name__ == "__main__":
    main()
