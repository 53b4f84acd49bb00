"""Starting points of chains and restarts, and the local optima that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from vi_bench.contract import Posterior, Stage, Starts, remembered
from vi_bench.inference.restarts import SAME_OPTIMUM
from vi_bench.inference.squarem import Ascent, begin, coordinate_ascent, resolvable
from vi_bench.mixture.mixture import Factors, Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key
from vi_bench.runtime.lanes import over_lanes

NEAR = 10.0
"""Nats: an optimum further below the best one has no mass that a chain could miss."""

KINDS = 5
SEEDS, RANDOM, LONG_RUN, ROW_CENTRES, PRIOR = range(KINDS)
"""Kinds of starts: k-means++ seeds, random responsibilities, a long k-means run, rows
as centres, a draw from the prior."""

ROWS = 2**14
"""Largest number of rows, evenly spaced, on which starts are searched for."""

STARTS, EARLY, PARTS, FEW = 20, 5, 20, 8
"""A search for optima: its number of starts, the sweeps after which an ascent is still
far from its optimum, its iteration limit as a multiple of these, and the number of
ascents that are continued on all rows."""

POOL = 3
"""Short runs for each start that is kept."""

TOLERANCE = 1e-8
"""Limit on both the relative change of the ELBO and the residual of an ascent."""

ROUNDS = 50
"""Iterations of a long k-means run."""

SHARE = 0.1
"""Weight of each row in the factors from which a dispersed start is drawn. It puts the
start some three posterior sds from the mode: a path that starts there cannot learn the
curvature."""


def _squared_distances(
    x: Float[Array, "N d"], centres: Float[Array, "K d"]
) -> Float[Array, "N K"]:
    # centre by centre: (x - c)^2 without cancellation and without an (N, K, d) array
    by_centre: Array = lax.map(lambda c: jnp.sum((x - c[None]) ** 2, axis=1), centres)
    return by_centre.T


def plus_plus(key: Key, x: Float[Array, "N d"], components: int) -> Float[Array, "K d"]:
    """k-means++ seeds: each next one drawn in proportion to the squared distance.

    Arthur and Vassilvitskii (2007). Where every row coincides with a seed, a row is
    drawn uniformly.
    """
    first, rest = jax.random.split(key)
    centre = x[jax.random.randint(first, (), 0, x.shape[0])]

    def add(
        nearest: Float[Array, " N"], key: Key
    ) -> tuple[Float[Array, " N"], Float[Array, " d"]]:
        weights = jnp.where(jnp.any(nearest > 0), nearest, 1.0)
        chosen = x[jax.random.categorical(key, jnp.log(weights))]
        distance = jnp.sum((x - chosen[None]) ** 2, axis=1)
        return jnp.minimum(nearest, distance), chosen

    distance = jnp.sum((x - centre[None]) ** 2, axis=1)
    _, others = lax.scan(add, distance, jax.random.split(rest, components - 1))
    return jnp.concatenate([centre[None], others])


def nearest(x: Float[Array, "N d"], centres: Float[Array, "K d"]) -> Int[Array, " N"]:
    """The index of each row's nearest centre."""
    return jnp.argmin(_squared_distances(x, centres), axis=1)


def plus_plus_responsibilities(
    key: Key, x: Float[Array, "N d"], components: int
) -> Float[Array, "N K"]:
    """Hard assignments of each row to its nearest k-means++ seed."""
    seeds = plus_plus(key, x, components)
    return jax.nn.one_hot(nearest(x, seeds), components, dtype=x.dtype)


def random_responsibilities(
    key: Key, x: Float[Array, "N d"], components: int
) -> Float[Array, "N K"]:
    """Every row's responsibilities drawn uniformly from the simplex."""
    draws = jax.random.exponential(key, (x.shape[0], components), x.dtype)
    return draws / jnp.sum(draws, axis=1, keepdims=True)


def moved(x: Float[Array, "N d"], centres: Float[Array, "K d"]) -> Float[Array, "K d"]:
    """One round of k-means; centres without rows stay where they are."""
    owner = jax.nn.one_hot(nearest(x, centres), len(centres), dtype=x.dtype)
    counts = jnp.sum(owner, axis=0)[:, None]
    return jnp.where(counts > 0, owner.T @ x / jnp.maximum(counts, 1), centres)


