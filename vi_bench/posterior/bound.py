"""The posterior of a model that is named, given its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vi_bench import catalogue
from vi_bench.data.arrays import Arrays
from vi_bench.errors import ModelError, unknown
from vi_bench.posterior.arguments import arguments
from vi_bench.posterior.cavi_posterior import CAVIPosterior
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior
from vi_bench.spec import build


def bind_model(
    name: str, settings: Mapping[str, Any], data: Arrays
) -> tuple[NumPyroPosterior, tuple[str, ...]]:
    """The posterior of a NumPyro model, and names in the data that it does not use.

    Args:
        name: "mine.py:model", or a registered model that brings its CAVI.
        settings: arguments that are no data, or settings of the registered model.
        data: arrays by the names of further arguments.

    Raises:
        InputError: the model and the data do not fit each other.
    """
    where, given = f"model {name!r}", f"the data {data.name!r}"
    if catalogue.brings_cavi(name):
        own = build(catalogue.model(name), settings, where)
        named, unused = arguments(own.model, data.values, where, given, data.unfit)
        _check_dimensions(catalogue.dimensions(name), named, given)
        return CAVIPosterior.bound(own, named), unused
    model = catalogue.function(name)
    every = {**data.values, **settings}
    named, unused = arguments(model, every, where, given, data.unfit)
    if left := [n for n in unused if n in settings]:
        raise unknown("argument", left[0], named, where, error=ModelError)
    return NumPyroPosterior.of(model, **named), unused


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
