"""What a shell completes: names from the catalogue; nothing heavy is imported.

Where no name fits, a shell goes on with its own completion, of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Names = Callable[[], Iterable[str]]
Complete = Callable[[str], list[str]]

KINDS = ("models", "methods", "weights", "data", "experiments", "references")
"""What `vi-bench list` lists."""


def _one(names: Names) -> Complete:
    """Completes one name."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in _found(names) if name.startswith(incomplete)]

    return complete


def _several(names: Names) -> Complete:
    """Completes the last of several names between commas, none of them twice."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            f"{before}{comma}{name}"
            for name in _found(names)
            if name.startswith(last) and name not in taken
        ]

    return complete


def _found(names: Names) -> Iterable[str]:
    """Names; none where the catalogue refuses, which a command will say."""
    from vi_bench.errors import InputError

    try:
        return names()
    except InputError:
        return []


def _models() -> Iterable[str]:
    from vi_bench.catalogue import names

    return names("model")


def _families() -> Iterable[str]:
    from vi_bench.catalogue import families

    return families()


def _methods() -> Iterable[str]:
    from vi_bench.catalogue import names

    return names("method")


def _weights() -> Iterable[str]:
    from vi_bench.catalogue import names

    return names("weights")


def _data() -> Iterable[str]:
    from vi_bench.catalogue import datasets

    return datasets()


def _experiments() -> Iterable[str]:
    from vi_bench.catalogue import experiments

    return experiments()


model, families = _one(_models), _several(_families)
method, methods = _one(_methods), _several(_methods)
reference = _one(lambda: ["auto", *_methods()])
weights = _one(_weights)
data = _one(_data)
experiment = _one(_experiments)
kind = _one(lambda: KINDS)
device = _one(lambda: ("auto", "cpu", "gpu", "tpu"))
precision = _one(lambda: ("64", "32"))
