"""Bounds on log p(X) from both sides, on data simulated from the model.

The parameters that simulated data came from are an exact draw from their posterior. So
annealed importance sampling from the prior gives a stochastic lower bound on log p(X),
and annealing back from that draw an upper one: bidirectional Monte Carlo (Grosse,
Ghahramani and Adams 2015, section 4).

The weight of the way back is an unbiased, positive estimate of 1 / p(X). By Markov's
inequality the upper bound is less than log p(X) - b with probability at most exp(-b),
however long or short the annealing is.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from vi_bench.errors import InputError
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.posterior.structure import Structure
from vi_bench.verification.model_problems import ModelProblem

CHAINS, RUNGS, LEAPS = 32, 300, 4

KEPT = 64
"""Structures that are kept, those used last."""


@dataclass(frozen=True)
class Sandwich:
    """Stochastic bounds on log p(X), nats.

    Attributes:
        lower: at most log p(X), on average.
        upper: at least log p(X), on average.
    """

    lower: float
    upper: float


@lru_cache(KEPT)
def sandwich(problem: ModelProblem) -> Sandwich | None:
    """Bounds on log p(X) of simulated data; None if they cannot be had."""
    if problem.truth is None:
        return None
    data = {**problem.data, **{n: jnp.asarray(v) for n, v in problem.arrays.items()}}
    try:
        posterior = _shared(NumPyroPosterior.of(problem.model, **data), problem)
    except InputError:  # a discrete variable that cannot be summed out
        return None
    if not posterior.proper:
        return None
    truth = {s.name: jnp.asarray(problem.truth[s.name]) for s in posterior.latent}
    key = jax.random.key(problem.seed)
    lower, upper = _annealed(posterior, truth, key)
    if not bool(jnp.isfinite(lower) & jnp.isfinite(upper)):
        return None
    return Sandwich(float(lower), float(upper))


_structures: dict[Hashable, Structure] = {}
"""Structures by what their problems have in common: with it they share a program."""


def _shared(posterior: NumPyroPosterior, problem: ModelProblem) -> NumPyroPosterior:
    """The posterior, with the structure of an earlier one like it."""
    own = tuple((v.shape, v.dtype.name) for v in posterior.data)
    key = (problem.alike, own)
    if problem.alike is None or len(own) != len(problem.arrays):
        return posterior
    structure = _structures.pop(key, posterior.structure)
    if len(_structures) >= KEPT:
        del _structures[next(iter(_structures))]
    _structures[key] = structure  # the last to go
    return replace(posterior, structure=structure)


@jax.jit
def _annealed(posterior: NumPyroPosterior, truth: Any, key: Any) -> tuple[Any, Any]:
    start = posterior.unconstrain(truth)
    flat, shaped = ravel_pytree(start)

    def parts(free: Any) -> tuple[Any, Any]:
        theta, log_jacobian = posterior.constrain(shaped(free))
        return posterior.log_prior(theta) + log_jacobian, posterior.log_likelihood(
            theta
        )

    # close to the prior the likelihood changes most
    rungs = jnp.linspace(0.0, 1.0, RUNGS + 1) ** 4
    kernel = blackjax.hmc.build_kernel()

    def moved(key: Any, free: Any, power: Any) -> Any:
        def density(free: Any) -> Any:
            log_prior, log_likelihood = parts(free)
            return log_prior + power * log_likelihood

        sizes, steps = jax.random.split(key)
        # of all sizes, as the posterior's is not known: any is a valid move
        size = jnp.exp(jax.random.uniform(sizes, (), flat.dtype, jnp.log(0.01), 0.0))
        state = blackjax.hmc.init(free, density)
        state, _ = kernel(steps, state, density, size, jnp.ones_like(flat), LEAPS)
        return state.position

    def prior(key: Any) -> Any:
        drawn = jax.tree.map(lambda v: v[0], posterior.draw_prior(key, 1))
        return ravel_pytree(posterior.unconstrain(drawn))[0]

    def weight(key: Any, begun: Any, schedule: Any) -> Any:
        def step(carry: Any, at: Any) -> Any:
            free, likelihood, total = carry
            key, power, before, after = at
            total += before * likelihood
            free = moved(key, free, power)
            likelihood = parts(free)[1]
            return (free, likelihood, total + after * likelihood), None

        first = (begun, parts(begun)[1], jnp.zeros((), flat.dtype))
        keys = jax.random.split(key, RUNGS)
        return jax.lax.scan(step, first, (keys, *schedule))[0][2]

    # up: weigh, then move; down: the reverse of that
    rises, none = jnp.diff(rungs), jnp.zeros(RUNGS)
    up = (rungs[1:], rises, none)
    down = (rungs[:0:-1], none, rises[::-1])
    drawing, moving = jax.random.split(key)
    begun = jax.vmap(prior)(jax.random.split(drawing, CHAINS))
    begun = jnp.concatenate([begun, jnp.broadcast_to(flat, begun.shape)])
    schedules = jax.tree.map(
        lambda u, d: jnp.repeat(jnp.stack([u, d]), CHAINS, axis=0), up, down
    )
    keys = jax.random.split(moving, 2 * CHAINS)
    log_weights = jax.vmap(weight)(keys, begun, schedules)
    number = jnp.log(float(CHAINS))
    lower = logsumexp(log_weights[:CHAINS]) - number
    return lower, number - logsumexp(-log_weights[CHAINS:])
