"""The pass over a block as one GPU kernel: no (K, B) array leaves its registers.

XLA makes four kernels of it, a matrix product, the largest logit, the exponentials and
another product, and the memory traffic between them costs more than all of its
arithmetic (docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from vi_bench.runtime.environment import backend

THREADS = 128
"""Threads of one program of the kernel: four warps of 32."""

REGISTERS = 72
"""32-bit registers of a thread that hold its share of the sums; more would spill."""

SMALLEST, LARGEST = 32, 128
"""Smallest and largest number of rows that a program processes at once."""

PROGRAMS, STEPS = 4096, 4
"""Largest number of programs, and the fewest steps over rows for each of them."""


def tile_rows(components: int, statistics: int, dtype: Any) -> int:
    """The number of rows a program processes at once: a power of 2; 0 if none fit."""
    words = jnp.dtype(dtype).itemsize // 4
    sums = statistics * pl.next_power_of_2(components) * words
    fit = REGISTERS * THREADS // sums
    return 0 if fit < SMALLEST else min(1 << (fit.bit_length() - 1), LARGEST)


def fits(components: int, statistics: int, dtype: Any) -> bool:
    """Whether the backend is a GPU, and the sums fit into its registers."""
    return backend() == "gpu" and tile_rows(components, statistics, dtype) > 0


def softmax_product(
    coefficients: Float[Array, "K P"], t: Float[Array, "P B"]
) -> tuple[Float[Array, ""], Float[Array, "K P"]]:
    """``sum_b logsumexp_k l_kb`` and ``softmax(l) t^T``, where ``l = M t``.

    On a CPU JAX interprets the kernel, which is slow and meant for tests.

    Args:
        coefficients: M (K, P), for which `tile_rows` is not 0.
        t: sufficient statistics, features first.
    """
    (components, terms), rows = coefficients.shape, t.shape[1]
    dtype, tile = t.dtype, tile_rows(components, terms, t.dtype)
    programs = max(1, min(PROGRAMS, rows // (tile * STEPS)))
    steps = pl.cdiv(rows, tile * programs)
    width = max(pl.next_power_of_2(components), 2)
    columns = jnp.pad(coefficients, ((0, width - components), (0, 0))).T
    t = jnp.pad(t, ((0, 0), (0, steps * programs * tile - rows)))

    def kernel(t_ref: Any, m_ref: Any, value_ref: Any, sums_ref: Any) -> None:
        program = pl.program_id(0)
        columns = [m_ref[p, :][:, None] for p in range(terms)]
        real = (jnp.arange(width) < components)[:, None]

        def body(step: Any, so_far: Any) -> Any:
            value, sums = so_far
            first = (step * programs + program) * tile
            rows_of_t = [t_ref[p, pl.ds(first, tile)] for p in range(terms)]
            logits = columns[0] * rows_of_t[0][None, :]
            for column, row in zip(columns[1:], rows_of_t[1:], strict=True):
                logits = logits + column * row[None, :]
            logits = jnp.where(real, logits, -jnp.inf)
            top = jnp.max(logits, axis=0)
            r = jnp.exp(logits - top[None, :])
            total = jnp.sum(r, axis=0)
            r = r * (1 / total)[None, :]
            there = first + jnp.arange(tile) < rows
            value = value + jnp.where(there, top + jnp.log(total), 0)
            return value, [
                s + r * row[None, :] for s, row in zip(sums, rows_of_t, strict=True)
            ]

        none = jnp.zeros((tile,), dtype), [jnp.zeros((width, tile), dtype)] * terms
        value, sums = lax.fori_loop(0, steps, body, none)
        value_ref[program] = jnp.sum(value)
        for p, s in enumerate(sums):
            sums_ref[program, p, :] = jnp.sum(s, axis=1)

    values, sums = pl.pallas_call(
        kernel,
        grid=(programs,),
        out_shape=[
            jax.ShapeDtypeStruct((programs,), dtype),
            jax.ShapeDtypeStruct((programs, terms, width), dtype),
        ],
        interpret=backend() == "cpu",
        **_of_triton(),
    )(t, columns)
    return jnp.sum(values), jnp.sum(sums, axis=0).T[:components]


def _of_triton() -> dict[str, Any]:
    if backend() == "cpu":
        return {}
    from jax.experimental.pallas import triton

    warps = THREADS // 32
    return {"compiler_params": triton.CompilerParams(num_warps=warps, num_stages=1)}
