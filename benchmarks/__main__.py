"""Run every benchmark of speed, one after the other.

    uv run --group bench python -m benchmarks [--out results/published] [--quick]

`speed` compares the pass with the machine, scikit-learn and BayesPy; `samplers` NUTS
with NumPyro's and nutpie; `optimum` measures the time to an optimum; `cell` the
overhead of a run; `stream` rows that stay in their file; `sweeps` the overhead of a
sweep; `cores` chains and restarts on all cores; `runs` whole commands. Each is a module
of its own, and so is `accelerator`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import cell, cores, optimum, runs, samplers, speed, stream, sweeps

PARTS = {
    "speed": speed,
    "samplers": samplers,
    "optimum": optimum,
    "cores": cores,
    "cell": cell,
    "runs": runs,
    "stream": stream,
    "sweeps": sweeps,
}


def main() -> None:
    """Run all benchmarks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, help="folder for what is found")
    parser.add_argument("--quick", action="store_true", help="small, nothing written")
    given = parser.parse_args()
    for name in given.parts:
        if name not in PARTS:
            parser.error(f"{name!r} is none of {', '.join(PARTS)}")
    options = ["--quick"] if given.quick else []
    options += ["--out", str(given.out)] if given.out else []
    for name in given.parts:
        print(f"== {name}", flush=True)
        PARTS[name].main(options)


if __name__ == "__main__":
    main()
