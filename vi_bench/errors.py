"""The errors that are shown to users; an unknown name gets the nearest known one."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was given, where, and what is expected. The command
    line prints it, with the page of the documentation that explains it, and ends with
    exit code 2.

    Attributes:
        page: path of that page in the repository; None: the page of the command that
            was called, see ``PAGES`` in ``vi_bench/cli/terminal.py``.
    """

    page: ClassVar[str | None] = None


class SpecError(InputError):
    """Data, a model, a method or another part of what is to be run cannot be used."""

    page = "docs/spec.md"


class ModelError(InputError):
    """A NumPyro model, its data, or a fit of it by hand cannot be used."""

    page = "docs/own_models.md"


class PluginError(InputError):
    """A model or a method that does not ship cannot be used."""

    page = "docs/extending.md"


class ScalingError(InputError):
    """Devices, processes or streamed rows cannot be used as asked."""

    page = "docs/scaling.md"


class ResultsError(InputError):
    """The folder of a run cannot be written, read or repeated."""

    page = "docs/summary.md"


class ReportError(InputError):
    """A page, a table or a figure cannot be made of what is stored."""

    page = "docs/report.md"


class SweepError(InputError):
    """A sweep cannot be planned, continued or read."""

    page = "docs/sweeps.md"


class CalibrationError(InputError):
    """A calibration cannot be set up or continued."""

    page = "docs/calibration.md"


class VerificationError(InputError):
    """An implementation cannot be verified as asked."""

    page = "docs/verifying.md"


class NotApplicable(Exception):
    """A method cannot work on this problem, or not within reasonable time or memory.

    A method's `prepare` raises it; the method is skipped, and the message, one line, is
    the reason given in its row.
    """


class Unfinished(Exception):
    """A method has nothing to show when its time is over; the message says why."""


def one_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition('\n')[0]}"


def placed(error: BaseException, file: str | None) -> str:
    """`one_line`, with the last line of a user's file that the error went through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if file is not None and frame.filename == file
    ]
    at = f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""
    return f"{one_line(error)}{at}"


def unknown(
    kind: str,
    given: str,
    known: Iterable[str],
    where: str = "",
    error: type[InputError] = InputError,
) -> InputError:
    """The error for a name that is not known, with the nearest one that is."""
    import difflib  # imported late: only this needs it

    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    place = f" in {where}" if where else ""
    listed = ", ".join(names) or "none"
    return error(f"unknown {kind} {given!r}{place}: {hint}known: {listed}")
