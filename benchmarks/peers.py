"""CAVIs of other packages beside the library's: the same parameters, and the time.

    uv run --group bench python -m benchmarks.peers [--rounds 5] [--quick]
        [--only NAME ...] [--out results/published] [--page docs/peers.md]

Both sides have the same data, prior, start and order of updates; `benchmarks/pairs.py`
makes them. Each pair is a process of its own, pinned to one core with one thread. After
the same number of sweeps on small data the largest difference of every parameter is
taken, in units of the parameter's largest element; on larger data the time of a sweep
is that of a long fit minus that of a short one, over the sweeps between them, in turn
on both sides, each compiled and warm. Ratios are taken within a round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    Case,
    alone,
    options,
    ratios,
    said,
    spread,
    write_cases,
)

LDA = {"documents": 20, "words": 15, "topics": 3, "tokens": 40}

CASES: list[Case] = [
    {
        "name": "linear-regression, scikit-learn",
        "who": "ARDRegression",
        "small": {"rows": 100, "predictors": 4},
        "sweeps": 3000,
        "size": {"rows": 4000, "predictors": 500},
    },
    {
        "name": "linear-regression, BayesPy",
        "who": "GaussianARD, Gamma",
        "small": {"rows": 100, "predictors": 4},
        "size": {"rows": 4000, "predictors": 500},
    },
    *(
        {
            "name": f"lda, {package}" + (f", {rounds} rounds" if rounds > 1 else ""),
            "pair": f"lda, {package}",
            "who": who,
            "small": LDA,
            "same": {"rounds": 5000},
            "timed": {"rounds": rounds},
            "size": {"documents": 1000, "words": 2000, "topics": 20, "tokens": 150},
        }
        for package, who in (
            ("scikit-learn", "LatentDirichletAllocation"),
            ("gensim", "LdaModel"),
        )
        for rounds in (1, 10)
    ),
    {
        "name": "lda, BayesPy",
        "who": "Dirichlet, Categorical",
        "small": LDA,
        "size": {"documents": 200, "words": 500, "topics": 10, "tokens": 100},
    },
    {
        "name": "hmm, hmmlearn",
        "who": "VariationalGaussianHMM",
        "small": {"steps": 200, "states": 3},
        "size": {"steps": 100_000, "states": 4},
    },
    {
        "name": "hmm, hmmlearn, scaling",
        "pair": "hmm, hmmlearn",
        "same": {"implementation": "scaling"},
        "timed": {"implementation": "scaling"},
        "who": "VariationalGaussianHMM",
        "small": {"steps": 200, "states": 3},
        "size": {"steps": 100_000, "states": 4},
    },
    {
        "name": "hmm, BayesPy",
        "who": "CategoricalMarkovChain",
        "small": {"steps": 200, "states": 3, "codes": 5},
        "size": {"steps": 20_000, "states": 4, "codes": 10},
    },
    {
        "name": "ppca, BayesPy",
        "who": "GaussianARD",
        "small": {"rows": 60, "features": 5, "factors": 2},
        "size": {"rows": 10_000, "features": 100, "factors": 10},
    },
]
"""`small` for parameters after `sweeps`, by the settings `same`; `size` for time, by
`timed`. A round of LDA updates every document; after 5000 a document is at its optimum,
wherever it began, which is at random in scikit-learn and gensim."""

SWEEPS = 10

SECONDS = 0.5
"""About how long the longer fit of a measurement lasts."""


def pair(case: Case, size: str, settings: str) -> Any:
    """Both sides of a case, at one of its sizes, with some of its settings."""
    from benchmarks.pairs import PAIRS

    make = PAIRS[case.get("pair", case["name"])]
    return make(case[size], **case.get(settings, {}))


def apart(case: Case) -> dict[str, float]:
    """Largest difference of each parameter after the same sweeps of both sides."""
    sides = pair(case, "small", "same")
    sweeps = case.get("sweeps", SWEEPS)
    ours, theirs = sides.ours(sweeps), sides.theirs(sweeps)
    if ours.keys() != theirs.keys():
        raise ValueError(f"{case['name']}: {sorted(ours)}, but {sorted(theirs)}")
    found = {}
    for name, value in theirs.items():
        mine, other = np.asarray(ours[name]), np.asarray(value)
        if mine.shape != other.shape:
            raise ValueError(f"{name}: {mine.shape}, but {other.shape}")
        found[name] = float(np.max(np.abs(mine - other)) / np.max(np.abs(other)))
    return found


def a_sweep(fit: Any) -> Any:
    """A function that measures seconds of a sweep: a long fit minus a short one."""

    def seconds(sweeps: int) -> float:
        begun = time.process_time()
        fit(sweeps)
        return time.process_time() - begun

    seconds(2)
    few = seconds(2)
    more = int(np.clip(SECONDS / max(seconds(4) - few, 1e-5) * 2, 2, 2000))
    return lambda: max(seconds(2 + more) - seconds(2), 1e-9) / more


def child(case: Case, rounds: int) -> Case:
    """What one pair shows, in this process."""
    import warnings

    import jax

    warnings.simplefilter("ignore")  # of the packages, about newer Python and NumPy
    jax.config.update("jax_enable_x64", True)
    difference = apart(case)
    sides = pair(case, "size", "timed")
    ours, theirs = a_sweep(sides.ours), a_sweep(sides.theirs)
    times = [(ours(), theirs()) for _ in range(rounds)]
    own, other = zip(*times, strict=True)
    return case | {
        "note": sides.note,
        "difference": difference,
        "ms": {
            "ours": [1e3 * v for v in spread(own)],
            "theirs": [1e3 * v for v in spread(other)],
        },
        "ratio": ratios(other, own),
    }


def show(case: Case) -> None:
    """Print what one pair shows."""
    worst = max(case["difference"].values())
    print(
        f"{case['name']} ({case['who']}): parameters differ by {worst:.1g}", flush=True
    )
    print(f"  ms a sweep: ours {said(case['ms']['ours'])}", end="", flush=True)
    print(f", theirs {said(case['ms']['theirs'])}; theirs / ours {said(case['ratio'])}")


def page(known: Any) -> str:
    """The results as the text of docs/peers.md."""
    lines = [
        "# The library beside other packages",
        "",
        "The same model, data, prior, start and order of updates on both sides, in",
        "double precision. Difference: the largest of any parameter after the same",
        "sweeps on small data, in units of the parameter's largest element. Time: one",
        "sweep on one core, the bound included where the package computes it; least,",
        "median and largest of the rounds. The page is generated by `python -m",
        "benchmarks.peers`; the pairs are `benchmarks/pairs.py`, all numbers are in",
        "`results/published/peers.json`.",
        "",
        f"Measured on {known['machine']['processor']}.",
        "",
        "| model | package | difference | size | ours, ms | theirs, ms | "
        "theirs / ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in known["cases"]:
        model, package, *how = case["name"].split(", ")
        size = ", ".join(f"{v:,} {k}" for k, v in case["size"].items())
        times = (said(case["ms"][k]) for k in ("ours", "theirs"))
        lines.append(
            f"| `{model}` | {', '.join([package, case['who'], *how])} "
            f"| {max(case['difference'].values()):.0e} | {size} "
            f"| {' | '.join(times)} | {said(case['ratio'])} |"
        )
    lines += ["", "What differs:", ""]
    lines += [f"- {c['name']}: {c['note']}." for c in known["cases"] if c["note"]]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the pairs, print a line for each, write the results."""
    parser = options(__doc__, "peers", 5, CASES)
    parser.add_argument(
        "--page", type=Path, help="a .md file for a table of PEERS.json"
    )
    given = parser.parse_args(arguments)
    for case in CASES:
        if case["name"] not in given.only:
            continue
        if given.quick:
            case = case | {"size": case["small"]}
        found = alone("benchmarks.peers", case, given.rounds)
        show(found)
        if not given.quick:
            write_cases([found], given.out, "peers")
    if given.page and given.out:
        known = json.loads((given.out / "peers.json").read_text(encoding="utf-8"))
        given.page.write_text(page(known), encoding="utf-8")


if __name__ == "__main__":
    main()
