"""Gibbs: assignments given parameters, then parameters given assignments, in blocks.

Diebolt and Robert (1994). No step size, no rejection, and a sweep costs one pass over
the data. Under exchangeable weights the labels are permuted at random after each sweep
(the random permutation sampler of Fruehwirth-Schnatter 2001), so every chain visits all
K! copies of the posterior. The evidence is Chib's (1995), symmetrised over the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt
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
from vi_bench.inference import starts
from vi_bench.methods._assignments import (
    assigned_statistics,
    exchangeable,
    new_order,
)
from vi_bench.methods._chains import (
    Parts,
    in_parts,
    warmup_and_sampling,
    warmup_key,
    with_room,
)
from vi_bench.mixture import weights
from vi_bench.mixture.conjugate import Conjugate
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.symmetry import permute
from vi_bench.mixture.types import GibbsStep, Parameters
from vi_bench.mixture.weights import STICK
from vi_bench.runtime.keys import Key

MOST = 10
"""Largest K for which the evidence is symmetrised, by a sum over all 2^K label sets."""

FEW = 50.0
"""Effective draws below which no evidence is given, as its error cannot be estimated.
"""


class Chain(NamedTuple):
    """One chain.

    Attributes:
        theta: its state.
        kept: its draws (draw, *dims).
        done: how many it has so far.
        warmed: sweeps of its warm-up so far.
        key: data of the random key of the warm-up.
    """

    theta: Parameters
    kept: Parameters
    done: Int[Array, ""]
    warmed: Int[Array, ""]
    key: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GibbsReport(Report):
    """Chib's evidence, where that is known.

    Attributes:
        evidence_ess: Kish's effective number of draws that it rests on.
    """

    evidence_ess: Float[Array, ""] | None = None


@dataclass(frozen=True)
class Gibbs:
    """Settings of the Gibbs sampler.

    Attributes:
        warmup: sweeps per chain that are discarded.
        thin: sweeps per kept draw.
        permute: put the labels into a random order in each sweep. Where the weights are
            not exchangeable, swaps of two labels are proposed instead, with a
            Metropolis-Hastings step.
    """

    warmup: Annotated[int, Ge(0)] = 500
    thin: Annotated[int, Gt(0)] = 1
    permute: bool = True

    kind: ClassVar[Kind] = "mcmc"
    summary: ClassVar[str] = "blocked Gibbs, labels permuted, Chib's evidence"
    roles: ClassVar[Mapping[Role, int]] = {"check": 1}
    references: ClassVar[tuple[str, ...]] = ("diebolt1994",)
    bound_keeps_labels: ClassVar[bool] = False

    def seconds(self, problem: Problem) -> float:
        """0, as a sweep costs about as much as one gradient of the log density.

        Raises:
            NotApplicable: the family has no Gibbs step.
        """
        check_resample(problem.mixture)
        return 0.0

    def prepare(self, problem: Problem, key: Key) -> tuple[Stage, ...]:
        """The stages start, begin, warmup and sample, in parts; evidence or collect.

        Raises:
            NotApplicable: the family has no Gibbs step.
        """
        check_resample(problem.mixture)
        last = "evidence" if has_evidence(problem.mixture) else "collect"
        return self._stages(problem.chains, problem.draws, last)

    @remembered
    def _stages(self, chains: int, draws: int, last: str) -> tuple[Stage, ...]:
        parts = in_parts(draws)

        def begin(_: Key, mixture: Mixture, theta: Parameters) -> Chain:
            found: Chain = jax.vmap(lambda own: empty_chain(own, draws))(theta)
            return found

        def onward(key: Key, mixture: Mixture, chain: Chain) -> Chain:
            return self._onward(key, mixture, with_room(chain, draws), parts)

        def collect(key: Key, mixture: Mixture, whole: Chain) -> Draws:
            report = GibbsReport()
            if has_evidence(mixture):
                report = chib(key, mixture, whole.kept)
            return Draws(whole.kept, {}, None, {}, report)

        return (
            starts.chains_start(chains),
            Stage("begin", begin),
            *warmup_and_sampling(chains, parts, self.steps, onward, "kept"),
            Stage(last, collect, part_of_inference=False),
        )

    def transition(self, key: Key, mixture: Mixture, theta: Parameters) -> Parameters:
        """One Gibbs sweep, which leaves the posterior invariant."""
        check_resample(mixture)
        return sweep(key, mixture, theta, self.permute)

    @property
    def steps(self) -> int:
        """Sweeps of the warm-up: one even where none is asked for."""
        return 1 + self.warmup

    def _onward(self, key: Key, mixture: Mixture, chain: Chain, parts: Parts) -> Chain:
        """Further sweeps of the warm-up; once that is over, draws."""
        begun = chain.warmed
        warming = begun < self.steps
        first = warmup_key(key, begun, chain.key)
        course = jax.random.split(jax.random.wrap_key_data(first), self.steps)
        keys = jax.random.split(key, parts.each)

        def advance(i: Array, chain: Chain) -> Chain:
            own = jax.random.split(keys[i], self.thin)

            def once(j: Array, theta: Parameters) -> Parameters:
                key = jnp.where(warming, course[begun + i], own[j])
                return sweep(key, mixture, theta, self.permute)

            thin = jnp.where(warming, 1, self.thin)
            theta = lax.fori_loop(0, thin, once, chain.theta)
            # in a warm-up all have the first place, that of the first draw later
            kept = jax.tree.map(
                lambda room, leaf: room.at[chain.done].set(leaf), chain.kept, theta
            )
            warm, drawn = jnp.where(warming, 1, 0), jnp.where(warming, 0, 1)
            return Chain(theta, kept, chain.done + drawn, chain.warmed + warm, first)

        further = jnp.minimum(parts.steps(self.steps), self.steps - begun)
        left = jnp.minimum(parts.each, parts.draws - chain.done)
        more: Chain = lax.fori_loop(
            0, jnp.where(warming, further, left), advance, chain
        )
        return more

    def combine(self, reports: Sequence[GibbsReport]) -> GibbsReport:
        """Chib's evidence of all batches of draws: see `pooled_evidence`."""
        if reports[0].log_evidence is None:
            return reports[0]
        return pooled_evidence(reports)

    def outcome(self, draws: Draws) -> Outcome:
        """Sampled, with the effective number of draws behind the evidence."""
        report: GibbsReport = draws.report
        if report.evidence_ess is None:
            return Outcome(
                "sampled",
                "no evidence: Chib's needs a conjugate family and, of exchangeable "
                f"components, at most {MOST}",
            )
        size = float(report.evidence_ess)
        if not size >= FEW:
            return Outcome(
                "sampled",
                f"no evidence: Chib's would rest on {size:.0f} effective draws, under "
                f"{FEW:.0f}",
            )
        return Outcome(
            "sampled", f"Chib's evidence rests on {size:.0f} effective draws"
        )


