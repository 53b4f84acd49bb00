"""Are stated errors right? z-scores over many seeds on posteriors known exactly.

    uv run python -m benchmarks.errors [--seeds 60] [--out results/published]

Every method is run many times, with another key each time, on a few small mixtures
whose posteriors are drawn from exactly, by enumeration. Estimates of label-invariant
quantities (mean, logarithm of the sd, 5 and 95 % quantiles, Wasserstein-1 distance) and
of log p(X) are compared with the truth in units of the stated error: where that is
right, the z-scores' root mean square is 1.

W1 between samples of one posterior is noise and has no z-score. So the other sample is
of a known distribution that is not the posterior: exact draws, shifted by 0.3 posterior
sds and their sd reduced to 0.7 of the posterior's, so that its distribution function
crosses the posterior's and W1 has a standard error.

A variational method's error is that of its draws, not that of its q: q is fitted once,
sampled anew with every key, and compared with all these draws together. Likewise
Pathfinder's paths are found once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import write_cases
from benchmarks.page import table
from vi_bench.comparison.measures import TAILS, summarise, wasserstein
from vi_bench.comparison.quantities import WEIGHT, flatten, invariants
from vi_bench.contract import Draws, Method, Problem, Weights
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.inference.stages import calling, compiled, drive, prepare
from vi_bench.methods.cavi import CAVI
from vi_bench.methods.exact import Exact
from vi_bench.methods.gibbs import Gibbs
from vi_bench.methods.nested import Nested
from vi_bench.methods.nuts import NUTS
from vi_bench.methods.pathfinder import Pathfinder
from vi_bench.methods.smc import SMC
from vi_bench.methods.svi import SVI
from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.mixture import Mixture, bind
from vi_bench.mixture.weights import STICK, Dirichlet, Uniform
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_diagonal import GaussianDiagonal

SHAPE = (4, 1000)
"""Chains and draws, as a run has them by default."""

KNOWN = 400_000
"""Number of exact draws that represent the posterior."""

OTHER = (4, 4000)
"""Chains and draws of the sample to which W1 is computed."""

METHODS: dict[str, Method] = {
    "exact": Exact(),
    "gibbs": Gibbs(),
    "nuts": NUTS(target_acceptance=0.95),
    "smc": SMC(),
    "nested": Nested(max_batches=100),
    "pathfinder": Pathfinder(),
    "cavi": CAVI(),
    "svi": SVI(),
}

ONE_MODE = ("gibbs", "nuts")
"""Methods that are not run where there are modes beside relabellings."""

Values = dict[str, np.ndarray]
"""Label-invariant quantities by name, (chain, draw) each."""


class Case(NamedTuple):
    """A small mixture: its family, weights, rows, and how many modes it has.

    Modes that differ by their labels alone count once.
    """

    family: Conjugate
    weights: Weights
    rows: np.ndarray
    modes: int


class Truth(NamedTuple):
    """The truth with which estimates are compared.

    Attributes:
        values: a large sample of every quantity, sorted.
        independent: number of independent draws in that sample, inf if it is itself
            the truth.
        log_evidence: log p(X), nats.
    """

    values: Values
    independent: float
    log_evidence: float


def cases() -> dict[str, Case]:
    """The problems: components that overlap, two modes, components that are apart.

    In the second problem two components share three groups of rows: the middle group
    joins its left or its right neighbour.
    """
    random = np.random.default_rng(1)
    noise = random.normal(size=(3, 12))
    halves = np.repeat([-1.0, 1.0], 6)
    thirds = np.repeat([-1.0, 0.0, 1.0], 4)
    near, far = (Gaussian(sigma=sigma, mean=0.0) for sigma in (2.0, 4.0))
    apart = GaussianDiagonal(mean=0.0, kappa=0.2, shape=3.0, rate=2.0)
    rows = (noise[0] + 0.7 * halves, 0.3 * noise[1] + 4 * thirds, noise[2] + 3 * halves)
    return {
        "overlapping": Case(near, Uniform(), rows[0], 1),
        "two modes": Case(far, Uniform(), rows[1], 2),
        "apart": Case(apart, Dirichlet(2.0), rows[2], 1),
    }


def quantities(mixture: Mixture, theta: dict[str, Any]) -> Values:
    """The compared label-invariant quantities of draws (chain, draw, ...)."""
    host = {name: np.asarray(v) for name, v in theta.items() if name != STICK}
    named = mixture.family.compared(host)
    columns, shared = flatten(named, {"feature": ["x0"]})
    if STICK in theta:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        columns[WEIGHT] = np.exp(np.asarray(log_weights))
    return invariants(columns, shared, None)


def exactly(mixture: Mixture, key: jax.Array) -> Truth:
    """The truth by enumeration."""

    @jax.jit
    def draw(mixture: Mixture, key: jax.Array) -> Any:
        posterior = enumerate_subsets(mixture)
        return posterior.draw(key, (1, KNOWN)), posterior.log_evidence

    theta, log_evidence = draw(mixture, key)
    values = {n: np.sort(v.ravel()) for n, v in quantities(mixture, theta).items()}
    return Truth(values, KNOWN, float(log_evidence))


def repeated(
    method: Method, mixture: Mixture, seeds: Sequence[int]
) -> list[tuple[Values, Draws]]:
    """A method's quantities and draws, seed by seed; each stage is compiled once.

    The stages of a variational method before "draw" run once, with the first seed.
    """
    keys = [jax.random.key(seed) for seed in seeds]
    stages = prepare(method, Problem(mixture, *SHAPE), keys[0])
    each = calling(compiled(stages))
    first: Any = None
    if method.kind == "variational":
        at = [stage.name for stage in stages].index("draw")
        first = drive(stages[:at], keys[0], mixture, each)
        stages = stages[at : at + 1]
    found = []
    for key in keys:
        draws: Draws = drive(stages, key, mixture, each, first)
        found.append((quantities(mixture, draws.parameters), draws))
    return found


class Target(NamedTuple):
    """One quantity's truth, and the sample to which W1 is computed.

    Attributes:
        mean: the true mean.
        sd: the true standard deviation.
        error: standard error of the mean, and about that of the sd.
        tails: the true 5 and 95 % quantiles.
        other: a sample of a distribution whose distribution function crosses the truth.
        w1: Wasserstein-1 distance from the truth to it, in the quantity's unit.
    """

    mean: float
    sd: float
    error: float
    tails: np.ndarray
    other: np.ndarray
    w1: float


def target(values: np.ndarray, independent: float) -> Target:
    """A quantity's truth from a large sample of it."""
    mean, sd = float(values.mean()), float(values.std())
    other = mean + 0.7 * (values - mean) + 0.3 * sd
    w1 = wasserstein(values[None], other[None]).value
    tails = np.quantile(values, TAILS)
    return Target(mean, sd, sd / np.sqrt(independent), tails, other, w1)


