"""Likely causes of a difference that lie in what the draws are called, not in them.

They are looked for where a posterior does not agree: labels of components that differ
between programs, and a parameter that one program has in another form, such as a
precision for a standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from vi_bench.comparison import Comparison, Margin, Sample, compare
from vi_bench.comparison.joint import evenly
from vi_bench.draws.components import Variable
from vi_bench.draws.match import Matched, regrouped

FEW = 500
"""Draws of each chain that are used, evenly spaced: a hint needs no more."""

MOST = 8
"""Largest number of groupings into components that are tried."""

NEAR = 0.15
"""Largest difference of the quartiles, in interquartile ranges of the reference, of a
parameter in another form."""

FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "1/{}^2": lambda x: x**-2.0,
    "1/sqrt({})": lambda x: x**-0.5,
    "1/{}": lambda x: 1 / x,
    "{}^2": lambda x: x**2,
    "sqrt({})": np.sqrt,
    "exp({})": np.exp,
    "log({})": np.log,
    "-{}": lambda x: -x,
    "1 - {}": lambda x: 1 - x,
}
"""Forms in which programs have the same parameter, as functions of a draw."""


def hints(found: Comparison, matched: Matched, margin: Margin) -> Iterator[str]:
    """Sentences on likely causes, for posteriors that do not agree.

    Args:
        found: the comparison.
        matched: what was compared.
        margin: the equivalence margins.
    """
    odd = [
        k
        for k, v in found.verdicts.items()
        if v.word in ("differs", "reference unreliable")
    ]
    if not odd:
        return
    yield from _in_another_form(matched.variables, odd, found.reference)
    if all(v.component is None for v in matched.variables.values()):
        yield from _labels(odd, found.reference, matched, margin)


def _in_another_form(
    variables: Mapping[str, Variable], odd: list[str], reference: str
) -> Iterator[str]:
    """Where one form of a variable fits the reference and the variable does not."""
    for name, variable in variables.items():
        if variable.component is not None:
            continue
        theirs = _quartiles(variable.values[reference])
        for label in odd:
            mine = variable.values[label]
            if _fits(mine, theirs):
                continue
            for form, function in FORMS.items():
                with np.errstate(all="ignore"):
                    turned = function(mine)
                if np.isfinite(turned).all() and _fits(turned, theirs):
                    said = form.format(name)
                    yield (
                        f"{name} of {label} is likely another form of the parameter: "
                        f"{said} has the quartiles of {name} of {reference}; give both "
                        "the same form"
                    )
                    break


def _quartiles(draws: np.ndarray) -> np.ndarray:
    """Quartiles (3, ...) of draws (chain, draw, ...)."""
    return np.asarray(np.quantile(draws, (0.25, 0.5, 0.75), axis=(0, 1)))


def _fits(draws: np.ndarray, quartiles: np.ndarray) -> bool:
    """Whether the quartiles of draws (chain, draw, ...) are near others."""
    width = quartiles[2] - quartiles[0]
    if not np.all(width > 0):
        return False
    return bool(np.all(np.abs(_quartiles(draws) - quartiles) <= NEAR * width))


def _labels(
    odd: list[str], reference: str, matched: Matched, margin: Margin
) -> Iterator[str]:
    """What the words would be if dimensions of one size were the components'."""
    for group in _groupings(matched.variables):
        samples = {
            label: _thinned(sample)
            for label, sample in regrouped(matched, group).items()
        }
        words = compare(samples, reference, margin).verdicts
        better = [
            label
            for label, verdict in words.items()
            if verdict.word in ("agrees", "agrees in marginals", "inconclusive")
            and label in odd
        ]
        if better:
            dims = [
                "/".join(sorted(matched.variables[name].dims[axis]))
                for name, axis in group.items()
            ]
            options = " ".join(f"--component-dim {d}" for d in dict.fromkeys(dims))
            yield (
                f"labels of components may differ: if {', '.join(dict.fromkeys(dims))} "
                f"were relabelled, {', '.join(better)} would not differ; if they are a "
                f"mixture's, give {options}"
            )


def _groupings(variables: Mapping[str, Variable]) -> Iterator[dict[str, int]]:
    """Name -> axis: one axis of each variable that has one of a certain size."""
    sizes = sorted(
        {len(c) for v in variables.values() for c in v.coordinates if 1 < len(c) <= 20}
    )
    tried = 0
    for size in sizes:
        fits = {
            name: [i for i, c in enumerate(v.coordinates) if len(c) == size]
            for name, v in variables.items()
        }
        fits = {name: axes for name, axes in fits.items() if axes}
        for axes in product(*fits.values()):
            if tried == MOST:
                return
            tried += 1
            yield dict(zip(fits, axes, strict=True))


def _thinned(sample: Sample) -> Sample:
    def some(values: np.ndarray) -> np.ndarray:
        return np.asarray(values[:, evenly(values.shape[1], FEW)])

    return replace(
        sample,
        columns={k: some(v) for k, v in sample.columns.items()},
        shared={k: some(v) for k, v in sample.shared.items()},
        log_joint=None,
    )
