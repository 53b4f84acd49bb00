"""Progress bars on stderr, one per method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


SOON = 2.0
"""Seconds for which a stage runs before it is said how long it may take."""


class Watcher(Protocol):
    """The events of a run's progress."""

    def stage(self, method: str, name: str, index: int, of: int) -> None:
        """A stage of a method begins."""

    def tick(self, done: int, of: int) -> None:
        """The stage's program was called `done` times, `of` at most."""

    def end(self, method: str, word: str) -> None:
        """A method ended."""


class Silent:
    """A watcher that shows nothing."""

    def stage(self, method: str, name: str, index: int, of: int) -> None:
        """Ignore that a stage begins."""

    def tick(self, done: int, of: int) -> None:
        """Ignore a call of the stage's program."""

    def end(self, method: str, word: str) -> None:
        """Ignore that a method ended."""


@contextmanager
def bars(methods: list[str]) -> Iterator[Watcher]:
    """Show a bar per method; its clock runs even while a program does."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.fields[method]:<16}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_interactive,
    )
    with shown:
        watcher = _Bars(shown)
        for name in methods:
            watcher.add(name)
        yield watcher


@contextmanager
def counted(what: str, after: float = 2.0) -> Iterator[Callable[[int, int], None]]:
    """A function (done, of) that shows a bar if the work takes over `after` seconds."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    begun = time.monotonic()
    with ExitStack() as stack:
        shown: list[tuple[Progress, TaskID]] = []

        def tick(done: int, of: int) -> None:
            if not shown:
                if time.monotonic() - begun < after or not console.is_interactive:
                    return
                bar = stack.enter_context(Progress(console=console, transient=True))
                shown.append((bar, bar.add_task(what, total=of)))
            bar, task = shown[0]
            bar.update(task, completed=done, total=of)

        yield tick


class _Bars:
    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._tasks: dict[str, TaskID] = {}
        self._method, self._name, self._index, self._of = "", "", 0, 1
        self._since = (0.0, 0)

    def add(self, method: str) -> TaskID:
        """The bar of a method, made if there is none yet."""
        if method not in self._tasks:
            self._tasks[method] = self._shown.add_task(
                "waiting", method=method, total=1.0, start=False
            )
        return self._tasks[method]

    def stage(self, method: str, name: str, index: int, of: int) -> None:
        task = self.add(method)
        if method != self._method:
            self._shown.start_task(task)
        self._method, self._name = method, name
        self._index, self._of = index, of
        self._since = (0.0, 0)
        self._shown.update(task, description=name, completed=index / of)

    def tick(self, done: int, of: int) -> None:
        part = (self._index + done / of) / self._of
        now, (begun, first) = time.monotonic(), self._since
        if not first:  # the first call may have compiled its program: not counted
            self._since = now, done
        if done == of:
            name = f"{self._name}, timed again"
        elif first and now - begun > SOON:
            left = (now - begun) / (done - first) * (of - done)
            name = f"{self._name}, at most {timedelta(seconds=round(left))} left"
        else:
            name = self._name
        self._shown.update(self._tasks[self._method], completed=part, description=name)

    def end(self, method: str, word: str) -> None:
        task = self.add(method)
        self._shown.update(task, description=word, completed=1.0)
        self._shown.stop_task(task)
