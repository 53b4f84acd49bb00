"""Tempered: parallel tempering of the blocked Gibbs sampler, from prior to posterior.

At the inverse temperature beta row i counts w_i(beta) times, from 0 to 1, and the
target is

    pi_beta(theta, c) ~ p(theta) exp(sum_i w_i <t(x_i), M_{c_i}(theta)>),

M with log w_k included: the prior at beta = 0, c uniform, and the posterior at beta =
1. The base measure h is not tempered; it is the same everywhere and cancels. Since t
enters linearly, the Gibbs step is the usual one on statistics w_i t(x_i), counts
included. With c marginalised theta has the density

    p(theta) exp(L_beta(theta)),    L_beta = sum_i logsumexp_k w_i <t(x_i), M_k>,

by which neighbouring temperatures swap their parameters. On the path "power" w_i = beta
for all, as in deterministic annealing (Ueda and Nakano 1998), which keeps modes of one
shape in proportion. But flattened responsibilities keep components merged, and where
covariances are unknown these separate in a sharp transition, which replicas seldom
cross. On the path "rows" rows enter one after the other in a random order, as Chopin
(2002) adds them: nothing is flattened, but the first rows may favour one mode.

Even and odd pairs are tried in turn, and the ladder is such that all pairs have equal
rejection rates (Syed, Bouchard-Cote, Deligiannidis and Doucet 2022): draws from the
prior at one end travel to the posterior at the other, so that chains forget in which
mode they were. The evidence is the product of the ratios of normalisers along the
ladder (Xie, Lewis, Fan, Kuo and Chen 2011), each estimated by a bridge between its two
ends (Meng and Wong 1996).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax import lax
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
from vi_bench.errors import NotApplicable
from vi_bench.inference.lanes import stage_of_lanes
from vi_bench.methods._bridges import Tally, evidence, no_tally
from vi_bench.methods._chains import first_draws, in_parts
from vi_bench.methods._ladder import POWER, Ensemble, counted, equalised
from vi_bench.methods._tempering import Way, log_start, sweep
from vi_bench.methods.gibbs import check_resample
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key

SHORTEST = 8
"""Warm-up is halved into rounds while at least this many sweeps are left."""

FEW = 5
"""Round trips of a chain below which its draws depend on too few visits to the prior.
"""

SPEED = 3e8
"""Multiply-adds a second of all replicas' sweeps, as measured on one core."""

