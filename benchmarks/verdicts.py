"""How often a verdict is wrong: false alarms and power on posteriors known exactly.

    uv run python -m benchmarks.verdicts [--problems 500] [--out results/published]

Each problem is a data set from the prior predictive of a small mixture, whose posterior
is drawn from exactly, by enumeration. Two independent sets of draws of one posterior
are compared, each of as many draws as `draws = "auto"` makes: `differs` is a false
alarm, and so is `reference unreliable`. Then one of them is shifted by 0.3 posterior
sds, or its sds are multiplied by 0.7: anything but `differs` is a miss.

At the margin, with the mean of one quantity a tenth of an sd off or its sd a tenth too
small, both `agrees` and `differs` are wrong. There the number of draws is set in two
ways: by precision, as `draws = "auto"` does, and by following the advice, which is to
add the draws that an `inconclusive` verdict asks for and to compare again.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import write
from benchmarks.page import interval, table
from vi_bench.comparison import Margin, Sample, compare
from vi_bench.comparison.measured import measure
from vi_bench.comparison.quantities import WEIGHT, flatten
from vi_bench.comparison.verdict import Word
from vi_bench.enumeration.subsets import enumerate_subsets
from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.mixture import Mixture, bind
from vi_bench.mixture.weights import STICK, Dirichlet, Uniform
from vi_bench.models.gaussian import Gaussian
from vi_bench.models.gaussian_diagonal import GaussianDiagonal
from vi_bench.models.poisson import Poisson

ROWS, SHAPE = 10, (4, 1000)
"""Rows of a problem; chains and draws of a batch."""

FAMILIES: dict[str, Conjugate] = {
    "gaussian": Gaussian(sigma=3.0, mean=0.0),
    "gaussian-diagonal": GaussianDiagonal(mean=0.0, kappa=0.2, shape=3.0, rate=2.0),
    "poisson": Poisson(shape=2.0, rate=0.4),
}
ROUNDS, MOST = 4, 100
"""Largest number of rounds of added draws, and of batches in all."""

LOOKS = 4
"""Largest number of verdicts on one pair of samples, draws being added in between."""

WEIGHTS = {"uniform": Uniform(), "dirichlet": Dirichlet(1.0)}


@jax.jit
def simulate(mixture: Mixture, key: jax.Array) -> jax.Array:
    """Rows of the prior predictive."""
    return mixture.simulate(key, ROWS)[0]


@jax.jit
def draw(mixture: Mixture, key: jax.Array) -> dict[str, jax.Array]:
    """A batch of two independent sets of exact draws, and their log joints."""
    posterior = enumerate_subsets(mixture)
    pairs = [posterior.draw(k, SHAPE) for k in jax.random.split(key)]
    flat = [jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), p) for p in pairs]
    logs = [jax.lax.map(mixture.log_joint, f).reshape(SHAPE) for f in flat]
    return {"draws": pairs, "log_joint": logs}


def problem(index: int, key: jax.Array) -> tuple[str, list[Sample]]:
    """A random problem, and two samples of its posterior, large enough."""
    names = [(f, K, w) for f in FAMILIES for K in (1, 2, 3) for w in WEIGHTS]
    name, K, prior = names[index % len(names)]
    family, weights = FAMILIES[name], WEIGHTS[prior]
    of_data, of_draws = jax.random.split(jax.random.fold_in(key, index))
    empty = bind(family, np.zeros((ROWS, 1)), K, jnp.float64, weights)
    x = np.asarray(simulate(empty, of_data))
    mixture = bind(family, x, K, jnp.float64, weights)
    batches: list[dict[str, Any]] = []
    wanted = 1
    for _ in range(ROUNDS):
        while len(batches) < wanted:
            use = jax.random.fold_in(of_draws, len(batches))
            batches.append(jax.tree.map(np.asarray, draw(mixture, use)))
        pair = [joined(mixture, batches, side) for side in (0, 1)]
        known = measure({"a": pair[0], "b": pair[1]}, "b")
        effort = max(known.effort(label, Margin()) for label in "ab")
        if effort <= 1:
            break
        wanted = min(int(np.ceil(effort * len(batches))), MOST)
    return f"{name} K={K} {prior}", pair


def joined(mixture: Mixture, batches: list[dict[str, Any]], side: int) -> Sample:
    """One side of all batches as a `Sample`."""
    parts = [b["draws"][side] for b in batches]
    theta = jax.tree.map(lambda *v: np.concatenate(v, axis=1), *parts)
    log_joint = np.concatenate([b["log_joint"][side] for b in batches], axis=1)
    return sample(mixture, theta, log_joint)


def sample(
    mixture: Mixture, theta: dict[str, jax.Array], log_joint: np.ndarray
) -> Sample:
    """Draws (chain, draw, *dims) and their log joints as a `Sample`."""
    host = {n: np.asarray(v) for n, v in theta.items()}
    known = {n: v for n, v in host.items() if n != STICK}
    columns, shared = flatten(mixture.family.compared(known), {"feature": ["x0"]})
    if STICK in host:
        log_weights = mixture.weights.log_weights(theta, mixture.components)
        columns[WEIGHT] = np.exp(np.asarray(log_weights))
    return Sample(columns, shared, log_joint)


def moved(given: Sample, shift: float) -> Sample:
    """The sample with every component shifted by `shift` sds of the component mean."""
    columns = {}
    for label, values in given.columns.items():
        sd = 0.0 if label == WEIGHT else float(values.mean(axis=-1).std())
        columns[label] = values + shift * sd
    return Sample(columns, given.shared)


def scaled(given: Sample, factor: float) -> Sample:
    """The sample with every component's draws scaled around their mean."""
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