def check_resample(mixture: Mixture) -> None:
    """Refuse a family without a Gibbs step.

    Raises:
        NotApplicable: names the methods to use instead.
    """
    if not isinstance(mixture.family, GibbsStep):
        raise NotApplicable(
            "the family has no `resample`, its parameters given the assignments: use "
            "smc or nuts"
        )


def empty_chain(theta: Parameters, draws: int) -> Chain:
    """A chain before its warm-up, with room for its draws."""
    kept = jax.tree.map(lambda v: jnp.zeros((draws, *v.shape), v.dtype), theta)
    none = jnp.zeros((), jnp.int32)
    return Chain(theta, kept, none, none, jax.random.key_data(jax.random.key(0)))


def sweep(
    key: Key,
    mixture: Mixture,
    theta: Parameters,
    permuted: bool = True,
    weighted: Mixture | None = None,
) -> Parameters:
    """One sweep: c | theta, then the sticks | c, then each theta_k | c.

    Args:
        key: random key of the sweep.
        mixture: the mixture whose posterior is left invariant.
        theta: the state of the chain.
        permuted: whether the labels are permuted after c is drawn.
        weighted: the mixture whose rows are assigned and counted, if they have weights.
    """
    of_labels, of_order, of_sticks, of_components = jax.random.split(key, 4)
    rows = mixture if weighted is None else weighted
    expected = assigned_statistics(of_labels, rows, mixture.natural(theta))
    components = {name: v for name, v in theta.items() if name != STICK}
    if permuted and mixture.components > 1:
        order = new_order(of_order, mixture, expected[:, -1])
        expected = expected[order]
        components = permute(mixture, components, order)
    sticks = mixture.weights.update(expected[:, -1])
    assert isinstance(mixture.family, GibbsStep)
    components = mixture.family.resample(of_components, components, expected)
    return components | weights.draw(of_sticks, sticks, ())


def has_evidence(mixture: Mixture) -> bool:
    """Whether p(theta | X, c) is known, and can be averaged over the labels."""
    few = mixture.components <= MOST or not exchangeable(mixture)
    return isinstance(mixture.family, Conjugate) and few


