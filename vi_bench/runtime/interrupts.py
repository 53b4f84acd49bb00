"""Ctrl-C while a compiled program runs, which Python itself cannot interrupt."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Thread, current_thread, main_thread

POLL = 0.2
"""Seconds between two looks for an interrupt."""

_abandoned: list[Thread] = []
"""Threads that were still at work when an interrupt ended the waiting for them."""


def obeying[T](
    work: Callable[[], T], context: Callable[[], AbstractContextManager[None]]
) -> T:
    """Do work in a thread, so that Ctrl-C ends the waiting for it at once.

    The work itself goes on until the program that it is in returns: whatever it shares
    with the caller may still change after an interrupt.

    Args:
        work: what is done.
        context: makes the context to do it in, as JAX's settings are a thread's own.

    Raises:
        KeyboardInterrupt: interrupted.
    """

    def settled() -> T:
        with context():
            return work()

    if current_thread() is not main_thread():  # only that one is interrupted
        return settled()
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(settled())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():  # a signal that another thread got wakes no lock
            thread.join(POLL)
    except KeyboardInterrupt:
        _abandoned.append(thread)
        raise
    if failed:
        raise failed[0]
    return done[0]


def leave_if_abandoned(code: int) -> None:
    """End the process at once where abandoned work would hold it up."""
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
