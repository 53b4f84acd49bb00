"""The posterior of a model that is named, given its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vi_bench import catalogue
from vi_bench.data.arrays import Arrays
from vi_bench.errors import ModelError, unknown
from vi_bench.posterior.arguments import arguments
from vi_bench.posterior.numpyro_posterior import NumPyroPosterior


def bind_model(
    function: str, settings: Mapping[str, Any], data: Arrays
) -> tuple[NumPyroPosterior, tuple[str, ...]]:
    """The posterior of "mine.py:model", and names in the data that it does not use.

    Args:
        function: the model.
        settings: arguments that are no data.
        data: arrays by the names of further arguments.

    Raises:
        InputError: the model and the data do not fit each other.
    """
    where = f"model {function!r}"
    model = catalogue.function(function)
    named, unused = arguments(
        model,
        {**data.values, **settings},
        where,
        f"the data {data.name!r}",
        data.unfit,
    )
    if left := [name for name in unused if name in settings]:
        raise unknown("argument", left[0], named, where, error=ModelError)
    return NumPyroPosterior.of(model, **named), unused
