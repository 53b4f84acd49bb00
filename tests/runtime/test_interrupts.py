"""Ctrl-C is obeyed while work goes on that Python cannot interrupt."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from vi_bench.runtime import interrupts

INSIDE = threading.local()


@pytest.fixture(autouse=True)
def pressed():
    """Ctrl-C is as in a terminal: a shell starts what runs behind with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def settings():
    INSIDE.known = True
    yield
    INSIDE.known = False


def test_work_is_done_in_its_context_and_returned():
    assert interrupts.obeying(lambda: (INSIDE.known, 3), settings) == (True, 3)
    assert not hasattr(INSIDE, "known")  # another thread's


def test_what_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        interrupts.obeying(lambda: 1 / 0, settings)


def test_beside_the_main_thread_nothing_else_is_started():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(
            interrupts.obeying(threading.current_thread, settings)
        )
    )
    thread.start()
    thread.join()
    assert found == [thread]


def test_an_interrupt_ends_the_waiting_and_not_the_work(monkeypatch):
    monkeypatch.setattr(interrupts, "_abandoned", [])
    ended, left = threading.Event(), []
    monkeypatch.setattr(os, "_exit", left.append)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.monotonic()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.obeying(lambda: ended.wait(60), settings)
    assert signal.getsignal(signal.SIGINT) is before
    assert time.monotonic() - begun < 30
    interrupts.leave_if_abandoned(130)
    assert left == [130]
    ended.set()
    interrupts._abandoned[0].join()
    interrupts.leave_if_abandoned(130)
    assert left == [130]


def test_an_interrupt_within_a_finaliser_is_not_lost(monkeypatch):
    """An exception there is printed and forgotten."""
    monkeypatch.setattr(interrupts, "_abandoned", [])
    ended = threading.Event()
    pressed = []

    class Finalised:
        def __del__(self):
            if not pressed:
                pressed.append(signal.raise_signal(signal.SIGINT))

    last = time.monotonic() + 5

    def alive(self):
        Finalised()  # dies at once, in the thread that waits
        return time.monotonic() < last

    monkeypatch.setattr(threading.Thread, "is_alive", alive)
    with pytest.raises(KeyboardInterrupt):
        interrupts.obeying(lambda: ended.wait(10), settings)
    ended.set()
