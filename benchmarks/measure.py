"""Shared code of the benchmarks: clocks, ratios, child processes, the machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PJRT_NPROC": "1",
}
"""Environment variables that leave every library one thread, XLA's pool included."""

Case = dict[str, Any]
Clock = Callable[[], float]

SECONDS = 0.1
"""About how long one measurement lasts."""


def spread(values: Sequence[float]) -> list[float]:
    """Minimum, median and maximum."""
    return [float(min(values)), float(np.median(values)), float(max(values))]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Minimum, median and maximum of the ratios within each round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def said(values: Sequence[float]) -> str:
    """The text "minimum / median / maximum", three digits each."""
    return " / ".join(f"{v:.3g}" for v in values)


def measure(run: Callable[[], Any], clock: Clock = time.process_time) -> float:
    """Seconds of one call, by many calls after a warm one.

    Other processes disturb the process's own clock less; several threads need the
    wall's.
    """
    run()
    begun = clock()
    run()
    calls = max(1, int(SECONDS / max(clock() - begun, 1e-6)))
    begun = clock()
    for _ in range(calls):
        run()
    return (clock() - begun) / calls


def in_turn(
    takers: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """What each side took in every round; in a round all take their turn."""
    times: dict[str, list[float]] = {name: [] for name in takers}
    for _ in range(rounds):
        for name, take in takers.items():
            times[name].append(take())
    return times


def alone(
    module: str,
    case: Mapping[str, Any],
    rounds: int,
    cores: Sequence[int] | None = (0,),
    environment: Mapping[str, str] = ONE_THREAD,
) -> Any:
    """The result of `module`'s `child(case, rounds)` in a process of its own.

    The process is pinned to `cores`, if they are given.
    """
    code = (
        f"import json, os, sys; from {module} import child\n"
        "case, rounds, cores = json.loads(sys.argv[1])\n"
        "if cores and hasattr(os, 'sched_setaffinity'):\n"
        "    os.sched_setaffinity(0, cores)\n"
        "print(json.dumps(child(case, rounds)))"
    )
    command = [sys.executable, "-c", code, json.dumps([case, rounds, cores])]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def options(
    what: str | None, name: str, rounds: int, cases: Sequence[Case] = ()
) -> argparse.ArgumentParser:
    """A parser of the common options: rounds, quick, and the folder of NAME.json.

    With named `cases` it has an option to choose among them, too.
    """
    parser = argparse.ArgumentParser(description=(what or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quick", action="store_true", help="small, nothing written")
    parser.add_argument("--out", type=Path, help=f"folder for {name}.json")
    if names := [case["name"] for case in cases]:
        only = "cases to run; what NAME.json holds of the others is kept"
        parser.add_argument(
            "--only", nargs="+", choices=names, default=names, help=only
        )
    return parser


def write(found: Mapping[str, Any], out: Path | None, name: str) -> None:
    """Write `found`, and the machine it was measured on, as NAME.json."""
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": described(), **found}, indent=2)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_cases(found: Sequence[Case], out: Path | None, name: str) -> None:
    """Write named cases to NAME.json, in place of those of the same names there."""
    if out is None:
        return
    path = out / f"{name}.json"
    known = json.loads(path.read_text())["cases"] if path.is_file() else []
    cases = {case["name"]: case for case in (*known, *found)}
    write({"cases": list(cases.values())}, out, name)


def run_cases(
    what: str | None,
    name: str,
    rounds: int,
    cases: Sequence[Case],
    small: Case,
    show: Callable[[Case], None],
    arguments: Sequence[str] | None,
) -> None:
    """Run named cases, each in a process of its own, show and write the results.

    `small` replaces a case's settings with --quick; a case may have its own "rounds".
    """
    given = options(what, name, rounds, cases).parse_args(arguments)
    found = []
    for case in cases:
        if case["name"] not in given.only:
            continue
        if given.quick:
            case = case | small
        own = case.get("rounds", given.rounds)
        found.append(alone(f"benchmarks.{name}", case, own))
        show(found[-1])
    if not given.quick:
        write_cases(found, given.out, name)


def described() -> dict[str, Any]:
    """Processor, cores and versions of the machine, without its name or paths."""
    import jax

    from vi_bench.runtime.environment import describe

    known = describe(jax.devices()[0], 64)
    return {k: known[k] for k in ("processor", "cores", "python", "packages")}


def exponentials(dtype: Any) -> Callable[[], float]:
    """A function that measures ns an exponential, the least of NumPy, XLA and the pass.

    The exponentials of a program are added into a row that stays in cache: a sum to one
    number would cost more than they do.
    """
    import jax
    import jax.numpy as jnp

    from vi_bench.mixture.mixture_pass import _exp

    x = np.random.default_rng(0).uniform(-5, 0, (512, 512)).astype(dtype)
    out, cached = np.empty_like(x[0]), jnp.asarray(x)

    def adding(exp: Callable[[Any], Any]) -> Callable[[], Any]:
        def total(rows: Any) -> Any:
            zero = jnp.zeros(rows.shape[1], rows.dtype)
            return jax.lax.scan(lambda s, v: (s + exp(v), None), zero, rows)[0]

        program = jax.jit(total)
        return lambda: program(cached).block_until_ready()

    own, of_xla = adding(_exp), adding(jnp.exp)

    def take() -> float:
        of_numpy = measure(lambda: np.exp(x[0], out=out)) / out.size
        return 1e9 * min(of_numpy, *(measure(p) / x.size for p in (own, of_xla)))

    return take


def machine(dtype: Any) -> Callable[[], tuple[float, float, float]]:
    """A function that measures ns an exponential, Gflop/s, and GB/s read."""
    exponential = exponentials(dtype)
    square = np.random.default_rng(0).normal(size=(512, 512)).astype(dtype)
    long = np.ones(16_000_000, dtype)

    def take() -> tuple[float, float, float]:
        flops = 2 * 512**3 / measure(lambda: square @ square) / 1e9
        return exponential(), flops, long.nbytes / measure(long.sum) / 1e9

    return take


def clusters(case: Case) -> np.ndarray:
    """Rows (N, d) of K Gaussian clusters with unit variance, centres of sd 3."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(case["K"], case["d"]))
    labels = random.integers(case["K"], size=case["N"])
    x = centres[labels] + random.normal(size=(case["N"], case["d"]))
    return np.asarray(x.astype(case["dtype"]))
