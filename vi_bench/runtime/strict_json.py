"""Values as strict JSON, for stored files and for `--json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Convert values to JSON's types: arrays to lists, numbers not finite to None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(value: Any, indent: int = 2) -> str:
    """A JSON document with a final newline."""
    return json.dumps(plain(value), indent=indent, allow_nan=False) + "\n"
