"""Work on many quantities on all cores; NumPy's loops let other threads run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from vi_bench.runtime.provenance import cores

Tick = Callable[[int, int], None]
"""Told of the progress: (quantities that are done, all of them)."""

SMALL = 20_000
"""Numbers of an item below which threads cost more than they bring."""


def each[T, R](
    function: Callable[[T], R],
    items: Iterable[T],
    size: int,
    tick: Tick | None = None,
) -> list[R]:
    """The function of every item, in order.

    Args:
        function: what is computed; called by several threads at once.
        items: what it is computed of.
        size: how many numbers one item holds, such as the draws of a quantity.
        tick: told of the items that are done.
    """
    given, found = list(items), []
    threads = 1 if size < SMALL else cores() or 1
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(function, given) if threads > 1 else map(function, given)
        for result in results:
            found.append(result)
            if tick is not None:
                tick(len(found), len(given))
    return found
