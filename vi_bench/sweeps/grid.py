"""A sweep's specification: one run, and a grid of the settings that vary.

name = "paper"

[base]                       # as for vi-bench run
methods = { cavi = {}, nuts = {} }

[grid]                       # every combination; dots lead into tables
data = ["faithful", "galaxies"]
components = [2, 3]
"methods.cavi.restarts" = [1, 20]
seed = [0, 1, 2]             # or, above [base], replications = 3: a seed to each cell

[[exclude]]                  # combinations to leave out, that have all of these
data = "galaxies"
components = [3]
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field

from vi_bench import catalogue
from vi_bench.errors import SweepError, unknown
from vi_bench.runtime.provenance import version_of
from vi_bench.spec import DEFAULTS, Spec, choose, make, merged, read_toml, validated

MOST = 1_000_000
"""Largest number of combinations of a grid."""

PACKAGES = (
    "vi-bench",
    "jax",
    "jaxlib",
    "numpyro",
    "blackjax",
    "optax",
    "numpy",
    "scipy",
    "arviz-stats",
)
"""Packages whose version may change a cell's result."""

EXPERIMENT = "experiment"
"""Field of a grid that names a built-in experiment."""

FILLED = ("components", "seed")
"""Numbers of a cell that the name of its data may have in braces, as it may have the
model's name."""

FORMAT = "vi-bench cell 1"
"""Version of the way keys are made; another one gives other keys."""


