"""Log densities at a method's draws, and co-clustering, for the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.contract import Draws
from vi_bench.data.table import spaced
from vi_bench.mixture.blocks import everywhere, pick
from vi_bench.mixture.mixture import Mixture
from vi_bench.mixture.symmetry import log_symmetric, symmetric
from vi_bench.mixture.types import Parameters
from vi_bench.runtime.lanes import beside, can_share

ROWS = 300
"""Evenly spaced rows for which log densities and co-clustering are computed."""

TOGETHER = 64
"""Batch size, in draws, of the computation of those log densities."""

WORK = 2e10
"""Number of terms log p(x_i, c_i = k | theta), over all draws, beyond which log joints
are left out: about a minute on one core."""

ENOUGH, FEWEST = 2e9, 400
"""Number of those terms beyond which log joints of draws of a q are those of evenly
spaced draws, and the fewest such draws: what rests on them are means over independent
draws, whose errors are known, and k-hat; on more rows they would take longer than the
fit."""


class Variational(Protocol):
    """A method that can evaluate the density of the q that its draws come from."""

    def log_q(
        self, mixture: Mixture, draws: Draws, theta: Parameters
    ) -> Float[Array, ""]:
        """Log q(theta)."""


class Evaluation(NamedTuple):
    """Densities at each draw, in nats, and co-clustering probabilities.

    Attributes:
        log_joint: log p(X, theta) of `evaluated` draws (chain, n); None where that is
            over WORK terms.
        log_likelihood: log p(x_i | theta) of `rows` (chain, draw, n).
        similarity: P(c_i = c_j) by chain, of `rows` (chain, n, n); None where K = 1.
        rows: indices of these rows (n,).
        held_out: log p(x | theta) of held-out rows (chain, draw, m).
        log_q_symmetric: log of q averaged over label permutations (chain, draw); None
            where q's density is not known or the prior is not symmetric.
        evaluated: indices of the draws of each chain whose log joints are known (n,).
        made: what the model makes of each draw, by name (chain, draw, ...).
    """

    log_joint: np.ndarray | None
    log_likelihood: np.ndarray
    similarity: np.ndarray | None
    rows: np.ndarray
    held_out: np.ndarray
    log_q_symmetric: np.ndarray | None
    evaluated: np.ndarray
    made: Mapping[str, np.ndarray] = MappingProxyType({})


def evaluate(
    mixture: Mixture, draws: Draws, held_out: np.ndarray, method: Variational | None
) -> Evaluation:
    """Evaluate log densities at a method's draws.

    Args:
        mixture: the mixture.
        draws: draws of its parameters, centred as the data are.
        held_out: held-out rows (m, d), centred likewise.
        method: the method, where it can evaluate its q, else None; compared by value,
            so that equal settings share a compiled program.
    """
    chains, number = next(iter(draws.parameters.values())).shape[:2]
    terms = mixture.rows * mixture.components
    few = number
    if draws.log_q is not None:
        few = int(np.ceil(max(ENOUGH / max(terms, 1), FEWEST) / chains))
    at = spaced(number, few)
    jointly = chains * len(at) * terms <= WORK
    evaluated = len(at) if jointly else 0
    averaged = method if symmetric(mixture) else None
    held = jnp.asarray(held_out, mixture.log_base.dtype)
    found = _by_chain(mixture, draws, held, averaged, evaluated)
    log_joint, densities, similarity, *rest = (np.asarray(v, float) for v in found)
    rows = spaced(mixture.rows, ROWS)
    n = len(rows)
    return Evaluation(
        log_joint if jointly else None,
        densities[..., :n],
        similarity if mixture.components > 1 else None,
        rows,
        densities[..., n:],
        rest[0] if rest else None,
        at,
    )


def _by_chain(
    mixture: Mixture,
    draws: Draws,
    held: Array,
    method: Variational | None,
    evaluated: int,
) -> Sequence[Any]:
    """`_evaluated`, chain by chain on the cores of a CPU."""
    chains = len(next(iter(draws.parameters.values())))
    if chains == 1 or not can_share(mixture):
        alone: tuple[Array, ...] = _evaluated(mixture, draws, held, method, evaluated)
        return alone
    host = jax.tree.map(np.asarray, draws.parameters)
    own = [
        draws._replace(parameters={k: v[i : i + 1] for k, v in host.items()})
        for i in range(chains)
    ]
    program = _evaluated.lower(mixture, own[0], held, method, evaluated).compile()
    found = beside(lambda of: jax.block_until_ready(program(mixture, of, held)), own)
    return [
        np.concatenate([np.asarray(v) for v in of]) for of in zip(*found, strict=True)
    ]


@partial(jax.jit, static_argnames=("method", "evaluated"))
def _evaluated(
    mixture: Mixture,
    draws: Draws,
    held: Array,
    method: Variational | None,
    evaluated: int,
) -> tuple[Array, ...]:
    """Log joints, log densities, similarity and, given a method, symmetrised log q.

    Log joints are of so many draws of each chain, evenly spaced.
    """
    theta = draws.parameters
    shape = next(iter(theta.values())).shape[:2]
    chosen = pick(mixture.blocks, spaced(mixture.rows, ROWS))
    points = jnp.concatenate([chosen, held.T], axis=1)
    statistics, base = (
        mixture.family.statistics(points),
        mixture.family.log_base(points),
    )

    def of_points(theta: Parameters) -> tuple[Array, Array]:
        terms = mixture.natural(theta) @ statistics
        most = jnp.max(terms, axis=0)
        shares = jnp.exp(terms - most[None])
        total = jnp.sum(shares, axis=0)
        members = (shares / total[None])[:, : chosen.shape[1]]
        # they are averaged over draws: single precision is enough
        return base + most + jnp.log(total), members.astype(jnp.float32)

    every = {name: v.reshape(-1, *v.shape[2:]) for name, v in theta.items()}
    densities, members = jax.lax.map(of_points, every, batch_size=TOGETHER)
    joints, rest = jnp.zeros((shape[0], 0)), []
    if evaluated:
        at = spaced(shape[1], evaluated)
        some = {k: v[:, at].reshape(-1, *v.shape[2:]) for k, v in theta.items()}
        joints = jax.lax.map(mixture.log_joint, some).reshape(shape[0], -1)
    if method is not None:
        own = partial(method.log_q, mixture, draws)
        known = jax.lax.map(lambda theta: log_symmetric(mixture, own, theta), every)
        rest = [known.reshape(shape)]
    members = members.reshape(shape[0], -1, chosen.shape[1])
    similarity = jnp.einsum("csi,csj->cij", members, members) / shape[1]
    by_row = densities.reshape(*shape, *densities.shape[1:])
    found = (joints, by_row, similarity, *rest)
    if (mesh := mixture.blocks.mesh) is not None:
        found = jax.lax.with_sharding_constraint(found, everywhere(mesh))
    return found


def best_draw(
    theta: Parameters, log_joint: np.ndarray, chains: Sequence[int]
) -> Parameters:
    """The draw of theta with the highest log joint among these chains."""
    chosen = log_joint[list(chains)]
    chain, draw = np.unravel_index(np.argmax(chosen), chosen.shape)
    at = list(chains)[int(chain)]
    return {name: v[at, int(draw)] for name, v in theta.items()}