AT_THE_MARGIN: dict[str, tuple[float, float]] = {
    "mean off by the margin": (0.1, 1.0),
    "sd off by the margin": (0.0, 0.9),
}
"""Case -> shift of the mean in sds, and factor of the sd."""


def at_the_margin(
    random: np.random.Generator, shift: float, scale: float, by_precision: bool
) -> str:
    """The final verdict on two normal samples that differ exactly by the margin."""
    a, b, more = np.empty((4, 0, 1)), np.empty((4, 0, 1)), 1000
    for _ in range(LOOKS):
        grown = random.normal(size=(2, 4, more, 1))
        a = np.hstack([a, shift + scale * grown[0]])
        b = np.hstack([b, grown[1]])
        samples = {"a": Sample({"m": a}), "b": Sample({"m": b})}
        if by_precision:
            known = measure(samples, "b")
            effort = max(known.effort(label, Margin()) for label in "ab")
            if effort > 1:
                more = int(np.ceil((effort - 1) * a.shape[1]))
                continue
        verdict = compare(samples, "b").verdicts["a"]
        if by_precision or verdict.more_draws is None:
            return verdict.word
        more = -(-verdict.more_draws // 4)
    return compare(samples, "b").verdicts["a"].word


def count_at_the_margin(replications: int, seed: int) -> dict[str, dict[str, int]]:
    """Counts of verdicts by case and by the rule for the number of draws."""
    random = np.random.default_rng(seed)
    return {
        f"{case}, draws by {'precision' if precise else 'the advice'}": dict(
            Counter(
                at_the_margin(random, shift, scale, precise)
                for _ in range(replications)
            )
        )
        for case, (shift, scale) in AT_THE_MARGIN.items()
        for precise in (True, False)
    }


def rate(count: int, of: int) -> str:
    """A share and its 95 % interval, as text."""
    low, high = interval(count, of)
    return f"{count} of {of} = {count / of:.3f} (95 %: {low:.3f} to {high:.3f})"


def cell(count: int, of: int) -> str:
    """A count and its share's 95 % interval in per cent, as text."""
    low, high = (round(100 * e, 1) for e in interval(count, of))
    return f"{count} ({low:g} to {high:g} %)"


def pages(found: Mapping[str, Any]) -> list[str]:
    """Two Markdown tables of counts: all verdicts, and false ones at the margin."""
    words = (
        "differs",
        "agrees",
        "agrees in marginals",
        "at the margin",
        "inconclusive",
    )
    groups = {"of the same posterior": (found["problems"], found["same"])}
    groups |= {what: (found["power"], own) for what, own in found["changed"].items()}
    rows = [
        [what, f"{of}", cell(own.get(words[0], 0), of)]
        + [str(own.get(w, 0)) for w in words[1:]]
        for what, (of, own) in groups.items()
    ]
    head = ("two sets of draws", "problems", *(f"`{w}`" for w in words))
    first = table(head, rows)
    rows = [
        [case, f"{(of := sum(own.values()))}"]
        + [cell(own.get(w, 0), of) for w in ("agrees", "differs")]
        for case, own in found["margin"].items()
    ]
    head = ("at the margin", "replications", "false `agrees`", "false `differs`")
    return [first, table(head, rows)]


def count(problems: int, power: int, seed: int) -> dict[str, Any]:
    """Counts of verdicts; each that is wrong or open is printed with its reason."""
    jax.config.update("jax_enable_x64", True)
    key = jax.random.key(seed)
    same: Counter[str] = Counter()
    changed = {what: Counter[str]() for what in CHANGES}
    for index in range(max(problems, power)):
        name, (a, b) = problem(index, key)
        if index < problems:
            verdict = compare({"a": a, "b": b}, "b").verdicts["a"]
            same[verdict.word] += 1
            if verdict.word != "agrees":
                print(f"{index} {name}: {verdict.word}: {verdict.reason}")
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
        "changed": {what: dict(words) for what, words in changed.items()},
    }


def main() -> None:
    """Count verdicts, print their rates, write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--power", type=int, default=200)
    parser.add_argument("--margin", type=int, default=2000, help="replications there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the counts")
    given = parser.parse_args()
    found = count(given.problems, given.power, given.seed)
    found["margin"] = count_at_the_margin(given.margin, given.seed)
    print()
    same = Counter(found["same"])
    wrong = rate(same["differs"], given.problems)
    print(f"the same posterior, called differs: {wrong}")
    for word in get_args(Word):
        print(f"    called {word}: {rate(same[word], given.problems)}")
    for what, words in found["changed"].items():
        print(f"{what}, called differs: {rate(words.get('differs', 0), given.power)}")
    for case, words in found["margin"].items():
        for word in ("agrees", "differs"):
            called = rate(words.get(word, 0), given.margin)
            print(f"{case}, called {word}: {called}")
    write(found, given.out, "verdicts")


if __name__ == "__main__":
    main()
