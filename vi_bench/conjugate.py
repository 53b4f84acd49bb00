"""The bases of component families, for a family of your own: docs/extending.md.

Names only: the code is in `vi_bench.mixture.conjugate`.
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
