"""Which test files take the time: `python -m tests.share [pytest arguments]`.

Seconds are a processor's, those of processes that a test waited for included, so that
what else the machine does at the time counts little.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest


def used() -> float:
    """A processor's seconds up to now, of this process and of those that ended."""
    return sum(os.times()[:4])


class Share:
    """Each phase of a test is given what was used since the one before."""

    def __init__(self) -> None:
        self.last = used()
        self.files: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()

    def pytest_runtest_logstart(self) -> None:
        self.last = used()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report: Any = yield
        now = used()
        # an attribute comes with the report from a worker's process
        report.processor_s, self.last = now - self.last, now
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        seconds = getattr(report, "processor_s", 0.0)  # none of a process that died
        self.files[report.nodeid.partition("::")[0]] += seconds
        self.tests[report.nodeid] += seconds

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        write, total = terminalreporter.write_line, self.files.total()
        terminalreporter.section("a processor's seconds")
        for name, seconds in self.tests.most_common(20):
            write(f"{seconds:8.1f}  {name}")
        write("")
        for name, seconds in self.files.most_common():
            write(f"{seconds:8.1f} {seconds / total:6.1%}  {name}")
        write(f"{total:8.1f} {1:6.1%}  all files")


def pytest_configure(config: pytest.Config) -> None:
    """In the process that was called and in its workers."""
    config.pluginmanager.register(Share(), "share")


if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "tests.share", *sys.argv[1:]]))
