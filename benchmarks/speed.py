"""Speed of the pass: against the machine, against peers, and as N, K and d grow.

    uv run python -m benchmarks.speed [--rounds 7] [--quick] [--out results/published]

Every case is a process of its own, pinned to one core with one thread, in which all
sides run in turn on the same data, each compiled and warm; times are of the process's
own clock, which other processes disturb less. Ratios are taken within a round; min /
median / max over the rounds are printed and, as speed.json and speed.png, written.

The floor is a lower bound on the time of an iteration: its exponentials at the best
throughput measured here, its multiplications and additions at that of a matrix product,
or its bytes read once, whichever is more: max(bytes / B, 4 N K P / F + N K e).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    ONE_THREAD,
    Case,
    alone,
    clusters,
    in_turn,
    machine,
    measure,
    options,
    ratios,
    said,
    spread,
    write,
)

CASES: list[Case] = [
    {"model": "gaussian", "N": 1000, "K": 5, "d": 2, "dtype": "float64"},
    {"model": "gaussian", "N": 100_000, "K": 5, "d": 2, "dtype": "float64"},
    {"model": "gaussian", "N": 100_000, "K": 5, "d": 2, "dtype": "float32"},
    {"model": "gaussian", "N": 100_000, "K": 16, "d": 8, "dtype": "float64"},
    {"model": "gaussian", "N": 100_000, "K": 16, "d": 8, "dtype": "float32"},
    {"model": "gaussian-full", "N": 100_000, "K": 10, "d": 10, "dtype": "float64"},
]

GROWTH: list[Case] = [
    {"model": "gaussian", "N": N, "K": K, "d": d, "dtype": "float64", "peers": False}
    for N, K, d in (
        *((N, 5, 2) for N in (10_000, 30_000, 300_000)),
        *((50_000, K, 4) for K in (4, 8, 16, 32)),
        *((50_000, 8, d) for d in (2, 8, 16)),
    )
]
"""Cases from which the growth of time with N, K and d is fitted."""

SHARED: list[Case] = [
    {"model": "gaussian", "N": 1_000_000, "K": K, "d": d, "dtype": "float64"}
    | {"devices": 2}
    for K, d in ((5, 2), (16, 8))
]
"""Cases in which two cores are compared with one, by the wall's clock."""

TOOK = 15
"""Measurements in a process of those, so many that concurrent processes overlap."""


def bound(case: Case, x: np.ndarray, devices: int = 1) -> tuple[Any, Any]:
    """The mixture of a case on one device or more, and a q."""
    import jax.numpy as jnp

    from vi_bench import catalogue
    from vi_bench.mixture.mixture import bind
    from vi_bench.runtime.environment import find_mesh

    family = catalogue.model(case["model"])().complete(x, case["K"])
    mesh = find_mesh("cpu", devices) if devices > 1 else None
    mixture = bind(family, x, case["K"], jnp.dtype(case["dtype"]), mesh=mesh)
    rows = x[:10_000]
    phi = np.random.default_rng(1).dirichlet(np.ones(case["K"]), len(rows))
    phi, few = jnp.asarray(phi, case["dtype"]), jnp.asarray(rows - x.mean(axis=0))
    return mixture, mixture.from_responsibilities(phi, few.astype(case["dtype"]))


def repeated(case: Case, step: Callable[[Any, Any], Any], mixture: Any, at: Any) -> Any:
    """A program of many successive steps, and their number."""
    import jax

    number = int(np.clip(2e6 / (case["N"] * case["K"]), 1, 200))

    @jax.jit
    def program(mixture: Any, at: Any) -> Any:
        return jax.lax.fori_loop(0, number, lambda _, at: step(mixture, at), at)

    return (lambda: jax.block_until_ready(program(mixture, at))), number


def steps(mixture: Any, dtype: str) -> dict[str, Callable[[Any, Any], Any]]:
    """A CAVI iteration with its ELBO, a pass and a gradient: state to next state."""
    import jax
    import jax.numpy as jnp

    from vi_bench.mixture.mixture_pass import mixture_pass

    little = jnp.asarray(1e-12, dtype)
    statistics = type(mixture.family).statistics

    def iteration(mixture: Any, state: Any) -> Any:
        now, following = mixture.step(state[1])
        return state[0] + now, following

    def one_pass(mixture: Any, state: Any) -> Any:
        value, expected = mixture_pass(statistics, mixture.blocks, state[1])
        return state[0] + value, state[1] + little * expected

    def gradient(mixture: Any, state: Any) -> Any:
        value, slope = jax.value_and_grad(mixture.log_joint)(state[1])
        moved = jax.tree.map(lambda at, by: at + little * by, state[1], slope)
        return state[0] + value, moved

    return {"ours": iteration, "pass": one_pass, "gradient": gradient}


