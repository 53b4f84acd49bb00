"""Rows of data cut into blocks, in memory, on several devices or in their file."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from vi_bench.data.rows import PIECE, Rows, take
from vi_bench.data.table import spaced
from vi_bench.errors import NotApplicable
from vi_bench.runtime.environment import backend

CACHE = 2**17
"""Bytes of (K, block) logits that stay in a core's cache, with what goes with them."""

FEWEST, MOST = 256, 2048
"""Smallest and largest number of rows of a block on a CPU."""

SMALL, STRIP = 36, 2**11
"""Largest K P for which a pass on a CPU is faster without matrix products, and the
bytes of one number per row of a block that are fastest then."""

WIDE, ROOM = 2**20, 2**27
"""Largest number of rows of a block on an accelerator, which fill it, and the largest
size in bytes of its (K, block) logits."""


class Stream:
    """Blocks that stay in their file and are read when needed, one chunk ahead.

    Attributes:
        size: number of rows of a block, B.
        together: number of blocks of a chunk, which a sweep reads at once.
        chunks: number of whole chunks; fewer blocks than a chunk are left over.
        blocks: number of whole blocks, those left over included.
    """

    def __init__(
        self, rows: Rows, size: int, dtype: Any, centre: np.ndarray | float = 0.0
    ) -> None:
        total, self.features = rows.shape
        self.rows, self.size, self.dtype = rows, size, np.dtype(dtype)
        self.centre = np.broadcast_to(centre, self.features)
        bytes_of_block = size * self.features * self.dtype.itemsize
        self.together = max(1, PIECE // bytes_of_block)
        self.blocks = total // size
        self.chunks = self.blocks // self.together
        self._reader = ThreadPoolExecutor(1, "read ahead")
        self._ahead: dict[int, Future[np.ndarray]] = {}

    def read(self, first: int, count: int) -> Float[np.ndarray, "count d B"]:
        """Read `count` blocks from number `first` on."""
        return cut(self.rows, first, count, self.size, self.dtype, self.centre)

    def chunk(self, index: Any) -> Float[np.ndarray, "together d B"]:
        """The blocks of a chunk; the one after it is read meanwhile."""
        at = int(index)
        waiting = self._ahead.pop(at, None)
        found = self._read(at) if waiting is None else waiting.result()
        following = (at + 1) % self.chunks
        self._ahead = {following: self._reader.submit(self._read, following)}
        return found

    def _read(self, index: int) -> np.ndarray:
        return self.read(index * self.together, self.together)

    def take(self, places: np.ndarray) -> Float[np.ndarray, "d n"]:
        """The rows at ascending indices, features first."""
        return np.asarray((take(self.rows, places) - self.centre).T, self.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blocks:
    """Rows of data, features first, cut into equal blocks and a tail.

    Attributes:
        body: the blocks (blocks, d, B); with a mesh, equally many on each device; with
            a stream, only those that fill no chunk.
        tail: the remaining rows (d, r), on every device.
        mesh: the devices that share the body, along their one axis; or None.
        stream: the blocks that are not in memory; or None.
    """

    body: Any  # a node of a pytree: JAX puts its descriptions of arrays here, too
    tail: Any
    mesh: Mesh | None = field(default=None, metadata={"static": True})
    stream: Stream | None = field(default=None, metadata={"static": True})

    @property
    def rows(self) -> int:
        """The number of rows, N."""
        blocks, _, size = self.body.shape
        if self.stream is not None:
            blocks += self.stream.chunks * self.stream.together
        return int(blocks * size + self.tail.shape[1])


def small(components: int, statistics: int) -> bool:
    """Whether a pass with so many components and statistics avoids matrix products."""
    return backend() == "cpu" and components * statistics <= SMALL


def block_rows(components: int, statistics: int, dtype: Any) -> int:
    """The number of rows of a block, a power of 2, by backend, K, P and precision."""
    size = jnp.dtype(dtype).itemsize
    if backend() != "cpu":
        fit = max(1, ROOM // (components * int(size)))
        return min(WIDE, int(2 ** (fit.bit_length() - 1)))
    if small(components, statistics):
        return STRIP // int(size)
    fit = CACHE // (components * size)
    return int(np.clip(2 ** (max(fit, 1).bit_length() - 1), FEWEST, MOST))


def cut(
    rows: Rows,
    first: int,
    count: int,
    size: int,
    dtype: Any,
    centre: np.ndarray | float = 0.0,
) -> Float[np.ndarray, "count d B"]:
    """`count` blocks of `size` rows minus their centre, from block `first` on.

    Beside the blocks only one piece of the rows is held in memory, and JAX uses the
    blocks without a copy, as their memory is aligned.
    """
    features = rows.shape[1]
    middle = np.broadcast_to(centre, features)
    blocks = _aligned((count, features, size), dtype)
    step = max(1, PIECE // (size * features * np.dtype(rows.dtype).itemsize))
    for start in range(0, count, step):
        stop = min(start + step, count)
        piece = np.asarray(rows[(first + start) * size : (first + stop) * size])
        if piece.dtype.kind != "f":
            piece = piece.astype(np.float64)
        piece = piece.reshape(stop - start, size, features)
        for j in range(features):
            np.subtract(
                piece[:, :, j],
                float(middle[j]),
                out=blocks[start:stop, j],
                dtype=np.result_type(piece.dtype, blocks.dtype),
                casting="same_kind",
            )
    return blocks


def _aligned(shape: tuple[int, ...], dtype: Any, to: int = 64) -> np.ndarray:
    length = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(length + to, np.uint8)
    begin = -raw.ctypes.data % to
    return np.asarray(raw[begin : begin + length].view(dtype).reshape(shape))


def to_blocks(
    rows: Rows | Array,
    dtype: Any,
    size: int = FEWEST,
    mesh: Mesh | None = None,
    centre: np.ndarray | float = 0.0,
    stream: bool = False,
) -> Blocks:
    """Cut (N, d) rows, minus their centre, into blocks of `size`.

    The tail needs no padding and no mask.

    Args:
        rows: rows (N, d), which may be traced.
        dtype: type of the blocks.
        size: number of rows of a block, B.
        mesh: devices along one axis; each gets its share of the blocks.
        centre: what is subtracted from each feature (d,).
        stream: leave whole chunks of blocks in their file.
    """
    total, features = rows.shape
    full = total // size
    if isinstance(rows, jax.Array):
        moved = jnp.asarray(rows - centre, dtype)
        body = moved[: full * size].reshape(full, size, features).transpose(0, 2, 1)
        return Blocks(body, moved[full * size :].T)
    source = Stream(rows, size, dtype, centre) if stream else None
    if source is not None and not source.chunks:
        source = None
    first = source.chunks * source.together if source is not None else 0
    if mesh is not None:
        full -= full % mesh.size
    left = np.asarray(rows[full * size : total], np.float64) - centre
    tail = np.ascontiguousarray(left.T.astype(dtype))
    if mesh is None:
        blocks = cut(rows, first, full - first, size, dtype, centre)
        return Blocks(jnp.asarray(blocks), jnp.asarray(tail), stream=source)

    def part(place: Any) -> np.ndarray:
        start, stop, _ = place[0].indices(full)
        return cut(rows, start, stop - start, size, dtype, centre)

    along = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    shape = (full, features, size)
    shared = jax.make_array_from_callback(shape, along, part)
    return Blocks(shared, jax.device_put(tail, everywhere(mesh)), mesh)


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding that replicates an array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def from_blocks(blocks: Blocks) -> Float[Array, "d N"]:
    """All rows as one array, features first.

    Raises:
        NotApplicable: the rows are streamed.
    """
    if blocks.stream is not None:
        raise NotApplicable("needs all rows in memory, and they are streamed")
    features = blocks.tail.shape[0]
    body = jnp.moveaxis(blocks.body, 1, 0).reshape(features, -1)
    return jnp.concatenate([body, blocks.tail], axis=1)


def some(blocks: Blocks, most: int) -> Float[Array, "d n"]:
    """Up to `most` rows, evenly spaced, features first."""
    total = blocks.rows
    if total <= most and blocks.stream is None:
        return from_blocks(blocks)
    return pick(blocks, spaced(total, most))


def pick(blocks: Blocks, places: np.ndarray) -> Float[Array, "d n"]:
    """The rows at ascending indices, features first."""
    if (source := blocks.stream) is not None:
        shape = (source.features, len(places))
        return _fetched(lambda: source.take(places), shape, source.dtype)
    number, _, size = blocks.body.shape
    inside = places[places < number * size]
    of_body = blocks.body[inside // size, :, inside % size].T
    of_tail = blocks.tail[:, places[len(inside) :] - number * size]
    return jnp.concatenate([of_body, of_tail], axis=1)


def blocks_at(blocks: Blocks, index: Int[Array, " n"]) -> Float[Array, "n d B"]:
    """The whole blocks at some indices, which are below `whole_blocks`."""
    if (source := blocks.stream) is None:
        chosen: Array = blocks.body[index]
        return chosen
    shape = (1, source.features, source.size)

    def one(at: Array) -> Array:
        return _fetched(lambda i: source.read(int(i), 1), shape, source.dtype, at)[0]

    several: Array = lax.map(one, index)
    return several


def _fetched(
    read: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: Any, *where: Array
) -> Array:
    """The result of `read`, called on the host while the program runs.

    It is passed as 32-bit words: whether JAX has 64-bit types is a setting of each
    thread, and the thread that calls need not be the one that set it.
    """
    words = np.dtype(dtype).itemsize // 4

    def call(*where: Any) -> np.ndarray:
        found = np.ascontiguousarray(read(*where), dtype)
        return found.view(np.uint32).reshape(*shape, words)

    like = jax.ShapeDtypeStruct((*shape, words), np.uint32)
    raw = jax.pure_callback(call, like, *where)
    return lax.bitcast_convert_type(raw if words > 1 else raw[..., 0], dtype)


def whole_blocks(blocks: Blocks) -> int:
    """The number of whole blocks, in memory or not."""
    source = blocks.stream
    return int(blocks.body.shape[0]) if source is None else source.blocks


def add_up(function: Callable[..., Any], blocks: Blocks, *operands: Any) -> Any:
    """The sum over all blocks of function(x (d, B), *operands), a pytree of arrays.

    The sum is compensated (Kahan 1965): in float32 that of many blocks would otherwise
    lose as many digits as their number has. With a mesh the devices' sums are added.
    """
    of_tail = function(blocks.tail, *operands)
    like = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), of_tail)

    def sweep(body: Float[Array, "blocks d B"], *operands: Any) -> Any:
        def add(so_far: Any, x: Array) -> tuple[Any, None]:
            return _add(so_far, function(x, *operands)), None

        return lax.scan(add, _nothing(like), body)[0][0]

    if (mesh := blocks.mesh) is not None:
        found = _shared(sweep, mesh, len(operands))(blocks.body, *operands)
    else:
        found = sweep(blocks.body, *operands)
    found = jax.tree.map(jnp.add, found, of_tail)
    if (source := blocks.stream) is None:
        return found
    shape = (source.together, source.features, source.size)

    def of_chunk(so_far: Any, index: Array) -> tuple[Any, None]:
        body = _fetched(source.chunk, shape, source.dtype, index)
        return _add(so_far, sweep(body, *operands)), None

    streamed = lax.scan(of_chunk, _nothing(like), jnp.arange(source.chunks))[0][0]
    return jax.tree.map(jnp.add, found, streamed)


def _nothing(like: Any) -> tuple[Any, Any]:
    """A compensated sum of no terms: 0, and the rounding error 0."""
    zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), like)
    return zero, zero


def _add(so_far: tuple[Any, Any], more: Any) -> tuple[Any, Any]:
    total, lost = so_far
    owed = jax.tree.map(jnp.subtract, more, lost)
    now = jax.tree.map(jnp.add, total, owed)
    return now, jax.tree.map(lambda n, t, o: (n - t) - o, now, total, owed)


def _shared(sweep: Callable[..., Any], mesh: Mesh, operands: int) -> Callable[..., Any]:
    """A sweep split over the devices of a mesh, their results added."""
    (axis,) = mesh.axis_names

    def part(body: Array, *operands: Any) -> Any:
        return lax.psum(sweep(body, *operands), axis)

    return jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(PartitionSpec(axis), *[PartitionSpec()] * operands),
        out_specs=PartitionSpec(),
        check_vma=False,  # a block's sums start at plain zeros
    )
