"""Exact: the posterior by summing over all assignments, a reference for other methods.

It draws the assignments independently from their exact law, then the parameters from
their conjugate posteriors. It takes at most 18 rows; with two components 22, or some
hundreds where these lie on a lattice, as counts do; with one component, any number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vi_bench.contract import (
    Draws,
    Kind,
    Outcome,
    Problem,
    Report,
    Role,
    Stage,
    remembered,
)
from vi_bench.enumeration import lattice, marginals, single, subsets
from vi_bench.enumeration.posterior import Posterior
from vi_bench.errors import NotApplicable
from vi_bench.mixture.mixture import Mixture
from vi_bench.runtime.keys import Key


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ExactReport(Report):
    """What was summed over.

    Attributes:
        occupancy: P(b components have rows | X) for b = 0, ..., K.
        rows: N.
        states: terms of the sum.
        similarity: P(c_i = c_j) (N, N), of a sum over sets of rows.
    """

    log_evidence: Float[Array, ""]
    log_evidence_se: Float[Array, ""]
    occupancy: Float[Array, " numbers"]
    rows: Int[Array, ""]
    states: Int[Array, ""]
    similarity: Float[Array, "N N"] | None = None


@dataclass(frozen=True)
class Exact:
    """Exact inference, which has no settings."""

    kind: ClassVar[Kind] = "exact"
    summary: ClassVar[str] = "all assignments summed, independent draws; few rows"
    roles: ClassVar[Mapping[Role, int]] = {"exact": 1}
    bound_keeps_labels: ClassVar[bool] = False

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages enumerate and draw.

        Raises:
            NotApplicable: there is no closed form, or there are too many rows.
        """
        way, _ = cost(problem.mixture)
        grid = lattice_of(problem.mixture) if way == "lattice" else None
        return self._stages(way, grid, (problem.chains, problem.draws))

    @remembered
    def _stages(
        self, way: str, grid: lattice.Grid | None, shape: tuple[int, int]
    ) -> tuple[Stage, ...]:
        def enumerate_states(_: Key, mixture: Mixture, __: Any) -> Posterior:
            if way == "single":
                return single.conjugate_posterior(mixture)
            if grid:
                return lattice.enumerate_lattice(mixture, grid)
            return subsets.enumerate_subsets(mixture)

        def draw(key: Key, _: Mixture, posterior: Posterior) -> Draws:
            similarity = None
            if isinstance(posterior, subsets.SubsetPosterior):
                similarity = posterior.co_clustering()
            report = ExactReport(
                log_evidence=posterior.log_evidence,
                log_evidence_se=jnp.zeros(()),
                occupancy=posterior.occupancy,
                rows=jnp.asarray(posterior.mixture.rows),
                states=jnp.asarray(posterior.log_weight.size),
                similarity=similarity,
            )
            return Draws(posterior.draw(key, shape), {}, None, {}, report)

        return (
            Stage("enumerate", enumerate_states),
            Stage("draw", draw, again="same"),
        )

    def seconds(self, problem: Problem) -> float:
        """About how many seconds the sums over assignments take.

        Raises:
            NotApplicable: there is no closed form, or there are too many rows.
        """
        return cost(problem.mixture)[1]

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, with the number of states summed over; or not finite."""
        report: ExactReport = draws.report
        log_evidence = float(report.log_evidence)
        if not (np.isfinite(log_evidence) and log_evidence > marginals.ABSENT / 2):
            return Outcome(
                "not finite",
                "log p(X) is not finite: look at the scale of data and prior",
            )
        rows, states = int(report.rows), int(report.states)
        if states == 1:
            return Outcome("sampled", f"N = {rows}: one component, conjugate")
        by_sets = report.similarity is not None
        kind = "sets of rows" if by_sets else "values of the statistics"
        return Outcome("sampled", f"N = {rows}: summed over {states:,} {kind}")


def cost(mixture: Mixture) -> tuple[str, float]:
    """The algorithm of the exact posterior and its estimated cost; runs nothing.

    Args:
        mixture: the mixture, bound to its data.

    Returns:
        "single" (K = 1), "subsets" or "lattice", the algorithm that is used; and about
        how many seconds it takes, compilation and draws not counted.

    Raises:
        NotApplicable: the posterior cannot be enumerated; says why, the cost, and what
            to use instead.
    """
    marginals.check(mixture)
    rows, components = mixture.rows, mixture.components
    if components == 1:
        return "single", 0.0
    if rows <= subsets.most_rows(components):
        return "subsets", math.exp(subsets.log_seconds(rows, components))
    grid = lattice_of(mixture)
    return "lattice", lattice.seconds(rows, grid)


def lattice_of(mixture: Mixture) -> lattice.Grid:
    """The lattice of data that have more rows than `subsets` accepts.

    Raises:
        NotApplicable: there is none, or it has too many states; gives the cost.
    """
    rows, components = mixture.rows, mixture.components
    by_sets = subsets.log_seconds(rows, components)
    refused = f"{rows} rows: sums over their sets would take {duration(by_sets)}"
    if components <= 2:
        sets = f"1e{rows * math.log10(2.0):.0f}"
        refused = f"{rows} rows have {sets} sets, more than are held in memory"
    instead = f"use at most {subsets.most_rows(components)} rows, or smc, gibbs or nuts"
    if components != 2:
        raise NotApplicable(f"{refused}; {instead}")
    grid = lattice.find_grid(np.asarray(mixture.statistics()))
    if grid is None:
        why = "their statistics lie on no lattice (one number, few decimals)"
        raise NotApplicable(f"{refused}, and {why}; {instead}")
    if rows > lattice.MOST:
        why = f"sums over their statistics reach {lattice.MOST} rows"
        raise NotApplicable(f"{refused}, and {why}; {instead}")
    states = lattice.states(rows, grid)
    if states > lattice.WIDEST:
        why = f"their statistics have {states:.1e} states, {lattice.WIDEST:.0e} fit"
        raise NotApplicable(f"{refused}, and {why}; round the data, or {instead}")
    return grid


def duration(log_seconds: float) -> str:
    """A length of time in words, from the logarithm of its seconds."""
    for name, size in (("years", 3.156e7), ("days", 86400.0), ("hours", 3600.0)):
        power = (log_seconds - math.log(size)) / math.log(10)
        if power > 0:
            return f"{10**power:.0f} {name}" if power < 5 else f"1e{power:.0f} {name}"
    return f"{math.exp(log_seconds):.0f} seconds"


METHOD = Exact