REFUSED = 0.8
"""Rejection rate of a pair beyond which round trips become rare."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TemperedReport(Report):
    """Of the ladder, and of the evidence by its steps.

    Attributes:
        run_log_evidence: of each chain by itself, nats.
        ladder: inverse temperatures, from 0 to 1.
        rejection: mean probability that a pair's swap is refused.
        barrier: the sum of these, the communication barrier.
        round_trips: of each chain's replicas, from beta = 0 to 1 and back.
        log_start: log of the normaliser at beta = 0, and sum_i log h(x_i), nats.
        tally: what all this is made from, by chain and call (chain, part, ...).
    """

    log_evidence: Float[Array, ""]
    log_evidence_se: Float[Array, ""]
    log_evidence_df: Int[Array, ""]
    run_log_evidence: Float[Array, " chain"]
    ladder: Float[Array, " temperature"]
    rejection: Float[Array, " pair"]
    barrier: Float[Array, ""]
    round_trips: Float[Array, " chain"]
    log_start: Float[Array, ""]
    tally: Tally


class Run(NamedTuple):
    """All chains, which share the ladder, and their draws so far.

    Attributes:
        way: how rows enter.
        ladder: inverse temperatures, from 0 to 1.
        ensembles: ensemble of each chain (chain, ...).
        kept: draws at beta = 1 (chain, draw, *dims).
        tally: sums by call of the sampling stage (chain, part, ...).
        done: number of rounds of the warm-up so far, then of draws so far.
    """

    way: Way
    ladder: Float[Array, " temperature"]
    ensembles: Ensemble
    kept: Parameters
    tally: Tally
    done: Int[Array, ""]


class Own(NamedTuple):
    """What one chain begins with; the chains share the way and the ladder."""

    ensemble: Ensemble
    way: Way
    ladder: Float[Array, " temperature"]
    done: Int[Array, ""]


@dataclass(frozen=True)
class Tempered:
    """Settings of parallel tempering. Each chain is an ensemble of its own.

    Attributes:
        temperatures: number of inverse temperatures, 0 and 1 among them. About twice
            the barrier that is reported gives the most round trips.
        warmup: sweeps that are discarded: rounds of doubling length, after each of
            which but the last the ladder is adapted.
        thin: sweeps, each of all temperatures and followed by swaps, per kept draw.
        path: how the data enter from beta = 0 to 1: "power", all together, or "rows",
            one after the other.
    """

    temperatures: Annotated[int, Gt(1)] = 24
    warmup: Annotated[int, Gt(0)] = 600
    thin: Annotated[int, Gt(0)] = 4
    path: Literal["power", "rows"] = "power"

    kind: ClassVar[Kind] = "mcmc"
    summary: ClassVar[str] = "parallel tempering of Gibbs from the prior, the evidence"
    roles: ClassVar[Mapping[Role, int]] = {"between modes": 1}
    references: ClassVar[tuple[str, ...]] = ("diebolt1994", "syed2022")
    bound_keeps_labels: ClassVar[bool] = False
    weighs_modes: ClassVar[bool] = True

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, warmup (in rounds), sample (in parts) and collect.

        Raises:
            NotApplicable: the family has no Gibbs step, or rows are not in memory.
        """
        check(problem.mixture)
        return self._stages(problem.chains, problem.draws)

    def seconds(self, problem: Problem) -> float:
        """About how many seconds warm-up and draws take, all temperatures and chains.

        Raises:
            NotApplicable: the family has no Gibbs step, or rows are not in memory.
        """
        mixture = problem.mixture
        check(mixture)
        sweeps = self.warmup + self.thin * problem.draws
        replicas = self.temperatures * problem.chains
        return float(sweeps * replicas * mixture.terms / SPEED)

    @remembered
    def _stages(self, chains: int, draws: int) -> tuple[Stage, ...]:
        parts = in_parts(draws)
        part = parts.each
        lengths = rounds(self.warmup)

        def start(key: Key, mixture: Mixture, _: Any) -> Run:
            return self._begin(key, mixture, (chains, draws, parts.calls))

        def spread(_: Mixture, run: Run) -> Own:
            def each(leaf: Array) -> Array:
                return jnp.broadcast_to(leaf, (chains, *leaf.shape))

            return Own(
                run.ensembles, *jax.tree.map(each, (run.way, run.ladder, run.done))
            )

        def round_of(key: Key, mixture: Mixture, own: Own) -> tuple[Ensemble, Tally]:
            return sweeps(key, mixture, own, jnp.asarray(lengths)[own.done])

        def adapted(
            _: Key, mixture: Mixture, run: Run, ends: tuple[Ensemble, Tally]
        ) -> Run:
            ensembles, tally = ends
            last = run.done + 1 == len(lengths)
            ladder = jnp.where(last, run.ladder, equalised(run.ladder, tally))
            done = jnp.where(last, 0, run.done + 1)
            return run._replace(ensembles=ensembles, ladder=ladder, done=done)

        def draw(key: Key, mixture: Mixture, own: Own) -> Any:
            return self._draws(key, mixture, own, part)

        def kept(_: Key, mixture: Mixture, run: Run, ends: Any) -> Run:
            ensembles, tally, drawn = ends
            return extended(run, ensembles, tally, drawn, part)

        return (
            Stage("start", start),
            stage_of_lanes(
                "warmup", chains, round_of, spread, adapted, calls=len(lengths)
            ),
            stage_of_lanes(
                "sample",
                chains,
                draw,
                spread,
                kept,
                calls=parts.calls,
                again="onward",
                cut=partial(so_far, part=part),
            ),
            Stage("collect", collect, part_of_inference=False),
        )

    def _begin(self, key: Key, mixture: Mixture, shape: tuple[int, int, int]) -> Run:
        """All replicas drawn from the prior, the first ladder, and room for draws."""
        chains, draws, parts = shape
        of_way, of_theta = jax.random.split(key)
        theta = mixture.draw(of_theta, mixture.prior(), (chains, self.temperatures))
        kept = {
            name: jnp.zeros((chains, draws, *v.shape[2:]), v.dtype)
            for name, v in theta.items()
        }
        dtype = mixture.log_base.dtype
        ensembles = Ensemble(
            theta,
            jnp.zeros((chains, self.temperatures), jnp.int32),
            jnp.zeros(chains, bool),
        )
        tally = no_tally((chains, parts), self.temperatures - 1, dtype)
        ladder = jnp.linspace(0.0, 1.0, self.temperatures, dtype=dtype) ** POWER
        way = self._way(of_way, mixture)
        return Run(way, ladder, ensembles, kept, tally, jnp.zeros((), jnp.int32))

    def _way(self, key: Key, mixture: Mixture) -> Way:
        """How rows enter, the same in all chains, which share the ladder."""
        rows, dtype = mixture.rows, mixture.log_base.dtype
        if self.path == "power":
            return Way(jnp.zeros(rows, dtype), jnp.ones((), dtype))
        order = jax.random.permutation(key, rows)
        return Way(order.astype(dtype), jnp.asarray(rows, dtype))

    def _draws(
        self,
        key: Key,
        mixture: Mixture,
        own: Own,
        number: int,
    ) -> tuple[Ensemble, Tally, Parameters]:
        """The last state, the sums over sweeps, and `number` draws at beta = 1."""

        def step(state: tuple[Ensemble, Tally], key: Key) -> Any:
            return counted(key, mixture, own.way, own.ladder, *state), None

        def draw(state: tuple[Ensemble, Tally], key: Key) -> Any:
            state, _ = lax.scan(step, state, jax.random.split(key, self.thin))
            return state, jax.tree.map(lambda v: v[-1], state[0].theta)

        keys = jax.random.split(key, number)
        begin = own.ensemble, no_tally((), self.temperatures - 1, own.ladder.dtype)
        (ensemble, tally), drawn = lax.scan(draw, begin, keys)
        return ensemble, tally, drawn

    def transition(self, key: Key, mixture: Mixture, theta: Parameters) -> Parameters:
        """One sweep at beta = 1, which leaves the posterior invariant."""
        check(mixture)
        return sweep(
            key, mixture, theta, jnp.ones(mixture.rows, mixture.log_base.dtype)
        )

    def combine(self, reports: Sequence[TemperedReport]) -> TemperedReport:
        """One report of all batches, from their sums put side by side."""

        def side_by_side(*parts: Any) -> np.ndarray:
            return np.concatenate(parts, axis=1)

        tally = jax.tree.map(side_by_side, *(report.tally for report in reports))
        ladder, start = reports[0].ladder, reports[0].log_start
        return report_of(tally, np.asarray(ladder), np.asarray(start))

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled; suspect where few replicas went from the prior and back to it."""
        report: TemperedReport = draws.report
        fewest, most = int(report.round_trips.min()), int(report.round_trips.max())
        worst, barrier = float(report.rejection.max()), float(report.barrier)
        if not np.isfinite(report.log_evidence):
            return Outcome("not finite", "the evidence is not finite: look at the data")
        found = (
            f"{fewest} to {most} round trips a chain, barrier {barrier:.1f}, at most "
            f"{worst:.0%} of a pair's swaps refused"
        )
        if worst > REFUSED:
            return Outcome("suspect", f"{found}: raise temperatures")
        if fewest < FEW:
            return Outcome("suspect", f"{found}: raise temperatures or draws")
        return Outcome("sampled", found)


def sweeps(
    key: Key, mixture: Mixture, own: Own, length: Int[Array, ""]
) -> tuple[Ensemble, Tally]:
    """`length` sweeps of one chain, and the sums over them."""

    def step(i: Array, state: tuple[Ensemble, Tally]) -> Any:
        at = jax.random.fold_in(key, i)
        return counted(at, mixture, own.way, own.ladder, *state)

    none = no_tally((), own.ladder.shape[0] - 1, own.ladder.dtype)
    found: tuple[Ensemble, Tally] = lax.fori_loop(0, length, step, (own.ensemble, none))
    return found


def extended(
    run: Run, ensembles: Ensemble, tally: Tally, drawn: Parameters, part: int
) -> Run:
    """With `part` more draws of every chain; draws beyond the room are dropped.

    Where the room is full, it and the sums are filled anew.
    """
    room = next(iter(run.kept.values())).shape[1]
    done = jnp.where(run.done >= room, 0, run.done)
    places = done + jnp.arange(part, dtype=done.dtype)
    kept = jax.tree.map(
        lambda room, new: room.at[:, places].set(new, mode="drop"), run.kept, drawn
    )
    sums = jax.tree.map(
        lambda all_parts, own: all_parts.at[:, done // part].set(own), run.tally, tally
    )
    return Run(run.way, run.ladder, ensembles, kept, sums, done + part)


def so_far(run: Run, part: int) -> Run:
    """Without the room for draws that were not made."""
    parts = int(run.done) // part
    shorter: Run = first_draws(run, ["kept"])
    return shorter._replace(tally=jax.tree.map(lambda v: v[:, :parts], run.tally))


def check(mixture: Mixture) -> None:
    """Refuse a family without a Gibbs step, and rows that are not in memory.

    Raises:
        NotApplicable: says which of the two.
    """
    check_resample(mixture)
    if mixture.blocks.stream is not None:
        raise NotApplicable("needs all rows in memory, and they are streamed")


def rounds(sweeps: int) -> tuple[int, ...]:
    """Lengths of the rounds of a warm-up: each about as long as all before it."""
    lengths: list[int] = []
    while sweeps >= SHORTEST:
        lengths.insert(0, sweeps - sweeps // 2)
        sweeps //= 2
    return (sweeps, *lengths)


def collect(_: Key, mixture: Mixture, run: Run) -> Draws:
    """The draws at beta = 1, and the report."""
    report = report_of(run.tally, run.ladder, mixture.log_base + log_start(mixture))
    return Draws(run.kept, {}, None, {}, report)


def report_of(tally: Tally, ladder: Any, start: Any) -> TemperedReport:
    """The report on the ladder and the evidence; arrays of NumPy or JAX.

    Args:
        tally: sums by chain and call (chain, part, ...).
        ladder: inverse temperatures.
        start: log of the normaliser at beta = 0, and sum_i log h(x_i).
    """
    rate = tally.rejected.sum(axis=(0, 1)) / tally.tries.sum(axis=(0, 1))
    return TemperedReport(
        **evidence(tally, start),
        ladder=ladder,
        rejection=rate,
        barrier=rate.sum(),
        round_trips=tally.trips.sum(axis=1),
        log_start=start,
        tally=tally,
    )


METHOD = Tempered
