"""References that ship: draws of posteriors, each checked by two programs.

`benchmarks.references` makes them; docs/references.md says how. The attribute
"reference" of a file holds, as JSON, its spec, moments and quantiles with their errors,
the evidence, and the checks that it passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vi_bench import catalogue
from vi_bench.errors import unknown

PREFIX = "reference:"
"""What the name of a reference has before it where a path could stand."""


def path(given: str) -> Path:
    """The file of a reference that is given as "reference:NAME".

    Raises:
        InputError: no reference has this name.
    """
    name = given.removeprefix(PREFIX)
    known = catalogue.references()
    if name not in known:
        raise unknown("reference", name, known)
    return catalogue.reference(name)


def known_of(name: str) -> dict[str, Any]:
    """What is known of a reference, without its draws."""
    from netCDF4 import Dataset

    with Dataset(str(path(name))) as file:
        found: dict[str, Any] = json.loads(file.getncattr("reference"))
    return found


def described() -> Iterator[tuple[str, str]]:
    """Name of each reference, and its model, data and number of quantities."""
    for name in catalogue.references():
        known = known_of(name)
        model, data = known["spec"]["model"]["name"], known["data"]["name"]
        number = len(known["quantities"])
        yield name, f"{model} of {data}, {number} quantities"
