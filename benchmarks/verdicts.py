"""How often a verdict is wrong: false alarms and power, on posteriors that are exact.

    uv run python -m benchmarks.verdicts [--problems 500] [--out results/published]

Each problem is a data set from the prior predictive of a small mixture, whose posterior
is drawn from exactly, by enumeration. Two independent sets of draws of one posterior
are compared: `differs` is a false alarm, `reference unreliable` a reference called
unfit that is not. Then one of them is moved by 0.3 posterior sds, or its sds are
multiplied by 0.7: anything but `differs` is a miss.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import beta

from benchmarks.measure import write
from vi_bench.comparison import Sample, compare
from vi_bench.comparison.quantities import WEIGHT, flatten
from vi_bench.conjugate import Conjugate
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.mixture import Mixture, bind
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_diagonal import GaussianDiagonal
from vi_bench.models.poisson import Poisson
from vi_bench.weights import STICK, Dirichlet, Uniform

ROWS, SHAPE = 10, (4, 1000)
FAMILIES: dict[str, Conjugate] = {
    "gaussian": Gaussian(sigma=3.0, mean=0.0),
    "gaussian-diagonal": GaussianDiagonal(mean=0.0, kappa=0.2, shape=3.0, rate=2.0),
    "poisson": Poisson(shape=2.0, rate=0.4),
}
WEIGHTS = {"uniform": Uniform(), "dirichlet": Dirichlet(1.0)}


@jax.jit
def simulate(mixture: Mixture, key: jax.Array) -> jax.Array:
    """Rows of the prior predictive."""
    return mixture.simulate(key, ROWS)[0]


@jax.jit
def draw(mixture: Mixture, key: jax.Array) -> dict[str, jax.Array]:
    """Two independent sets of exact draws, and their log joints."""
    posterior = enumerate_subsets(mixture)
    pairs = [posterior.draw(k, SHAPE) for k in jax.random.split(key)]
    flat = [jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), p) for p in pairs]
    logs = [jax.lax.map(mixture.log_joint, f).reshape(SHAPE) for f in flat]
    return {"draws": pairs, "log_joint": logs}


def problem(index: int, key: jax.Array) -> tuple[str, list[Sample]]:
    """A random problem, and two samples of its posterior."""
    names = [(f, K, w) for f in FAMILIES for K in (1, 2, 3) for w in WEIGHTS]
    name, K, prior = names[index % len(names)]
    family, weights = FAMILIES[name], WEIGHTS[prior]
    of_data, of_draws = jax.random.split(jax.random.fold_in(key, index))
    empty = bind(family, np.zeros((ROWS, 1)), K, jnp.float64, weights)
    x = np.asarray(simulate(empty, of_data))
    mixture = bind(family, x, K, jnp.float64, weights)
    found = draw(mixture, of_draws)
    return f"{name} K={K} {prior}", [
        sample(mixture, theta, np.asarray(log_joint))
        for theta, log_joint in zip(found["draws"], found["log_joint"], strict=True)
    ]


def sample(
    mixture: Mixture, theta: dict[str, jax.Array], log_joint: np.ndarray
) -> Sample:
    """Draws as the comparison takes them."""
    host = {n: np.asarray(v) for n, v in theta.items()}
    known = {n: v for n, v in host.items() if n != STICK}
    columns, shared = flatten(mixture.family.compared(known), {"feature": ["x0"]})
    if STICK in host:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        columns[WEIGHT] = np.exp(np.asarray(log_weights))
    return Sample(columns, shared, log_joint)


def moved(given: Sample, shift: float) -> Sample:
    """Every component moved by `shift` sds of the mean over components."""
    columns = {}
    for label, values in given.columns.items():
        sd = 0.0 if label == WEIGHT else float(values.mean(axis=-1).std())
        columns[label] = values + shift * sd
    return Sample(columns, given.shared)


def scaled(given: Sample, factor: float) -> Sample:
    """Every component's draws drawn together around its mean."""
    found = compare({"own": Sample(given.columns, given.shared)}, "own")
    columns = {}
    for label, values in found.relabelled["own"].items():
        centre = values.mean(axis=(0, 1))
        columns[label] = centre + factor * (values - centre)
    return Sample(columns, given.shared)


CHANGES: dict[str, Callable[[Sample], Sample]] = {
    "one moved by 0.3 sd": lambda given: moved(given, 0.3),
    "one with its sds times 0.7": lambda given: scaled(given, 0.7),
}

SQUARE = "sd of mean square"
"""Part of a reason: the quantity that ten rows leave open."""


def interval(count: int, of: int) -> tuple[float, float]:
    """A share's exact 95 % interval (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    return low, high


def rate(count: int, of: int) -> str:
    """A share and its interval."""
    low, high = interval(count, of)
    return f"{count} of {of} = {count / of:.3f} (95 %: {low:.3f} to {high:.3f})"


def count(problems: int, power: int, seed: int) -> dict[str, Any]:
    """Verdicts by word; each that is wrong or open is printed with its reason."""
    jax.config.update("jax_enable_x64", True)
    key = jax.random.key(seed)
    same: Counter[str] = Counter()
    changed = {what: Counter[str]() for what in CHANGES}
    open_in: Counter[str] = Counter()
    for index in range(max(problems, power)):
        name, (a, b) = problem(index, key)
        if index < problems:
            verdict = compare({"a": a, "b": b}, "b").verdicts["a"]
            same[verdict.word] += 1
            if verdict.word != "agrees":
                print(f"{index} {name}: {verdict.word}: {verdict.reason}")
            if verdict.word == "inconclusive":
                open_in["mean square" if SQUARE in verdict.reason else "other"] += 1
        if index < power:
            plain = replace(b, log_joint=None)
            for what, change in CHANGES.items():
                verdict = compare({"a": change(a), "b": plain}, "b").verdicts["a"]
                changed[what][verdict.word] += 1
                if verdict.word != "differs":
                    print(f"{index} {name}, {what}: {verdict.word}: {verdict.reason}")
    return {
        "problems": problems,
        "power": power,
        "seed": seed,
        "same": dict(same),
        "inconclusive_in": dict(open_in),
        "changed": {what: dict(words) for what, words in changed.items()},
    }


def main() -> None:
    """Count, print the rates, and keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--power", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the counts")
    given = parser.parse_args()
    found = count(given.problems, given.power, given.seed)
    print(f"\n{SHAPE[0]} x {SHAPE[1]} draws a side")
    same = Counter(found["same"])
    wrong = rate(same["differs"], given.problems)
    print(f"the same posterior, called differs: {wrong}")
    for word in ("agrees", "inconclusive", "reference unreliable"):
        print(f"    called {word}: {rate(same[word], given.problems)}")
    for what, words in found["changed"].items():
        print(f"{what}, called differs: {rate(words.get('differs', 0), given.power)}")
    write(found, given.out, "verdicts")


if __name__ == "__main__":
    main()
