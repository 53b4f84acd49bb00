"""What only the slow suite runs."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """One set of a test's parameters."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_but(quick: Container[Any], values: Iterable[Any]) -> list[Any]:
    """Values of a parameter, of which the quick suite has some."""
    return [value if value in quick else slow(value) for value in values]
