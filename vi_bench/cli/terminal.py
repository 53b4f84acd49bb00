"""What the command line prints, how it refuses, and the page that it then names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

from vi_bench.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console


def refuse(message: str, about: str) -> NoReturn:
    """One line on stderr that ends with the page about it, exit code 2."""
    line = "".join(c if c.isprintable() else " " for c in message)
    print(f"vi-bench: {line} ({about})", file=sys.stderr)
    raise typer.Exit(2)


USAGE = "docs/cli.md"
"""The page of a command line that cannot be parsed."""

PAGES = {
    "calibrate": "docs/calibration.md",
    "report": "docs/report.md",
    "rerun": "docs/summary.md",
    "run": "docs/spec.md",
    "sweep": "docs/sweeps.md",
    "status": "docs/sweeps.md",
    "query": "docs/sweeps.md",
    "reindex": "docs/sweeps.md",
    "verify": "docs/verifying.md",
}
"""Command -> the page about it, for errors that have no page of their own."""


class Commands(TyperGroup):
    """Commands that refuse what they cannot parse or use, in one line."""

    def make_context(self, *given: Any, **settings: Any) -> Any:
        """Parse what is before the command."""
        with _in_one_line(None):
            return super().make_context(*given, **settings)

    def invoke(self, context: Any) -> Any:
        """Parse what is behind the command, and run it."""
        with _in_one_line(context):
            return super().invoke(context)


@contextmanager
def _in_one_line(context: Any) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        command = context.invoked_subcommand if context else ""
        refuse(str(error), error.page or PAGES.get(command, USAGE))
    except UNPARSED as error:
        refuse(_told(error), USAGE)


UNPARSED: Any = typer.BadParameter.__base__
"""What a command line that cannot be parsed raises; Typer has no public name for it."""


def _told(error: Any) -> str:
    """What is wrong, and what was given where the message does not tell that itself."""
    told = str(error.format_message()).rstrip(".")
    found = getattr(error.__cause__, "errors", None)  # of pydantic, in newer Typers
    if found is None:
        return told
    given = found()[0]["input"]
    return f"{told}, not {given!r}"


@contextmanager
def interruptible(sentence: str) -> Iterator[None]:
    """Ctrl-C ends with a sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(sentence, file=sys.stderr)
        end_interrupted()


def end_interrupted() -> NoReturn:
    """Exit code 130, at once where a program that was given up still runs."""
    from vi_bench.runtime.interrupts import leave_if_abandoned

    leave_if_abandoned(130)
    raise typer.Exit(130) from None


@contextmanager
def kept_for(as_json: bool) -> Iterator[None]:
    """Where stdout is for one JSON document, what others print goes to stderr."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def console() -> Console:
    """Where results go; wide for files and pipes, where nothing else is known."""
    from rich.console import Console

    found = Console()
    if not found.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=150)
    return found
