"""Repeat a run from its folder, and tell whether its numbers are the same.

A number of the first run and that of the second are two estimates, each with its
Monte-Carlo error: on another machine or version they are expected to differ by no more
than both errors explain. Where nothing changed all bits are the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import norm
from xarray import DataTree

from vi_bench import catalogue
from vi_bench.comparison import Comparison
from vi_bench.comparison.measures import Estimate
from vi_bench.comparison.verdict import ESS, R_HAT
from vi_bench.data.table import Table
from vi_bench.draws.compare import compare
from vi_bench.draws.external import read_draws
from vi_bench.errors import InputError, ResultsError
from vi_bench.inference.restarts import SAME_OPTIMUM
from vi_bench.results.summary_schema import Method, Record, read_record
from vi_bench.runner.launch import launch
from vi_bench.spec import make

ALARM = 1e-3
"""Probability of calling a repeated run different that differs by chance alone."""

ROUNDING = 1e-6
"""Change of a number, in posterior sds, that another order of summation explains."""

RUNS = ("the first run", "the second")

CUT = "its budget ended it, so the speed of the machine decides what it had reached"

EPSILON = 16 * float(np.finfo(float).eps)

Word = Literal[
    "bitwise the same",
    "the same within Monte-Carlo error",
    "different",
    "cannot tell",
]


@dataclass(frozen=True)
class Number:
    """One number of a run, its standard error, and whether the error is reliable."""

    value: float
    se: float
    sound: bool = True


@dataclass(frozen=True)
class Repeat:
    """The result of repeating one method.

    Attributes:
        word: whether its numbers are the same.
        sentence: the number that is farthest off, or why nothing can be said.
    """

    word: Word
    sentence: str = ""


@dataclass(frozen=True)
class Rerun:
    """A run and its repetition.

    Attributes:
        methods: label -> whether its numbers are the same.
        changes: version, machine, data or code that has changed -> (then, now).
        note: where the rows came from, if not from the folder.
        before: the record of the first run.
        after: the record of the second run.
    """

    methods: dict[str, Repeat]
    changes: dict[str, tuple[Any, Any]]
    note: str
    before: Record
    after: Record

    @property
    def same(self) -> bool:
        """Whether no method's numbers are different."""
        return all(found.word != "different" for found in self.methods.values())

    def lines(self) -> Iterator[str]:
        """The result, as lines for the terminal."""
        width = max(map(len, self.methods), default=0)
        for label, found in self.methods.items():
            yield f"{label:<{width}}  {found.word}{found.sentence and ': '}" + (
                found.sentence
            )
        if not self.changes:
            yield "data, code, versions and machine are as they were"
        for what, (then, now) in self.changes.items():
            yield f"{what}: was {then}, is {now}"
        if self.note:
            yield self.note

    def record(self) -> dict[str, Any]:
        """The result as plain values; see docs/cli.md."""
        return {
            "same": self.same,
            "methods": {label: asdict(found) for label, found in self.methods.items()},
            "changes": [
                {"what": what, "was": then, "is": now}
                for what, (then, now) in self.changes.items()
            ],
            "note": self.note,
        }


def rerun(
    folder: Path | str, *, out: Path | str | None = None, progress: bool = False
) -> Rerun:
    """Repeat a run, or a sweep's cell, from its folder alone.

    Args:
        folder: folder of the run.
        out: folder for the second run; by default nothing is kept of it.
        progress: show bars on stderr.

    Raises:
        InputError: the folder cannot be read, or its code or data are not there.
        KeyboardInterrupt: interrupted before all methods had run again.
    """
    first = Path(folder)
    before = read_record(first)
    check_code(before)
    spec = make(before.spec, f"run {str(first)!r}")
    table, note = rows_of(first, before)
    if table is not None:
        spec = spec.model_copy(update={"standardise": False, "held_out": 0})
    with tempfile.TemporaryDirectory(prefix="vi-bench-") as scratch:
        second = Path(scratch) if out is None else Path(out)
        found = launch(spec, table, out, progress=progress)
        if found.interrupted:
            raise KeyboardInterrupt
        if out is None:
            found.save(second, figures=False)
        after = read_record(second)
        methods = repeats(first, before, second, after)
    return Rerun(methods, changes(before, after), note, before, after)


def check_code(run: Record) -> None:
    """Check that a run's models and methods that do not ship are registered again.

    Raises:
        InputError: one is not.
    """
    for plugin in run.plugins:
        kind: Any = plugin.kind
        if plugin.origin == "Python" and catalogue.is_function(plugin.name):
            raise ResultsError(
                f"{kind} {plugin.name!r} of this run was given in Python: a run is "
                "repeated from files; put it into one and run FILE.py:NAME"
            )
        if catalogue.is_function(plugin.name):
            catalogue.known_function(plugin.name)
        elif plugin.name not in catalogue.names(kind):
            option = "--method" if kind == "method" else "--model"
            raise ResultsError(
                f"{kind} {plugin.name!r} of this run came from {plugin.origin}: name "
                f"it again, {option} FILE"
            )


def rows_of(folder: Path, run: Record) -> tuple[Table | None, str]:
    """The rows in a run's folder, or None and a note on why they are read again."""
    data, spec = run.data, run.spec
    source = f"data {spec['data']!r} were read again"
    if spec["held_out"]:
        return None, f"{source}: held-out rows are not in the folder"
    if spec.get("labels") is not None:
        return None, f"{source}: known labels are not in the folder"
    draws = sorted(folder.glob("*.nc"))
    if not run.is_mixture:
        return None, source if spec["data"] else ""
    if not draws:
        return None, f"{source}: no method of the run has draws"
    rows = read_draws(draws[0])["observed_data"]["x"].to_numpy()
    if rows.shape != data.shape:
        return None, f"{source}: streamed rows are not in the folder"
    return Table(data.name, rows, data.features, data.note, data.source), ""


