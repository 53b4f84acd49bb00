"""vi_bench: is a variational posterior right, how far off, and what did it cost?

Names are imported when they are first used, so that ``import vi_bench`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vi_bench.runtime.xla_flags import avoid_wrong_products

if TYPE_CHECKING:
    from vi_bench.api import calibrate, run, simulate
    from vi_bench.data.load import load
    from vi_bench.data.table import Table
    from vi_bench.draws.compare import compare
    from vi_bench.draws.external import read_draws
    from vi_bench.errors import InputError
    from vi_bench.posterior.log_joint import from_log_joint
    from vi_bench.runner.kernel import CAVIFit, cavi
    from vi_bench.runner.launch import launch
    from vi_bench.runner.rerun import rerun
    from vi_bench.runner.views import Result
    from vi_bench.spec import Spec, read
    from vi_bench.sweeps.index import frame
    from vi_bench.verification import verify

_HOME = {
    "CAVIFit": "runner.kernel",
    "InputError": "errors",
    "Result": "runner.views",
    "Spec": "spec",
    "Table": "data.table",
    "calibrate": "api",
    "cavi": "runner.kernel",
    "compare": "draws.compare",
    "frame": "sweeps.index",
    "from_log_joint": "posterior.log_joint",
    "launch": "runner.launch",
    "load": "data.load",
    "read": "spec",
    "read_draws": "draws.external",
    "rerun": "runner.rerun",
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
    "from_log_joint",
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