def against(
    draws: np.ndarray, known: Target, random: np.random.Generator
) -> dict[str, list[float]]:
    """z-scores of one quantity's mean, log sd, tails and W1."""
    own = summarise(draws)
    of_mean = np.hypot(own.mean.se, known.error)
    of_sd = np.hypot(own.sd.se / own.sd.value, known.error / known.sd)
    tails = zip(own.tails or (), known.tails, strict=True)
    w1 = wasserstein(draws, random.choice(known.other, OTHER))
    return {
        "mean": [(own.mean.value - known.mean) / of_mean],
        "sd": [np.log(own.sd.value / known.sd) / of_sd],
        "tails": [(found.value - true) / found.se for found, true in tails],
        "W1": [(w1.value - known.w1) / w1.se],
    }


def scores(found: Sequence[Values], truth: Truth) -> dict[str, np.ndarray]:
    """z-scores (seed, quantity) by kind."""
    random = np.random.default_rng(2)
    targets = {n: target(v, truth.independent) for n, v in truth.values.items()}
    table: dict[str, list[list[float]]] = {}
    for values in found:
        row: dict[str, list[float]] = {}
        for name, draws in values.items():
            for kind, z in against(draws, targets[name], random).items():
                row.setdefault(kind, []).extend(z)
        for kind, z in row.items():
            table.setdefault(kind, []).append(z)
    return {kind: np.array(rows) for kind, rows in table.items()}


