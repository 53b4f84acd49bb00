"""Starting points of fits and chains, to write your own methods: docs/extending.md.

Re-exports names of `vi_bench.inference.starts`.
"""

from vi_bench.inference.starts import (
    Optima,
    best_of_many,
    chain_starts,
    chains_start,
    distinct,
    find_optima,
    k_means,
    k_means_factors,
    nearest,
    start_point,
)

__all__ = [
    "Optima",
    "best_of_many",
    "chain_starts",
    "chains_start",
    "distinct",
    "find_optima",
    "k_means",
    "k_means_factors",
    "nearest",
    "start_point",
]
