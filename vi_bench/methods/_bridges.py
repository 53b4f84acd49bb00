"""The evidence from the swaps of `tempered`, by bridges along its ladder."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from vi_bench.methods._particles import widened
from vi_bench.mixture.conjugate import namespace

TOGETHER = 4
"""Calls of the sampling stage in one batch for the error of the evidence."""


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


def no_tally(shape: tuple[int, ...], pairs: int, dtype: Any) -> Tally:
    """The sums over no sweeps."""
    nothing = jnp.zeros((*shape, pairs), dtype)
    nowhere = jnp.full((*shape, pairs), -jnp.inf, dtype)
    return Tally(nowhere, nowhere, nothing, nothing, jnp.zeros(shape, dtype))


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
