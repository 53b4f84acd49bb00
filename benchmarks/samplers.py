"""NUTS of this package against NumPyro's on its own model and nutpie's on PyMC's.

    uv run python -m benchmarks.samplers [--rounds 3] [--out results/published]

All have the same rows, prior and starts, four chains, the same warm-up and draws, one
core and one thread, compiled and warm, and run in turn. NumPyro's side is its kernel in
one compiled program a phase, chains one after the other: faster than its `MCMC` class,
whose overhead is not counted. It is measured twice: compiled as everything here is, and
with XLA's defaults, which have the fusions that `vi_bench.runtime.xla_flags` turns off.
The score is the smallest bulk ESS over label-invariant quantities, per second of
warm-up and sampling.

nutpie is included where it and PyMC are installed: `uv sync --group bench`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import Case, ratios, run_cases, said, spread

CHAINS = 4
AS_XLA_COMES = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,"
    "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_REDUCE"
}
"""XLA's own fusions, the default of jaxlib 0.12."""

KEPT = 20
"""Number of rows whose log density is a scored quantity."""

CASES: list[Case] = [
    {
        "name": "separated",
        "data": "simulate:K=5,d=2,N=1000,separation=8,seed=0",
        "K": 5,
        "draws": 500,
    },
    {
        "name": "large",
        "data": "simulate:K=16,d=8,N=20000,separation=8,seed=0",
        "K": 16,
        "draws": 100,
        "rounds": 2,
    },
    {
        "name": "overlapping",
        "data": "notebook",
        "K": 5,
        "draws": 500,
        "variants": {
            "dense metric": {"dense_mass": True},
            "acceptance 0.65": {"target_acceptance": 0.65},
            "acceptance 0.9": {"target_acceptance": 0.9},
        },
    },
]


class Run(NamedTuple):
    """One run of all chains.

    Attributes:
        seconds: seconds of warm-up and sampling, by the process's clock.
        sampling: seconds of sampling alone, None where the two are not separate.
        gradients: number of gradients of the sampling phase, all chains.
        mu: draws of the means (chain, draw, K, d).
    """

    seconds: float
    sampling: float | None
    gradients: int
    mu: np.ndarray


Contender = Callable[[int], Run]


