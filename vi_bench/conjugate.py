"""Base classes of component families, to write your own: docs/extending.md.

Re-exports names of `vi_bench.mixture.conjugate`.
"""

from vi_bench.mixture.conjugate import (
    Conjugate,
    Family,
    check_length,
    draw,
    inner,
    namespace,
    per_feature,
    resolve,
    rounded,
    rounded_centre,
)

__all__ = [
    "Conjugate",
    "Family",
    "check_length",
    "draw",
    "inner",
    "namespace",
    "per_feature",
    "resolve",
    "rounded",
    "rounded_centre",
]