def k_means(
    key: Key, x: Float[Array, "N d"], components: int, tries: int = 8, rounds: int = 10
) -> Float[Array, "K d"]:
    """Centres of the best of several short k-means runs, in random order.

    A start for methods with one optimisation path, such as SVI.
    """

    def attempt(key: Key) -> tuple[Float[Array, ""], Float[Array, "K d"]]:
        seeds = plus_plus(key, x, components)
        centres = lax.fori_loop(0, rounds, lambda _, c: moved(x, c), seeds)
        inertia = jnp.sum(jnp.min(_squared_distances(x, centres), axis=1))
        return inertia, centres

    attempts, order = jax.random.split(key)
    inertia, centres = lax.map(attempt, jax.random.split(attempts, tries))
    return jax.random.permutation(order, centres[jnp.argmin(inertia)])


def k_means_factors(key: Key, mixture: Mixture) -> Factors:
    """Factors by an M-step after `k_means`; the prior where there are no rows."""
    if mixture.rows == 0:
        return mixture.prior()
    x = mixture.some()
    owner = nearest(x, k_means(key, x, mixture.components))
    phi = jax.nn.one_hot(owner, mixture.components, dtype=x.dtype)
    return mixture.from_responsibilities(phi, x)


def centred_responsibilities(
    kind: Shaped[Array, ""], key: Key, x: Float[Array, "N d"], components: int
) -> Float[Array, "N K"]:
    """Hard assignments of each row to its nearest centre.

    The centres are k-means++ SEEDS, the result of a LONG_RUN of k-means from these, or
    distinct rows drawn uniformly (ROW_CENTRES): one compiled program for all three.
    """
    of_seeds, of_rows = jax.random.split(key)
    places = jax.random.permutation(of_rows, x.shape[0])[:components]
    rows = x[jnp.resize(places, (components,))]
    centres = jnp.where(kind == ROW_CENTRES, rows, plus_plus(of_seeds, x, components))
    rounds = jnp.where(kind == LONG_RUN, ROUNDS, 0)
    centres = lax.fori_loop(0, rounds, lambda _, c: moved(x, c), centres)
    return jax.nn.one_hot(nearest(x, centres), components, dtype=x.dtype)


def prior_responsibilities(
    key: Key, x: Float[Array, "N d"], mixture: Mixture
) -> Float[Array, "N K"]:
    """p(c_i = k | x_i, theta) for one theta drawn from the prior."""
    theta = mixture.draw(key, mixture.prior(), ())
    logits = mixture.natural(theta) @ mixture.family.statistics(x.T)
    return jax.nn.softmax(logits, axis=0).T


def start_point(
    kind: Shaped[Array, ""], key: Key, mixture: Mixture, x: Array | None = None
) -> Factors:
    """Factors by an M-step after one kind of start; the prior where there are no rows.

    Args:
        kind: one of the KINDS.
        key: random key of the start.
        mixture: the mixture.
        x: rows (n, d) that represent all; by default `mixture.some()`.
    """
    if mixture.rows == 0:
        return mixture.prior()
    x = mixture.some() if x is None else x
    number = mixture.components
    phi = lax.switch(
        jnp.where(kind == RANDOM, 1, jnp.where(kind == PRIOR, 2, 0)),
        (
            lambda: centred_responsibilities(kind, key, x, number),
            lambda: random_responsibilities(key, x, number),
            lambda: prior_responsibilities(key, x, mixture),
        ),
    )
    return mixture.from_responsibilities(phi, x)


def sample_of(mixture: Mixture) -> Mixture:
    """The mixture on up to ROWS evenly spaced rows; itself where it has no more.

    Rows that are streamed are read into memory.
    """
    if mixture.rows <= ROWS and mixture.blocks.stream is None:
        return mixture
    return mixture.with_rows(mixture.some(ROWS))


