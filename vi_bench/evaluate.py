"""What a comparison needs to know of draws, and only the mixture can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vi_bench.blocks import everywhere, pick
from vi_bench.contract import Parameters
from vi_bench.iterate import ascend, begin, resolvable
from vi_bench.mixture import Factors, Mixture
from vi_bench.symmetry import log_symmetric, symmetric
from vi_bench.table import spaced

ROWS = 300
"""Rows, evenly spaced, whose log densities and co-clustering are held for all draws."""

WORK = 2e10
"""Terms log p(x_i, c_i = k | theta), over all draws, beyond which their log joints are
left out: some minute on one core."""

LogQ = Callable[[Parameters], Float[Array, ""]]


class Evaluation(NamedTuple):
    """What is known of draws beside their values; leading axes (chain, draw).

    Attributes:
        log_joint: log p(X, theta); None where that would be over WORK terms.
        log_likelihood: log p(x_i | theta) of `rows` (chain, draw, n).
        similarity: P(c_i = c_j) by chain, of `rows` (chain, n, n); None where K = 1.
        rows: which rows those are (n,).
        held_out: log p(x | theta) of rows that were set aside (chain, draw, m).
        log_q_symmetric: log of q averaged over label permutations, where that is known.
    """

    log_joint: np.ndarray | None
    log_likelihood: np.ndarray
    similarity: np.ndarray | None
    rows: np.ndarray
    held_out: np.ndarray
    log_q_symmetric: np.ndarray | None


def evaluate(
    mixture: Mixture, theta: Parameters, held_out: np.ndarray, log_q: LogQ | None
) -> Evaluation:
    """Evaluate draws.

    Args:
        mixture: the mixture.
        theta: draws, each (chain, draw, *dims), centred as the data are.
        held_out: rows that were set aside (m, d), centred likewise.
        log_q: log density of q at a theta, or None.
    """
    rows = spaced(mixture.rows, ROWS)
    shape = next(iter(theta.values())).shape[:2]
    averaged = log_q if log_q is not None and symmetric(mixture) else None
    jointly = shape[0] * shape[1] * mixture.rows * mixture.components <= WORK

    def work(mixture: Mixture, theta: Parameters, held: Array) -> Any:
        chosen = pick(mixture.blocks, rows)
        points = jnp.concatenate([chosen.T, held])
        of_rows = mixture.family.statistics(chosen)

        def one(theta: Parameters) -> tuple[Array, ...]:
            members = jax.nn.softmax(mixture.natural(theta) @ of_rows, axis=0)
            joint = mixture.log_joint(theta) if jointly else jnp.zeros(())
            found = (joint, mixture.log_density(theta, points), members)
            if averaged is None:
                return found
            return (*found, log_symmetric(mixture, averaged, theta))

        flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), theta)
        log_joint, densities, members, *rest = jax.lax.map(one, flat)
        members = members.reshape(shape[0], -1, len(rows))
        similarity = jnp.einsum("csi,csj->cij", members, members) / shape[1]
        per_draw = [v.reshape(*shape, *v.shape[1:]) for v in (log_joint, densities)]
        return (*per_draw, similarity, *(v.reshape(shape) for v in rest))

    held = jnp.asarray(held_out, mixture.log_base.dtype)
    mesh = mixture.blocks.mesh
    program = jax.jit(work, out_shardings=mesh and everywhere(mesh))
    found = program(mixture, theta, held)
    log_joint, densities, similarity, *rest = (np.asarray(v, float) for v in found)
    n = len(rows)
    return Evaluation(
        log_joint if jointly else None,
        densities[..., :n],
        similarity if mixture.components > 1 else None,
        rows,
        densities[..., n:],
        rest[0] if rest else None,
    )


def bound_from(mixture: Mixture, theta: Parameters, most: int = 2000) -> float:
    """The ELBO of the optimum that coordinate ascent reaches from one theta.

    It stands for the evidence of the mode that theta sits in: the optima of one
    posterior are alike in what mean field hides.
    """

    def climb(mixture: Mixture, theta: Parameters) -> Array:
        q = mixture.from_coefficients(mixture.natural(theta))
        total = mixture.total()

        def sweep(point: Factors, view: Any) -> Any:
            return mixture.evaluate(point, view, total)

        start = begin(q, mixture.view(q), most)
        tolerance = resolvable(1e-8, total.dtype)
        mean = total / max(mixture.rows, 1)
        return ascend(sweep, start, most, tolerance, True, mean).bound

    return float(jax.jit(climb)(mixture, theta))


def best_draw(
    theta: Parameters, log_joint: np.ndarray, chains: Sequence[int]
) -> Parameters:
    """The theta of the highest log joint among some chains."""
    chosen = log_joint[list(chains)]
    chain, draw = np.unravel_index(np.argmax(chosen), chosen.shape)
    at = list(chains)[int(chain)]
    return {name: v[at, int(draw)] for name, v in theta.items()}
