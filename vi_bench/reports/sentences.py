"""The sentences of a report; every renderer shows the same ones beside the tables.

`first` are those that a reader of the verdicts needs, a line per method; `further`
explain single numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

from vi_bench.comparison import modes
from vi_bench.comparison.coverage import NEAR
from vi_bench.results.summary_schema import Compared, Method, Record, RestartOptimum
from vi_bench.spec import AUTO

SHOWN = 4
"""Largest number of optima that are listed one by one."""

IN_LINE = 12
"""Most values of one setting that a line shows."""


@dataclass(frozen=True)
class Sentence:
    """A sentence, the method that it is about, and the word shown before it.

    Attributes:
        text: the sentence.
        label: the method, or empty.
        word: a verdict, or how the method ended; empty if neither.
    """

    text: str
    label: str = ""
    word: str = ""

    def __str__(self) -> str:
        """The sentence after its label, in one line."""
        return f"{self.label}: {self.text}" if self.label else self.text


def size(run: Record) -> str:
    """The size of the problem: rows, features and components, or parameters."""
    if run.is_mixture:
        rows, features = run.data.shape
        return f"{rows} x {features}, K = {run.spec['components']}"
    return f"{run.parameters} parameter{'s' * (run.parameters != 1)}"


def subject(run: Record) -> str:
    """Model and data, as the page's first line has them."""
    if run.is_mixture:
        rows, features = run.data.shape
        return (
            f"{run.model['name']} mixture, K = {run.spec['components']}, on "
            f"{run.data.name} ({rows:,} x {features})"
        )
    return f"{run.model['name']}, {size(run)}, on {run.data.name}"


def first(run: Record) -> Iterator[Sentence]:
    """Each method's verdict with its reason, and notes on the run."""
    yield from endings(run)
    yield from notes(run)


def endings(run: Record) -> Iterator[Sentence]:
    """How each method ended, and its verdict with the reason."""
    for label in run.methods:
        yield Sentence(_ending(run, label), label, run.word(label))


def notes(run: Record) -> Iterator[Sentence]:
    """Notes on the run: violated bounds, an interrupt, a missing reference."""
    yield from violations(run)
    if run.interrupted:
        yield Sentence("The run was interrupted; methods that had finished are shown.")
    own = run.methods.get(run.reference or "")
    if own is not None and own.compared and not run.verdicts:
        yield Sentence("Nothing was compared: no other method has draws.")
    elif not run.verdicts:
        wanted = run.reference or run.spec["reference"]
        if wanted is None:
            yield Sentence("No reference among the methods: nothing was compared.")
        else:
            yield Sentence(
                f"The reference {wanted} has no draws: nothing was compared."
            )
    yield from agreement(run)
    if run.data.note and not run.data.source:  # how the user's own file was read
        yield Sentence(f"data: {run.data.note}")
    if run.note:
        yield Sentence(run.note)


def agreement(run: Record) -> Iterator[Sentence]:
    """How well the components of each method agree with known labels."""
    if run.labels is None:
        return
    each = ", ".join(
        f"{label} {index.mean:.3f} +- {index.sd:.3f}"
        for label, index in run.labels.adjusted_rand.items()
    )
    yield Sentence(
        f"agreement with the known labels in {run.labels.column!r}, as the adjusted "
        f"Rand index, mean and sd over draws: {each}"
    )


def _ending(run: Record, label: str) -> str:
    method = run.methods[label]
    told = ", ".join(filter(None, (method.outcome, method.outcome_sentence)))
    verdict = run.verdicts.get(label)
    return f"{told}; {verdict.reason}" if verdict else told


def violations(run: Record) -> Iterator[Sentence]:
    """Bounds and estimates of log p(X) that cannot all be right."""
    for sentence in run.evidence.violations if run.evidence else ():
        yield Sentence(
            "the bounds violate their ordering: a bug, or a wrong evidence estimate: "
            f"{sentence}",
            "evidence",
            "differs",
        )


def further(run: Record) -> Iterator[Sentence]:
    """Sentences on restarts, optima, draws, weights, gaps, linear response, prior."""
    for label, method in run.methods.items():
        yield from restarts(label, method)
    yield from optima(run)
    yield from draws(run)
    yield from sizes(run)
    yield from weights(run)
    yield from gaps(run)
    yield from responses(run)
    if any(m.time.compile_cached for m in run.methods.values()):
        yield Sentence(
            "* compiled before: loaded from the persistent cache, or from this process"
        )
    yield Sentence(f"model and prior: {described(run.model)}")
    if run.is_mixture:
        yield Sentence(f"weights: {described(run.weights)}")
    if run.data.note and run.data.source:
        yield Sentence(f"data: {run.data.note}")


def restarts(label: str, method: Method) -> Iterator[Sentence]:
    """Local optima that restarts ended in, and how many components hold rows."""
    if method.restarts:
        found = method.restarts.optima
        shown = ", ".join(map(_restart_optimum, found[:SHOWN]))
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        word = "optimum" if len(found) == 1 else "distinct optima"
        count = len(method.restarts.bound)
        yield Sentence(f"{count} starts, {len(found)} {word}: {shown}{more}", label)
    if method.counts:
        full = sum(count is not None and count >= 0.5 for count in method.counts)
        if full < len(method.counts):
            yield Sentence(
                f"{full} of {len(method.counts)} components hold rows, the others are "
                "empty: their parameters follow the prior",
                label,
            )