def changes(before: Record, after: Record) -> dict[str, tuple[Any, Any]]:
    """Circumstance -> (then, now), of those that have changed."""
    then, now = circumstances(before), circumstances(after)
    return {
        what: (then.get(what), now.get(what))
        for what in then | now
        if then.get(what) != now.get(what)
    }


def circumstances(run: Record) -> dict[str, Any]:
    """The environment, code and data that a run's numbers depend on, by name."""
    known = dict(run.environment)
    packages = known.pop("packages", {})
    known.pop("compilation_cache", None)  # it does not change the numbers
    git, limits = run.provenance.git, run.provenance.threads
    return {
        "data": run.data.sha256,
        **{f"{p.kind} {p.name}": p.sha256 for p in run.plugins},
        **packages,
        **known,
        "commit": git.commit if git else None,
        "uncommitted changes": git.dirty if git else None,
        "limits on threads": " ".join(f"{k}={v}" for k, v in limits.items()) or None,
    }


def repeats(
    first: Path, before: Record, second: Path, after: Record
) -> dict[str, Repeat]:
    """Label -> the comparison of a method's numbers between the two runs."""
    pairs = {}
    found: dict[str, Repeat] = {}
    for label, was in before.methods.items():
        now = after.methods[label]
        places = [folder / f"{label}.nc" for folder in (first, second)]
        there = [place.is_file() for place in places]
        if not any(there):
            same = was.outcome == now.outcome
            word: Word = "bitwise the same" if same else "different"
            found[label] = Repeat(word, f"{now.outcome}, no draws")
        elif not all(there):
            found[label] = Repeat("different", f"was {was.outcome}, is {now.outcome}")
        else:
            trees = [read_draws(place) for place in places]
            if identical(*trees) and values(was) == values(now):
                found[label] = Repeat("bitwise the same")
            elif was.time.cut or now.time.cut:
                found[label] = Repeat("cannot tell", CUT)
            else:
                pairs[label] = (scalars(was), scalars(now))
                with suppress(InputError):  # draws that are not finite
                    both = compare(dict(zip(RUNS, trees, strict=True)), RUNS[0])
                    for known, run in zip(pairs[label], RUNS, strict=True):
                        known |= moments(both, run)
                found[label] = Repeat("cannot tell")  # replaced below
    count = sum(len(set(a) & set(b)) for a, b in pairs.values())
    limit = float(norm.isf(ALARM / 2 / max(count, 1)))
    return found | {k: judged(a, b, limit) for k, (a, b) in pairs.items()}


def identical(one: DataTree, other: DataTree) -> bool:
    """Whether draws, sample statistics and q's parameters have the same bits."""
    for group in ("posterior", "sample_stats", "variational"):
        ours, theirs = (
            tree[group].to_dataset() if group in tree else None for tree in (one, other)
        )
        if (ours is None) != (theirs is None):
            return False
        if ours is not None and theirs is not None and not ours.equals(theirs):
            return False
    return True


SCALARS = ("bound", "marginal_elbo", "log_evidence")
"""Fields of a method's record that are estimates with errors, in nats."""


def values(row: Method) -> list[Any]:
    """A method's bounds, evidence, iterations and outcome."""
    return [getattr(row, name) for name in (*SCALARS, "iterations", "outcome")]


def scalars(row: Method) -> dict[str, Number]:
    """A method's bounds and evidence, in nats, with their errors."""
    found = {}
    for name in SCALARS:
        value = getattr(row, name)
        if value is not None:
            # an optimiser stops within about SAME_OPTIMUM of the optimum
            se = np.hypot(getattr(row, f"{name}_se") or 0.0, SAME_OPTIMUM / 3)
            found[name] = Number(value, float(se))
    return found


def moments(found: Comparison, label: str) -> dict[str, Number]:
    """Means and sds of the judged quantities of one run, with components matched."""
    known = {}
    for name in found.judged:
        summary = found.summaries[label][name]
        sound = not summary.r_hat > R_HAT and summary.ess_bulk >= ESS
        for part in ("mean", "sd"):
            one: Estimate = getattr(summary, part)
            floor = ROUNDING * summary.sd.value + EPSILON * abs(one.value)
            se = float(np.hypot(one.se, floor))
            known[f"{part} of {name}"] = Number(one.value, se, sound)
    return known


def judged(
    then: Mapping[str, Number], now: Mapping[str, Number], limit: float
) -> Repeat:
    """Compare the numbers of two runs of a method.

    Args:
        then: numbers of the first run.
        now: numbers of the second run.
        limit: standard errors beyond which a number is different.
    """
    scores = {}
    for name in set(then) & set(now):
        a, b = then[name], now[name]
        if a.sound and b.sound:
            apart = abs(a.value - b.value)
            scores[name] = float(apart / np.hypot(a.se, b.se)) if apart else 0.0
    unsound = len(set(then) & set(now)) - len(scores)
    if not scores:
        return Repeat(
            "cannot tell",
            f"of {unsound} numbers none has an R-hat of at most {R_HAT} and an ESS "
            f"of at least {ESS:.0f} in both runs",
        )
    farthest = max(scores, key=lambda name: (scores[name], name))
    sentence = (
        f"of {len(scores)} numbers the farthest is {scores[farthest]:.1f} standard "
        f"errors off, {farthest}; different beyond {limit:.1f}"
    )
    if unsound:
        sentence += f"; {unsound} more have too few effective draws to tell"
    word: Word = "the same within Monte-Carlo error"
    return Repeat("different" if scores[farthest] > limit else word, sentence)
