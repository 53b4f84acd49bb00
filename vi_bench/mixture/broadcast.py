"""Arrays of different numbers of axes, written out: draws before components."""

from __future__ import annotations

from typing import Any

import numpy as np


def aligned(*arrays: Any) -> list[Any]:
    """Arrays with leading axes of length 1 added, up to the same number of axes.

    Draws have leading axes that factors do not have; arrays of NumPy or JAX.
    """
    most = max(np.ndim(v) for v in arrays)
    missing = [most - np.ndim(v) for v in arrays]
    return [v[(None,) * k] if k else v for v, k in zip(arrays, missing, strict=True)]
