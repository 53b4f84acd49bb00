"""Give a model its data: arguments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.data.arrays import Arrays, arrays, read_arrays
from vi_bench.data.text import Layout
from vi_bench.errors import InputError, unknown

WHOLE = "data"
"""Name of the one argument that takes all data as a dict, or a single array."""


def named_data(function: str, data: str, layout: Layout | None = None) -> Arrays:
    """The data of a NumPyro model: a file, or what a function returns.

    Args:
        function: the model, "mine.py:model".
        data: a file, a function "mine.py:data", or nothing: then they are what the
            function data() in the model's file returns, if there is one.
        layout: of a text file, what it does not show itself.

    Raises:
        InputError: they cannot be read, or are no arrays by name.
    """
    if data and not catalogue.is_function(data):
        return read_arrays(Path(data), layout)
    named = data or f"{function.rpartition(':')[0]}:data"
    try:
        catalogue.known_function(named)
    except InputError:
        if data:
            raise
        return Arrays("no data", {})
    return arrays(catalogue.function(named)(), named)


def arguments(
    function: Callable[..., Any], data: Mapping[str, Any], where: str, given: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of a function from named data, and the names it does not take.

    A function whose one required argument is none of the names gets all of them as a
    dict.

    Args:
        function: a model, or a fit of one.
        data: name -> value.
        where: the function, for messages.
        given: the data, likewise.

    Raises:
        InputError: the data lack an argument that has no default.
    """
    known = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return dict(data), ()
    named = [p for p in known.values() if p.kind is not p.VAR_POSITIONAL]
    required = [p.name for p in named if p.default is p.empty]
    missing = [name for name in required if name not in data]
    if missing and len(required) == 1:
        only = data.get(WHOLE) if set(data) == {WHOLE} else dict(data)
        return {missing[0]: only}, ()
    if missing:
        there = f"{where}: needs {missing[0]!r}, which the data {given!r} lack"
        if not data:
            raise InputError(f"{there}; expected --data FILE, or a function data()")
        raise unknown("argument", missing[0], data, f"the data {given!r} for {where}")
    found = {p.name: data[p.name] for p in named if p.name in data}
    return found, tuple(name for name in data if name not in found)
