"""A Spec from the arguments of `vi_bench.run`; the command line makes its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.data.arrays import Arrays, arrays
from vi_bench.data.load import load
from vi_bench.data.table import Table
from vi_bench.errors import InputError
from vi_bench.spec import (
    DEFAULTS,
    Spec,
    called,
    choose,
    make,
    own_fit,
    usual_methods,
    values_of,
)

USUAL_DATA = Spec.model_fields["data"].default
"""The data of a mixture, if none are named."""


def specify(
    model: Any,
    data: Any,
    methods: Iterable[Any] | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> tuple[Spec, Table | Arrays | None]:
    """Make a Spec, and the data where they were not given by name.

    Raises:
        InputError: an argument cannot be used.
    """
    values = dict(fields)
    function = model_function(model)
    if is_plain_function(model):
        model = {"name": function}
    if isinstance(model, str) and function is None:
        catalogue.known("model", model)  # before its data are looked at
    values["model"] = named("model", DEFAULTS["model"] if model is None else model)
    if "weights" in values:
        values["weights"] = named("weights", values["weights"])
    usual = DEFAULTS["methods"] if function is None else usual_methods(function)
    values["methods"] = methods_of(list(usual) if methods is None else methods)
    if function is not None and isinstance(data, str) and data == USUAL_DATA:
        data = None  # it was not given
    table: Table | Arrays | None = None
    if function is not None and data is not None and not isinstance(data, str | Path):
        table = arrays(data)
    elif function is None and not isinstance(data, str | Path):
        table = load(data)
    if table is not None:
        values["data"] = table.name
    elif data is not None:
        values["data"] = str(data)
    else:
        values["data"] = ""
    usual_name = Path(values["data"]).stem if function is None else called(function)
    values.setdefault("name", usual_name or "run")
    return make(values, "run()"), table


def model_function(model: Any) -> str | None:
    """The name of a NumPyro model, which is registered if it was given in Python.

    None for a mixture.
    """
    if is_plain_function(model):
        return catalogue.add_function(model)
    if isinstance(model, Mapping):
        model = model.get("name")
    elif dataclasses.is_dataclass(model) and not isinstance(model, type):
        model = catalogue.registered("model", type(model))
    return model if catalogue.is_numpyro(model) else None


def is_plain_function(given: Any) -> bool:
    """Whether something is called, and is not a settings dataclass."""
    settings = isinstance(given, type) or dataclasses.is_dataclass(given)
    return callable(given) and not settings


def named(kind: catalogue.Kind, given: Any) -> dict[str, Any]:
    """A section of a spec from a name, a mapping or a settings dataclass."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return dict(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {"name": catalogue.registered(kind, type(given))} | values_of(given)
    also = " or a function" if kind == "model" else ""
    raise InputError(f"{kind} {given!r}: expected a name, a mapping, settings{also}")


def methods_of(methods: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Label -> settings, of names none."""
    if isinstance(methods, str):
        raise InputError(f"methods = {methods!r}: expected a list of methods")
    if isinstance(methods, Mapping):
        return {label: _settings(label, given) for label, given in methods.items()}
    labels, settings = [], {}
    for given in methods:
        if is_plain_function(given):
            own: Any = given
            label, settings[label] = own_fit(catalogue.add_function(own))
            labels.append(label)
            continue
        if not isinstance(given, str) and not dataclasses.is_dataclass(given):
            raise InputError(f"methods: {given!r} is neither a name nor settings")
        label = (
            given
            if isinstance(given, str)
            else catalogue.registered("method", type(given))
        )
        labels.append(label)
        if not isinstance(given, str):
            settings[label] = _settings(label, given)
    return choose(labels, settings)


def _settings(label: str, given: Any) -> dict[str, Any]:
    if is_plain_function(given):
        return own_fit(catalogue.add_function(given))[1]
    if given is None or isinstance(given, str):
        return {} if given in (None, label) else {"method": given}
    if isinstance(given, Mapping):
        return dict(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {"method": catalogue.registered("method", type(given))} | values_of(
            given
        )
    raise InputError(f"method {label!r}: {given!r} is neither a name nor settings")