def carried_over(mixture: Mixture, sample: Mixture, q: Factors) -> Factors:
    """Factors for all rows from a q that was found on a sample of them.

    They are given by the M-step for q's responsibilities of the sample, which
    represents all rows; q itself where the sample has them all.
    """
    if sample.rows == mixture.rows:
        return q
    return mixture.from_responsibilities(sample.responsibilities(q), sample.data())


def best_of_many(key: Key, mixture: Mixture, number: int) -> Factors:
    """The best `number` of POOL times as many starts (number, ...), best first.

    Starts are of all KINDS in turn, each followed by EARLY sweeps on up to ROWS rows:
    many short runs, of which only the best are continued (Biernacki, Celeux and Govaert
    2003). With one component, or without rows, there is nothing to choose from.
    """
    if mixture.components == 1 or mixture.rows == 0:
        only = start_point(jnp.asarray(SEEDS), key, mixture)
        same: Factors = jax.tree.map(lambda v: jnp.stack([v] * number), only)
        return same
    sample = sample_of(mixture)
    _, points, bound = _climbs(key, sample, POOL * number, 1)
    best = jnp.argsort(-bound, stable=True)[:number]
    chosen: Factors = jax.tree.map(lambda v: v[best], points)
    if sample is mixture:
        return chosen
    on_all: Factors = over_lanes(lambda q: carried_over(mixture, sample, q), chosen)
    return on_all


def split_and_merge(
    key: Key, mixture: Mixture, x: Float[Array, "n d"], q: Factors
) -> Factors:
    """A proposal from q that merges two components and splits another one.

    Ueda, Nakano, Ghahramani and Hinton (2000), who rank the moves; here they are drawn
    at random. A pair is merged with probability proportional to the cosine between its
    responsibilities, which counts as 1 if a component has less than half a row. Another
    component is split, with probability proportional to its rows, between two of them
    that are far apart. With two components the merged one is split.

    Args:
        key: random key of the move.
        mixture: a mixture with at least two components, and rows.
        x: rows (n, d) that represent all.
        q: an optimum.
    """
    of_pair, of_third, of_split = jax.random.split(key, 3)
    number = mixture.components
    logits = mixture.view(q).coefficients @ mixture.family.statistics(x.T)
    phi = jax.nn.softmax(logits, axis=0)
    into, freed = _similar(of_pair, phi, mixture.rows / len(x))
    phi = phi.at[into].add(phi[freed]).at[freed].set(0)
    size = jnp.sum(phi, axis=1)
    others = size if number == 2 else size.at[into].set(0)
    third = jax.random.categorical(of_third, jnp.log(others))
    leaving = jnp.where(_far_side(of_split, x, phi[third]), phi[third], 0)
    phi = phi.at[third].add(-leaving).at[freed].set(leaving)
    return mixture.from_responsibilities(phi.T, x)


def _similar(key: Key, phi: Float[Array, "K n"], each: float) -> tuple[Array, Array]:
    """Draw a pair of components to be merged; a row of phi represents `each` rows."""
    norm = jnp.linalg.norm(phi, axis=1)
    tiny = jnp.finfo(phi.dtype).tiny
    cosine = phi @ phi.T / jnp.maximum(norm[:, None] * norm[None], tiny)
    empty = each * jnp.sum(phi, axis=1) < 0.5
    alike = jnp.where(empty[:, None] | empty[None], 1.0, cosine)
    weights = jnp.triu(alike, 1) + jnp.triu(jnp.full_like(alike, tiny), 1)
    pair = jax.random.categorical(key, jnp.log(weights).ravel())
    return pair // len(phi), pair % len(phi)


