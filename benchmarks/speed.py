"""How fast the pass is: against the machine, against scikit-learn, and as N, K, d grow.

    uv run python -m benchmarks.speed [--rounds 7] [--quick] [--out results/published]

Every case is a process of its own, pinned to one core with one thread, in which all
that is compared runs by turns on the same data, each compiled and warm; times are of
the process's own clock, so that a neighbour costs less. Ratios are taken within a
round; min / median / max over the rounds are printed and, as speed.json and speed.png,
written.

The floor of an iteration is what no program can go below: its exponentials at the best
throughput measured here, its multiplications and additions at that of a matrix product,
or its bytes read once, whichever is more: max(bytes / B, 4 N K P / F + N K e).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}

Case = dict[str, Any]

CASES: list[Case] = [
    {"model": "gaussian", "N": 1000, "K": 5, "d": 2, "dtype": "float64"},
    {"model": "gaussian", "N": 100_000, "K": 5, "d": 2, "dtype": "float64"},
    {"model": "gaussian", "N": 100_000, "K": 5, "d": 2, "dtype": "float32"},
    {"model": "gaussian", "N": 100_000, "K": 16, "d": 8, "dtype": "float64"},
    {"model": "gaussian-full", "N": 100_000, "K": 10, "d": 10, "dtype": "float64"},
]

GROWTH: list[Case] = [
    {"model": "gaussian", "N": N, "K": K, "d": d, "dtype": "float64", "peers": False}
    for N, K, d in (
        *((N, 5, 2) for N in (10_000, 30_000, 300_000)),
        *((50_000, K, 4) for K in (4, 8, 16, 32)),
        *((50_000, 8, d) for d in (2, 4, 8, 16)),
    )
]
"""What time is held against N, K and d with."""

SECONDS = 0.1
"""About how long one measurement lasts."""


def spread(values: list[float]) -> list[float]:
    """Min, median, max."""
    return [float(min(values)), float(np.median(values)), float(max(values))]


def measure(run: Callable[[], Any]) -> float:
    """Seconds of one call by the process's clock: many calls, after a warm one."""
    run()
    begun = time.process_time()
    run()
    calls = max(1, int(SECONDS / max(time.process_time() - begun, 1e-6)))
    begun = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - begun) / calls


def exponentials(dtype: Any) -> Callable[[], float]:
    """Nanoseconds of one exponential: the quicker of NumPy's and the pass's own."""
    import jax
    import jax.numpy as jnp

    from vi_bench.mixture_pass import _exp

    x = np.random.default_rng(0).uniform(-5, 0, (64, 4096)).astype(dtype)
    out, cached = np.empty_like(x[0]), jnp.asarray(x)

    def total(rows: Any) -> Any:
        zero = jnp.zeros((), rows.dtype)
        return jax.lax.scan(lambda s, v: (s + jnp.sum(_exp(v)), None), zero, rows)[0]

    program = jax.jit(total)

    def take() -> float:
        of_numpy = measure(lambda: np.exp(x[0], out=out)) / out.size
        of_pass = measure(lambda: program(cached).block_until_ready()) / x.size
        return 1e9 * min(of_numpy, of_pass)

    return take


def machine(dtype: Any) -> Callable[[], tuple[float, float, float]]:
    """Exponential in ns, flops in G/s, bytes read in GB/s."""
    exponential = exponentials(dtype)
    square = np.random.default_rng(0).normal(size=(512, 512)).astype(dtype)
    long = np.ones(16_000_000, dtype)

    def take() -> tuple[float, float, float]:
        flops = 2 * 512**3 / measure(lambda: square @ square) / 1e9
        return exponential(), flops, long.nbytes / measure(long.sum) / 1e9

    return take


def ours(case: Case, x: np.ndarray) -> tuple[Callable[[], float], int]:
    """Seconds of one CAVI iteration, its ELBO included; and P."""
    import jax
    import jax.numpy as jnp

    from vi_bench import catalogue
    from vi_bench.mixture import bind

    family = catalogue.model(case["model"])().complete(x, case["K"])
    mixture = bind(family, x, case["K"], jnp.dtype(case["dtype"]))
    phi = np.random.default_rng(1).dirichlet(np.ones(case["K"]), len(x))
    q = mixture.from_responsibilities(jnp.asarray(phi, case["dtype"]))
    number = int(np.clip(2e6 / (case["N"] * case["K"]), 1, 200))

    @jax.jit
    def sweeps(mixture: Any, q: Any) -> Any:
        def one(_: Any, state: Any) -> Any:
            bound, q = state
            now, q = mixture.step(q)
            return bound + now, q

        return jax.lax.fori_loop(0, number, one, (jnp.zeros((), case["dtype"]), q))

    def take() -> float:
        def run() -> None:
            jax.block_until_ready(sweeps(mixture, q))

        return measure(run) / number

    return take, int(mixture.view(q).coefficients.shape[1])


def sklearn(case: Case, x: np.ndarray, kind: str) -> Callable[[], float]:
    """Seconds of one iteration of BayesianGaussianMixture, by subtraction."""
    import warnings

    from sklearn.mixture import BayesianGaussianMixture

    warnings.simplefilter("ignore")

    def fit(iterations: int) -> float:
        model = BayesianGaussianMixture(
            n_components=case["K"],
            covariance_type=kind,
            weight_concentration_prior_type="dirichlet_distribution",
            init_params="random_from_data",
            tol=0.0,
            max_iter=iterations,
            random_state=0,
        )
        begun = time.process_time()
        model.fit(x)
        return time.process_time() - begun

    more = int(np.clip(2e6 / (case["N"] * case["K"]), 2, 50))

    def take() -> float:
        return max(fit(2 + more) - fit(2), 1e-9) / more

    return take


