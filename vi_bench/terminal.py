"""What the command line says, and how it refuses."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def refuse(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"vi-bench: {message}", file=sys.stderr)
    raise typer.Exit(2)


def console() -> Console:
    """Where results go; wide for files and pipes, where nothing else is known."""
    from rich.console import Console

    found = Console()
    if not found.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=150)
    return found
