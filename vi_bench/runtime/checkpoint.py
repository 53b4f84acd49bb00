"""Checkpoints: the best q so far in a file, to continue a run that was ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vi_bench.errors import ScalingError

LEAF = "q_{}"


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write these arrays to the file, as a whole or not at all."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def read_leaves(path: str) -> list[np.ndarray]:
    """Read the arrays of q's factors, in order.

    Raises:
        InputError: there is no such file, or it is not a checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            number = sum(name.startswith(LEAF.format("")) for name in held.files)
            leaves = [held[LEAF.format(i)] for i in range(number)]
    except FileNotFoundError:
        raise ScalingError(f"start {path!r}: there is no such file") from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        first = str(error).partition("\n")[0]
        raise ScalingError(f"start {path!r}: is not a checkpoint: {first}") from None
    if not leaves:
        raise ScalingError(f"start {path!r}: is not a checkpoint: it holds no q")
    return leaves
