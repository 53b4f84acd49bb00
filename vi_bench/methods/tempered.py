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
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Gt
from jax import lax
from jaxtyping import Array, Bool, Float, Int

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
from vi_bench.methods._assignments import assigned_statistics, new_order
from vi_bench.methods._particles import widened
from vi_bench.methods.gibbs import check_resample
from vi_bench.mixture import weights
from vi_bench.mixture.conjugate import namespace
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.mixture_pass import Statistics, log_marginal
from vi_bench.mixture.symmetry import permute
from vi_bench.mixture.types import GibbsStep, Parameters
from vi_bench.mixture.weights import STICK
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

PARTS = 20
"""Number of calls of the sampling stage, so that progress can be shown."""

TOGETHER = 4
"""Calls of the sampling stage in one batch for the error of the evidence."""

POWER = 5
"""The first ladder is (i / T)^POWER (Friel and Pettitt 2008), and ladders are
interpolated on the scale of its steps."""

LEAST = 1e-3
"""Lower limit of a pair's rejection rate, so that the barrier strictly increases."""

SHORTEST = 8
"""Warm-up is halved into rounds while at least this many sweeps are left."""

FEW = 5
"""Round trips of a chain below which its draws depend on too few visits to the prior.
"""

SPEED = 3e8
"""Multiply-adds a second of all replicas' sweeps, as measured on one core."""

REFUSED = 0.8
"""Rejection rate of a pair beyond which round trips become rare."""


class Way(NamedTuple):
    """How rows enter with beta: row i has the weight clip(slope beta - rank_i, 0, 1).

    Attributes:
        rank: place of each row in the order of entry, from 0; 0 if all enter at once.
        slope: N where rows enter one after the other, 1 if all enter at once.
    """

    rank: Float[Array, " N"]
    slope: Float[Array, ""]

    def weights(self, beta: Float[Array, ""]) -> Float[Array, " N"]:
        """The weight of each row at an inverse temperature (N,)."""
        return jnp.clip(self.slope * beta - self.rank, 0.0, 1.0)


@dataclass(frozen=True)
class Counted:
    """The part of a family that passes over weighted rows use."""

    of: Statistics

    def statistics(self, x: Float[Array, "e n"]) -> Float[Array, "P n"]:
        """t(x_i) times the row's weight, which is the last feature of x."""
        return x[-1:] * self.of(x[:-1])


class Ensemble(NamedTuple):
    """One chain: a replica at every temperature, beta = 0 first.

    Attributes:
        theta: parameters (temperature, *dims).
        phase: phase of the replica at each temperature: 0 before it was at beta = 0, 1
            on its way from there to beta = 1, 2 on its way back.
        odd: whether the pairs tried next are those that begin at odd places.
    """

    theta: Parameters
    phase: Int[Array, " temperature"]
    odd: Bool[Array, ""]