def places(mixture: Any, q: Any, dtype: str) -> dict[str, Any]:
    """The initial state of each of `steps`."""
    import jax.numpy as jnp

    none = jnp.zeros((), dtype)
    return {
        "ours": (none, q),
        "pass": (none, mixture.view(q).coefficients),
        "gradient": (none, mixture.centre(q)),
    }


def ours(case: Case, x: np.ndarray) -> tuple[dict[str, Callable[[], float]], int]:
    """Functions that measure seconds of an iteration, a pass, a gradient; and P."""
    mixture, q = bound(case, x)
    begin = places(mixture, q, case["dtype"])
    takers = {}
    for name, step in steps(mixture, case["dtype"]).items():
        run, number = repeated(case, step, mixture, begin[name])
        takers[name] = lambda run=run, number=number: measure(run) / number
    return takers, int(begin["pass"][1].shape[1])


def by_difference(fit: Callable[[int], float], case: Case) -> Callable[[], float]:
    """A function that measures seconds an iteration: a longer fit minus a short one."""
    more = int(np.clip(2e6 / (case["N"] * case["K"]), 2, 50))
    return lambda: max(fit(2 + more) - fit(2), 1e-9) / more


def sklearn(case: Case, x: np.ndarray, kind: str) -> Callable[[], float]:
    """A function that measures seconds an iteration of BayesianGaussianMixture."""
    from sklearn.mixture import BayesianGaussianMixture

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

    return by_difference(fit, case)


def bayespy(case: Case, x: np.ndarray) -> Callable[[], float] | None:
    """A function that measures seconds an iteration of BayesPy, or None without it."""
    try:
        from bayespy.inference import VB
        from bayespy.nodes import Categorical, Gaussian, Mixture
    except ImportError:
        return None
    K, d = case["K"], case["d"]

    def fit(iterations: int) -> float:
        np.random.seed(0)
        z = Categorical(np.full(K, 1 / K), plates=(len(x),))
        mu = Gaussian(x.mean(axis=0), np.eye(d) / x.var(), plates=(K,))
        y = Mixture(z, Gaussian, mu, np.eye(d))
        z.initialize_from_random()
        y.observe(x)
        inference = VB(y, mu, z)
        begun = time.process_time()
        inference.update(mu, z, repeat=iterations, tol=0, verbose=False)
        return time.process_time() - begun

    return by_difference(fit, case)


def child(case: Case, rounds: int) -> Any:
    """Compare all sides of one case in turn, or measure it on several devices."""
    import jax

    warnings.simplefilter("ignore")  # peers were told not to converge, and say so
    if devices := case.get("devices"):
        jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", case["dtype"] == "float64")
    x = clusters(case)
    return (iterating if devices else held)(case, x, rounds)


def held(case: Case, x: np.ndarray, rounds: int) -> dict[str, Any]:
    """Times of the pass, its floor and its peers, and their ratios."""
    takers, P = ours(case, x)
    rates = machine(case["dtype"])
    if case.get("peers", True):
        spherical = case["model"] == "gaussian"
        for kind in ("spherical", "full") if spherical else ("full",):
            takers[f"sklearn {kind}"] = sklearn(case, x, kind)
        if spherical and (peer := bayespy(case, x)):
            takers["bayespy"] = peer
    times: dict[str, list[float]] = {name: [] for name in (*takers, "floor")}
    measured: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        measured.append(rates())
        exponential, flops, read = measured[-1]
        work = case["N"] * case["K"]
        busy = 4 * work * P / flops * 1e-9 + work * exponential * 1e-9
        times["floor"].append(max(busy, x.nbytes / read * 1e-9))
        for name, take in takers.items():
            times[name].append(take())
    found = {
        "ours / floor": ratios(times["ours"], times["floor"]),
        "gradient / pass": ratios(times["gradient"], times["pass"]),
    }
    for name in takers:
        if name not in ("ours", "pass", "gradient"):
            found[f"{name} / ours"] = ratios(times[name], times["ours"])
    return case | {
        "P": P,
        "ms": {name: [1e3 * v for v in spread(t)] for name, t in times.items()},
        "ratios": found,
        "exp_ns": spread([m[0] for m in measured]),
        "gflops": spread([m[1] for m in measured]),
        "gbytes_s": spread([m[2] for m in measured]),
    }


def iterating(case: Case, x: np.ndarray, rounds: int) -> list[float]:
    """Seconds of an iteration on a number of devices, by the wall's clock."""
    mixture, q = bound(case, x, case["devices"])
    run, number = repeated(case, lambda m, q: m.step(q)[1], mixture, q)
    return [measure(run, time.perf_counter) / number for _ in range(rounds)]


