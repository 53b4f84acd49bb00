"""Run a whole method within one compiled program, for many data sets."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.contract import Draws, Method, Problem
from vi_bench.inference.stages import drive, prepare, traced
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.keys import Key, stream


class Truth(NamedTuple):
    """Parameters from the prior, and rows given them (*sims, N, d)."""

    theta: Parameters
    rows: Float[Array, "*sims N d"]


def simulate(template: Mixture, rows: int, key: Key) -> Truth:
    """One draw from the joint distribution p(theta) p(X | theta)."""
    of_theta, of_rows = jax.random.split(key)
    theta = template.draw(of_theta, template.prior(), ())
    x, _ = template.simulate(of_rows, rows, theta)
    return Truth(theta, x.astype(template.log_base.dtype))


def through(method: Method, mixture: Mixture, key: Key, draws: int) -> Draws:
    """Prepare a method and run all its stages, for one chain; traceable by JAX.

    Raises:
        NotApplicable: the method cannot work on this problem.
        jax.errors.JAXTypeError: it needs the data on the host.
    """
    stages = prepare(method, Problem(mixture, 1, draws), key)
    found: Draws = drive(stages, key, mixture, traced)
    return found


def keys_of(seed: int, name: str, indices: Array) -> Key:
    """A key for each simulation, from the seed, a name and the simulation's index."""
    base = stream(jax.random.key(seed), name)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(jnp.asarray(indices))