def _restart_optimum(found: RestartOptimum) -> str:
    bound = "-" if found.bound is None else f"{found.bound:.3f}"
    held = f" ({found.occupied} components)" if found.occupied else ""
    return f"{bound} x {found.restarts}{held}"


def optima(run: Record) -> Iterator[Sentence]:
    """Known local optima of the ELBO, and the share of draws that lead to each."""
    known = run.optima
    if known is None or len(known.optima) < 2:
        return
    for i, optimum in enumerate(known.optima[:SHOWN]):
        shares = ", ".join(
            f"{label} {100 * (share[i] or 0.0):.0f} %"
            for label, share in known.visits.items()
        )
        known_from = modes.Optimum(
            nan if optimum.bound is None else optimum.bound,
            optimum.below or 0.0,
            optimum.sources,
        )
        yield Sentence(f"{known_from.say()}; draws that lead to it: {shares}")
    more = len(known.optima) - SHOWN
    if more > 0:
        yield Sentence(f"{more} more optima within {NEAR:g} nats of the best one")


def draws(run: Record) -> Iterator[Sentence]:
    """Numbers of draws, where Monte-Carlo errors decided them."""
    if run.spec["draws"] != AUTO:
        return
    made = ", ".join(
        f"{label} {m.draws[0]} x {m.draws[1]}{' (time limit)' if m.short else ''}"
        for label, m in run.methods.items()
        if m.draws
    )
    yield Sentence(f"draws by precision: {made}")


def sizes(run: Compared) -> Iterator[Sentence]:
    """Sample sizes that limit the precision of joint distances."""
    for label, joint in run.joint.items():
        if joint.sliced.value is None:
            yield Sentence("too few effective draws for joint distances", label)
    used = {joint.matched for joint in run.joint.values() if joint.matched}
    if used:
        counts = " to ".join(str(n) for n in sorted({min(used), max(used)}))
        yield Sentence(f"W1 in all quantities at once rests on {counts} draws a side")


def weights(run: Record) -> Iterator[Sentence]:
    """Diagnostics of the importance weights of each q."""
    for label, method in run.methods.items():
        if method.importance:
            yield Sentence(method.importance.sentence, label)


def gaps(run: Record) -> Iterator[Sentence]:
    """Why gaps are not measured from some, or any, estimate of log p(X)."""
    if run.evidence is None:
        return
    for label, why in run.evidence.withheld.items():
        yield Sentence(f"nothing is measured from log p(X) by {label}: {why}")
    if run.evidence.no_gaps:
        given = "" if run.evidence.gaps else "gaps to log p(X) are not given: "
        yield Sentence(f"{given}{run.evidence.no_gaps}")


def responses(run: Record) -> Iterator[Sentence]:
    """Convergence rate and overlap by linear response, or why it was refused."""
    for label, method in run.methods.items():
        found = method.linear_response
        if found is None:
            continue
        if found.refused:
            yield Sentence(f"no linear response: {found.refused}", label)
            continue
        yield Sentence(f"the linear rate of convergence is {found.rate:.4f}", label)
        if found.overlapping:
            numbers = ", ".join(map(str, found.overlapping))
            yield Sentence(
                f"components {numbers} overlap: their own linear-response sds (!) are "
                "unreliable, those of averages need not be",
                label,
            )


def trust(run: Record) -> Iterator[Sentence]:
    """Effective sample size, R-hat and modes of the reference's chains."""
    label = run.reference
    method = run.methods.get(label or "")
    if method is None or not method.quantities:
        return
    known = method.quantities.values()
    largest = max((k.r_hat for k in known if k.r_hat is not None), default=None)
    least = min((k.ess_bulk for k in known if k.ess_bulk is not None), default=0)
    said = f"{label}: smallest bulk ESS {least:,.0f}"
    if largest is not None:
        said += f", largest R-hat {largest:.3f}"
    count = len(method.modes)
    yield Sentence(f"{said}, {count} mode{'s' * (count != 1)} visited by its chains.")
    for mode in method.modes if count > 1 else ():
        chains = ", ".join(map(str, mode.chains))
        density = "unknown" if mode.log_joint is None else f"{mode.log_joint:.2f}"
        yield Sentence(f"Chains {chains}: mean log joint {density}.")
    how = method.relabelling
    if how and not how.identifiable:
        yield Sentence(
            "Components cannot be told apart in its draws: only quantities that no "
            "relabelling changes are judged."
        )


def described(settings: Mapping[str, Any]) -> str:
    """A name and its settings; of many values, how many and where they are."""
    values = ", ".join(
        f"{k} = {_in_line(v)}" for k, v in settings.items() if k != "name"
    )
    name = str(settings["name"])
    return f"{name}, {values}" if values else name


def _in_line(value: Any) -> Any:
    """A setting as it is shown in a line."""
    if not isinstance(value, list | tuple):
        return value
    leaves = _leaves(value)
    if leaves <= IN_LINE:
        return value
    return f"{leaves} values (in summary.json)"


def _leaves(value: Any) -> int:
    """How many values lists, which may be of unequal lengths, hold."""
    if isinstance(value, list | tuple):
        return sum(map(_leaves, value))
    return 1
