"""`vi-bench list`: what can be named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from vi_bench.cli import completion
from vi_bench.cli.options import AsJson, Models, load_plugins

COLUMNS = ("name", "summary", "origin")


def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="What to list: models, methods, weights, data, experiments or "
            "references.",
            autocompletion=completion.kind,
        ),
    ],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """List models, methods, weights, data, experiments or references."""
    from vi_bench.errors import unknown
    from vi_bench.runtime.strict_json import document

    load_plugins(None, models, [])
    if what not in completion.KINDS:
        raise unknown("list", what, completion.KINDS)
    rows = _rows(what)
    if as_json:
        entries = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        print(document({"kind": what, "entries": entries}), end="")
        return
    width = max(len(name) for name, _, _ in rows)
    for name, summary, origin in rows:
        told = summary if origin == "shipped" else f"{summary} [{origin}]"
        print(f"{name:<{width}}  {told}")


def _rows(what: str) -> list[tuple[str, str, str]]:
    from vi_bench import catalogue

    if what in ("models", "methods"):
        kind: catalogue.Plugin = "model" if what == "models" else "method"
        found = catalogue.entries(kind).values()
        return [(entry.name, entry.summary, entry.origin) for entry in found]
    return [(name, summary, "shipped") for name, summary in _described(what)]


def _described(what: str) -> Iterable[tuple[str, str]]:
    from vi_bench import catalogue

    if what == "data":
        from vi_bench.data.built_in import ARRAYS
        from vi_bench.data.load import described

        arrays = [(name, found.note) for name, found in ARRAYS.items()]
        return [*described(), *arrays]
    if what == "weights":
        return catalogue.WEIGHTS.items()
    if what == "references":
        from vi_bench.draws.published import described as references

        return references()
    return catalogue.described_experiments()