class Tally(NamedTuple):
    """Sums over sweeps for each pair of neighbouring temperatures b < b'.

    Attributes:
        forward: log of the sum of exp((L_b' - L_b) / 2) over replicas at b.
        backward: log of the sum of exp((L_b - L_b') / 2) over replicas at b'.
        rejected: sum of the probabilities that the swap is rejected.
        tries: number of swaps that were tried.
        trips: number of replicas that came back to beta = 0 from beta = 1.
    """

    forward: Float[Array, "*b pair"]
    backward: Float[Array, "*b pair"]
    rejected: Float[Array, "*b pair"]
    tries: Float[Array, "*b pair"]
    trips: Float[Array, "*b"]


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
        row = jax.ShapeDtypeStruct((mixture.features, 1), mixture.log_base.dtype)
        terms = jax.eval_shape(mixture.family.statistics, row).shape[0]
        sweeps = self.warmup + self.thin * problem.draws
        replicas = self.temperatures * problem.chains
        work = sweeps * replicas * mixture.rows * mixture.components * terms
        return float(work / SPEED)

    @remembered
    def _stages(self, chains: int, draws: int) -> tuple[Stage, ...]:
        part = -(-draws // min(PARTS, draws))
        parts = -(-draws // part)
        lengths = rounds(self.warmup)

        def start(key: Key, mixture: Mixture, _: Any) -> Run:
            return self._begin(key, mixture, (chains, draws, parts))

        def warm_up(key: Key, mixture: Mixture, run: Run) -> Run:
            length = jnp.asarray(lengths)[run.done]
            run, tally = self._round(key, mixture, run, length)
            last = run.done + 1 == len(lengths)
            ladder = jnp.where(last, run.ladder, equalised(run.ladder, tally))
            return run._replace(ladder=ladder, done=jnp.where(last, 0, run.done + 1))

        def sample(key: Key, mixture: Mixture, run: Run) -> Run:
            return self._extend(key, mixture, run, part)

        return (
            Stage("start", start),
            Stage("warmup", warm_up, calls=len(lengths)),
            Stage("sample", sample, calls=parts, again="onward"),
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

    def _round(
        self, key: Key, mixture: Mixture, run: Run, length: Int[Array, ""]
    ) -> tuple[Run, Tally]:
        """`length` sweeps of every chain, and the sums over them by chain."""

        def chain(key: Key, ensemble: Ensemble) -> tuple[Ensemble, Tally]:
            def step(i: Array, state: tuple[Ensemble, Tally]) -> Any:
                own = jax.random.fold_in(key, i)
                return counted(own, mixture, run.way, run.ladder, *state)

            none = no_tally((), self.temperatures - 1, run.ladder.dtype)
            found: tuple[Ensemble, Tally] = lax.fori_loop(
                0, length, step, (ensemble, none)
            )
            return found

        keys = jax.random.split(key, run.ensembles.odd.shape[0])
        ensembles, tally = over_lanes(chain, keys, run.ensembles)
        return run._replace(ensembles=ensembles), tally

    def _extend(self, key: Key, mixture: Mixture, run: Run, part: int) -> Run:
        """`part` more draws of every chain; draws beyond the room are dropped.

        Where the room is full, it and the sums are filled anew.
        """
        room = next(iter(run.kept.values())).shape[1]
        done = jnp.where(run.done >= room, 0, run.done)

        def draw(key: Key, ensemble: Ensemble) -> tuple[Ensemble, Tally, Parameters]:
            return self._draws(key, mixture, run, ensemble, part)

        keys = jax.random.split(key, run.ensembles.odd.shape[0])
        ensembles, tally, drawn = over_lanes(draw, keys, run.ensembles)
        places = done + jnp.arange(part, dtype=done.dtype)
        kept = jax.tree.map(
            lambda room, new: room.at[:, places].set(new, mode="drop"), run.kept, drawn
        )
        sums = jax.tree.map(
            lambda all_parts, own: all_parts.at[:, done // part].set(own),
            run.tally,
            tally,
        )
        return Run(run.way, run.ladder, ensembles, kept, sums, done + part)

    def _draws(
        self,
        key: Key,
        mixture: Mixture,
        run: Run,
        ensemble: Ensemble,
        number: int,
    ) -> tuple[Ensemble, Tally, Parameters]:
        """The last state, the sums over sweeps, and `number` draws at beta = 1."""

        def step(state: tuple[Ensemble, Tally], key: Key) -> Any:
            return counted(key, mixture, run.way, run.ladder, *state), None

        def draw(state: tuple[Ensemble, Tally], key: Key) -> Any:
            state, _ = lax.scan(step, state, jax.random.split(key, self.thin))
            return state, jax.tree.map(lambda v: v[-1], state[0].theta)

        none = no_tally((), self.temperatures - 1, run.ladder.dtype)
        keys = jax.random.split(key, number)
        (ensemble, tally), drawn = lax.scan(draw, (ensemble, none), keys)
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


def no_tally(shape: tuple[int, ...], pairs: int, dtype: Any) -> Tally:
    """The sums over no sweeps."""
    nothing = jnp.zeros((*shape, pairs), dtype)
    nowhere = jnp.full((*shape, pairs), -jnp.inf, dtype)
    return Tally(nowhere, nowhere, nothing, nothing, jnp.zeros(shape, dtype))


def sweep(
    key: Key, mixture: Mixture, theta: Parameters, counts: Float[Array, " N"]
) -> Parameters:
    """One Gibbs sweep that leaves pi_beta invariant: c, their order, sticks, theta_k.

    It equals `gibbs.sweep` where every row counts once. A row that counts w times adds
    w to its component's count, so the sticks' Betas, and with them the order of the
    labels, use the weighted counts.

    Args:
        key: random key of the sweep.
        mixture: the mixture whose tempered posterior is left invariant.
        theta: the state of the replica.
        counts: how often each row counts.
    """
    of_labels, of_order, of_sticks, of_components = jax.random.split(key, 4)
    weighted = with_counts(mixture, counts)
    expected = assigned_statistics(of_labels, weighted, mixture.natural(theta))
    components = {name: v for name, v in theta.items() if name != STICK}
    if mixture.components > 1:
        order = new_order(of_order, mixture, expected[:, -1])
        expected = expected[order]
        components = permute(mixture, components, order)
    sticks = mixture.weights.update(expected[:, -1])
    assert isinstance(mixture.family, GibbsStep)
    components = mixture.family.resample(of_components, components, expected)
    return components | weights.draw(of_sticks, sticks, ())


def with_counts(mixture: Mixture, counts: Float[Array, " N"]) -> Mixture:
    """The mixture of rows that count so many times, for passes over the data only.

    The counts become the last feature of its blocks, in the blocks' order.
    """
    body, tail = mixture.blocks.body, mixture.blocks.tail
    whole = body.shape[0] * body.shape[2]
    in_body = counts[:whole].reshape(body.shape[0], 1, body.shape[2])
    blocks = replace(
        mixture.blocks,
        body=jnp.concatenate([body, in_body], axis=1),
        tail=jnp.concatenate([tail, counts[None, whole:]]),
    )
    family: Any = Counted(mixture.family.statistics)
    return replace(mixture, family=family, blocks=blocks)


def log_tempered(
    mixture: Mixture, theta: Parameters, counts: Float[Array, " N"]
) -> Float[Array, ""]:
    """L_beta(theta) = sum_i logsumexp_k w_i <t(x_i), M_k>.

    At beta = 0 it is N log K for every theta. Elsewhere it is a very low finite number
    where rounding leaves no finite one: such a replica does not move towards beta = 1.
    """
    weighted = with_counts(mixture, counts)
    value = log_marginal(
        weighted.family.statistics, weighted.blocks, mixture.natural(theta)
    )
    lowest = 0.01 * jnp.finfo(value.dtype).min
    value = jnp.where(jnp.isfinite(value), value, lowest)
    return jnp.where(jnp.any(counts > 0), value, log_start(mixture))


def log_start(mixture: Mixture) -> Float[Array, ""]:
    """Log of the normaliser at beta = 0: N log K."""
    return mixture.rows * jnp.log(
        jnp.asarray(mixture.components, mixture.log_base.dtype)
    )


def counted(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    ensemble: Ensemble,
    tally: Tally,
) -> tuple[Ensemble, Tally]:
    """A sweep at every temperature, then swaps, whose statistics join the sums."""
    of_sweeps, of_swaps = jax.random.split(key)
    moved = ensemble._replace(
        theta=sweeps(of_sweeps, mixture, way, ladder, ensemble.theta)
    )
    ensemble, own = swaps(of_swaps, mixture, way, ladder, moved)
    return ensemble, Tally(
        jnp.logaddexp(tally.forward, own.forward),
        jnp.logaddexp(tally.backward, own.backward),
        tally.rejected + own.rejected,
        tally.tries + own.tries,
        tally.trips + own.trips,
    )


def sweeps(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    theta: Parameters,
) -> Parameters:
    """A sweep at every temperature; at beta = 0 a draw from the prior."""
    of_prior, others = jax.random.split(key)
    fresh = mixture.draw(of_prior, mixture.prior(), (1,))
    moved = over_lanes(
        lambda key, theta, beta: sweep(key, mixture, theta, way.weights(beta)),
        jax.random.split(others, ladder.shape[0] - 1),
        jax.tree.map(lambda v: v[1:], theta),
        ladder[1:],
    )
    return {name: jnp.concatenate([v, moved[name]]) for name, v in fresh.items()}


def swaps(
    key: Key,
    mixture: Mixture,
    way: Way,
    ladder: Float[Array, " temperature"],
    ensemble: Ensemble,
) -> tuple[Ensemble, Tally]:
    """Swaps of every second pair of neighbours, and what they add to the sums.

    Two replicas swap with probability min(1, exp(L_b(theta') + L_b'(theta) -
    L_b(theta) - L_b'(theta'))), assignments marginalised.
    """
    places = jnp.arange(ladder.shape[0])
    begins = (places % 2 == 1) == ensemble.odd
    partner = jnp.where(begins, places + 1, places - 1)
    partner = jnp.clip(
        partner, 0, ladder.shape[0] - 1
    )  # an end without a partner: itself

    def change(theta: Parameters, own: Array, other: Array) -> Float[Array, ""]:
        there = log_tempered(mixture, theta, way.weights(other))
        return there - log_tempered(mixture, theta, way.weights(own))

    gain = over_lanes(change, ensemble.theta, ladder, ladder[partner])
    log_ratio = jnp.minimum(gain + gain[partner], 0.0)
    level = jnp.log(jax.random.uniform(key, (ladder.shape[0] - 1,), ladder.dtype))
    accepted = level < log_ratio[:-1]
    lower = jnp.minimum(places, partner)
    source = jnp.where(accepted[lower], partner, places)
    tried = begins[:-1]
    phase, trips = travelled(ensemble.phase[source])
    theta = jax.tree.map(lambda v: v[source], ensemble.theta)
    return Ensemble(theta, phase, ~ensemble.odd), Tally(
        jnp.where(tried, gain[:-1] / 2, -jnp.inf),
        jnp.where(tried, gain[1:] / 2, -jnp.inf),
        jnp.where(tried, -jnp.expm1(log_ratio[:-1]), 0.0),
        tried.astype(ladder.dtype),
        trips.astype(ladder.dtype),
    )


def travelled(
    phase: Int[Array, " temperature"],
) -> tuple[Int[Array, " temperature"], Bool[Array, ""]]:
    """Phases after the replicas at both ends have arrived; whether a trip has ended."""
    ended = phase[0] == 2
    phase = phase.at[0].set(1)
    return phase.at[-1].set(jnp.where(phase[-1] == 1, 2, phase[-1])), ended


def equalised(
    ladder: Float[Array, " temperature"], tally: Tally
) -> Float[Array, " temperature"]:
    """The ladder of equal rejection rates, estimated from the rates at this one.

    Syed et al. (2022), section 5: the sum of rejection rates up to beta estimates the
    communication barrier, whose inverse is taken at equal steps. The interpolation is
    linear in beta^(1 / POWER), hence monotone.
    """
    tried = jnp.sum(tally.tries, axis=0)
    rate = jnp.sum(tally.rejected, axis=0) / jnp.maximum(tried, 1.0)
    barrier = jnp.cumsum(jnp.maximum(rate, LEAST))
    barrier = jnp.concatenate([jnp.zeros_like(barrier, shape=1), barrier])
    wanted = jnp.linspace(0.0, 1.0, ladder.shape[0], dtype=ladder.dtype) * barrier[-1]
    found = jnp.interp(wanted, barrier, ladder ** (1 / POWER)) ** POWER
    return found.at[0].set(0.0).at[-1].set(1.0)


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


def evidence(tally: Tally, start: Any) -> dict[str, Any]:
    """Log p(X) by bridges from step to step of the ladder; arrays of NumPy or JAX.

    With q_b = p(theta) exp(L_b), Z_b' / Z_b = E_b sqrt(q_b' / q_b) / E_b' sqrt(q_b /
    q_b') (Meng and Wong 1996, their geometric bridge): both ends are used, and neither
    mean has the long tail of E_b q_b' / q_b. Each mean is over all sweeps and chains.

    The error is by the delta method: a batch moves the logarithm by the sum over pairs
    of its share of the upper mean minus that of the lower one. Batches are some
    consecutive calls of a chain, or whole chains: the first may be too short to be
    independent, the second too few to show their spread. The larger error is given,
    `widened` by its degrees of freedom.

    Returns:
        "log_evidence", "log_evidence_se", "log_evidence_df", and "run_log_evidence" of
        each chain by itself.
    """
    xp = namespace(tally.forward)
    up, down = (log_sum(part, (0, 1)) for part in (tally.forward, tally.backward))
    moved = xp.exp(tally.forward - up[None, None])
    moved = moved - xp.exp(tally.backward - down[None, None])
    moved = moved.sum(axis=-1)
    chains, parts = moved.shape
    batches = xp.array_split(moved, max(1, parts // TOGETHER), axis=1)
    of_batches = spread(xp.stack([b.sum(axis=1) for b in batches]).ravel())
    of_chains = spread(moved.sum(axis=1))
    by_chain = log_sum(tally.forward, 1) - log_sum(tally.backward, 1)
    worse, many, few = of_chains > of_batches, chains * len(batches) - 1, chains - 1
    return {
        "log_evidence": start + (up - down).sum(),
        "log_evidence_se": xp.where(
            worse, widened(of_chains, few), widened(of_batches, many)
        ),
        "log_evidence_df": xp.where(worse, few, many),
        "run_log_evidence": start + by_chain.sum(axis=-1),
    }


def log_sum(terms: Any, axis: int | tuple[int, ...]) -> Any:
    """Log of the sum of exp(terms) over axes; arrays of NumPy or JAX, -inf allowed."""
    xp = namespace(terms)
    top = terms.max(axis=axis, keepdims=True)
    return xp.log(xp.exp(terms - top).sum(axis=axis)) + xp.squeeze(top, axis=axis)


def spread(moved: Any) -> Any:
    """Standard error of a sum of independent terms of mean 0; NaN for a single term."""
    xp = namespace(moved)
    count = len(moved)
    if count < 2:
        return xp.asarray(xp.nan, dtype=moved.dtype)
    return xp.sqrt(count / (count - 1) * (moved**2).sum())


METHOD = Tempered