def scored(
    method: Method, mixture: Mixture, truth: Truth, seeds: int
) -> dict[str, Any]:
    """z-scores (seed, quantity) of everything that a method states an error of."""
    runs = repeated(method, mixture, range(seeds))
    values = [v for v, _ in runs]
    if method.kind == "variational":
        pooled = {n: np.sort(np.ravel([v[n] for v in values])) for n in values[0]}
        # every seed's draws are part of the sample they are compared with
        short = np.sqrt(seeds / (seeds - 1))
        found = scores(values, Truth(pooled, np.inf, np.nan))
        return {kind: short * z for kind, z in found.items()}
    found = scores(values, truth)
    reports = [draws.report for _, draws in runs]
    told = reports[0].log_evidence is not None
    if told and float(reports[0].log_evidence_se) > 0:
        off = [float(r.log_evidence) - truth.log_evidence for r in reports]
        errors = [float(r.log_evidence_se) for r in reports]
        found["evidence"] = (np.array(off) / errors)[:, None]
    return found


def rms(z: np.ndarray) -> list[float]:
    """Root mean square of z-scores (seed, quantity), and its 95 % interval.

    Seeds are independent, quantities of one seed are not.
    """
    squares = (z**2).mean(axis=1)
    middle = squares.mean()
    error = 1.96 * squares.std(ddof=1) / np.sqrt(len(squares))
    limits = np.maximum([middle, middle - error, middle + error], 0.0)
    return [float(v) for v in np.sqrt(limits)]


def study(
    methods: Sequence[str], problems: Sequence[str], seeds: int
) -> Iterator[dict[str, Any]]:
    """A case per problem and method, printed as it is found."""
    jax.config.update("jax_enable_x64", True)
    for name in problems:
        case = cases()[name]
        x = case.rows[:, None]
        mixture = bind(case.family, x, 2, jnp.float64, case.weights)
        truth = exactly(mixture, jax.random.key(1))
        for label in methods:
            if case.modes > 1 and label in ONE_MODE:
                continue
            found = scored(METHODS[label], mixture, truth, seeds)
            told = {kind: rms(z) for kind, z in found.items()}
            print(f"{name:12} {label:11} {said(told)}", flush=True)
            columns = {kind: z.shape[1] for kind, z in found.items()}
            yield {
                "name": f"{name}: {label}",
                "problem": name,
                "method": label,
                "seeds": seeds,
                "quantities": columns,
                "rms": told,
            }


def said(told: dict[str, list[float]]) -> str:
    """Kinds of quantities with their root mean squares and intervals."""
    parts = [f"{k} {m:.2f} ({a:.2f} to {b:.2f})" for k, (m, a, b) in told.items()]
    return "  ".join(parts)


KINDS = ("mean", "sd", "tails", "W1", "evidence")


def page(found: Mapping[str, Any]) -> str:
    """A Markdown table of the root mean squares and their 95 % intervals."""
    rows = []
    order = list(METHODS)
    for case in sorted(found["cases"], key=lambda c: order.index(c["method"])):
        cells = [f"`{case['method']}`", case["problem"]]
        for kind in KINDS:
            middle, low, high = case["rms"].get(kind, [np.nan] * 3)
            known = np.isfinite(middle)
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})" if known else "-")
        rows.append(cells)
    return table(("method", "problem", *KINDS), rows)


def main() -> None:
    """Run, print, write; what errors.json holds of other cases is kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--problems", nargs="+", choices=cases(), default=list(cases()))
    parser.add_argument("--out", type=Path, help="folder for errors.json")
    given = parser.parse_args()
    print("root mean square of z-scores, and its 95 % interval")
    for case in study(given.methods, given.problems, given.seeds):
        write_cases([case], given.out, "errors")


if __name__ == "__main__":
    main()