def shared(case: Case, rounds: int) -> dict[str, Any]:
    """Times on one core and on several devices, and the limit of so many cores.

    Child processes run in turn: one thread on one core; one device on each core; and,
    as the limit, independent processes on all cores at once, each with its share of the
    rows, of which the slowest counts.
    """
    devices = case["devices"]
    single = case | {"devices": 1}
    part = single | {"N": case["N"] // devices}

    def took(case: Case, cores: list[int], environment: Mapping[str, str]) -> float:
        times = alone("benchmarks.speed", case, TOOK, cores, environment)
        return float(np.median(times))

    def at_once() -> float:
        with ThreadPoolExecutor(devices) as pool:
            found = pool.map(lambda at: took(part, [at], ONE_THREAD), range(devices))
            return max(found)

    takers = {
        "1 core": lambda: took(single, [0], ONE_THREAD),
        "devices": lambda: took(case, list(range(devices)), {}),
        "limit": at_once,
    }
    times = in_turn(takers, rounds)
    one = times["1 core"]
    return case | {
        "ms": {k: [1e3 * v for v in spread(t)] for k, t in times.items()},
        "ratios": {
            f"1 core / {k}": ratios(one, times[k]) for k in ("devices", "limit")
        },
    }


def exponent(cases: list[dict[str, Any]], axis: str) -> float:
    """The slope of log time against log N, K or d, by least squares."""
    size = np.log([c[axis] for c in cases])
    return float(np.polyfit(size, np.log([c["ms"]["ours"][1] for c in cases]), 1)[0])


def along(found: list[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    """The growth cases that differ in one of N, K, d."""
    fixed = {"N": {"K": 5, "d": 2}, "K": {"d": 4}, "d": {"K": 8}}[axis]
    fixed |= {"dtype": "float64", "model": "gaussian"}
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
        if name != "N":
            axis.set_xticks(size, [f"{s:g}" for s in size])
            axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.set_title(f"exponent {exponent(cases, name):.2f}", fontsize=9)
        axis.legend(fontsize=8)
    kinds = [c for c in found if c["dtype"] == "float64"]
    work = [4 * c["N"] * c["K"] * c["P"] / (c["N"] * c["d"] * 8) for c in kinds]
    done = [4e-6 * c["N"] * c["K"] * c["P"] / c["ms"]["ours"][1] for c in kinds]
    peak, read = kinds[0]["gflops"][1], kinds[0]["gbytes_s"][1]
    grid = np.geomspace(min(work) / 2, max(work) * 2, 50)
    axes[3].loglog(grid, np.minimum(peak, grid * read), "k-", label="roof")
    axes[3].loglog(work, done, "o", label="ours, exponentials not counted")
    axes[3].set(xlabel="flops per byte", ylabel="Gflop/s", ylim=(None, 5 * peak))
    axes[3].set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    axes[3].minorticks_off()
    axes[3].legend(fontsize=8, loc="upper left")
    drawn.savefig(path, dpi=150)


def shrunk(case: Case) -> Case:
    """The case with a hundredth of its rows, at least 50."""
    return case | {"N": max(case["N"] // 100, 50)}


def main(arguments: list[str] | None = None) -> None:
    """Measure all cases, print the ratios, write the results."""
    parser = options(__doc__, "speed", 7)
    parts = ("cases", "cores")
    parser.add_argument("--only", choices=parts, help="the other's numbers are kept")
    given = parser.parse_args(arguments)
    written: dict[str, Any] = {}
    if given.only and given.out and (given.out / "speed.json").is_file():
        written = json.loads((given.out / "speed.json").read_text())
    if given.only != "cores":
        written["cases"] = [take(held_alone, case, given) for case in (*CASES, *GROWTH)]
    if given.only != "cases":
        written["cores"] = [take(shared, case, given) for case in SHARED]
    if given.quick:
        return
    if given.only != "cores":
        for axis in ("N", "K", "d"):
            slope = exponent(along(written["cases"], axis), axis)
            print(f"time grows as {axis}^{slope:.2f}")
    written.pop("machine", None)
    write(written, given.out, "speed")
    if given.out:
        figure(written["cases"], given.out / "speed.png")


def held_alone(case: Case, rounds: int) -> dict[str, Any]:
    """`held` in a process of its own."""
    found: dict[str, Any] = alone("benchmarks.speed", case, rounds)
    return found


def take(measured: Callable[[Case, int], Any], case: Case, given: Any) -> Any:
    """Measure a case and print it."""
    found = measured(shrunk(case) if given.quick else case, given.rounds)
    head = " ".join(str(case[k]) for k in ("model", "N", "K", "d", "dtype"))
    milliseconds = found["ms"].get("ours", found["ms"].get("1 core"))
    print(f"{head}: {milliseconds[1]:.3f} ms an iteration")
    for name, values in found["ratios"].items():
        print(f"    {name}: {said(values)}", flush=True)
    return found


if __name__ == "__main__":
    main()
