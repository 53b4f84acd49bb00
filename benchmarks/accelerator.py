"""Speed of the pass on an accelerator, compared with the host's processor.

    uv run python -m benchmarks.accelerator [--device gpu] [--rounds 3] [--quick]
        [--out results/published]

Wall times in one process, on the same rows, all sides in turn, each compiled and warm:
an iteration of CAVI with its ELBO on the accelerator, on one core and on all cores; on
the accelerator also a gradient, those of four chains at once, and the pass as one
kernel and in the steps that XLA makes of it. The floor is the accelerator's, as in
`benchmarks.speed`: its exponentials, matrix products and reading, measured by XLA's own
programs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import (
    Case,
    clusters,
    measure,
    options,
    ratios,
    said,
    spread,
    write,
)

CASES: list[Case] = [
    {"model": model, "N": N, "K": K, "d": d, "dtype": dtype}
    for model, N, K, d, dtype in (
        ("gaussian", 1000, 5, 2, "float64"),
        ("gaussian", 100_000, 5, 2, "float64"),
        ("gaussian", 10_000_000, 5, 2, "float64"),
        ("gaussian", 10_000_000, 5, 2, "float32"),
        ("gaussian", 1_000_000, 16, 8, "float64"),
        ("gaussian", 1_000_000, 16, 8, "float32"),
        ("gaussian-full", 1_000_000, 10, 10, "float64"),
    )
]

CHAINS = 4
"""Chains whose gradients are evaluated at once."""


@contextmanager
def in_steps() -> Iterator[None]:
    """A context in which the pass does not use its kernel."""
    import jax

    from vi_bench.mixture import mixture_pass

    held = mixture_pass.fits
    jax.clear_caches()
    mixture_pass.fits = lambda *shape: False
    try:
        yield
    finally:
        mixture_pass.fits = held


def rates(dtype: str, little: bool) -> Callable[[], tuple[float, float, float]]:
    """A function that measures ns an exponential, Gflop/s and GB/s of the device."""
    import jax
    import jax.numpy as jnp

    side, length, deep = (256, 2**14, 16) if little else (8192, 2**28, 16)
    square = jax.random.normal(jax.random.key(0), (side, side), dtype)
    long = -jax.random.uniform(jax.random.key(1), (length,), dtype)

    def exponentials(v: Any) -> Any:
        at = v
        for _ in range(deep):
            at = jnp.exp(-at)
        return jnp.sum(at)

    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    deeply, added = jax.jit(exponentials), jax.jit(jnp.sum)

    def seconds(program: Callable[[Any], Any], of: Any) -> float:
        run = lambda: jax.block_until_ready(program(of))  # noqa: E731
        return measure(run, time.perf_counter)

    def take() -> tuple[float, float, float]:
        exponential = 1e9 * seconds(deeply, long) / (deep * length)
        flops = 2e-9 * side**3 / seconds(product, square)
        return exponential, flops, 1e-9 * long.nbytes / seconds(added, long)

    return take


def contenders(case: Case, device: Any, cores: int) -> tuple[dict[str, Any], int]:
    """Name -> device and a function that measures seconds of a step there; and P."""
    import jax
    import jax.numpy as jnp

    from benchmarks import speed

    x, cpu = clusters(case), jax.local_devices(backend="cpu")[0]
    clock = time.perf_counter

    def made(name: str, step: Any, mixture: Any, at: Any) -> Callable[[], float]:
        run, number = speed.repeated(case, step, mixture, at)
        share = CHAINS if name == "4 chains" else 1
        run()
        return lambda: measure(run, clock) / (number * share)

    def steps_of(mixture: Any) -> dict[str, Any]:
        return speed.steps(mixture, case["dtype"])

    takers: dict[str, Any] = {}
    with jax.default_device(device):
        mixture, q = speed.bound(case, x)
        steps = steps_of(mixture)
        at = speed.places(mixture, q, case["dtype"])
        P = int(at["pass"][1].shape[1])

        def chains(mixture: Any, state: Any) -> Any:
            one = lambda theta: steps["gradient"](mixture, (state[0], theta))  # noqa: E731
            value, theta = jax.vmap(one)(state[1])
            return jnp.sum(value), theta

        several = jax.tree.map(lambda v: jnp.stack([v] * CHAINS), at["gradient"][1])
        for name, step in steps.items():
            takers[name] = made(name, step, mixture, at[name])
        state = (at["gradient"][0], several)
        takers["4 chains"] = made("4 chains", chains, mixture, state)
        with in_steps():
            takers["pass in steps"] = made("pass", steps["pass"], mixture, at["pass"])
    with jax.default_device(cpu):
        for devices in {1, cores}:
            mixture, q = speed.bound(case, x, devices)
            at = speed.places(mixture, q, case["dtype"])["ours"]
            name = "1 core" if devices == 1 else "all cores"
            takers[name] = made(name, steps["ours"], mixture, at)
    return {
        name: (cpu if "core" in name else device, take) for name, take in takers.items()
    }, P


def held(case: Case, device: Any, cores: int, rounds: int) -> Case:
    """Times and ratios of one case over the rounds."""
    import jax

    takers, P = contenders(case, device, cores)
    with jax.default_device(device):
        machine = rates(case["dtype"], device.platform == "cpu")
    times: dict[str, list[float]] = {name: [] for name in (*takers, "floor")}
    work, size = case["N"] * case["K"], case["N"] * case["d"]
    for _ in range(rounds):
        with jax.default_device(device):
            exponential, flops, read = machine()
        busy = 1e-9 * (4 * work * P / flops + work * exponential)
        bits = int(case["dtype"].removeprefix("float"))
        times["floor"].append(max(busy, 1e-9 * size * bits / 8 / read))
        for name, (where, take) in takers.items():
            with jax.default_device(where):
                times[name].append(take())
    return case | {
        "P": P,
        "ms": {name: [1e3 * v for v in spread(t)] for name, t in times.items()},
        "ratios": {
            "ours / floor": ratios(times["ours"], times["floor"]),
            "in steps / pass": ratios(times["pass in steps"], times["pass"]),
            "gradient / pass": ratios(times["gradient"], times["pass"]),
        }
        | {
            f"{name} / ours": ratios(times[name], times["ours"])
            for name in times
            if "core" in name
        },
    }


def show(case: Case) -> None:
    """Print the times and ratios of a case."""
    head = " ".join(str(case[k]) for k in ("model", "N", "K", "d", "dtype"))
    each = ", ".join(f"{k} {v[1]:.4g}" for k, v in case["ms"].items())
    print(f"{head}: ms: {each}")
    for name, values in case["ratios"].items():
        print(f"    {name}: {said(values)}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Measure all cases, print and write the results."""
    parser: argparse.ArgumentParser = options(__doc__, "accelerator", 3)
    parser.add_argument("--device", default="gpu", help="gpu or tpu")
    given = parser.parse_args(arguments)
    import jax

    from vi_bench.errors import InputError
    from vi_bench.runtime.environment import describe, find_device, split_processor

    cores = os.cpu_count() or 1
    jax.config.update("jax_default_matmul_precision", "highest")
    split_processor(cores)
    jax.config.update("jax_enable_x64", True)
    try:
        device = find_device(given.device)
    except InputError as error:
        parser.error(str(error))
    cores = min(cores, len(jax.local_devices(backend="cpu")))
    found: dict[str, Any] = {
        "device": describe(device, 64)["device"],
        "cores": cores,
        "cases": [],
    }
    for case in CASES[:4:3] if given.quick else CASES:
        if given.quick:
            case = case | {"N": 200}
        with jax.enable_x64(case["dtype"] == "float64"):
            found["cases"].append(held(case, device, cores, given.rounds))
        show(found["cases"][-1])
        if not given.quick:
            write(found, given.out, "accelerator")


if __name__ == "__main__":
    main()