def _far_side(key: Key, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> Array:
    """Which rows are nearer to the second of two k-means++ seeds of weighted rows."""
    first, second = jax.random.split(key)
    chosen = x[jax.random.categorical(first, jnp.log(weights))]
    near = jnp.sum((x - chosen[None]) ** 2, axis=1)
    tiny = jnp.finfo(x.dtype).tiny
    far = jax.random.categorical(second, jnp.log(weights * near + tiny))
    return jnp.sum((x - x[far][None]) ** 2, axis=1) < near


class Optima(NamedTuple):
    """End points of ascents from several starts, best first; leading axis (starts,).

    Attributes:
        points: factors at the optima, or where the iteration limit was reached.
        bound: their ELBOs, nats; -inf where it was not finite.
        distinct: whether it is the first end point of its optimum.
        origins: factors of each ascent after EARLY sweeps.
        kind: kind of the start, see `start_point`.
    """

    points: Factors
    bound: Float[Array, " starts"]
    distinct: Bool[Array, " starts"]
    origins: Factors
    kind: Int[Array, " starts"]


def find_optima(
    key: Key, mixture: Mixture, number: int = STARTS, parts: int = PARTS
) -> Optima:
    """The optima of the ELBO that ascents from all KINDS of starts reach.

    With more than ROWS rows the ascents use a sample of them. Only the best FEW, one of
    each optimum first, are then continued with all rows and returned.

    Args:
        key: random key of the starts.
        mixture: a mixture with rows.
        number: number of starts.
        parts: iteration limit of each ascent, in units of EARLY sweeps.
    """
    sample = sample_of(mixture)
    found = _climbs(key, sample, number, parts)
    optima = _ranked(*found, jnp.arange(number) % KINDS)
    if sample is mixture:
        return optima
    order = jnp.argsort(~optima.distinct, stable=True)[:FEW]
    several = jax.tree.map(lambda v: v[order], optima)
    onward = _climber(mixture, parts)

    def go_on(q: Factors) -> tuple[Factors, Factors, Array]:
        return onward(carried_over(mixture, sample, q))

    _, points, bound = over_lanes(go_on, several.points)
    origins = over_lanes(lambda q: carried_over(mixture, sample, q), several.origins)
    return _ranked(origins, points, bound, several.kind)


def _climbs(
    key: Key, mixture: Mixture, number: int, parts: int
) -> tuple[Factors, Factors, Float[Array, " number"]]:
    """Ascents from all kinds of starts in turn; see `_climber`."""
    x = mixture.data()
    climb = _climber(mixture, parts)

    def attempt(kind: Array, key: Key) -> tuple[Factors, Factors, Array]:
        return climb(start_point(kind, key, mixture, x))

    kinds = jnp.arange(number) % KINDS
    return over_lanes(attempt, kinds, jax.random.split(key, number))


def _climber(
    mixture: Mixture, parts: int
) -> Callable[[Factors], tuple[Factors, Factors, Float[Array, ""]]]:
    """An ascent from given factors, as a function.

    It returns the factors after EARLY sweeps, those after up to `parts` times as many,
    and the ELBO of the latter in nats, -inf where it is not finite.
    """
    onward = coordinate_ascent(mixture)
    tolerance = resolvable(TOLERANCE, mixture.log_base.dtype)

    def further(state: Ascent, _: None) -> tuple[Ascent, Factors]:
        state = onward(state, EARLY, tolerance)
        return state, state.point

    def climb(q: Factors) -> tuple[Factors, Factors, Float[Array, ""]]:
        start = begin(q, mixture.view(q), parts * EARLY)
        end, points = lax.scan(further, start, length=parts)
        finite = jnp.isfinite(end.bound)
        point = jax.tree.map(lambda a, b: jnp.where(finite, a, b), end.point, q)
        bound = jnp.where(finite, end.bound, -jnp.inf)
        return jax.tree.map(lambda v: v[0], points), point, bound

    return climb


def _ranked(origins: Factors, points: Factors, bound: Array, kind: Array) -> Optima:
    """Sort ascents by their ELBO, best first, and mark distinct optima."""
    order = jnp.argsort(-bound, stable=True)
    found = Optima(points, bound, jnp.isfinite(bound), origins, kind)
    ordered: Optima = jax.tree.map(lambda v: v[order], found)
    return ordered._replace(distinct=distinct(ordered.bound))


def distinct(bound: Float[Array, " n"]) -> Bool[Array, " n"]:
    """Whether each of descending bounds is the first of its optimum; never for -inf."""
    resolved = 16 * jnp.finfo(bound.dtype).eps * jnp.abs(bound[0])
    falls = bound[:-1] - bound[1:] > jnp.maximum(SAME_OPTIMUM, resolved)
    first = jnp.concatenate([jnp.ones(1, bool), falls])
    return first & jnp.isfinite(bound)


@remembered
def chains_start(chains: int) -> Stage:
    """The starting stage of Markov chains, whose compiled program methods share."""

    def start(key: Key, posterior: Posterior, _: Any) -> Parameters:
        return chain_starts(key, posterior, chains)

    return Stage("start", start)


def chain_starts(key: Key, posterior: Posterior, chains: int) -> Parameters:
    """Starting points for Markov chains (chains, ...), overdispersed.

    Of a mixture they come from a search for optima, see `mixture_starts`; of another
    model they are the posterior's own.
    """
    if isinstance(posterior, Mixture):
        return mixture_starts(key, posterior, chains)
    assert isinstance(posterior, Starts)
    return posterior.starts(key, chains)


def one_start(key: Key, posterior: Posterior) -> Parameters:
    """The starting point of a single chain."""
    found: Parameters = jax.tree.map(lambda v: v[0], chain_starts(key, posterior, 1))
    return found


def size_of(posterior: Posterior) -> int:
    """The number of unconstrained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(origin(posterior)))


def origin(posterior: Posterior) -> Parameters:
    """The unconstrained point at 0; only shapes are computed for it."""

    def anywhere() -> Parameters:
        if isinstance(posterior, Mixture):
            return posterior.unconstrain(posterior.centre(posterior.prior()))
        return posterior.unconstrain(one_start(jax.random.key(0), posterior))

    shapes = jax.eval_shape(anywhere)
    found: Parameters = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
    return found


def dispersed_start(key: Key, posterior: Posterior) -> Parameters:
    """An unconstrained point far from any optimum, from which a path can climb.

    Of a mixture it is drawn around the clusters of a short k-means run.
    """
    if not isinstance(posterior, Mixture):
        return posterior.unconstrain(one_start(key, posterior))
    place, own = jax.random.split(key)
    x = posterior.some()
    owner = nearest(x, k_means(place, x, posterior.components))
    phi = jax.nn.one_hot(owner, posterior.components, dtype=x.dtype)
    q = posterior.from_responsibilities(SHARE * phi, x)
    return posterior.unconstrain(posterior.draw(own, q, ()))


def mixture_starts(key: Key, mixture: Mixture, chains: int) -> Parameters:
    """Starting points of a mixture's chains (chains, ...), in its own coordinates.

    One chain starts at each distinct optimum within NEAR nats of the best, best first.
    The others start where an ascent to one of these optima was after EARLY sweeps from
    random responsibilities or a draw from the prior, or from another kind of start
    where there are too few of those. Such points are dispersed, yet do not lead to an
    optimum of negligible mass, which a chain would hardly leave. See Gelman and Rubin
    (1992), section 2.1, on starting points around the modes that a search has found.
    """
    if mixture.rows == 0:
        return mixture.draw(key, mixture.prior(), (chains,))
    of_search, of_order = jax.random.split(key)
    number = STARTS if mixture.components > 1 else 1
    found = find_optima(of_search, mixture, number)
    near = found.bound >= found.bound[0] - NEAR
    tops = jnp.argsort(~(found.distinct & near), stable=True)
    known = jnp.maximum(jnp.sum(found.distinct & near), 1)
    wide = (found.kind == RANDOM) | (found.kind == PRIOR)
    # random within each group: wide starts near the best, others near it, the rest
    place = jax.random.uniform(of_order, near.shape) + jnp.where(wide, 0, 1)
    outer = jnp.argsort(jnp.where(near, place, jnp.inf))
    rest = jnp.maximum(jnp.sum(near), 1)

    def start(chain: Array) -> Parameters:
        top = tops[jnp.minimum(chain, known - 1)]
        origin = outer[jnp.maximum(chain - known, 0) % rest]
        q = jax.tree.map(
            lambda a, b: jnp.where(chain < known, a[top], b[origin]),
            found.points,
            found.origins,
        )
        return mixture.centre(q)

    return over_lanes(start, jnp.arange(chains))
