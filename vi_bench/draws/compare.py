"""Comparison of posterior draws from any source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vi_bench import catalogue
from vi_bench.errors import InputError, unknown

if TYPE_CHECKING:
    from vi_bench.comparison import Comparison
    from vi_bench.comparison.side_by_side import Tick

MARGIN: float = catalogue.defaults()["margin"]


def compare(
    draws: Mapping[str, Any],
    reference: str,
    *,
    margin: float = MARGIN,
    sd_margin: float = MARGIN,
    component_dim: str | Iterable[str] | None = None,
    weight: str | None = None,
    variables: str | Iterable[str] | None = None,
    rename: Mapping[str, str] | None = None,
    tick: Tick | None = None,
) -> Comparison:
    """Compare posteriors, drawn by any program, with one of them.

    The model may be any. Where it has exchangeable components, as a mixture has, their
    labels are undone; all other quantities are judged as they are.

    Args:
        draws: label -> draws: a path (see `vi_bench.read_draws`), a DataTree, a Dataset
            or a mapping from names to arrays (chain, draw, ...).
        reference: the label that the others are compared with.
        margin: equivalence margin of means, in reference sds.
        sd_margin: equivalence margin of sds, relative.
        component_dim: dimensions of exchangeable components, which label permutations
            act on, by the names of any of the programs; "none" if there are none. By
            default "component" where it is there, else what fits the weights.
        weight: the variable that holds the components' weights; by default "weight", or
            the one over components alone that sums to 1.
        variables: variables to compare; by default all that every posterior has.
        rename: names in some of the draws -> names that the others use.
        tick: told of the progress, as (done, of).

    Raises:
        InputError: an argument is invalid, or draws cannot be read or compared.
    """
    from vi_bench.comparison import Margin
    from vi_bench.comparison import compare as held
    from vi_bench.draws.external import check_posterior, opened
    from vi_bench.draws.hints import hints
    from vi_bench.draws.match import match
    from vi_bench.draws.posterior import posterior_of

    if not isinstance(draws, Mapping):
        raise InputError(
            f"draws: a {type(draws).__name__}; expected a mapping from labels to draws"
        )
    if reference not in draws:
        raise unknown("reference", reference, draws, "the draws")
    if len(draws) < 2:
        raise InputError(f"draws: only {reference!r} is given; expected at least two")
    for name, value in (("margin", margin), ("sd_margin", sd_margin)):
        if not 0 < value < 1:
            raise InputError(f"{name} = {value}: expected a number between 0 and 1")
    variables = [variables] if isinstance(variables, str) else variables
    chosen = None if variables is None else list(variables)
    dims = [component_dim] if isinstance(component_dim, str) else component_dim
    dims = None if dims is None else set(dims)
    given = dict(rename or {})
    trees = {label: opened(d, label) for label, d in draws.items()}
    known = {
        str(name)
        for label, tree in trees.items()
        for name in check_posterior(tree, label).data_vars
    }
    for theirs in given:
        if theirs not in known:
            raise unknown("variable", theirs, known, "the draws")
    posteriors = [
        posterior_of(tree, label, chosen, given) for label, tree in trees.items()
    ]
    matched = match(posteriors, reference, dims, weight)
    margins = Margin(margin, sd_margin)
    found = held(matched.samples, reference, margins, tick=tick)
    return found.noted(*matched.notes, *hints(found, matched, margins))
