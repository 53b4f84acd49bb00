"""The posterior of a model that is named, given its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.contract import CAVIModel
from vi_bench.data.arrays import Arrays
from vi_bench.errors import ModelError, unknown
from vi_bench.posterior.arguments import arguments, model_arguments
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.spec import build

ROWS = 40
"""Rows of the data that are drawn where none are given."""


def library_model(
    model: Any, settings: Mapping[str, Any] = MappingProxyType({})
) -> CAVIModel | None:
    """A model by its name and settings, or as it is; None if there is no such one.

    Raises:
        InputError: a setting has no default.
    """
    if isinstance(model, str) and catalogue.brings_cavi(model):
        found: CAVIModel = build(catalogue.model(model), settings, f"model {model!r}")
        return found
    if isinstance(model, CAVIModel) and not isinstance(model, type):
        return model
    return None


def example_of(own: CAVIModel, seed: int) -> dict[str, Any]:
    """Data drawn from the model, by name."""
    return own.example(np.random.default_rng([seed, 20170415, 3]), ROWS)


def bind_model(
    name: str, settings: Mapping[str, Any], data: Arrays
) -> tuple[NumPyroPosterior, str]:
    """The posterior of a NumPyro model, and what was made of the data, and left out.

    Args:
        name: "mine.py:model", or a registered model that brings its CAVI.
        settings: arguments that are no data, or settings of the registered model.
        data: arrays by the names of further arguments.

    Raises:
        InputError: the model and the data do not fit each other.
    """
    where, given = f"model {name!r}", f"the data {data.name!r}"
    if (own := library_model(name, settings)) is not None:
        dims = catalogue.dimensions(type(own))
        named, unused, note = model_arguments(own.model, dims, data, where)
        _check_dimensions(dims, named, given)
        return CAVIPosterior.bound(own, named), _told(note, unused)
    model = catalogue.function(name)
    every = {**data.values, **settings}
    named, unused = arguments(model, every, where, given, data.unfit)
    if left := [n for n in unused if n in settings]:
        raise unknown("argument", left[0], named, where, error=ModelError)
    return NumPyroPosterior.of(model, **named), _told("", unused)


def _told(note: str, unused: Sequence[str]) -> str:
    """A note, and names in the data that a model does not use."""
    left = f"{', '.join(unused)}: left out, no arguments of the model"
    return "; ".join(filter(None, [note, left if unused else ""]))


def _check_dimensions(
    known: Mapping[str, tuple[str, ...]], named: Mapping[str, Any], given: str
) -> None:
    """Check the shapes of data against the dimensions that a model names.

    Raises:
        InputError: an array has other dimensions, or two differ in the size of one.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, dims in known.items():
        if name not in named:
            continue
        shape = np.shape(named[name])
        if len(shape) == len(dims) and 0 in shape:
            empty = dims[shape.index(0)]
            raise ModelError(f"{given}: {name} has no {empty}; expected at least one")
        if len(shape) != len(dims):
            raise ModelError(
                f"{given}: {name} has the shape {shape}; expected ({', '.join(dims)})"
            )
        for dim, size in zip(dims, shape, strict=True):
            before, where = sizes.setdefault(dim, (size, name))
            if before != size:
                raise ModelError(
                    f"{given}: {name} has {size} along {dim}, {where} has {before}; "
                    "expected as many"
                )