class Sweep(BaseModel):
    """The specification of a sweep.

    Attributes:
        name: name of the sweep.
        base: fields of a spec that all cells share; "experiment" names a built-in one
            whose fields come before them.
        grid: dotted field -> the values that it takes; "experiment" likewise.
        exclude: combinations left out: field -> value, or list of values.
        replications: runs of each combination, whose seeds follow from the combination
            and the number of the run, so that no two cells share random numbers; None
            where the seed is a field like any other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "sweep"
    replications: Annotated[int, Ge(1)] | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    exclude: list[dict[str, Any]] = Field(default_factory=list)


@dataclass(frozen=True)
class Point:
    """One combination of settings from a grid.

    Attributes:
        choice: dotted field -> its value, of the fields that vary.
        spec: the spec of its run.
    """

    choice: Mapping[str, Any]
    spec: Spec


def read_sweep(path: Path | str) -> Sweep:
    """Read a sweep from its TOML file.

    Raises:
        InputError: the file is missing, not TOML, or not a sweep's specification.
    """
    where = f"sweep {str(path)!r}"
    return sweep_of(read_toml(Path(path), where), where)


def sweep_of(values: Mapping[str, Any], where: str = "sweep") -> Sweep:
    """Make a sweep from plain values.

    Raises:
        InputError: a key is unknown, or a value or an exclusion cannot be used.
    """
    for key in values:
        if key not in Sweep.model_fields:
            raise unknown("key", key, Sweep.model_fields, where, error=SweepError)
    sweep: Sweep = validated(Sweep, values, where)
    if sweep.replications and "seed" in {*sweep.grid, *sweep.base}:
        raise SweepError(
            f"{where}: replications = {sweep.replications} gives each cell a seed of "
            "its own; expected no seed beside it"
        )
    for field, choices in sweep.grid.items():
        if not choices:
            raise SweepError(f"{where}: grid: {field} = []: expected some values")
        if any(choices.count(v) > 1 for v in choices):
            raise SweepError(f"{where}: grid: {field}: a value is there twice")
        _check_field(field, where)
    for excluded in sweep.exclude:
        if not excluded:
            raise SweepError(f"{where}: an [[exclude]] is empty and leaves nothing")
        for field, value in excluded.items():
            if field not in sweep.grid:
                raise unknown(
                    "field", field, sweep.grid, f"{where}: exclude", error=SweepError
                )
            for one in value if isinstance(value, list) else [value]:
                if one not in sweep.grid[field]:
                    raise SweepError(
                        f"{where}: exclude: {field} = {one!r} is not in the grid"
                    )
    return sweep


def _check_field(field: str, where: str) -> None:
    first = field.partition(".")[0]
    known = sorted({*Spec.model_fields, EXPERIMENT} - {"name"})
    if first not in known or (first == EXPERIMENT and field != first):
        raise unknown("field", field, known, f"{where}: grid", error=SweepError)
    if "" in field.split("."):
        raise SweepError(f"{where}: grid: {field!r}: a part of the name is empty")


def points(sweep: Sweep) -> Iterator[Point]:
    """Yield all combinations that are not excluded, in the order of the file.

    Raises:
        InputError: there are none, or too many, or one is no valid spec.
    """
    where = f"sweep {sweep.name!r}"
    size = math.prod(map(len, sweep.grid.values())) * (sweep.replications or 1)
    if size > MOST:
        raise SweepError(f"{where}: {size} combinations, the most are {MOST}")
    some = False
    for values in itertools.product(*sweep.grid.values()):
        choice = dict(zip(sweep.grid, values, strict=True))
        if any(_has(choice, excluded) for excluded in sweep.exclude):
            continue
        some = True
        if sweep.replications is None:
            yield Point(choice, _spec(sweep, choice))
            continue
        for i in range(sweep.replications):
            own = choice | {"seed": _own_seed(choice, i)}
            yield Point(own, _spec(sweep, own))
    if not some:
        raise SweepError(f"{where}: every combination is excluded")


def _own_seed(choice: Mapping[str, Any], replication: int) -> int:
    """The seed of one replication of a combination, below 2**31."""
    text = json.dumps([choice, replication], sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1


def _has(choice: Mapping[str, Any], excluded: Mapping[str, Any]) -> bool:
    return all(
        choice[field] in (value if isinstance(value, list) else [value])
        for field, value in excluded.items()
    )


def _spec(sweep: Sweep, choice: Mapping[str, Any]) -> Spec:
    where = f"sweep {sweep.name!r}"
    if choice:
        where += f", {said(choice)}"
    values = copy.deepcopy(sweep.base)
    named = values.pop(EXPERIMENT, None)
    if (experiment := choice.get(EXPERIMENT, named)) is not None:
        values = merged(_fields_of(experiment, where), values)
    if isinstance(values.get("methods"), list):  # the grid may lead into them
        values["methods"] = choose(values["methods"], {})
    # shallow fields first: a model is chosen before its settings are set
    for field in sorted(choice.keys() - {EXPERIMENT}, key=lambda f: f.count(".")):
        *path, last = field.split(".")
        place = values
        for i, part in enumerate(path):
            inner = place.setdefault(part, {})
            if isinstance(inner, str) and part in ("model", "weights") and i == 0:
                inner = place[part] = {"name": inner}
            if not isinstance(inner, dict):
                raise SweepError(f"{where}: {part} = {inner!r}: expected a table")
            place = inner
        place[last] = copy.deepcopy(choice[field])
    for field in ("model", "weights"):
        if isinstance(values.get(field), str):
            values[field] = {"name": values[field]}
    if isinstance(values.get("methods"), list):
        values["methods"] = choose(values["methods"], {})
    if isinstance(values.get("data"), str):
        values["data"] = _filled(values["data"], values)
    spec = make({"name": sweep.name} | values, where)
    spec.check_names()
    return spec


def _fields_of(experiment: Any, where: str) -> dict[str, Any]:
    """The fields of a built-in experiment."""
    if experiment not in catalogue.experiments():
        known = catalogue.experiments()
        raise unknown("experiment", experiment, known, where, error=SweepError)
    fields = read_toml(catalogue.experiment(experiment), where)
    return {field: value for field, value in fields.items() if field != "name"}


def _filled(data: str, values: Mapping[str, Any]) -> str:
    """The name of data with {components}, {seed} and {model} filled in."""
    model = values.get("model", {}).get("name", DEFAULTS["model"])
    for field in FILLED:
        own = values.get(field, Spec.model_fields[field].default)
        data = data.replace(f"{{{field}}}", str(own))
    return data.replace("{model}", str(model))


def said(choice: Mapping[str, Any]) -> str:
    """A combination in one line."""
    return ", ".join(f"{k} = {v}" for k, v in choice.items()) or "the only cell"


def versions() -> dict[str, str]:
    """Package -> installed version, of `PACKAGES`."""
    return {name: version_of(name) or "none" for name in PACKAGES}


ELSEWHERE = {"name", "data", "device", "separator", "header", "index"}
"""Fields of a spec that a key leaves out: names, and what the data's hash tells."""


def key_of(
    spec: Spec, sha256: str, device: str, packages: Mapping[str, str] | None = None
) -> str:
    """The key of a cell: a hash, 32 hexadecimal digits, of all that determines it.

    That is the spec without the names of run, data and device; the SHA-256 of the data
    and of models and methods that do not ship; the device and the packages.

    Args:
        spec: spec of the run.
        sha256: SHA-256 of the data.
        device: kind of the device.
        packages: package -> version; by default those installed.
    """
    fields = spec.model_dump(mode="json", exclude=ELSEWHERE)
    for late in ("labels", "variables", "component_dim"):
        if fields[late] is None:  # keys of cells from before there were these stay
            del fields[late]
    fields["methods"] = list(fields["methods"].items())  # tables keep their order
    plugins = [
        {k: v for k, v in plugin.items() if k != "origin"} for plugin in spec.plugins()
    ]
    determined = {
        "format": FORMAT,
        "spec": fields,
        "data": sha256,
        "device": device,
        "packages": dict(packages or versions()),
        "plugins": plugins,
    }
    text = json.dumps(determined, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
