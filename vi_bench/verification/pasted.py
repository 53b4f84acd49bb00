"""The code of a failure, as a test to paste."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vi_bench.catalogue import LOADED


def imported(given: Any, name: str, what: str) -> str:
    """A line of Python that makes `name` what was tested.

    Args:
        given: a function, its "mine.py:function", or the name of a registered method.
        name: the name that the code of a failure has for it.
        what: what it is, in words, for where it cannot be imported.
    """
    if isinstance(given, str):
        file, colon, function = given.rpartition(":")
        if not colon:
            return f"{name} = {given!r}"
        module = Path(file).stem
    else:
        module = _name_of(getattr(given, "__module__", None) or "")
        function = getattr(given, "__qualname__", "")
    importable = all(part.isidentifier() for part in module.split("."))
    if module == "__main__" or not importable or not function.isidentifier():
        return f"# {name} is the {what} that was tested"
    renamed = "" if function == name else f" as {name}"
    return f"from {module} import {function}{renamed}"


def test_code(problem: Any, source: tuple[str, ...]) -> list[str]:
    """Lines of Python that test what `source` imports on exactly one problem."""
    return [
        "import numpy as np",
        f"from vi_bench.testing import {type(problem).__name__}, check_cavi",
        *source,
        *problem.script().splitlines(),
    ]


def _name_of(module: str) -> str:
    """The name to import a module by: that of its file, if loaded by its path."""
    if module.startswith(LOADED):
        return Path(str(getattr(sys.modules.get(module), "__file__", ""))).stem
    return module
