"""Ctrl-C while a compiled program runs, which Python itself cannot interrupt."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Thread, current_thread, main_thread

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
    try:
        with _noted() as interrupt:
            thread.start()
            while thread.is_alive() and not interrupt.is_set():
                thread.join(POLL)  # a signal that another thread got wakes no lock
        if interrupt.is_set():
            raise KeyboardInterrupt
    except KeyboardInterrupt:  # also of a handler of somebody else's
        _abandoned.append(thread)
        raise
    if failed:
        raise failed[0]
    return done[0]


@contextmanager
def _noted() -> Iterator[Event]:
    """A context in which Ctrl-C sets an event and raises nothing.

    An exception of a signal is lost where the signal comes while a finaliser runs.
    """
    interrupt = Event()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # a handler of somebody else's
        yield interrupt
        return
    signal.signal(signal.SIGINT, lambda *_: interrupt.set())
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def leave_if_abandoned(code: int) -> None:
    """End the process at once where abandoned work would hold it up."""
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
