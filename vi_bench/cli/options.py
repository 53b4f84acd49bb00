"""What several commands take, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vi_bench.cli import completion

AsJson = Annotated[
    bool, typer.Option("--json", help="The result as JSON, and nothing else.")
]

Models = Annotated[
    Path | None, typer.Option(help="Folder whose .py files are models too.")
]

Weights = Annotated[
    str | None,
    typer.Option(
        help="uniform, dirichlet or stick-breaking.",
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
