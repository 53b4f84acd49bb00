"""One posterior of another program: its variables, and what is left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xarray import DataArray, Dataset, DataTree

from vi_bench.draws.external import DRAWS, check_posterior
from vi_bench.errors import InputError, unknown

FEW_DRAWS, MANY_CHAINS = 10, 100
"""Under so few draws in over so many chains the two axes were probably exchanged."""


@dataclass(frozen=True)
class Posterior:
    """Draws of one program.

    Attributes:
        label: name of these draws in messages.
        variables: name -> draws, dimensions (chain, draw, ...).
        statistics: "log_joint" and "diverging" of each draw (chain, draw), where they
            are known.
        left_out: variables that are not compared, and why: one phrase each.
    """

    label: str
    variables: dict[str, DataArray]
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def divergent(self) -> float:
        """Share of transitions that diverged."""
        found = self.statistics.get("diverging")
        return 0.0 if found is None else float(found.mean())


def posterior_of(
    tree: DataTree,
    label: str,
    variables: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> Posterior:
    """The variables of a DataTree that can be compared.

    Left out, and named, are variables without draws, of text, and of whole numbers, as
    assignments have no moments. A variable that never varies is kept: whether it is the
    same in all files is seen later. Of `sample_stats`, "log_joint" and "diverging" are
    used. "lp" is not: it may be a density of unconstrained parameters, Jacobians
    included, and up to a constant.

    Args:
        tree: draws, dimensions (chain, draw, ...), or (draw, ...) for one chain.
        label: name of these draws in messages.
        variables: variables to take, by the names that `rename` gives them; by default
            all that can be compared.
        rename: names in this tree -> names to use.

    Raises:
        InputError: a variable that was asked for is missing or cannot be compared, a
            name is given twice, or the axes of chains and draws were exchanged.
    """
    posterior = _renamed(check_posterior(tree, label), rename or {}, label)
    if not any("chain" in v.dims for v in posterior.data_vars.values()):
        posterior = posterior.expand_dims("chain")
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    if not chains * draws:
        raise InputError(f"{label}: {chains} chains of {draws} draws; expected draws")
    if draws < FEW_DRAWS and chains > MANY_CHAINS:
        raise InputError(
            f"{label}: {chains} chains of {draws} draws; expected few chains of many "
            "draws: exchange the dimensions 'chain' and 'draw' if they were confused"
        )
    known = [str(name) for name in posterior.data_vars]
    for name in variables or ():
        if name not in known:
            raise unknown("variable", name, known, label)
    kept, left_out = {}, []
    for name in known:
        if variables is not None and name not in variables:
            continue
        why = _unfit(posterior[name], asked=variables is not None)
        if not why:
            kept[name] = posterior[name].transpose(*DRAWS, ...)
        elif variables is not None:
            raise InputError(f"{label}: {name!r} {why}; expected draws of numbers")
        else:
            left_out.append(f"{name} of {label} ({why})")
    if not kept:
        raise InputError(
            f"{label}: nothing can be compared: {', '.join(left_out) or 'no variables'}"
        )
    if skipped := tree.attrs.get("not_read"):
        left_out.append(f"groups of {label} that are too large to be read: {skipped}")
    stats = _statistics(tree, (chains, draws), label)
    return Posterior(label, kept, stats, tuple(left_out))


def _renamed(posterior: Dataset, rename: Mapping[str, str], label: str) -> Dataset:
    here = {k: v for k, v in rename.items() if k in posterior.data_vars}
    for theirs, ours in here.items():
        if not ours or ours in DRAWS:
            raise InputError(f"rename {theirs!r}: {ours!r} is no name for a variable")
        there = ours in posterior.data_vars and ours not in here
        if there or list(here.values()).count(ours) > 1:
            raise InputError(
                f"{label}: {theirs!r} cannot be renamed to {ours!r}, which is there "
                "already"
            )
    return posterior.rename_vars(here)


def _unfit(variable: DataArray, asked: bool) -> str:
    """Why a variable cannot be compared; empty if it can."""
    if "draw" not in variable.dims:
        return "not drawn"
    if "chain" not in variable.dims:
        return "without a dimension of chains"
    if variable.dtype.kind not in "fiub":
        return f"holds {variable.dtype}"
    if asked:
        return ""
    values = variable.to_numpy().astype(float)
    axes = tuple(variable.dims.index(d) for d in DRAWS)
    # beyond 2^53 every number is whole; what never varies is seen later
    if not np.any(values.max(axis=axes) > values.min(axis=axes)):
        return ""
    whole = bool(np.all(values == np.floor(values)) and np.abs(values).max() < 2**53)
    return "whole numbers" if whole else ""


def _statistics(
    tree: DataTree, expected: tuple[int, int], label: str
) -> dict[str, np.ndarray]:
    """`log_joint` and `diverging` of each draw, where they are given."""
    if "sample_stats" not in tree.children:
        return {}
    group = tree.children["sample_stats"].to_dataset()
    if "chain" not in group.dims:
        group = group.expand_dims("chain")
    found = {}
    for name in ("log_joint", "diverging"):
        if name not in group:
            continue
        values = group[name].transpose(*DRAWS, ...).to_numpy().astype(float)
        if values.shape != expected:
            raise InputError(
                f"{label}: {name!r} has the shape {values.shape}; expected {expected}, "
                "the posterior's chains and draws"
            )
        check_finite(values, name, label)
        found[name] = values
    return found


def check_finite(values: np.ndarray, name: str, label: str) -> None:
    """Refuse draws that are not finite; the message names the first one.

    Raises:
        InputError: some draw of (chain, draw, ...) is not finite.
    """
    if np.isfinite(values).all():
        return
    chain, draw = np.argwhere(~np.isfinite(values))[0][:2]
    raise InputError(
        f"{label}: {name!r} is not finite in chain {chain}, draw {draw} "
        "(counted from 0); expected finite draws"
    )
