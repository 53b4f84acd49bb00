"""Ctrl-C is obeyed while work goes on that Python cannot interrupt."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from vi_bench.runtime import interrupts

INSIDE = threading.local()


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
    with pytest.raises(KeyboardInterrupt):
        interrupts.obeying(lambda: ended.wait(60), settings)
    assert time.monotonic() - begun < 30
    interrupts.leave_if_abandoned(130)
    assert left == [130]
    ended.set()
    interrupts._abandoned[0].join()
    interrupts.leave_if_abandoned(130)
    assert left == [130]
