"""A Spec from the arguments of `vi_bench.run`; the command line makes its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.data.load import load
from vi_bench.data.table import Table
from vi_bench.errors import InputError
from vi_bench.spec import DEFAULTS, Spec, choose, make, values_of


def specify(
    model: Any,
    data: Any,
    methods: Iterable[Any] | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> tuple[Spec, Table | None]:
    """Make a Spec, and the table where the data were not given by name.

    Raises:
        InputError: an argument cannot be used.
    """
    values = dict(fields)
    values["model"] = named("model", DEFAULTS["model"] if model is None else model)
    if "weights" in values:
        values["weights"] = named("weights", values["weights"])
    values["methods"] = _methods(methods)
    known = isinstance(data, str | Path)
    table = None if known else load(data)
    values["data"] = str(data) if table is None else table.name
    values.setdefault("name", Path(values["data"]).stem or "run")
    return make(values, "run()"), table


def named(kind: catalogue.Kind, given: Any) -> dict[str, Any]:
    """A section of a spec from a name, a mapping or a settings dataclass."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return dict(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {"name": catalogue.registered(kind, type(given))} | values_of(given)
    raise InputError(f"{kind} {given!r}: expected a name, a mapping or settings")


def _methods(methods: Iterable[Any] | Mapping[str, Any] | None) -> dict[str, Any]:
    if methods is None:
        return choose(DEFAULTS["methods"], {})
    if isinstance(methods, str):
        raise InputError(f"methods = {methods!r}: expected a list of methods")
    if isinstance(methods, Mapping):
        return {label: _settings(label, given) for label, given in methods.items()}
    labels, settings = [], {}
    for given in methods:
        if not isinstance(given, str) and not dataclasses.is_dataclass(given):
            raise InputError(f"methods: {given!r} is neither a name nor settings")
        label = (
            given
            if isinstance(given, str)
            else catalogue.registered("method", type(given))
        )
        labels.append(label)
        settings[label] = _settings(label, given)
    return choose(labels, settings)


def _settings(label: str, given: Any) -> dict[str, Any]:
    if given is None or isinstance(given, str):
        return {} if given in (None, label) else {"method": given}
    if isinstance(given, Mapping):
        return dict(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {"method": catalogue.registered("method", type(given))} | values_of(
            given
        )
    raise InputError(f"method {label!r}: {given!r} is neither a name nor settings")
