"""vi_bench: is a variational posterior right, how far off, and what did it cost?

Names are imported when they are first used, so that ``import vi_bench`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vi_bench.compiler import avoid_wrong_products

if TYPE_CHECKING:
    from vi_bench.api import calibrate, compare, launch, run, simulate
    from vi_bench.data import load
    from vi_bench.errors import InputError
    from vi_bench.external import read_draws
    from vi_bench.kernel import CAVIFit, cavi
    from vi_bench.repeat import rerun
    from vi_bench.result import Result
    from vi_bench.spec import Spec, read
    from vi_bench.sweeps.index import frame
    from vi_bench.table import Table
    from vi_bench.verification import verify

_HOME = {
    "CAVIFit": "kernel",
    "InputError": "errors",
    "Result": "result",
    "Spec": "spec",
    "Table": "table",
    "calibrate": "api",
    "cavi": "kernel",
    "compare": "api",
    "frame": "sweeps.index",
    "launch": "api",
    "load": "data",
    "read": "spec",
    "read_draws": "external",
    "rerun": "repeat",
    "run": "api",
    "simulate": "api",
    "verify": "verification",
}

__all__ = [
    "CAVIFit",
    "InputError",
    "Result",
    "Spec",
    "Table",
    "calibrate",
    "cavi",
    "compare",
    "frame",
    "launch",
    "load",
    "read",
    "read_draws",
    "rerun",
    "run",
    "simulate",
    "verify",
]

avoid_wrong_products()


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("vi_bench.testing")
    if name not in _HOME:
        raise AttributeError(f"module 'vi_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vi_bench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
