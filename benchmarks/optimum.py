"""Seconds to an optimum: against scikit-learn, and from a stochastic start.

    uv run python -m benchmarks.optimum [--rounds 3] [--quick] [--out results/published]

`sklearn`: Gaussian components with full covariances and Dirichlet weights, the model of
BayesianGaussianMixture, on the notebook's data, same priors and same random
responsibilities to start from; each side is timed for as many iterations as it needs to
come within 1e-10 of its own optimum's ELBO, relative to the ELBO with every constant.

`stochastic`: overlapping clusters, many rows; seconds to a gap of 1e-3 below the best
optimum seen from any start, for CAVI and for stochastic steps, and seconds of CAVI to
within 1e-10 of its own optimum from its own start and from a stochastic one. Evaluating
the bound of stochastic steps is not timed.

All sides run in turn on one core with one thread, compiled and warm.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from benchmarks.measure import Case, measure, ratios, run_cases, said

NEAR, CLOSE = 1e-3, 1e-10
"""Gaps to an optimum, relative to its ELBO."""

CASES: list[Case] = [
    {"name": "sklearn", "data": "notebook", "K": 5, "most": 20_000},
    {
        "name": "stochastic",
        "data": "simulate:K=16,d=8,N=1000000,separation=3,seed=0",
        "K": 16,
        "most": 1500,
    },
]


def climb(iterations: int) -> Any:
    """A program of so many further sweeps of CAVI, accelerated by SQUAREM."""
    import jax

    from vi_bench.inference.squarem import coordinate_ascent

    @jax.jit
    def program(mixture: Any, state: Any) -> Any:
        return coordinate_ascent(mixture)(state, iterations, 1e-15)

    return program


def first_within(bounds: np.ndarray, gap: float) -> int:
    """The number of iterations until a trace of bounds is that near its maximum."""
    return int(np.argmax(bounds >= np.max(bounds) - gap)) + 1


def against_sklearn(case: Case, rounds: int) -> dict[str, Any]:
    """Iterations and seconds of both programs to their optimum, from several starts."""
    import jax
    import jax.numpy as jnp
    from sklearn.mixture import BayesianGaussianMixture
    from sklearn.utils import check_random_state

    import vi_bench as vb
    from vi_bench.inference.squarem import begin
    from vi_bench.mixture.mixture import bind
    from vi_bench.mixture.weights import Dirichlet
    from vi_bench.models.gaussian_full import GaussianFull

    x, K, most = vb.load(case["data"]).values, case["K"], case["most"]
    x = x - x.mean(axis=0)
    d = x.shape[1]
    family = GaussianFull((0.0,) * d, 1.0, float(d), 1.0)
    mixture = bind(family, x, K, jnp.float64, Dirichlet(1.0))

    def model(iterations: int, seed: int) -> BayesianGaussianMixture:
        return BayesianGaussianMixture(
            n_components=K,
            weight_concentration_prior_type="dirichlet_distribution",
            weight_concentration_prior=1.0,
            mean_precision_prior=1.0,
            mean_prior=np.zeros(d),
            degrees_of_freedom_prior=float(d),
            covariance_prior=np.eye(d),
            reg_covar=0.0,
            init_params="random",
            tol=0.0,
            max_iter=iterations,
            random_state=seed,
        )

    @jax.jit
    def start(mixture: Any, phi: Any) -> Any:
        q = mixture.from_responsibilities(phi)
        return begin(q, mixture.view(q), most)

    found = []
    for seed in range(rounds):
        phi = check_random_state(seed).uniform(size=(len(x), K))
        phi /= phi.sum(axis=1, keepdims=True)
        tight = climb(most)(mixture, start(mixture, phi))
        used = int(tight.iteration)
        bounds = np.asarray(tight.trace[:used])
        gap = CLOSE * abs(float(bounds[-1]))
        theirs = model(most, seed).fit(x)
        needed = {
            "ours": first_within(bounds, gap),
            "sklearn": first_within(np.asarray(theirs.lower_bounds_), gap),
        }
        program = climb(needed["ours"])

        def own(program: Any = program, phi: Any = phi) -> None:
            jax.block_until_ready(program(mixture, start(mixture, phi)))

        def peer(seed: int = seed, iterations: int = needed["sklearn"]) -> None:
            model(iterations, seed).fit(x)

        seconds = {"ours": measure(own), "sklearn": measure(peer)}
        found.append({"iterations": needed, "seconds": seconds, "bound": bounds[-1]})
    seconds = {k: [f["seconds"][k] for f in found] for k in ("ours", "sklearn")}
    return {
        "starts": found,
        "ratios": {"sklearn / ours": ratios(seconds["sklearn"], seconds["ours"])},
    }


def stochastic(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds to a gap, from CAVI's own start and from a stochastic one."""
    import jax
    import jax.numpy as jnp

    import vi_bench as vb
    from vi_bench.inference.squarem import begin
    from vi_bench.inference.starts import start_point
    from vi_bench.methods import _stochastic
    from vi_bench.methods.cavi import STEPS, WARM_UP
    from vi_bench.mixture.mixture import bind
    from vi_bench.models.gaussian import Gaussian

    x, K, most = vb.load(case["data"]).values, case["K"], case["most"]
    mixture = bind(Gaussian().complete(x, K), x, K, jnp.float64)
    one, bound_at = climb(1), jax.jit(lambda m, q: m.step(q)[0])

    @jax.jit
    def usual(mixture: Any, key: Any) -> Any:
        return start_point(jnp.zeros((), jnp.int32), key, mixture)

    @jax.jit
    def place(mixture: Any, key: Any) -> Any:
        return _stochastic.steps_of(mixture).begin(key)

    @jax.jit
    def steps(mixture: Any, key: Any, q: Any, first: Any) -> Any:
        own = _stochastic.steps_of(mixture)
        return _stochastic.run(key, own, q, first, 10, WARM_UP)

    def clocked(trace: list[tuple[float, float]], call: Any, *given: Any) -> Any:
        begun = time.process_time()
        made = jax.block_until_ready(call(*given))
        trace.append((time.process_time() - begun, np.nan))
        return made

    def ascent(trace: list[tuple[float, float]], q: Any, sweeps: int) -> None:
        state = begin(q, mixture.view(q), most)
        for _ in range(sweeps):
            state = clocked(trace, one, mixture, state)
            trace[-1] = (trace[-1][0], float(state.bound))
            if int(state.status):
                break

    def from_usual(seed: int, sweeps: int = most) -> list[tuple[float, float]]:
        trace: list[tuple[float, float]] = []
        ascent(trace, clocked(trace, usual, mixture, jax.random.key(seed)), sweeps)
        return trace

    def from_stochastic(seed: int, sweeps: int = most) -> list[tuple[float, float]]:
        trace: list[tuple[float, float]] = []
        keys = jax.random.split(jax.random.key(seed))
        q = clocked(trace, place, mixture, keys[0])
        for step in range(0, STEPS, 10):
            first = jnp.asarray(step, jnp.int32)
            q = clocked(trace, steps, mixture, keys[1], q, first)
            trace[-1] = (trace[-1][0], float(bound_at(mixture, q)))
        ascent(trace, q, sweeps)
        return trace

    kinds = {"usual": from_usual, "stochastic": from_stochastic}
    for run in kinds.values():  # compiles
        run(-1, 2)
    traces: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for seed in range(rounds):
        for kind, run in kinds.items():
            traces[kind].append(np.array(run(seed)))
    best = max(np.nanmax(t[:, 1]) for ts in traces.values() for t in ts)

    def reached(trace: np.ndarray, goal: float) -> float:
        there = np.flatnonzero(trace[:, 1] >= goal)
        return float(trace[: there[0] + 1, 0].sum()) if len(there) else np.inf

    found = {
        kind: [
            {
                "near": reached(t, best - NEAR * abs(best)),
                "close": reached(t, np.nanmax(t[:, 1]) * (1 + CLOSE)),
                "bound": float(np.nanmax(t[:, 1])),
                "sweeps": len(t),
            }
            for t in ts
        ]
        for kind, ts in traces.items()
    }
    return {
        "runs": found,
        "ratios": {
            f"usual / stochastic, {what}": ratios(
                [f[what] for f in found["usual"]],
                [f[what] for f in found["stochastic"]],
            )
            for what in ("near", "close")
        },
    }


def child(case: Case, rounds: int) -> dict[str, Any]:
    """Measure one case."""
    import jax

    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    measured = {"sklearn": against_sklearn, "stochastic": stochastic}[case["name"]]
    return case | measured(case, rounds)


def main(arguments: list[str] | None = None) -> None:
    """Run both cases, print the ratios, write the results."""
    small = {"data": "simulate:K=3,d=2,N=5000,separation=2,seed=0", "K": 3, "most": 200}
    run_cases(__doc__, "optimum", 5, CASES, small, show, arguments)


def show(found: Case) -> None:
    """Print the results of a case."""
    print(found["name"])
    for row in found.get("starts") or found["runs"].items():
        print(f"    {row}")
    for name, values in found["ratios"].items():
        print(f"    {name}: {said(values)}", flush=True)


if __name__ == "__main__":
    main()