def chib(key: Key, mixture: Mixture, theta: Parameters) -> GibbsReport:
    """Log p(X) = log p(X, theta*) - log p(theta* | X); Chib (1995).

    theta* is the draw of the highest log joint; its posterior density is the mean of
    p(theta* | X, c) over assignments c, one drawn anew for each draw of theta, so that
    no assignments are held. Under exchangeable weights the mean over all K! orders of
    the labels is taken too: a chain that stays in one mode would be off by up to log K!
    (Marin and Robert 2008, section 3).

    Args:
        key: random key of the assignments.
        mixture: the mixture.
        theta: draws (chain, draw, *dims).

    Returns:
        `log_evidence`, NaN where it rests on fewer than FEW effective draws, and its
        error, by batch means.
    """
    shape = next(iter(theta.values())).shape[:2]
    flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), theta)
    log_joint = lax.map(mixture.log_joint, flat)
    best = jax.tree.map(lambda v: v[jnp.argmax(log_joint)], flat)

    def term(packed: tuple[Key, Parameters]) -> Float[Array, ""]:
        key, draw = packed
        expected = assigned_statistics(key, mixture, mixture.natural(draw))
        return log_full_conditional(mixture, best, expected)

    keys = jax.random.split(key, shape[0] * shape[1])
    terms = lax.map(term, (keys, flat)).reshape(shape)
    log_mean, error = log_mean_exp(terms)
    effective = 1 / jnp.sum(jax.nn.softmax(terms.ravel()) ** 2)
    found = jnp.max(log_joint) - log_mean
    return GibbsReport(
        log_evidence=jnp.where(effective >= FEW, found, jnp.nan),
        log_evidence_se=error,
        evidence_ess=effective,
    )


def pooled_evidence(reports: Sequence[GibbsReport]) -> GibbsReport:
    """`chib` of several batches of draws together; host arrays.

    Log of the mean of the batches' evidences, those that are NaN left out; its error
    from theirs, as of independent estimates. `evidence_ess` is the sum over the batches
    that count or, where none does, the most that any has, which is then under FEW.
    """
    values = np.array([report.log_evidence for report in reports], float)
    errors = np.array([report.log_evidence_se for report in reports], float)
    sizes = np.array([report.evidence_ess for report in reports], float)
    known = np.isfinite(values)
    value: Any = np.nan
    error: Any = np.nan
    size = sizes.max()
    if known.any():
        top = values[known].max()
        shares = np.exp(values[known] - top)
        value = top + np.log(shares.mean())
        error = np.sqrt(np.sum((shares * errors[known]) ** 2)) / shares.sum()
        size = sizes[known].sum()
    pooled = GibbsReport(log_evidence=value, log_evidence_se=error, evidence_ess=size)
    found: GibbsReport = jax.tree.map(np.asarray, pooled)
    return found


def log_full_conditional(
    mixture: Mixture, theta: Parameters, expected: Float[Array, "K P"]
) -> Float[Array, ""]:
    """Log p(theta | X, c) for assigned statistics; averaged over all orders of c.

    With f_k the conjugate posterior of component k, and for weights w the Dirichlet
    posterior, proportional to prod_j w_j^{n_k}, the sum over orders is the permanent of
    ``f_k(theta_j) w_j^{n_k}``. The sticks' density is taken at one order; what it has
    besides these powers is the same in all of them.
    """
    family, counts = mixture.family, expected[:, -1]
    assert isinstance(family, Conjugate)
    lam = family.update(family.prior(mixture.components), expected)
    sticks = weights.log_density(theta, mixture.weights.update(counts))
    # [j, k]: the parameters of component j under the rows of component k
    each = jax.vmap(lambda one: family.log_density(theta, one), out_axes=1)(lam)
    if not exchangeable(mixture):
        return jnp.trace(each) + sticks
    log_w = mixture.weights.log_weights(theta, mixture.components)
    powers = log_w[:, None] * counts[None]
    total = log_permanent(each + powers)
    orders = jax.scipy.special.gammaln(mixture.components + 1.0)
    return total - orders + sticks - jnp.trace(powers)


def log_permanent(terms: Float[Array, "K K"]) -> Float[Array, ""]:
    """Log of the sum over permutations s of exp(sum_j terms[j, s(j)]).

    It is computed row by row over the 2^K sets of columns that earlier rows have taken.
    """
    size = terms.shape[0]
    sets, column = np.arange(2**size)[:, None], np.arange(size)
    holds = jnp.asarray((sets >> column) & 1, bool)
    without = jnp.asarray(sets ^ (1 << column))
    so_far = jnp.where(jnp.arange(2**size) == 0, 0.0, -jnp.inf).astype(terms.dtype)
    for row in terms:
        reached = jnp.where(holds, so_far[without] + row[None], -jnp.inf)
        so_far = jax.nn.logsumexp(reached, axis=1)
    return so_far[-1]


def log_mean_exp(
    terms: Float[Array, "chain draw"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Log of the mean of exp(terms), and its standard error.

    The error is that of the mean over that mean, from the spread of batch means around
    it: about sqrt(draws) batches of consecutive draws in each chain, so that both
    autocorrelation and differences between chains are in it.
    """
    draws = terms.shape[1]
    size = max(1, int(np.sqrt(draws)))
    batches = draws // size
    top = jnp.max(terms)
    relative = jnp.exp(terms - top)
    means = relative[:, : batches * size].reshape(-1, size).mean(axis=1)
    mean = jnp.mean(relative)
    error = jnp.std(means, ddof=1) / jnp.sqrt(float(means.shape[0])) / mean
    return top + jnp.log(mean), error


METHOD = Gibbs
