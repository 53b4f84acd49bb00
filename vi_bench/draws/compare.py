"""Comparison of posterior draws from any source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_bench import catalogue
from vi_bench.errors import InputError, unknown

if TYPE_CHECKING:
    from vi_bench.comparison import Comparison

MARGIN: float = catalogue.defaults()["margin"]


def compare(
    draws: Mapping[str, Any],
    reference: str,
    *,
    margin: float = MARGIN,
    sd_margin: float = MARGIN,
    component_dim: str = "component",
    weight: str = "weight",
    variables: Iterable[str] | None = None,
) -> Comparison:
    """Compare posteriors, drawn by any program, with one of them.

    Args:
        draws: label -> an ArviZ DataTree with draws, or what `vi_bench.read_draws`
            takes: a .nc file, or posteriordb's reference draws.
        reference: the label that the others are compared with.
        margin: equivalence margin of means, in reference sds.
        sd_margin: equivalence margin of sds, relative.
        component_dim: the dimension of the components, which label permutations act on.
        weight: the variable that holds the components' weights, if there is one.
        variables: variables to compare; by default all that every tree has.

    Raises:
        InputError: an argument is invalid, or draws cannot be read or compared.
    """
    from vi_bench.comparison import Margin
    from vi_bench.comparison import compare as held
    from vi_bench.draws.external import comparable, read_draws, sample_of

    if reference not in draws:
        raise unknown("reference", reference, draws, "the draws")
    if len(draws) < 2:
        raise InputError(f"draws: only {reference!r} is given; expected at least two")
    for name, value in (("margin", margin), ("sd_margin", sd_margin)):
        if not 0 < value < 1:
            raise InputError(f"{name} = {value}: expected a number between 0 and 1")
    chosen = None if variables is None else list(variables)
    samples = {}
    for label, given in draws.items():
        tree = read_draws(given) if isinstance(given, str | Path) else given
        samples[label] = sample_of(
            tree, component_dim=component_dim, weight=weight, variables=chosen
        )
    common, left_out = comparable(samples)
    found = held(common, reference, Margin(margin, sd_margin))
    if not left_out:
        return found
    note = f"not in every posterior, so not compared: {', '.join(left_out)}"
    return found.noted(note)
