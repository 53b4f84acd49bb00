"""Message passing along a hidden path: the forward-backward algorithm.

p(z) is proportional to exp(initial[z_0] + sum_t transition[z_{t-1}, z_t] + sum_t
emission[t, z_t]), where the arguments are any real numbers: log probabilities, or, in a
mean-field ascent, their expectations under q (Rabiner 1989, section III; Beal 2003,
section 3.4). O(T K^2) for a path in one block.

A long path is cut into blocks that are swept side by side, so that a step works on many
numbers: first the product of the steps of every block, then the values at their ends,
then both passes within all blocks. That multiplies matrices, and costs a factor K more
arithmetic for one of three passes. Numbers are scaled in every step; where all paths
underflow in spite of that, everything is done again in logarithms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

SHORTEST, LANES = 32, 256
"""Steps of a block at least, and the number of blocks at most."""

FEW = 12
"""States up to which sums are written out in place of matrix products."""


class Path(NamedTuple):
    """The distribution of a hidden path.

    Attributes:
        log_normaliser: log of the sum over all paths.
        marginals: p(z_t = k) (T, K).
        moves: expected number of steps from each state to each (K, K).
    """

    log_normaliser: Float[Array, ""]
    marginals: Float[Array, "T K"]
    moves: Float[Array, "K K"]


def forward_backward(
    initial: Float[Array, " K"],
    transition: Float[Array, "K K"],
    emission: Float[Array, "T K"],
) -> Path:
    """The distribution of a path of T >= 1 states, by sums over all K^T paths.

    Args:
        initial: log weight of each first state.
        transition: log weight of each step, from the row's state to the column's.
        emission: log weight of each state at each time.
    """
    fast, sound = _in_blocks(initial, transition, emission)
    found: Path = lax.cond(
        sound,
        lambda: fast,
        lambda: _in_logarithms(initial, transition, emission),
    )
    return found


class Hidden(NamedTuple):
    """The factor of a path in a mean-field q.

    Attributes:
        marginals: q(z_t = k) (T, K).
        moves: expected number of steps from each state to each (K, K).
        entropy: that of the path, nats.
    """

    marginals: Float[Array, "T K"]
    moves: Float[Array, "K K"]
    entropy: Float[Array, ""]


def hidden(
    initial: Float[Array, " K"],
    transition: Float[Array, "K K"],
    emission: Float[Array, "T K"],
) -> Hidden:
    """The optimal factor of a path, given the expectations of its log weights."""
    path = forward_backward(initial, transition, emission)
    # a dot product is vectorised, a sum of so many products is not
    weight = jnp.vdot(path.marginals, emission) + jnp.sum(path.moves * transition)
    weight += jnp.sum(path.marginals[0] * initial)
    return Hidden(path.marginals, path.moves, path.log_normaliser - weight)


def log_normaliser(
    initial: Float[Array, " K"],
    transition: Float[Array, "K K"],
    emission: Float[Array, "T K"],
) -> Float[Array, ""]:
    """Log of the sum over all paths, whose derivatives are the expectations."""
    found: Array = _log_sum(initial, transition, emission)
    return found


@jax.custom_vjp
def _log_sum(initial: Array, transition: Array, emission: Array) -> Array:
    return forward_backward(initial, transition, emission).log_normaliser


def _log_sum_forward(
    initial: Array, transition: Array, emission: Array
) -> tuple[Array, tuple[Array, Array]]:
    path = forward_backward(initial, transition, emission)
    return path.log_normaliser, (path.marginals, path.moves)


def _log_sum_backward(
    kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array, Array]:
    marginals, moves = kept
    return slope * marginals[0], slope * moves, slope * marginals


_log_sum.defvjp(_log_sum_forward, _log_sum_backward)


class _Steps(NamedTuple):
    """The steps of all blocks, scaled.

    Attributes:
        weight: weights of the moves, the largest 1 (K, K).
        start: weights of the first states, the largest 1 (K,).
        own: weights of the states at each time, the largest 1 (L, K, B).
        first: whether a time is the first one (L, B).
        over: whether it lies after the last one (L, B).
        scale: log of what was divided by.
    """

    weight: Float[Array, "K K"]
    start: Float[Array, " K"]
    own: Float[Array, "L K B"]
    first: Bool[Array, "L B"]
    over: Bool[Array, "L B"]
    scale: Float[Array, ""]


def _steps(initial: Array, transition: Array, emission: Array) -> _Steps:
    """Cut a path into blocks; what lies after the end stands still."""
    steps, states = emission.shape
    lanes = max(1, min(LANES, steps // SHORTEST))
    length = -(-steps // lanes)
    cut = jnp.pad(emission, ((0, lanes * length - steps), (0, 0)))
    cut = cut.reshape(lanes, length, states).transpose(1, 2, 0)
    largest = _largest(cut, 1)
    time = jnp.arange(lanes * length).reshape(lanes, length).T
    top, peak = _largest(initial, 0), _largest(transition, (0, 1))
    return _Steps(
        jnp.exp(transition - peak),
        jnp.exp(initial - top),
        jnp.exp(cut - largest[:, None]),
        time == 0,
        time >= steps,
        jnp.sum(largest) + top + (steps - 1) * peak,
    )


def _times(vector: Array, matrix: Array) -> Array:
    """Vectors (..., K, B) times a matrix (K, K), along the states."""
    if len(matrix) <= FEW:  # a matrix product takes longer than these sums
        return jnp.sum(vector[..., :, None, :] * matrix[:, :, None], axis=-3)
    return jnp.einsum("...ib,ij->...jb", vector, matrix)


def _scaled(vector: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """A vector over its largest element, and that."""
    size = _largest(vector, axes, keepdims=True)
    return vector / size, size


def _largest(values: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Any:
    """The largest value, as a constant: what values are scaled by changes no result.

    The derivative of a maximum would be NaN in programs where XLA computes the values
    twice, rounded differently, as then none of them equals the largest.
    """
    return lax.stop_gradient(jnp.max(values, axis=axes, keepdims=keepdims))


def _ends(steps: _Steps) -> tuple[Array, Array]:
    """Weights before the first and after the last step of every block (K, B)."""
    states, lanes = steps.own.shape[1:]
    ones = jnp.ones(states, steps.own.dtype)
    if lanes == 1:
        return ones[:, None] / states, ones[:, None]

    def multiplied(matrix: Array, now: tuple[Array, ...]) -> tuple[Array, None]:
        return _scaled(_onward(steps, matrix, now), (0, 1))[0], None

    def along(vector: Array, matrix: Array) -> tuple[Array, Array]:
        return _scaled(vector @ matrix, (0,))[0], vector

    def back(vector: Array, matrix: Array) -> tuple[Array, Array]:
        return _scaled(matrix @ vector, (0,))[0], vector

    unit = jnp.eye(states, dtype=ones.dtype)[..., None]
    unit = jnp.broadcast_to(unit, (states, states, lanes))
    whole, _ = lax.scan(multiplied, unit, (steps.own, steps.first, steps.over))
    whole = jnp.moveaxis(whole, -1, 0)
    entering = lax.scan(along, ones / states, whole)[1]
    leaving = lax.scan(back, ones, whole, reverse=True)[1]
    return entering.T, leaving.T


def _onward(steps: _Steps, vector: Array, now: tuple[Array, ...]) -> Array:
    """One step of (..., K, B); the first one forgets where it comes from."""
    own, first, over = now
    total = jnp.sum(vector, axis=-2, keepdims=True)
    moved = _times(vector, steps.weight)
    begun = steps.start[:, None] * total
    return jnp.where(over, vector, jnp.where(first, begun, moved) * own)


def _in_blocks(
    initial: Array, transition: Array, emission: Array
) -> tuple[Path, Bool[Array, ""]]:
    """Both passes within all blocks, and whether no sum over all paths underflowed.

    The second pass sums up what follows from both while it is in cache.
    """
    steps = _steps(initial, transition, emission)
    entering, leaving = _ends(steps)

    def forward(vector: Array, now: tuple[Array, ...]) -> tuple[Array, Any]:
        new, size = _scaled(_onward(steps, vector, now), (0,))
        return new, (new, size[0])

    def backward(sums: tuple[Array, ...], now: tuple[Array, ...]) -> Any:
        vector, moves, least = sums
        own, first, over, alpha, before, size = now
        both, ahead = alpha * vector, own * vector
        each = jnp.sum(both, axis=0)
        share = 1 / each
        # the first state comes from nowhere
        rest = ahead * jnp.where(first | over, 0.0, share / size)
        moves = moves + before[:, None] * rest
        moved = _times(ahead, steps.weight.T)
        begun = jnp.broadcast_to(jnp.sum(steps.start[:, None] * ahead, 0), moved.shape)
        new = jnp.where(over, vector, jnp.where(first, begun, moved))
        new, least = _scaled(new, (0,))[0], jnp.minimum(least, each)
        # in cache, states are cheaply put last
        return (new, moves, least), (both * share).T

    inputs = (steps.own, steps.first, steps.over)
    last, (alpha, size) = lax.scan(forward, entering, inputs)
    before = jnp.concatenate([entering[None], alpha[:-1]])
    states, lanes = entering.shape
    none = jnp.zeros((states, states, lanes), alpha.dtype)
    start = leaving, none, jnp.ones(lanes, alpha.dtype)
    both = (*inputs, alpha, before, size)
    (_, moves, least), marginals = lax.scan(backward, start, both, reverse=True)
    moves = steps.weight * jnp.sum(moves, axis=2)
    marginals = marginals.swapaxes(0, 1).reshape(-1, states)[: len(emission)]
    logs = jnp.sum(jnp.where(steps.over, 0.0, jnp.log(size)))
    total = steps.scale + logs + jnp.log(jnp.sum(last[:, -1]))
    sound = jnp.isfinite(total) & jnp.all(jnp.isfinite(moves)) & jnp.all(least > 0)
    return Path(total, marginals, moves), sound


def _in_logarithms(initial: Array, transition: Array, emission: Array) -> Path:
    """The same in logarithms, step by step: slower, and nothing underflows."""

    def forward(log_alpha: Array, own: Array) -> tuple[Array, Array]:
        moved = jax.nn.logsumexp(log_alpha[:, None] + transition, axis=0)
        return moved + own, log_alpha

    def backward(log_beta: Array, own: Array) -> tuple[Array, Array]:
        ahead = own + log_beta
        return jax.nn.logsumexp(transition + ahead, axis=1), log_beta

    last, alphas = lax.scan(forward, initial + emission[0], emission[1:])
    alphas = jnp.concatenate([alphas, last[None]])
    first, betas = lax.scan(backward, jnp.zeros_like(last), emission[1:], reverse=True)
    betas = jnp.concatenate([first[None], betas])
    total = jax.nn.logsumexp(last)
    ahead = emission + betas

    def moved(so_far: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        before, after = pair
        return so_far + jnp.exp(before[:, None] + transition + after - total), None

    none = jnp.zeros_like(transition)
    moves, _ = lax.scan(moved, none, (alphas[:-1], ahead[1:]))
    return Path(total, jnp.exp(alphas + betas - total), moves)
