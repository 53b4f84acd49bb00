"""Options that several commands share, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.cli import completion

AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON document, and nothing else on stdout.",
    ),
]

Models = Annotated[
    Path | None,
    typer.Option(
        help="Folder whose .py files define further models, each named by its "
        "file (default: none)."
    ),
]

Weights = Annotated[
    str | None,
    typer.Option(
        help="Prior on the weights: uniform (every weight is 1/K), dirichlet or "
        "stick-breaking (default: the spec's, else uniform).",
        autocompletion=completion.weights,
    ),
]


def split(listed: str | None) -> list[str] | None:
    """Names between commas; an empty one stays, to be refused where it is used."""
    return None if listed is None else [name.strip() for name in listed.split(",")]


def load_plugins(
    model: str | None, models: Path | None, methods: list[Path]
) -> tuple[str | None, list[str]]:
    """Register what the command line names; the model's name and the methods'."""
    from vi_bench import catalogue

    if models is not None:
        catalogue.add_folder(models)
    if model is not None and model.endswith(".py"):
        model = catalogue.add_file("model", Path(model))
    return model, [catalogue.add_file("method", path) for path in methods]