def clocked(call: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """The result of a program, and the seconds it took by the process's clock."""
    import jax

    begun = time.process_time()
    made = jax.block_until_ready(call(*given))
    return made, time.process_time() - begun


def ours(mixture: Any, starts: np.ndarray, draws: int, settings: Any) -> Contender:
    """The method `nuts`, its stages compiled as a run compiles them."""
    import jax

    from vi_bench.contract import Problem
    from vi_bench.inference.stages import call_until_done
    from vi_bench.methods.nuts import NUTS

    method = NUTS(warmup=draws, **settings)
    problem = Problem(mixture, CHAINS, draws)
    _, begin, warm_up, sample, collect = method.prepare(problem, jax.random.key(0))
    started = jax.jit(begin.run)
    programs = {stage.name: jax.jit(stage.run) for stage in (warm_up, sample)}
    positions = {"mu": starts}

    def run(seed: int) -> Run:
        first, *keys = jax.random.split(jax.random.key(seed), 3)
        chains, seconds = started(first, mixture, positions), []
        for stage, key in zip((warm_up, sample), keys, strict=True):
            called, spent = clocked(
                call_until_done,
                stage,
                programs[stage.name],
                jax.random.split(key, stage.calls),
                mixture,
                chains,
            )
            chains = called.carry
            seconds.append(spent)
        found = collect.run(first, mixture, chains)
        steps = int(found.sample_stats["n_steps"].sum())
        mu = np.asarray(found.parameters["mu"])
        return Run(sum(seconds), seconds[-1], steps, mu)

    run(0)  # compiles
    return run


def numpyro(
    x: np.ndarray,
    family: Any,
    starts: np.ndarray,
    draws: int,
    options: dict[str, str] | None = None,
) -> Contender:
    """NumPyro's NUTS on MixtureSameFamily, as one program a phase."""
    import jax
    import jax.numpy as jnp
    import numpyro as npy
    import numpyro.distributions as dist
    from numpyro.infer import NUTS

    K, d = starts.shape[1:]
    rows = jnp.asarray(x)

    def model(rows: Any) -> None:
        prior = dist.Normal(jnp.asarray(family.mean), family.sigma)
        mu = npy.sample("mu", prior.expand([K, d]).to_event(2))
        component = dist.Normal(mu, jnp.sqrt(family.variance)).to_event(1)
        which = dist.Categorical(probs=jnp.full(K, 1 / K))
        with npy.plate("row", len(x)):
            npy.sample("x", dist.MixtureSameFamily(which, component), obs=rows)

    kernel = NUTS(model)

    def advance(state: Any, rows: Any) -> Any:
        return kernel.sample(state, (rows,), {})

    def warm_up(states: Any, rows: Any) -> Any:
        def chain(state: Any) -> Any:
            return jax.lax.fori_loop(0, draws, lambda _, s: advance(s, rows), state)

        return jax.lax.map(chain, states)

    def draw(states: Any, rows: Any) -> Any:
        def one(state: Any, _: Any) -> Any:
            state = advance(state, rows)
            return state, (state.z["mu"], state.num_steps)

        def chain(state: Any) -> Any:
            return jax.lax.scan(one, state, None, draws)[1]

        return jax.lax.map(chain, states)

    def begin(seed: int) -> Any:
        keys = jax.random.split(jax.random.key(seed), CHAINS)
        states = [
            kernel.init(key, draws, {"mu": start}, (rows,), {})
            for key, start in zip(keys, starts, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    like = begin(0)
    warm, sample = (
        jax.jit(phase).lower(like, rows).compile(compiler_options=options)
        for phase in (warm_up, draw)
    )

    def run(seed: int) -> Run:
        warmed, warming = clocked(warm, begin(seed), rows)
        (mu, steps), sampling = clocked(sample, warmed, rows)
        return Run(warming + sampling, sampling, int(steps.sum()), np.asarray(mu))

    return run


def nutpie(
    x: np.ndarray, family: Any, starts: np.ndarray, draws: int
) -> Contender | None:
    """Nutpie on a PyMC model compiled by Numba, or None without them."""
    try:
        import nutpie as sampler
        import pymc as pm
    except ImportError:
        return None
    K, d = starts.shape[1:]
    with pm.Model() as model:
        mu = pm.Normal("mu", np.asarray(family.mean), family.sigma, shape=(K, d))
        squares = ((x[:, None, :] - mu[None]) ** 2).sum(axis=-1)
        terms = -0.5 * squares / family.variance
        pm.Potential("x", pm.math.logsumexp(terms, axis=1).sum())
    compiled = sampler.compile_pymc_model(
        model, initial_points={"mu": starts[0]}, jitter_rvs=set()
    )

    def run(seed: int, draws: int = draws) -> Run:
        begun = time.process_time()
        found = sampler.sample(
            compiled,
            draws=draws,
            tune=draws,
            chains=CHAINS,
            cores=1,
            seed=seed,
            progress_bar=False,
        )
        seconds = time.process_time() - begun
        mu = np.asarray(found.posterior["mu"])
        steps = int(np.asarray(found.sample_stats["n_steps"]).sum())
        return Run(seconds, None, steps, mu)

    run(0, 2)  # compiles
    return run


def invariants(mu: np.ndarray, x: np.ndarray, variance: float) -> dict[str, np.ndarray]:
    """Quantities that do not change when components are permuted, (chain, draw) each.

    Sums of the means and of their squares over components, and log densities of KEPT
    rows up to a constant.
    """
    found = {f"sum of means {j}": mu[..., j].sum(axis=-1) for j in range(mu.shape[-1])}
    found["sum of squares"] = (mu**2).sum(axis=(-2, -1))
    for i in np.linspace(0, len(x) - 1, KEPT).astype(int):
        terms = -0.5 * ((x[i] - mu) ** 2).sum(axis=-1) / variance
        found[f"log density of row {i}"] = np.logaddexp.reduce(terms, axis=-1)
    return found


def scored(run: Run, x: np.ndarray, variance: float) -> dict[str, float]:
    """The smallest ESS and largest R-hat of a run, its seconds and its gradients."""
    from arviz_stats.base import array_stats

    values = invariants(run.mu, x, variance).values()
    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = min(float(array_stats.ess(v, method="bulk", **axes)) for v in values)
    rhat = max(float(array_stats.rhat(v, **axes)) for v in values)
    found = {
        "seconds": run.seconds,
        "min_ess": ess,
        "max_rhat": rhat,
        "ess_per_second": ess / run.seconds,
        "gradients": run.gradients,
        "ess_per_gradient": ess / run.gradients,
    }
    if run.sampling is not None:
        found["us_per_gradient"] = 1e6 * run.sampling / run.gradients
    return found


def child(case: Case, rounds: int) -> dict[str, Any]:
    """Run all samplers of one case in turn."""
    import jax
    import jax.numpy as jnp

    import vi_bench as vb
    from vi_bench.inference.starts import chain_starts
    from vi_bench.mixture.mixture import bind
    from vi_bench.models.gaussian import Gaussian

    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    table = vb.load(case["data"])
    x, K, draws = table.values, case["K"], case["draws"]
    x = x - x.mean(axis=0)
    family = Gaussian(mean=0.0).complete(x, K)
    mixture = bind(family, x, K, jnp.float64)
    if table.truth:
        means = table.truth["means"] - table.values.mean(axis=0)
        starts = np.repeat(means[None], CHAINS, axis=0)
    else:
        starts = np.asarray(chain_starts(jax.random.key(0), mixture, CHAINS)["mu"])
    contenders = {"ours": ours(mixture, starts, draws, {})}
    for name, settings in case.get("variants", {}).items():
        contenders[name] = ours(mixture, starts, draws, settings)
    contenders["numpyro"] = numpyro(x, family, starts, draws)
    contenders["numpyro, XLA as it comes"] = numpyro(
        x, family, starts, draws, AS_XLA_COMES
    )
    if peer := nutpie(x, family, starts, draws):
        contenders["nutpie"] = peer
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for seed in range(1, rounds + 1):
        for name, run in contenders.items():
            scores[name].append(scored(run(seed), x, family.variance))
    speed = {k: [r["ess_per_second"] for r in v] for k, v in scores.items()}
    return case | {
        "N": len(x),
        "d": x.shape[1],
        "runs": scores,
        "ratios": {
            f"ours / {name}": ratios(speed["ours"], speed[name])
            for name in contenders
            if name != "ours"
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Sample every case, print scores and ratios, write the results."""
    small = {"data": "simulate:K=3,d=2,N=100,seed=0", "K": 3, "draws": 20, "rounds": 1}
    run_cases(__doc__, "samplers", 3, CASES, small, show, arguments)


def show(found: Case) -> None:
    """Print the results of a case."""
    print(f"{found['name']}: N = {found['N']}, K = {found['K']}, d = {found['d']}")
    for name, runs in found["runs"].items():
        middle = {k: spread([r[k] for r in runs])[1] for k in runs[0]}
        print(f"    {name}:", ", ".join(f"{k} {v:.3g}" for k, v in middle.items()))
    for name, values in found["ratios"].items():
        print(f"    ESS/s, {name}: {said(values)}", flush=True)


if __name__ == "__main__":
    main()
