"""SQUAREM against plain sweeps: wall time of CAVI's fit to one tolerance, in one run.

Both sides are compiled and warm, and alternate; times are medians of the repeats, and
every restart has the same start. To run: ``uv run python benchmarks/accelerate.py``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import vi_bench as vb
from vi_bench.methods.cavi import CAVI
from vi_bench.mixture.mixture import bind
from vi_bench.mixture.weights import Dirichlet, Uniform
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_full import GaussianFull

CASES = {
    "notebook, sigma 1": ("notebook", 5, Gaussian(1.0, 1.0, 0.0), Uniform()),
    "notebook, sigma 3": ("notebook", 5, Gaussian(3.0, 1.0, 0.0), Uniform()),
    "notebook, sigma 10": ("notebook", 5, Gaussian(10.0, 1.0, 0.0), Uniform()),
    "notebook, full": ("notebook", 5, GaussianFull(), Dirichlet(1.0)),
    "separated": (
        "simulate:K=5,d=2,N=1000,separation=8,seed=0",
        5,
        Gaussian(10.0, 1.0, 0.0),
        Uniform(),
    ),
}


def fitted(method: CAVI, mixture: Any) -> Any:
    """A function that fits all restarts and returns their ascents."""
    start, fit, _ = method.stages((1, 1))
    key = jax.random.key(0)
    lanes = jax.jit(start.run)(key, mixture, None)
    program = jax.jit(fit.run)

    def run() -> Any:
        state = lanes
        for _ in range(fit.calls):
            state = jax.block_until_ready(program(key, mixture, state))
            if fit.done is not None and fit.done(state):
                break
        return state.lanes

    return run


def main() -> None:
    """Measure all cases and print a row for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--restarts", type=int, default=10)
    repeats, restarts = vars(options.parse_args()).values()
    jax.config.update("jax_enable_x64", True)
    table = Table("case", "sweeps", "with leaps", "s", "with leaps", "ratio", "gap")
    for name, (data, components, family, weights) in CASES.items():
        x = vb.load(data).values
        complete = family.complete(x, components)
        mixture = bind(complete, x, components, np.float64, weights)
        runs = [
            fitted(CAVI(restarts, 40_000, 1e-12, accelerate), mixture)
            for accelerate in (False, True)
        ]
        ended = [run() for run in runs]
        seconds: list[list[float]] = [[], []]
        for _ in range(repeats):
            for side, run in enumerate(runs):
                begun = time.perf_counter()
                run()
                seconds[side].append(time.perf_counter() - begun)
        plain, quick = (float(np.median(s)) for s in seconds)
        sweeps = [int(np.sum(e.iteration)) for e in ended]
        best = [float(np.max(e.bound)) for e in ended]
        table.add_row(
            name,
            *map(str, sweeps),
            f"{plain:.3g}",
            f"{quick:.3g}",
            f"{plain / quick:.1f}",
            f"{best[1] - best[0]:+.1e}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