def child(case: Case, rounds: int) -> dict[str, Any]:
    """All contenders of one case by turns."""
    import jax

    jax.config.update("jax_enable_x64", True)
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(case["K"], case["d"]))
    labels = random.integers(case["K"], size=case["N"])
    x = centres[labels] + random.normal(size=(case["N"], case["d"]))
    x = x.astype(case["dtype"])
    iteration, P = ours(case, x)
    rates = machine(case["dtype"])
    peers: dict[str, Callable[[], float]] = {}
    if case.get("peers", True):
        for kind in ("spherical", "full"):
            if kind == "full" or case["model"] == "gaussian":
                peers[f"sklearn {kind}"] = sklearn(case, x, kind)
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    measured: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        measured.append(rates())
        exponential, flops, read = measured[-1]
        work = case["N"] * case["K"]
        busy = 4 * work * P / flops * 1e-9 + work * exponential * 1e-9
        times["floor"].append(max(busy, x.nbytes / read * 1e-9))
        times["ours"].append(iteration())
        for name, peer in peers.items():
            times.setdefault(name, []).append(peer())
    own = times["ours"]
    above = [a / b for a, b in zip(own, times["floor"], strict=True)]
    ratios = {"ours / floor": spread(above)}
    for name in peers:
        both = zip(times[name], own, strict=True)
        ratios[f"{name} / ours"] = spread([a / b for a, b in both])
    return case | {
        "P": P,
        "ms": {name: [1e3 * v for v in spread(t)] for name, t in times.items()},
        "ratios": ratios,
        "exp_ns": spread([m[0] for m in measured]),
        "gflops": spread([m[1] for m in measured]),
        "gbytes_s": spread([m[2] for m in measured]),
    }


def exponent(cases: list[dict[str, Any]], axis: str) -> float:
    """The slope of log time against log N, K or d, by least squares."""
    size = np.log([c[axis] for c in cases])
    return float(np.polyfit(size, np.log([c["ms"]["ours"][1] for c in cases]), 1)[0])


def along(found: list[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    """The growth cases that differ in one of N, K, d."""
    fixed = {"N": {"K": 5, "d": 2}, "K": {"d": 4}, "d": {"K": 8}}[axis]
    chosen = [c for c in found if all(c[k] == v for k, v in fixed.items())]
    if axis != "N":
        chosen = [c for c in chosen if c["N"] == 50_000]
    return sorted(chosen, key=lambda c: c[axis])


def figure(found: list[dict[str, Any]], path: Path) -> None:
    """Time against N, K and d, and each case against its floor."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    for axis, name in zip(axes, ("N", "K", "d"), strict=False):
        cases = along(found, name)
        size = [c[name] for c in cases]
        for who, style in (("ours", "o-"), ("floor", "k:")):
            axis.loglog(size, [c["ms"][who][1] for c in cases], style, label=who)
        axis.set(xlabel=name, ylabel="ms an iteration" if name == "N" else "")
        axis.set_title(f"exponent {exponent(cases, name):.2f}", fontsize=9)
        axis.legend(fontsize=8)
    kinds = [c for c in found if c["dtype"] == "float64"]
    work = [4 * c["N"] * c["K"] * c["P"] / (c["N"] * c["d"] * 8) for c in kinds]
    done = [4e-6 * c["N"] * c["K"] * c["P"] / c["ms"]["ours"][1] for c in kinds]
    peak, read = kinds[0]["gflops"][1], kinds[0]["gbytes_s"][1]
    grid = np.geomspace(min(work) / 2, max(work) * 2, 50)
    axes[3].loglog(grid, np.minimum(peak, grid * read), "k-", label="roof")
    axes[3].loglog(work, done, "o", label="ours, exponentials not counted")
    axes[3].set(xlabel="flops per byte", ylabel="Gflop/s")
    axes[3].legend(fontsize=8)
    drawn.savefig(path, dpi=150)


def main() -> None:
    """Measure all cases, print ratios, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    parser.add_argument("--out", type=Path, help="folder for speed.json and speed.png")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {given.core})
        print(json.dumps(child(json.loads(given.child), given.rounds)))
        return
    found = []
    for case in (*CASES, *GROWTH):
        if given.quick:
            case = case | {"N": max(case["N"] // 100, 50)}
        command = [sys.executable, "-m", "benchmarks.speed", "--child"]
        command += [json.dumps(case), "--rounds", str(given.rounds)]
        command += ["--core", str(given.core)]
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        result = json.loads(done.stdout.splitlines()[-1])
        found.append(result)
        head = " ".join(str(case[k]) for k in ("model", "N", "K", "d", "dtype"))
        print(f"{head}: {result['ms']['ours'][1]:.3f} ms an iteration")
        for name, (low, middle, high) in result["ratios"].items():
            print(f"    {name}: {low:.2f} / {middle:.2f} / {high:.2f}", flush=True)
    if given.quick:
        return
    for axis in ("N", "K", "d"):
        print(f"time grows as {axis}^{exponent(along(found, axis), axis):.2f}")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"rounds": given.rounds, "cases": found}, indent=2)
        (given.out / "speed.json").write_text(text + "\n", encoding="utf-8")
        figure(found, given.out / "speed.png")


if __name__ == "__main__":
    main()
