"""Give a model its data: arguments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.data.arrays import Arrays, arrays, read_arrays
from vi_bench.data.built_in import ARRAYS, built_in
from vi_bench.data.text import Layout
from vi_bench.errors import InputError, ModelError

WHOLE = "data"
"""Name of the one argument that takes all data as a dict, or a single array."""


SEED = "seed"
"""The argument of a fit, if it has it, that is given a random seed."""


def named_data(function: str, data: str, layout: Layout | None = None) -> Arrays:
    """The data of a NumPyro model: a file, or what a function returns.

    Args:
        function: the model, "mine.py:model" or a registered one.
        data: the name of built-in arrays, a file, a function "mine.py:data", or
            nothing: then they are what the function data() in the model's file returns,
            if there is one.
        layout: of a text file, what it does not show itself.

    Raises:
        InputError: they cannot be read, or are no arrays by name.
    """
    if data in ARRAYS:
        return built_in(data)
    if data and not catalogue.is_function(data):
        return read_arrays(Path(data), layout)
    if not data and not catalogue.is_function(function):
        return Arrays("no data", {})
    named = data or f"{function.rpartition(':')[0]}:data"
    try:
        catalogue.known_function(named)
    except InputError:
        if data:
            raise
        return Arrays("no data", {})
    return arrays(catalogue.function(named)(), named)


def arguments(
    function: Callable[..., Any],
    data: Mapping[str, Any],
    where: str,
    given: str,
    unfit: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of a function from named data, and the names it does not take.

    A function whose one required argument is none of the names gets all of them as a
    dict.

    Args:
        function: a model, or a fit of one.
        data: name -> value.
        where: the function, for messages.
        given: the data, likewise.
        unfit: name -> why something in the data is no array.

    Raises:
        InputError: the data lack an argument that has no default.
    """
    known = inspect.signature(function).parameters
    unused = tuple(unfit)
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return dict(data), unused
    named = [p for p in known.values() if p.kind is not p.VAR_POSITIONAL]
    for parameter in named:
        if parameter.name in unfit:
            raise ModelError(f"{given}: {parameter.name}: {unfit[parameter.name]}")
    required = [p.name for p in named if p.default is p.empty]
    missing = [name for name in required if name not in data]
    if missing and len(required) == 1 and data:
        only = data.get(WHOLE) if set(data) == {WHOLE} else dict(data)
        return {missing[0]: only}, unused
    if missing:
        raise ModelError(
            f"{where}: needs {missing[0]!r}, {_lacking(missing[0], data, given)}"
        )
    found = {p.name: data[p.name] for p in named if p.name in data}
    return found, (*(name for name in data if name not in found), *unused)


def model_arguments(
    model: Callable[..., Any],
    dims: Mapping[str, Sequence[str]],
    data: Arrays,
    where: str,
) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """Arguments of a model that names their dimensions; names left out; and a note.

    A single array without a name is the one that is needed. One array of two dimensions
    that the data lack is made of all columns that are nothing else; a single column
    stands for an array of one column.

    Args:
        model: the NumPyro model.
        dims: argument -> names of its dimensions.
        data: named arrays.
        where: the model, for messages.

    Raises:
        InputError: the data lack an array.
    """
    given = f"the data {data.name!r}"
    values, said = dict(data.values), []
    needed = [n for n in dims if n not in values and n not in data.unfit]
    needed = [n for n in needed if _required(model, n)]
    rest = {n: v for n, v in values.items() if n not in dims}
    if len(needed) == 1 and set(values) == {WHOLE}:
        values = {needed[0]: values[WHOLE]}
    elif len(needed) == 1 and len(dims[needed[0]]) == 2 and _are_columns(rest):
        values[needed[0]] = np.column_stack(list(rest.values()))
        values = {n: v for n, v in values.items() if n not in rest}
        said.append(f"{needed[0]}: the columns {', '.join(rest)}")
    elif needed:
        lacking = _lacking(needed[0], data.values, given)
        raise ModelError(f"{where}: needs {needed[0]!r}, {lacking}")
    for name, own in dims.items():
        if len(own) == 2 and np.ndim(values.get(name, 0)) == 1:
            values[name] = np.asarray(values[name])[:, None]
            said.append(f"{name}: of one {own[1]}")
    found, unused = arguments(model, values, where, given, data.unfit)
    return found, unused, "; ".join(said)


def _required(function: Callable[..., Any], name: str) -> bool:
    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is parameter.empty


def _are_columns(values: Mapping[str, Any]) -> bool:
    """Whether there are some, all of one dimension and as long."""
    shapes = {np.shape(v) for v in values.values()}
    return len(shapes) == 1 and len(shapes.pop()) == 1


def for_fit(
    function: Callable[..., Any], data: Mapping[str, Any], seed: int, where: str
) -> dict[str, Any]:
    """Arguments of a fit: those of its model that it takes, and `seed` if it does.

    Raises:
        InputError: the model lacks an argument that has no default.
    """
    if SEED in inspect.signature(function).parameters:
        data = {**data, SEED: seed}
    return arguments(function, data, where, "the arguments of the model")[0]


def _lacking(name: str, data: Mapping[str, Any], given: str) -> str:
    """What a message says of data that lack an argument."""
    if not data:
        return (
            "and there are no data; expected a file of arrays (--data FILE), a dict of "
            "them (data=...), or a function data() in the model's file"
        )
    close = get_close_matches(name, data, n=1, cutoff=0.5)
    hint = f": did you mean {close[0]!r}?" if close else ";"
    return f"which {given} lack{hint} there are {', '.join(sorted(data))}"
