"""The errors that users are meant to see, and how they name near misses."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was given, where, and what is expected. The command
    line prints it and ends with exit code 2.
    """


class NotApplicable(Exception):
    """A method cannot work on this problem, or not within reason.

    A method's `prepare` raises it; the method is skipped, and the message, one line, is
    the reason given in its row.
    """


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition('\n')[0]}"


def unknown(kind: str, given: str, known: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is not known, with the nearest one that is."""
    import difflib  # late: the command line has no use for it but here

    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    place = f" in {where}" if where else ""
    listed = ", ".join(names) or "none"
    return InputError(f"unknown {kind} {given!r}{place}: {hint}known: {listed}")
